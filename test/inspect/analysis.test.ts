// Figures of attention weights, against the same in plain JavaScript.
import { eye, inspect, noGrad, randint, randn, tensor, type Tensor } from 'fovea';
import { describe, expect, test } from 'vitest';
import { compare } from '../golden.js';
import { codeOf, list } from '../helpers.js';
import { Attend, randomRows, tiny } from './attend.js';

const entropyOf = (row: readonly number[]): number => row.reduce((sum, p) => (p > 0 ? sum - p * Math.log(p) : sum), 0);
const zeros = (m: number): number[] => new Array<number>(m).fill(0);

/** Three heads of five queries and seven keys, among them a query without keys and one with a single key. */
const maps = [1, 2, 3].map((seed) => randomRows(5, 7, seed));
maps[0]![2] = zeros(7);
maps[1]![4] = [0, 0, 0, 1, 0, 0, 0];
const weights = tensor(maps);

describe('entropy', () => {
  test('of queries and of heads', () => {
    const expected = maps.map((map) => map.map(entropyOf));
    expect(compare(list(inspect.entropy(weights)), expected.flat()).difference).toBeLessThan(1e-6);
    const means = expected.map((rows, head) => rows.reduce((a, b) => a + b, 0) / (head === 0 ? 4 : 5));
    const measured = inspect.entropy(weights, { reduction: 'mean' });
    expect([...measured.shape]).toEqual([3]);
    expect(compare(list(measured), means).difference).toBeLessThan(1e-6);
  });

  test('is ln m for keys alike and 0 for one; 16 bits are summed in 32, float64 stays', () => {
    const alike = tensor([new Array<number>(8).fill(1 / 8), [1, ...zeros(7)]]);
    const [even, one] = list(inspect.entropy(alike.to('bfloat16')));
    expect(even).toBeCloseTo(Math.log(8), 6);
    expect(one).toBe(0);
    expect(inspect.entropy(alike.to('bfloat16')).dtype).toBe('float32');
    expect(inspect.entropy(alike.to('float64')).dtype).toBe('float64');
    expect(list(inspect.entropy(tensor([[0, 0]]), { reduction: 'mean' }))).toEqual([Number.NaN]);
  });

  test('refuses what are no weights', () => {
    expect(codeOf(() => inspect.entropy(tensor([1])))).toBe('FOVEA_SHAPE');
    expect(codeOf(() => inspect.entropy(tensor([[1]], { dtype: 'int64' })))).toBe('FOVEA_DTYPE');
    expect(codeOf(() => inspect.entropy([[1]] as never))).toBe('FOVEA_ARGUMENT');
    expect(codeOf(() => inspect.entropy(weights, { reduction: 'sum' as never }))).toBe('FOVEA_ARGUMENT');
  });
});

describe('alignment', () => {
  test('keys, confidence and how monotonic it is', () => {
    const { keys, confidence, monotonicity } = inspect.alignment(weights);
    const best = maps.map((map) => map.map((row) => row.indexOf(Math.max(...row))));
    expect(list(keys)).toEqual(best.flat());
    expect(keys.dtype).toBe('int64');
    expect(
      compare(
        list(confidence),
        maps.flat().map((row) => Math.max(...row)),
      ).difference,
    ).toBeLessThan(1e-6);
    const forward = best.map((row) => row.slice(1).filter((key, i) => key >= row[i]!).length / 4);
    expect(compare(list(monotonicity), forward).difference).toBeLessThan(1e-6);
  });

  test('of speech in order and backwards, and of one query', () => {
    const path = (keys: number[]): Tensor => tensor(keys.map((key) => zeros(6).map((_, j) => (j === key ? 1 : 0))));
    expect(inspect.alignment(path([0, 0, 1, 3, 5])).monotonicity.itemSync()).toBe(1);
    expect(inspect.alignment(path([5, 3, 1, 0])).monotonicity.itemSync()).toBe(0);
    expect(list(inspect.alignment(tensor([[[0.2, 0.8]], [[1, 0]]])).monotonicity)).toEqual([1, 1]);
    expect(codeOf(() => inspect.alignment(randn([2, 0])))).toBe('FOVEA_SHAPE');
  });
});

describe('compareHeads', () => {
  const distance = (p: readonly number[], q: readonly number[]): number => {
    const middle = p.map((x, j) => (x + q[j]!) / 2);
    return Math.sqrt(Math.max(0, entropyOf(middle) - (entropyOf(p) + entropyOf(q)) / 2) / Math.LN2);
  };
  const between = (a: number[][], b: number[][]): number => {
    const rows = a.flatMap((row, i) =>
      entropyOf(row) + Math.max(...row) === 0 || Math.max(...b[i]!) === 0 ? [] : [i],
    );
    return rows.reduce((sum, i) => sum + distance(a[i]!, b[i]!), 0) / rows.length;
  };

  test('is the mean Jensen-Shannon distance', () => {
    const all = inspect.compareHeads(weights);
    expect([...all.shape]).toEqual([3, 3]);
    const expected = maps.flatMap((a) => maps.map((b) => between(a, b)));
    expect(compare(list(all), expected).difference).toBeLessThan(1e-5);
    expect([0, 4, 8].map((i) => list(all)[i])).toEqual([0, 0, 0]);
  });

  test('heads that differ by rounding are no distance apart', () => {
    const rows = randomRows(64, 16, 9);
    const nearly = rows.map((row) => row.map((p, j) => p * (1 + (j % 2 ? 1e-7 : -1e-7))));
    const [distance] = list(inspect.compareHeads(tensor([rows]), tensor([nearly])));
    expect(distance).toBeLessThan(1e-3);
  });

  test('of other heads and in batches', () => {
    const [a, b] = [[4, 5, 6].map((seed) => randomRows(3, 4, seed)), [7, 8].map((seed) => randomRows(3, 4, seed))];
    const measured = inspect.compareHeads(tensor([a, a]), tensor([b, b]));
    const expected = a.flatMap((x) => b.map((y) => between(x, y)));
    expect([...measured.shape]).toEqual([2, 3, 2]);
    expect(compare(list(measured), [...expected, ...expected]).difference).toBeLessThan(1e-5);
    const apart = inspect.compareHeads(tensor([[[1, 0]], [[0, 1]]]));
    expect(list(apart)).toEqual([0, 1, 1, 0]);
    expect(codeOf(() => inspect.compareHeads(tensor(a), tensor([randomRows(3, 5, 1)])))).toBe('FOVEA_SHAPE');
  });
});

describe('rollout', () => {
  type Matrix = number[][];
  const multiply = (a: Matrix, b: Matrix): Matrix =>
    a.map((row) => b[0]!.map((_, j) => row.reduce((sum, x, i) => sum + x * b[i]![j]!, 0)));
  const fuse = (layer: Matrix[], how: (...xs: number[]) => number, residual: number): Matrix =>
    layer[0]!.map((_, i) => {
      const row = layer[0]!.map((_unused, j) => {
        const one = how(...layer.map((head) => head[i]![j]!));
        return (1 - residual) * one + (i === j ? residual : 0);
      });
      const sum = row.reduce((a, b) => a + b, 0);
      return row.map((x) => x / sum);
    });
  const mean = (...xs: number[]): number => xs.reduce((a, b) => a + b, 0) / xs.length;
  const layers = [0, 1, 2].map((layer) => [0, 1].map((head) => randomRows(6, 6, 10 * layer + head)));

  test.each([
    ['as in the paper', {}, mean, 0.5],
    ['of the largest head', { heads: 'max', residual: 0.2 }, Math.max, 0.2],
    ['of the smallest head', { heads: 'min' }, Math.min, 0.5],
    ['without the residual connection', { residual: 0 }, mean, 0],
  ] as const)('%s', (_, options, how, residual) => {
    const expected = layers.map((layer) => fuse(layer, how, residual)).reduce((below, a) => multiply(a, below));
    const inputs = layers.map((layer) => tensor(layer));
    const all = inspect.rollout(inputs, options);
    expect(compare(list(all), expected.flat()).difference).toBeLessThan(1e-6);
    const some = inspect.rollout(inputs, { ...options, rows: [4, 6] });
    expect(compare(list(some), expected.slice(4).flat()).difference).toBeLessThan(1e-6);
  });

  test('of captures is that of their weights; a query without keys keeps what is its own', () => {
    const model = tiny();
    using observer = inspect.observe(model);
    noGrad(() => model.forward({ inputIds: randint(0, 40, [2, 9], { dtype: 'int64' }) }));
    const expected = inspect.rollout(observer.captures.map((capture) => capture.weights()));
    const measured = inspect.rollout(observer.captures, { rows: [3, 9] });
    expect([...expected.shape]).toEqual([2, 9, 9]);
    expect(compare(list(measured), list(expected.narrow(1, 3, 6))).difference).toBeLessThan(1e-6);
    const blind = inspect.rollout([
      tensor([
        [
          [0, 0],
          [0.5, 0.5],
        ],
      ]),
    ]);
    expect(list(blind)).toEqual([1, 0, 0.25, 0.75]);
  });

  test('of long inputs goes through layers in blocks of rows', () => {
    const [model, n] = [new Attend(), 1100];
    using observer = inspect.observe(model);
    for (const _ of [0, 1])
      noGrad(() => model.forward(...([0, 1, 2].map(() => randn([1, 4, n, 2])) as [Tensor, Tensor, Tensor])));
    const mixed = observer.captures.map((capture) => capture.weights().mean(1).add(eye(n)).div(2));
    const expected = mixed[1]!.narrow(1, 700, 3).matmul(mixed[0]!);
    const measured = inspect.rollout(observer.captures, { rows: [700, 703] });
    expect(compare(list(measured), list(expected)).difference).toBeLessThan(1e-6);
  });

  test('refuses what does not go together', () => {
    const square = tensor([randomRows(3, 3, 1)]);
    expect(codeOf(() => inspect.rollout([]))).toBe('FOVEA_ARGUMENT');
    expect(codeOf(() => inspect.rollout([square, tensor([randomRows(4, 4, 1)])]))).toBe('FOVEA_SHAPE');
    expect(codeOf(() => inspect.rollout([tensor([randomRows(3, 4, 1)])]))).toBe('FOVEA_SHAPE');
    expect(codeOf(() => inspect.rollout([square], { rows: [0, 4] }))).toBe('FOVEA_INDEX');
    expect(codeOf(() => inspect.rollout([square], { residual: 2 }))).toBe('FOVEA_ARGUMENT');
    expect(codeOf(() => inspect.rollout([square], { heads: 'sum' as never }))).toBe('FOVEA_ARGUMENT');
    expect(codeOf(() => inspect.rollout([{} as never]))).toBe('FOVEA_ARGUMENT');
    const model = new Attend();
    const observer = inspect.observe(model);
    model.forward(randn([1, 1, 3, 2]), randn([1, 1, 3, 2]), randn([1, 1, 3, 2]));
    const [capture] = observer.captures;
    observer.dispose();
    expect(codeOf(() => inspect.rollout([capture!]))).toBe('FOVEA_DISPOSED');
  });
});
