/**
 * Span corruption (Raffel et al. 2020, https://arxiv.org/abs/1910.10683, section 3.1.4): random spans of a text are cut
 * out, each replaced by a sentinel of its own; the target is each sentinel with the span that it stands for.
 *
 *   text    a b c d e f g     spans c d and g
 *   input   a b <0> e f <1>
 *   target  <0> c d <1> g
 *
 * Of n tokens, round(noiseDensity · n) are cut out, as round(that / meanSpanLength) spans; lengths of spans and of what
 * is between them are random partitions, all equally likely, and a text begins with a token that stays.
 */
import { argumentError, countArg, optionsArg } from '../../tensor/check.js';
import type { Collator } from './batch-reader.js';
import { randomOf, type TokenItem, tokenItemsArg } from './collate.js';
import { permutation, type RandomStream } from './random-stream.js';
import { type Seq2SeqBatch, seq2seqBatch } from './seq2seq.js';
import { type PadOptions, padOptionNames, padOptionsArg, tokenArg, tokenSetArg } from './tokens.js';

/** Options of {@link spanCorruptionCollator}. */
export interface SpanCorruptionOptions extends PadOptions {
  /** The sentinels, the first span's first (T5: 32099 down to 32000). */
  sentinelIds: readonly number[];
  /** Ends input and target (default: nothing does). */
  eosId?: number;
  /** The decoder's first token (default: `padId`, as in T5). */
  decoderStartId?: number;
  /** The share of tokens that is cut out (default 0.15). */
  noiseDensity?: number;
  /** Default 3. */
  meanSpanLength?: number;
  /** Which random choice of all; it changes with the epoch and the batch (default 0). */
  seed?: number;
}

/** Cuts n into `parts` positive summands, every way equally likely. */
function partition(n: number, parts: number, random: RandomStream): number[] {
  const cuts = Array.from(permutation(n - 1, random).subarray(0, parts - 1), (cut) => cut + 1);
  const bounds = [0, ...cuts.sort((a, b) => a - b), n];
  return bounds.slice(1).map((end, i) => end - bounds[i]!);
}

/** Input and target of a text of at least two tokens. */
function corrupt(
  ids: readonly number[],
  { noiseDensity, meanSpanLength, sentinels }: { noiseDensity: number; meanSpanLength: number; sentinels: number[] },
  random: RandomStream,
): { source: number[]; target: number[] } {
  const n = ids.length;
  const noise = Math.min(Math.max(Math.round(n * noiseDensity), 1), n - 1);
  const wanted = Math.max(Math.round(noise / meanSpanLength), 1);
  const spans = Math.min(wanted, noise, n - noise);
  if (spans > sentinels.length)
    throw argumentError(
      'spanCorruptionCollator',
      'sentinelIds',
      `at least ${spans} for a text of ${n} tokens`,
      sentinels.length,
      'use shorter texts or longer spans',
    );
  const cut = partition(noise, spans, random);
  const kept = partition(n - noise, spans, random);
  const source: number[] = [];
  const target: number[] = [];
  let at = 0;
  for (let span = 0; span < spans; span++) {
    const begin = at + kept[span]!;
    const end = begin + cut[span]!;
    source.push(...ids.slice(at, begin), sentinels[span]!);
    target.push(sentinels[span]!, ...ids.slice(begin, end));
    at = end;
  }
  return { source, target };
}

/** The share and the mean length. @throws FOVEA_ARGUMENT for numbers out of range */
function noiseArg(
  op: string,
  { noiseDensity = 0.15, meanSpanLength = 3 }: SpanCorruptionOptions,
): {
  noiseDensity: number;
  meanSpanLength: number;
} {
  if (typeof noiseDensity !== 'number' || !(noiseDensity > 0 && noiseDensity < 1))
    throw argumentError(op, 'noiseDensity', 'a share between 0 and 1', noiseDensity);
  if (typeof meanSpanLength !== 'number' || !(meanSpanLength >= 1 && meanSpanLength < Infinity))
    throw argumentError(op, 'meanSpanLength', 'a number of at least 1', meanSpanLength);
  return { noiseDensity, meanSpanLength };
}

/**
 * T5's objective: predicting the spans that were cut out of a text.
 *
 * @returns a collate function, a pure function of the items, the seed and (epoch, batch); it throws FOVEA_ARGUMENT for
 *   texts of less than two tokens, with sentinels in them, with more spans than sentinels, or with labels
 * @throws FOVEA_ARGUMENT for options out of range
 */
export function spanCorruptionCollator(options: SpanCorruptionOptions): Collator<TokenItem, Seq2SeqBatch> {
  const op = 'spanCorruptionCollator';
  const own = ['sentinelIds', 'eosId', 'decoderStartId', 'noiseDensity', 'meanSpanLength', 'seed'] as const;
  const given = optionsArg(op, options, [...padOptionNames, ...own]);
  const pad = padOptionsArg(op, given);
  const special = tokenSetArg(op, 'sentinelIds', given.sentinelIds);
  if (special.size !== given.sentinelIds.length)
    throw argumentError(op, 'sentinelIds', 'tokens that do not repeat', given.sentinelIds);
  const noise = { ...noiseArg(op, given), sentinels: [...special] };
  const end = given.eosId === undefined ? [] : [tokenArg(op, 'eosId', given.eosId)];
  const decoderStartId = tokenArg(op, 'decoderStartId', given.decoderStartId ?? pad.padId);
  const seed = countArg(op, 'seed', given.seed ?? 0);
  return (items, context) => {
    const random = randomOf(op, seed, context);
    const pairs = tokenItemsArg(op, items, pad.ignoreIndex).map(({ ids, labels }, i) => {
      if (labels) throw argumentError(op, `items[${i}].labels`, 'no labels, which corruption makes', labels);
      if (ids.length < 2) throw argumentError(op, `items[${i}]`, 'at least two tokens', ids);
      const sentinel = ids.find((id) => special.has(id));
      if (sentinel !== undefined) throw argumentError(op, `items[${i}]`, 'no sentinel in a text', sentinel);
      return corrupt(ids, noise, random);
    });
    const sources = pairs.map(({ source }) => [...source, ...end]);
    const targets = pairs.map(({ target }) => [...target, ...end]);
    return seq2seqBatch(sources, targets, pad, decoderStartId);
  };
}
