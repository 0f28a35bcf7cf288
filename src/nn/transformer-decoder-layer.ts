/**
 * One layer of a transformer decoder, with PyTorch's options, keys and results. It looks at the targets, then at the
 * encoder's output (the memory), then works at each position:
 *
 *   post-norm (default)     x = norm1(x + attention(x));  x = norm2(x + attention(x, memory));
 *                           x = norm3(x + feedForward(x))
 *   pre-norm (`normFirst`)  the same with norms on the sublayers' inputs; a stack needs one more norm after the last
 *
 * Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.1; Xiong et al. 2020,
 * https://arxiv.org/abs/2002.04745.
 */
import type { Mask } from '../ops/mask.js';
import type { PositionBias } from '../ops/position-bias.js';
import { argumentError, optionsArg } from '../tensor/check.js';
import type { Tensor } from '../tensor/tensor.js';
import type { DecoderLayerCache } from './attention-cache.js';
import { Dropout } from './dropout.js';
import { Linear } from './linear.js';
import { MultiheadAttention } from './multihead-attention.js';
import { LayerNorm } from './norm.js';
import { attend, copyOfLayer, TransformerLayer, type TransformerLayerOptions } from './transformer-layer.js';

/** Options of {@link TransformerDecoderLayer}. */
export type TransformerDecoderLayerOptions = TransformerLayerOptions;

/** Options of {@link TransformerDecoderLayer.forward}; masks are true where a key may be seen. */
export interface TransformerDecoderLayerForwardOptions {
  /** What targets see of targets: a mask, or [L, L] or [B·h, L, L]: bool, or numbers to add to the scores. */
  tgtMask?: Mask | Tensor | undefined;
  /** What targets see of the memory: a mask, or [L, S] or [B·h, L, S]: bool, or numbers to add to the scores. */
  memoryMask?: Mask | Tensor | undefined;
  /** [B, L], of the targets: bool, or numbers to add to the scores. */
  tgtKeyPaddingMask?: Tensor | undefined;
  /** [B, S], of the memory: bool, or numbers to add to the scores. */
  memoryKeyPaddingMask?: Tensor | undefined;
  /** Whether a target sees those up to itself only, beside the masks. */
  tgtIsCausal?: boolean | undefined;
  /** Whether target i sees the memory up to place i only, beside the masks. */
  memoryIsCausal?: boolean | undefined;
  /** Added by distance to the scores among targets. */
  positionBias?: PositionBias | undefined;
  /**
   * Keys and values of the targets before `tgt`, which are seen beside it, and those of the memory, which is read by
   * the first call only. Masks of targets are then of L queries by all keys. Default: none.
   */
  pastKeyValue?: DecoderLayerCache | undefined;
}

/** The names of {@link TransformerDecoderLayerForwardOptions} that hold for every layer of a stack. */
export const decoderForwardNames = [
  'tgtMask',
  'memoryMask',
  'tgtKeyPaddingMask',
  'memoryKeyPaddingMask',
  'tgtIsCausal',
  'memoryIsCausal',
  'positionBias',
] as const;

/** Keys: `self_attn.*`, `multihead_attn.*`, `linear1.*`, `linear2.*`, `norm1.*`, `norm2.*`, `norm3.*`. */
export class TransformerDecoderLayer extends TransformerLayer {
  /** Of targets to targets. */
  override selfAttn: MultiheadAttention;
  /** Of targets to the memory. */
  multiheadAttn: MultiheadAttention;
  override linear1: Linear;
  override dropout: Dropout;
  override linear2: Linear;
  norm1: LayerNorm;
  norm2: LayerNorm;
  norm3: LayerNorm;
  dropout1: Dropout;
  dropout2: Dropout;
  dropout3: Dropout;

  constructor(options: TransformerDecoderLayerOptions) {
    super('TransformerDecoderLayer', options);
    const { dModel, nHead, dimFeedforward, dropout, layerNormEps: eps, batchFirst, bias, dtype } = this.options;
    this.selfAttn = new MultiheadAttention(dModel, nHead, { dropout, bias, batchFirst, dtype });
    this.multiheadAttn = new MultiheadAttention(dModel, nHead, { dropout, bias, batchFirst, dtype });
    this.linear1 = new Linear(dModel, dimFeedforward, { bias, dtype });
    this.dropout = new Dropout(dropout);
    this.linear2 = new Linear(dimFeedforward, dModel, { bias, dtype });
    this.norm1 = new LayerNorm(dModel, { eps, bias, dtype });
    this.norm2 = new LayerNorm(dModel, { eps, bias, dtype });
    this.norm3 = new LayerNorm(dModel, { eps, bias, dtype });
    this.dropout1 = new Dropout(dropout);
    this.dropout2 = new Dropout(dropout);
    this.dropout3 = new Dropout(dropout);
  }

  /**
   * @param tgt [B, L, dModel] (`batchFirst`) or [L, B, dModel]
   * @param memory [B, S, dModel] or [S, B, dModel]: the encoder's output
   * @returns the shape of `tgt`
   * @throws FOVEA_ARGUMENT for `memoryIsCausal` beside a cache
   */
  override forward(tgt: Tensor, memory: Tensor, options: TransformerDecoderLayerForwardOptions = {}): Tensor {
    const given = optionsArg('TransformerDecoderLayer', options, [...decoderForwardNames, 'pastKeyValue']);
    const { pastKeyValue } = given;
    if (pastKeyValue && given.memoryIsCausal) refuseCausalMemory();
    const own = {
      mask: given.tgtMask,
      keyPaddingMask: given.tgtKeyPaddingMask,
      isCausal: given.tgtIsCausal,
      positionBias: given.positionBias,
      pastKeyValue: pastKeyValue?.selfAttention,
    };
    const cross = {
      mask: given.memoryMask,
      keyPaddingMask: given.memoryKeyPaddingMask,
      isCausal: given.memoryIsCausal,
      pastKeyValue: pastKeyValue?.crossAttention,
    };
    return this.through(tgt, [
      { norm: this.norm1, run: (x) => this.dropout1.forward(attend(this.selfAttn, x, x, own)) },
      { norm: this.norm2, run: (x) => this.dropout2.forward(attend(this.multiheadAttn, x, memory, cross)) },
      { norm: this.norm3, run: (x) => this.dropout3.forward(this.feedForward(x)) },
    ]);
  }

  /**
   * A layer with weights of its own, which are copies of this one's, as are what requires gradients and modes; hooks
   * are not.
   *
   * @throws FOVEA_UNSUPPORTED for a subclass that does not define it
   */
  clone(): TransformerDecoderLayer {
    return copyOfLayer(this, TransformerDecoderLayer);
  }
}

/** The memory has as many places as before, so its end says nothing about where the targets are. */
function refuseCausalMemory(): never {
  const remedy = 'say it by memoryMask';
  throw argumentError('TransformerDecoderLayer', 'memoryIsCausal', 'false beside pastKeyValue', true, remedy);
}
