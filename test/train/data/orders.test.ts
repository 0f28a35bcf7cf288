// Batches of similar lengths, and easy items first.
import {
  arrayDataset,
  CurriculumSampler,
  type CurriculumSchedule,
  DataLoader,
  LengthBatchSampler,
  paddingShare,
  RandomStream,
} from 'fovea/train';
import { describe, expect, test } from 'vitest';
import { codeOf } from '../../helpers.js';
import { all, range } from './collect.ts';

/** Lengths as of sentences: most short, some long. */
function lengthsOf(n: number, seed = 1): number[] {
  const random = new RandomStream(seed);
  return range(n).map(() => 1 + Math.min(255, Math.floor(-40 * Math.log(1 - random.uniform()))));
}
const longest = (batch: readonly number[], lengths: readonly number[]): number =>
  Math.max(...batch.map((i) => lengths[i]!));

describe('LengthBatchSampler', () => {
  const lengths = lengthsOf(5003);

  test.each([
    { tokensPerBatch: 2048 },
    { tokensPerBatch: 2048, maxBatchSize: 16 },
    { tokensPerBatch: 2048, poolSize: 500, seed: 3 },
    { tokensPerBatch: 300, poolSize: 1 },
    { tokensPerBatch: 2048, shuffle: false },
    { tokensPerBatch: 2048, multipleOf: 8 },
  ])('%o: every item once, within the budget', (options) => {
    const { tokensPerBatch, maxBatchSize = Infinity, multipleOf = 1 } = options;
    const batches = new LengthBatchSampler(lengths, options).batches(0);
    expect(batches.flat().sort((a, b) => a - b)).toEqual(range(5003));
    for (const batch of batches) {
      const padded = Math.ceil(longest(batch, lengths) / multipleOf) * multipleOf;
      expect(batch.length * padded).toBeLessThanOrEqual(tokensPerBatch);
      expect(batch.length).toBeLessThanOrEqual(maxBatchSize);
    }
  });

  test('pads far less than random batches do', () => {
    const random = new RandomStream(2).shuffle(range(5003));
    const plain = range(Math.ceil(5003 / 32)).map((i) => random.slice(32 * i, 32 * i + 32));
    const atRandom = paddingShare(plain, lengths);
    const sorted = paddingShare(new LengthBatchSampler(lengths, { tokensPerBatch: 2048 }).batches(0), lengths);
    const pools = new LengthBatchSampler(lengths, { tokensPerBatch: 2048, poolSize: 1000 }).batches(0);
    expect(atRandom).toBeGreaterThan(0.6);
    expect(sorted).toBeLessThan(0.03);
    expect(paddingShare(pools, lengths)).toBeLessThan(0.1);
  });

  test('paddingShare counts', () => {
    expect(paddingShare([[0, 1], [2]], [1, 3, 5])).toBeCloseTo(1 - 9 / 11, 12);
    expect(paddingShare([[0, 1], [2]], [1, 3, 5], { multipleOf: 4 })).toBeCloseTo(1 - 9 / 16, 12);
    expect(paddingShare([], [])).toBe(0);
    expect(codeOf(() => paddingShare([[3]], [1, 3, 5]))).toBe('FOVEA_ARGUMENT');
  });

  test('is a pure function of seed and epoch', () => {
    const options = { tokensPerBatch: 2048, seed: 5 };
    const epoch = (n: number, seed = 5): string =>
      JSON.stringify(new LengthBatchSampler(lengths, { ...options, seed }).batches(n));
    expect(epoch(0)).toBe(epoch(0));
    expect(epoch(1)).not.toBe(epoch(0));
    expect(epoch(0, 6)).not.toBe(epoch(0));
    const still = new LengthBatchSampler(lengths, { ...options, shuffle: false });
    expect(still.batches(1)).toEqual(still.batches(0));
    // Long and short batches come mixed.
    const order = new LengthBatchSampler(lengths, options).batches(0).map((batch) => longest(batch, lengths));
    expect(order).not.toEqual([...order].sort((a, b) => a - b));
  });

  test('drives a DataLoader', async () => {
    const batchSampler = new LengthBatchSampler(lengths, { tokensPerBatch: 4096 });
    const loader = new DataLoader(arrayDataset(lengths), { batchSampler });
    expect(await all(loader)).toEqual(batchSampler.batches(0).map((batch) => batch.map((i) => lengths[i])));
    expect(loader.epoch).toBe(1);
  });

  test('an item longer than the budget is an error', () => {
    expect(() => new LengthBatchSampler([3, 17, 4], { tokensPerBatch: 16 })).toThrow(
      /at most tokensPerBatch = 16 tokens, .*for lengths\[1\], received 17; cut the sequence, leave it out or raise/,
    );
    expect(() => new LengthBatchSampler([3, 15], { tokensPerBatch: 15, multipleOf: 8 })).toThrow(
      /15 tokens, padded to a multiple of 8, for lengths\[1\]/,
    );
    for (const bad of [[0], [1.5], [-1], ['x'], 'x', undefined])
      expect(codeOf(() => new LengthBatchSampler(bad as number[], { tokensPerBatch: 9 }))).toBe('FOVEA_ARGUMENT');
    for (const bad of [
      undefined,
      {},
      { tokensPerBatch: 0 },
      { tokensPerBatch: 9, poolSize: 0 },
      { tokensPerBatch: 9, shuffle: 1 },
      { tokens: 9 },
    ])
      expect(codeOf(() => new LengthBatchSampler([1], bad as { tokensPerBatch: number }))).toBe('FOVEA_ARGUMENT');
    expect(new LengthBatchSampler([], { tokensPerBatch: 1 }).batches(0)).toEqual([]);
  });
});

describe('CurriculumSampler', () => {
  const difficulty = new RandomStream(3).shuffle(range(1000));

  test.each([
    ['linear', (t: number) => 0.2 + 0.8 * t],
    ['sqrt', (t: number) => Math.sqrt(0.04 + 0.96 * t)],
    [(t: number) => t ** 2, (t: number) => t ** 2],
  ] as [CurriculumSchedule, (t: number) => number][])('%s: the share grows with the epoch', (schedule, share) => {
    const sampler = new CurriculumSampler(difficulty, { epochs: 4, schedule, start: 0.2 });
    for (const epoch of range(7)) {
      const allowed = Math.max(1, Math.ceil(1000 * share(Math.min(1, epoch / 4))));
      const indices = Array.from(sampler.indices(epoch));
      const drawn = indices.map((i) => difficulty[i]!);
      expect(
        [...drawn].sort((a, b) => a - b),
        `epoch ${epoch}`,
      ).toEqual(range(allowed));
      if (allowed > 10) expect(drawn).not.toEqual(range(allowed));
      expect(Array.from(sampler.indices(epoch))).toEqual(indices);
    }
  });

  test('with draws, the share grows with every draw', () => {
    const sampler = new CurriculumSampler(difficulty, {
      epochs: 2,
      schedule: 'linear',
      start: 0.1,
      draws: 2000,
      seed: 1,
    });
    for (const epoch of [0, 1, 2]) {
      const drawn = Array.from(sampler.indices(epoch), (i) => difficulty[i]!);
      expect(drawn).toHaveLength(2000);
      const bound = (draw: number): number => 1000 * (0.1 + 0.9 * Math.min(1, (epoch + draw / 2000) / 2));
      drawn.forEach((value, draw) => expect(value).toBeLessThan(bound(draw) + 1));
      // What is allowed is drawn evenly: the mean of value / bound is a half.
      const mean = drawn.reduce((sum, value, draw) => sum + value / bound(draw), 0) / 2000;
      expect(Math.abs(mean - 0.5)).toBeLessThan(0.035);
    }
  });

  test('ties go by index, and at least one item is drawn', () => {
    expect([...new CurriculumSampler([1, 1, 0], { epochs: 2, schedule: (t) => t }).indices(0)]).toEqual([2]);
    expect([...new CurriculumSampler([1, 1], { epochs: 2, schedule: () => 0.5 }).indices(0)]).toEqual([0]);
    expect([...new CurriculumSampler([], { epochs: 2 }).indices(0)]).toEqual([]);
    expect([...new CurriculumSampler([], { epochs: 2, draws: 3 }).indices(0)]).toEqual([]);
  });

  test.each([
    [[1, Number.NaN], { epochs: 1 }],
    ['x', { epochs: 1 }],
    [[1], { epochs: 0 }],
    [[1], undefined],
    [[1], { epochs: 1, start: 0 }],
    [[1], { epochs: 1, schedule: 'cubic' }],
    [[1], { epochs: 1, draws: 0 }],
  ])('refuses %j %j', (list, options) => {
    expect(codeOf(() => new CurriculumSampler(list as number[], options as { epochs: number }))).toBe('FOVEA_ARGUMENT');
  });

  test('a schedule that gives no share is an error', () => {
    const sampler = new CurriculumSampler([1, 2], { epochs: 1, schedule: () => 1.5 });
    expect(() => sampler.indices(0)).toThrow(/a share from 0 to 1 for schedule\(0\), received 1.5/);
  });
});
