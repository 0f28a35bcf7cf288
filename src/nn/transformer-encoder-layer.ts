/**
 * One layer of a transformer encoder, with PyTorch's options, keys and results:
 *
 *   post-norm (default)     x = norm1(x + attention(x));  x = norm2(x + feedForward(x))      (Vaswani et al. 2017)
 *   pre-norm (`normFirst`)  x = x + attention(norm1(x));  x = x + feedForward(norm2(x))      (Xiong et al. 2020)
 *
 * A stack of pre-norm layers needs one more norm after the last.
 */
import type { Mask } from '../ops/mask.js';
import { argumentError, optionsArg } from '../tensor/check.js';
import type { Dtype } from '../tensor/dtype.js';
import type { Tensor } from '../tensor/tensor.js';
import { type Activation, activated, activationOf } from './activations.js';
import { Dropout } from './dropout.js';
import { Linear } from './linear.js';
import { Module } from './module.js';
import { MultiheadAttention } from './multihead-attention.js';
import { addThenNorm, LayerNorm } from './norm.js';

/** Options of {@link TransformerEncoderLayer}. */
export interface TransformerEncoderLayerOptions {
  /** Width of the model. */
  dModel: number;
  /** Number of heads; divides dModel. */
  nHead: number;
  /** Width of the feed-forward network (default 2048). */
  dimFeedforward?: number;
  /** In training: of the probabilities, within and after the feed-forward network, after attention (default 0.1). */
  dropout?: number;
  /** A name or a function (default relu). */
  activation?: string | Activation;
  /** Added to the variance in the norms. */
  layerNormEps?: number;
  /** Whether inputs are [batch, length, width]; false (PyTorch's default) means [length, batch, width]. */
  batchFirst?: boolean;
  /** Whether norms come before the sublayers instead of after their sums (default false). */
  normFirst?: boolean;
  /** Whether layers and norms have biases; default true. */
  bias?: boolean;
  /** Of the parameters; default float32. */
  dtype?: Dtype;
}

/** Options of {@link TransformerEncoderLayer.forward}; masks are true where a key may be seen. */
export interface TransformerEncoderLayerForwardOptions {
  /** A mask, or [L, L] or [B·h, L, L]: bool, or numbers to add to the scores. */
  srcMask?: Mask | Tensor;
  /** [B, L]: bool, or numbers to add to the scores. */
  srcKeyPaddingMask?: Tensor;
  /** Whether a position sees those up to itself only, beside the masks. */
  isCausal?: boolean;
}

const optionNames = [
  'dModel',
  'nHead',
  'dimFeedforward',
  'dropout',
  'activation',
  'layerNormEps',
  'batchFirst',
  'normFirst',
  'bias',
  'dtype',
] as const;

/** Keys: `self_attn.*`, `linear1.*`, `linear2.*`, `norm1.*`, `norm2.*`. */
export class TransformerEncoderLayer extends Module {
  /** Whether norms come before the sublayers. */
  readonly normFirst: boolean;
  /** Of the feed-forward network. */
  readonly activation: Activation;
  selfAttn: MultiheadAttention;
  linear1: Linear;
  dropout: Dropout;
  linear2: Linear;
  norm1: LayerNorm;
  norm2: LayerNorm;
  dropout1: Dropout;
  dropout2: Dropout;

  constructor(options: TransformerEncoderLayerOptions) {
    super();
    if (options === undefined)
      throw argumentError('TransformerEncoderLayer', 'options', 'an object with dModel and nHead', options);
    const checked = optionsArg('TransformerEncoderLayer', options, optionNames);
    const {
      dModel,
      nHead,
      dimFeedforward = 2048,
      dropout = 0.1,
      activation = 'relu',
      layerNormEps: eps = 1e-5,
    } = checked;
    const { batchFirst = false, normFirst = false, bias = true, dtype = 'float32' } = checked;
    this.normFirst = normFirst;
    this.activation = activationOf(activation, 'TransformerEncoderLayer: activation');
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
    const known = ['srcMask', 'srcKeyPaddingMask', 'isCausal'] as const;
    const masks = optionsArg('TransformerEncoderLayer', options, known);
    if (this.normFirst) {
      const { sum, y } = addThenNorm(this.norm2, this.#attend(this.norm1.forward(src), masks), src);
      return sum.add(this.#feedForward(y));
    }
    const { y: x } = addThenNorm(this.norm1, this.#attend(src, masks), src);
    return addThenNorm(this.norm2, this.#feedForward(x), x).y;
  }

  #attend(x: Tensor, masks: TransformerEncoderLayerForwardOptions): Tensor {
    const { srcMask: attnMask, srcKeyPaddingMask: keyPaddingMask, isCausal = false } = masks;
    const [output] = this.selfAttn.forward(x, x, x, {
      needWeights: false,
      isCausal,
      ...(attnMask ? { attnMask } : {}),
      ...(keyPaddingMask ? { keyPaddingMask } : {}),
    });
    return this.dropout1.forward(output);
  }

  #feedForward(x: Tensor): Tensor {
    const hidden = this.dropout.forward(activated(this.linear1, x, this.activation));
    return this.dropout2.forward(this.linear2.forward(hidden));
  }
}
