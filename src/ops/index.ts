/**
 * Every op, as a function; most are methods of Tensor too. Shapes are given as [b, n, d], outermost first; an axis
 * `dim` may be negative and then counts from the end.
 *
 * All of them throw FOVEA_ARGUMENT for what is no Tensor or an option that they do not know, FOVEA_DISPOSED for a
 * disposed tensor and FOVEA_OUT_OF_MEMORY beyond the memory limit; `@throws` names what else. "Rejects with" means that
 * the values decide: then the read of the result rejects, not the call.
 */
import './install.js';
export * from './activation.js';
export { addLayerNorm, addRmsNorm } from './add-norm.js';
export type { AddNormOutput } from './add-norm.js';
export { attention, scaledDotProductAttention } from './attention.js';
export type { AttentionOptions, AttentionOutput, ScaledDotProductAttentionOptions } from './attention.js';
export { expand, expandAs } from './broadcast.js';
export { bfloat16, bool, clone, contiguous, double, float, half, int, long, to } from './cast.js';
export { batchNorm, groupNorm } from './channel-norm.js';
export type { BatchNormOptions, GroupNormOptions } from './channel-norm.js';
export * from './compare.js';
export { conv1d, conv2d, convTranspose1d, convTranspose2d } from './conv.js';
export type { ConvOptions, ConvTransposeOptions } from './conv.js';
export {
  arange,
  empty,
  emptyLike,
  eye,
  full,
  fullLike,
  linspace,
  ones,
  onesLike,
  tensor,
  zeros,
  zerosLike,
} from './creation.js';
export type { FromDataOptions, TensorData, TensorOptions } from './creation.js';
export { einsum } from './einsum.js';
export {
  abs,
  add,
  atan2,
  ceil,
  cos,
  div,
  erf,
  exp,
  expm1,
  floor,
  floorDivide,
  lerp,
  log,
  log1p,
  log2,
  maximum,
  minimum,
  mul,
  neg,
  pow,
  reciprocal,
  remainder,
  round,
  rsqrt,
  sign,
  sin,
  sqrt,
  square,
  sub,
  trunc,
} from './elementwise.js';

export { geglu, swiglu } from './gated.js';
export { gatedLinear } from './gated-linear.js';
export type { GateActivation, GatedLinearOptions } from './gated-linear.js';
export { groupedMatmul } from './grouped-matmul.js';
export * from './in-place.js';
export {
  embedding,
  flip,
  gather,
  indexSelect,
  maskedSelect,
  nonzero,
  oneHot,
  scatter,
  scatterAdd,
} from './indexing.js';
export type { EmbeddingOptions } from './indexing.js';
export * from './join.js';
export { linearCrossEntropy, type LinearCrossEntropyOptions } from './linear-cross-entropy.js';
export * from './loss.js';
export type { LossOptions, Reduction } from './loss-common.js';
export { ctcLoss, type CtcLossOptions } from './loss-ctc.js';
export * from './loss-elementwise.js';
export * from './loss-embedding.js';
export { linear, type LinearOptions } from './linear.js';
export { addmm, matmul } from './matmul.js';
export type { ActivationOptions, AddmmOptions, FusedActivation } from './matmul.js';
export { layerNorm, rmsNorm } from './norm.js';
export type { LayerNormOptions, RmsNormOptions } from './norm.js';
export { pagedAttention } from './paged-attention.js';
export type { PagedAttentionOptions } from './paged-attention.js';
export {
  adaptiveAvgPool1d,
  adaptiveAvgPool2d,
  adaptiveMaxPool1d,
  adaptiveMaxPool2d,
  avgPool1d,
  avgPool2d,
  maxPool1d,
  maxPool2d,
} from './pool.js';
export type { AdaptiveMaxPoolOptions, AdaptiveSize, AvgPoolOptions, MaxPoolOptions } from './pool.js';
export { quantize, quantizedLinear, QuantizedTensor } from './quantized.js';
export type { GgufQuantType, QuantType } from './quantized.js';
export {
  bernoulli,
  defaultGenerator,
  dropout,
  dropoutAdd,
  Generator,
  manualSeed,
  multinomial,
  rand,
  randint,
  randn,
  randperm,
} from './random.js';
export type { DropoutOptions, GeneratorState, MultinomialOptions, RandomOptions } from './random.js';
export * from './reduce.js';
export { gruCell, lstmCell } from './rnn.js';
export { rope } from './rope.js';
export type { RopeOptions } from './rope.js';
export {
  chunk,
  diagonal,
  flatten,
  movedim,
  narrow,
  permute,
  reshape,
  select,
  slice,
  split,
  squeeze,
  t,
  transpose,
  unbind,
  unflatten,
  unsqueeze,
  view,
} from './shape.js';
export { clamp, maskedFill, tril, triu, where } from './select.js';
export type { ClampOptions } from './select.js';
export * from './softmax.js';
export * from './sorting.js';
export { fold, unfold } from './unfold.js';
export type { UnfoldOptions } from './unfold.js';
export type { WindowSize } from './window-args.js';
