/**
 * Biases of attention by the distance of key and query, as modules: they hold the tables that `positionBias` makes its
 * values of, one value for each head and distance (or bucket of distances). Their `forward` gives what `attention`,
 * `MultiheadAttention` and the layers of transformers take as `positionBias`; several layers may share one.
 */
import { empty } from '../ops/index.js';
import { relative, t5 } from '../ops/position-bias-kinds.js';
import type { PositionBias } from '../ops/position-bias.js';
import { argumentError, countArg, optionsArg } from '../tensor/check.js';
import type { Dtype } from '../tensor/dtype.js';
import type { Tensor } from '../tensor/tensor.js';
import { normal_ } from './init.js';
import { Module } from './module.js';
import { parameter } from './parameter.js';

const deviation = 0.02;

/** Options of {@link RelativePositionBias}. */
export interface RelativePositionBiasOptions {
  /** Of the parameters; default float32. */
  dtype?: Dtype;
}

/**
 * A learned bias for each head and distance up to `maxDistance`, that of the last distance for all beyond (Shaw et al.
 * 2018, https://arxiv.org/abs/1803.02155, as scalars). Key: `weight` [numHeads, 2 maxDistance + 1], distance 0 in the
 * middle.
 */
export class RelativePositionBias extends Module {
  /** [numHeads, 2 maxDistance + 1] */
  weight: Tensor;

  /** Initialised normally, with a deviation of 0.02. */
  constructor(numHeads: number, maxDistance: number, options: RelativePositionBiasOptions = {}) {
    super();
    const op = 'RelativePositionBias';
    const { dtype = 'float32' } = optionsArg(op, options, ['dtype']);
    const shape = [countArg(op, 'numHeads', numHeads, 1), 2 * countArg(op, 'maxDistance', maxDistance) + 1];
    this.weight = parameter(normal_(empty(shape, { dtype }), 0, deviation));
  }

  /** @returns the bias, for any lengths */
  override forward(): PositionBias {
    return relative(this.weight);
  }
}

/** Options of {@link T5RelativePositionBias}. */
export interface T5RelativePositionBiasOptions extends RelativePositionBiasOptions {
  /** Buckets of distances, an even number (default 32). */
  numBuckets?: number;
  /** The distance from which on all are in the last bucket (default 128). */
  maxDistance?: number;
  /** Whether keys behind the query have buckets of their own, as in encoders (default true). */
  bidirectional?: boolean;
}

/**
 * A learned bias for each head and bucket of distances (Raffel et al. 2020, https://arxiv.org/abs/1910.10683, section
 * 2.1). Key: `weight` [numBuckets, numHeads], as Hugging Face's `relative_attention_bias`. T5 attends without dividing
 * scores.
 */
export class T5RelativePositionBias extends Module {
  /** The distance from which on all are in the last bucket. */
  readonly maxDistance: number;
  /** Whether keys behind the query have buckets of their own. */
  readonly bidirectional: boolean;
  /** [numBuckets, numHeads] */
  weight: Tensor;
  #made: { readonly weight: Tensor; readonly bias: PositionBias } | undefined;

  /** Initialised normally, with a deviation of 0.02. */
  constructor(numHeads: number, options: T5RelativePositionBiasOptions = {}) {
    super();
    const op = 'T5RelativePositionBias';
    const known = ['numBuckets', 'maxDistance', 'bidirectional', 'dtype'] as const;
    const {
      numBuckets = 32,
      maxDistance = 128,
      bidirectional = true,
      dtype = 'float32',
    } = optionsArg(op, options, known);
    if (countArg(op, 'numBuckets', numBuckets, 4) % 2)
      throw argumentError(op, 'numBuckets', 'an even number of at least 4', numBuckets);
    const exact = Math.floor(numBuckets / (bidirectional ? 4 : 2));
    this.maxDistance = countArg(op, 'maxDistance', maxDistance, exact + 1);
    this.bidirectional = bidirectional;
    const shape = [numBuckets, countArg(op, 'numHeads', numHeads, 1)];
    this.weight = parameter(normal_(empty(shape, { dtype }), 0, deviation));
  }

  /** @returns the bias, for any lengths */
  override forward(): PositionBias {
    const { weight, bidirectional, maxDistance } = this;
    // One value for all calls, since it keeps the buckets of all distances.
    if (this.#made?.weight !== weight) this.#made = { weight, bias: t5(weight, { bidirectional, maxDistance }) };
    return this.#made.bias;
  }
}
