/**
 * Recurrent layers with PyTorch's parameters and results: LSTM (Hochreiter & Schmidhuber 1997; forget gate: Gers et al.
 * 2000), GRU (Cho et al. 2014, https://arxiv.org/abs/1406.1078) and the plain one (Elman 1990). The inputs of all steps
 * are projected by one product; a step multiplies the state and runs its cell in one pass.
 */
import { FoveaError } from '../errors.js';
import { argumentError, optionsArg } from '../tensor/check.js';
import type { Tensor } from '../tensor/tensor.js';
import type { PackedSequence } from './packed-sequence.js';
import {
  type RecurrentForwardOptions,
  RecurrentLayers,
  type RecurrentOptions,
  recurrentOptions,
  type Sequences,
} from './recurrent-layers.js';

/** Options of {@link LSTM}. */
export interface LSTMOptions extends RecurrentOptions {
  /** Projected states, which fovea does not have: 0. */
  projSize?: number;
}
/** h and c: [directions · numLayers, batch, hiddenSize] each. */
export type LSTMState = [h: Tensor, c: Tensor];

/** Long short-term memory. Gates i, f, g, o; keys: see {@link RecurrentLayers}. */
export class LSTM extends RecurrentLayers {
  /** @throws FOVEA_ARGUMENT for sizes and options out of range, FOVEA_UNSUPPORTED for a `projSize` above 0 */
  constructor(inputSize: number, hiddenSize: number, options: LSTMOptions = {}) {
    const { projSize = 0, ...rest } = optionsArg('LSTM', options, [...recurrentOptions, 'projSize']);
    if (projSize !== 0)
      throw new FoveaError(
        'FOVEA_UNSUPPORTED',
        `LSTM: projSize is ${projSize}, but fovea has no projected states; leave it out, and put a Linear behind the layer`,
      );
    super('LSTM', 'lstm', inputSize, hiddenSize, rest);
  }

  /**
   * @param input [length, batch, inputSize], [batch, length, inputSize] with `batchFirst`, [length, inputSize]
   *   without a batch, or a PackedSequence
   * @param state h and c before the first step, [directions · numLayers, batch, hiddenSize] each (without a batch,
   *   without that axis); zeros if left out
   * @returns the outputs of the last layer, as the input lies, directions · hiddenSize wide; and h and c behind the
   *   last step of each sequence
   * @throws FOVEA_SHAPE for other shapes, FOVEA_ARGUMENT for lengths that do not fit
   */
  override forward(
    input: Tensor,
    state?: LSTMState | null,
    options?: RecurrentForwardOptions,
  ): [output: Tensor, state: LSTMState];
  override forward(
    input: PackedSequence,
    state?: LSTMState | null,
    options?: RecurrentForwardOptions,
  ): [output: PackedSequence, state: LSTMState];
  override forward(
    input: Sequences,
    state?: LSTMState | null,
    options: RecurrentForwardOptions = {},
  ): [output: Sequences, state: LSTMState] {
    const [h0, c0] = lstmState('LSTM', state);
    const { output, h, c } = this.run(input, { h0, c0 }, options);
    return [output, [h, c!]];
  }
}

/** h and c of an argument. @throws FOVEA_ARGUMENT for what is no pair */
export function lstmState(op: string, state: LSTMState | null | undefined): [h: Tensor, c: Tensor] | [] {
  if (state === undefined || state === null) return [];
  if (!Array.isArray(state) || state.length !== 2) throw argumentError(op, 'state', 'a pair [h, c]', state);
  return state;
}

/** A layer whose state is its output. */
export abstract class HiddenLayers extends RecurrentLayers {
  /**
   * @param input [length, batch, inputSize], [batch, length, inputSize] with `batchFirst`, [length, inputSize]
   *   without a batch, or a PackedSequence
   * @param h0 the state before the first step, [directions · numLayers, batch, hiddenSize] (without a batch, without
   *   that axis); zeros if left out
   * @returns the outputs of the last layer, as the input lies, directions · hiddenSize wide; and the state behind the
   *   last step of each sequence
   * @throws FOVEA_SHAPE for other shapes, FOVEA_ARGUMENT for lengths that do not fit
   */
  override forward(input: Tensor, h0?: Tensor | null, options?: RecurrentForwardOptions): [output: Tensor, h: Tensor];
  override forward(
    input: PackedSequence,
    h0?: Tensor | null,
    options?: RecurrentForwardOptions,
  ): [output: PackedSequence, h: Tensor];
  override forward(
    input: Sequences,
    h0?: Tensor | null,
    options: RecurrentForwardOptions = {},
  ): [output: Sequences, h: Tensor] {
    const { output, h } = this.run(input, { h0 }, options);
    return [output, h];
  }
}

/** Gated recurrent unit. Gates r, z, n; keys: see {@link RecurrentLayers}. */
export class GRU extends HiddenLayers {
  /** @throws FOVEA_ARGUMENT for sizes and options out of range */
  constructor(inputSize: number, hiddenSize: number, options: RecurrentOptions = {}) {
    super('GRU', 'gru', inputSize, hiddenSize, optionsArg('GRU', options, recurrentOptions));
  }
}

/** Options of {@link RNN}. */
export interface RNNOptions extends RecurrentOptions {
  /** What is applied to the sum of the projections (default 'tanh'). */
  nonlinearity?: 'tanh' | 'relu';
}
/** Checks a nonlinearity. @throws FOVEA_ARGUMENT for another than tanh and relu */
export function nonlinearityArg(op: string, value: unknown): 'tanh' | 'relu' {
  if (value === 'tanh' || value === 'relu') return value;
  throw argumentError(op, 'nonlinearity', "'tanh' or 'relu'", value);
}

/** Elman's recurrent layer, h' = tanh(W_ih x + b_ih + W_hh h + b_hh). Keys: see {@link RecurrentLayers}. */
export class RNN extends HiddenLayers {
  /** @throws FOVEA_ARGUMENT for sizes and options out of range */
  constructor(inputSize: number, hiddenSize: number, options: RNNOptions = {}) {
    const known = [...recurrentOptions, 'nonlinearity'] as const;
    const { nonlinearity = 'tanh', ...rest } = optionsArg('RNN', options, known);
    super('RNN', nonlinearityArg('RNN', nonlinearity), inputSize, hiddenSize, rest);
  }
}
