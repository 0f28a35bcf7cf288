/**
 * The pointwise part of recurrent cells, behind the products of a step: `x` is the projection of its input, `hidden`
 * that of the state before it. The gates lie side by side along the last axis, in PyTorch's order:
 *
 *   lstmCell (Hochreiter & Schmidhuber 1997; Gers et al. 2000)         [i f g o] = x + hidden
 *     c' = σ(f) c + σ(i) tanh(g)          h' = σ(o) tanh(c')
 *   gruCell (Cho et al. 2014, https://arxiv.org/abs/1406.1078)         [r z n] of x and of hidden
 *     r, z = σ(x + hidden)                h' = (1 - z) tanh(x_n + r hidden_n) + z h
 *
 * Each is one pass in each direction. Backward computes the gates again from what forward was given, so that nothing
 * else is kept.
 */
import { shapeError } from '../tensor/check.js';
import { slotOf, type Tensor } from '../tensor/tensor.js';
import { sigmoid, tanh } from './activation.js';
import { castTo } from './cast.js';
import { emptyLike } from './creation.js';
import { defineOp, type DefinedOp } from './define-op.js';
import { add, mul, sub } from './elementwise.js';
import { kernels } from './kernels.gen.js';
import { resultType } from './promote.js';
import { split } from './shape.js';

/** The gates that lie side by side, apart. */
function gatesOf(x: Tensor, count: number): Tensor[] {
  return split(x, new Array<number>(count).fill(x.shape.at(-1)! / count), -1);
}

/** The kernel with its gradient. */
export const lstmCellOp: DefinedOp<'lstmCell'> = defineOp({
  kernel: 'lstmCell',
  backwardKernels: ['lstmCellBackward_'],
  saves: ['x', 'hidden', 'c'],
  reference({ x, hidden, c }) {
    const [i, f, g, o] = gatesOf(hidden ? add(x, hidden) : x, 4) as [Tensor, Tensor, Tensor, Tensor];
    const cNew = add(mul(sigmoid(f), c), mul(sigmoid(i), tanh(g)));
    return { h: mul(sigmoid(o), tanh(cNew)), cNew };
  },
  gradient({ x, hidden, c }, { h: dh, cNew: dcNew }) {
    const [dx, dc] = [emptyLike(x), emptyLike(c)];
    kernels.lstmCellBackward_({ x, hidden, c, dh, dcNew, dx, dc }, {});
    return { x: dx, hidden: hidden && dx, c: dc };
  },
});
/** The kernel with its gradient. */
export const gruCellOp: DefinedOp<'gruCell'> = defineOp({
  kernel: 'gruCell',
  backwardKernels: ['gruCellBackward_'],
  saves: ['x', 'hidden', 'h'],
  reference({ x, hidden, h }) {
    const [xr, xz, xn] = gatesOf(x, 3) as [Tensor, Tensor, Tensor];
    const [hr, hz, hn] = gatesOf(hidden, 3) as [Tensor, Tensor, Tensor];
    const z = sigmoid(add(xz, hz));
    const n = tanh(add(xn, mul(sigmoid(add(xr, hr)), hn)));
    return { hNew: add(n, mul(z, sub(h, n))) };
  },
  gradient({ x, hidden, h }, { hNew: dhNew }) {
    const [dx, dhidden, dh] = [emptyLike(x), emptyLike(hidden), emptyLike(h)];
    kernels.gruCellBackward_({ x, hidden, h, dhNew, dx, dhidden, dh }, {});
    return { x: dx, hidden: dhidden, h: dh };
  },
});

/** Refuses gates that do not fit the state; the kernel compares what is left. */
function checkGates(op: string, gates: number, projections: Record<string, Tensor>, name: string, state: Tensor): void {
  const { shape } = slotOf(state, op, name);
  if (shape.length === 0) throw shapeError(op, `expected ${name} [..., n], received a 0-d tensor`);
  const expected = [...shape.slice(0, -1), gates * shape.at(-1)!];
  for (const [argument, x] of Object.entries(projections)) {
    const given = slotOf(x, op, argument).shape;
    if (given.join() !== expected.join())
      throw shapeError(
        op,
        `${name} [${shape.join(',')}] needs ${argument} [${expected.join(',')}], ${gates} gates side by side, received [${given.join(',')}]`,
      );
  }
}

/**
 * The pointwise part of an LSTM cell (Hochreiter & Schmidhuber 1997), forget gate included (Gers et al. 2000);
 * `nn.LSTMCell` has the products, too.
 *
 * @param x [..., 4n], floats: the input's projection with its bias; gates i, f, g, o side by side
 * @param hidden the shape of `x`: the projection of the state before; null where `x` holds it already
 * @param c [..., n]: the cell state before
 * @returns h and c after the step, [..., n], in the dtype that all promote to
 * @throws FOVEA_SHAPE for gates that do not fit the state, FOVEA_DTYPE for integers and bool
 */
export function lstmCell(x: Tensor, hidden: Tensor | null, c: Tensor): [h: Tensor, c: Tensor] {
  checkGates('lstmCell', 4, hidden === null ? { x } : { x, hidden }, 'c', c);
  const code = resultType(hidden === null ? [x, c] : [x, hidden, c]);
  const { h, cNew } = lstmCellOp({
    x: castTo(x, code),
    hidden: hidden === null ? undefined : castTo(hidden, code),
    c: castTo(c, code),
  });
  return [h, cNew];
}

/**
 * The pointwise part of a GRU cell (Cho et al. 2014, https://arxiv.org/abs/1406.1078), with the reset gate behind the
 * hidden projection, as in PyTorch; `nn.GRUCell` has the products, too.
 *
 * @param x [..., 3n], floats: the input's projection with its bias; gates r, z, n side by side
 * @param hidden the shape of `x`: the projection of the state before, with its bias
 * @param h [..., n]: the state before
 * @returns [..., n]: the state after the step, in the dtype that all promote to
 * @throws FOVEA_SHAPE for gates that do not fit the state, FOVEA_DTYPE for integers and bool
 */
export function gruCell(x: Tensor, hidden: Tensor, h: Tensor): Tensor {
  checkGates('gruCell', 3, { x, hidden }, 'h', h);
  const code = resultType([x, hidden, h]);
  return gruCellOp({ x: castTo(x, code), hidden: castTo(hidden, code), h: castTo(h, code) }).hNew;
}
