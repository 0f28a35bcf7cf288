/** A transformer encoder: layers one behind the other, and a norm (Vaswani et al. 2017, section 3.1). */
import type { Mask } from '../ops/mask.js';
import type { PositionBias } from '../ops/position-bias.js';
import { optionsArg } from '../tensor/check.js';
import type { Tensor } from '../tensor/tensor.js';
import { type ClonableLayer, LayerStack, type LayerStackOptions } from './layer-stack.js';
import type { Module } from './module.js';
import type { TransformerEncoderLayerForwardOptions } from './transformer-encoder-layer.js';

/** Options of {@link TransformerEncoder.forward}; masks are true where a key may be seen. */
export interface TransformerEncoderForwardOptions {
  /** For every layer: a mask, or [L, L] or [B·h, L, L]: bool, or numbers to add to the scores. */
  mask?: Mask | Tensor | undefined;
  /** [B, L]: bool, or numbers to add to the scores. */
  srcKeyPaddingMask?: Tensor | undefined;
  /** Whether a position sees those up to itself only, beside the masks. */
  isCausal?: boolean | undefined;
  /** Added by distance to the scores of every layer, as in T5. */
  positionBias?: PositionBias | undefined;
}

/** What a {@link TransformerEncoder} can be made of: a TransformerEncoderLayer, or a module that is called like one. */
export interface EncoderLayer extends Module {
  /** @returns the shape of `src` */
  forward(src: Tensor, options: TransformerEncoderLayerForwardOptions): Tensor;
}

/** A stack of encoder layers. Keys: `layers.<i>.*`, `norm.*`. */
export class TransformerEncoder extends LayerStack<EncoderLayer> {
  /**
   * As in PyTorch, all layers start with the weights of `layer`, and each has its own; `layer` itself is not part of
   * the stack. Its hooks are not copied.
   *
   * @param layer what to copy; or a function that makes layer i, from 0, for layers that are unlike or start unlike
   * @throws FOVEA_ARGUMENT for options out of range, and for a layer that has no `clone()`
   */
  constructor(layer: ClonableLayer<EncoderLayer> | ((index: number) => EncoderLayer), options: LayerStackOptions) {
    super('TransformerEncoder', layer, options);
  }

  /** @param src [B, L, dModel] (`batchFirst`) or [L, B, dModel] @returns the same shape */
  override forward(src: Tensor, options: TransformerEncoderForwardOptions = {}): Tensor {
    const known = ['mask', 'srcKeyPaddingMask', 'isCausal', 'positionBias'] as const;
    const { mask: srcMask, ...rest } = optionsArg('TransformerEncoder', options, known);
    const asked = { srcMask, ...rest };
    const output = this.running().reduce((x, layer) => layer.forward(x, asked), src);
    return this.norm ? this.norm.forward(output) : output;
  }
}
