// Options of generation, on the small GPT-2 of the golden files.
import { Generator, memory, tensor, type Tensor } from 'fovea';
import type { GenerateOptions } from 'fovea/generate';
import { type CausalLM, GPT2LMHeadModel, load } from 'fovea/models';
import { beforeAll, describe, expect, test } from 'vitest';
import { readGolden } from '../golden.js';

let model: CausalLM;
const prompt = [5, 17, 42];

beforeAll(async () => {
  model = await load(readGolden('gpt2').folder);
});

function ids(...rows: number[][]): Tensor {
  return tensor(rows, { dtype: 'int64' });
}

async function generated(options: Partial<GenerateOptions>): Promise<number[]> {
  const out = await model.generate({ inputIds: ids(prompt), maxNewTokens: 12, ...options });
  return Array.from(await out.data<BigInt64Array>(), Number).slice(prompt.length);
}

describe('sampling', () => {
  test('a seed repeats the draws, another one does not', async () => {
    const [a, b, c] = [
      await generated({ doSample: true, seed: 1 }),
      await generated({ doSample: true, seed: 1 }),
      await generated({ doSample: true, seed: 2 }),
    ];
    expect(a).toEqual(b);
    expect(a).not.toEqual(c);
    expect(await generated({ doSample: true, generator: new Generator(1) })).toEqual(a);
  });

  test('the same draws with and without a cache', async () => {
    expect(await generated({ doSample: true, seed: 3, useCache: false })).toEqual(
      await generated({ doSample: true, seed: 3 }),
    );
  });

  test('temperature 0, topK 1, topP 0 and minP 1 are greedy', async () => {
    const greedy = await generated({});
    for (const options of [{ temperature: 0 }, { topK: 1 }, { topP: 0 }, { minP: 1 }]) {
      expect(await generated({ doSample: true, seed: 4, ...options })).toEqual(greedy);
    }
  });

  test('topK and topP draw from the likeliest tokens alone', async () => {
    const rows = 256;
    const inputIds = ids(...Array.from({ length: rows }, () => prompt));
    const { logits } = model.forward({ inputIds: ids(prompt), logitsToKeep: 1 });
    const probs = await logits.reshape([-1]).softmax(-1).data();
    const order = [...probs.keys()].sort((a, b) => probs[b]! - probs[a]!);
    const drawn = async (options: Partial<GenerateOptions>): Promise<Set<number>> => {
      const out = await model.generate({
        inputIds,
        maxNewTokens: 1,
        doSample: true,
        temperature: 1,
        seed: 5,
        ...options,
      });
      return new Set(Array.from(await out.select(1, prompt.length).data<BigInt64Array>(), Number));
    };
    const top = await drawn({ topK: 3 });
    expect([...top].every((id) => order.slice(0, 3).includes(id))).toBe(true);
    let kept = 0;
    for (let sum = 0; sum < 0.5; sum += probs[order[kept - 1]!]!) kept++;
    const nucleus = await drawn({ topP: 0.5 });
    expect([...nucleus].every((id) => order.slice(0, kept).includes(id))).toBe(true);
    expect((await drawn({})).size).toBeGreaterThan(nucleus.size);
  });

  test('draws follow the probabilities', async () => {
    const rows = 4000;
    const { logits } = model.forward({ inputIds: ids(prompt), logitsToKeep: 1 });
    const probs = await logits.reshape([-1]).div(2).softmax(-1).data();
    const inputIds = ids(...Array.from({ length: rows }, () => prompt));
    const out = await model.generate({ inputIds, maxNewTokens: 1, doSample: true, temperature: 2, seed: 6 });
    const counts = new Array<number>(probs.length).fill(0);
    for (const id of await out.select(1, prompt.length).data<BigInt64Array>()) counts[Number(id)]!++;
    // Five standard deviations of each count.
    for (const [id, count] of counts.entries()) {
      const expected = rows * probs[id]!;
      expect(Math.abs(count - expected)).toBeLessThanOrEqual(5 * Math.sqrt(expected) + 5);
    }
  });
});

describe('ends', () => {
  test('a stop sequence ends it and stays', async () => {
    const draws = { doSample: true, temperature: 5, seed: 9 };
    const free = await generated(draws);
    expect(await generated({ ...draws, stop: [[98, 97], free.slice(4, 6)] })).toEqual(free.slice(0, 6));
  });

  test('several ending tokens', async () => {
    const free = await generated({});
    const end = free[4]!;
    expect(await generated({ eosTokenId: [98, end] })).toEqual(free.slice(0, free.indexOf(end) + 1));
    expect(await generated({ eosTokenId: null })).toEqual(free);
  });

  test('no new tokens', async () => {
    expect(await generated({ maxNewTokens: 0 })).toEqual([]);
  });
});

describe('stream', () => {
  test('gives the tokens of generate, then the usage', async () => {
    const stream = model.stream({ inputIds: ids(prompt, [7, 8, 9]), maxNewTokens: 5 });
    expect(() => stream.usage).toThrow(/after the last token/);
    const rows: number[][] = [[], []];
    for await (const { token, row, index } of stream) {
      expect(index).toBe(rows[row]!.length);
      rows[row]!.push(token);
    }
    expect(rows[0]).toEqual((await generated({})).slice(0, 5));
    expect(stream.usage).toEqual({
      promptTokens: 6,
      completionTokens: 10,
      totalTokens: 16,
      finishReasons: ['length', 'length'],
    });
  });

  test('padding does not count as prompt, and an end is reported', async () => {
    const [first] = await generated({});
    const attentionMask = tensor([[0, 1, 1, 1]], { dtype: 'int64' });
    const stream = model.stream({ inputIds: ids([0, ...prompt]), attentionMask, eosTokenId: first! });
    const tokens: number[] = [];
    for await (const { token } of stream) tokens.push(token);
    expect(tokens).toEqual([first]);
    expect(stream.usage).toMatchObject({ promptTokens: 3, completionTokens: 1, finishReasons: ['eos'] });
  });

  test('leaving early frees the cache', async () => {
    const count = (): number => memory().tensors;
    const before = count();
    const inputIds = ids(prompt);
    for await (const { index } of model.stream({ inputIds, maxNewTokens: 40 })) if (index === 2) break;
    inputIds.dispose();
    expect(count()).toBeLessThanOrEqual(before);
  });

  test('steps leave nothing behind', async () => {
    const inputIds = ids(prompt);
    const counts: number[] = [];
    for await (const { index } of model.stream({ inputIds, maxNewTokens: 30 }))
      if (index % 10 === 9) counts.push(memory().tensors);
    expect(new Set(counts).size).toBe(1);
  });
});

describe('cancelling', () => {
  test('within one step', async () => {
    const controller = new AbortController();
    const seen: number[] = [];
    const run = async (): Promise<void> => {
      for await (const { index } of model.stream({
        inputIds: ids(prompt),
        maxNewTokens: 40,
        signal: controller.signal,
      })) {
        seen.push(index);
        if (index === 3) controller.abort(new Error('enough'));
      }
    };
    await expect(run()).rejects.toMatchObject({ code: 'FOVEA_ABORTED', cause: new Error('enough') });
    expect(seen).toEqual([0, 1, 2, 3]);
  });

  test('before the start, and during a long prompt', async () => {
    await expect(generated({ signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'FOVEA_ABORTED' });
    const long = new GPT2LMHeadModel({ vocabSize: 20, nPositions: 4096, nEmbd: 32, nLayer: 2, nHead: 2 }).eval();
    const controller = new AbortController();
    const inputIds = ids(Array.from({ length: 4000 }, (_, i) => i % 20));
    const work = long.generate({ inputIds, maxNewTokens: 1, signal: controller.signal });
    setImmediate(() => controller.abort());
    await expect(work).rejects.toMatchObject({ code: 'FOVEA_ABORTED' });
    long.dispose();
  });

  test('a long prompt in pieces gives what one piece gives', async () => {
    const long = new GPT2LMHeadModel({
      vocabSize: 20,
      nPositions: 1400,
      nEmbd: 32,
      nLayer: 2,
      nHead: 2,
      initializerRange: 0.3,
    }).eval();
    const inputIds = ids(Array.from({ length: 1300 }, (_, i) => (i * i) % 20));
    const [cached, whole] = await Promise.all(
      [true, false].map((useCache) => long.generate({ inputIds, maxNewTokens: 4, useCache })),
    );
    expect(await cached!.data<BigInt64Array>()).toEqual(await whole!.data<BigInt64Array>());
    long.dispose();
  });
});

describe('faults', () => {
  test('logits that are not finite are an error, greedy or sampled', async () => {
    const broken = new GPT2LMHeadModel({ vocabSize: 20, nPositions: 16, nEmbd: 8, nLayer: 1, nHead: 2 }).eval();
    broken.loadStateDict(
      { 'transformer.ln_f.weight': tensor(new Array<number>(8).fill(Number.NaN)) },
      { strict: false },
    );
    for (const doSample of [false, true]) {
      await expect(broken.generate({ inputIds: ids([1, 2]), maxNewTokens: 4, doSample })).rejects.toMatchObject({
        code: 'FOVEA_NAN',
      });
    }
  });

  test.each<[string, Partial<GenerateOptions>, string]>([
    ['more tokens than positions', { maxNewTokens: 62 }, 'maxNewTokens'],
    ['a negative temperature', { temperature: -1 }, 'temperature'],
    ['topP above 1', { topP: 1.5 }, 'topP'],
    ['minP below 0', { minP: -0.1 }, 'minP'],
    ['an empty stop sequence', { stop: [[]] }, 'stop'],
    ['seed and generator', { seed: 1, generator: new Generator(1) }, 'seed'],
    ['right padding', { attentionMask: tensor([[1, 1, 0]], { dtype: 'int64' }) }, 'attentionMask'],
    ['a misspelt option', { maxTokens: 3 } as Partial<GenerateOptions>, 'maxTokens'],
  ])('%s', async (_name, options, text) => {
    await expect((async () => generated(options))()).rejects.toMatchObject({
      code: 'FOVEA_ARGUMENT',
      message: expect.stringContaining(text),
    });
  });
});
