/** y = x Wᵀ + b, with W [out, in] as in PyTorch. */
import { empty, linear } from '../ops/index.js';
import { countArg, optionsArg } from '../tensor/check.js';
import type { Dtype } from '../tensor/dtype.js';
import type { Tensor } from '../tensor/tensor.js';
import { kaimingUniform_, uniform_ } from './init.js';
import { Module } from './module.js';
import { parameter } from './parameter.js';

/** Options of {@link Linear}. */
export interface LinearOptions {
  /** Whether there is a bias (default true). */
  bias?: boolean;
  /** Of the parameters; default float32. */
  dtype?: Dtype;
}

/** An affine map of the last dimension, however its weight lies: what `quantize_` can replace. */
export abstract class AffineLayer extends Module {
  /** A parameter. */
  abstract weight: Tensor;
  /** [out], or none. */
  abstract bias: Tensor | undefined;
  /** The weight as [out, in]: itself, or a view. */
  abstract get matrix(): Tensor;
  /** @param x [..., in] @returns [..., out] */
  abstract override forward(x: Tensor): Tensor;
}

/** Affine map of the last dimension. Keys: `weight` [outFeatures, inFeatures], `bias` [outFeatures]. */
export class Linear extends AffineLayer {
  /** Width of the input. */
  readonly inFeatures: number;
  /** Width of the output. */
  readonly outFeatures: number;
  /** [outFeatures, inFeatures] */
  weight: Tensor;
  /** [outFeatures] */
  bias: Tensor | undefined;

  /** Initialised as in PyTorch: weight and bias uniform within ±1/sqrt(inFeatures). */
  constructor(inFeatures: number, outFeatures: number, options: LinearOptions = {}) {
    super();
    const { bias = true, dtype = 'float32' } = optionsArg('Linear', options, ['bias', 'dtype']);
    this.inFeatures = countArg('Linear', 'inFeatures', inFeatures);
    this.outFeatures = countArg('Linear', 'outFeatures', outFeatures);
    this.weight = parameter(empty([outFeatures, inFeatures], { dtype }));
    if (inFeatures > 0) kaimingUniform_(this.weight, { a: Math.sqrt(5) });
    if (!bias) return;
    const bound = inFeatures > 0 ? 1 / Math.sqrt(inFeatures) : 0;
    this.bias = parameter(uniform_(empty([outFeatures], { dtype }), -bound, bound));
  }

  /** {@link weight} */
  override get matrix(): Tensor {
    return this.weight;
  }

  /** @param x [..., inFeatures] @returns [..., outFeatures] */
  override forward(x: Tensor): Tensor {
    return linear(x, this.weight, this.bias);
  }
}
