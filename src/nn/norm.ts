/**
 * Normalisation over the last dimensions.
 *
 *   LayerNorm  (x - mean) / sqrt(variance + eps) · weight + bias  (Ba et al. 2016, https://arxiv.org/abs/1607.06450)
 *   RMSNorm    x / sqrt(mean(x²) + eps) · weight            (Zhang & Sennrich 2019, https://arxiv.org/abs/1910.07467)
 */
import { addLayerNorm, type AddNormOutput, layerNorm, ones, rmsNorm, zeros } from '../ops/index.js';
import { optionsArg, shapeArg } from '../tensor/check.js';
import type { Dtype } from '../tensor/dtype.js';
import { sameShape } from '../tensor/layout.js';
import type { Tensor } from '../tensor/tensor.js';
import { Module, runsOnly } from './module.js';
import { parameter } from './parameter.js';

/** Options of {@link RMSNorm}. */
export interface RMSNormOptions {
  /** Added under the root (default: the smallest step at 1 of the input's dtype, as in PyTorch). */
  eps?: number;
  /** Whether there is a weight (default true). */
  elementwiseAffine?: boolean;
  /** Of the parameters; default float32. */
  dtype?: Dtype;
}

/** Options of {@link LayerNorm}. */
export interface LayerNormOptions extends RMSNormOptions {
  /** Added under the root (default 1e-5). */
  eps?: number;
  /** Whether there is a bias beside the weight (default true). */
  bias?: boolean;
}

function normalizedShapeArg(op: string, shape: number | readonly number[]): readonly number[] {
  return shapeArg(op, typeof shape === 'number' ? [shape] : shape, 'normalizedShape');
}

/** Layer normalisation. Keys: `weight`, `bias`, both of `normalizedShape`. */
export class LayerNorm extends Module {
  /** Sizes of the last axes, which are normalised. */
  readonly normalizedShape: readonly number[];
  /** Added to the variance. */
  readonly eps: number;
  /** normalizedShape */
  weight: Tensor | undefined;
  /** normalizedShape */
  bias: Tensor | undefined;

  constructor(normalizedShape: number | readonly number[], options: LayerNormOptions = {}) {
    super();
    const known = ['eps', 'elementwiseAffine', 'bias', 'dtype'] as const;
    const {
      eps = 1e-5,
      elementwiseAffine = true,
      bias = true,
      dtype = 'float32',
    } = optionsArg('LayerNorm', options, known);
    this.normalizedShape = normalizedShapeArg('LayerNorm', normalizedShape);
    this.eps = eps;
    if (elementwiseAffine) this.weight = parameter(ones(this.normalizedShape, { dtype }));
    if (elementwiseAffine && bias) this.bias = parameter(zeros(this.normalizedShape, { dtype }));
  }

  /** @param x [..., ...normalizedShape] @returns the same shape */
  override forward(x: Tensor): Tensor {
    return layerNorm(x, this.normalizedShape, this.weight, this.bias, { eps: this.eps });
  }
}

/** x + residual and its norm: in one op, unless the layer is another than LayerNorm or has hooks. */
export function addThenNorm(layer: LayerNorm, x: Tensor, residual: Tensor): AddNormOutput {
  const alike = x.dtype === residual.dtype && sameShape(x.shape, residual.shape);
  if (alike && runsOnly(layer, LayerNorm)) {
    const { normalizedShape, weight, bias, eps } = layer;
    return addLayerNorm(x, residual, normalizedShape, weight, bias, { eps });
  }
  const sum = x.add(residual);
  return { sum, y: layer.forward(sum) };
}

/** Root-mean-square normalisation. Key: `weight` of `normalizedShape`. */
export class RMSNorm extends Module {
  /** Sizes of the last axes, which are normalised. */
  readonly normalizedShape: readonly number[];
  /** Added to the mean square; undefined: the step at 1 of the input's dtype. */
  readonly eps: number | undefined;
  /** normalizedShape */
  weight: Tensor | undefined;

  constructor(normalizedShape: number | readonly number[], options: RMSNormOptions = {}) {
    super();
    const known = ['eps', 'elementwiseAffine', 'dtype'] as const;
    const { eps, elementwiseAffine = true, dtype = 'float32' } = optionsArg('RMSNorm', options, known);
    this.normalizedShape = normalizedShapeArg('RMSNorm', normalizedShape);
    this.eps = eps;
    if (elementwiseAffine) this.weight = parameter(ones(this.normalizedShape, { dtype }));
  }

  /** @param x [..., ...normalizedShape] @returns the same shape */
  override forward(x: Tensor): Tensor {
    return rmsNorm(x, this.normalizedShape, this.weight, { eps: this.eps });
  }
}
