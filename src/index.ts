/** The public surface of fovea: re-exports only. */
export * from './errors.js';
export * from './tensor/index.js';
export * from './ops/index.js';
export { fallbacks } from './ops/define-op.js';
export * from './autograd/index.js';
export * as functional from './functional.js';
export * as mask from './ops/mask-kinds.js';
export { Mask, type MaskTensorOptions } from './ops/mask.js';
export type { BlockTable, MaskAlign, MaskJson, MaskNumbers } from './ops/mask-node.js';
export type { MaskSvgOptions } from './ops/mask-svg.js';
export * as nn from './nn/index.js';
export * as optim from './optim/index.js';
export * as models from './models/index.js';
export { load } from './models/index.js';
export * as io from './io/index.js';
export * as generate from './generate/index.js';
export * as train from './train/index.js';
export { ByteTokenizer, type StreamingDecoder } from './text/index.js';
