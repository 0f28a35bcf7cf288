/**
 * Reductions over some axes, or over all of them. The kernels reduce the last axis; others are moved there as views.
 */
import { argumentError, dimArg, dimsArg, dtypeOr, numberArg, optionsArg, shapeError } from '../tensor/check.js';
import { Code, isFloat, type Dtype } from '../tensor/dtype.js';
import { range } from '../tensor/layout.js';
import { slotOf, type Tensor } from '../tensor/tensor.js';
import { inFloat32 } from './autocast.js';
import { expand, reducedLast, sumOver } from './broadcast.js';
import { castTo } from './cast.js';
import { eq, logicalAnd } from './compare.js';
import { eye, filled } from './creation.js';
import { defineOp, type DefinedOp } from './define-op.js';
import { abs, div, exp, mul, pow, sign, sqrt, sub } from './elementwise.js';
import { where } from './select.js';
import { flip, gather } from './indexing.js';
import { kernels } from './kernels.gen.js';
import { floating } from './promote.js';
import { movedim, reshape, unsqueeze } from './shape.js';

/** Axes of a reduction: one, several, or (undefined) all. */
export type Dims = number | readonly number[] | undefined;
/** Options of most reductions. */
export interface ReduceOptions {
  /** Keep the reduced axes with size 1. */
  keepdim?: boolean;
}
/** Options of `sum`, `mean`, `prod` and `cumsum`. */
export interface SumOptions extends ReduceOptions {
  /** Convert to this dtype first. */
  dtype?: Dtype;
}

function axesOf(op: string, x: Tensor, dim: Dims): number[] {
  const { length } = slotOf(x, op, 'x').shape;
  if (dim === undefined || dim === null) return range(length);
  const axes = dimsArg(op, dim, length);
  return length === 0 ? [] : axes;
}

/** The axes of a reduction that has no answer for no elements. */
function filledAxes(op: string, x: Tensor, dim: Dims): number[] {
  const axes = axesOf(op, x, dim);
  const { shape } = x;
  if (axes.some((a) => shape[a] === 0))
    throw shapeError(op, `x [${shape.join(',')}] has no elements to reduce; reduce axes of at least one`);
  return axes;
}

/** Reduces `axes` of `x` by something that reduces the last axis. */
function over(x: Tensor, axes: readonly number[], keepdim: boolean | undefined, reduce: (x: Tensor) => Tensor): Tensor {
  const { shape } = x;
  const y = reduce(reducedLast(x, axes));
  return keepdim
    ? reshape(
        y,
        shape.map((n, i) => (axes.includes(i) ? 1 : n)),
      )
    : y;
}

/** An axis of size 1 put back at the end, repeated to the size it had. */
function grow(dy: Tensor, shape: readonly number[]): Tensor {
  return expand(reshape(dy, [...dy.shape, 1]), shape);
}

const meanLast = defineOp({
  kernel: 'mean',
  saves: [],
  shapes: true,
  gradient: (_, { y: dy }, __, { x }) => ({ x: grow(div(dy, x.at(-1)!), x) }),
});
/** The product of the others: y / x, but right where some are zero. */
const prodLast: DefinedOp<'prod'> = defineOp({
  kernel: 'prod',
  saves: ['x'],
  gradient({ x }, { y: dy }) {
    const zero = eq(x, 0);
    const zeros = grow(sumOver(castTo(zero, x.slot!.dtype), [x.rank - 1]), x.shape);
    const nonzero = where(zero, 1, x);
    const rest = div(grow(prodLast({ x: nonzero }).y, x.shape), nonzero);
    const others = where(eq(zeros, 0), rest, where(logicalAnd(zero, eq(zeros, 1)), rest, 0));
    return { x: mul(grow(dy, x.shape), others) };
  },
  // Differentiable at zeros too, at the price of a row of factors for every element.
  composed({ x }, { y: dy }) {
    const n = x.shape.at(-1)!;
    const factors = where(castTo(eye(n), Code.bool), 1, expand(unsqueeze(x, -2), [...x.shape.slice(0, -1), n, n]));
    return { x: mul(grow(dy, x.shape), prodLast({ x: factors }).y) };
  },
});
/** Equal extremes share the gradient. */
function toExtremes(x: Tensor, y: Tensor, dy: Tensor): Tensor {
  const at = castTo(eq(x, grow(y, x.shape)), x.slot!.dtype);
  return mul(grow(div(dy, sumOver(at, [x.rank - 1])), x.shape), at);
}
const maxLast = defineOp({
  kernel: 'max',
  saves: ['x', 'y'],
  gradient: ({ x, y }, { y: dy }) => ({ x: toExtremes(x, y, dy) }),
});
const minLast = defineOp({
  kernel: 'min',
  saves: ['x', 'y'],
  gradient: ({ x, y }, { y: dy }) => ({ x: toExtremes(x, y, dy) }),
});
const varianceLast = defineOp({
  kernel: 'variance',
  saves: ['x'],
  auxiliary: ['mean'],
  gradient({ x }, { y: dy }, { correction = 1 }) {
    const n = x.shape.at(-1)!;
    const centred = sub(x, grow(meanLast({ x }).y, x.shape));
    return { x: mul(grow(mul(dy, 2 / Math.max(0, n - correction)), x.shape), centred) };
  },
});
const normLast = defineOp({
  kernel: 'norm',
  saves: ['x', 'y'],
  gradient({ x, y }, { y: dy }, { p = 2 }) {
    if (p === 0) return { x: mul(x, 0) };
    if (p === Infinity) return { x: mul(sign(x), toExtremes(abs(x), y, dy)) };
    if (p === 1) return { x: mul(grow(dy, x.shape), sign(x)) };
    // d|x|_p / dx = x |x|^(p-2) / |x|_p^(p-1), and 0 at the origin
    const scale = where(eq(y, 0), 0, div(dy, p === 2 ? y : pow(y, p - 1)));
    const direction = p === 2 ? x : mul(sign(x), pow(abs(x), p - 1));
    return { x: mul(grow(scale, x.shape), direction) };
  },
});
const logsumexpLast = defineOp({
  kernel: 'logsumexp',
  saves: ['x', 'y'],
  gradient: ({ x, y }, { y: dy }) => ({ x: mul(grow(dy, x.shape), exp(sub(x, grow(finiteOr0(y), x.shape)))) }),
});
/** All of a row -inf: the differences would be NaN, the weights are 0. */
const finiteOr0 = (y: Tensor): Tensor => where(eq(y, -Infinity), 0, y);
const cumsumLast: DefinedOp<'cumsum'> = defineOp({
  kernel: 'cumsum',
  saves: [],
  gradient: (_, { y: dy }) => ({ x: flip(cumsumLast({ x: flip(dy, [-1]) }).y, [-1]) }),
});

/** Sums of integers and bool are int64. */
function summable(op: string, given: Tensor, dtype: Dtype | undefined): Tensor {
  const x = dtype === undefined ? inFloat32(given) : given;
  const from = slotOf(x, op, 'x').dtype;
  return castTo(x, dtypeOr(op, dtype, isFloat(from) ? from : Code.int64));
}

/**
 * The sum over axes `dim`, all by default; 0 for no elements.
 *
 * @param x any shape; integers and bool are summed as int64
 * @returns `x` without the axes `dim`, or with size 1 there (`keepdim`)
 * @throws FOVEA_ARGUMENT for a `dim` that is not there or repeats, FOVEA_DTYPE for a `dtype` of bool, int8 or uint8
 */
export function sum(x: Tensor, dim?: Dims, options?: SumOptions): Tensor {
  const { keepdim, dtype } = optionsArg('sum', options, ['keepdim', 'dtype']);
  const axes = axesOf('sum', x, dim);
  return over(summable('sum', x, dtype), axes, keepdim, (v) => sumOver(v, [v.rank - 1]));
}
/**
 * The mean over axes `dim`, all by default; NaN for no elements.
 *
 * @param x any shape, floats unless `dtype` names some
 * @returns `x` without the axes `dim`, or with size 1 there (`keepdim`)
 * @throws FOVEA_DTYPE for integers and bool, FOVEA_ARGUMENT for a `dim` that is not there or repeats
 */
export function mean(x: Tensor, dim?: Dims, options?: SumOptions): Tensor {
  const { keepdim, dtype } = optionsArg('mean', options, ['keepdim', 'dtype']);
  const axes = axesOf('mean', x, dim);
  return over(castTo(x, dtypeOr('mean', dtype, x.slot!.dtype)), axes, keepdim, (v) => meanLast({ x: v }).y);
}
/**
 * The product over axes `dim`, all by default; 1 for no elements.
 *
 * @param x any shape; integers and bool are multiplied as int64
 * @returns `x` without the axes `dim`, or with size 1 there (`keepdim`)
 * @throws FOVEA_ARGUMENT for a `dim` that is not there or repeats, FOVEA_DTYPE for a `dtype` of bool, int8 or uint8
 */
export function prod(x: Tensor, dim?: Dims, options?: SumOptions): Tensor {
  const { keepdim, dtype } = optionsArg('prod', options, ['keepdim', 'dtype']);
  const axes = axesOf('prod', x, dim);
  return over(summable('prod', x, dtype), axes, keepdim, (v) => prodLast({ x: v }).y);
}
/**
 * The largest element over axes `dim`, all by default; NaN wins. Equal extremes share the gradient.
 *
 * @param x any shape and dtype
 * @returns `x` without the axes `dim`, or with size 1 there (`keepdim`)
 * @throws FOVEA_SHAPE for an empty axis, FOVEA_ARGUMENT for a `dim` that is not there or repeats
 */
export function amax(x: Tensor, dim?: Dims, options?: ReduceOptions): Tensor {
  const { keepdim } = optionsArg('amax', options, ['keepdim']);
  return over(x, filledAxes('amax', x, dim), keepdim, (v) => maxLast({ x: v }).y);
}
/**
 * The smallest element over axes `dim`, all by default; NaN wins. Equal extremes share the gradient.
 *
 * @param x any shape and dtype
 * @returns `x` without the axes `dim`, or with size 1 there (`keepdim`)
 * @throws FOVEA_SHAPE for an empty axis, FOVEA_ARGUMENT for a `dim` that is not there or repeats
 */
export function amin(x: Tensor, dim?: Dims, options?: ReduceOptions): Tensor {
  const { keepdim } = optionsArg('amin', options, ['keepdim']);
  return over(x, filledAxes('amin', x, dim), keepdim, (v) => minLast({ x: v }).y);
}

/** Values and where they were found. */
export interface ValuesAndIndices {
  /** Of the dtype of what they were found in. */
  values: Tensor;
  /** int64, counted along the axis; of the shape of `values`. */
  indices: Tensor;
}
function extreme(op: 'max' | 'min', x: Tensor, dim: number, keepdim: boolean | undefined): ValuesAndIndices {
  const { shape } = slotOf(x, op, 'x');
  if (typeof dim !== 'number') throw argumentError(op, 'dim', 'one dimension', dim, `for several use a${op}()`);
  const [d = 0] = filledAxes(op, x, dim);
  if (shape.length === 0) return { values: reshape(x, []), indices: filled(op, [], 0, Code.int64, x.slot!.device) };
  const arg = op === 'max' ? kernels.argmax : kernels.argmin;
  const indices = reshape(
    arg({ x: movedim(x, d, -1) }, {}).y,
    shape.map((n, i) => (i === d ? 1 : n)),
  );
  const values = gather(x, d, indices);
  if (keepdim) return { values, indices };
  const squeezed = shape.filter((_, i) => i !== d);
  return { values: reshape(values, squeezed), indices: reshape(indices, squeezed) };
}

/**
 * The largest element of all, or with `dim` the largest along that axis and their indices (the first of equals). NaN
 * wins.
 *
 * @param x any shape and dtype
 * @returns 0-d; with `dim`, values and int64 indices, both `x` without that axis
 * @throws FOVEA_SHAPE for an empty axis, FOVEA_ARGUMENT for a `dim` that is not there or a list
 */
export function max(x: Tensor): Tensor;
export function max(x: Tensor, dim: number, options?: ReduceOptions): ValuesAndIndices;
export function max(x: Tensor, dim?: number, options?: ReduceOptions): Tensor | ValuesAndIndices {
  const { keepdim } = optionsArg('max', options, ['keepdim']);
  return dim === undefined ? amax(x) : extreme('max', x, dim, keepdim);
}
/**
 * The smallest element of all, or with `dim` the smallest along that axis and their indices (the first of equals). NaN
 * wins.
 *
 * @param x any shape and dtype
 * @returns 0-d; with `dim`, values and int64 indices, both `x` without that axis
 * @throws FOVEA_SHAPE for an empty axis, FOVEA_ARGUMENT for a `dim` that is not there or a list
 */
export function min(x: Tensor): Tensor;
export function min(x: Tensor, dim: number, options?: ReduceOptions): ValuesAndIndices;
export function min(x: Tensor, dim?: number, options?: ReduceOptions): Tensor | ValuesAndIndices {
  const { keepdim } = optionsArg('min', options, ['keepdim']);
  return dim === undefined ? amin(x) : extreme('min', x, dim, keepdim);
}

function position(
  op: 'argmax' | 'argmin',
  x: Tensor,
  dim: number | undefined,
  options: ReduceOptions | undefined,
): Tensor {
  const { keepdim } = optionsArg(op, options, ['keepdim']);
  const { length } = slotOf(x, op, 'x').shape;
  const axes = dim === undefined ? range(length) : length === 0 ? [] : [dimArg(op, dim, length)];
  return over(x.detach(), axes, keepdim, (v) => kernels[op]({ x: v }, {}).y);
}
/**
 * The index of the largest element along `dim`, or in the flattened tensor: the first of equals, or of NaN.
 *
 * @returns int64, `x` without the axis `dim` (0-d without `dim`), or with size 1 there (`keepdim`)
 * @throws FOVEA_SHAPE for an empty axis, FOVEA_ARGUMENT for a `dim` that is not there
 */
export function argmax(x: Tensor, dim?: number, options?: ReduceOptions): Tensor {
  return position('argmax', x, dim, options);
}
/**
 * The index of the smallest element along `dim`, or in the flattened tensor: the first of equals, or of NaN.
 *
 * @returns int64, `x` without the axis `dim` (0-d without `dim`), or with size 1 there (`keepdim`)
 * @throws FOVEA_SHAPE for an empty axis, FOVEA_ARGUMENT for a `dim` that is not there
 */
export function argmin(x: Tensor, dim?: number, options?: ReduceOptions): Tensor {
  return position('argmin', x, dim, options);
}
/**
 * Whether any element over axes `dim` (all by default) is not 0; false for no elements.
 *
 * @returns bool, `x` without the axes `dim`, or with size 1 there (`keepdim`)
 * @throws FOVEA_ARGUMENT for a `dim` that is not there or repeats
 */
export function any(x: Tensor, dim?: Dims, options?: ReduceOptions): Tensor {
  const { keepdim } = optionsArg('any', options, ['keepdim']);
  const axes = axesOf('any', x, dim);
  return over(castTo(x.detach(), Code.bool), axes, keepdim, (v) => kernels.any({ x: v }, {}).y);
}
/**
 * Whether every element over axes `dim` (all by default) is not 0; true for no elements.
 *
 * @returns bool, `x` without the axes `dim`, or with size 1 there (`keepdim`)
 * @throws FOVEA_ARGUMENT for a `dim` that is not there or repeats
 */
export function all(x: Tensor, dim?: Dims, options?: ReduceOptions): Tensor {
  const { keepdim } = optionsArg('all', options, ['keepdim']);
  const axes = axesOf('all', x, dim);
  return over(castTo(x.detach(), Code.bool), axes, keepdim, (v) => kernels.all({ x: v }, {}).y);
}

/** Options of `variance` and `std`. */
export interface VarianceOptions extends ReduceOptions {
  /** The divisor is n - correction; 1 by default (Bessel's). */
  correction?: number;
}
function spread(op: string, x: Tensor, dim: Dims, options: VarianceOptions | undefined): Tensor {
  const { keepdim, correction = 1 } = optionsArg(op, options, ['keepdim', 'correction']);
  numberArg(op, 'correction', correction);
  return over(x, axesOf(op, x, dim), keepdim, (v) => varianceLast({ x: v }, { correction }).y);
}
/**
 * sum (x - mean)^2 / max(0, n - correction) over axes `dim`, all by default.
 *
 * @param x any shape, floats
 * @returns `x` without the axes `dim`, or with size 1 there (`keepdim`)
 * @throws FOVEA_DTYPE for integers and bool, FOVEA_ARGUMENT for a `dim` that is not there or repeats
 */
export function variance(x: Tensor, dim?: Dims, options?: VarianceOptions): Tensor {
  return spread('variance', x, dim, options);
}
/**
 * The standard deviation over axes `dim`, all by default: the square root of `variance`.
 *
 * @param x any shape, floats
 * @returns `x` without the axes `dim`, or with size 1 there (`keepdim`)
 * @throws FOVEA_DTYPE for integers and bool, FOVEA_ARGUMENT for a `dim` that is not there or repeats
 */
export function std(x: Tensor, dim?: Dims, options?: VarianceOptions): Tensor {
  return sqrt(spread('std', x, dim, options));
}
/** Options of `norm`. */
export interface NormOptions extends ReduceOptions {
  /** The order; default 2. Infinity: the largest magnitude. */
  p?: number;
}
/**
 * (sum |x|^p)^(1/p) over axes `dim`, all by default; for p = 0 the number of elements that are not 0.
 *
 * @param x any shape, floats
 * @returns `x` without the axes `dim`, or with size 1 there (`keepdim`)
 * @throws FOVEA_DTYPE for integers and bool, FOVEA_ARGUMENT for a `dim` that is not there or repeats
 */
export function norm(x: Tensor, dim?: Dims, options?: NormOptions): Tensor {
  const { keepdim, p = 2 } = optionsArg('norm', options, ['keepdim', 'p']);
  numberArg('norm', 'p', p);
  return over(inFloat32(x), axesOf('norm', x, dim), keepdim, (v) => normLast({ x: v }, { p }).y);
}
/**
 * log sum e^x over axes `dim`, all by default, without overflow; -Infinity for no elements.
 *
 * @param x any shape; integers and bool become float32
 * @returns `x` without the axes `dim`, or with size 1 there (`keepdim`)
 * @throws FOVEA_ARGUMENT for a `dim` that is not there or repeats
 */
export function logsumexp(x: Tensor, dim?: Dims, options?: ReduceOptions): Tensor {
  const { keepdim } = optionsArg('logsumexp', options, ['keepdim']);
  return over(
    floating(inFloat32(x), 'logsumexp'),
    axesOf('logsumexp', x, dim),
    keepdim,
    (v) => logsumexpLast({ x: v }).y,
  );
}
/**
 * Sums of the elements up to each along `dim`.
 *
 * @param x any shape; integers and bool are summed as int64, unless `dtype` names another
 * @returns the shape of `x`
 * @throws FOVEA_ARGUMENT for a `dim` that is not there, FOVEA_DTYPE for a `dtype` of bool, int8 or uint8
 */
export function cumsum(x: Tensor, dim: number, options?: { dtype?: Dtype }): Tensor {
  const { dtype } = optionsArg('cumsum', options, ['dtype']);
  const d = dimArg('cumsum', dim, slotOf(x, 'cumsum', 'x').shape.length);
  const from = summable('cumsum', x, dtype);
  if (x.rank === 0) return from;
  return movedim(cumsumLast({ x: movedim(from, d, -1) }).y, -1, d);
}
