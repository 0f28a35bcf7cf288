// The command line, run as users run it.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { tensor } from 'fovea';
import { load } from 'fovea/models';
import { readGolden } from '../golden.js';

const root = join(import.meta.dirname, '../..');
const folder = mkdtempSync(join(tmpdir(), 'fovea-cli-'));
afterAll(() => rmSync(folder, { recursive: true }));

function fovea(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [join(root, 'dist/cli/main.js'), ...args], {
    encoding: 'utf8',
    cwd: folder,
  });
  return { status, stdout, stderr };
}

describe('fovea info', () => {
  test('says what runs where, and why not elsewhere', () => {
    const { status, stdout } = fovea('info');
    expect(status).toBe(0);
    expect(stdout).toMatch(/instruction set {2}\w+/);
    expect(stdout).toMatch(/threads +\d+/);
    expect(stdout).toMatch(/device cpu +available/);
    expect(stdout).toMatch(/device cuda +not available: \w+/);
  });

  test('as JSON', () => {
    const report = JSON.parse(fovea('info', '--json').stdout) as { version: string; devices: unknown[] };
    const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
    expect(report.version).toBe(version);
    expect(report.devices).toContainEqual({ name: 'cpu', available: true });
  });
});

describe('fovea train and generate', () => {
  const text = join(folder, 'text.txt');
  const out = join(folder, 'checkpoint');
  writeFileSync(text, 'let there be attention. '.repeat(400));

  test('train writes a checkpoint that says better things', { timeout: 120_000 }, () => {
    const small = [
      '--steps',
      '60',
      '--layers',
      '1',
      '--width',
      '32',
      '--heads',
      '2',
      '--context',
      '32',
      '--batch',
      '8',
      '--lr',
      '5e-3',
    ];
    const { status, stderr } = fovea('train', text, '--out', out, ...small);
    expect(status).toBe(0);
    expect(stderr).toMatch(/step 60\/60 {2}loss \d\.\d+ {2}[\d,]+ tokens\/s {2}peak \d+\.\d MB {2}0 s left/);
    const [, before, after] = /(\d+\.\d+) bits per byte before, (\d+\.\d+) after/.exec(stderr)!;
    expect(Number(before)).toBeGreaterThan(7);
    expect(Number(after)).toBeLessThan(4);
    for (const name of ['config.json', 'model.safetensors', 'tokenizer.json'])
      expect(existsSync(join(out, name))).toBe(true);
  });

  test('train takes a precision', () => {
    const small = ['--steps', '2', '--layers', '1', '--width', '8', '--heads', '1', '--context', '8', '--batch', '1'];
    const loss = (...precision: string[]): string => {
      const { stderr } = fovea('train', text, '--out', join(folder, 'rounded'), ...small, '--lr', '0.5', ...precision);
      return /(\d+\.\d+) after training/.exec(stderr)![1]!;
    };
    expect(loss('--precision', 'bfloat16')).not.toBe(loss());
    expect(loss('--precision', 'bf16')).toBe(loss('--precision', 'bfloat16'));
  });

  test('generate continues a prompt, repeatably', () => {
    const args = ['generate', out, '--prompt', 'let ', '--max-new-tokens', '60', '--seed', '1'];
    const { status, stdout } = fovea(...args);
    expect(status).toBe(0);
    expect(stdout.startsWith('let ')).toBe(true);
    // Longer than the context of 32 bytes: generation goes on from its last half.
    expect(Buffer.byteLength(stdout)).toBeGreaterThanOrEqual(60);
    expect(fovea(...args).stdout).toBe(stdout);
  });

  test('finetune trains an adapter of a checkpoint, which generate uses', { timeout: 120_000 }, async () => {
    const data = join(folder, 'other.txt');
    const adapter = join(folder, 'adapter');
    writeFileSync(data, 'be there attention let. '.repeat(400));
    const weights = readFileSync(join(out, 'model.safetensors'));
    const small = [
      '--rank',
      '8',
      '--target-modules',
      'all-linear',
      '--steps',
      '250',
      '--lr',
      '3e-2',
      '--dropout',
      '0.01',
      '--evaluate-every',
      '100',
      '--precision',
      'f32',
    ];
    const { status, stderr } = fovea('finetune', out, '--data', data, '--out', adapter, ...small);
    expect(stderr).toMatch(/trainable params: 4,096 \|\| all params: 26,112 \|\| trainable%: 15\.\d+/);
    expect(stderr).toMatch(/step 250\/250/);
    const [, after, before] = /(\d+\.\d+) bits per token after 250 steps, (\d+\.\d+) before/.exec(stderr)!;
    expect(Number(after)).toBeLessThan(0.9 * Number(before));
    expect(status).toBe(0);
    expect(readFileSync(join(out, 'model.safetensors')).equals(weights)).toBe(true);
    expect(readdirSync(adapter).sort()).toEqual([
      'adapter_config.json',
      'adapter_model.safetensors',
      'log.jsonl',
      'loss.svg',
      'step-00000250',
    ]);
    const again = fovea('finetune', out, '--data', data, '--out', adapter, ...small);
    expect(again.stderr).toMatch(/resumed from step 250 in .*adapter\nall 250 steps are done/);
    const config = JSON.parse(readFileSync(join(adapter, 'adapter_config.json'), 'utf8')) as object;
    expect(config).toMatchObject({ peft_type: 'LORA', r: 8, lora_alpha: 16, base_model_name_or_path: out });
    const args = ['generate', out, '--prompt', 'be there ', '--max-new-tokens', '24', '--temperature', '0'];
    const said = fovea(...args, '--adapter', adapter).stdout;
    expect(said).not.toBe(fovea(...args).stdout);
    expect(said.startsWith('be there ')).toBe(true);
  });

  test('finetune takes token numbers for a checkpoint of any tokenizer, and text for a byte-level one alone', async () => {
    const { folder: golden } = readGolden('gpt2');
    const { vocabSize, nPositions } = (await load(golden)).config;
    const numbers = Uint16Array.from({ length: 60 * nPositions }, (_, i) => (i * i) % vocabSize);
    const data = join(folder, 'numbers.bin');
    writeFileSync(data, Buffer.from(numbers.buffer));
    const adapter = join(folder, 'golden-adapter');
    const few = ['--steps', '3', '--batch', '2', '--context', '8', '--out', adapter];
    const { status, stderr } = fovea('finetune', golden, '--data', data, ...few);
    expect(stderr).toMatch(/^tokens: 1 files, [\d,]+ numbers, the last 5 % held out\n/);
    expect(stderr).toMatch(/bits per token after 3 steps/);
    expect(status).toBe(0);
    const text = fovea('finetune', golden, '--data', join(folder, 'other.txt'), ...few);
    expect(text.stderr).toMatch(
      /^fovea: read: .*tokenizer\.json.*; or give token numbers .* \.bin files of .* uint16\n$/,
    );
    const both = fovea('finetune', golden, '--data', data, 'other.txt', ...few);
    expect(both.stderr).toMatch(
      /^fovea: finetune: --data is text or files of token numbers \(\.bin\), but not both\n$/,
    );
    const one = fovea('finetune', golden, '--data', data, '--rank', '0', ...few);
    expect(one.stderr).toMatch(/^fovea: finetune: lora: addAdapter: .* for r, received 0\n$/m);
  });

  test('generate continues token numbers of any GPT-2', async () => {
    const { folder: golden } = readGolden('gpt2');
    const { stdout } = fovea('generate', golden, '--ids', '5,17,42', '--max-new-tokens', '6', '--temperature', '0');
    const model = await load(golden);
    const expected = await model.generate({ inputIds: tensor([[5, 17, 42]], { dtype: 'int64' }), maxNewTokens: 6 });
    expect(stdout.trim().split(',').map(Number)).toEqual(Array.from(await expected.data<BigInt64Array>(), Number));
  });
});

describe('failures are one sentence', () => {
  test.each([
    [['generate', 'nowhere', '--prompt', 'a'], 1, /^fovea: read: .*nowhere.*config\.json.*\n$/],
    [['generate', 'nowhere'], 1, /^fovea: generate: pass either --prompt or --ids\n$/],
    [['train', 'missing.txt'], 1, /^fovea: read: missing\.txt.*\n$/],
    [['train', 'x', '--steps', 'many'], 1, /expected a whole number/],
    [['train', 'x', '--precision', 'float64'], 1, /choices are float32, bfloat16, float16, f32, bf16, f16/],
    [['finetune', 'x'], 1, /required option '--data <paths...>'/],
    [['finetune', 'nowhere', '--data', 'x'], 1, /^fovea: read: .*nowhere.*tokenizer\.json/],
    [['finetune', 'x', '--data', 'x', '--rank', '1.5'], 1, /expected a whole number/],
    [['dance'], 1, /unknown command 'dance'/],
  ] as const)('%j', (args, code, message) => {
    const { status, stderr } = fovea(...args);
    expect(stderr).toMatch(message);
    expect(stderr).not.toContain('    at ');
    expect(status).toBe(code);
  });

  test('a checkpoint without a byte-level tokenizer needs token numbers', () => {
    const { stderr } = fovea('generate', readGolden('gpt2').folder, '--prompt', 'a');
    expect(stderr).toMatch(/^fovea: read: .*tokenizer\.json/);
  });
});
