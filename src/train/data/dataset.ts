/** Datasets with an index, and what is made of them. */
import { FoveaError } from '../../errors.js';
import { argumentError, countArg, functionArg, optionsArg } from '../../tensor/check.js';
import { listArg } from './list.js';
import { permutation, RandomStream } from './random-stream.js';
import { isIterableDataset, type IterableDataset, mapStream } from './stream.js';

/** Items by index. */
export interface Dataset<T> {
  /** How many items there are. */
  readonly length: number;
  /** The item at an index from 0 to length - 1. */
  get(index: number): T | Promise<T>;
}

/** Whether a value has the form of a dataset with an index. */
export function isDataset(value: unknown): value is Dataset<unknown> {
  if (value === null || typeof value !== 'object') return false;
  const { get, length } = value as Partial<Dataset<unknown>>;
  return typeof get === 'function' && typeof length === 'number' && Number.isSafeInteger(length) && length >= 0;
}

/** Checks a dataset with an index. @throws FOVEA_ARGUMENT for anything else */
export function datasetArg(op: string, value: unknown, argument = 'dataset'): void {
  if (isDataset(value)) return;
  throw argumentError(op, argument, 'a Dataset, with a length and get(index)', value);
}

/** An index of one of `length` items. @throws FOVEA_INDEX for any other number */
export function itemIndex(op: string, index: unknown, length: number): number {
  if (typeof index === 'number' && Number.isInteger(index) && index >= 0 && index < length) return index;
  throw new FoveaError('FOVEA_INDEX', `${op}: there is no item ${String(index)} in a dataset of ${length} items`);
}

/**
 * The elements of an array or typed array, which is not copied.
 *
 * @throws FOVEA_ARGUMENT for what is neither; `get` throws FOVEA_INDEX for an item that is not there
 */
export function arrayDataset<T>(items: ArrayLike<T>): Dataset<T> {
  listArg('arrayDataset', 'items', items, 'an array or a typed array');
  return {
    get length() {
      return items.length;
    },
    get: (index) => items[itemIndex('arrayDataset', index, items.length)]!,
  };
}

/**
 * The items at some indices, in their order; an index may occur twice.
 *
 * @throws FOVEA_ARGUMENT for what is no dataset or no list, FOVEA_INDEX for an index that is not there
 */
export function subset<T>(dataset: Dataset<T>, indices: ArrayLike<number>): Dataset<T> {
  datasetArg('subset', dataset);
  const list = listArg('subset', 'indices', indices, 'a list of indices');
  const chosen = Array.from(list, (index) => itemIndex('subset', index, dataset.length));
  return {
    length: chosen.length,
    get: (index) => dataset.get(chosen[itemIndex('subset', index, chosen.length)]!),
  };
}

/**
 * The items of several datasets, one dataset after the other.
 *
 * @throws FOVEA_ARGUMENT for what is no list of datasets
 */
export function concat<T>(datasets: readonly Dataset<T>[]): Dataset<T> {
  if (!Array.isArray(datasets) || datasets.length === 0)
    throw argumentError('concat', 'datasets', 'a list of at least one Dataset', datasets);
  const parts = [...datasets];
  for (const [i, part] of parts.entries()) datasetArg('concat', part, `datasets[${i}]`);
  const lengthOf = (): number => parts.reduce((sum, { length }) => sum + length, 0);
  return {
    get length() {
      return lengthOf();
    },
    get(index) {
      let within = itemIndex('concat', index, lengthOf());
      let part = 0;
      while (within >= parts[part]!.length) within -= parts[part++]!.length;
      return parts[part]!.get(within);
    },
  };
}

/**
 * Each item put through a function when it is asked for.
 *
 * @param fn may be asynchronous; gets the item and, of a dataset with an index, its index
 * @throws FOVEA_ARGUMENT for what is no dataset or no function
 */
export function map<T, U>(dataset: Dataset<T>, fn: (item: T, index: number) => U | Promise<U>): Dataset<U>;
export function map<T, U>(dataset: IterableDataset<T>, fn: (item: T) => U | Promise<U>): IterableDataset<U>;
export function map<T, U>(
  dataset: Dataset<T> | IterableDataset<T>,
  fn: (item: T, index: number) => U | Promise<U>,
): Dataset<U> | IterableDataset<U> {
  functionArg('map', 'fn', fn);
  if (isIterableDataset(dataset)) return mapStream(dataset, fn as (item: T) => U | Promise<U>);
  datasetArg('map', dataset);
  return {
    get length() {
      return dataset.length;
    },
    get: async (index) => fn(await dataset.get(index), index),
  };
}

/** Options of {@link randomSplit}. */
export interface RandomSplitOptions {
  /** Which split of all; default 0. */
  seed?: number;
}

/** Shares of n as counts: each rounded down, then one more for the first ones until all are given (as PyTorch does). */
function countsOf(n: number, parts: readonly number[]): number[] {
  const total = parts.reduce((a, b) => a + b, 0);
  if (parts.every(Number.isInteger) && total === n) return [...parts];
  const areShares = parts.every((part) => part >= 0 && part <= 1) && Math.abs(total - 1) < 1e-9;
  if (!areShares)
    throw argumentError('randomSplit', 'parts', `counts that sum to ${n}, or shares that sum to 1`, parts);
  const counts = parts.map((share) => Math.floor(share * n));
  const left = n - counts.reduce((a, b) => a + b, 0);
  return counts.map((count, i) => count + (i < left ? 1 : 0));
}

/**
 * Cuts a dataset into random parts without overlap, a pure function of the seed.
 *
 * @param parts how many items each part gets, as counts that sum to the length or as shares that sum to 1
 * @throws FOVEA_ARGUMENT for what is no dataset, or for other parts
 */
export function randomSplit<T>(
  dataset: Dataset<T>,
  parts: readonly number[],
  options?: RandomSplitOptions,
): Dataset<T>[] {
  const { seed = 0 } = optionsArg('randomSplit', options, ['seed']);
  datasetArg('randomSplit', dataset);
  countArg('randomSplit', 'seed', seed);
  const isList = Array.isArray(parts) && parts.length > 0;
  if (!isList || !parts.every((part: unknown) => typeof part === 'number' && part >= 0))
    throw argumentError('randomSplit', 'parts', 'a list of counts or shares', parts);
  const order = permutation(dataset.length, new RandomStream(seed));
  let begin = 0;
  return countsOf(dataset.length, parts).map((count) => {
    begin += count;
    return subset(dataset, order.subarray(begin - count, begin));
  });
}
