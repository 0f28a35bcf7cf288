/** Data for training: datasets, orders, batches, objectives. */
export type { BatchIterator } from './batch-iterator.js';
export type { BatchContext, Collate, Collator } from './batch-reader.js';
export { type CurriculumOptions, CurriculumSampler, type CurriculumSchedule } from './curriculum.js';
export {
  DataLoader,
  type DataLoaderOptions,
  type DataLoaderState,
  type WorkerDataset,
  type WorkerInfo,
} from './data-loader.js';
export { arrayDataset, concat, type Dataset, map, randomSplit, type RandomSplitOptions, subset } from './dataset.js';
export {
  type LengthBatchOptions,
  LengthBatchSampler,
  paddingShare,
  type PaddingShareOptions,
} from './length-batches.js';
export { RandomStream } from './random-stream.js';
export type { BatchSampler, Sampler } from './sampler.js';
export { shuffleBuffer, type ShuffleBufferOptions } from './shuffle-buffer.js';
export type { IterableDataset, ItemStream, StreamStart } from './stream.js';
export { textLines, type TextLinesOptions } from './text-lines.js';
