/** What every training of an encoder and a decoder has in common, whatever the sources and the targets are. */
import type { TransformerConfig } from '../models/transformer/config.js';
import { type Seq2SeqInput, Seq2SeqTransformer } from '../models/transformer/model.js';
import { indexSelect, tensor } from '../ops/index.js';
import type { Device } from '../tensor/device.js';
import type { Tensor } from '../tensor/tensor.js';
import type { Seq2SeqBatch } from '../train/data/seq2seq.js';
import type { TrainTask } from './train-task.js';

/** Sources and targets. */
export interface TargetBatch {
  padded: Seq2SeqBatch;
  /** Of the targets, in tokens. */
  lengths: readonly number[];
}

/** Batches to learn from and to measure by. */
export type Seq2SeqData = Pick<TrainTask<TargetBatch, Seq2SeqTransformer>['data'], 'trainData' | 'evalData'>;

function inputOf({ device }: Seq2SeqTransformer, { inputIds, decoderInputIds, labels }: Seq2SeqBatch): Seq2SeqInput {
  return { inputIds: inputIds.to(device), decoderInputIds: decoderInputIds.to(device), labels: labels.to(device) };
}

/** Of the tokens of targets, padding left out. */
function logitsOf(model: Seq2SeqTransformer, { padded, lengths }: TargetBatch): Tensor {
  const { logits } = model.forward(inputOf(model, padded));
  const [, longest, classes] = logits.shape as [number, number, number];
  const places = lengths.flatMap((length, row) => Array.from({ length }, (_, i) => row * longest + i));
  return indexSelect(logits.reshape([-1, classes]), 0, tensor(places, { dtype: 'int64', device: model.device }));
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
      weight: ({ lengths }) => lengths.reduce((a, b) => a + b),
    },
    logits: logitsOf,
    [Symbol.dispose]: () => model.dispose(),
    async save(out, cancel) {
      await model.savePretrained(out, cancel);
      return 'config.json, model.safetensors';
    },
  };
}
