/**
 * Products of groups of neighbouring rows, each with a matrix of its own: what a mixture of experts computes once its
 * rows are sorted by expert (Shazeer et al. 2017, https://arxiv.org/abs/1701.06538).
 *
 *   groupedMatmul   y_g = x_g weights[g]        groupedOuter   c[g] = a_g^T b_g, the gradient of the weights
 *
 * The first row of group g is the end of group g - 1. Each is the other's gradient, so there are gradients of any
 * order.
 */
import { FoveaError } from '../errors.js';
import { shapeError } from '../tensor/check.js';
import { deviceName } from '../tensor/device.js';
import { Code, isFloat } from '../tensor/dtype.js';
import { slotOf, type Tensor } from '../tensor/tensor.js';
import { lowered, toLowered } from './autocast.js';
import { defineOp, type DefinedOp } from './define-op.js';
import { concat, stack } from './join.js';
import { matmul, swapped } from './matmul.js';
import { resultType } from './promote.js';
import { sum } from './reduce.js';
import { narrow, select, unsqueeze } from './shape.js';

/** Where each group begins and how many rows it has; reads `offs`, and so waits for it. @throws FOVEA_INDEX */
function rangesOf(op: string, offs: Tensor, rows: number): [begin: number, rows: number][] {
  let begin = 0;
  const ranges = (offs.toArraySync() as (number | bigint)[]).map((value, g): [number, number] => {
    const end = Number(value);
    if (end < begin || end > rows)
      throw new FoveaError(
        'FOVEA_INDEX',
        `${op}: offs[${g}] is ${end}, but its group begins at row ${begin} of ${rows}; offsets are where groups end, and must not decrease`,
      );
    const range: [number, number] = [begin, end - begin];
    begin = end;
    return range;
  });
  if (begin === rows) return ranges;
  throw new FoveaError(
    'FOVEA_INDEX',
    `${op}: offs ends at ${begin}, but there are ${rows} rows; the last group must end with them`,
  );
}

const groupedMatmulOp: DefinedOp<'groupedMatmul'> = defineOp({
  kernel: 'groupedMatmul',
  saves: ({ x, weights }) =>
    x.tracked ? (weights.tracked ? ['x', 'weights', 'offs'] : ['weights', 'offs']) : ['x', 'offs'],
  reference({ x, weights, offs }) {
    const groups = rangesOf('groupedMatmul', offs, x.shape[0]!);
    // without groups there are no rows, but the result still has its width, and gradients lead to both operands
    if (groups.length === 0) return { y: matmul(x, sum(weights, 0)) };
    return { y: concat(groups.map(([begin, rows], g) => matmul(narrow(x, 0, begin, rows), select(weights, 0, g)))) };
  },
  gradient: ({ x, weights, offs }, { y: dy }, _, __, wants) => ({
    x: wants.x ? groupedMatmulOp({ x: dy, weights: swapped(weights), offs }).y : undefined,
    weights: wants.weights ? groupedOuterOp({ a: x, b: dy, offs }).c : undefined,
  }),
});
const groupedOuterOp: DefinedOp<'groupedOuter'> = defineOp({
  kernel: 'groupedOuter',
  saves: ({ a, b }) => (a.tracked ? (b.tracked ? ['a', 'b', 'offs'] : ['b', 'offs']) : ['a', 'offs']),
  reference({ a, b, offs }) {
    const groups = rangesOf('groupedOuter', offs, a.shape[0]!);
    if (groups.length === 0) return { c: narrow(unsqueeze(matmul(swapped(a), b), 0), 0, 0, 0) };
    return {
      c: stack(groups.map(([begin, rows]) => matmul(swapped(narrow(a, 0, begin, rows)), narrow(b, 0, begin, rows)))),
    };
  },
  gradient: ({ a, b, offs }, { c: dc }, _, __, wants) => ({
    a: wants.a ? groupedMatmulOp({ x: b, weights: swapped(dc), offs }).y : undefined,
    b: wants.b ? groupedMatmulOp({ x: a, weights: dc, offs }).y : undefined,
  }),
});

const listed = (t: Tensor): string => `[${t.shape.join(',')}]`;
const dtypeError = (name: string, expected: string, t: Tensor, remedy: string): FoveaError =>
  new FoveaError(
    'FOVEA_DTYPE',
    `groupedMatmul: expected ${expected} for ${name}, received ${t.dtype}; convert it with .to('${remedy}')`,
  );

function checkOperands(x: Tensor, weights: Tensor, offs: Tensor): void {
  for (const [name, t] of Object.entries({ x, weights, offs })) {
    const { dtype, device } = slotOf(t, 'groupedMatmul', name);
    if (name !== 'offs' && !isFloat(dtype)) throw dtypeError(name, 'floats', t, 'float32');
    if (name === 'offs' && (isFloat(dtype) || dtype === Code.bool)) throw dtypeError(name, 'integers', t, 'int32');
    if (device !== x.slot!.device)
      throw new FoveaError(
        'FOVEA_DEVICE',
        `groupedMatmul: ${name} is on ${deviceName(device)} but x is on ${deviceName(x.slot!.device)}; move one of them with to()`,
      );
  }
  const ranks = x.rank === 2 && weights.rank === 3 && offs.rank === 1;
  if (!ranks || x.shape[1] !== weights.shape[1] || weights.shape[0] !== offs.shape[0])
    throw shapeError(
      'groupedMatmul',
      `expected x [t,k], weights [groups,k,n] and offs [groups], received ${listed(x)}, ${listed(weights)} and ${listed(offs)}`,
    );
}

/**
 * y_g = x_g weights[g] for each group g of neighbouring rows of x, as PyTorch's `grouped_mm` with `offs`: a mixture of
 * experts whose rows are sorted by expert. All groups are one kernel; the rows of each are those of `matmul`, bit for
 * bit. On a GPU, which has no kernel of its own for it, each group is a product, and the call waits for `offs`.
 *
 * @param x [t, k]; floats
 * @param weights [groups, k, n] of any strides: a transposed view of [groups, n, k] is not copied
 * @param offs integers [groups]: the row behind each group's last. Equal neighbours are an empty group, the last is t
 * @returns [t, n], in the dtype that `x` and `weights` promote to, under `autocast` in its
 * @throws FOVEA_SHAPE if the shapes do not fit, FOVEA_DTYPE for operands that are no floats or an `offs` of no
 *   integers; rejects with FOVEA_INDEX where offsets decrease or do not end at t (on a GPU, throws it), unless the
 *   result is empty
 */
export function groupedMatmul(x: Tensor, weights: Tensor, offs: Tensor): Tensor {
  checkOperands(x, weights, offs);
  const code = lowered(resultType([x, weights]));
  return groupedMatmulOp({ x: toLowered(x, code), weights: toLowered(weights, code), offs }).y;
}
