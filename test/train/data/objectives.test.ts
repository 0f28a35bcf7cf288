// Objectives that draw at random: masked tokens, corrupted spans, and noise.
import { maskedLMCollator, RandomStream, spanCorruptionCollator, spanMasking, wordDropout } from 'fovea/train';
import { describe, expect, test } from 'vitest';
import { codeOf, list } from '../../helpers.js';
import { at, range, rows } from './collect.ts';

describe('maskedLMCollator', () => {
  const vocabSize = 50;
  const options = { padId: 0, maskId: 3, vocabSize, specialIds: [1, 2] };
  const text = (n: number, seed: number): number[] => {
    const random = new RandomStream(seed);
    return [1, ...range(n).map(() => 4 + random.below(vocabSize - 4)), 2];
  };

  test('chooses 15 %, of which 80 % are masked, 10 % random and 10 % kept', () => {
    const items = range(400).map((i) => text(250, i));
    const batch = maskedLMCollator(options)(items);
    const [seen, labels] = [rows(batch.inputIds), rows(batch.labels)];
    const counts = { tokens: 0, chosen: 0, masked: 0, kept: 0, random: 0 };
    const replacements = new Array<number>(vocabSize).fill(0);
    items.forEach((item, i) =>
      item.forEach((id, j) => {
        const [s, label] = [seen[i]![j]!, labels[i]![j]!];
        if (id <= 2) return expect([s, label]).toEqual([id, -100]);
        counts.tokens++;
        if (label === -100) return expect(s).toBe(id);
        expect(label).toBe(id);
        counts.chosen++;
        if (s === 3) counts.masked++;
        else if (s === id) counts.kept++;
        else {
          counts.random++;
          replacements[s]!++;
        }
      }),
    );
    /** Within five deviations of a binomial share. */
    const near = (count: number, n: number, p: number): void =>
      expect(Math.abs(count - n * p)).toBeLessThan(5 * Math.sqrt(n * p * (1 - p)));
    expect(counts.tokens).toBe(100_000);
    near(counts.chosen, counts.tokens, 0.15);
    // One in 50 random tokens is the mask, one the token itself.
    near(counts.masked, counts.chosen, 0.8 + 0.1 / vocabSize);
    near(counts.kept, counts.chosen, 0.1 + 0.1 / vocabSize);
    near(counts.random, counts.chosen, 0.1 * (1 - 2 / vocabSize));
    replacements.forEach((count, id) =>
      id === 3 ? expect(count).toBe(0) : near(count, counts.random, 1 / (vocabSize - 1)),
    );
    expect(rows(batch.attentionMask)).toEqual(items.map((item) => item.map(() => 1)));
  });

  test('is a pure function of items, seed, epoch and batch', () => {
    const items = [text(60, 1), text(40, 2)];
    const ids = (seed: number, epoch: number, batch: number): string =>
      String(list(maskedLMCollator({ ...options, seed })(items, at(epoch, batch)).inputIds));
    expect(ids(0, 1, 2)).toBe(ids(0, 1, 2));
    expect(new Set([ids(0, 0, 0), ids(0, 0, 1), ids(0, 1, 0), ids(1, 0, 0)]).size).toBe(4);
  });

  test('pads, and predicts at least one token', () => {
    const collate = maskedLMCollator({ ...options, probability: 0.001, multipleOf: 4 });
    for (const batch of range(50)) {
      const { inputIds, labels } = collate([[1, 7, 8, 2, 0], [9]], at(0, batch));
      expect(inputIds.shape).toEqual([2, 8]);
      expect(list(labels).filter((label) => label !== -100)).toHaveLength(1);
    }
    expect(list(collate([[1, 2]]).labels).every((label) => label === -100)).toBe(true);
    const never = maskedLMCollator({ ...options, probability: 0 })([[7, 8]]);
    expect([list(never.inputIds), list(never.labels)]).toEqual([
      [7, 8],
      [-100, -100],
    ]);
    const always = maskedLMCollator({ ...options, probability: 1 })([[1, 7, 8]]);
    expect(list(always.labels)).toEqual([-100, 7, 8]);
  });

  test('refuses tokens beyond the vocabulary, labels and options out of range', () => {
    expect(() => maskedLMCollator(options)([[7, 50]])).toThrow(
      /tokens below vocabSize = 50 for items\[0\], received 50/,
    );
    expect(codeOf(() => maskedLMCollator(options)([{ inputIds: [1], labels: [1] }]))).toBe('FOVEA_ARGUMENT');
    for (const bad of [
      { maskId: 50 },
      { padId: 99 },
      { vocabSize: 0 },
      { probability: 1.1 },
      { specialIds: 1 },
      { specialIds: [-1] },
      { seed: -1 },
      { mask: 1 },
    ])
      expect(
        codeOf(() => maskedLMCollator({ ...options, ...bad } as typeof options)),
        JSON.stringify(bad),
      ).toBe('FOVEA_ARGUMENT');
  });
});

describe('spanCorruptionCollator', () => {
  const sentinelIds = range(100).map((i) => 999 - i);
  const options = { padId: 0, sentinelIds, eosId: 1 };
  const text = (n: number): number[] => range(n).map((i) => 10 + (i % 800));
  /** A row without padding. */
  const real = (row: number[], fill: number): number[] => row.filter((id) => id !== fill);

  /** Puts the spans of a target where their sentinels are. */
  function restore(source: number[], target: number[]): number[] {
    const spans = new Map<number, number[]>();
    let last = -1;
    for (const id of target) {
      if (sentinelIds.includes(id)) spans.set((last = id), []);
      else spans.get(last)!.push(id);
    }
    return source.flatMap((id) => spans.get(id) ?? [id]);
  }

  test('input and target rebuild the text', () => {
    const items = [2, 3, 5, 17, 64, 100, 511].map(text);
    for (const batch of range(20)) {
      const made = spanCorruptionCollator(options)(items, at(0, batch));
      const [sources, targets, decoder] = [rows(made.inputIds), rows(made.labels), rows(made.decoderInputIds)];
      items.forEach((item, i) => {
        const [source, target] = [real(sources[i]!, 0), real(targets[i]!, -100)];
        expect([source.at(-1), target.at(-1)]).toEqual([1, 1]);
        expect(restore(source.slice(0, -1), target.slice(0, -1))).toEqual(item);
        const used = source.filter((id) => sentinelIds.includes(id));
        expect(used).toEqual(sentinelIds.slice(0, used.length));
        expect(target.filter((id) => sentinelIds.includes(id))).toEqual(used);
        expect(decoder[i]!.slice(0, target.length)).toEqual([0, ...target.slice(0, -1)]);
        expect(list(made.attentionMask.select(0, i)).reduce((a, b) => a + b)).toBe(source.length);
      });
    }
  });

  test('cuts out the share asked for, in spans of that mean length', () => {
    for (const [noiseDensity, meanSpanLength, cut, spans] of [
      [0.15, 3, 77, 26],
      [0.5, 8, 256, 32],
      [0.15, 1, 77, 77],
      [0.9, 3, 461, 51],
    ] as const) {
      const collate = spanCorruptionCollator({ ...options, noiseDensity, meanSpanLength });
      const { inputIds, labels } = collate([text(512)]);
      expect(labels.shape[1]).toBe(cut + spans + 1);
      expect(inputIds.shape[1]).toBe(512 - cut + spans + 1);
    }
  });

  test('every way to cut is equally likely', () => {
    // Five tokens, two of them cut out in two spans: k c k c k is no way, since a text ends with a span.
    const collate = spanCorruptionCollator({ padId: 0, sentinelIds, noiseDensity: 0.4, meanSpanLength: 1 });
    const ways = new Map<string, number>();
    for (const batch of range(4000)) {
      const way = list(collate([[11, 12, 13, 14, 15]], at(0, batch)).inputIds).join();
      ways.set(way, (ways.get(way) ?? 0) + 1);
    }
    expect([...ways.keys()].sort()).toEqual(['11,12,999,14,998', '11,999,13,14,998']);
    for (const count of ways.values()) expect(Math.abs(count - 2000)).toBeLessThan(5 * Math.sqrt(1000));
  });

  test('is a pure function of items, seed, epoch and batch', () => {
    const ids = (seed: number, epoch: number, batch: number): string =>
      String(list(spanCorruptionCollator({ ...options, seed })([text(100)], at(epoch, batch)).inputIds));
    expect(ids(0, 1, 2)).toBe(ids(0, 1, 2));
    expect(new Set([ids(0, 0, 0), ids(0, 0, 1), ids(0, 1, 0), ids(1, 0, 0)]).size).toBe(4);
  });

  test('refuses what cannot be corrupted', () => {
    const collate = spanCorruptionCollator(options);
    expect(() => collate([[5]])).toThrow(/at least two tokens for items\[0\]/);
    expect(() => collate([[5, 999, 6]])).toThrow(/no sentinel in a text for items\[0\], received 999/);
    expect(() => spanCorruptionCollator({ padId: 0, sentinelIds: [9] })([text(100)])).toThrow(
      /at least 5 for a text of 100 tokens for sentinelIds/,
    );
    for (const bad of [
      { noiseDensity: 0 },
      { noiseDensity: 1 },
      { meanSpanLength: 0.5 },
      { sentinelIds: [1, 1] },
      { sentinelIds: 3 },
      { eosId: -1 },
      { eos: 1 },
    ])
      expect(
        codeOf(() => spanCorruptionCollator({ ...options, ...bad } as typeof options)),
        JSON.stringify(bad),
      ).toBe('FOVEA_ARGUMENT');
  });
});

describe('augmentations', () => {
  test('wordDropout replaces or removes, special tokens aside', () => {
    const ids = range(10_000).map((i) => i % 5);
    const replace = wordDropout({ probability: 0.3, replacementId: 99, specialIds: [0] });
    const replaced = replace(ids, new RandomStream(1));
    const dropped = replaced.filter((id) => id === 99).length;
    expect(Math.abs(dropped - 2400)).toBeLessThan(5 * Math.sqrt(8000 * 0.3 * 0.7));
    replaced.forEach((id, i) => (id === 99 ? expect(ids[i]).not.toBe(0) : expect(id).toBe(ids[i])));
    const removed = wordDropout({ probability: 0.3, specialIds: [0] })(ids, new RandomStream(1));
    expect(removed).toEqual(replaced.filter((id) => id !== 99));
    expect(wordDropout({ probability: 1 })([4, 5], new RandomStream(1))).toHaveLength(1);
    expect(wordDropout({ probability: 0 })([4, 5], new RandomStream(1))).toEqual([4, 5]);
  });

  test('spanMasking spends the share in spans of the lengths of SpanBERT', () => {
    const ids = range(4000).map(() => 7);
    const lengths: number[] = [];
    for (const seed of range(20)) {
      const masked = spanMasking({ maskId: 3 })(ids, new RandomStream(seed));
      expect(masked.filter((id) => id === 3)).toHaveLength(600);
      lengths.push(
        ...masked
          .join('')
          .split('7')
          .filter(Boolean)
          .map((run) => run.length),
      );
    }
    // Spans may touch, which makes runs a little longer than the 3.8 of one span.
    const mean = lengths.reduce((a, b) => a + b) / lengths.length;
    expect(mean).toBeGreaterThan(3.75);
    expect(mean).toBeLessThan(4.4);
    expect(lengths.filter((length) => length === 1).length / lengths.length).toBeGreaterThan(0.15);
  });

  test('spanMasking crosses no special token, and fills what is left', () => {
    const ids = range(60).map((i) => (i % 4 === 0 ? 1 : 7));
    const masked = spanMasking({ maskId: 3, specialIds: [1], probability: 0.6 })(ids, new RandomStream(5));
    expect(masked.filter((id) => id === 3)).toHaveLength(27);
    masked.forEach((id, i) => expect(id === 1).toBe(i % 4 === 0));
    const whole = spanMasking({ maskId: 3, specialIds: [1], probability: 1, endProbability: 1 });
    expect(whole(ids, new RandomStream(5))).toEqual(ids.map((id) => (id === 1 ? 1 : 3)));
    expect(whole([1, 1], new RandomStream(5))).toEqual([1, 1]);
  });

  test('refuse options out of range and what are no tokens', () => {
    const bad = [
      () => wordDropout({ probability: 2 }),
      () => wordDropout({ probability: 0.1, replacementId: -1 }),
      () => spanMasking({ maskId: 1, probability: -1 }),
      () => spanMasking({ maskId: 1, endProbability: 0 }),
      () => spanMasking({ maskId: 1, maxLength: 0 }),
      () => spanMasking({} as { maskId: number }),
      () => spanMasking({ maskId: 1 })([], new RandomStream(0)),
    ];
    expect(bad.map(codeOf)).toEqual(bad.map(() => 'FOVEA_ARGUMENT'));
  });
});
