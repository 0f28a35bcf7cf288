/** Reading and writing where an index tensor says. An index outside of its axis fails with the index and the size. */
import { FoveaError } from '../errors.js';
import { argumentError, countArg, dimArg, dimsArg, integerArg, optionsArg, shapeError } from '../tensor/check.js';
import { Code, isFloat } from '../tensor/dtype.js';
import { sameShape, sizeOf, type Shape } from '../tensor/layout.js';
import { slotOf, type Tensor } from '../tensor/tensor.js';
import { record } from '../autograd/node.js';
import { widest } from './autocast.js';
import { clone } from './cast.js';
import { eq } from './compare.js';
import { arange, filled } from './creation.js';
import { defineOp, type DefinedOp } from './define-op.js';
import { kernels } from './kernels.gen.js';
import { maskArg } from './select.js';
import { movedim, narrow, reshape, unsqueeze } from './shape.js';

/** The index as the kernels take it: any integer dtype. */
function indexSlot(op: string, index: Tensor): void {
  const { dtype } = slotOf(index, op, 'index');
  if (isFloat(dtype) || dtype === Code.bool)
    throw new FoveaError(
      'FOVEA_DTYPE',
      `${op}: expected an integer tensor for index, received ${index.dtype}; convert it with .to('int64')`,
    );
}

/** `x` cut to the index along all axes but `dim`, with `dim` last. */
function alignedTo(op: string, x: Tensor, index: Tensor, dim: number): Tensor {
  if (x.rank !== index.rank)
    throw shapeError(op, `index has ${index.rank} axes but x has ${x.rank}; they must be the same number`);
  let cut = x;
  index.shape.forEach((n, i) => {
    if (i === dim || n === x.shape[i]) return;
    if (n > x.shape[i]!)
      throw shapeError(op, `index [${index.shape.join(',')}] is larger than x [${x.shape.join(',')}] along axis ${i}`);
    cut = narrow(cut, i, 0, n);
  });
  return last(cut, dim);
}
const last = (x: Tensor, dim: number): Tensor => (dim === x.rank - 1 ? x : movedim(x, dim, -1));
const scalarsAsRows = (x: Tensor): Tensor => (x.rank === 0 ? reshape(x, [1]) : x);

/**
 * y[i][j] = x[index[i][j]][j] for `dim` = 0, and so on.
 *
 * @param index integers of the rank of `x`, at most as large as `x` along the other axes; negative ones are refused
 * @returns the shape of `index`, the dtype of `x`
 * @throws FOVEA_SHAPE if the index does not fit, FOVEA_DTYPE for one of floats or bool, FOVEA_ARGUMENT for a `dim` that
 *   is not there; rejects with FOVEA_INDEX for an index outside of its axis
 */
export function gather(x: Tensor, dim: number, index: Tensor): Tensor {
  const { shape } = slotOf(x, 'gather', 'x');
  indexSlot('gather', index);
  const d = dimArg('gather', dim, shape.length);
  if (shape.length === 0) return reshape(gather(scalarsAsRows(x), 0, scalarsAsRows(index)), index.shape);
  const aligned = alignedTo('gather', x.detach(), index, d);
  const y = kernels.gather({ x: aligned, index: last(index, d) }, {}).y;
  const out = d === shape.length - 1 ? y : movedim(y, -1, d);
  const gradient = (dy: Tensor, [held]: readonly Tensor[]): Tensor[] => [
    scatterAdd(filled('gather', shape, 0, dy.slot!.dtype, dy.slot!.device), d, held!, dy),
  ];
  return record('gather', [x], out, gradient, [index]);
}

function writeAt(op: 'scatter_' | 'scatterAdd_', y: Tensor, dim: number, index: Tensor, src: Tensor): void {
  const target = alignedTo(op, y.detach(), index, dim);
  const used = index.shape.reduce(
    (cut, n, d) => (d === dim && n < cut.shape[d]! ? narrow(cut, d, 0, n) : cut),
    src.detach(),
  );
  const values = alignedTo(op, used, index, dim);
  kernels[op]({ y: target, index: last(index, dim), src: values }, {});
}

function scattered(op: 'scatter' | 'scatterAdd', x: Tensor, dim: number, index: Tensor, src: Tensor): Tensor {
  const d = dimArg(op, dim, slotOf(x, op, 'x').shape.length);
  indexSlot(op, index);
  const from = slotOf(src, op, 'src');
  if (from.dtype !== x.slot!.dtype)
    throw new FoveaError(
      'FOVEA_DTYPE',
      `${op}: src is ${src.dtype}, but x is ${x.dtype}; convert it with .to('${x.dtype}')`,
    );
  const out = kernels.copy({ x }, {}).y;
  if (x.rank === 0) writeAt(`${op}_`, reshape(out, [1]), 0, scalarsAsRows(index), scalarsAsRows(src));
  else writeAt(`${op}_`, out, d, index, src);
  const { shape } = from;
  const gradient = (dy: Tensor, [held]: readonly Tensor[]): Tensor[] => {
    const dsrc = embedFront(gather(dy, d, held!), shape);
    return op === 'scatterAdd' ? [dy, dsrc] : [scatter(dy, d, held!, 0), dsrc];
  };
  return record(op, [x, src], out, gradient, [index]);
}

/** A gradient for the part of `src` that was used, with zeros for the rest. */
function embedFront(dy: Tensor, shape: Shape): Tensor {
  if (dy.shape.every((n, i) => n === shape[i])) return dy;
  const out = filled('scatter', shape, 0, dy.slot!.dtype, dy.slot!.device);
  let window = out;
  dy.shape.forEach((n, i) => (window = narrow(window, i, 0, n)));
  kernels.copy_({ y: window, x: dy }, {});
  const cut = dy.shape;
  return record('scatterBackward', [dy], out, (ddy) => [cut.reduce((g, n, i) => narrow(g, i, 0, n), ddy)]);
}

/**
 * A copy of `x` with y[index[i][j]][j] = src[i][j] for `dim` = 0, and so on. Where an index repeats, the last wins.
 *
 * @param index integers of the rank of `x`, at most as large as `x` along the other axes; negative ones are refused
 * @param src of the dtype of `x`, at least as large as the index; or one number
 * @returns the shape and dtype of `x`
 * @throws FOVEA_SHAPE if the shapes do not fit, FOVEA_DTYPE for an index of floats or bool or another dtype of src,
 *   FOVEA_ARGUMENT for a `dim` that is not there; rejects with FOVEA_INDEX for an index outside of its axis
 */
export function scatter(x: Tensor, dim: number, index: Tensor, src: Tensor | number): Tensor {
  if (typeof src !== 'number') return scattered('scatter', x, dim, index, src);
  const { dtype, device } = slotOf(x, 'scatter', 'x');
  const { shape } = slotOf(index, 'scatter', 'index');
  return scattered('scatter', x, dim, index, filled('scatter', shape, src, dtype, device));
}
/**
 * Like `scatter`, but adds to what is there, also where an index repeats.
 *
 * @param src of the dtype of `x`, at least as large as the index
 * @returns the shape and dtype of `x`
 * @throws what `scatter` throws, and FOVEA_DTYPE for bool
 */
export function scatterAdd(x: Tensor, dim: number, index: Tensor, src: Tensor): Tensor {
  const [y, added] = widest(x, src);
  return scattered('scatterAdd', y, dim, index, added);
}

const rowsOf = (shape: Shape, dim: number): [number, number, number] => [
  sizeOf(shape.slice(0, dim)),
  shape[dim]!,
  sizeOf(shape.slice(dim + 1)),
];

const indexSelectOp: DefinedOp<'indexSelect'> = defineOp({
  kernel: 'indexSelect',
  saves: ['index'],
  shapes: true,
  gradient({ index }, { y: dy }, _, { x }) {
    const out = filled('indexSelect', x, 0, dy.slot!.dtype, dy.slot!.device);
    kernels.indexAdd_({ y: out, index, src: dy }, {});
    const again = (ddy: Tensor, [held]: readonly Tensor[]): Tensor[] => [indexSelectOp({ x: ddy, index: held! }).y];
    return { x: record('indexSelectBackward', [dy], out, again, [index]) };
  },
});

/**
 * The slices of `x` at the given indices of axis `dim`, one after the other.
 *
 * @param index integers [m], or 0-d; negative ones are refused
 * @returns `x` with m elements along `dim`
 * @throws FOVEA_SHAPE for an index of more axes, FOVEA_DTYPE for one of floats or bool, FOVEA_ARGUMENT for a `dim` that
 *   is not there; rejects with FOVEA_INDEX for an index outside of the axis
 */
export function indexSelect(x: Tensor, dim: number, index: Tensor): Tensor {
  const { shape } = slotOf(x, 'indexSelect', 'x');
  indexSlot('indexSelect', index);
  if (index.rank > 1)
    throw shapeError('indexSelect', `expected a list of indices, received [${index.shape.join(',')}]`);
  const d = dimArg('indexSelect', dim, shape.length);
  if (shape.length === 0) return reshape(indexSelect(reshape(x, [1]), 0, index), []);
  const y = indexSelectOp({ x: reshape(x, rowsOf(shape, d)), index: scalarsAsRows(index) }).y;
  return reshape(y, [...shape.slice(0, d), sizeOf(index.shape), ...shape.slice(d + 1)]);
}

/**
 * A copy of `x` with the order of the elements turned round along each of `dims`.
 *
 * @returns the shape and dtype of `x`
 * @throws FOVEA_ARGUMENT for dims that are not there or repeat
 */
export function flip(x: Tensor, dims: number | readonly number[]): Tensor {
  const { shape } = slotOf(x, 'flip', 'x');
  if (shape.length === 0) return clone(x);
  let y = x;
  for (const d of dimsArg('flip', dims, shape.length, 'dims')) y = indexSelect(y, d, backwards(shape[d]!, x));
  return y === x ? clone(x) : y;
}
const backwards = (n: number, { device }: Tensor): Tensor =>
  n === 0 ? arange(0, { device }) : arange(n - 1, -1, -1, { device });

/** Options of `embedding`. */
export interface EmbeddingOptions {
  /** The row of the table that gets no gradient; negative ones count from the end. */
  paddingIdx?: number;
}
const embeddingOp: DefinedOp<'embedding'> = defineOp({
  kernel: 'embedding',
  saves: ['ids'],
  shapes: true,
  gradient: ({ ids }, { y: dy }, _, { weight }) => ({ weight: tableGradient(ids, dy, weight[0]!, -1) }),
});
function tableGradient(ids: Tensor, dy: Tensor, rows: number, paddingIndex: number): Tensor {
  const { dweight } = kernels.embeddingBackward({ ids, dy }, { rows, paddingIndex });
  const again = (ddw: Tensor, [held]: readonly Tensor[]): Tensor[] => [
    padded(embeddingOp({ weight: ddw, ids: held! }).y, held!, paddingIndex),
  ];
  return record('embeddingBackward', [dy], dweight, again, [ids]);
}
/** Rows of the padding gave nothing to the table. */
function padded(dy: Tensor, ids: Tensor, paddingIndex: number): Tensor {
  if (paddingIndex < 0) return dy;
  const out = kernels.where({ condition: unsqueeze(eq(ids, paddingIndex), -1), b: dy.detach() }, { scalarA: 0 }).c;
  return record('embeddingPadding', [dy], out, (ddy, [held]) => [padded(ddy, held!, paddingIndex)], [ids]);
}

/**
 * Rows of a table: y[..., :] = weight[ids[...], :].
 *
 * @param ids integers of any shape
 * @param weight [rows, d]
 * @returns [...ids, d], the dtype of `weight`
 * @throws FOVEA_DTYPE for ids of floats or bool, FOVEA_SHAPE for a table that is no matrix, FOVEA_ARGUMENT for a
 *   `paddingIdx` that is no row; rejects with FOVEA_INDEX if an id is not a row
 */
export function embedding(ids: Tensor, weight: Tensor, options?: EmbeddingOptions): Tensor {
  const { paddingIdx } = optionsArg('embedding', options, ['paddingIdx']);
  indexSlot('embedding', ids);
  slotOf(weight, 'embedding', 'weight');
  if (paddingIdx === undefined) return embeddingOp({ weight, ids }).y;
  const rows = weight.shape[0] ?? 0;
  const padding = integerArg('embedding', 'paddingIdx', paddingIdx) < 0 ? paddingIdx + rows : paddingIdx;
  if (padding < 0 || padding >= rows)
    throw argumentError('embedding', 'paddingIdx', `a row from ${-rows} to ${rows - 1}`, paddingIdx);
  const { y } = kernels.embedding({ weight, ids }, {});
  return record('embedding', [weight], y, (dy, [held]) => [tableGradient(held!, dy, rows, padding)], [ids]);
}

/**
 * 1 at the class of each element and 0 elsewhere.
 *
 * @param x integers of any shape
 * @param numClasses at least 1
 * @returns int64 [...x, numClasses]
 * @throws FOVEA_DTYPE for floats and bool, FOVEA_ARGUMENT for fewer than one class; rejects with FOVEA_INDEX where an
 * element is no class
 */
export function oneHot(x: Tensor, numClasses: number): Tensor {
  indexSlot('oneHot', x);
  countArg('oneHot', 'numClasses', numClasses, 1);
  const { shape, device } = x.slot!;
  const y = filled('oneHot', [...shape, numClasses], 0, Code.int64, device);
  const one = filled('oneHot', [...shape, 1], 1, Code.int64, device);
  kernels.scatter_({ y, index: unsqueeze(x.detach(), -1), src: one }, {});
  return y;
}

/**
 * The indices of all elements that are not 0, one per row, in row-major order. Waits for their number.
 *
 * @param x any shape and dtype
 * @returns int64 [count, rank]
 */
export async function nonzero(x: Tensor): Promise<Tensor> {
  const { length } = slotOf(x, 'nonzero', 'x').shape;
  const held = x.detach();
  held.kept = true;
  const { count } = kernels.countNonzero({ x: held }, {});
  count.kept = true;
  try {
    return kernels.nonzero({ x: held }, { count: await count.item(), rank: length }).index;
  } finally {
    count.dispose();
    held.dispose();
  }
}

/**
 * The elements where `mask` is true, in row-major order. Waits for their number.
 *
 * @param mask bool, of the shape of `x`
 * @returns [count], the dtype of `x`
 * @throws rejects with FOVEA_DTYPE for a mask that is not bool, FOVEA_SHAPE for one of another shape
 */
export async function maskedSelect(x: Tensor, mask: Tensor): Promise<Tensor> {
  const { shape } = slotOf(x, 'maskedSelect', 'x');
  maskArg('maskedSelect', mask);
  if (!sameShape(shape, mask.shape))
    throw shapeError('maskedSelect', `expected a mask [${shape.join(',')}], received [${mask.shape.join(',')}]`);
  const flat = reshape(x, [x.size]);
  const places = await nonzero(reshape(mask, [x.size]));
  return indexSelect(flat, 0, reshape(places, [places.size]));
}
