// What models are given: padding, next tokens, targets of a decoder.
import { mask, manualSeed } from 'fovea';
import { GPT2LMHeadModel } from 'fovea/models';
import {
  arrayDataset,
  type Augmentation,
  causalLMCollator,
  type Collator,
  DataLoader,
  type LabelledBatch,
  maskedLMCollator,
  padCollate,
  type PadOptions,
  seq2seqCollator,
  type TokenItem,
  wordDropout,
} from 'fovea/train';
import { describe, expect, expectTypeOf, test } from 'vitest';
import { codeOf, list } from '../../helpers.js';
import { all, at, range, rows } from './collect.ts';

describe('padCollate', () => {
  test('pads right or left, to a multiple', () => {
    const items = [[5, 6, 7], Uint16Array.of(8), { inputIds: Int32Array.of(1, 2) }];
    const right = padCollate({ padId: 9 })(items);
    expect(right.inputIds.dtype).toBe('int64');
    expect(right.attentionMask.dtype).toBe('bool');
    expect(rows(right.inputIds)).toEqual([
      [5, 6, 7],
      [8, 9, 9],
      [1, 2, 9],
    ]);
    expect(rows(right.attentionMask)).toEqual([
      [1, 1, 1],
      [1, 0, 0],
      [1, 1, 0],
    ]);
    expect(right.labels).toBeUndefined();
    const left = padCollate({ padId: 0, side: 'left', multipleOf: 4 })(items);
    expect(rows(left.inputIds)).toEqual([
      [0, 5, 6, 7],
      [0, 0, 0, 8],
      [0, 0, 1, 2],
    ]);
    expect(rows(left.attentionMask)).toEqual([
      [0, 1, 1, 1],
      [0, 0, 0, 1],
      [0, 0, 1, 1],
    ]);
  });

  test('labels of the items are padded with -100', () => {
    const items = [
      { inputIds: [1, 2, 3], labels: [-100, 2, 3] },
      { inputIds: [4], labels: [4] },
    ];
    expect(rows(padCollate({ padId: 0 })(items).labels!)).toEqual([
      [-100, 2, 3],
      [4, -100, -100],
    ]);
    const ignored = padCollate({ padId: 0, ignoreIndex: -1, side: 'left' })([
      { inputIds: [1, 2], labels: [-1, 2] },
      { inputIds: [4], labels: [4] },
    ]);
    expect(rows(ignored.labels!)).toEqual([
      [-1, 2],
      [-1, 4],
    ]);
    expect(() => padCollate({ padId: 0 })([items[0]!, [1]])).toThrow(
      /labels in all items or in none for items, received string "1 of 2"/,
    );
    expect(codeOf(() => padCollate({ padId: 0 })([{ inputIds: [1, 2], labels: [1] }]))).toBe('FOVEA_SHAPE');
  });

  test('the mask is that of the lengths', () => {
    const { attentionMask } = padCollate({ padId: 0 })([[1, 2, 3], [4], [5, 6]]);
    const seen = mask.padding(attentionMask.sum(1)).toTensor(1, 3, { batch: 3 });
    expect(list(seen)).toEqual(list(attentionMask));
  });

  test.each([
    [[], /at least one item/],
    [[[]], /a sequence of at least one token for items\[0\]/],
    [[[1], [2, -1]], /items\[1\]\[1\]/],
    [[[1.5]], /items\[0\]\[0\]/],
    [[[2 ** 31]], /a token, an integer from 0 to 2147483647 for items\[0\]\[0\]/],
    [[['1']], /items\[0\]\[0\]/],
    [['text'], /items\[0\].inputIds/],
    [[null], /items\[0\].inputIds/],
    [[BigInt64Array.of(1n)], /items\[0\]\[0\]/],
    [[{ inputIds: [1], labels: [-5] }], /items\[0\].labels\[0\]/],
  ])('refuses %o', (items, message) => {
    expect(() => padCollate({ padId: 0 })(items as TokenItem[])).toThrow(message);
  });

  test.each([
    undefined,
    {},
    { padId: -1 },
    { padId: 0, side: 'up' },
    { padId: 0, multipleOf: 0 },
    { padId: 0, ignoreIndex: 3 },
    { padID: 0 },
  ])('refuses %j', (options) => expect(codeOf(() => padCollate(options as PadOptions))).toBe('FOVEA_ARGUMENT'));
});

describe('causalLMCollator', () => {
  test('labels are the tokens, and a model takes the batch as it is', async () => {
    const collate = causalLMCollator({ padId: 0 });
    expectTypeOf(collate).toEqualTypeOf<Collator<TokenItem, LabelledBatch>>();
    const texts = [[3, 4, 5, 6], [7, 8], { inputIds: [9, 1, 2], labels: [-100, 1, 2] }];
    const batch = collate(texts);
    expect(rows(batch.labels)).toEqual([
      [3, 4, 5, 6],
      [7, 8, -100, -100],
      [-100, 1, 2, -100],
    ]);
    manualSeed(1);
    using model = new GPT2LMHeadModel({ vocabSize: 10, nPositions: 8, nEmbd: 16, nLayer: 2, nHead: 2 }).eval();
    const loss = await model.forward(batch).loss!.item();
    // The mean over the six tokens that are predicted, each text by itself.
    let sum = 0;
    for (const text of texts) {
      const alone = collate([text]);
      const predicted = list(alone.labels)
        .slice(1)
        .filter((label) => label >= 0).length;
      sum += predicted * (await model.forward(alone).loss!.item());
    }
    expect(Math.abs(loss - sum / 6)).toBeLessThan(1e-6);
  });

  test('augmentation changes what is seen and not what is predicted', () => {
    const augment = wordDropout({ probability: 0.5, replacementId: 1, specialIds: [2] });
    const collate = causalLMCollator({ padId: 0, augment, seed: 4 });
    const items = [range(200).map((i) => 2 + (i % 7)), [2, 3]];
    const batch = collate(items, at(1, 2));
    expect(rows(batch.labels)[0]).toEqual(items[0]);
    expect(rows(batch.inputIds)[0]).not.toEqual(items[0]);
    expect(rows(collate(items, at(1, 2)).inputIds)).toEqual(rows(batch.inputIds));
    expect(rows(collate(items, at(1, 3)).inputIds)).not.toEqual(rows(batch.inputIds));
    const removing = causalLMCollator({ padId: 0, augment: wordDropout({ probability: 1 }) });
    expect(() => removing([[1, 2, 3]])).toThrow(/as many tokens as it gets, 3 for augment, received 1/);
    const nonsense = causalLMCollator({ padId: 0, augment: (() => ['x']) as unknown as Augmentation });
    expect(codeOf(() => nonsense([[1]]))).toBe('FOVEA_ARGUMENT');
  });
});

describe('seq2seqCollator', () => {
  test('moves the target behind the token that starts it', () => {
    const batch = seq2seqCollator({ padId: 0, decoderStartId: 9, side: 'left' })([
      { inputIds: [1, 2, 3], labels: [4, 5] },
      { inputIds: Uint8Array.of(6), labels: Uint8Array.of(7) },
    ]);
    expect(rows(batch.inputIds)).toEqual([
      [1, 2, 3],
      [0, 0, 6],
    ]);
    expect(rows(batch.attentionMask)).toEqual([
      [1, 1, 1],
      [0, 0, 1],
    ]);
    expect(rows(batch.decoderInputIds)).toEqual([
      [9, 4],
      [9, 0],
    ]);
    expect(rows(batch.labels)).toEqual([
      [4, 5],
      [7, -100],
    ]);
  });

  test('augments the source alone, reproducibly', () => {
    const collate = seq2seqCollator({
      padId: 0,
      decoderStartId: 9,
      augment: wordDropout({ probability: 0.5 }),
      seed: 2,
    });
    const item = { inputIds: range(100), labels: [1, 2] };
    const batch = collate([item]);
    expect(batch.inputIds.shape[1]).toBeLessThan(80);
    expect(list(batch.labels)).toEqual([1, 2]);
    expect(list(collate([item]).inputIds)).toEqual(list(batch.inputIds));
  });

  test('refuses what is no pair', () => {
    const collate = seq2seqCollator({ padId: 0, decoderStartId: 1 });
    for (const item of [null, [1, 2], { inputIds: [1] }, { labels: [1] }, { inputIds: [1], labels: [] }])
      expect(codeOf(() => collate([item as { inputIds: number[]; labels: number[] }]))).toBe('FOVEA_ARGUMENT');
    expect(codeOf(() => seq2seqCollator({ padId: 0 } as { padId: number; decoderStartId: number }))).toBe(
      'FOVEA_ARGUMENT',
    );
  });
});

test('a collator in a DataLoader: each batch with random numbers of its own, the same from any point on', async () => {
  const dataset = arrayDataset(range(12).map((i) => range(30).map((j) => 5 + ((i * j) % 40))));
  const collate = maskedLMCollator({ padId: 0, maskId: 1, vocabSize: 50, seed: 8 });
  const loader = (): DataLoader<number[], LabelledBatch> =>
    new DataLoader(dataset, { batchSize: 5, shuffle: true, collate });
  const ids = async (from: DataLoader<number[], LabelledBatch>): Promise<string[]> =>
    (await all(from)).map(({ inputIds }) => String(list(inputIds)));
  const whole = loader();
  const [epoch0, epoch1] = [await ids(whole), await ids(whole)];
  const later = loader();
  later.loadStateDict({ ...later.stateDict(), batches: 2 });
  expect(await ids(later)).toEqual(epoch0.slice(2));
  expect(await ids(later)).toEqual(epoch1);
  expect(new Set([...epoch0, ...epoch1]).size).toBe(6);
});
