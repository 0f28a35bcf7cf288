/**
 * The transformer of Vaswani et al. 2017 (https://arxiv.org/abs/1706.03762): an encoder, and a decoder that reads its
 * output.
 */
import type { Mask } from '../ops/mask.js';
import { countArg, optionsArg, withoutUndefined } from '../tensor/check.js';
import type { Tensor } from '../tensor/tensor.js';
import { xavierUniform_ } from './init.js';
import { Module } from './module.js';
import { LayerNorm } from './norm.js';
import { TransformerDecoder } from './transformer-decoder.js';
import { decoderForwardNames, TransformerDecoderLayer } from './transformer-decoder-layer.js';
import type { TransformerDecoderLayerForwardOptions } from './transformer-decoder-layer.js';
import { TransformerEncoder } from './transformer-encoder.js';
import { TransformerEncoderLayer } from './transformer-encoder-layer.js';
import { layerOptionNames, type TransformerLayerOptions } from './transformer-layer.js';

/** Options of {@link Transformer}; those of the layers are for all of them. */
export interface TransformerOptions extends Partial<TransformerLayerOptions> {
  /** Width of the model (default 512). */
  dModel?: number;
  /** Number of heads; divides dModel (default 8). */
  nHead?: number;
  /** Layers of the encoder (default 6). */
  numEncoderLayers?: number;
  /** Layers of the decoder (default 6). */
  numDecoderLayers?: number;
  /** In training: the probability of each layer to be left out (default 0). */
  layerDrop?: number;
}

/** Options of {@link Transformer.forward}; masks are true where a key may be seen. */
export interface TransformerForwardOptions
  extends Omit<TransformerDecoderLayerForwardOptions, 'positionBias' | 'pastKeyValue'> {
  /** What sources see of sources: a mask, or [S, S] or [B·h, S, S]: bool, or numbers to add to the scores. */
  srcMask?: Mask | Tensor | undefined;
  /** [B, S], of the sources: bool, or numbers to add to the scores. The memory has a mask of its own. */
  srcKeyPaddingMask?: Tensor | undefined;
  /** Whether a source sees those up to itself only, beside the masks. */
  srcIsCausal?: boolean | undefined;
}

const decoderNames = decoderForwardNames.filter((name) => name !== 'positionBias');

/** Encoder and decoder without embeddings and head. Keys: `encoder.layers.<i>.*`, `encoder.norm.*`, `decoder.…`. */
export class Transformer extends Module {
  encoder: TransformerEncoder;
  decoder: TransformerDecoder;

  /** Initialised as in PyTorch: matrices by `init.xavierUniform_`, each its own; both stacks end with a norm. */
  constructor(options: TransformerOptions = {}) {
    super();
    const op = 'Transformer';
    const known = [...layerOptionNames, 'numEncoderLayers', 'numDecoderLayers', 'layerDrop'] as const;
    const { numEncoderLayers = 6, numDecoderLayers = 6, layerDrop = 0, ...rest } = optionsArg(op, options, known);
    countArg(op, 'numEncoderLayers', numEncoderLayers, 1);
    countArg(op, 'numDecoderLayers', numDecoderLayers, 1);
    const layer: TransformerLayerOptions = { dModel: 512, nHead: 8, ...withoutUndefined(rest) };
    const { dModel, layerNormEps: eps = 1e-5, bias = true, dtype = 'float32' } = layer;
    const stack = (numLayers: number): { numLayers: number; norm: LayerNorm; layerDrop: number } => ({
      numLayers,
      norm: new LayerNorm(dModel, { eps, bias, dtype }),
      layerDrop,
    });
    this.encoder = new TransformerEncoder(() => new TransformerEncoderLayer(layer), stack(numEncoderLayers));
    this.decoder = new TransformerDecoder(() => new TransformerDecoderLayer(layer), stack(numDecoderLayers));
    for (const weight of this.parameters()) if (weight.rank > 1) xavierUniform_(weight);
  }

  /**
   * @param src [B, S, dModel] (`batchFirst`) or [S, B, dModel]
   * @param tgt [B, L, dModel] or [L, B, dModel]
   * @returns the shape of `tgt`
   */
  override forward(src: Tensor, tgt: Tensor, options: TransformerForwardOptions = {}): Tensor {
    const known = ['srcMask', 'srcKeyPaddingMask', 'srcIsCausal', ...decoderNames] as const;
    const {
      srcMask: mask,
      srcKeyPaddingMask,
      srcIsCausal: isCausal,
      ...rest
    } = optionsArg('Transformer', options, known);
    const memory = this.encoder.forward(src, { mask, srcKeyPaddingMask, isCausal });
    return this.decoder.forward(tgt, memory, rest);
  }
}
