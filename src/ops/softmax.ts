/** softmax(x)[i] = e^x[i] / sum_j e^x[j] along one axis, and its logarithm. */
import { dimArg, dtypeArg, optionsArg } from '../tensor/check.js';
import type { Dtype } from '../tensor/dtype.js';
import { slotOf, type Tensor } from '../tensor/tensor.js';
import { inFloat32 } from './autocast.js';
import { castTo } from './cast.js';
import { defineOp, type DefinedOp } from './define-op.js';
import { div, exp, log, mul, sub } from './elementwise.js';
import { kernels } from './kernels.gen.js';
import { floating } from './promote.js';
import { amax, sum } from './reduce.js';
import { movedim, reshape } from './shape.js';

const KEEP = { keepdim: true };
/** Differences to the largest of each row; a row of nothing has none. */
const shifted = (x: Tensor): Tensor => (x.shape.at(-1) === 0 ? x : sub(x, amax(x, -1, KEEP).detach()));

const softmaxOp = defineOp({
  kernel: 'softmax',
  backwardKernels: ['softmaxBackward'],
  saves: ['y'],
  reference({ x }) {
    const e = exp(shifted(x));
    return { y: div(e, sum(e, -1, KEEP)) };
  },
  gradient: ({ y }, { y: dy }) => ({ x: kernels.softmaxBackward({ y, dy }, {}).dx }),
  composed: ({ y }, { y: dy }) => ({ x: mul(y, sub(dy, sum(mul(dy, y), -1, KEEP))) }),
});
const logSoftmaxOp = defineOp({
  kernel: 'logSoftmax',
  backwardKernels: ['logSoftmaxBackward'],
  saves: ['y'],
  reference({ x }) {
    const s = shifted(x);
    return { y: sub(s, log(sum(exp(s), -1, KEEP))) };
  },
  gradient: ({ y }, { y: dy }) => ({ x: kernels.logSoftmaxBackward({ y, dy }, {}).dx }),
  composed: ({ y }, { y: dy }) => ({ x: sub(dy, mul(exp(y), sum(dy, -1, KEEP))) }),
});

/** Options of `softmax` and `logSoftmax`. */
export interface SoftmaxOptions {
  /** Convert to this dtype first. */
  dtype?: Dtype;
}
function along(
  op: DefinedOp<'softmax'> | DefinedOp<'logSoftmax'>,
  name: string,
  x: Tensor,
  dim: number,
  options: SoftmaxOptions | undefined,
): Tensor {
  const { dtype } = optionsArg(name, options, ['dtype']);
  const from = floating(dtype === undefined ? inFloat32(x) : x, name);
  const input = dtype === undefined ? from : castTo(from, dtypeArg(name, dtype));
  const d = dimArg(name, dim, slotOf(x, name, 'x').shape.length);
  if (input.rank === 0) return reshape(op({ x: reshape(input, [1]) }).y, []);
  return d === input.rank - 1 ? op({ x: input }).y : movedim(op({ x: movedim(input, d, -1) }).y, -1, d);
}

/**
 * e^x / sum e^x along `dim`, without overflow.
 *
 * @param x any shape; integers and bool become float32
 * @returns the shape of `x`, floats; a row that is all -Infinity gives NaN, as in PyTorch
 * @throws FOVEA_ARGUMENT for a `dim` that is not there, FOVEA_DTYPE for a `dtype` that is no float
 */
export function softmax(x: Tensor, dim: number, options?: SoftmaxOptions): Tensor {
  return along(softmaxOp, 'softmax', x, dim, options);
}
/**
 * x - log sum e^x along `dim`, without overflow.
 *
 * @param x any shape; integers and bool become float32
 * @returns the shape of `x`, floats
 * @throws FOVEA_ARGUMENT for a `dim` that is not there, FOVEA_DTYPE for a `dtype` that is no float
 */
export function logSoftmax(x: Tensor, dim: number, options?: SoftmaxOptions): Tensor {
  return along(logSoftmaxOp, 'logSoftmax', x, dim, options);
}
