/**
 * Masked language modelling (Devlin et al. 2019, https://arxiv.org/abs/1810.04805, section 3.1): each token is chosen
 * with a probability, to be predicted from both sides. Of those chosen, 80 % are replaced by the mask, 10 % by a token
 * drawn uniformly from the vocabulary, 10 % stay, since no mask occurs when the model is used.
 */
import { argumentError, countArg, optionsArg, probabilityArg } from '../../tensor/check.js';
import type { Collator } from './batch-reader.js';
import { type LabelledBatch, randomOf, type TokenItem, tokenItemsArg } from './collate.js';
import type { RandomStream } from './random-stream.js';
import { maskOf, type PadOptions, padOptionNames, padOptionsArg, padRows, tokenArg, tokenSetArg } from './tokens.js';

/** Options of {@link maskedLMCollator}. */
export interface MaskedLMCollatorOptions extends PadOptions {
  /** The token of the mask. */
  maskId: number;
  /** Random tokens are below it. */
  vocabSize: number;
  /** Tokens that are never chosen, besides `padId` and `maskId` (default: none). */
  specialIds?: readonly number[];
  /** Of a token to be chosen (default 0.15). */
  probability?: number;
  /** Which random choice of all; it changes with the epoch and the batch (default 0). */
  seed?: number;
}

/** Which tokens of a batch are to be predicted: at least one, if one may be, since a mean over none is NaN. */
function chosen(
  rows: readonly number[][],
  special: Set<number>,
  probability: number,
  random: RandomStream,
): boolean[][] {
  const is = rows.map((row) => row.map((id) => random.uniform() < probability && !special.has(id)));
  if (probability === 0 || is.some((row) => row.includes(true))) return is;
  const places = rows.flatMap((row, i) => row.flatMap((id, j) => (special.has(id) ? [] : [{ i, j }])));
  const place = places[random.below(Math.max(1, places.length))];
  if (place) is[place.i]![place.j] = true;
  return is;
}

/** What stands for a token that was chosen. */
function disguised(id: number, maskId: number, vocabSize: number, random: RandomStream): number {
  const u = random.uniform();
  if (u < 0.8) return maskId;
  return u < 0.9 ? random.below(vocabSize) : id;
}

/**
 * Predicting chosen tokens: labels are the tokens where they were chosen, `ignoreIndex` elsewhere. Of a batch at least
 * one token is chosen, whatever the probability, if that is not 0.
 *
 * @returns a collate function, a pure function of the items, the seed and (epoch, batch); it throws FOVEA_ARGUMENT for
 *   items that are no tokens of the vocabulary or bring labels
 * @throws FOVEA_ARGUMENT for options out of range
 */
export function maskedLMCollator(options: MaskedLMCollatorOptions): Collator<TokenItem, LabelledBatch> {
  const op = 'maskedLMCollator';
  const own = ['maskId', 'vocabSize', 'specialIds', 'probability', 'seed'] as const;
  const given = optionsArg(op, options, [...padOptionNames, ...own]);
  const pad = padOptionsArg(op, given);
  const vocabSize = countArg(op, 'vocabSize', given.vocabSize, 1);
  const maskId = tokenArg(op, 'maskId', given.maskId);
  for (const [name, id] of [
    ['maskId', maskId],
    ['padId', pad.padId],
  ] as const)
    if (id >= vocabSize) throw argumentError(op, name, `a token below vocabSize = ${vocabSize}`, id);
  const special = tokenSetArg(op, 'specialIds', given.specialIds ?? [])
    .add(pad.padId)
    .add(maskId);
  const probability = probabilityArg(op, 'probability', given.probability ?? 0.15);
  const seed = countArg(op, 'seed', given.seed ?? 0);
  return (items, context) => {
    const random = randomOf(op, seed, context);
    const rows = tokenItemsArg(op, items, pad.ignoreIndex).map(({ ids, labels }, i) => {
      if (labels) throw argumentError(op, `items[${i}].labels`, 'no labels, which masking makes', labels);
      const unknown = ids.find((id) => id >= vocabSize);
      if (unknown === undefined) return ids;
      throw argumentError(op, `items[${i}]`, `tokens below vocabSize = ${vocabSize}`, unknown);
    });
    const is = chosen(rows, special, probability, random);
    const seen = rows.map((row, i) => row.map((id, j) => (is[i]![j] ? disguised(id, maskId, vocabSize, random) : id)));
    const labels = rows.map((row, i) => row.map((id, j) => (is[i]![j] ? id : pad.ignoreIndex)));
    return {
      inputIds: padRows(seen, pad.padId, pad),
      attentionMask: maskOf(rows, pad),
      labels: padRows(labels, pad.ignoreIndex, pad),
    };
  };
}
