// The transformer of the paper: shapes, what padding and the future change, tied weights, decoding.
import { manualSeed, noGrad, tensor, tidy, type Tensor } from 'fovea';
import { Seq2SeqTransformer } from 'fovea/models';
import { seq2seqCollator, spanCorruptionCollator } from 'fovea/train';
import { describe, expect, it } from 'vitest';
import { list } from '../helpers.js';
import { batchOf, bos, digitsToIds, eos, pad, padded, rowsOf, vocabSize, wordsOf, wordsToIds } from './number-words.js';

const sizes = { vocabSize, dModel: 16, nHead: 2, numEncoderLayers: 2, numDecoderLayers: 2, dimFeedforward: 24 };
const make = (options = {}): Seq2SeqTransformer => {
  manualSeed(1);
  return new Seq2SeqTransformer({ ...sizes, ...options });
};

describe('numbers in words', () => {
  it.each([
    [0, 'zero'],
    [14, 'fourteen'],
    [40, 'forty'],
    [907, 'nine hundred seven'],
    [7000, 'seven thousand'],
    [1234, 'one thousand two hundred thirty four'],
  ])('%i', (n, words) => expect(wordsOf(n).join(' ')).toBe(words));
});

describe('Seq2SeqTransformer', () => {
  it('gives logits and a loss that ignores padding', () => {
    using model = make().eval();
    const { inputIds, decoderInputIds, labels } = batchOf([7, 1234]);
    const { logits, loss } = noGrad(() => model.forward({ inputIds, decoderInputIds, labels }));
    const [b, n, v] = logits.shape as [number, number, number];
    expect([b, n, v]).toEqual([2, labels.shape[1], vocabSize]);
    const [x, y] = [list(logits), rowsOf(labels).flat()];
    let [sum, count] = [0, 0];
    for (const [row, label] of y.entries()) {
      if (label === pad) continue;
      const scores = x.slice(row * v, (row + 1) * v);
      const high = Math.max(...scores);
      sum += high + Math.log(scores.reduce((s, z) => s + Math.exp(z - high), 0)) - scores[label]!;
      count++;
    }
    expect(list(loss!)[0]).toBeCloseTo(sum / count, 5);
  });

  it('takes the batches of collators, whose labels of padding are -100', () => {
    using model = make().eval();
    const numbers = [7, 1234, 40];
    const items = numbers.map((n) => ({ inputIds: digitsToIds(n), labels: [...wordsToIds(n), eos] }));
    const batch = seq2seqCollator({ padId: pad, decoderStartId: bos })(items);
    const [given, expected] = noGrad(() => [model.forward(batch), model.forward(batchOf(numbers))]);
    expect(rowsOf(batch.labels).flat()).toContain(-100);
    expect(list(given!.logits)).toEqual(list(expected!.logits));
    expect(list(given!.loss!)).toEqual(list(expected!.loss!));
  });

  it('learns from corrupted spans, each text as it is alone', () => {
    using model = make({ labelSmoothing: 0, dropout: 0 });
    const collate = spanCorruptionCollator({ padId: pad, sentinelIds: [40, 39], eosId: eos, decoderStartId: bos });
    const texts = [
      [5, 6, 7, 8, 9, 10, 11, 12, 13, 14],
      [20, 21],
      [30, 31, 32, 33],
    ];
    const batch = collate(texts);
    const counts = rowsOf(batch.labels).map((row) => row.filter((id) => id >= 0).length);
    const alone = texts.map((_, i) => {
      const [source, target] = [list(batch.attentionMask.select(0, i)).filter(Boolean).length, counts[i]!];
      const cut = (x: Tensor, n: number): Tensor => x.narrow(0, i, 1).narrow(1, 0, n);
      const inputIds = cut(batch.inputIds, source);
      const [decoderInputIds, labels] = [cut(batch.decoderInputIds, target), cut(batch.labels, target)];
      return list(model.forward({ inputIds, decoderInputIds, labels }).loss!)[0]! * target;
    });
    const { loss } = model.forward(batch);
    const total = counts.reduce((a, b) => a + b);
    expect(list(loss!)[0]).toBeCloseTo(alone.reduce((a, b) => a + b) / total, 5);
    tidy(() => loss!.backward());
    expect(model.parameters().every((p) => list(p.grad!).every(Number.isFinite))).toBe(true);
  });

  it('sees what the mask shows, whatever the tokens are', () => {
    using model = make().eval();
    const decoderInputIds = padded([[bos, 20, 21]]);
    const logits = (ids: number[], mask?: number[]): number[] => {
      const attentionMask = mask && tensor([mask], { dtype: 'int64' });
      return list(noGrad(() => model.forward({ inputIds: padded([ids]), attentionMask, decoderInputIds }).logits));
    };
    const hidden = logits([5, 6, 7], [1, 1, 0]);
    for (const [i, x] of logits([5, 6]).entries()) expect(hidden[i]).toBeCloseTo(x, 5);
    expect(logits([5, 6, 8], [1, 1, 0])).toEqual(hidden);
    // padTokenId is a token like others where the mask says so
    expect(logits([5, 6, pad], [1, 1, 1])).not.toEqual(logits([5, 6, pad]));
    expect(logits([5, 6, pad], [1, 1, 0])).toEqual(logits([5, 6, pad]));
  });

  it('sees neither padding nor the future', () => {
    using model = make().eval();
    const logits = (inputIds: Tensor, decoderInputIds: Tensor): number[] =>
      list(noGrad(() => model.forward({ inputIds, decoderInputIds }).logits.narrow(1, 0, 2).narrow(0, 0, 1)));
    const source = [5, 6, 7];
    const alone = logits(tensor([source], { dtype: 'int64' }), tensor([[bos, 20, 21]], { dtype: 'int64' }));
    const other = logits(
      padded([source, [5, 6, 7, 8, 9]]),
      padded([
        [bos, 20, 30],
        [bos, 20, 30, 31],
      ]),
    );
    for (const [i, x] of other.entries()) expect(x).toBeCloseTo(alone[i]!, 5);
    const changed = logits(tensor([[5, 6, 8]], { dtype: 'int64' }), tensor([[bos, 20, 21]], { dtype: 'int64' }));
    expect(changed).not.toEqual(alone);
  });

  it('has one table for sources, targets and logits unless told otherwise', () => {
    using tied = make();
    using apart = make({ tieWordEmbeddings: false });
    expect(Object.keys(tied.stateDict())).not.toContain('lm_head.weight');
    expect(Object.keys(apart.stateDict())).toContain('lm_head.weight');
    expect(apart.parameters().length).toBe(tied.parameters().length + 1);
    const { inputIds, decoderInputIds, labels } = batchOf([12]);
    tidy(() => tied.forward({ inputIds, decoderInputIds, labels }).loss!.backward());
    expect(list(tied.shared.weight.grad!).some((x) => x !== 0)).toBe(true);
  });

  it('decodes sequences of a batch as it decodes each alone, greedily and by beams', async () => {
    using model = make().eval();
    const numbers = [3, 421, 9999];
    for (const numBeams of [1, 3]) {
      const together = rowsOf(await model.generate({ inputIds: batchOf(numbers).inputIds, maxNewTokens: 6, numBeams }));
      for (const [i, n] of numbers.entries()) {
        const alone = rowsOf(await model.generate({ inputIds: batchOf([n]).inputIds, maxNewTokens: 6, numBeams }))[0]!;
        expect(together[i]!.slice(0, alone.length)).toEqual(alone);
        expect(together[i]!.slice(alone.length).every((token) => token === pad)).toBe(true);
        if (alone.includes(eos)) expect(alone.indexOf(eos)).toBe(alone.length - 1);
      }
    }
  });

  it('says what is wrong', async () => {
    expect(() => new Seq2SeqTransformer({ ...sizes, nHead: 3 })).toThrow(/nHead/);
    expect(() => new Seq2SeqTransformer({ ...sizes, padTokenId: 2 })).toThrow(/eosTokenId/);
    expect(() => new Seq2SeqTransformer({ ...sizes, labelSmoothing: 1 })).toThrow(/labelSmoothing/);
    using model = make();
    const { inputIds, decoderInputIds } = batchOf([1]);
    expect(() => model.forward({ inputIds: inputIds.squeeze(0), decoderInputIds })).toThrow(/inputIds/);
    expect(() => model.forward({ inputIds, decoderInputIds, labels: inputIds })).toThrow(/labels/);
    const attentionMask = tensor([[true, false, true]]);
    expect(() => model.forward({ inputIds, attentionMask, decoderInputIds })).toThrow(
      /attentionMask must have the shape of inputIds \[1,1\], but has \[1,3\]/,
    );
    expect(() => model.forward({ inputIds, attentionMask: 1 as never, decoderInputIds })).toThrow(/attentionMask/);
    await expect(model.generate({ inputIds, numBeams: -1 })).rejects.toThrow(/numBeams/);
  });
});
