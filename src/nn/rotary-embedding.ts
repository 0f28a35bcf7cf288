/**
 * Rotary position embedding as a module (Su et al. 2021, https://arxiv.org/abs/2104.09864): angles of positions, scaled
 * for long contexts (rope-scaling.ts), and the rotation of queries and keys by them.
 *
 *   angle[p, i] = p · frequency_i;   cos and sin of it, times the attention factor
 */
import { arange, cos, mul, rope, sin, tensor, unsqueeze } from '../ops/index.js';
import { argumentError, countArg, numberArg, optionsArg, shapeError } from '../tensor/check.js';
import type { Device } from '../tensor/device.js';
import type { Dtype } from '../tensor/dtype.js';
import { isTensor, slotOf, type Tensor } from '../tensor/tensor.js';
import { KeptTensors } from './kept-tensors.js';
import { Module } from './module.js';
import { ropeFrequencies, type RopeFrequencies, type RopeScaling, ropeScalingArg } from './rope-scaling.js';

/** Options of {@link RotaryEmbedding}. */
export interface RotaryEmbeddingOptions {
  /** Wavelengths go from 2π to 2π · base (default 10000): Hugging Face's `rope_theta`. */
  base?: number;
  /** For contexts longer than those of training; default none. */
  scaling?: RopeScaling;
  /** Pairs (0,1), (2,3), … instead of (i, i + dim/2), which is what most checkpoints use. */
  interleaved?: boolean;
}

/** Options of {@link RotaryEmbedding.angles}. */
export interface RotaryAnglesOptions {
  /** Where positions are given as a number: where to make the angles (default cpu). */
  device?: Device;
  /** float32 (default) or float64. */
  dtype?: 'float32' | 'float64';
  /** Beside a tensor of positions, with `dynamic` scaling: the longest position and one. */
  seqLen?: number;
}

/** Cosines and sines of angles, as `rope` takes them. */
export interface RotaryAngles {
  /** [n, dim/2] or [b, n, dim/2] */
  cos: Tensor;
  /** [n, dim/2] or [b, n, dim/2] */
  sin: Tensor;
}

/** Options of {@link RotaryEmbedding.forward}. */
export interface RotaryForwardOptions {
  /** Integers [n] or [b, n]: each row's position (default 0, 1, …). */
  positions?: Tensor;
  /** Beside positions, with `dynamic` scaling: the longest position and one. */
  seqLen?: number;
}

/**
 * Rotates queries and keys by their positions. It has no parameters, and its frequencies stay float64 whatever the
 * model is converted to. Where several layers share one, make the angles once with {@link angles} and give them to
 * `rope`.
 */
export class RotaryEmbedding extends Module {
  /** How many places of a head are rotated; those behind pass. */
  readonly dim: number;
  /** Wavelengths go from 2π to 2π · base. */
  readonly base: number;
  /** As given. */
  readonly scaling: RopeScaling;
  /** Whether pairs are neighbours. */
  readonly interleaved: boolean;
  readonly #table = new KeptTensors();
  readonly #frequencies = new KeptTensors();

  /** @param dim an even number: the width of a head, or of the part of it that is rotated */
  constructor(dim: number, options: RotaryEmbeddingOptions = {}) {
    super();
    const op = 'RotaryEmbedding';
    const { base = 10_000, scaling, interleaved = false } = optionsArg(op, options, ['base', 'scaling', 'interleaved']);
    if (countArg(op, 'dim', dim, 2) % 2) throw argumentError(op, 'dim', 'an even number', dim);
    if (!(numberArg(op, 'base', base) > 1 && base < Infinity))
      throw argumentError(op, 'base', 'a finite number above 1', base);
    this.dim = dim;
    this.base = base;
    this.scaling = scaling === undefined ? { ropeType: 'default' } : ropeScalingArg(scaling);
    this.interleaved = interleaved;
    if (this.scaling.ropeType === 'dynamic' && dim === 2)
      throw argumentError(op, 'dim', 'at least 4 with dynamic scaling', dim);
  }

  /**
   * What rotates each pair, and the factor of cosines and sines, in float64.
   *
   * @param seqLen the longest position of a call and one, which `dynamic` scaling looks at (default 1)
   */
  frequencies(seqLen = 1): RopeFrequencies {
    countArg('RotaryEmbedding', 'seqLen', seqLen);
    return ropeFrequencies(this.dim, this.base, this.scaling, seqLen);
  }

  /**
   * Cosines and sines of positions, which `rope` takes. They depend on the length of this call alone: with `dynamic`
   * scaling, give all positions of a sequence in one call, or its length as `seqLen`.
   *
   * @param positions how many, from 0; or integers [n] or [b, n]
   * @throws FOVEA_ARGUMENT for `dynamic` scaling and a tensor of positions without `seqLen`
   */
  angles(positions: number | Tensor, options: RotaryAnglesOptions = {}): RotaryAngles {
    const op = 'RotaryEmbedding.angles';
    const { device = 'cpu', dtype = 'float32', seqLen } = optionsArg(op, options, ['device', 'dtype', 'seqLen']);
    if (dtype !== 'float32' && dtype !== 'float64') throw argumentError(op, 'dtype', "'float32' or 'float64'", dtype);
    if (isTensor(positions)) return this.#anglesAt(op, positions, dtype, seqLen);
    // Copies, since who has them may write to them.
    const { cos: c, sin: s } = this.#anglesOf(op, positions, device, dtype, seqLen);
    return { cos: c.clone(), sin: s.clone() };
  }

  /** Views of the table of this module. */
  #anglesOf(op: string, count: number, device: Device, dtype: Dtype, seqLen: number | undefined): RotaryAngles {
    countArg(op, 'positions', count);
    const given = this.frequencies(seqLen === undefined ? count : countArg(op, 'seqLen', seqLen, count));
    const make = (rows: number): Tensor[] =>
      turned(arange(rows, { device, dtype: 'float64' }), this.#tensorOf(given, device), given, dtype);
    // With dynamic scaling other lengths have other frequencies, of which the last is the slowest.
    const [c, s] = this.#table.rows(count, `${dtype} ${device} ${given.frequencies.at(-1)}`, make);
    return { cos: c!, sin: s! };
  }

  #anglesAt(op: string, positions: Tensor, dtype: Dtype, seqLen: number | undefined): RotaryAngles {
    const { shape } = slotOf(positions, op, 'positions');
    if (shape.length !== 1 && shape.length !== 2)
      throw shapeError(op, `expected positions [n] or [b,n], received [${shape}]`);
    if (seqLen === undefined && this.scaling.ropeType === 'dynamic')
      throw argumentError(op, 'seqLen', 'the length of the sequence, for dynamic scaling', seqLen, 'pass { seqLen }');
    const given = this.frequencies(seqLen);
    const [c, s] = turned(positions.to('float64'), this.#tensorOf(given, positions.device), given, dtype);
    return { cos: c!, sin: s! };
  }

  #tensorOf({ frequencies }: RopeFrequencies, device: Device): Tensor {
    const make = (): Tensor[] => [tensor(frequencies, { device, dtype: 'float64' })];
    return this.#frequencies.get(`${device} ${frequencies.at(-1)}`, make)[0]!;
  }

  /**
   * @param x queries or keys [b, h, n, d], or [h, n, d], floats; d ≥ dim
   * @returns the shape and dtype of `x`, the first `dim` places of each head rotated
   * @throws FOVEA_SHAPE where shapes do not fit, FOVEA_ARGUMENT as {@link angles} does
   */
  override forward(x: Tensor, options: RotaryForwardOptions = {}): Tensor {
    const op = 'RotaryEmbedding';
    const { positions, seqLen } = optionsArg(op, options, ['positions', 'seqLen']);
    const { shape } = slotOf(x, op, 'x');
    if ((shape.length !== 3 && shape.length !== 4) || shape.at(-1)! < this.dim)
      throw shapeError(op, `expected x [b,h,n,d] or [h,n,d] with d of at least ${this.dim}, received [${shape}]`);
    const dtype: Dtype = x.dtype === 'float64' ? 'float64' : 'float32';
    const angles = positions
      ? this.#anglesAt(op, positions, dtype, seqLen)
      : this.#anglesOf(op, shape.at(-2)!, x.device, dtype, seqLen);
    return rope(x, angles.cos, angles.sin, { interleaved: this.interleaved });
  }

  override dispose(): void {
    super.dispose();
    this.#table.dispose();
    this.#frequencies.dispose();
  }
}

/**
 * Cosines and sines of positions times frequencies, times the attention factor: in float64, since a product rounded to
 * float32 would be off by the position times 6e-8.
 */
function turned(positions: Tensor, frequencies: Tensor, { attentionFactor }: RopeFrequencies, dtype: Dtype): Tensor[] {
  const angles = mul(unsqueeze(positions, -1), frequencies);
  return [cos(angles), sin(angles)].map((x) => (attentionFactor === 1 ? x : x.mul(attentionFactor)).to(dtype));
}
