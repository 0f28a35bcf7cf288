/**
 * One layer of a transformer encoder, with PyTorch's options, keys and results:
 *
 *   post-norm (default)     x = norm1(x + attention(x));  x = norm2(x + feedForward(x))      (Vaswani et al. 2017)
 *   pre-norm (`normFirst`)  x = x + attention(norm1(x));  x = x + feedForward(norm2(x))      (Xiong et al. 2020)
 *
 * A stack of pre-norm layers needs one more norm after the last.
 */
import type { Mask } from '../ops/mask.js';
import type { PositionBias } from '../ops/position-bias.js';
import { optionsArg } from '../tensor/check.js';
import type { Tensor } from '../tensor/tensor.js';
import { Dropout } from './dropout.js';
import { Linear } from './linear.js';
import { MultiheadAttention } from './multihead-attention.js';
import { LayerNorm } from './norm.js';
import { attend, copyOfLayer, TransformerLayer, type TransformerLayerOptions } from './transformer-layer.js';

/** Options of {@link TransformerEncoderLayer}. */
export type TransformerEncoderLayerOptions = TransformerLayerOptions;

/** Options of {@link TransformerEncoderLayer.forward}; masks are true where a key may be seen. */
export interface TransformerEncoderLayerForwardOptions {
  /** A mask, or [L, L] or [B·h, L, L]: bool, or numbers to add to the scores. */
  srcMask?: Mask | Tensor | undefined;
  /** [B, L]: bool, or numbers to add to the scores. */
  srcKeyPaddingMask?: Tensor | undefined;
  /** Whether a position sees those up to itself only, beside the masks. */
  isCausal?: boolean | undefined;
  /** Added to the scores by distance. */
  positionBias?: PositionBias | undefined;
}

/** Keys: `self_attn.*`, `linear1.*`, `linear2.*`, `norm1.*`, `norm2.*`. */
export class TransformerEncoderLayer extends TransformerLayer {
  override selfAttn: MultiheadAttention;
  override linear1: Linear;
  override dropout: Dropout;
  override linear2: Linear;
  norm1: LayerNorm;
  norm2: LayerNorm;
  dropout1: Dropout;
  dropout2: Dropout;

  constructor(options: TransformerEncoderLayerOptions) {
    super('TransformerEncoderLayer', options);
    const { dModel, nHead, dimFeedforward, dropout, layerNormEps: eps, batchFirst, bias, dtype } = this.options;
    this.selfAttn = new MultiheadAttention(dModel, nHead, { dropout, bias, batchFirst, dtype });
    this.linear1 = new Linear(dModel, dimFeedforward, { bias, dtype });
    this.dropout = new Dropout(dropout);
    this.linear2 = new Linear(dimFeedforward, dModel, { bias, dtype });
    this.norm1 = new LayerNorm(dModel, { eps, bias, dtype });
    this.norm2 = new LayerNorm(dModel, { eps, bias, dtype });
    this.dropout1 = new Dropout(dropout);
    this.dropout2 = new Dropout(dropout);
  }

  /** @param src [B, L, dModel] (`batchFirst`) or [L, B, dModel] @returns the same shape */
  override forward(src: Tensor, options: TransformerEncoderLayerForwardOptions = {}): Tensor {
    const known = ['srcMask', 'srcKeyPaddingMask', 'isCausal', 'positionBias'] as const;
    const {
      srcMask: mask,
      srcKeyPaddingMask: keyPaddingMask,
      ...rest
    } = optionsArg('TransformerEncoderLayer', options, known);
    const attention = { mask, keyPaddingMask, ...rest };
    return this.through(src, [
      { norm: this.norm1, run: (x) => this.dropout1.forward(attend(this.selfAttn, x, x, attention)) },
      { norm: this.norm2, run: (x) => this.dropout2.forward(this.feedForward(x)) },
    ]);
  }

  /**
   * A layer with weights of its own, which are copies of this one's, as are what requires gradients and modes; hooks
   * are not.
   *
   * @throws FOVEA_UNSUPPORTED for a subclass that does not define it
   */
  clone(): TransformerEncoderLayer {
    return copyOfLayer(this, TransformerEncoderLayer);
  }
}
