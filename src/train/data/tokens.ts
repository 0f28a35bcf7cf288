/** Sequences of tokens of different lengths as one rectangular tensor. */
import { FoveaError } from '../../errors.js';
import { tensor } from '../../ops/index.js';
import { argumentError, countArg } from '../../tensor/check.js';
import type { Tensor } from '../../tensor/tensor.js';
import { listArg } from './list.js';

/** Token numbers: an array, or a typed array of numbers. */
export type Tokens = ArrayLike<number>;

/** How sequences are padded. */
export interface PadOptions {
  /** Fills what is left of a row. */
  padId: number;
  /** Where padding goes (default 'right'). */
  side?: 'left' | 'right';
  /** The length of a row is padded to a multiple of this (default 1). */
  multipleOf?: number;
  /** The label that does not count (default -100). */
  ignoreIndex?: number;
}

/** Names of {@link PadOptions}. */
export const padOptionNames = ['padId', 'side', 'multipleOf', 'ignoreIndex'] as const;

/** The greatest token: every one fits into 32 bits. */
const maxToken = 2 ** 31 - 1;

function isToken(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= maxToken;
}

/** A token of a vocabulary. @throws FOVEA_ARGUMENT for anything else */
export function tokenArg(op: string, argument: string, value: unknown): number {
  if (isToken(value)) return value;
  throw argumentError(op, argument, `a token, an integer from 0 to ${maxToken}`, value);
}

/** A list of tokens as a set. @throws FOVEA_ARGUMENT for anything else */
export function tokenSetArg(op: string, argument: string, value: unknown): Set<number> {
  if (!Array.isArray(value)) throw argumentError(op, argument, 'a list of tokens', value);
  return new Set(value.map((id: unknown, i) => tokenArg(op, `${argument}[${i}]`, id)));
}

/**
 * A sequence of at least one token as an array.
 *
 * @param ignoreIndex a value that may stand besides tokens, as in labels
 * @throws FOVEA_ARGUMENT for anything else
 */
export function tokensArg(op: string, argument: string, value: unknown, ignoreIndex?: number): number[] {
  const expected = 'a sequence of at least one token';
  const list = listArg(op, argument, value, expected);
  if (list.length === 0) throw argumentError(op, argument, expected, value);
  return Array.from(list, (id, i) => {
    if (isToken(id)) return id;
    return id === ignoreIndex && ignoreIndex !== undefined ? ignoreIndex : tokenArg(op, `${argument}[${i}]`, id);
  });
}

/** The options of padding, among others whose names were checked. @throws FOVEA_ARGUMENT for options out of range */
export function padOptionsArg(op: string, options: PadOptions): Required<PadOptions> {
  const { padId, side = 'right', multipleOf = 1, ignoreIndex = -100 } = options;
  if (side !== 'left' && side !== 'right') throw argumentError(op, 'side', "'left' or 'right'", side);
  if (!Number.isSafeInteger(ignoreIndex) || ignoreIndex >= 0)
    throw argumentError(op, 'ignoreIndex', 'a negative integer, which is no token', ignoreIndex);
  return {
    padId: tokenArg(op, 'padId', padId),
    side,
    multipleOf: countArg(op, 'multipleOf', multipleOf, 1),
    ignoreIndex,
  };
}

/** Rows of one length, int64 [rows, width]; a number of 32 bits each. */
export function int64Rows(values: Int32Array, rows: number): Tensor {
  return tensor(values, { shape: [rows, values.length / rows], dtype: 'int64' });
}

/** The length of the longest row, rounded up. */
function widthOf(rows: readonly Tokens[], multipleOf: number): number {
  const longest = rows.reduce((most, { length }) => Math.max(most, length), 0);
  return Math.ceil(longest / multipleOf) * multipleOf;
}

/** Where a row of `length` begins. */
const startOf = (width: number, length: number, side: 'left' | 'right'): number =>
  side === 'left' ? width - length : 0;

/** Rows padded with `fill`: int64 [rows, longest, rounded up]. */
export function padRows(
  rows: readonly Tokens[],
  fill: number,
  { side, multipleOf }: Pick<Required<PadOptions>, 'side' | 'multipleOf'>,
): Tensor {
  const width = widthOf(rows, multipleOf);
  const values = new Int32Array(rows.length * width).fill(fill);
  for (const [i, row] of rows.entries()) values.set(row, i * width + startOf(width, row.length, side));
  return int64Rows(values, rows.length);
}

/** True where `padRows` puts a token: bool [rows, width]. */
export function maskOf(
  rows: readonly Tokens[],
  { side, multipleOf }: Pick<Required<PadOptions>, 'side' | 'multipleOf'>,
): Tensor {
  const width = widthOf(rows, multipleOf);
  const values = new Uint8Array(rows.length * width);
  for (const [i, { length }] of rows.entries()) {
    const begin = i * width + startOf(width, length, side);
    values.fill(1, begin, begin + length);
  }
  return tensor(values, { shape: [rows.length, width], dtype: 'bool' });
}

/** Checks the items of a batch. @throws FOVEA_ARGUMENT for no list, or an empty one */
export function itemsArg(op: string, items: unknown): readonly unknown[] {
  if (Array.isArray(items) && items.length > 0) return items;
  throw argumentError(op, 'items', 'a list of at least one item', items);
}

/** The error of labels that do not go with their tokens. */
export function labelsError(op: string, item: number, labels: number, tokens: number): FoveaError {
  return new FoveaError('FOVEA_SHAPE', `${op}: items[${item}] has ${labels} labels for ${tokens} tokens`);
}
