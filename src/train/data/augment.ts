/** Noise on sequences of tokens, against overfitting: a function of the tokens and of a stream of random numbers. */
import { argumentError, countArg, optionsArg, probabilityArg } from '../../tensor/check.js';
import type { RandomStream } from './random-stream.js';
import { tokenArg, tokenSetArg, tokensArg } from './tokens.js';

/** Gives the tokens changed. */
export type Augmentation = (ids: readonly number[], random: RandomStream) => number[];

/** Options of {@link wordDropout}. */
export interface WordDropoutOptions {
  /** Of each token. */
  probability: number;
  /** Takes the place of what is dropped; without it, tokens are removed, all but one at most. */
  replacementId?: number;
  /** Tokens that are never dropped (default: none). */
  specialIds?: readonly number[];
}

/**
 * Word dropout: each token is replaced (Bowman et al. 2016, https://arxiv.org/abs/1511.06349) or removed (Iyyer et al.
 * 2015, "Deep unordered composition rivals syntactic methods") with a probability, independently of the others.
 *
 * @returns an augmentation
 * @throws FOVEA_ARGUMENT for options out of range
 */
export function wordDropout(options: WordDropoutOptions): Augmentation {
  const op = 'wordDropout';
  const {
    probability,
    replacementId,
    specialIds = [],
  } = optionsArg(op, options, ['probability', 'replacementId', 'specialIds']);
  probabilityArg(op, 'probability', probability);
  if (replacementId !== undefined) tokenArg(op, 'replacementId', replacementId);
  const special = tokenSetArg(op, 'specialIds', specialIds);
  return (ids, random) => {
    const tokens = tokensArg(op, 'ids', ids);
    const drops = tokens.map((id) => random.uniform() < probability && !special.has(id));
    if (replacementId !== undefined) return tokens.map((id, i) => (drops[i] ? replacementId : id));
    const left = tokens.filter((_, i) => !drops[i]);
    return left.length > 0 ? left : [tokens[random.below(tokens.length)]!];
  };
}

/** Options of {@link spanMasking}. */
export interface SpanMaskingOptions {
  /** Takes the place of each masked token. */
  maskId: number;
  /** The share of tokens that is masked, special ones aside (default 0.15). */
  probability?: number;
  /** A span ends at each token with this probability: p of the geometric distribution (default 0.2). */
  endProbability?: number;
  /** No span is longer (default 10). */
  maxLength?: number;
  /** Tokens that are never masked, and that no span crosses (default: none). */
  specialIds?: readonly number[];
}

/** Where `length` free places follow each other. */
function freeStarts(free: readonly boolean[], length: number): number[] {
  const starts: number[] = [];
  let run = 0;
  for (const [i, isFree] of free.entries()) {
    run = isFree ? run + 1 : 0;
    if (run >= length) starts.push(i - length + 1);
  }
  return starts;
}

/**
 * Masks whole spans, as SpanBERT does (Joshi et al. 2020, https://arxiv.org/abs/1907.10529, section 3.1): lengths from
 * the geometric distribution Geo(endProbability) up to `maxLength`, 3.8 on average by default, at places drawn
 * uniformly from those left, until the share is spent.
 *
 * @returns an augmentation, which keeps the number of tokens
 * @throws FOVEA_ARGUMENT for options out of range
 */
export function spanMasking(options: SpanMaskingOptions): Augmentation {
  const op = 'spanMasking';
  const known = ['maskId', 'probability', 'endProbability', 'maxLength', 'specialIds'] as const;
  const given = optionsArg(op, options, known);
  const maskId = tokenArg(op, 'maskId', given.maskId);
  const share = probabilityArg(op, 'probability', given.probability ?? 0.15);
  const end = probabilityArg(op, 'endProbability', given.endProbability ?? 0.2);
  if (end === 0) throw argumentError(op, 'endProbability', 'a probability above 0', end);
  const maxLength = countArg(op, 'maxLength', given.maxLength ?? 10, 1);
  const special = tokenSetArg(op, 'specialIds', given.specialIds ?? []);
  // P(length > k) = (1 - end)^k, inverted, of what is at most maxLength.
  const upTo = 1 - (1 - end) ** maxLength;
  const draw = (random: RandomStream): number =>
    end === 1 ? 1 : 1 + Math.floor(Math.log1p(-upTo * random.uniform()) / Math.log1p(-end));
  return (ids, random) => {
    const tokens = tokensArg(op, 'ids', ids);
    const free = tokens.map((id) => !special.has(id));
    let left = Math.round(share * free.filter(Boolean).length);
    while (left > 0) {
      let length = Math.min(draw(random), maxLength, left);
      let starts = freeStarts(free, length);
      while (starts.length === 0) starts = freeStarts(free, --length);
      const begin = starts[random.below(starts.length)]!;
      tokens.fill(maskId, begin, begin + length);
      free.fill(false, begin, begin + length);
      left -= length;
    }
    return tokens;
  };
}
