/** Data for training: datasets, orders, batches, objectives. */
export {
  type Augmentation,
  spanMasking,
  type SpanMaskingOptions,
  wordDropout,
  type WordDropoutOptions,
} from './augment.js';
export type { BatchIterator } from './batch-iterator.js';
export type { BatchContext, Collate, Collator } from './batch-reader.js';
export {
  causalLMCollator,
  type CausalLMCollatorOptions,
  type LabelledBatch,
  padCollate,
  type PaddedBatch,
  type TokenItem,
} from './collate.js';
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
export { maskedLMCollator, type MaskedLMCollatorOptions } from './masked-lm.js';
export {
  type PackedBatch,
  packedCausalLMCollator,
  type PackedCausalLMCollatorOptions,
  type PackedPiece,
  type PackedSequences,
  type PackOptions,
  packSequences,
} from './pack.js';
export { RandomStream } from './random-stream.js';
export type { BatchSampler, Sampler } from './sampler.js';
export { type Seq2SeqBatch, seq2seqCollator, type Seq2SeqCollatorOptions, type Seq2SeqItem } from './seq2seq.js';
export { shuffleBuffer, type ShuffleBufferOptions } from './shuffle-buffer.js';
export { spanCorruptionCollator, type SpanCorruptionOptions } from './span-corruption.js';
export type { IterableDataset, ItemStream, StreamStart } from './stream.js';
export { textLines, type TextLinesOptions } from './text-lines.js';
export type { PadOptions, Tokens } from './tokens.js';
