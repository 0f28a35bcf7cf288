/**
 * A transformer decoder: layers one behind the other, each of which looks at the memory, and a norm (Vaswani et al. 2017,
 * section 3.1).
 */
import { optionsArg } from '../tensor/check.js';
import type { Tensor } from '../tensor/tensor.js';
import { type ClonableLayer, LayerStack, type LayerStackOptions } from './layer-stack.js';
import type { Module } from './module.js';
import { decoderForwardNames, type TransformerDecoderLayerForwardOptions } from './transformer-decoder-layer.js';

/** Options of {@link TransformerDecoder.forward}, for every layer; masks are true where a key may be seen. */
export type TransformerDecoderForwardOptions = TransformerDecoderLayerForwardOptions;

/** What a {@link TransformerDecoder} can be made of: a TransformerDecoderLayer, or a module that is called like one. */
export interface DecoderLayer extends Module {
  /** @returns the shape of `tgt` */
  forward(tgt: Tensor, memory: Tensor, options: TransformerDecoderLayerForwardOptions): Tensor;
}

/** A stack of decoder layers. Keys: `layers.<i>.*`, `norm.*`. */
export class TransformerDecoder extends LayerStack<DecoderLayer> {
  /**
   * As in PyTorch, all layers start with the weights of `layer`, and each has its own; `layer` itself is not part of the
   * stack. Its hooks are not copied.
   *
   * @param layer what to copy; or a function that makes layer i, from 0, for layers that are unlike or start unlike
   * @throws FOVEA_ARGUMENT for options out of range, and for a layer that has no `clone()`
   */
  constructor(layer: ClonableLayer<DecoderLayer> | ((index: number) => DecoderLayer), options: LayerStackOptions) {
    super('TransformerDecoder', layer, options);
  }

  /**
   * @param tgt [B, L, dModel] (`batchFirst`) or [L, B, dModel]
   * @param memory [B, S, dModel] or [S, B, dModel]: the encoder's output
   * @returns the shape of `tgt`
   */
  override forward(tgt: Tensor, memory: Tensor, options: TransformerDecoderForwardOptions = {}): Tensor {
    const asked = optionsArg('TransformerDecoder', options, decoderForwardNames);
    const output = this.running().reduce((x, layer) => layer.forward(x, memory, asked), tgt);
    return this.norm ? this.norm.forward(output) : output;
  }
}
