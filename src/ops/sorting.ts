/** Order along one axis: stable, NaN counting as the largest value. */
import { FoveaError } from '../errors.js';
import { countArg, dimArg, optionsArg } from '../tensor/check.js';
import { slotOf, type Tensor } from '../tensor/tensor.js';
import { gather } from './indexing.js';
import { kernels } from './kernels.gen.js';
import type { ValuesAndIndices } from './reduce.js';
import { movedim, reshape } from './shape.js';

/** Runs a kernel on the last axis; values that need gradients are gathered anew from where the kernel found them. */
function ordered(op: string, x: Tensor, dim: number, kernel: (x: Tensor) => ValuesAndIndices): ValuesAndIndices {
  const { shape } = slotOf(x, op, 'x');
  const d = dimArg(op, dim, shape.length);
  if (shape.length === 0) {
    const { values, indices } = ordered(op, reshape(x, [1]), 0, kernel);
    return { values: reshape(values, []), indices: reshape(indices, []) };
  }
  const last = d === shape.length - 1;
  const found = kernel(last ? x.detach() : movedim(x.detach(), d, -1));
  const indices = last ? found.indices : movedim(found.indices, -1, d);
  if (x.tracked) return { values: gather(x, d, indices), indices };
  return { values: last ? found.values : movedim(found.values, -1, d), indices };
}

/** Options of `sort` and `argsort`. */
export interface SortOptions {
  /** Largest first. */
  descending?: boolean;
}
/**
 * The elements in order along `dim`, and where they were. Equal elements keep their order; NaN counts as the largest.
 *
 * @param x any shape and dtype
 * @returns values of the dtype of `x` and int64 indices, both of its shape
 * @throws FOVEA_ARGUMENT for a `dim` that is not there
 */
export function sort(x: Tensor, dim = -1, options?: SortOptions): ValuesAndIndices {
  const { descending = false } = optionsArg('sort', options, ['descending']);
  return ordered('sort', x, dim, (v) => kernels.sort({ x: v }, { descending }));
}
/**
 * The indices that sort `x` along `dim`; equal elements keep their order, and NaN counts as the largest.
 *
 * @param x any shape and dtype
 * @returns int64 of the shape of `x`
 * @throws FOVEA_ARGUMENT for a `dim` that is not there
 */
export function argsort(x: Tensor, dim = -1, options?: SortOptions): Tensor {
  const { descending = false } = optionsArg('argsort', options, ['descending']);
  slotOf(x, 'argsort', 'x');
  return ordered('argsort', x.detach(), dim, (v) => kernels.sort({ x: v }, { descending })).indices;
}
/** Options of `topk`. */
export interface TopkOptions {
  /** The k largest (default) or, with false, the k smallest. */
  largest?: boolean;
}
/**
 * The k largest elements along `dim` in order, and where they were; NaN counts as the largest.
 *
 * @param x any shape and dtype
 * @param k at most the size of axis `dim`, which has size k in the result
 * @returns values of the dtype of `x` and int64 indices
 * @throws FOVEA_ARGUMENT for a `dim` that is not there or a `k` beyond its size
 */
export function topk(x: Tensor, k: number, dim = -1, options?: TopkOptions): ValuesAndIndices {
  const { largest = true } = optionsArg('topk', options, ['largest']);
  const { shape } = slotOf(x, 'topk', 'x');
  const d = dimArg('topk', dim, shape.length);
  const n = shape[d] ?? 1;
  if (countArg('topk', 'k', k) > n)
    throw new FoveaError(
      'FOVEA_ARGUMENT',
      `topk: expected k of at most ${n}, the size of axis ${d} of [${shape.join(',')}], received ${k}`,
    );
  return ordered('topk', x, d, (v) => kernels.topk({ x: v }, { k, largest }));
}
