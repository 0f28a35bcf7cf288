/**
 * Batches for models with an encoder and a decoder: the decoder sees the target moved one place to the right, behind a
 * token that starts it, so that position t predicts target t.
 *
 *   labels           y₀ y₁ … y₍ₙ₋₁₎
 *   decoderInputIds  start y₀ … y₍ₙ₋₂₎
 */
import { argumentError, countArg, functionArg, optionsArg } from '../../tensor/check.js';
import type { Tensor } from '../../tensor/tensor.js';
import type { Augmentation } from './augment.js';
import type { Collator } from './batch-reader.js';
import { type PaddedBatch, randomOf } from './collate.js';
import {
  itemsArg,
  maskOf,
  type PadOptions,
  padOptionNames,
  padOptionsArg,
  padRows,
  tokenArg,
  type Tokens,
  tokensArg,
} from './tokens.js';

/** A source and its target. */
export interface Seq2SeqItem {
  /** What the encoder sees. */
  inputIds: Tokens;
  /** What the decoder has to give, its end included. */
  labels: Tokens;
}

/** Padded sources and targets. */
export interface Seq2SeqBatch extends PaddedBatch {
  /** int64 [b, m]; padding follows the target, where causal attention leaves it unseen. */
  decoderInputIds: Tensor;
  /** int64 [b, m]; `ignoreIndex` for padding. */
  labels: Tensor;
}

/** Options of {@link seq2seqCollator}. */
export interface Seq2SeqCollatorOptions extends PadOptions {
  /** The decoder's first token. */
  decoderStartId: number;
  /** Changes what the encoder sees. */
  augment?: Augmentation;
  /** Of the random numbers of `augment` (default 0). */
  seed?: number;
}

/** Pads sources as asked, and targets on the right, where a decoder needs them to begin at 0. */
export function seq2seqBatch(
  sources: readonly number[][],
  targets: readonly number[][],
  pad: Required<PadOptions>,
  decoderStartId: number,
): Seq2SeqBatch {
  const right = { side: 'right', multipleOf: pad.multipleOf } as const;
  return {
    inputIds: padRows(sources, pad.padId, pad),
    attentionMask: maskOf(sources, pad),
    decoderInputIds: padRows(
      targets.map((target) => [decoderStartId, ...target.slice(0, -1)]),
      pad.padId,
      right,
    ),
    labels: padRows(targets, pad.ignoreIndex, right),
  };
}

/**
 * Predicting a target from a source.
 *
 * @returns a collate function, a pure function of the items, the seed and (epoch, batch), which throws FOVEA_ARGUMENT
 *   for items that are no tokens
 * @throws FOVEA_ARGUMENT for options out of range
 */
export function seq2seqCollator(options: Seq2SeqCollatorOptions): Collator<Seq2SeqItem, Seq2SeqBatch> {
  const op = 'seq2seqCollator';
  const given = optionsArg(op, options, [...padOptionNames, 'decoderStartId', 'augment', 'seed']);
  const { augment, seed = 0 } = given;
  const pad = padOptionsArg(op, given);
  const decoderStartId = tokenArg(op, 'decoderStartId', given.decoderStartId);
  if (augment !== undefined) functionArg(op, 'augment', augment);
  countArg(op, 'seed', seed);
  return (items, context) => {
    const random = randomOf(op, seed, context);
    const pairs = itemsArg(op, items).map((item, i) => {
      if (item === null || typeof item !== 'object')
        throw argumentError(op, `items[${i}]`, 'an object with inputIds and labels', item);
      const { inputIds, labels } = item as Partial<Seq2SeqItem>;
      const ids = tokensArg(op, `items[${i}].inputIds`, inputIds);
      return {
        source: augment ? tokensArg(op, `augment(items[${i}].inputIds)`, augment(ids, random)) : ids,
        target: tokensArg(op, `items[${i}].labels`, labels),
      };
    });
    const sources = pairs.map(({ source }) => source);
    const targets = pairs.map(({ target }) => target);
    return seq2seqBatch(sources, targets, pad, decoderStartId);
  };
}
