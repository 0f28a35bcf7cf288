/**
 * What tells positions apart, added to the embeddings of tokens (rows count positions p, columns places of the width
 * d):
 *
 *   sinusoidal  P[p, 2i] = sin(p / base^(2i/d)),  P[p, 2i+1] = cos(p / base^(2i/d))  (Vaswani et al. 2017, section 3.5)
 *   learned     P is a parameter                              (Gehring et al. 2017, https://arxiv.org/abs/1705.03122)
 *
 * A sinusoid of odd width ends with a sine.
 */
import { arange, cos, embedding, empty, flatten, mul, narrow, sin, stack, unsqueeze } from '../ops/index.js';
import { floatsArg } from '../ops/floats-arg.js';
import { argumentError, countArg, numberArg, optionsArg, shapeError } from '../tensor/check.js';
import { accumulatorOf, type Dtype, dtypeNames } from '../tensor/dtype.js';
import { slotOf, type Tensor } from '../tensor/tensor.js';
import { Dropout } from './dropout.js';
import { normal_ } from './init.js';
import { KeptTensors } from './kept-tensors.js';
import { Module } from './module.js';
import { parameter } from './parameter.js';

/** Options of what adds positions. */
export interface PositionsOptions {
  /** Of the sum, in training (default 0). */
  dropout?: number;
  /** Whether inputs are [batch, length, width]; false (PyTorch's default) means [length, batch, width]. */
  batchFirst?: boolean;
}

/** Options of the `forward` of what adds positions. */
export interface PositionsForwardOptions {
  /** The position of the first row, where they count up (default 0): how many came before, with a cache. */
  offset?: number;
  /** Integers [L] or [B, L]: each row's position, for what does not count up. */
  positions?: Tensor;
}

/** Adds a row for each position. */
export abstract class Positions extends Module {
  /** Width of the rows. */
  readonly embeddingDim: number;
  /** Whether inputs are [batch, length, width]. */
  readonly batchFirst: boolean;

  protected constructor(op: string, embeddingDim: number, batchFirst: boolean) {
    super();
    this.embeddingDim = countArg(op, 'embeddingDim', embeddingDim, 1);
    this.batchFirst = batchFirst;
  }

  /** Of the sum. */
  abstract dropout: Dropout;
  /** Rows [n, d] of positions that count up from `offset`. */
  protected abstract count(offset: number, n: number, x: Tensor): Tensor;
  /** Rows [..., d] of positions [...]. */
  protected abstract at(positions: Tensor, x: Tensor): Tensor;

  /**
   * @param x [L, B, d], with `batchFirst` [B, L, d]; or [L, d]
   * @returns x with a row for each position added, the same shape
   * @throws FOVEA_DTYPE for what are no floats; FOVEA_SHAPE for another width or rank, or positions that do not fit;
   *   FOVEA_ARGUMENT for an offset below 0 or beside positions, and for positions beyond the last of a learned table
   *   (those of a tensor: the read rejects with FOVEA_INDEX)
   */
  override forward(x: Tensor, options: PositionsForwardOptions = {}): Tensor {
    const op = this.constructor.name;
    const { offset = 0, positions } = optionsArg(op, options, ['offset', 'positions']);
    const shape = floatsArg(op, 'x', x, [2, 3]);
    if (shape.at(-1) !== this.embeddingDim)
      throw shapeError(op, `expected x [L,B,${this.embeddingDim}], [B,L,..] or [L,..], received [${shape}]`);
    const batched = shape.length === 3;
    const [n, b] = batched && this.batchFirst ? [shape[1]!, shape[0]!] : [shape[0]!, batched ? shape[1]! : 1];
    countArg(op, 'offset', offset);
    if (positions && options.offset !== undefined)
      throw argumentError(op, 'offset', 'nothing beside positions', offset, 'add it to them');
    const rows = positions
      ? this.at(positionsArg(op, positions, n, batched ? b : undefined), x)
      : this.count(offset, n, x);
    return this.dropout.forward(x.add(this.#asInput(rows, batched)));
  }

  /** Rows [n, d] or [b, n, d], in the order of the axes of the input. */
  #asInput(rows: Tensor, batched: boolean): Tensor {
    if (!batched || this.batchFirst) return rows;
    return rows.rank === 3 ? rows.transpose(0, 1) : unsqueeze(rows, 1);
  }
}

/** Positions of n rows, for all or for each of b sequences. @throws FOVEA_SHAPE */
function positionsArg(op: string, positions: Tensor, n: number, b: number | undefined): Tensor {
  const { shape } = slotOf(positions, op, 'positions');
  const fits = shape.length === 1 ? shape[0] === n : shape.length === 2 && shape[0] === b && shape[1] === n;
  if (fits) return positions;
  throw shapeError(op, `expected positions [${n}]${b === undefined ? '' : ` or [${b},${n}]`}, received [${shape}]`);
}

/** Options of {@link SinusoidalPositionalEncoding}. */
export interface SinusoidalPositionalEncodingOptions extends PositionsOptions {
  /** Wavelengths go from 2π to 2π · base (default 10000). */
  base?: number;
}

/** Adds sines and cosines of positions, of any number of them. It has no parameters. */
export class SinusoidalPositionalEncoding extends Positions {
  /** Wavelengths go from 2π to 2π · base. */
  readonly base: number;
  override dropout: Dropout;
  readonly #table = new KeptTensors();

  constructor(embeddingDim: number, options: SinusoidalPositionalEncodingOptions = {}) {
    const op = 'SinusoidalPositionalEncoding';
    const {
      base = 10_000,
      dropout = 0,
      batchFirst = false,
    } = optionsArg(op, options, ['base', 'dropout', 'batchFirst']);
    super(op, embeddingDim, batchFirst);
    if (!(numberArg(op, 'base', base) > 0 && base < Infinity))
      throw argumentError(op, 'base', 'a finite number above 0', base);
    this.base = base;
    this.dropout = new Dropout(dropout);
  }

  protected override count(offset: number, n: number, x: Tensor): Tensor {
    const { device } = x;
    const wide = dtypeNames[accumulatorOf(x.slot!.dtype)]!;
    const make = (rows: number): Tensor[] => [this.#rows(arange(rows, { device, dtype: 'float64' })).to(wide)];
    const [table] = this.#table.rows(offset + n, `${wide} ${device}`, make);
    return narrow(table!, 0, offset, n).to(x.dtype);
  }

  protected override at(positions: Tensor, x: Tensor): Tensor {
    return this.#rows(positions.to('float64')).to(x.dtype);
  }

  /** In float64: a position times a frequency, rounded to float32, would be off by the position times 6e-8. */
  #rows(positions: Tensor): Tensor {
    const { embeddingDim: d, base } = this;
    const { device } = positions;
    const step = -2 * (Math.log(base) / d);
    const frequencies = arange(Math.ceil(d / 2), { device, dtype: 'float64' })
      .mul(step)
      .exp();
    const angles = mul(unsqueeze(positions, -1), frequencies);
    return narrow(flatten(stack([sin(angles), cos(angles)], -1), -2), -1, 0, d);
  }

  override dispose(): void {
    super.dispose();
    this.#table.dispose();
  }
}

/** Options of {@link LearnedPositionalEmbedding}. */
export interface LearnedPositionalEmbeddingOptions extends PositionsOptions {
  /** Of the parameters; default float32. */
  dtype?: Dtype;
}

/** Adds a learned row for each position. Key: `weight` [numPositions, embeddingDim]. */
export class LearnedPositionalEmbedding extends Positions {
  /** Rows. */
  readonly numPositions: number;
  /** [numPositions, embeddingDim] */
  weight: Tensor;
  override dropout: Dropout;

  /** Initialised normally, with a deviation of 0.02. */
  constructor(numPositions: number, embeddingDim: number, options: LearnedPositionalEmbeddingOptions = {}) {
    const op = 'LearnedPositionalEmbedding';
    const {
      dropout = 0,
      batchFirst = false,
      dtype = 'float32',
    } = optionsArg(op, options, ['dropout', 'batchFirst', 'dtype']);
    super(op, embeddingDim, batchFirst);
    this.numPositions = countArg(op, 'numPositions', numPositions, 1);
    this.weight = parameter(normal_(empty([numPositions, embeddingDim], { dtype }), 0, 0.02));
    this.dropout = new Dropout(dropout);
  }

  protected override count(offset: number, n: number): Tensor {
    if (offset + n <= this.numPositions) return narrow(this.weight, 0, offset, n);
    throw argumentError(
      'LearnedPositionalEmbedding',
      'x and offset',
      `at most ${this.numPositions} positions`,
      offset + n,
      'shorten the input or make it with more numPositions',
    );
  }

  protected override at(positions: Tensor): Tensor {
    return embedding(positions, this.weight);
  }
}
