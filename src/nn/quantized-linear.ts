/** Linear layers with quantised weights. */
import { quantize, quantizedLinear, QuantizedTensor, type QuantType } from '../ops/index.js';
import { argumentError } from '../tensor/check.js';
import type { Tensor } from '../tensor/tensor.js';
import { keep } from '../tensor/tidy.js';
import { Linear } from './linear.js';
import { Module } from './module.js';

/**
 * y = x Wᵀ + b with a quantised W, which is no parameter: gradients go to x and b alone. Keys: `weight`, the packed
 * blocks as uint8 (they load into a layer of the same type and shape), and `bias` [outFeatures].
 */
export class QuantizedLinear extends Module {
  /** Width of the input. */
  readonly inFeatures: number;
  /** Width of the output. */
  readonly outFeatures: number;
  /** How the weight is stored. */
  readonly type: QuantType;
  /** [outFeatures, inFeatures] */
  readonly weight: QuantizedTensor;
  /** [outFeatures] */
  bias: Tensor | undefined;

  /** @param weight [outFeatures, inFeatures], which the layer owns from now on, as it does the bias */
  constructor(weight: QuantizedTensor, bias?: Tensor) {
    super();
    if (!(weight instanceof QuantizedTensor))
      throw argumentError('QuantizedLinear', 'weight', 'a QuantizedTensor', weight, 'make one with quantize()');
    [this.outFeatures, this.inFeatures] = weight.shape;
    this.type = weight.type;
    this.weight = weight;
    keep(weight.packed);
    if (bias !== undefined) this.bias = keep(bias);
  }

  /** A layer with the quantised weight of `linear`, which stays as it is; they share the bias. */
  static fromLinear(linear: Linear, type: QuantType): QuantizedLinear {
    if (!(linear instanceof Linear)) throw argumentError('QuantizedLinear.fromLinear', 'linear', 'a Linear', linear);
    return new QuantizedLinear(quantizedMatrix(linear.weight, type), linear.bias).train(linear.training);
  }

  /** @param x [..., inFeatures]; float32, float16 or bfloat16 @returns [..., outFeatures] in the dtype of `x` */
  override forward(x: Tensor): Tensor {
    return quantizedLinear(x, this.weight, this.bias);
  }
}

/** Quantises a matrix [n, k] however it lies in memory; `matrix` stays as it is. */
export function quantizedMatrix(matrix: Tensor, type: QuantType): QuantizedTensor {
  if (matrix.isContiguous()) return quantize(matrix, type);
  const dense = matrix.contiguous();
  try {
    return quantize(dense, type);
  } finally {
    dense.dispose();
  }
}
