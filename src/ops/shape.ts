/** Views: other shapes of the same storage, without a kernel and without a copy (unless a reshape needs one). */
import { FoveaError } from '../errors.js';
import { argumentError, countArg, dimArg, dimsArg, integerArg, shapeError } from '../tensor/check.js';
import { denseStrides, range, sizeOf, stridesUnder, type Shape } from '../tensor/layout.js';
import { allocate } from '../tensor/storage.js';
import { slotOf, viewOf, type Tensor } from '../tensor/tensor.js';
import { record, recordMany } from '../autograd/node.js';
import { clone } from './cast.js';
import { kernels } from './kernels.gen.js';

/** Fills in the one size that may be given as -1. */
function resolveShape(op: string, wanted: Shape, size: number): number[] {
  if (!Array.isArray(wanted)) throw argumentError(op, 'shape', 'a list of sizes such as [2, -1]', wanted);
  let open = -1;
  let known = 1;
  const shape = (wanted as readonly unknown[]).map((n, i) => {
    if (typeof n !== 'number' || !Number.isSafeInteger(n) || n < -1)
      throw argumentError(op, 'shape', 'sizes of at least 0, or one -1', wanted);
    if (n === -1 && open >= 0) throw argumentError(op, 'shape', 'at most one -1', wanted);
    if (n === -1) open = i;
    else known *= n;
    return n;
  });
  if (open >= 0) shape[open] = known === 0 ? 0 : size / known;
  if (shape.length > 8) throw argumentError(op, 'shape', 'at most 8 sizes', wanted);
  return shape;
}

/**
 * The elements of `x` in the same order under another shape: a view where the layout allows it, else a copy.
 * @param shape sizes; one may be -1 and follows from the rest
 * @returns a tensor of `shape`
 * @throws FOVEA_SHAPE if the sizes do not multiply to the number of elements
 */
export function reshape(x: Tensor, shape: Shape): Tensor {
  const before = slotOf(x, 'reshape', 'x').shape;
  const size = sizeOf(before);
  const after = resolveShape('reshape', shape, size);
  if (sizeOf(after) !== size || !after.every(Number.isInteger))
    throw shapeError('reshape', `[${before.join(',')}] has ${size} elements, which [${shape.join(',')}] does not hold`);
  const strides = stridesUnder(before, x.strides, after);
  const base = strides ? x : clone(x);
  return record('reshape', [base], viewOf(base, after, strides ?? denseStrides(after)), (dy) => [reshape(dy, before)]);
}

/**
 * Like `reshape`, but never copies.
 * @returns a view of `shape`
 * @throws FOVEA_LAYOUT where the layout does not allow a view, FOVEA_SHAPE for another number of elements
 */
export function view(x: Tensor, shape: Shape): Tensor {
  const before = slotOf(x, 'view', 'x').shape;
  const after = resolveShape('view', shape, sizeOf(before));
  if (sizeOf(after) === sizeOf(before) && !stridesUnder(before, x.strides, after))
    throw new FoveaError(
      'FOVEA_LAYOUT',
      `view: [${before.join(',')}] with strides [${x.strides.join(',')}] cannot be seen as [${shape.join(',')}] without a copy; use reshape()`,
    );
  return reshape(x, shape);
}

/**
 * Merges the axes from `startDim` to `endDim` (both included) into one; a 0-d tensor becomes [1].
 * @returns [...before, product, ...behind]; a view where the layout allows it
 * @throws FOVEA_ARGUMENT for axes that are not there or in the wrong order
 */
export function flatten(x: Tensor, startDim = 0, endDim = -1): Tensor {
  const { shape } = slotOf(x, 'flatten', 'x');
  const start = dimArg('flatten', startDim, shape.length, 'startDim');
  const end = dimArg('flatten', endDim, shape.length, 'endDim');
  if (start > end) throw argumentError('flatten', 'endDim', `a dimension of at least startDim = ${start}`, endDim);
  return reshape(x, [...shape.slice(0, start), sizeOf(shape.slice(start, end + 1)), ...shape.slice(end + 1)]);
}

/**
 * Cuts one axis into several; one of `sizes` may be -1.
 * @returns [...before, ...sizes, ...behind]
 * @throws FOVEA_SHAPE if the sizes do not multiply to that of the axis, FOVEA_ARGUMENT for a -1 that no size fits or no
 *   such `dim`
 */
export function unflatten(x: Tensor, dim: number, sizes: Shape): Tensor {
  const { shape } = slotOf(x, 'unflatten', 'x');
  const d = dimArg('unflatten', dim, shape.length);
  return reshape(x, [...shape.slice(0, d), ...resolveShape('unflatten', sizes, shape[d]!), ...shape.slice(d + 1)]);
}

/**
 * A view without axes of size 1: without all of them, or without those given (which stay if they are larger).
 * @throws FOVEA_ARGUMENT for a `dim` that is not there or repeats
 */
export function squeeze(x: Tensor, dim?: number | readonly number[]): Tensor {
  const { shape } = slotOf(x, 'squeeze', 'x');
  const dims = dim === undefined ? range(shape.length) : dimsArg('squeeze', dim, shape.length);
  return reshape(
    x,
    shape.filter((n, i) => n !== 1 || !dims.includes(i)),
  );
}

/**
 * A view with an axis of size 1 at `dim`, which may be the rank.
 * @returns [...before, 1, ...behind]
 * @throws FOVEA_ARGUMENT for a `dim` beyond the rank
 */
export function unsqueeze(x: Tensor, dim: number): Tensor {
  const { shape } = slotOf(x, 'unsqueeze', 'x');
  const d = dimArg('unsqueeze', dim, shape.length + 1);
  return reshape(x, [...shape.slice(0, d), 1, ...shape.slice(d)]);
}

/**
 * A view with the axes in the order of `dims`: axis i of the result is axis dims[i] of `x`.
 * @throws FOVEA_ARGUMENT unless `dims` names each axis once
 */
export function permute(x: Tensor, dims: readonly number[]): Tensor {
  const { shape, strides } = slotOf(x, 'permute', 'x');
  const order = dimsArg('permute', dims, shape.length, 'dims');
  if (order.length !== shape.length) throw argumentError('permute', 'dims', `all ${shape.length} dimensions`, dims);
  const inverse = new Array<number>(order.length);
  order.forEach((from, to) => (inverse[from] = to));
  const out = viewOf(
    x,
    order.map((i) => shape[i]!),
    order.map((i) => strides[i]!),
  );
  return record('permute', [x], out, (dy) => [permute(dy, inverse)]);
}

/**
 * A view with two axes swapped.
 * @throws FOVEA_ARGUMENT for axes that are not there
 */
export function transpose(x: Tensor, dim0: number, dim1: number): Tensor {
  const { shape } = slotOf(x, 'transpose', 'x');
  const a = dimArg('transpose', dim0, shape.length, 'dim0');
  const b = dimArg('transpose', dim1, shape.length, 'dim1');
  if (a === b) return x;
  const order = range(shape.length);
  order[a] = b;
  order[b] = a;
  return permute(x, order);
}

/**
 * The transposed matrix, as a view; tensors of rank 0 and 1 are their own.
 * @param x [m, n]
 * @returns [n, m]
 * @throws FOVEA_SHAPE for more than two axes
 */
export function t(x: Tensor): Tensor {
  const { shape } = slotOf(x, 't', 'x');
  if (shape.length > 2)
    throw shapeError('t', `expected a matrix, received [${shape.join(',')}]; use transpose(dim0, dim1)`);
  return shape.length < 2 ? x : transpose(x, 0, 1);
}

/**
 * A view with axis `source` moved to `destination`; the others keep their order.
 * @throws FOVEA_ARGUMENT for axes that are not there
 */
export function movedim(x: Tensor, source: number, destination: number): Tensor {
  const { shape } = slotOf(x, 'movedim', 'x');
  const from = dimArg('movedim', source, shape.length, 'source');
  const to = dimArg('movedim', destination, shape.length, 'destination');
  const order = range(shape.length).filter((i) => i !== from);
  order.splice(to, 0, from);
  return permute(x, order);
}

/**
 * A view of every `step`-th element along `dim`, from `start` up to but without `end`. Negative positions count from
 * the end, and positions outside are moved to the nearest inside, as in Python.
 * @returns `x` with ceil((end - start) / step) elements along `dim`
 * @throws FOVEA_SHAPE for a 0-d tensor, FOVEA_ARGUMENT for a `dim` that is not there or a `step` below 1
 */
export function slice(x: Tensor, dim: number, start = 0, end: number = Number.MAX_SAFE_INTEGER, step = 1): Tensor {
  const { shape, strides } = slotOf(x, 'slice', 'x');
  const d = dimArg('slice', dim, shape.length);
  if (shape.length === 0) throw shapeError('slice', 'a 0-d tensor has no axis to slice');
  const n = shape[d]!;
  const inside = (at: number): number => Math.min(Math.max(at < 0 ? at + n : at, 0), n);
  const from = inside(integerArg('slice', 'start', start));
  const to = Math.max(inside(integerArg('slice', 'end', end)), from);
  countArg('slice', 'step', step, 1);
  const after = [...shape];
  after[d] = Math.ceil((to - from) / step);
  const steps = [...strides];
  steps[d] = strides[d]! * step;
  const offset = sizeOf(after) === 0 ? 0 : from * strides[d]!;
  return record('slice', [x], viewOf(x, after, steps, offset), (dy) => [embed(dy, shape, d, from, step)]);
}

/**
 * Zeros of `shape` with `x` where `slice` took it from: the gradient of slice.
 * @returns a tensor of `shape`
 */
export function embed(x: Tensor, shape: Shape, dim: number, start: number, step: number): Tensor {
  const out = allocate(shape, x.slot!.dtype, x.slot!.device);
  kernels.fill_({ x: out }, { value: 0 });
  const n = x.shape[dim]!;
  if (sizeOf(x.shape) > 0) {
    const strides = denseStrides(shape);
    const steps = [...strides];
    steps[dim] = strides[dim]! * step;
    const window = viewOf(out, x.shape, steps, start * strides[dim]!);
    kernels.copy_({ y: window, x }, {});
    window.dispose();
  }
  return record('sliceBackward', [x], out, (dy) => [slice(dy, dim, start, start + (n - 1) * step + 1, step)]);
}

/**
 * A view of `length` elements along `dim`, from `start` on. Unlike `slice` it refuses what lies outside.
 * @returns `x` with `length` elements along `dim`
 * @throws FOVEA_INDEX if [start, start + length) lies outside, FOVEA_ARGUMENT for a `dim` that is not there
 */
export function narrow(x: Tensor, dim: number, start: number, length: number): Tensor {
  const { shape } = slotOf(x, 'narrow', 'x');
  const d = dimArg('narrow', dim, shape.length);
  const n = shape[d] ?? 0;
  const from = integerArg('narrow', 'start', start) < 0 ? start + n : start;
  countArg('narrow', 'length', length);
  if (from < 0 || from + length > n)
    throw new FoveaError(
      'FOVEA_INDEX',
      `narrow: ${start} + ${length} lies outside of axis ${d} of [${shape.join(',')}]`,
    );
  return slice(x, d, from, from + length);
}

/**
 * The view at one index of `dim`; a negative index counts from the end.
 * @returns `x` without the axis `dim`
 * @throws FOVEA_INDEX if the index lies outside, FOVEA_ARGUMENT for a `dim` that is not there
 */
export function select(x: Tensor, dim: number, index: number): Tensor {
  const { shape } = slotOf(x, 'select', 'x');
  const d = dimArg('select', dim, shape.length);
  const n = shape[d] ?? 0;
  const at = integerArg('select', 'index', index) < 0 ? index + n : index;
  if (at < 0 || at >= n)
    throw new FoveaError('FOVEA_INDEX', `select: index ${index} lies outside of axis ${d} of [${shape.join(',')}]`);
  return reshape(
    slice(x, d, at, at + 1),
    shape.filter((_, i) => i !== d),
  );
}

/**
 * The views at every index of `dim`.
 * @returns as many as the axis is long, each `x` without it
 * @throws FOVEA_ARGUMENT for a `dim` that is not there
 */
export function unbind(x: Tensor, dim = 0): Tensor[] {
  const { shape } = slotOf(x, 'unbind', 'x');
  const d = dimArg('unbind', dim, shape.length);
  const rest = shape.filter((_, i) => i !== d);
  const parts = split(x, 1, d).slice(0, shape[d]); // an empty axis still gives one part, which is empty
  return parts.map((part) => reshape(part, rest));
}

/**
 * Views along `dim`: of `size` elements each (the last may be smaller), or of the sizes given.
 * @throws FOVEA_SHAPE if the sizes do not add up to that of the axis, FOVEA_ARGUMENT for a size below 1 or no `dim`
 */
export function split(x: Tensor, size: number | readonly number[], dim = 0): Tensor[] {
  const { shape } = slotOf(x, 'split', 'x');
  const d = dimArg('split', dim, shape.length);
  const n = shape[d] ?? 0;
  const sizes = typeof size === 'number' ? evenly(n, countArg('split', 'size', size, 1)) : size;
  if (!Array.isArray(sizes)) throw argumentError('split', 'size', 'a size or a list of sizes', size);
  const at = (sizes as readonly number[]).reduce((sum, length) => sum + countArg('split', 'size', length), 0);
  if (at !== n)
    throw shapeError(
      'split',
      `the sizes [${sizes.join(',')}] add up to ${at}, but axis ${d} of [${shape.join(',')}] has ${n}`,
    );
  return parted(x, d, sizes as readonly number[]);
}

/** Views of the given sizes. Their gradients are written side by side, without a tensor of zeros for each. */
function parted(x: Tensor, dim: number, sizes: readonly number[]): Tensor[] {
  const { shape, dtype, device, strides } = x.slot!;
  let at = 0;
  const parts = sizes.map((length) => {
    const part = shape.map((n, i) => (i === dim ? length : n));
    const offset = sizeOf(part) === 0 ? 0 : at * (strides[dim] ?? 0);
    at += length;
    return viewOf(x, part, strides, offset);
  });
  return recordMany('split', [x], parts, (d) => [assembled(d, shape, strides, dim, sizes, { dtype, device })]);
}

/** The parts side by side and zeros for those missing, laid out in memory like what they are the gradient of. */
function assembled(
  parts: readonly (Tensor | undefined)[],
  shape: Shape,
  like: Shape,
  dim: number,
  sizes: readonly number[],
  { dtype, device }: { dtype: number; device: number },
): Tensor {
  const order = range(shape.length).sort((a, b) => like[b]! - like[a]!);
  const memory = allocate(
    order.map((i) => shape[i]!),
    dtype,
    device,
  );
  const strides = new Array<number>(shape.length);
  order.forEach((axis, i) => (strides[axis] = memory.strides[i]!));
  const out = viewOf(memory, shape, strides);
  let at = 0;
  sizes.forEach((length, i) => {
    const y = viewOf(
      out,
      shape.map((n, a) => (a === dim ? length : n)),
      strides,
      length ? at * strides[dim]! : 0,
    );
    const x = parts[i];
    if (x) kernels.copy_({ y, x }, {});
    else kernels.fill_({ x: y }, { value: 0 });
    y.dispose();
    at += length;
  });
  memory.dispose();
  return record('splitBackward', parts, out, (dy) => parted(dy, dim, sizes));
}

function evenly(n: number, size: number): number[] {
  const sizes = range(Math.max(1, Math.ceil(n / size))).map(() => size);
  if (n % size || n === 0) sizes[sizes.length - 1] = n % size;
  return sizes;
}

/**
 * At most `chunks` views of equal size along `dim`; the last may be smaller.
 * @throws FOVEA_ARGUMENT for fewer than one chunk or a `dim` that is not there
 */
export function chunk(x: Tensor, chunks: number, dim = 0): Tensor[] {
  const { shape } = slotOf(x, 'chunk', 'x');
  const d = dimArg('chunk', dim, shape.length);
  countArg('chunk', 'chunks', chunks, 1);
  return split(x, Math.max(1, Math.ceil((shape[d] ?? 0) / chunks)), d);
}

/**
 * The diagonal view of a square or rectangular matrix.
 * @param x [m, n]
 * @returns [min(m, n)]
 * @throws FOVEA_SHAPE for what is no matrix
 */
export function diagonal(x: Tensor): Tensor {
  const { shape, strides } = slotOf(x, 'diagonal', 'x');
  if (shape.length !== 2) throw shapeError('diagonal', `expected a matrix, received [${shape.join(',')}]`);
  const n = Math.min(shape[0]!, shape[1]!);
  const out = viewOf(x, [n], [strides[0]! + strides[1]!]);
  return record('diagonal', [x], out, (dy) => [embedDiagonal(dy, shape)]);
}

function embedDiagonal(x: Tensor, shape: Shape): Tensor {
  const out = allocate(shape, x.slot!.dtype, x.slot!.device);
  kernels.fill_({ x: out }, { value: 0 });
  const window = viewOf(out, x.shape, [shape[1]! + 1]);
  kernels.copy_({ y: window, x }, {});
  window.dispose();
  return record('diagonalBackward', [x], out, (dy) => [diagonal(dy)]);
}
