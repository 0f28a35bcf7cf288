// npm run bench:peers: turns, ratios, the table, and peers that are missing, refuse, fail or die.
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { bench, load, type Case, type DescribedPeer, type Report } from './load.js';

const { comparePeers, timePair } = await load('peers.mjs');
const { rowOf, markdown } = await load('peers/table.mjs');
const { PeerProcess } = await load('peers/peer-process.mjs');
const { peers } = await load('peers/registry.mjs');
const { benchCases } = await load('cases.mjs');

const folder = mkdtempSync(join(tmpdir(), 'fovea-bench-'));
afterAll(() => rmSync(folder, { recursive: true }));
const fake = new URL('fake-peer.mjs', import.meta.url).pathname;
const logged = (log: string): string[] => readFileSync(log, 'utf8').trim().split('\n');

function environmentOf(name: string, time: string): Record<string, string> {
  return { FAKE_NAME: name, FAKE_TIME: time, FAKE_LOG: join(folder, name) };
}
function described(name: string, time: string, command = [process.execPath, fake]): DescribedPeer {
  return { name, command, environment: () => environmentOf(name, time), install: `install ${name}` };
}
const small = benchCases({ tiny: true }).find(({ kind }) => kind === 'matmul')!;
const of = (kind: string): Case => ({ ...small, id: `${kind} float32`, kind });

describe('a row of the table', () => {
  const one = { id: 'matmul 2 float32', group: 'matmul', dtype: 'float32', work: 8e6 };
  const row = rowOf(one, 'torch', [4, 1, 2], [9, 3, 8], { name: 'fma', rate: 16e9 });

  test('holds medians, the ratio of the peer to fovea, and the share of the limit', () => {
    expect(row).toMatchObject({ ours: 2, theirs: 8, ratio: 4, rate: 4e9, limit: 'fma', share: 0.25 });
    expect(row).toMatchObject({ spread: { ours: 1.5, theirs: 0.75 } });
  });

  test('has no share where nothing bounds the case', () => {
    const { share, ratio } = rowOf({ ...one, work: undefined }, 'torch', [2], [1], undefined);
    expect([share, ratio]).toEqual([undefined, 0.5]);
  });

  test('is printed with what is not in the table', () => {
    const report: Report = {
      date: '2026-01-02',
      cpu: 'A | B',
      version: '0.1.0',
      isa: 'avx2',
      threads: 2,
      rounds: 3,
      node: 'v20',
      peers: [
        { id: 'torch', name: 'PyTorch', version: '2.13' },
        { id: 'jax', name: 'jax-js', missing: 'no module', install: 'npm install' },
      ],
      rows: [row],
      unsupported: [{ id: 'x', peer: 'torch', why: 'no such op' }],
      failed: [{ id: 'y', peer: 'fovea', error: 'out of memory' }],
    };
    const text = markdown(report);
    expect(text).toContain('| matmul 2 | float32 | 2.000 ms | PyTorch | 8.000 ms | 4.00 | 25 % of fma |');
    expect(text).toContain('fovea 0.1.0 (avx2), 2 threads, Node v20; PyTorch 2.13.');
    expect(text).toContain('- jax-js: not installed (no module). `npm install`');
    expect(text).toContain('- y, fovea: failed (out of memory)');
    expect(text).toContain('- PyTorch: 1 of the cases it does not have');
    expect(markdown({ ...report, rows: [] })).toContain('No pair was timed.');
  });
});

describe('a peer as a process', () => {
  test('describes itself, times batches of one case, and frees it for the next', async () => {
    const peer = new PeerProcess([process.execPath, fake], environmentOf('alone', '0.5'));
    expect(await peer.start()).toEqual({ name: 'alone', version: '1.2.3' });
    const question = { threads: 2, milliseconds: 1 };
    for (let i = 0; i < 2; i++)
      expect(await peer.ask({ case: of('first'), ...question })).toEqual({ milliseconds: 0.5, calls: 5 });
    await peer.ask({ case: of('second'), ...question });
    await peer.stop();
    const [first, second] = ['alone first float32 2', 'alone second float32 2'];
    // One batch warms up.
    expect(logged(join(folder, 'alone'))).toEqual([
      first,
      first,
      first,
      'alone releases first float32',
      second,
      second,
    ]);
  });

  test('says why it has no case, and lives on after errors and death', async () => {
    const peer = new PeerProcess([process.execPath, fake], environmentOf('mortal', '1'));
    const ask = (kind: string) => peer.ask({ case: of(kind), threads: 1, milliseconds: 1 });
    expect(await ask('refused')).toEqual({ unsupported: 'it refuses' });
    expect(await ask('broken')).toEqual({ error: 'it broke' });
    expect(await ask('deadly')).toEqual({ error: 'it ended' });
    expect(await ask('fine')).toEqual({ milliseconds: 1, calls: 5 });
    await peer.stop();
  });

  test('of a program that is not there is missing', async () => {
    const peer = new PeerProcess([join(folder, 'no-such-program')]);
    expect((await peer.start()).missing).toMatch(/ENOENT/);
    expect((await peer.ask({})).error).toMatch(/ENOENT/);
    await peer.stop();
  });

  // Not everybody has Python. That a missing peer is reported is tested above without it.
  test.skipIf(spawnSync('python3', ['--version']).status !== 0)('in Python says that PyTorch is missing', async () => {
    // Without site-packages there is none.
    const peer = new PeerProcess(['python3', '-S', bench('peers/torch_cpu.py')]);
    expect((await peer.start()).missing).toMatch(/No module named/);
    await peer.stop();
  });
});

describe('a pair', () => {
  const question = { threads: 1, milliseconds: 1 };
  const start = (name: string, time: string) =>
    new PeerProcess([process.execPath, fake], { ...environmentOf(name, time), FAKE_LOG: join(folder, 'turns') });

  test('is timed in turn, after both have warmed up', async () => {
    const [own, peer] = [start('own', '2'), start('peer', '6')];
    const { row } = await timePair(of('fine'), { id: 'fake', own, peer, rounds: 3, question });
    expect(row).toMatchObject({ peer: 'fake', ours: 2, theirs: 6, ratio: 3 });
    const turns = logged(join(folder, 'turns')).map((line) => line.split(' ')[0]);
    const warm = ['peer', 'peer', 'own', 'own'];
    expect(turns).toEqual([...warm, 'own', 'peer', 'own', 'peer', 'own', 'peer']);
    await Promise.all([own.stop(), peer.stop()]);
  });

  test('fails by the name of the one that failed', async () => {
    const [own, peer] = [new PeerProcess([join(folder, 'no-such-program')]), start('peer', '6')];
    const { failed } = await timePair(of('fine'), { id: 'fake', own, peer, rounds: 1, question });
    expect(failed).toMatchObject({
      id: 'fine float32',
      peer: 'fovea',
      error: expect.stringContaining('ENOENT') as string,
    });
    await peer.stop();
  });
});

describe('a comparison', () => {
  test('runs in fovea, too, and reports what cannot be compared', async () => {
    const cases = [small, of('refused'), of('broken')];
    const known = {
      fast: described('fast', '0.001'),
      gone: described('gone', 'missing'),
      nowhere: described('nowhere', '1', [join(folder, 'no-such-program')]),
    };
    const report = await comparePeers({ cases, known, rounds: 3, threads: 1, tiny: true, say: () => {} });
    expect(report).toMatchObject({ threads: 1, rounds: 3, node: process.version });
    expect(report.peers).toMatchObject([
      { id: 'fast', version: '1.2.3' },
      { id: 'gone', missing: 'Cannot find package', install: 'install gone' },
      { id: 'nowhere', missing: expect.stringContaining('ENOENT') as string, install: 'install nowhere' },
    ]);
    expect(report.rows).toHaveLength(1);
    const [row] = report.rows;
    expect(row).toMatchObject({ id: small.id, peer: 'fast', theirs: 0.001, ratio: 0.001 / row!.ours });
    expect(row!.share).toBeGreaterThan(0);
    expect(report.unsupported).toEqual([{ id: 'refused float32', peer: 'fast', why: 'it refuses' }]);
    expect(report.failed).toEqual([{ id: 'broken float32', peer: 'fast', error: 'it broke' }]);
    // A batch to warm up, the one of the first answer, and one a round.
    expect(logged(join(folder, 'fast')).filter((line) => line === `fast ${small.id} 1`)).toHaveLength(1 + 1 + 3);
  });

  test('from the command line lists peers that are missing with how to install them', () => {
    const options = ['--tiny', '--peers', 'torch', '--filter', 'matmul 8', '--dtype', 'float32', '--rounds', '1'];
    const env = { ...process.env, FOVEA_PEERS_PYTHON: join(folder, 'no-python') };
    const output = execFileSync(process.execPath, [bench('peers.mjs'), ...options], {
      env,
      encoding: 'utf8',
      stdio: 'pipe',
    });
    expect(output).toContain('No pair was timed.');
    expect(output).toContain(`- PyTorch: not installed (spawn ${env.FOVEA_PEERS_PYTHON} ENOENT). \`python3 -m venv`);
  });

  test('refuses peers and counts that are none', () => {
    const run =
      (...options: string[]) =>
      () =>
        execFileSync(process.execPath, [bench('peers.mjs'), ...options], { stdio: 'pipe' });
    expect(run('--peers', 'numpy')).toThrow(/--peers: expected some of torch, .*received numpy/);
    expect(run('--rounds', '0')).toThrow(/--rounds: expected a count, received 0/);
  });

  test('every peer says how it is installed', () => {
    for (const { name, command, install } of Object.values(peers()))
      expect([name, command.length > 1, install.length > 0]).toEqual([name, true, true]);
  });
});
