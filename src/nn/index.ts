/** Layers: PyTorch's names, parameters and state-dict keys. */
export * as init from './init.js';
export * as utils from './utils.js';
export { type Activation, activationOf } from './activations.js';
export {
  BatchNorm1d,
  BatchNorm2d,
  type BatchNormOptions,
  GroupNorm,
  type GroupNormOptions,
} from './channel-norm.js';
export {
  Conv1d,
  Conv2d,
  type ConvOptions,
  ConvTranspose1d,
  ConvTranspose2d,
  type ConvTransposeOptions,
} from './conv.js';
export { Dropout } from './dropout.js';
export { Embedding, type EmbeddingOptions } from './embedding.js';
export { FeedForward, type FeedForwardOptions } from './feed-forward.js';
export { Linear, type LinearOptions } from './linear.js';
export {
  type ForwardHook,
  type ForwardPreHook,
  type HookHandle,
  type LoadReport,
  Module,
  type StateDict,
} from './module.js';
export {
  MultiheadAttention,
  type MultiheadAttentionForwardOptions,
  type MultiheadAttentionOptions,
} from './multihead-attention.js';
export { LayerNorm, type LayerNormOptions, RMSNorm, type RMSNormOptions } from './norm.js';
export {
  AdaptiveAvgPool1d,
  AdaptiveAvgPool2d,
  AvgPool1d,
  AvgPool2d,
  MaxPool1d,
  MaxPool2d,
  type MaxPoolOptions,
} from './pool.js';
export { quantize_, type QuantizeOptions } from './quantize.js';
export { QuantizedLinear } from './quantized-linear.js';
export { isParameter, parameter } from './parameter.js';
export {
  TransformerEncoderLayer,
  type TransformerEncoderLayerForwardOptions,
  type TransformerEncoderLayerOptions,
} from './transformer-encoder-layer.js';
