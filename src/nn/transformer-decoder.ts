/**
 * A transformer decoder: layers one behind the other, each of which looks at the memory, and a norm (Vaswani et al.
 * 2017, section 3.1).
 */
import { argumentError, optionsArg } from '../tensor/check.js';
import type { Tensor } from '../tensor/tensor.js';
import type { DecoderLayerCache } from './attention-cache.js';
import { type ClonableLayer, LayerStack, type LayerStackOptions } from './layer-stack.js';
import type { Module } from './module.js';
import { decoderForwardNames, type TransformerDecoderLayerForwardOptions } from './transformer-decoder-layer.js';

/** Options of {@link TransformerDecoder.forward}, for every layer; masks are true where a key may be seen. */
export interface TransformerDecoderForwardOptions extends Omit<TransformerDecoderLayerForwardOptions, 'pastKeyValue'> {
  /**
   * For each layer what it remembers of calls before, as `EncoderDecoderCache` of fovea/generate has it. Default:
   * nothing.
   */
  pastKeyValues?: readonly DecoderLayerCache[] | undefined;
}

/** What a {@link TransformerDecoder} can be made of: a TransformerDecoderLayer, or a module that is called like one. */
export interface DecoderLayer extends Module {
  /** @returns the shape of `tgt` */
  forward(tgt: Tensor, memory: Tensor, options: TransformerDecoderLayerForwardOptions): Tensor;
}

/** A stack of decoder layers. Keys: `layers.<i>.*`, `norm.*`. */
export class TransformerDecoder extends LayerStack<DecoderLayer> {
  /**
   * As in PyTorch, all layers start with the weights of `layer`, and each has its own; `layer` itself is not part of
   * the stack. Its hooks are not copied.
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
   * @throws FOVEA_ARGUMENT for caches of fewer or more layers, and where training drops layers
   */
  override forward(tgt: Tensor, memory: Tensor, options: TransformerDecoderForwardOptions = {}): Tensor {
    const names = [...decoderForwardNames, 'pastKeyValues'] as const;
    const { pastKeyValues, ...asked } = optionsArg('TransformerDecoder', options, names);
    if (pastKeyValues) this.#checkCaches(pastKeyValues);
    const output = this.running().reduce(
      (x, layer, i) => layer.forward(x, memory, pastKeyValues ? { ...asked, pastKeyValue: pastKeyValues[i] } : asked),
      tgt,
    );
    return this.norm ? this.norm.forward(output) : output;
  }
  #checkCaches(caches: readonly DecoderLayerCache[]): void {
    const [op, name] = ['TransformerDecoder', 'pastKeyValues'];
    const { length } = this.layers;
    if (!Array.isArray(caches) || caches.length !== length)
      throw argumentError(op, name, `a list with a cache for each of ${length} layers`, caches);
    if (this.training && this.layerDrop > 0)
      throw argumentError(op, name, 'none where training drops layers', caches, 'call eval()');
  }
}
