/** Layers: PyTorch's names, parameters and state-dict keys. */
export * as init from './initialisers.js';
export * as utils from './utils.js';
export { type Activation, activationOf } from './activations.js';
export type { AttentionCache, DecoderLayerCache, KeysAndValues } from './attention-cache.js';
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
export { GatedFeedForward, type GatedFeedForwardOptions, GLU } from './gated-feed-forward.js';
export type { ClonableLayer, LayerStack, LayerStackOptions, NormLayer } from './layer-stack.js';
export { Linear, type LinearOptions } from './linear.js';
export { MixtureOfExperts, type MixtureOfExpertsOptions, type MixtureOfExpertsOutput } from './mixture-of-experts.js';
export {
  activeAdapters,
  addAdapter,
  type AddAdapterOptions,
  deleteAdapter,
  disableAdapters,
  enableAdapters,
  mergeAdapters,
  setAdapter,
  trainableParameters,
  type TrainableParameters,
  unloadAdapters,
  unmergeAdapters,
} from './lora.js';
export { type LoraConfig, LoraLinear } from './lora-layer.js';
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
  AdaptiveMaxPool1d,
  AdaptiveMaxPool2d,
  type AdaptiveMaxPoolOptions,
  AvgPool1d,
  AvgPool2d,
  MaxPool1d,
  MaxPool2d,
  type MaxPooled,
  type MaxPoolOptions,
} from './pool.js';
export { quantize_, type QuantizeOptions } from './quantize.js';
export { QuantizedLinear } from './quantized-linear.js';
export { isParameter, parameter } from './parameter.js';
export { GRU, LSTM, type LSTMOptions, type LSTMState, RNN, type RNNOptions } from './rnn.js';
export {
  GRUCell,
  LSTMCell,
  type RecurrentCell,
  type RecurrentCellOptions,
  RNNCell,
  type RNNCellOptions,
} from './rnn-cells.js';
export type { RecurrentForwardOptions, RecurrentLayers, RecurrentOptions } from './recurrent-layers.js';
export {
  LearnedPositionalEmbedding,
  type LearnedPositionalEmbeddingOptions,
  type Positions,
  type PositionsForwardOptions,
  type PositionsOptions,
  SinusoidalPositionalEncoding,
  type SinusoidalPositionalEncodingOptions,
} from './positions.js';
export {
  RelativePositionBias,
  type RelativePositionBiasOptions,
  T5RelativePositionBias,
  type T5RelativePositionBiasOptions,
} from './relative-position-bias.js';
export type { Llama3Scaling, RopeFrequencies, RopeScaling, YarnScaling } from './rope-scaling.js';
export {
  type RotaryAngles,
  type RotaryAnglesOptions,
  RotaryEmbedding,
  type RotaryEmbeddingOptions,
  type RotaryForwardOptions,
} from './rotary-embedding.js';
export { Transformer, type TransformerForwardOptions, type TransformerOptions } from './transformer.js';
export { type DecoderLayer, TransformerDecoder, type TransformerDecoderForwardOptions } from './transformer-decoder.js';
export {
  TransformerDecoderLayer,
  type TransformerDecoderLayerForwardOptions,
  type TransformerDecoderLayerOptions,
} from './transformer-decoder-layer.js';
export { type EncoderLayer, TransformerEncoder, type TransformerEncoderForwardOptions } from './transformer-encoder.js';
export {
  TransformerEncoderLayer,
  type TransformerEncoderLayerForwardOptions,
  type TransformerEncoderLayerOptions,
} from './transformer-encoder-layer.js';
export type { CheckedLayerOptions, TransformerLayer, TransformerLayerOptions } from './transformer-layer.js';
