/**
 * Batches for language models: padded tokens, which of them are real, and what has to be predicted. `forward` of a
 * model takes such a batch as it is. Labels are the tokens themselves, which the model compares with its predictions
 * before them; those of padding are -100, which no loss counts.
 */
import { argumentError, countArg, functionArg, optionsArg } from '../../tensor/check.js';
import type { Tensor } from '../../tensor/tensor.js';
import type { Augmentation } from './augment.js';
import type { BatchContext, Collator } from './batch-reader.js';
import { isList } from './list.js';
import { RandomStream } from './random-stream.js';
import {
  itemsArg,
  labelsError,
  maskOf,
  type PadOptions,
  padOptionNames,
  padOptionsArg,
  padRows,
  type Tokens,
  tokensArg,
} from './tokens.js';

/** A sequence of tokens; its labels are as many, such as -100 for each token of a prompt. */
export type TokenItem = Tokens | { inputIds: Tokens; labels?: Tokens };

/** Padded sequences. */
export interface PaddedBatch {
  /** int64 [b, n], n being the longest length, rounded up to `multipleOf`. */
  inputIds: Tensor;
  /** bool [b, n], true where a token is real; `mask.padding(attentionMask.sum(1))` is the same as a mask. */
  attentionMask: Tensor;
}

/** Padded sequences with what has to be predicted. */
export interface LabelledBatch extends PaddedBatch {
  /** int64 [b, n]; `ignoreIndex` where nothing has to be. */
  labels: Tensor;
}

/** An item, checked. */
export interface CheckedItem {
  ids: number[];
  labels: number[] | undefined;
}

/** Checks items of tokens. @throws FOVEA_ARGUMENT for others, FOVEA_SHAPE for labels that are not as many */
export function tokenItemsArg(op: string, items: unknown, ignoreIndex: number): CheckedItem[] {
  return itemsArg(op, items).map((item, i) => {
    if (isList(item)) return { ids: tokensArg(op, `items[${i}]`, item), labels: undefined };
    const { inputIds, labels } = Object(item) as { inputIds?: unknown; labels?: unknown };
    const ids = tokensArg(op, `items[${i}].inputIds`, inputIds);
    if (labels === undefined) return { ids, labels };
    const checked = tokensArg(op, `items[${i}].labels`, labels, ignoreIndex);
    if (checked.length !== ids.length) throw labelsError(op, i, checked.length, ids.length);
    return { ids, labels: checked };
  });
}

/** What makes a batch's random numbers. */
export function randomOf(op: string, seed: number, context: BatchContext | undefined): RandomStream {
  const { epoch = 0, batch = 0 } = optionsArg<Partial<BatchContext>>(op, context, ['epoch', 'batch']);
  return new RandomStream(seed, countArg(op, 'epoch', epoch), countArg(op, 'batch', batch));
}

/**
 * Pads sequences to the longest of the batch.
 *
 * @returns a collate function, which throws FOVEA_ARGUMENT for items that are no tokens, FOVEA_SHAPE for labels that
 *   are not as many as the tokens; `labels` are there if every item has some
 * @throws FOVEA_ARGUMENT for options out of range
 */
export function padCollate(options: PadOptions): Collator<TokenItem, PaddedBatch & { labels?: Tensor }> {
  const op = 'padCollate';
  const pad = padOptionsArg(op, optionsArg(op, options, padOptionNames));
  return (items) => {
    const checked = tokenItemsArg(op, items, pad.ignoreIndex);
    const rows = checked.map(({ ids }) => ids);
    const labels = checked.flatMap((item) => (item.labels ? [item.labels] : []));
    if (labels.length > 0 && labels.length < rows.length)
      throw argumentError(op, 'items', 'labels in all items or in none', `${labels.length} of ${rows.length}`);
    const batch = { inputIds: padRows(rows, pad.padId, pad), attentionMask: maskOf(rows, pad) };
    return labels.length > 0 ? { ...batch, labels: padRows(labels, pad.ignoreIndex, pad) } : batch;
  };
}

/** Options of {@link causalLMCollator}. */
export interface CausalLMCollatorOptions extends PadOptions {
  /** Changes the tokens that the model sees, but not the labels; has to keep their number. */
  augment?: Augmentation;
  /** Of the random numbers of `augment` (default 0). */
  seed?: number;
}

/**
 * Predicting each token from those before it: labels are the item's, or else its tokens.
 *
 * @returns a collate function, a pure function of the items, the seed and (epoch, batch); throws as `padCollate`
 * @throws FOVEA_ARGUMENT for options out of range
 */
export function causalLMCollator(options: CausalLMCollatorOptions): Collator<TokenItem, LabelledBatch> {
  const op = 'causalLMCollator';
  const given = optionsArg(op, options, [...padOptionNames, 'augment', 'seed']);
  const { augment, seed = 0 } = given;
  const pad = padOptionsArg(op, given);
  if (augment !== undefined) functionArg(op, 'augment', augment);
  countArg(op, 'seed', seed);
  return (items, context) => {
    const random = randomOf(op, seed, context);
    const checked = tokenItemsArg(op, items, pad.ignoreIndex);
    const rows = checked.map(({ ids }, i) => {
      const seen = augment ? tokensArg(op, `augment(items[${i}])`, augment([...ids], random)) : ids;
      if (seen.length !== ids.length)
        throw argumentError(op, 'augment', `as many tokens as it gets, ${ids.length}`, seen.length);
      return seen;
    });
    return {
      inputIds: padRows(rows, pad.padId, pad),
      attentionMask: maskOf(rows, pad),
      labels: padRows(
        checked.map(({ ids, labels }) => labels ?? ids),
        pad.ignoreIndex,
        pad,
      ),
    };
  };
}
