/** What LSTM, GRU and RNN share: parameters, stacks of layers, both directions, and the ways in which sequences lie. */
import { noGrad } from '../autograd/backward.js';
import { record } from '../autograd/node.js';
import { concat, dropout, empty, indexSelect, linear, stack, tensor, zeros } from '../ops/index.js';
import { recurrence, type RecurrenceOutput } from '../ops/recurrence.js';
import { type CellKind, cells } from '../ops/recurrent-cells.js';
import { argumentError, countArg, optionsArg, probabilityArg, shapeError } from '../tensor/check.js';
import type { Dtype } from '../tensor/dtype.js';
import { slotOf, type Tensor } from '../tensor/tensor.js';
import { tidy } from '../tensor/tidy.js';
import { uniform_ } from './init.js';
import { Module } from './module.js';
import { type Lengths, PackedSequence, packPaddedSequence, padPackedSequence } from './packed-sequence.js';
import { parameter } from './parameter.js';

/** Options of {@link LSTM} and {@link GRU}. */
export interface RecurrentOptions {
  /** Layers on top of each other (default 1). */
  numLayers?: number;
  /** Whether there are biases (default true). */
  bias?: boolean;
  /** Whether sequences are [batch, length, width]; false (PyTorch's default) means [length, batch, width]. */
  batchFirst?: boolean;
  /** In training, of the outputs of all layers but the last (default 0). */
  dropout?: number;
  /** Whether a second set of weights runs backwards in time, its outputs beside the first's (default false). */
  bidirectional?: boolean;
  /** Of the parameters; default float32. */
  dtype?: Dtype;
}
/** Options of the `forward` of {@link LSTM}, {@link GRU} and {@link RNN}. */
export interface RecurrentForwardOptions {
  /**
   * Lengths of the sequences of a padded batch, in any order: each is run alone, and its outputs are padded with zeros.
   * The same as `utils.rnn.packPaddedSequence` before and `utils.rnn.padPackedSequence` behind.
   */
  lengths?: Lengths;
}

/** The names of what all recurrent layers take. */
export const recurrentOptions = ['numLayers', 'bias', 'batchFirst', 'dropout', 'bidirectional', 'dtype'] as const;

/** A tensor, or the same packed. */
export type Sequences = Tensor | PackedSequence;

/** Rows of sequences in the order that `recurrence` wants, and the way back. */
interface Packed {
  data: Tensor;
  batchSizes: readonly number[];
  /** Where each sequence, longest first, was before; and the way back. */
  sorted: readonly number[] | undefined;
  unsorted: readonly number[] | undefined;
  /** Outputs [rows, width] as the input lay. */
  back(rows: Tensor): Sequences;
  /** Without an axis for the batch. */
  alone: boolean;
}

/** Names of parameters, as in PyTorch but in camelCase: `weightIhL0`, `biasHhL1Reverse`, … */
export type RecurrentParameter = `${'weight' | 'bias'}${'Ih' | 'Hh'}L${number}${'' | 'Reverse'}`;

/**
 * A stack of recurrent layers. Keys, by layer k, and with `_reverse` behind them for the direction that runs backwards:
 * `weight_ih_l{k}` [gates · hiddenSize, width of the input], `weight_hh_l{k}` [gates · hiddenSize, hiddenSize],
 * `bias_ih_l{k}` and `bias_hh_l{k}` [gates · hiddenSize].
 */
export abstract class RecurrentLayers extends Module {
  /** Parameters by layer and direction; undefined for those that are not there. */
  [name: RecurrentParameter]: Tensor | undefined;
  /** Width of the input. */
  readonly inputSize: number;
  /** Width of the state. */
  readonly hiddenSize: number;
  /** Layers on top of each other. */
  readonly numLayers: number;
  /** Whether there are biases. */
  readonly bias: boolean;
  /** Whether sequences are [batch, length, width]. */
  readonly batchFirst: boolean;
  /** Of the outputs of all layers but the last, in training. */
  readonly dropout: number;
  /** Whether each layer has a second direction. */
  readonly bidirectional: boolean;
  readonly #kind: CellKind;

  /** Initialised as in PyTorch: all parameters uniform within ±1/sqrt(hiddenSize). */
  constructor(op: string, kind: CellKind, inputSize: number, hiddenSize: number, options: RecurrentOptions) {
    super();
    const { numLayers = 1, bias = true, batchFirst = false, bidirectional = false, dtype = 'float32' } = options;
    this.#kind = kind;
    this.inputSize = countArg(op, 'inputSize', inputSize, 1);
    this.hiddenSize = countArg(op, 'hiddenSize', hiddenSize, 1);
    this.numLayers = countArg(op, 'numLayers', numLayers, 1);
    this.bias = bias;
    this.batchFirst = batchFirst;
    this.dropout = probabilityArg(op, 'dropout', options.dropout ?? 0);
    this.bidirectional = bidirectional;
    const rows = cells[kind].gates * hiddenSize;
    const bound = 1 / Math.sqrt(hiddenSize);
    const add = (name: RecurrentParameter, shape: number[]): void => {
      this[name] = parameter(uniform_(empty(shape, { dtype }), -bound, bound));
    };
    for (const [layer, suffix] of this.#directions()) {
      const width = layer === 0 ? inputSize : hiddenSize * this.#each;
      add(`weightIhL${layer}${suffix}`, [rows, width]);
      add(`weightHhL${layer}${suffix}`, [rows, hiddenSize]);
      if (!bias) continue;
      add(`biasIhL${layer}${suffix}`, [rows]);
      add(`biasHhL${layer}${suffix}`, [rows]);
    }
  }

  /** Directions of each layer. */
  get #each(): number {
    return this.bidirectional ? 2 : 1;
  }
  /** Every direction of every layer, in PyTorch's order. */
  #directions(): [layer: number, suffix: '' | 'Reverse'][] {
    const suffixes = this.bidirectional ? (['', 'Reverse'] as const) : ([''] as const);
    return Array.from({ length: this.numLayers }, (_, layer) => layer).flatMap((layer) =>
      suffixes.map((suffix): [number, '' | 'Reverse'] => [layer, suffix]),
    );
  }
  /** The class's name, for messages. */
  get #op(): string {
    return this.constructor.name;
  }

  /**
   * All layers over all steps.
   *
   * @param states [directions · numLayers, batch, hiddenSize] by name, or undefined for zeros
   * @returns the outputs, as the input lay, and the last states
   */
  protected run(
    input: Sequences,
    states: { h0?: Tensor | null | undefined; c0?: Tensor | null | undefined },
    options: RecurrentForwardOptions,
  ): { output: Sequences; h: Tensor; c: Tensor | undefined } {
    const { lengths } = optionsArg(this.#op, options, ['lengths']);
    const packed = this.#pack(input, lengths);
    const hs = this.#statesOf('h0', states.h0, packed);
    const cs = this.#kind === 'lstm' ? this.#statesOf('c0', states.c0, packed) : undefined;
    let rows = packed.data;
    const last: RecurrenceOutput[] = [];
    for (let layer = 0; layer < this.numLayers; layer++) {
      const outputs = this.#layer(rows, layer, packed.batchSizes, hs, cs);
      last.push(...outputs);
      rows = outputs.length === 1 ? outputs[0]!.y : concat([outputs[0]!.y, outputs[1]!.y], -1);
      if (this.training && this.dropout > 0 && layer < this.numLayers - 1)
        rows = dropout(rows, { p: this.dropout, training: true });
    }
    const together = (parts: Tensor[]): Tensor => {
      const states = stack(parts);
      const ordered = reordered(states, packed.unsorted, packed.sorted);
      return packed.alone ? ordered.squeeze(1) : ordered;
    };
    return {
      output: packed.back(rows),
      h: together(last.map(({ h }) => h)),
      c: cs && together(last.map(({ c }) => c!)),
    };
  }

  /** One layer in each direction. */
  #layer(
    rows: Tensor,
    layer: number,
    batchSizes: readonly number[],
    hs: readonly Tensor[],
    cs: readonly Tensor[] | undefined,
  ): RecurrenceOutput[] {
    const each = this.#each;
    return this.#directions()
      .slice(layer * each, (layer + 1) * each)
      .map(([, suffix], direction) =>
        // The projected inputs are not needed behind the loop, unless backward keeps them.
        tidy(() => {
          const at = layer * each + direction;
          const x = linear(rows, this[`weightIhL${layer}${suffix}`]!, this[`biasIhL${layer}${suffix}`]);
          const weight = this[`weightHhL${layer}${suffix}`]!;
          const bias = this[`biasHhL${layer}${suffix}`];
          const timeline = { batchSizes, reverse: suffix !== '' };
          return recurrence(this.#kind, { x, weight, bias, h: hs[at]!, c: cs?.[at] }, timeline);
        }),
      );
  }

  /** A state for each direction of each layer, longest sequence first. */
  #statesOf(
    name: 'h0' | 'c0',
    given: Tensor | null | undefined,
    { data, batchSizes, sorted, unsorted, alone }: Packed,
  ): Tensor[] {
    const count = this.numLayers * this.#each;
    const expected = [count, ...(alone ? [] : [batchSizes[0]!]), this.hiddenSize];
    if (given === undefined || given === null) {
      const { dtype } = this['weightHhL0']!;
      return new Array<Tensor>(count).fill(zeros([batchSizes[0]!, this.hiddenSize], { dtype, device: data.device }));
    }
    const { shape } = slotOf(given, this.#op, name);
    if (shape.join() !== expected.join())
      throw shapeError(
        this.#op,
        `expected ${name} [${expected.join(',')}], layers and directions first, received [${shape.join(',')}]`,
      );
    const states = alone ? given.unsqueeze(1) : given;
    return reordered(states, sorted, unsorted).unbind(0);
  }

  #pack(input: Sequences, lengths: Lengths | undefined): Packed {
    if (input instanceof PackedSequence) {
      if (lengths !== undefined) throw argumentError(this.#op, 'lengths', 'nothing beside a PackedSequence', lengths);
      this.#checkWidth('input.data', input.data, 2);
      return { ...ordered(input), back: (rows) => input.withData(rows), alone: false };
    }
    const { shape } = slotOf(input, this.#op, 'input');
    if (lengths !== undefined) return this.#packLengths(input, lengths);
    const alone = shape.length === 2;
    this.#checkWidth('input', input, alone ? 2 : 3);
    const [length, batch] = (alone ? [shape[0], 1] : this.batchFirst ? [shape[1], shape[0]] : shape) as [
      number,
      number,
    ];
    if (length === 0) throw shapeError(this.#op, `expected at least one step, received input [${shape.join(',')}]`);
    const turned = this.batchFirst && !alone;
    return {
      data: (turned ? input.transpose(0, 1) : input).reshape([length * batch, this.inputSize]),
      batchSizes: new Array<number>(length).fill(batch),
      sorted: undefined,
      unsorted: undefined,
      back(rows) {
        if (alone) return rows;
        const y = rows.reshape([length, batch, rows.shape[1]!]);
        return turned ? y.transpose(0, 1) : y;
      },
      alone,
    };
  }

  #packLengths(input: Tensor, lengths: Lengths): Packed {
    const { batchFirst } = this;
    this.#checkWidth('input', input, 3);
    const totalLength = input.shape[batchFirst ? 1 : 0]!;
    const sequences = packPaddedSequence(input, lengths, { batchFirst, enforceSorted: false });
    const back = (rows: Tensor): Tensor => padPackedSequence(sequences.withData(rows), { batchFirst, totalLength })[0];
    return { ...ordered(sequences), back, alone: false };
  }

  #checkWidth(name: string, x: Tensor, rank: number): void {
    const { shape } = slotOf(x, this.#op, name);
    if (shape.length === rank && shape[rank - 1] === this.inputSize) return;
    const axes = this.batchFirst ? 'batch,length' : 'length,batch';
    const expected =
      name === 'input' ? `[${axes},${this.inputSize}] or [length,${this.inputSize}]` : `[rows,${this.inputSize}]`;
    throw shapeError(this.#op, `expected ${name} ${expected}, received [${shape.join(',')}]`);
  }
}

/** Rows and order of a PackedSequence. */
function ordered({ data, batchSizes, sortedIndices, unsortedIndices }: PackedSequence): Omit<Packed, 'back' | 'alone'> {
  return { data, batchSizes, sorted: sortedIndices, unsorted: unsortedIndices };
}

/** States with their sequences in another order. The graph holds numbers alone, for states that nobody looks at. */
function reordered(x: Tensor, order: readonly number[] | undefined, back: readonly number[] | undefined): Tensor {
  if (order === undefined) return x;
  const index = tensor(Int32Array.from(order), { device: x.device });
  const y = noGrad(() => indexSelect(x, 1, index));
  index.dispose();
  return record('reorder', [x], y, (dy) => [reordered(dy, back, order)]);
}
