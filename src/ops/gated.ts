/**
 * Gated linear units (Shazeer 2020, https://arxiv.org/abs/2002.05202) without the products around them: an activation
 * of one tensor, or half of one, times the other. Each direction is one pass.
 */
import { argumentError, optionsArg, shapeError } from '../tensor/check.js';
import { sameShape } from '../tensor/layout.js';
import { slotOf, type Tensor } from '../tensor/tensor.js';
import { gelu, type GeluOptions, silu } from './activation.js';
import { defineOp } from './define-op.js';
import { mul } from './elementwise.js';
import { kernels } from './kernels.gen.js';
import { slice } from './shape.js';

/** act(gate) up, the two being halves of `gate` where there is no `up`. */
export function gated(gate: Tensor, up: Tensor | undefined, width: number, act: (x: Tensor) => Tensor): { y: Tensor } {
  if (up) return { y: mul(act(gate), up) };
  return { y: mul(act(slice(gate, -1, 0, width)), slice(gate, -1, width)) };
}

const swigluOp = defineOp({
  kernel: 'swiglu',
  backwardKernels: ['swigluBackward'],
  saves: ['gate', 'up'],
  reference: ({ gate, up }, { width = 0 }) => gated(gate, up, width, silu),
  gradient({ gate, up }, { y: dy }, { width = 0 }) {
    const { dgate, dup } = kernels.swigluBackward({ gate, up, dy }, { width: up ? width : 0 });
    return { gate: dgate, up: up && dup };
  },
});
const gegluOp = defineOp({
  kernel: 'geglu',
  backwardKernels: ['gegluBackward'],
  saves: ['gate', 'up'],
  reference: ({ gate, up }, { width = 0, tanh = false }) =>
    gated(gate, up, width, (x) => gelu(x, { approximate: tanh ? 'tanh' : 'none' })),
  gradient({ gate, up }, { y: dy }, { width = 0, tanh = false }) {
    const { dgate, dup } = kernels.gegluBackward({ gate, up, dy }, { width: up ? width : 0, tanh });
    return { gate: dgate, up: up && dup };
  },
});

/** The last size of the result. */
function widthOf(op: string, gate: Tensor, up: Tensor | null | undefined): number {
  const { shape } = slotOf(gate, op, 'gate');
  const n = shape.at(-1);
  if (n === undefined) throw shapeError(op, 'expected gate [..., n], received a 0-d tensor');
  if (up === undefined || up === null) {
    if (n % 2) throw shapeError(op, `expected an even last axis of gate without up, received [${shape.join(',')}]`);
    return n / 2;
  }
  const other = slotOf(up, op, 'up').shape;
  if (!sameShape(shape, other))
    throw shapeError(op, `expected up of the shape of gate [${shape.join(',')}], received [${other.join(',')}]`);
  return n;
}

/**
 * silu(gate) up (Shazeer 2020, https://arxiv.org/abs/2002.05202), as in the feed-forward networks of Llama.
 *
 * @param gate [..., n], floats; [..., 2n], gate and up side by side, without `up`
 * @param up the shape and dtype of `gate`
 * @returns [..., n], of the dtype of `gate`
 * @throws FOVEA_SHAPE for shapes that differ, or a last axis of odd size without `up`, FOVEA_DTYPE for integers and
 *   bool or dtypes that differ
 */
export function swiglu(gate: Tensor, up?: Tensor | null): Tensor {
  const width = widthOf('swiglu', gate, up);
  return swigluOp({ gate, up: up ?? undefined }, { width }).y;
}

/**
 * gelu(gate) up (Shazeer 2020, https://arxiv.org/abs/2002.05202).
 *
 * @param gate [..., n], floats; [..., 2n], gate and up side by side, without `up`
 * @param up the shape and dtype of `gate`
 * @returns [..., n], of the dtype of `gate`
 * @throws FOVEA_SHAPE for shapes that differ, or a last axis of odd size without `up`, FOVEA_DTYPE for integers and
 *   bool or dtypes that differ, FOVEA_ARGUMENT for an `approximate` that is neither 'none' nor 'tanh'
 */
export function geglu(gate: Tensor, up?: Tensor | null, options?: GeluOptions): Tensor {
  const { approximate = 'none' } = optionsArg('geglu', options, ['approximate']);
  if (approximate !== 'none' && approximate !== 'tanh')
    throw argumentError('geglu', 'approximate', "'none' or 'tanh'", approximate);
  const width = widthOf('geglu', gate, up);
  return gegluOp({ gate, up: up ?? undefined }, { width, tanh: approximate === 'tanh' }).y;
}
