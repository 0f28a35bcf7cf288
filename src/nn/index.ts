/** Layers: PyTorch's names, parameters and state-dict keys. */
export * as init from './init.js';
export * as utils from './utils.js';
export { type Activation, activationOf } from './activations.js';
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
  TransformerEncoderLayer,
  type TransformerEncoderLayerForwardOptions,
  type TransformerEncoderLayerOptions,
} from './transformer-encoder-layer.js';
