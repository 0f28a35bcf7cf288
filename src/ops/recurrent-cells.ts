/**
 * What the cells of recurrent layers do in a step, and backward, behind the products:
 *
 *   lstm, gru    see rnn.ts
 *   tanh, relu   h' = f(x + W h + b) (Elman 1990, "Finding Structure in Time")
 */
import type { Tensor } from '../tensor/tensor.js';
import { relu, tanh } from './activation.js';
import { emptyLike } from './creation.js';
import { kernels } from './kernels.gen.js';
import { gruCellOp, lstmCellOp } from './rnn.js';

/** Which cell. */
export type CellKind = 'lstm' | 'gru' | 'tanh' | 'relu';

/** The state of some rows, or its gradient. */
export interface State {
  h: Tensor;
  /** Of an LSTM. */
  c: Tensor | undefined;
}
/** What a step left for its backward, as far as the cell needs it. */
export interface SavedStep {
  /** The projected input. */
  x: Tensor | undefined;
  /** The hidden projection; with the projected input on top, if they are joined. */
  gates: Tensor | undefined;
  before: State;
  /** h after the step. */
  y: Tensor;
}

/** A cell without its products. */
export interface Cell {
  /** Gates side by side in a projection. */
  readonly gates: number;
  /** Whether the cell takes the sum of both projections, which the product of the hidden one gives at once. */
  readonly joined: boolean;
  /** Whether backward needs what the product gave. */
  readonly keepsGates: boolean;
  /** The state after a step. */
  readonly apply: (x: Tensor, gates: Tensor, before: State) => State;
  /**
   * Writes the gradients of both projections (of their sum, if joined).
   *
   * @returns those of the state before that do not come through the product
   */
  readonly backward: (saved: SavedStep, d: State, to: { x: Tensor; gates: Tensor }) => Partial<State>;
}

/** h' = f(x + W h + b), whose slope is known from h'. */
function elman(f: (x: Tensor) => Tensor, slope: 'tanhBackward' | 'reluBackward'): Cell {
  return {
    gates: 1,
    joined: true,
    keepsGates: false,
    apply: (_, gates) => ({ h: f(gates), c: undefined }),
    backward({ y }, d, to) {
      kernels.copy_({ y: to.x, x: kernels[slope]({ y, dy: d.h }, {}).dx }, {});
      return {};
    },
  };
}

/** Every cell. */
export const cells: Readonly<Record<CellKind, Cell>> = {
  lstm: {
    gates: 4,
    joined: true,
    keepsGates: true,
    apply(_, gates, { c }) {
      const { h, cNew } = lstmCellOp({ x: gates, c: c! });
      return { h, c: cNew };
    },
    backward({ gates, before }, { h: dh, c: dcNew }, { x: dx }) {
      const dc = emptyLike(before.c!);
      kernels.lstmCellBackward_({ x: gates!, c: before.c!, dh, dcNew, dx, dc }, {});
      return { c: dc };
    },
  },
  gru: {
    gates: 3,
    joined: false,
    keepsGates: true,
    apply: (x, hidden, { h }) => ({ h: gruCellOp({ x, hidden, h }).hNew, c: undefined }),
    backward({ x, gates, before: { h } }, d, to) {
      const dh = emptyLike(h);
      kernels.gruCellBackward_({ x: x!, hidden: gates!, h, dhNew: d.h, dx: to.x, dhidden: to.gates, dh }, {});
      return { h: dh };
    },
  },
  tanh: elman(tanh, 'tanhBackward'),
  relu: elman(relu, 'reluBackward'),
};
