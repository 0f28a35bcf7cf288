// `fovea train <config.json>`, run as users run it.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';

const main = join(import.meta.dirname, '../../dist/cli/main.js');
const folder = mkdtempSync(join(tmpdir(), 'fovea-config-'));
afterAll(() => rmSync(folder, { recursive: true }));
mkdirSync(join(folder, 'notes'));
writeFileSync(join(folder, 'notes', 'text.txt'), 'let there be attention. '.repeat(400));

const config = {
  text: 'notes',
  model: { layers: 1, width: 16, heads: 2, context: 16, dropout: 0.1 },
  optimizer: { type: 'AdamW', lr: 1e-2, weightDecay: 0.01, betas: [0.9, 0.99] },
  schedule: { type: 'warmupCosine', warmupSteps: 3, minLrRatio: 0.2 },
  steps: 40,
  batchSize: 4,
  accumulate: 2,
  precision: 'bfloat16',
  clipNorm: 1,
  evaluateEvery: 10,
  earlyStopping: { patience: 20 },
  saveEvery: 10,
  keepLast: 2,
  folder: 'run',
  seed: 3,
};

function write(name: string, value: unknown): string {
  writeFileSync(join(folder, name), typeof value === 'string' ? value : JSON.stringify(value));
  return name;
}

function fovea(...args: string[]): { status: number | null; stderr: string } {
  return spawnSync(process.execPath, [main, ...args], { encoding: 'utf8', cwd: folder });
}

const weights = (run: string): Buffer => readFileSync(join(folder, run, 'model', 'model.safetensors'));

test('trains, evaluates, saves and says so', { timeout: 120_000 }, () => {
  const { status, stderr } = fovea('train', write('run.json', config));
  expect(stderr).toMatch(
    /step 40\/40 {2}loss \d\.\d{4} {2}held out \d\.\d{4} {2}lr 0\.00\d+ {2}peak \d+\.\d MB {2}0 s left/,
  );
  const [, bits] = /held-out text: (\d+\.\d+) bits per token after 40 steps/.exec(stderr)!;
  expect(Number(bits)).toBeLessThan(6);
  expect(status).toBe(0);
  expect(readdirSync(join(folder, 'run')).sort()).toEqual([
    'log.jsonl',
    'loss.svg',
    'model',
    'step-00000030',
    'step-00000040',
  ]);
  expect(readdirSync(join(folder, 'run', 'model')).sort()).toEqual([
    'config.json',
    'generation_config.json',
    'model.safetensors',
    'tokenizer.json',
  ]);
  const again = fovea('train', 'run.json');
  expect(again.stderr).toMatch(/^resumed from step 40 in .*run\n/);
  expect(again.status).toBe(0);
  const from = {
    ...config,
    model: { load: 'run/model' },
    folder: 'more',
    steps: 2,
    schedule: { type: 'constant' },
    saveEvery: undefined,
  };
  expect(fovea('train', write('more.json', from)).status).toBe(0);
});

test.each(['Adam', 'Lion', 'SGD', 'Adafactor'])('takes %s', { timeout: 60_000 }, (type) => {
  const optimizer = { type, lr: 1e-3 };
  const name = write('one.json', {
    text: 'notes',
    steps: 2,
    folder: type,
    model: config.model,
    optimizer,
    clipValue: 0.5,
  });
  const { status, stderr } = fovea('train', name);
  expect(stderr).toMatch(/bits per token after 2 steps/);
  expect(status).toBe(0);
});

test('Ctrl-C saves, and the next start goes on as if nothing had been', { timeout: 120_000 }, async () => {
  const long = { ...config, steps: 300, saveEvery: 1000, folder: 'cut' };
  const child = spawn(process.execPath, [main, 'train', write('cut.json', long)], {
    cwd: folder,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let stderr = '';
  child.stderr.on('data', (text) => {
    if (stderr === '') child.kill('SIGINT');
    stderr += String(text);
  });
  const status = await new Promise((resolve) => void child.once('close', resolve));
  expect(stderr).toMatch(/fovea: train: cancelled/);
  expect(status).toBe(130);
  expect(existsSync(join(folder, 'cut', 'model'))).toBe(false);
  const resumed = fovea('train', 'cut.json');
  expect(resumed.stderr).toMatch(/^resumed from step [1-9]\d* in/);
  expect(fovea('train', write('whole.json', { ...long, folder: 'whole' })).status).toBe(0);
  expect(weights('cut').equals(weights('whole'))).toBe(true);
});

describe('a config that cannot be run is one sentence', () => {
  const wrong: [object | string, RegExp][] = [
    [{ ...config, steps: 0 }, /expected a whole number of at least 1 for steps, received 0/],
    [{ ...config, steps: undefined }, /a whole number of at least 1 for steps, received nothing/],
    [{ ...config, text: [] }, /a path or a list of paths for text, received \[\]/],
    [{ ...config, folder: undefined }, /a string for folder, received nothing/],
    [
      { ...config, model: { width: 10, heads: 4 } },
      /a divisor of the width, which is 10, for model\.heads, received 4/,
    ],
    [{ ...config, model: { load: 'x', width: 4 } }, /model\.width is not known here; known are load/],
    [{ ...config, model: 3 }, /an object for model, received 3/],
    [
      { ...config, optimizer: { type: 'adam' } },
      /one of AdamW, Adam, Lion, SGD, Adafactor for optimizer\.type, received "adam"/,
    ],
    [{ ...config, optimizer: { type: 'SGD', betas: [0, 0] } }, /optimizer\.betas is not known here/],
    [{ ...config, optimizer: { betas: [0.9, 1] } }, /two numbers of at least 0 and below 1 for optimizer\.betas/],
    [{ ...config, optimizer: { lr: '1e-3' } }, /a number of at least 0 for optimizer\.lr, received "1e-3"/],
    [
      { ...config, schedule: { warmupSteps: 41 } },
      /at most the steps, which are 40, for schedule\.warmupSteps, received 41/,
    ],
    [{ ...config, schedule: { type: 'constant', warmupSteps: 4 } }, /schedule\.warmupSteps is not known here/],
    [{ ...config, precision: 'bf16' }, /one of float32, bfloat16, float16 for precision/],
    [{ ...config, clipNorm: 0 }, /for clipNorm, received 0/],
    [{ ...config, earlyStopping: {} }, /for earlyStopping\.patience, received nothing/],
    [{ ...config, resume: 'yes' }, /true or false for resume, received "yes"/],
    [{ ...config, device: 'tpu' }, /cpu, cuda or cuda:<n> for device, received "tpu"/],
    [{ ...config, heldOut: 1 }, /a number from 0 to 0\.9 for heldOut/],
    [{ ...config, stpes: 3 }, /stpes is not known here; known are steps, text/],
    ['{"steps": 1, "steps": 2}', /the key "steps" occurs twice/],
    ['[]', /must hold a JSON object/],
  ];
  test.each(wrong)('%j', { timeout: 30_000 }, (value, message) => {
    const { status, stderr } = fovea('train', write('wrong.json', value));
    expect(stderr).toMatch(message);
    expect(stderr).toMatch(/^fovea: [^\n]+\n$/);
    expect(status).toBe(1);
  });

  test('one that is beside other paths or options, or is not there', () => {
    write('run.json', config);
    expect(fovea('train', 'run.json', 'notes').stderr).toMatch(/run\.json is a config.*leave out the other paths/);
    expect(fovea('train', 'run.json', '--steps', '3').stderr).toMatch(/leave out --steps/);
    expect(fovea('train', 'none.json').stderr).toMatch(/^fovea: read: none\.json: ENOENT/);
  });
});
