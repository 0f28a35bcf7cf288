// Decoding with keys and values that are kept, against decoding that computes every prefix anew.
import { autocast, indexSelect, manualSeed, memory, noGrad, tensor, tidy, type Tensor } from 'fovea';
import { beamSearch, EncoderDecoderCache } from 'fovea/generate';
import { Seq2SeqTransformer, type TransformerOptions } from 'fovea/models';
import { describe, expect, it } from 'vitest';
import { codeOf, list } from '../helpers.js';
import { bos, eos, pad, padded, rowsOf } from './number-words.js';

const vocabSize = 11;
const sizes = { vocabSize, dModel: 24, nHead: 3, numEncoderLayers: 1, numDecoderLayers: 3, dimFeedforward: 40 };
function make(seed: number, options: Partial<TransformerOptions> = {}): Seq2SeqTransformer {
  manualSeed(seed);
  return new Seq2SeqTransformer({ ...sizes, ...options }).eval();
}
const row = (length: number, seed: number): number[] =>
  Array.from({ length }, (_, i) => 3 + ((7 * i + 5 * seed + i * i) % (vocabSize - 3)));
const ids = (rows: number[][]): Tensor => tensor(rows, { dtype: 'int64' });
const sources = (seed: number): Tensor => padded([row(5, seed), row(9, seed + 1), row(1, seed + 2), row(7, seed + 3)]);

/** The tokens that a search finds which knows of no cache, as `generate` gives them. */
async function anew(model: Seq2SeqTransformer, inputIds: Tensor, numBeams: number, maxNewTokens: number) {
  const encoded = noGrad(() => model.encode(inputIds));
  const found = await beamSearch(
    (tokens, sequence) => {
      const rows = tensor([...sequence], { dtype: 'int64' });
      const hidden = model.decode(tokens, indexSelect(encoded, 0, rows), indexSelect(inputIds, 0, rows));
      return model.logitsOf(hidden).select(1, tokens.shape[1]! - 1);
    },
    { start: Array.from({ length: inputIds.shape[0]! }, () => [bos]), eosTokenIds: [eos], numBeams, maxNewTokens },
  );
  const longest = Math.max(...found.map(({ tokens }) => tokens.length));
  return found.map(({ tokens }) => Array.from({ length: longest }, (_, i) => tokens[i] ?? pad));
}

/** The largest difference, relative to the largest number. */
function difference(got: Tensor, wanted: Tensor): number {
  expect(got.shape).toEqual(wanted.shape);
  const [a, b] = [list(got), list(wanted)];
  const scale = Math.max(...b.map(Math.abs));
  return Math.max(...a.map((x, i) => Math.abs(x - b[i]!))) / scale;
}

const kinds: [string, Partial<TransformerOptions>][] = [
  ['as in the paper', {}],
  ['with a head of its own', { tieWordEmbeddings: false }],
  ['with norms in front, too', { normFirst: true, tieWordEmbeddings: false }],
];

describe.each(kinds)('a cache changes nothing, %s', (_, options) => {
  it('in logits, whatever a call is given', () => {
    using model = make(4, options);
    const inputIds = sources(2);
    const targets = ids([3, 8, 9, 4].map((seed) => row(40, seed)));
    noGrad(() => {
      const encoded = model.encode(inputIds);
      const whole = model.logitsOf(model.decode(targets, encoded, inputIds));
      for (const steps of [[40], Array.from({ length: 40 }, () => 1), [3, 1, 16, 2, 18], [17, 23]]) {
        using pastKeyValues = new EncoderDecoderCache({ layers: 3 });
        let seen = 0;
        for (const n of steps) {
          const part = model.decode(targets.narrow(1, seen, n), encoded, inputIds, undefined, { pastKeyValues });
          expect(difference(model.logitsOf(part), whole.narrow(1, seen, n))).toBeLessThan(1e-5);
          seen += n;
          expect(pastKeyValues.length).toBe(seen);
        }
      }
    });
  });

  it.each([1, 2, 4])('in tokens, by %i beams', async (numBeams) => {
    const lengths = new Set<number>();
    for (const seed of [1, 2, 3, 4]) {
      using model = make(seed, options);
      for (const maxNewTokens of [1, 6, 37]) {
        const inputIds = sources(seed);
        const found = rowsOf(await model.generate({ inputIds, numBeams, maxNewTokens }));
        expect(found).toEqual(await anew(model, inputIds, numBeams, maxNewTokens));
        for (const tokens of found) if (tokens.includes(eos)) lengths.add(tokens.indexOf(eos));
      }
    }
    // Some end before others, so that batches have shrunk; where logits come from the embeddings, tokens repeat.
    if (options.tieWordEmbeddings === false) expect(lengths.size).toBeGreaterThan(2);
  });
});

describe('decoding with a cache', () => {
  it('goes on by rows: some end, some are two', () => {
    using model = make(6);
    using pastKeyValues = new EncoderDecoderCache({ layers: 3 });
    const inputIds = sources(5);
    const [a, b, c, d] = [row(9, 1), row(9, 2), row(9, 3), row(9, 4)];
    noGrad(() => {
      const encoded = model.encode(inputIds);
      const first = [a, b, c, d].map((tokens) => tokens.slice(0, 4));
      model.decode(ids(first), encoded, inputIds, undefined, { pastKeyValues });
      pastKeyValues.reorder([2, 0, 3, 2, 2]);
      pastKeyValues.reorder([4, 1, 1]);
      const rows = tensor([2, 0, 0], { dtype: 'int64' });
      const rest = ids([a, b, c].map((tokens) => tokens.slice(4)));
      const part = model.decode(rest, encoded, inputIds.indexSelect(0, rows), undefined, { pastKeyValues });
      const all = ids([
        [...c.slice(0, 4), ...a.slice(4)],
        [...a.slice(0, 4), ...b.slice(4)],
        [...a.slice(0, 4), ...c.slice(4)],
      ]);
      const whole = model.decode(all, encoded.indexSelect(0, rows), inputIds.indexSelect(0, rows));
      expect(difference(part, whole.narrow(1, 4, 5))).toBeLessThan(1e-5);
    });
  });

  it('computes one position for a token', async () => {
    using model = make(1);
    const rows: number[] = [];
    model.transformer.decoder.registerForwardPreHook((_, [x]) => void rows.push((x as Tensor).shape[1]!));
    await model.generate({ inputIds: sources(1), maxNewTokens: 7 });
    expect(rows).toEqual(rows.map(() => 1));
  });

  it('runs under autocast, and leaves nothing behind', async () => {
    using model = make(7);
    const inputIds = sources(3);
    const run = (): Promise<Tensor> => model.generate({ inputIds, numBeams: 3, maxNewTokens: 20 });
    for (const tokens of [await autocast('bfloat16', run), await run()]) {
      expect(tokens.shape[0]).toBe(4);
      tokens.dispose();
    }
    const before = memory().tensors;
    for (let i = 0; i < 3; i++) (await run()).dispose();
    expect(memory().tensors).toBe(before);
  });

  it('refuses caches that do not fit', () => {
    using model = make(1);
    const inputIds = sources(1);
    const decode = (pastKeyValues: EncoderDecoderCache, targets = ids([[bos], [bos], [bos], [bos]])): Tensor =>
      tidy(() => model.decode(targets, model.encode(inputIds), inputIds, undefined, { pastKeyValues }));
    using fewer = new EncoderDecoderCache({ layers: 2 });
    expect(() => decode(fewer)).toThrow(/pastKeyValues/);
    expect(fewer.length).toBe(0);
    using cache = new EncoderDecoderCache({ layers: 3 });
    decode(cache);
    expect(codeOf(() => decode(cache, ids([[bos]])))).toBe('FOVEA_SHAPE');
    expect(() => cache.reorder([0, 4])).toThrow(/rows/);
    expect(() => cache.reorder([])).toThrow(/rows/);
    expect(codeOf(() => new EncoderDecoderCache({ layers: 0 }))).toBe('FOVEA_ARGUMENT');
    cache.dispose();
    expect(codeOf(() => decode(cache))).toBe('FOVEA_DISPOSED');
  });
});
