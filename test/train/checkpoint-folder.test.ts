// Checkpoints on disk: whole at every moment, damage noticed, failures named, the old ones intact.
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { nn, optim, type Tensor, tensor, train } from 'fovea';
import { afterAll, describe, expect, test } from 'vitest';
import { killWhileSaving, savedSteps } from './kill.ts';

const folder = mkdtempSync(join(tmpdir(), 'fovea-checkpoints-'));
chmodSync(folder, 0o755); // another user saves here, too
afterAll(() => rmSync(folder, { recursive: true }));

class Weight extends nn.Module {
  w: Tensor = nn.parameter(tensor([1, 2, 3]));
  override forward(x: Tensor): Tensor {
    return this.w.mul(x).sum();
  }
}

function trainerIn(
  name: string,
  more: Partial<train.TrainerOptions<number, Weight>> = {},
): train.Trainer<number, Weight> {
  const model = new Weight();
  return new train.Trainer<number, Weight>({
    model,
    optimizer: new optim.AdamW(model.parameters(), { lr: 0.1 }),
    loss: (net, x) => net.forward(tensor([x])),
    trainData: [1, 2],
    maxSteps: 3,
    folder: join(folder, name),
    log: false,
    ...more,
  });
}

const namesIn = (name: string): string[] => readdirSync(join(folder, name)).sort();
const script = fileURLToPath(new URL('save-forever.mjs', import.meta.url));

describe('a checkpoint', () => {
  test('is a folder of safetensors and JSON with a manifest', async () => {
    const trainer = trainerIn('whole');
    await trainer.run();
    expect(namesIn('whole')).toEqual(['step-00000003']);
    const path = join(folder, 'whole', 'step-00000003');
    expect(readdirSync(path).sort()).toEqual([
      'manifest.json',
      'model.safetensors',
      'state.safetensors',
      'trainer.json',
    ]);
    await train.verifyCheckpoint(path);
    expect(await train.listCheckpoints(join(folder, 'whole'))).toEqual([{ step: 3, path }]);
    expect(await train.listCheckpoints(join(folder, 'missing'))).toEqual([]);
  });

  test('of the same step goes beside the one that is there', async () => {
    const trainer = trainerIn('again');
    await trainer.run();
    const again = await trainer.save();
    expect(again).toBe(join(folder, 'again', 'step-00000003.1'));
    expect(await Promise.all([trainer.save(), trainer.save()])).toHaveLength(2);
    expect((await train.listCheckpoints(join(folder, 'again'))).map(({ path }) => path)).toEqual(
      ['', '.1', '.2', '.3'].map((suffix) => join(folder, 'again', `step-00000003${suffix}`)),
    );
    expect(await trainerIn('again').resume()).toBe(3);
  });

  test('makes room once it is there, and clears away what a killed save left', async () => {
    const debris = join(folder, 'few', '.step-00000001.77-abc.tmp');
    mkdirSync(debris, { recursive: true });
    writeFileSync(join(debris, 'model.safetensors'), 'half');
    writeFileSync(join(folder, 'few', 'notes.txt'), 'mine');
    const seen: string[][] = [];
    await trainerIn('few', {
      maxSteps: 5,
      saveEvery: 1,
      keepLast: 2,
      callbacks: [{ onSave: () => void seen.push(namesIn('few')) }],
    }).run();
    const of = (...steps: number[]): string[] => ['notes.txt', ...steps.map((step) => `step-0000000${step}`)];
    expect(seen).toEqual([of(1), of(1, 2), of(2, 3), of(3, 4), of(4, 5)]);
  });
});

describe('damage is noticed', () => {
  test('every truncation and every flipped bit', async () => {
    await trainerIn('sound').run();
    const [sound, damaged] = ['sound', 'damaged'].map((name) => join(folder, name, 'step-00000003')) as [
      string,
      string,
    ];
    cpSync(sound, damaged, { recursive: true });
    let flips = 0;
    for (const name of readdirSync(sound)) {
      const bytes = readFileSync(join(sound, name));
      const fails = async (): Promise<void> => {
        await expect(train.verifyCheckpoint(damaged)).rejects.toMatchObject({ code: 'FOVEA_FILE_FORMAT' });
        flips++;
      };
      for (let at = 0; at < bytes.length; at += Math.max(1, Math.floor(bytes.length / 40))) {
        const changed = Buffer.from(bytes);
        changed[at]! ^= 1 << (at % 8);
        writeFileSync(join(damaged, name), changed);
        await fails();
        copyFileSync(join(sound, name), join(damaged, name));
        truncateSync(join(damaged, name), at);
        await fails();
        copyFileSync(join(sound, name), join(damaged, name));
      }
    }
    expect(flips).toBeGreaterThan(200);
    await train.verifyCheckpoint(damaged);
  });

  test('resume names the checkpoint and what is wrong with it', async () => {
    const trainer = trainerIn('bad', { saveEvery: 1 });
    await trainer.run();
    const last = join(folder, 'bad', 'step-00000003');
    truncateSync(join(last, 'model.safetensors'), 90);
    await expect(trainerIn('bad').resume()).rejects.toThrow(
      `checkpoint: ${last} is damaged: model.safetensors has 90 of `,
    );
    rmSync(join(last, 'model.safetensors'));
    await expect(trainerIn('bad').resume()).rejects.toThrow(`${last} lacks model.safetensors; remove ${last} to go on`);
    rmSync(last, { recursive: true });
    expect(await trainerIn('bad').resume()).toBe(2);
  });
});

describe('what cannot be written is an error that names path and reason, and the old checkpoint is intact', () => {
  /** What the last of its lines says, and that the checkpoints are those of steps 1 and 2. */
  async function expectFailure(name: string, output: string, message: RegExp): Promise<void> {
    expect(output).toMatch(/^from 2\n/m);
    const { code, message: text } = JSON.parse(output.trim().split('\n').at(-1)!) as Record<string, string>;
    expect(code).toBe('FOVEA_IO');
    expect(text).toMatch(message);
    expect(text).toContain(join(folder, name, 'step-00000003'));
    expect(namesIn(name)).toEqual(['step-00000001', 'step-00000002']);
    expect(await savedSteps(join(folder, name))).toEqual([1, 2]);
  }

  /** Two steps are there; what is then run in the shell must fail, saying so. */
  async function failsIn(name: string, command: string, message: RegExp): Promise<void> {
    const place = join(folder, name);
    expect(spawnSync(process.execPath, [script, place, '2']).status).toBe(0);
    const args = ['-c', command, 'bash', process.execPath, script, place];
    await expectFailure(name, spawnSync('bash', args, { encoding: 'utf8' }).stdout, message);
  }

  test('a file that grows too large', () => failsIn('large', 'ulimit -f 64; "$1" "$2" "$3"', /EFBIG: file too large/));

  test('a folder that is read-only', () =>
    failsIn('frozen', 'chmod 555 "$3"; "$1" "$2" "$3" 1000 65534; chmod 755 "$3"', /EACCES: permission denied/));

  // Where a file system may be mounted, which takes rights that not every machine gives; a write that fails in the
  // middle is tested above everywhere.
  const mounts = spawnSync('unshare', ['-m', 'mount', '-t', 'tmpfs', 'none', folder]).status === 0;
  test.skipIf(!mounts)('a disk that is full', async () => {
    const [place, seen] = ['mounted', 'full'].map((name) => join(folder, name)) as [string, string];
    mkdirSync(place);
    mkdirSync(seen);
    // The disk is there for this command alone, so what is on it is copied.
    const command = `mount -t tmpfs -o size=2000k none "$3" && "$1" "$2" "$3" 2 && "$1" "$2" "$3"; cp -a "$3"/. "$4"`;
    const { stdout } = spawnSync(
      'unshare',
      ['-m', 'bash', '-c', command, 'bash', process.execPath, script, place, seen],
      {
        encoding: 'utf8',
      },
    );
    await expectFailure('full', stdout.replaceAll(place, seen), /ENOSPC: no space left on device/);
  });

  test('a folder below a file', async () => {
    writeFileSync(join(folder, 'file'), '');
    await expect(trainerIn('file/inside').run()).rejects.toMatchObject({
      code: 'FOVEA_IO',
      message: expect.stringMatching(/inside.*ENOTDIR/) as string,
    });
  });
});

test('kill -9 while it saves, five times', { timeout: 120_000 }, async () => {
  const place = join(folder, 'killed');
  for (let i = 0; i < 5; i++) await killWhileSaving(place, i % 3);
  expect((await savedSteps(place)).length).toBeGreaterThan(0);
});
