/** One step of LSTM, GRU and the plain recurrent layer, with PyTorch's parameters and results. */
import { empty, gruCell, linear, lstmCell, relu, tanh, zeros } from '../ops/index.js';
import { cells, type CellKind } from '../ops/recurrent-cells.js';
import { countArg, optionsArg, shapeError } from '../tensor/check.js';
import type { Dtype } from '../tensor/dtype.js';
import { slotOf, type Tensor } from '../tensor/tensor.js';
import { uniform_ } from './init.js';
import { Module } from './module.js';
import { parameter } from './parameter.js';
import { lstmState, type LSTMState, nonlinearityArg, type RNNOptions } from './rnn.js';

/** Options of {@link LSTMCell} and {@link GRUCell}. */
export interface RecurrentCellOptions {
  /** Whether there are biases (default true). */
  bias?: boolean;
  /** Of the parameters; default float32. */
  dtype?: Dtype;
}
/** Options of {@link RNNCell}. */
export type RNNCellOptions = RecurrentCellOptions & Pick<RNNOptions, 'nonlinearity'>;

/**
 * Parameters of a cell. Keys: `weight_ih` [gates · hiddenSize, inputSize], `weight_hh` [gates · hiddenSize,
 * hiddenSize], `bias_ih` and `bias_hh` [gates · hiddenSize].
 */
export abstract class RecurrentCell extends Module {
  /** Width of the input. */
  readonly inputSize: number;
  /** Width of the state. */
  readonly hiddenSize: number;
  /** [gates · hiddenSize, inputSize] */
  weightIh: Tensor;
  /** [gates · hiddenSize, hiddenSize] */
  weightHh: Tensor;
  /** [gates · hiddenSize] */
  biasIh: Tensor | undefined;
  /** [gates · hiddenSize] */
  biasHh: Tensor | undefined;

  /** Initialised as in PyTorch: all parameters uniform within ±1/sqrt(hiddenSize). */
  constructor(op: string, kind: CellKind, inputSize: number, hiddenSize: number, options: RecurrentCellOptions) {
    super();
    const { bias = true, dtype = 'float32' } = options;
    this.inputSize = countArg(op, 'inputSize', inputSize, 1);
    this.hiddenSize = countArg(op, 'hiddenSize', hiddenSize, 1);
    const rows = cells[kind].gates * hiddenSize;
    const bound = 1 / Math.sqrt(hiddenSize);
    const make = (...shape: number[]): Tensor => parameter(uniform_(empty(shape, { dtype }), -bound, bound));
    this.weightIh = make(rows, inputSize);
    this.weightHh = make(rows, hiddenSize);
    if (!bias) return;
    this.biasIh = make(rows);
    this.biasHh = make(rows);
  }

  /** The projected input. @throws FOVEA_SHAPE unless it is [batch, inputSize] or [inputSize] */
  protected projected(input: Tensor): Tensor {
    const op = this.constructor.name;
    const { shape } = slotOf(input, op, 'input');
    if (shape.length === 0 || shape.length > 2 || shape.at(-1) !== this.inputSize)
      throw shapeError(
        op,
        `expected input [batch,${this.inputSize}] or [${this.inputSize}], received [${shape.join(',')}]`,
      );
    return linear(input, this.weightIh, this.biasIh);
  }

  /** A state of the input's batch: what was given, or zeros. @throws FOVEA_SHAPE for another shape */
  protected stateOf(name: string, state: Tensor | null | undefined, input: Tensor): Tensor {
    const expected = [...input.shape.slice(0, -1), this.hiddenSize];
    if (state === undefined || state === null)
      return zeros(expected, { dtype: this.weightHh.dtype, device: input.device });
    const { shape } = slotOf(state, this.constructor.name, name);
    if (shape.join() !== expected.join())
      throw shapeError(
        this.constructor.name,
        `expected ${name} [${expected.join(',')}], received [${shape.join(',')}]`,
      );
    return state;
  }
}

/** One step of an LSTM. Gates i, f, g, o; keys: see {@link RecurrentCell}. */
export class LSTMCell extends RecurrentCell {
  /** @throws FOVEA_ARGUMENT for sizes and options out of range */
  constructor(inputSize: number, hiddenSize: number, options: RecurrentCellOptions = {}) {
    super('LSTMCell', 'lstm', inputSize, hiddenSize, optionsArg('LSTMCell', options, ['bias', 'dtype']));
  }

  /**
   * @param input [batch, inputSize] or [inputSize]
   * @param state h and c, [batch, hiddenSize] or [hiddenSize] each; zeros if left out
   * @returns h and c after the step
   * @throws FOVEA_SHAPE for other shapes
   */
  override forward(input: Tensor, state?: LSTMState | null): LSTMState {
    const given = lstmState('LSTMCell', state);
    const x = this.projected(input);
    const [h, c] = [this.stateOf('h', given[0], input), this.stateOf('c', given[1], input)];
    return lstmCell(linear(h, this.weightHh, this.biasHh, { residual: x }), null, c);
  }
}

/** One step of a GRU. Gates r, z, n; keys: see {@link RecurrentCell}. */
export class GRUCell extends RecurrentCell {
  /** @throws FOVEA_ARGUMENT for sizes and options out of range */
  constructor(inputSize: number, hiddenSize: number, options: RecurrentCellOptions = {}) {
    super('GRUCell', 'gru', inputSize, hiddenSize, optionsArg('GRUCell', options, ['bias', 'dtype']));
  }

  /**
   * @param input [batch, inputSize] or [inputSize]
   * @param h [batch, hiddenSize] or [hiddenSize]; zeros if left out
   * @returns the state after the step
   * @throws FOVEA_SHAPE for other shapes
   */
  override forward(input: Tensor, h?: Tensor | null): Tensor {
    const x = this.projected(input);
    const before = this.stateOf('h', h, input);
    return gruCell(x, linear(before, this.weightHh, this.biasHh), before);
  }
}

/** One step of Elman's recurrent layer, h' = tanh(W_ih x + b_ih + W_hh h + b_hh). Keys: see {@link RecurrentCell}. */
export class RNNCell extends RecurrentCell {
  /** What is applied to the sum of the projections. */
  readonly nonlinearity: 'tanh' | 'relu';

  /** @throws FOVEA_ARGUMENT for sizes and options out of range */
  constructor(inputSize: number, hiddenSize: number, options: RNNCellOptions = {}) {
    const known = ['bias', 'dtype', 'nonlinearity'] as const;
    const { nonlinearity = 'tanh', ...rest } = optionsArg('RNNCell', options, known);
    const kind = nonlinearityArg('RNNCell', nonlinearity);
    super('RNNCell', kind, inputSize, hiddenSize, rest);
    this.nonlinearity = kind;
  }

  /**
   * @param input [batch, inputSize] or [inputSize]
   * @param h [batch, hiddenSize] or [hiddenSize]; zeros if left out
   * @returns the state after the step
   * @throws FOVEA_SHAPE for other shapes
   */
  override forward(input: Tensor, h?: Tensor | null): Tensor {
    const x = this.projected(input);
    const sum = linear(this.stateOf('h', h, input), this.weightHh, this.biasHh, { residual: x });
    return this.nonlinearity === 'tanh' ? tanh(sum) : relu(sum);
  }
}
