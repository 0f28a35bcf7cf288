// Training of language models on text.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ByteTokenizer, manualSeed, memory } from 'fovea';
import { GPT2LMHeadModel } from 'fovea/models';
import {
  bitsPerToken,
  readCorpus,
  readTokens,
  trainCausalLM,
  type TrainOptions,
  type TrainProgress,
} from 'fovea/train';
import { afterAll, describe, expect, test } from 'vitest';

const folder = mkdtempSync(join(tmpdir(), 'fovea-train-'));
afterAll(() => rmSync(folder, { recursive: true }));

const text = Uint16Array.from(new ByteTokenizer().encode('to be or not to be, that is the question. '.repeat(100)));

function smallModel(): GPT2LMHeadModel {
  manualSeed(1);
  return new GPT2LMHeadModel({ vocabSize: 257, nPositions: 24, nEmbd: 32, nLayer: 1, nHead: 2, residPdrop: 0.1 });
}

async function losses(options: Partial<TrainOptions> = {}): Promise<number[]> {
  using model = smallModel();
  const seen: number[] = [];
  await trainCausalLM(model, text, {
    steps: 12,
    batchSize: 4,
    lr: 5e-3,
    ...options,
    onProgress: ({ loss }) => seen.push(loss),
  });
  return seen;
}

describe('trainCausalLM', () => {
  test('learns', async () => {
    using model = smallModel();
    const before = await bitsPerToken(model, text);
    const last = await trainCausalLM(model, text, { steps: 250, batchSize: 8, lr: 1e-2 });
    const after = await bitsPerToken(model, text);
    expect(before).toBeGreaterThan(7);
    expect(after).toBeLessThan(1.5);
    expect(last / Math.LN2).toBeLessThan(2);
    expect(model.training).toBe(false);
    expect(model.parameters().every(({ grad }) => grad === null)).toBe(true);
  });

  test('a seed repeats a run to the last bit, dropout included', async () => {
    const first = await losses();
    expect(await losses()).toEqual(first);
    expect(await losses({ seed: 7 })).not.toEqual(first);
  });

  test.each(['bfloat16', 'float16'] as const)('learns in %s as in float32', async (precision) => {
    const plan = { steps: 60, batchSize: 8, lr: 1e-2 };
    const exact = await losses(plan);
    const rounded = await losses({ ...plan, precision });
    expect(rounded).not.toEqual(exact);
    expect(exact.at(-1)!).toBeLessThan(0.5 * exact[0]!);
    const mean = (list: number[]): number => list.reduce((a, b) => a + b) / list.length;
    expect(Math.abs(rounded[0]! / exact[0]! - 1)).toBeLessThan(2e-3);
    expect(Math.abs(mean(rounded.slice(-10)) / mean(exact.slice(-10)) - 1)).toBeLessThan(0.03);
    using model = smallModel();
    await trainCausalLM(model, text, { steps: 2, precision });
    expect(model.parameters().every(({ dtype }) => dtype === 'float32')).toBe(true);
  });

  test.each([
    ['f32', 'float32'],
    ['bf16', 'bfloat16'],
    ['f16', 'float16'],
  ] as const)('%s is %s', async (short, precision) => {
    const plan = { steps: 3, batchSize: 2, lr: 1e-2 };
    expect(await losses({ ...plan, precision: short })).toEqual(await losses({ ...plan, precision }));
  });

  test('refuses other precisions', async () => {
    await expect(losses({ precision: 'float64' as 'float32' })).rejects.toMatchObject({
      code: 'FOVEA_ARGUMENT',
      message: expect.stringMatching(
        /one of float32, bfloat16, float16, f32, bf16, f16 for precision.*float64/,
      ) as string,
    });
  });

  test('reports every step, the rate rising and falling', async () => {
    using model = smallModel();
    const seen: TrainProgress[] = [];
    await trainCausalLM(model, text, {
      steps: 10,
      batchSize: 2,
      lr: 1e-3,
      warmupSteps: 4,
      onProgress: (progress) => seen.push(progress),
    });
    expect(seen.map(({ step }) => step)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    expect(seen.slice(0, 5).map(({ lr }) => lr)).toEqual([0.00025, 0.0005, 0.00075, 0.001, 0.001]);
    expect(seen.at(-1)!.lr).toBeLessThan(2e-4);
    expect(seen.at(-1)!.secondsLeft).toBe(0);
    const weights = 4 * model.parameters().reduce((sum, { size }) => sum + size, 0);
    expect(Math.min(...seen.map(({ peakMemory }) => peakMemory))).toBeGreaterThan(2 * weights);
  });

  test.each(['float32', 'bfloat16', 'float16'] as const)('a step in %s leaves nothing behind', async (precision) => {
    using model = smallModel();
    const counts: number[] = [];
    const onProgress = (): void => void counts.push(memory().tensors);
    await trainCausalLM(model, text, { steps: 12, batchSize: 2, precision, onProgress });
    expect(new Set(counts.slice(2, -1)).size).toBe(1);
  });

  test('a loss that is not finite ends it and names the step', async () => {
    await expect(losses({ lr: 1e30, maxGradNorm: 1e30, warmupSteps: 0 })).rejects.toMatchObject({
      code: 'FOVEA_NAN',
      message: expect.stringMatching(/loss of step \d+ is (NaN|-?Infinity)/) as string,
    });
  });

  test('is cancelled within a step', async () => {
    const controller = new AbortController();
    using model = smallModel();
    let last = 0;
    const work = trainCausalLM(model, text, {
      steps: 100,
      batchSize: 2,
      signal: controller.signal,
      onProgress: ({ step }) => {
        last = step;
        if (step === 5) controller.abort();
      },
    });
    await expect(work).rejects.toMatchObject({ code: 'FOVEA_ABORTED' });
    expect(last).toBe(5);
  });

  test('needs one window of text', async () => {
    using model = smallModel();
    await expect(trainCausalLM(model, text.subarray(0, 20), { steps: 1 })).rejects.toMatchObject({
      code: 'FOVEA_ARGUMENT',
    });
    await expect(bitsPerToken(model, text.subarray(0, 20))).rejects.toMatchObject({ code: 'FOVEA_ARGUMENT' });
  });
});

test('bitsPerToken leaves each module in the mode that it was in', async () => {
  using model = smallModel();
  model.train();
  model.transformer.h[0]!.mlp.eval();
  const before = model.modules().map(({ training }) => training);
  expect(new Set(before).size).toBe(2);
  await bitsPerToken(model, text, { windows: 2 });
  expect(model.modules().map(({ training }) => training)).toEqual(before);
});

describe('readCorpus', () => {
  test('reads files by name, parts them with the end of text and holds the last out', async () => {
    mkdirSync(join(folder, 'sub'));
    mkdirSync(join(folder, 'node_modules'));
    writeFileSync(join(folder, 'b.txt'), 'bb');
    writeFileSync(join(folder, 'a.txt'), 'é');
    writeFileSync(join(folder, 'sub/c.txt'), 'c'.repeat(10));
    writeFileSync(join(folder, '.hidden'), 'hidden');
    writeFileSync(join(folder, 'image.bin'), Buffer.from([1, 0, 2]));
    writeFileSync(join(folder, 'node_modules/x.txt'), 'x');
    const { train, validation, files } = await readCorpus([folder], 0.25);
    expect(files).toBe(3);
    expect([...train, ...validation]).toEqual([0xc3, 0xa9, 256, 98, 98, 256, ...new Array<number>(10).fill(99), 256]);
    expect(train).toHaveLength(12);
  });

  test('names what it cannot read', async () => {
    const missing = join(folder, 'missing');
    await expect(readCorpus([missing])).rejects.toMatchObject({
      code: 'FOVEA_IO',
      message: expect.stringContaining(missing) as string,
    });
    mkdirSync(join(folder, 'empty'));
    await expect(readCorpus([join(folder, 'empty')])).rejects.toMatchObject({ code: 'FOVEA_ARGUMENT' });
  });
});

describe('readTokens', () => {
  test('reads numbers of two bytes, the low one first, and holds the last out', async () => {
    const [a, b] = [join(folder, 'a.bin'), join(folder, 'b.bin')];
    writeFileSync(a, Buffer.from([1, 0, 0x34, 0x12]));
    writeFileSync(b, Buffer.from([0xff, 0xff, 2, 0]));
    const { train, validation, files } = await readTokens([a, b], 0.25);
    expect([...train]).toEqual([1, 0x1234, 0xffff]);
    expect([...validation]).toEqual([2]);
    expect(files).toBe(2);
  });

  test('refuses half a number, no number and what is not there', async () => {
    const [odd, empty, missing] = ['odd.bin', 'empty.bin', 'missing.bin'].map((name) => join(folder, name));
    writeFileSync(odd!, Buffer.from([1, 0, 2]));
    writeFileSync(empty!, Buffer.alloc(0));
    const refusal = (code: string, message: RegExp): object => ({
      code,
      message: expect.stringMatching(message) as string,
    });
    await expect(readTokens([odd!])).rejects.toMatchObject(refusal('FOVEA_FILE_FORMAT', /odd\.bin has 3 bytes/));
    await expect(readTokens([empty!])).rejects.toMatchObject(refusal('FOVEA_ARGUMENT', /no tokens in .*empty\.bin/));
    await expect(readTokens([missing!])).rejects.toMatchObject(refusal('FOVEA_IO', /missing\.bin/));
  });
});
