// Whatever the functions of data are given, they work or say why in a FoveaError: no TypeError from within.
import { FoveaError } from 'fovea';
import * as train from 'fovea/train';
import { expect, it } from 'vitest';
import { all } from './collect.ts';

const odd: unknown[] = [
  undefined,
  null,
  true,
  -1,
  Number.NaN,
  1.5,
  2n,
  '',
  'x',
  {},
  [],
  [1],
  [{}],
  [[]],
  [null],
  () => 1,
  new Date(0),
  new Float32Array(2),
  new BigInt64Array(1),
  new DataView(new ArrayBuffer(4)),
  { length: 2, get: () => 1 },
  { padId: 0 },
];
const numbers = train.arrayDataset([1, 2, 3]);
const pad = { padId: 0 };
const stream = {
  async *[Symbol.asyncIterator]() {
    yield 1;
  },
};
const at = { epoch: 0, batch: 0 };

const calls: Record<string, (value: never) => unknown> = {
  arrayDataset: (v) => train.arrayDataset(v),
  'arrayDataset.get': (v) => numbers.get(v),
  subset: (v) => train.subset(v, v),
  'subset, indices': (v) => train.subset(numbers, v),
  concat: (v) => train.concat(v),
  map: (v) => train.map(v, v),
  'map, fn': (v) => train.map(numbers, v),
  randomSplit: (v) => train.randomSplit(v, [1]),
  'randomSplit, parts': (v) => train.randomSplit(numbers, v),
  'randomSplit, options': (v) => train.randomSplit(numbers, [3], v),
  RandomStream: (v) => new train.RandomStream(v, v),
  'RandomStream.below': (v) => new train.RandomStream(0).below(v),
  DataLoader: async (v) => all(new train.DataLoader(v)),
  'DataLoader, options': (v) => new train.DataLoader(numbers, v),
  'DataLoader, batchSize': (v) => new train.DataLoader(numbers, { batchSize: v }),
  'DataLoader, sampler': (v) => new train.DataLoader(numbers, { sampler: v }).length,
  'DataLoader, indices': (v) => new train.DataLoader(numbers, { sampler: { indices: () => v } }).length,
  'DataLoader, batches': (v) => new train.DataLoader(numbers, { batchSampler: { batches: () => v } }).length,
  'DataLoader, worker': (v) => new train.DataLoader(numbers, { numWorkers: 1, worker: v }),
  'DataLoader.setEpoch': (v) => new train.DataLoader(numbers).setEpoch(v),
  'DataLoader.loadStateDict': (v) => new train.DataLoader(numbers).loadStateDict(v),
  'DataLoader.loadStateDict, a stream': (v) => new train.DataLoader<number>(stream).loadStateDict(v),
  'DataLoader, position': async (v) => {
    const loader = new train.DataLoader<number>(stream);
    loader.loadStateDict({ seed: 0, epoch: 0, batches: 1, position: v });
    return all(loader);
  },
  textLines: (v) => train.textLines(v),
  'textLines, options': (v) => train.textLines('x', v),
  shuffleBuffer: (v) => train.shuffleBuffer(v, v),
  'shuffleBuffer, options': (v) => train.shuffleBuffer(stream, 2, v),
  LengthBatchSampler: (v) => new train.LengthBatchSampler(v, { tokensPerBatch: 4 }),
  'LengthBatchSampler, options': (v) => new train.LengthBatchSampler([1], v),
  'LengthBatchSampler.batches': (v) => new train.LengthBatchSampler([1], { tokensPerBatch: 4 }).batches(v),
  paddingShare: (v) => train.paddingShare(v, [1, 2]),
  'paddingShare, lengths': (v) => train.paddingShare([[0]], v),
  CurriculumSampler: (v) => new train.CurriculumSampler(v, { epochs: 1 }),
  'CurriculumSampler, options': (v) => new train.CurriculumSampler([1], v),
  'CurriculumSampler.indices': (v) => new train.CurriculumSampler([1], { epochs: 1 }).indices(v),
  'CurriculumSampler.allowed': (v) => new train.CurriculumSampler([1], { epochs: 1 }).allowed(v),
  packSequences: (v) => train.packSequences(v, 4, pad),
  'packSequences, length': (v) => train.packSequences([[1]], v, pad),
  'packSequences, options': (v) => train.packSequences([[1]], 4, v),
  padCollate: (v) => train.padCollate(v),
  'padCollate, items': (v) => train.padCollate(pad)(v, at),
  'padCollate, item': (v) => train.padCollate(pad)([v, v], at),
  'padCollate, labels': (v) => train.padCollate(pad)([{ inputIds: [1], labels: v }], at),
  causalLMCollator: (v) => train.causalLMCollator(v),
  'causalLMCollator, items': (v) => train.causalLMCollator(pad)(v, v),
  'causalLMCollator, augment': (v) => train.causalLMCollator({ ...pad, augment: v })([[1]], at),
  maskedLMCollator: (v) => train.maskedLMCollator(v),
  'maskedLMCollator, items': (v) => train.maskedLMCollator({ ...pad, maskId: 1, vocabSize: 9 })(v, at),
  'maskedLMCollator, specialIds': (v) => train.maskedLMCollator({ ...pad, maskId: 1, vocabSize: 9, specialIds: v }),
  spanCorruptionCollator: (v) => train.spanCorruptionCollator(v),
  'spanCorruptionCollator, sentinels': (v) => train.spanCorruptionCollator({ ...pad, sentinelIds: v }),
  'spanCorruptionCollator, items': (v) => train.spanCorruptionCollator({ ...pad, sentinelIds: [9] })(v, at),
  seq2seqCollator: (v) => train.seq2seqCollator(v),
  'seq2seqCollator, items': (v) => train.seq2seqCollator({ ...pad, decoderStartId: 1 })(v, at),
  wordDropout: (v) => train.wordDropout(v),
  'wordDropout, ids': (v) => train.wordDropout({ probability: 0.5 })(v, new train.RandomStream(0)),
  spanMasking: (v) => train.spanMasking(v),
  'spanMasking, ids': (v) => train.spanMasking({ maskId: 1 })(v, new train.RandomStream(0)),
};

it.each(Object.entries(calls))('%s', async (name, call) => {
  for (const value of odd) {
    try {
      await call(value as never);
    } catch (error) {
      expect(
        error,
        `${name} of ${Array.isArray(value) ? `[${value}]` : Object.prototype.toString.call(value)}`,
      ).toBeInstanceOf(FoveaError);
    }
  }
});
