/** Linear layers with quantised weights, and the replacement of a model's linear layers by them. */
import { FoveaError } from '../errors.js';
import { quantize, quantizedLinear, QuantizedTensor, type QuantType } from '../ops/index.js';
import { argumentError, functionArg, optionsArg } from '../tensor/check.js';
import type { Tensor } from '../tensor/tensor.js';
import { keep } from '../tensor/tidy.js';
import { AffineLayer, Linear } from './linear.js';
import { Module } from './module.js';

/**
 * y = x Wᵀ + b with a quantised W, which is no parameter: gradients go to x and b alone. Keys: `weight`, the packed blocks
 * as uint8 (they load into a layer of the same type and shape), and `bias` [outFeatures].
 */
export class QuantizedLinear extends Module {
  static override readonly stateDictKeys: Readonly<Record<string, string>> = { packed: 'weight' };
  /** Width of the input. */
  readonly inFeatures: number;
  /** Width of the output. */
  readonly outFeatures: number;
  /** How the weight is stored. */
  readonly type: QuantType;
  // These two are declared alone, so that they come in the order of the constructor, which is that of the state dict.
  /** The blocks of the weight; see {@link weight}. */
  declare readonly packed: Tensor;
  /** [outFeatures] */
  declare bias: Tensor | undefined;

  /** @param weight [outFeatures, inFeatures], which the layer owns from now on, as it does the bias */
  constructor(weight: QuantizedTensor, bias?: Tensor) {
    super();
    if (!(weight instanceof QuantizedTensor))
      throw argumentError('QuantizedLinear', 'weight', 'a QuantizedTensor', weight, 'make one with quantize()');
    [this.outFeatures, this.inFeatures] = weight.shape;
    this.type = weight.type;
    this.registerBuffer('packed', weight.packed);
    if (bias !== undefined) this.bias = keep(bias);
  }

  /** A layer with the quantised weight of `linear`, which stays as it is; they share the bias. */
  static fromLinear(linear: Linear, type: QuantType): QuantizedLinear {
    if (!(linear instanceof Linear)) throw argumentError('QuantizedLinear.fromLinear', 'linear', 'a Linear', linear);
    return quantizedLayer(linear, type);
  }

  /** [outFeatures, inFeatures]: the layer's own weight, not a copy. */
  get weight(): QuantizedTensor {
    return new QuantizedTensor(this.packed, this.type, [this.outFeatures, this.inFeatures]);
  }

  /** @param x [..., inFeatures]; float32, float16 or bfloat16 @returns [..., outFeatures] in the dtype of `x` */
  override forward(x: Tensor): Tensor {
    return quantizedLinear(x, this.weight, this.bias);
  }
}

/** Options of {@link quantize_}. */
export interface QuantizeOptions {
  /** How weights are stored. */
  type: QuantType;
  /** Which of the linear layers to replace, by their names; all where left out. */
  filter?: (name: string, layer: Module) => boolean;
}

/**
 * Replaces the linear layers of a model by {@link QuantizedLinear}, in place, and frees the weights that nothing else in
 * the model uses: `Linear`, and GPT-2's layers, whose weights lie the other way round. Where a head shares its weight with
 * an embedding, the head gets a quantised copy and the embedding keeps the original. Layers of other classes stay as they
 * are; so do optimizers that were made before, which then hold weights that are gone.
 *
 * @returns the names of the layers that were replaced
 * @throws FOVEA_ARGUMENT if the model is itself a Linear or has none that the filter takes; FOVEA_SHAPE naming a layer
 *   whose width does not suit the type. The model is then unchanged
 */
export function quantize_(model: Module, options: QuantizeOptions): string[] {
  if (!(model instanceof Module)) throw argumentError('quantize_', 'model', 'a Module', model);
  const { type, filter } = optionsArg('quantize_', options, ['type', 'filter']);
  if (filter !== undefined) functionArg('quantize_', 'filter', filter);
  if (model instanceof AffineLayer)
    throw argumentError(
      'quantize_',
      'model',
      'a model that holds linear layers',
      model,
      'use QuantizedLinear.fromLinear',
    );
  const chosen = model
    .namedModules()
    .flatMap(([name, layer]) =>
      layer instanceof AffineLayer && (filter?.(name, layer) ?? true) ? [[name, layer] as const] : [],
    );
  if (chosen.length === 0)
    throw argumentError('quantize_', 'model', 'a model with linear layers that the filter takes', model);
  const made = new Map<Module, QuantizedLinear>();
  try {
    for (const [name, layer] of chosen)
      made.set(
        layer,
        named(name, () => quantizedLayer(layer, type)),
      );
  } catch (error) {
    for (const layer of made.values()) layer.packed.dispose();
    throw error;
  }
  for (const module of model.modules()) replaceChildren(module, made);
  const used = new Set(Object.values(model.stateDict()));
  for (const [, { weight }] of chosen) if (!used.has(weight)) freeWithGradient(weight);
  return chosen.map(([name]) => name);
}

function quantizedLayer(layer: AffineLayer, type: QuantType): QuantizedLinear {
  const { matrix, weight, bias } = layer;
  const dense = matrix.isContiguous() ? matrix : matrix.contiguous();
  try {
    return new QuantizedLinear(quantize(dense, type), bias).train(layer.training);
  } finally {
    for (const made of new Set([matrix, dense])) if (made !== weight) made.dispose();
  }
}

function replaceChildren(module: Module, made: ReadonlyMap<Module, QuantizedLinear>): void {
  const replacement = (value: unknown): unknown => made.get(value as Module) ?? value;
  for (const [property, value] of Object.entries(module)) {
    if (Array.isArray(value)) value.forEach((item, i) => (value[i] = replacement(item)));
    else if (made.has(value as Module)) Object.assign(module, { [property]: replacement(value) });
  }
}

function freeWithGradient(weight: Tensor): void {
  weight.grad?.dispose();
  weight.dispose();
}

/** Adds the name of the layer to what is thrown. */
function named<T>(name: string, run: () => T): T {
  try {
    return run();
  } catch (error) {
    if (!(error instanceof FoveaError)) throw error;
    throw new FoveaError(error.code, `quantize_: layer ${name}: ${error.message}; or leave it out by the filter`, {
      cause: error,
    });
  }
}
