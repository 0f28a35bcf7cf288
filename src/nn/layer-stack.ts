/**
 * Layers one behind the other, of which training may leave out some (LayerDrop, Fan et al. 2019,
 * https://arxiv.org/abs/1909.11556): each layer is skipped with probability p, alone, so that what goes past it goes on
 * unchanged. Nothing is scaled, and in evaluation all layers run.
 */
import { hostUniform } from '../ops/host-random.js';
import { argumentError, countArg, optionsArg, probabilityArg } from '../tensor/check.js';
import type { Tensor } from '../tensor/tensor.js';
import { Module } from './module.js';

/** A module of one tensor: a norm. */
export interface NormLayer extends Module {
  /** @returns the shape of `x` */
  forward(x: Tensor): Tensor;
}

/** Options of a stack. */
export interface LayerStackOptions {
  /** How many layers there are, at least 1. */
  numLayers: number;
  /** What comes after the last layer, which pre-norm layers need; used as it is, not copied. Default nothing. */
  norm?: NormLayer | undefined;
  /** In training: the probability of each layer to be left out (default 0). Not in steps that `record` keeps. */
  layerDrop?: number;
}

/** A layer of which there can be copies with weights of their own. */
export type ClonableLayer<L extends Module> = L & { clone(): L };

/** Layers and what comes after them. Keys: `layers.<i>.*`, `norm.*`. */
export abstract class LayerStack<L extends Module> extends Module {
  /** In training: the probability of each layer to be left out. */
  readonly layerDrop: number;
  layers: L[];
  norm: NormLayer | undefined;

  protected constructor(op: string, layer: ClonableLayer<L> | ((index: number) => L), options: LayerStackOptions) {
    super();
    if (options === undefined) throw argumentError(op, 'options', 'an object with numLayers', options);
    const { numLayers, norm, layerDrop = 0 } = optionsArg(op, options, ['numLayers', 'norm', 'layerDrop']);
    countArg(op, 'numLayers', numLayers, 1);
    this.layerDrop = probabilityArg(op, 'layerDrop', layerDrop);
    if (norm !== undefined && !(norm instanceof Module)) throw argumentError(op, 'norm', 'a Module', norm);
    this.layers = Array.from({ length: numLayers }, (_, i) => layerAt(op, layer, i));
    this.norm = norm;
  }

  /** The layers of this call: all of them, or in training those that are not dropped. */
  protected running(): readonly L[] {
    if (!this.training || this.layerDrop === 0) return this.layers;
    const drawn = hostUniform(this.constructor.name, this.layers.length);
    return this.layers.filter((_, i) => drawn[i]! >= this.layerDrop);
  }
}

function layerAt<L extends Module>(op: string, layer: ClonableLayer<L> | ((index: number) => L), i: number): L {
  if (typeof layer === 'function') return moduleArg(op, layer(i));
  if (typeof moduleArg(op, layer).clone === 'function') return layer.clone();
  throw argumentError(op, 'layer', 'a layer with clone()', layer, 'or pass a function that makes layers');
}

function moduleArg<L extends Module>(op: string, layer: L): L {
  if (layer instanceof Module) return layer;
  throw argumentError(op, 'layer', 'a layer, or a function that makes layers', layer);
}
