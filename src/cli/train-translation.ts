/**
 * An encoder and a decoder that learn pairs of text, such as sentences and their translations: a source, a tab and a
 * target in each line.
 */
import { join } from 'node:path';
import { FoveaError } from '../errors.js';
import { writeJsonFile } from '../io/files.js';
import { saveFile } from '../io/safetensors.js';
import { type Seq2SeqInput, Seq2SeqTransformer } from '../models/transformer/model.js';
import { indexSelect, tensor } from '../ops/index.js';
import type { Tensor } from '../tensor/tensor.js';
import { DataLoader } from '../train/data/data-loader.js';
import { arrayDataset } from '../train/data/dataset.js';
import { type Seq2SeqBatch, seq2seqCollator, type Seq2SeqItem } from '../train/data/seq2seq.js';
import { textLines } from '../train/data/text-lines.js';
import { encodePart, pairTokens } from './pair-tokens.js';
import { say } from './say.js';
import type { TrainConfig } from './train-config.js';
import type { TranslationSubject } from './train-subject.js';
import type { TrainTask } from './train-task.js';

/** Pairs to learn from and pairs to measure by. */
interface Pairs {
  train: Seq2SeqItem[];
  validation: Seq2SeqItem[];
}

/** @throws FOVEA_FILE_FORMAT for a line that is no pair */
async function readPairs({ pairs: paths, heldOut }: TranslationSubject): Promise<Pairs> {
  const pairs: Seq2SeqItem[] = [];
  for (const path of paths) {
    let number = 0;
    for await (const line of textLines(path)) {
      number++;
      const parts = line.split('\t');
      if (parts.length !== 2)
        throw new FoveaError(
          'FOVEA_FILE_FORMAT',
          `train: line ${number} of ${path} has ${parts.length - 1} tabs, expected one between source and target`,
        );
      pairs.push({ inputIds: encodePart(parts[0]!), labels: encodePart(parts[1]!) });
    }
  }
  const split = Math.floor(pairs.length * (1 - heldOut));
  if (split === 0 || split === pairs.length)
    throw new FoveaError(
      'FOVEA_ARGUMENT',
      `train: ${paths.join(', ')} has ${pairs.length} pairs, too few to train on some and to hold others out`,
    );
  say(`pairs: ${split.toLocaleString('en')}, and ${(pairs.length - split).toLocaleString('en')} held out`);
  return { train: pairs.slice(0, split), validation: pairs.slice(split) };
}

/** Sources and targets, and how many tokens the targets have. */
interface PairBatch {
  padded: Seq2SeqBatch;
  tokens: number;
  /** int64 [n]: which positions of the targets, row after row, hold them. */
  places: Tensor;
}

function inputOf({ device }: Seq2SeqTransformer, { inputIds, decoderInputIds, labels }: Seq2SeqBatch): Seq2SeqInput {
  return { inputIds: inputIds.to(device), decoderInputIds: decoderInputIds.to(device), labels: labels.to(device) };
}

/** Of the tokens of targets, padding left out. */
function logitsOf(model: Seq2SeqTransformer, { padded, places }: PairBatch): Tensor {
  const { logits } = model.forward(inputOf(model, padded));
  return indexSelect(logits.reshape([-1, logits.shape.at(-1)!]), 0, places.to(model.device));
}

function dataOf(
  { train, validation }: Pairs,
  { batchSize, seed }: TrainConfig,
): TrainTask<PairBatch, Seq2SeqTransformer>['data'] {
  const { padTokenId, bosTokenId } = pairTokens;
  const pad = seq2seqCollator({ padId: padTokenId, decoderStartId: bosTokenId });
  const collate = (items: Seq2SeqItem[]): PairBatch => {
    const longest = Math.max(...items.map(({ labels }) => labels.length));
    const places = items.flatMap(({ labels }, row) => Array.from(labels, (_, i) => row * longest + i));
    return { padded: pad(items), tokens: places.length, places: tensor(places, { dtype: 'int64' }) };
  };
  return {
    trainData: new DataLoader(arrayDataset(train), { batchSize, shuffle: true, seed, collate }),
    evalData: new DataLoader(arrayDataset(validation), { batchSize, collate }),
    loss: (model, { padded }) => model.forward(inputOf(model, padded)).loss!,
    weight: ({ tokens }) => tokens,
  };
}

/** What an encoder and a decoder learn, and from what. */
export async function translationTask(
  subject: TranslationSubject,
  config: TrainConfig,
): Promise<TrainTask<PairBatch, Seq2SeqTransformer>> {
  const pairs = await readPairs(subject);
  const model = new Seq2SeqTransformer(subject.transformer).to(config.device);
  return {
    model,
    width: subject.transformer.dModel,
    data: dataOf(pairs, config),
    logits: logitsOf,
    [Symbol.dispose]: () => model.dispose(),
    async save(out, cancel) {
      await writeJsonFile(join(out, 'config.json'), subject.transformer);
      await saveFile(model.stateDict(), join(out, 'model.safetensors'), { metadata: { format: 'pt' }, ...cancel });
      return 'config.json, model.safetensors';
    },
  };
}
