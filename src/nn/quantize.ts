/** The replacement of a model's weights by quantised ones. */
import { FoveaError } from '../errors.js';
import { QuantizedTensor, type QuantType } from '../ops/index.js';
import { argumentError, functionArg, optionsArg } from '../tensor/check.js';
import type { Tensor } from '../tensor/tensor.js';
import { keep } from '../tensor/tidy.js';
import { AffineLayer } from './linear.js';
import { Module } from './module.js';
import { MultiheadAttention } from './multihead-attention.js';
import { QuantizedLinear, quantizedMatrix } from './quantized-linear.js';
import { replaceModules } from './replace.js';

/** Options of {@link quantize_}. */
export interface QuantizeOptions {
  /** How weights are stored. */
  type: QuantType;
  /**
   * Which of the weights to replace; all where left out. It is asked with the name of a linear layer and that layer,
   * and for the projections that a MultiheadAttention holds itself with that module and its name followed by `in_proj`
   * (`layers.0.self_attn.in_proj`), or by `q_proj`, `k_proj` and `v_proj` where keys or values have another width.
   */
  filter?: (name: string, layer: Module) => boolean;
}

/** Projections of inputs: the properties that hold their weights, and their names. */
const projections = [
  ['inProjWeight', 'in_proj'],
  ['qProjWeight', 'q_proj'],
  ['kProjWeight', 'k_proj'],
  ['vProjWeight', 'v_proj'],
] as const;
type Projection = (typeof projections)[number][0];

/** A weight that can be replaced, and where it is: all of a layer, or a property of a module that goes on. */
type Place = { readonly name: string; readonly weight: Tensor } & (
  | { readonly layer: AffineLayer; readonly property?: undefined }
  | { readonly layer: MultiheadAttention; readonly property: Projection }
);

/**
 * Replaces weights of a model by quantised ones, in place, and frees those that nothing else in the model uses:
 * `Linear` and GPT-2's layers, whose weights lie the other way round, become {@link QuantizedLinear}; of a
 * `MultiheadAttention` the projections of its inputs, too, which it then holds as QuantizedTensors. They are parameters
 * no longer, and state dicts have their packed blocks under the keys that the weights had. Where a head shares its
 * weight with an embedding, the head gets a quantised copy and the embedding keeps the original. Layers of other
 * classes stay as they are; so do optimizers that were made before, which then hold weights that are gone.
 *
 * @returns the names of what was replaced, as the filter is asked for them
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
  const places = model
    .namedModules()
    .flatMap(([name, module]) => placesIn(name, module))
    .filter(({ name, layer }) => filter?.(name, layer) ?? true);
  if (places.length === 0)
    throw argumentError('quantize_', 'model', 'a model with linear layers that the filter takes', model);
  put(model, quantizedAt(places, type));
  const used = new Set(Object.values(model.stateDict()));
  for (const { weight } of places) if (!used.has(weight)) freeWithGradient(weight);
  return places.map(({ name }) => name);
}

/** What of a module itself can be replaced. */
function placesIn(name: string, module: Module): Place[] {
  if (module instanceof AffineLayer) return [{ name, layer: module, weight: module.weight }];
  if (!(module instanceof MultiheadAttention)) return [];
  return projections.flatMap(([property, own]) => {
    const weight = module[property];
    if (weight === undefined || weight instanceof QuantizedTensor) return [];
    return [{ name: name === '' ? own : `${name}.${own}`, layer: module, property, weight }];
  });
}

/** The weight of each place, quantised: of all, or none is left behind where one cannot be. */
function quantizedAt(places: readonly Place[], type: QuantType): [Place, QuantizedTensor][] {
  const made: [Place, QuantizedTensor][] = [];
  try {
    for (const place of places) made.push([place, named(place.name, () => quantizedOf(place, type))]);
  } catch (error) {
    for (const [, weight] of made) weight.dispose();
    throw error;
  }
  return made;
}

function quantizedOf({ layer, weight }: Place, type: QuantType): QuantizedTensor {
  const matrix = layer instanceof AffineLayer ? layer.matrix : weight;
  try {
    return quantizedMatrix(matrix, type);
  } finally {
    if (matrix !== weight) matrix.dispose();
  }
}

/** Puts weights in their places. */
function put(model: Module, made: readonly [Place, QuantizedTensor][]): void {
  const layers = new Map<Module, QuantizedLinear>();
  for (const [place, weight] of made) {
    if (place.property === undefined) {
      const { layer } = place;
      layers.set(layer, new QuantizedLinear(weight, layer.bias).train(layer.training));
    } else {
      keep(weight.packed);
      place.layer[place.property] = weight;
    }
  }
  replaceModules(model, layers);
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
