/** The tensor, its lifetime and its memory. */
export { isTensor, Tensor } from './tensor.js';
export type { GradHook, GradNode, Nested } from './tensor.js';
export type { Dtype, HalfArray, HostArray, HostArrays } from './dtype.js';
export type { Shape } from './layout.js';
export { autocast, getAutocastDtype, isAutocastEnabled, strict } from './modes.js';
export type { AutocastDtype } from './modes.js';
export { record } from './record.js';
export type { RecordedStep, RecordOptions } from './record.js';
export { keep, TensorScope, tidy } from './tidy.js';
export { devices } from './device.js';
export type { Device, DeviceInfo } from './device.js';
export {
  adopt,
  emptyCache,
  info,
  memory,
  releaseShared,
  resetPeakMemory,
  setMemoryLimit,
  share,
  synchronize,
  synchronizeSync,
} from './memory.js';
export type { DeviceMemory, MemoryReport, SharedTensor } from './memory.js';
