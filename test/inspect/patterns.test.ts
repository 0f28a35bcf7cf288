// Classes of heads, on heads that are made to be one.
import { inspect, tensor } from 'fovea';
import { describe, expect, test } from 'vitest';
import { randomRows } from './attend.js';

const n = 64;
type Score = (query: number, key: number) => number;

/** A head with those scores before softmax, causal or not. */
function headOf(score: Score, causal: boolean, [rows, columns] = [n, n]): number[][] {
  return Array.from({ length: rows }, (_, i) => {
    const raised = Array.from({ length: columns }, (_unused, j) => (causal && j > i ? 0 : Math.exp(score(i, j))));
    const sum = raised.reduce((a, b) => a + b, 0);
    return raised.map((x) => (sum > 0 ? x / sum : 0));
  });
}
const noise = randomRows(n, n, 5).map((row) => row.map((x) => 20 * x));
const rough =
  (score: Score): Score =>
  (i, j) =>
    score(i, j) + noise[i]![j]!;

/** A repeated half, in which only what an induction head looks at is the same token's successor. */
const tokenIds = Array.from({ length: n }, (_, i) => (i % (n / 2)) + 100);

const made: [pattern: string, score: Score][] = [
  ['local', (i, j) => (Math.abs(i - j) <= 1 ? 6 : 0)],
  ['firstToken', (_, j) => (j === 0 ? 7 : 0)],
  ['distributed', () => 0],
  ['global', (_, j) => (j === 9 || j === 30 ? 7 : 0)],
  ['block', (i, j) => (Math.floor(i / 16) === Math.floor(j / 16) ? 6 : 0)],
];

describe.each([true, false])('causal %s', (causal) => {
  test.each(made)('%s', async (pattern, score) => {
    const [found] = await inspect.classifyHeads(tensor(headOf(rough(score), causal)), { tokenIds });
    expect(found!.pattern).toBe(pattern);
    if (pattern === 'block') expect(found!.blockSize).toBe(16);
  });
});

test('induction needs tokens, and a previous occurrence', async () => {
  const score: Score = (i, j) => (j === i - n / 2 + 1 ? 8 : 0);
  const head = tensor([
    headOf(rough(score), true),
    headOf(
      rough(() => 0),
      true,
    ),
  ]);
  const [with_, other] = await inspect.classifyHeads(head, { tokenIds: BigInt64Array.from(tokenIds, BigInt) });
  expect(with_!.pattern).toBe('induction');
  expect(with_!.scores.induction).toBeGreaterThan(0.9);
  expect(Math.abs(other!.scores.induction)).toBeLessThan(0.05);
  const [without] = await inspect.classifyHeads(head);
  expect(without!.scores.induction).toBeNaN();
  const [never] = await inspect.classifyHeads(head, { tokenIds: Array.from({ length: n }, (_, i) => i) });
  expect(never!.scores.induction).toBeNaN();
});

test('the formula of a score, by hand', async () => {
  // Bidirectional, three keys: chance is 1/3 for the first token, and 2/3, 1, 2/3 for a window of 1.
  const rows = [
    [0.2, 0.5, 0.3],
    [0.1, 0.8, 0.1],
    [0.6, 0.1, 0.3],
  ];
  const [{ scores, entropy }] = (await inspect.classifyHeads(tensor(rows), { window: 1 })) as [inspect.HeadClass];
  expect(scores.firstToken).toBeCloseTo((0.9 - 1) / (3 - 1), 5);
  expect(scores.local).toBeCloseTo((0.7 + 1 + 0.4 - 7 / 3) / (3 - 7 / 3), 5);
  const entropies = rows.map((row) => row.reduce((sum, p) => sum - p * Math.log(p), 0));
  expect(entropy).toBeCloseTo(entropies.reduce((a, b) => a + b, 0) / 3, 5);
  expect(scores.distributed).toBeCloseTo(entropy / Math.log(3), 5);
  expect(scores.global).toBeCloseTo((1.4 - 1) / (3 - 1), 5);
  expect(scores.block).toBeNaN();
});

test('blocks that are given, thresholds, heads and sequences', async () => {
  const segments = Array.from({ length: n }, (_, i) => Number(i >= 20) + Number(i >= 45));
  const head = headOf(
    rough((i, j) => (segments[i] === segments[j] ? 6 : 0)),
    false,
  );
  const other = headOf(
    rough(() => 0),
    false,
  );
  const weights = tensor([
    [other, other],
    [other, head],
  ]);
  const found = await inspect.classifyHeads(weights, { segments, batch: 1, heads: [1, 0] });
  expect(found.map(({ head: number, pattern }) => [number, pattern])).toEqual([
    [1, 'block'],
    [0, 'distributed'],
  ]);
  const [strict] = await inspect.classifyHeads(weights, { segments, batch: 1, heads: [1], thresholds: { block: 1.1 } });
  expect(strict!.pattern).not.toBe('block');
});

test('a local head crosses borders of blocks, so that it is none of block', async () => {
  const wide = tensor(
    headOf(
      rough((i, j) => (Math.abs(i - j) <= 6 ? 6 : 0)),
      true,
    ),
  );
  const [found] = await inspect.classifyHeads(wide);
  expect(found!.scores.block).toBeLessThan(0.5);
  const [asked] = await inspect.classifyHeads(wide, { window: 6 });
  expect(asked!.pattern).toBe('local');
});

test('rows of a longer input, queries without keys, more queries than keys', async () => {
  const all = headOf(
    rough((i, j) => (i - j === 1 ? 8 : 0)),
    true,
  );
  // With the default offset the last query meets the last key.
  const [tail] = await inspect.classifyHeads(tensor(all.slice(40)));
  expect(tail!.pattern).toBe('local');
  const [head] = await inspect.classifyHeads(tensor(all.slice(0, 24)), { offset: 0 });
  expect(head!.pattern).toBe('local');
  const blind = all.map((row, i) => (i % 2 ? row : row.map(() => 0)));
  expect((await inspect.classifyHeads(tensor(blind)))[0]!.pattern).toBe('local');
  const cross = headOf((_, j) => (j === 0 ? 8 : 0), false, [20, 12]);
  expect((await inspect.classifyHeads(tensor(cross)))[0]!.pattern).toBe('firstToken');
});

test('refuses what does not fit', async () => {
  const weights = tensor([randomRows(4, 6, 1)]);
  const code = (code: string): unknown => expect.objectContaining({ code });
  await expect(inspect.classifyHeads(weights, { tokenIds: [1, 2] })).rejects.toEqual(code('FOVEA_SHAPE'));
  await expect(inspect.classifyHeads(weights, { segments: 3 as never })).rejects.toEqual(code('FOVEA_ARGUMENT'));
  await expect(inspect.classifyHeads(weights, { heads: [1] })).rejects.toEqual(code('FOVEA_INDEX'));
  await expect(inspect.classifyHeads(weights, { batch: 1 })).rejects.toEqual(code('FOVEA_INDEX'));
  await expect(inspect.classifyHeads(weights, { window: -1 })).rejects.toEqual(code('FOVEA_ARGUMENT'));
  await expect(inspect.classifyHeads(weights, { thresholds: { locl: 1 } as never })).rejects.toThrow(/locl/);
  await expect(inspect.classifyHeads(tensor([1]))).rejects.toEqual(code('FOVEA_SHAPE'));
  await expect(inspect.classifyHeads({} as never)).rejects.toEqual(code('FOVEA_ARGUMENT'));
});
