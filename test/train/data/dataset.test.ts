// Datasets made of datasets.
import { arrayDataset, concat, type Dataset, map, randomSplit, subset } from 'fovea/train';
import { describe, expect, expectTypeOf, test } from 'vitest';
import { codeOf } from '../../helpers.js';
import { all, range } from './collect.ts';

const items = async <T>(dataset: Dataset<T>): Promise<T[]> =>
  Promise.all(range(dataset.length).map((i) => dataset.get(i)));

describe('parts of datasets', () => {
  test('arrayDataset holds arrays and typed arrays, and grows with them', async () => {
    const list = ['a', 'b'];
    const dataset = arrayDataset(list);
    expectTypeOf(dataset).toEqualTypeOf<Dataset<string>>();
    list.push('c');
    expect(await items(dataset)).toEqual(['a', 'b', 'c']);
    expect(await items(arrayDataset(Uint16Array.of(7, 8)))).toEqual([7, 8]);
    for (const index of [-1, 3, 0.5, Number.NaN, '0'])
      expect(codeOf(() => dataset.get(index as number))).toBe('FOVEA_INDEX');
  });

  test('subset and concat', async () => {
    const letters = arrayDataset(['a', 'b', 'c']);
    expect(await items(subset(letters, [2, 0, 2]))).toEqual(['c', 'a', 'c']);
    expect(codeOf(() => subset(letters, [0, 3]))).toBe('FOVEA_INDEX');
    const joined = concat([letters, arrayDataset<string>([]), subset(letters, [1])]);
    expect(await items(joined)).toEqual(['a', 'b', 'c', 'b']);
    expect(() => joined.get(4)).toThrow('concat: there is no item 4 in a dataset of 4 items');
    expect(codeOf(() => concat([]))).toBe('FOVEA_ARGUMENT');
  });

  test('map, of an index and of a stream', async () => {
    const squares = map(arrayDataset([1, 2, 3]), async (x, i) => `${i}:${x * x}`);
    expectTypeOf(squares).toEqualTypeOf<Dataset<string>>();
    expect(await items(squares)).toEqual(['0:1', '1:4', '2:9']);
    const stream = {
      async *[Symbol.asyncIterator]() {
        yield* [1, 2, 3];
      },
    };
    expect(await all(map(stream, (x) => x * 10))).toEqual([10, 20, 30]);
  });
});

describe('randomSplit', () => {
  const numbers = arrayDataset(range(103));

  test('cuts into parts without overlap, by seed', async () => {
    const parts = await Promise.all(randomSplit(numbers, [80, 20, 3], { seed: 4 }).map(items));
    expect(parts.map(({ length }) => length)).toEqual([80, 20, 3]);
    expect(parts.flat().sort((a, b) => a - b)).toEqual(range(103));
    expect(parts[0]).not.toEqual([...parts[0]!].sort((a, b) => a - b));
    const again = await Promise.all(randomSplit(numbers, [80, 20, 3], { seed: 4 }).map(items));
    const other = await Promise.all(randomSplit(numbers, [80, 20, 3]).map(items));
    expect(again).toEqual(parts);
    expect(other).not.toEqual(parts);
  });

  test('shares are rounded down, and the first parts get what is left', () => {
    const lengths = (shares: number[]): number[] => randomSplit(numbers, shares).map(({ length }) => length);
    expect(lengths([0.9, 0.1])).toEqual([93, 10]);
    expect(lengths([0.3, 0.3, 0.4])).toEqual([31, 31, 41]);
    expect(lengths([1])).toEqual([103]);
  });

  test.each([[[100, 2]], [[0.5, 0.6]], [[-1, 104]], [[]], [[51.5, 51.5]], ['x'], [[Number.NaN]]])(
    'refuses %j',
    (parts) => {
      expect(codeOf(() => randomSplit(numbers, parts as number[]))).toBe('FOVEA_ARGUMENT');
    },
  );
});
