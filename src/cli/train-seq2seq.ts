/** What every training of an encoder and a decoder has in common, whatever the sources and the targets are. */
import type { TransformerConfig } from '../models/transformer/config.js';
import { type Seq2SeqInput, Seq2SeqTransformer } from '../models/transformer/model.js';
import { indexSelect, tensor } from '../ops/index.js';
import type { Device } from '../tensor/device.js';
import type { Tensor } from '../tensor/tensor.js';
import type { Seq2SeqBatch } from '../train/data/seq2seq.js';
import type { TrainTask } from './train-task.js';

/** Sources and targets, and how many tokens the targets have. */
export interface TargetBatch {
  padded: Seq2SeqBatch;
  tokens: number;
  /** int64 [n]: which positions of the targets, row after row, hold them. */
  places: Tensor;
}

/** Batches to learn from and to measure by. */
export type Seq2SeqData = Pick<TrainTask<TargetBatch, Seq2SeqTransformer>['data'], 'trainData' | 'evalData'>;

/** @param lengths of the targets, in tokens */
export function targetBatch(padded: Seq2SeqBatch, lengths: readonly number[]): TargetBatch {
  const longest = Math.max(...lengths);
  const places = lengths.flatMap((length, row) => Array.from({ length }, (_, i) => row * longest + i));
  return { padded, tokens: places.length, places: tensor(places, { dtype: 'int64' }) };
}

function inputOf({ device }: Seq2SeqTransformer, { inputIds, decoderInputIds, labels }: Seq2SeqBatch): Seq2SeqInput {
  return { inputIds: inputIds.to(device), decoderInputIds: decoderInputIds.to(device), labels: labels.to(device) };
}

/** Of the tokens of targets, padding left out. */
function logitsOf(model: Seq2SeqTransformer, { padded, places }: TargetBatch): Tensor {
  const { logits } = model.forward(inputOf(model, padded));
  return indexSelect(logits.reshape([-1, logits.shape.at(-1)!]), 0, places.to(model.device));
}

/** A fresh model, which learns from such batches. */
export function seq2seqTask(
  transformer: TransformerConfig,
  device: Device,
  data: Seq2SeqData,
): TrainTask<TargetBatch, Seq2SeqTransformer> {
  const model = new Seq2SeqTransformer(transformer).to(device);
  return {
    model,
    width: transformer.dModel,
    data: {
      ...data,
      loss: (learner, { padded }) => learner.forward(inputOf(learner, padded)).loss!,
      weight: ({ tokens }) => tokens,
    },
    logits: logitsOf,
    [Symbol.dispose]: () => model.dispose(),
    async save(out, cancel) {
      await model.savePretrained(out, cancel);
      return 'config.json, model.safetensors';
    },
  };
}
