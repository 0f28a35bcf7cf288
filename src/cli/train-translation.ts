/**
 * An encoder and a decoder that learn pairs of text, such as sentences and their translations: a source, a tab and a
 * target in each line.
 */
import { FoveaError } from '../errors.js';
import type { Seq2SeqTransformer } from '../models/transformer/model.js';
import { DataLoader } from '../train/data/data-loader.js';
import { arrayDataset } from '../train/data/dataset.js';
import { LengthBatchSampler } from '../train/data/length-batches.js';
import { seq2seqCollator, type Seq2SeqItem } from '../train/data/seq2seq.js';
import { textLines } from '../train/data/text-lines.js';
import { encodePart, pairTokens } from './pair-tokens.js';
import { say } from './say.js';
import type { TrainConfig } from './train-config.js';
import { type Seq2SeqData, seq2seqTask, type TargetBatch } from './train-seq2seq.js';
import type { TranslationSubject } from './train-subject.js';
import type { TrainTask } from './train-task.js';

/** Pairs to learn from and pairs to measure by. */
interface Pairs {
  train: Seq2SeqItem[];
  validation: Seq2SeqItem[];
}

/** Tokens by which a pair counts: those of its longer part. */
const longerPart = ({ inputIds, labels }: Seq2SeqItem): number => Math.max(inputIds.length, labels.length);

/** @throws FOVEA_FILE_FORMAT for a line that is no pair, FOVEA_ARGUMENT for one that is longer than a batch may be */
async function readPairs({ pairs: paths, heldOut, maxTokens = Infinity }: TranslationSubject): Promise<Pairs> {
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
      const pair = { inputIds: encodePart(parts[0]!), labels: encodePart(parts[1]!) };
      if (longerPart(pair) > maxTokens)
        throw new FoveaError(
          'FOVEA_ARGUMENT',
          `train: line ${number} of ${path} has ${longerPart(pair)} tokens, expected at most maxTokens, ${maxTokens}; leave it out, or raise maxTokens`,
        );
      pairs.push(pair);
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

function dataOf(
  { train, validation }: Pairs,
  { maxTokens: tokensPerBatch }: TranslationSubject,
  { batchSize, seed }: TrainConfig,
): Seq2SeqData {
  const { padTokenId, bosTokenId } = pairTokens;
  const pad = seq2seqCollator({ padId: padTokenId, decoderStartId: bosTokenId });
  const collate = (items: Seq2SeqItem[]): TargetBatch => ({
    padded: pad(items),
    lengths: items.map(({ labels }) => labels.length),
  });
  const batches = (items: Seq2SeqItem[], shuffle: boolean): DataLoader<Seq2SeqItem, TargetBatch> => {
    const order =
      tokensPerBatch === undefined
        ? { batchSize, shuffle }
        : { batchSampler: new LengthBatchSampler(items.map(longerPart), { tokensPerBatch, shuffle, seed }) };
    return new DataLoader(arrayDataset(items), { ...order, seed, collate });
  };
  return { trainData: batches(train, true), evalData: batches(validation, false) };
}

/** What an encoder and a decoder learn, and from what. */
export async function translationTask(
  subject: TranslationSubject,
  config: TrainConfig,
): Promise<TrainTask<TargetBatch, Seq2SeqTransformer>> {
  const pairs = await readPairs(subject);
  return seq2seqTask(subject.transformer, config.device, dataOf(pairs, subject, config));
}
