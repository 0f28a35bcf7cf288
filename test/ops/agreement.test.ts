// Results do not depend on the number of threads, and random numbers not on the instruction set either.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { info } from 'fovea';
import { afterAll, describe, expect, it } from 'vitest';

const folder = mkdtempSync(join(tmpdir(), 'fovea-digest-'));
afterAll(() => rmSync(folder, { recursive: true }));

function digests(env: Record<string, string>): Record<string, string> {
  const file = join(folder, `${Object.values(env).join('-')}.json`);
  execFileSync(process.execPath, ['node_modules/vitest/vitest.mjs', 'run', 'test/ops/digest.test.ts'], {
    env: { ...process.env, ...env, FOVEA_DIGEST: file },
    stdio: 'pipe',
  });
  return JSON.parse(readFileSync(file, 'utf8')) as Record<string, string>;
}
const differing = (a: Record<string, string>, b: Record<string, string>): string[] =>
  Object.keys(a).filter((key) => a[key] !== b[key]);

describe('agreement', () => {
  const one = digests({ FOVEA_NUM_THREADS: '1' });
  it.each(['2', '3'])('%s threads give the bits of one', (threads) => {
    expect(differing(one, digests({ FOVEA_NUM_THREADS: threads }))).toEqual([]);
  });
  it.each(info().isas)('%s draws the same random numbers', (isa) => {
    const other = digests({ FOVEA_ISA: isa });
    const random = Object.fromEntries(Object.entries(one).filter(([key]) => key.startsWith('random')));
    expect(differing(random, other)).toEqual([]);
  });
});
