/** The masks there are: what `mask` offers. See mask.ts for what a mask is. */
import { FoveaError } from '../errors.js';
import { argumentError, countArg, integerArg, optionsArg } from '../tensor/check.js';
import { Code, isFloat } from '../tensor/dtype.js';
import { isTensor, slotOf, type Tensor } from '../tensor/tensor.js';
import { tensor, type TensorData } from './creation.js';
import { boolMask, Mask } from './mask.js';
import type { BlockTable, MaskAlign, MaskJson, MaskNode, MaskNumbers } from './mask-node.js';

/** Options of masks that depend on where queries stand. */
export interface MaskAlignOptions {
  /**
   * 'topLeft' (default): query i stands at key i. 'bottomRight': at key i + m - n, which decoding with a cache needs.
   */
  align?: MaskAlign;
}
/** Options of {@link fixed}. */
export interface FixedOptions extends MaskAlignOptions {
  /** How many positions at the end of each block every later query sees; default 1. */
  summary?: number;
}
/** Options of {@link randomBlocks}. */
export interface RandomBlocksOptions extends MaskAlignOptions {
  /** Positions of a block; default 64. */
  size?: number;
}
function alignOf(op: string, options: MaskAlignOptions | undefined, more: readonly string[] = []): MaskAlign {
  const { align = 'topLeft' } = optionsArg(op, options, ['align', ...more] as 'align'[]);
  if (align !== 'topLeft' && align !== 'bottomRight')
    throw argumentError(op, 'align', "'topLeft' or 'bottomRight'", align);
  return align;
}

/** Query i sees keys j <= i. @returns a mask @throws FOVEA_ARGUMENT for an unknown alignment */
export function causal(options?: MaskAlignOptions): Mask {
  return new Mask({ type: 'causal', align: alignOf('mask.causal', options) });
}

/**
 * Its own position, `left` keys before it and `right` after it (Longformer, Beltagy et al. 2020,
 * https://arxiv.org/abs/2004.05150).
 *
 * @param left from 0
 * @param right from 0; default `left`
 * @throws FOVEA_ARGUMENT for anything else
 */
export function slidingWindow(left: number, right: number = left, options?: MaskAlignOptions): Mask {
  const op = 'mask.slidingWindow';
  return new Mask({
    type: 'slidingWindow',
    left: countArg(op, 'left', left),
    right: countArg(op, 'right', right),
    align: alignOf(op, options),
  });
}

/**
 * Its own position and `width` keys on either side, `step` apart (Longformer's dilated window, section 3.1).
 *
 * @param step from 1
 * @param width from 0
 * @throws FOVEA_ARGUMENT for anything else
 */
export function dilated(step: number, width: number, options?: MaskAlignOptions): Mask {
  const op = 'mask.dilated';
  return new Mask({
    type: 'dilated',
    step: countArg(op, 'step', step, 1),
    width: countArg(op, 'width', width),
    align: alignOf(op, options),
  });
}

/**
 * The first `length` keys, for every query; `causal().or(prefix(length))` is a prefix language model's.
 *
 * @throws FOVEA_ARGUMENT for what is no whole number from 0
 */
export function prefix(length: number): Mask {
  return new Mask({ type: 'prefix', length: countArg('mask.prefix', 'length', length) });
}

/**
 * Blocks of `size` queries see the blocks of `size` keys that a table names.
 *
 * @param table [rows][columns] of booleans, or one such table for each query head
 * @param size of a block, from 1
 * @throws FOVEA_ARGUMENT for a table that is none or is ragged
 */
export function blocks(table: BlockTable, size: number, options?: MaskAlignOptions): Mask {
  const op = 'mask.blocks';
  const align = alignOf(op, options);
  const perHead = Array.isArray(table) && Array.isArray((table[0] as unknown[] | undefined)?.[0]);
  const tables = (perHead ? table : [table]) as unknown[][][];
  const [rows, columns] = [tables[0]?.length ?? 0, tables[0]?.[0]?.length ?? 0];
  const isTable = (t: unknown): boolean =>
    Array.isArray(t) &&
    t.length === rows &&
    t.every((row) => Array.isArray(row) && row.length === columns && row.every((x) => typeof x === 'boolean'));
  if (rows === 0 || columns === 0 || !tables.every(isTable))
    throw argumentError(op, 'table', 'rows of booleans, all of one length, or a list of such tables', table);
  const copied = tables.map((t) => t.map((row) => [...row])) as boolean[][][];
  return new Mask({
    type: 'blocks',
    table: perHead ? copied : copied[0]!,
    size: countArg(op, 'size', size, 1),
    align,
  });
}

/**
 * The last `stride` positions, and of all before each `stride`-th (Sparse Transformer, Child et al. 2019,
 * https://arxiv.org/abs/1904.10509, section 4.2). Causal.
 *
 * @param stride from 1
 * @throws FOVEA_ARGUMENT for anything else
 */
export function strided(stride: number, options?: MaskAlignOptions): Mask {
  const op = 'mask.strided';
  return new Mask({ type: 'strided', stride: countArg(op, 'stride', stride, 1), align: alignOf(op, options) });
}

/**
 * The block of `stride` positions that a query is in, and of each block before it the last `summary` positions (Sparse
 * Transformer, Child et al. 2019, section 4.2). Causal.
 *
 * @param stride from 1
 * @throws FOVEA_ARGUMENT for anything else, or a `summary` beyond `stride`
 */
export function fixed(stride: number, options?: FixedOptions): Mask {
  const op = 'mask.fixed';
  countArg(op, 'stride', stride, 1);
  const align = alignOf(op, options, ['summary']);
  const summary = countArg(op, 'summary', options?.summary ?? 1, 1);
  if (summary > stride) throw argumentError(op, 'summary', `at most ${stride}, the stride`, summary);
  return new Mask({ type: 'fixed', stride, summary, align });
}

/**
 * Keys that every query sees, and whose own queries see every key (Longformer, section 3.1).
 *
 * @param indices positions, from 0
 * @throws FOVEA_ARGUMENT for anything else
 */
export function globalTokens(indices: readonly number[], options?: MaskAlignOptions): Mask {
  const op = 'mask.globalTokens';
  const align = alignOf(op, options);
  if (!Array.isArray(indices)) throw argumentError(op, 'indices', 'a list of positions', indices);
  return new Mask({
    type: 'globalTokens',
    indices: Object.freeze(indices.map((index: unknown, i) => countArg(op, `indices[${i}]`, index))),
    align,
  });
}

/**
 * For each block of queries, `count` distinct blocks of keys, chosen among all there are by a hash of the seed
 * (BigBird, Zaheer et al. 2020, https://arxiv.org/abs/2007.14062): the same everywhere, and for all heads. Other blocks
 * are chosen where there are more keys, so that steps of decoding do not see what a pass over all of them sees.
 *
 * @param count from 0; all blocks where there are no more
 * @param seed an integer
 * @throws FOVEA_ARGUMENT for anything else
 */
export function randomBlocks(count: number, seed: number, options?: RandomBlocksOptions): Mask {
  const op = 'mask.randomBlocks';
  return new Mask({
    type: 'randomBlocks',
    count: countArg(op, 'count', count),
    seed: integerArg(op, 'seed', seed),
    size: countArg(op, 'size', options?.size ?? 64, 1),
    align: alignOf(op, options, ['size']),
  });
}

function numbersArg(op: string, argument: string, value: MaskNumbers, ranks: readonly number[]): MaskNumbers {
  if (isTensor(value)) {
    const { dtype, shape } = slotOf(value, op, argument);
    if (isFloat(dtype) || dtype === Code.bool)
      throw new FoveaError('FOVEA_DTYPE', `${op}: expected integers for ${argument}, received ${value.dtype}`);
    if (!ranks.includes(shape.length))
      throw argumentError(op, argument, `a tensor of rank ${ranks.join(' or ')}`, `shape [${shape.join(',')}]`);
    return value;
  }
  if (!Array.isArray(value)) throw argumentError(op, argument, 'a list of whole numbers or an integer Tensor', value);
  const list = (numbers: readonly unknown[], name: string): readonly number[] =>
    Object.freeze(numbers.map((x, i) => integerArg(op, `${name}[${i}]`, x)));
  if (!ranks.includes(2) || !Array.isArray(value[0])) return list(value, argument);
  const rows = (value as readonly unknown[]).map((row, i) => {
    if (!Array.isArray(row) || row.length !== (value[0] as readonly unknown[]).length)
      throw argumentError(op, `${argument}[${i}]`, `a list as long as ${argument}[0]`, row);
    return list(row, `${argument}[${i}]`);
  });
  return Object.freeze(rows);
}

/**
 * A query sees the keys with its own number: sequences packed one behind another do not see each other.
 *
 * @param ids of the keys [m] or [b, m], whole numbers or an integer tensor, and of the queries, which are the last n
 * @param keyIds [m] or [b, m], where queries and keys have different ones; `ids` is then [n] or [b, n]
 * @throws FOVEA_ARGUMENT for anything else, FOVEA_DTYPE for a tensor of floats
 */
export function documents(ids: MaskNumbers, keyIds?: MaskNumbers): Mask {
  const op = 'mask.documents';
  const queries = numbersArg(op, 'ids', ids, [1, 2]);
  if (keyIds === undefined) return new Mask({ type: 'documents', ids: queries });
  return new Mask({ type: 'documents', ids: queries, keyIds: numbersArg(op, 'keyIds', keyIds, [1, 2]) });
}

function idsOf(op: string, argument: string, offsets: readonly number[]): number[] {
  if (!Array.isArray(offsets) || offsets.length === 0 || offsets[0] !== 0)
    throw argumentError(op, argument, 'where sequences begin, from 0 on, and the end of the last', offsets);
  return offsets.slice(1).flatMap((end: unknown, sequence) => {
    const begin = offsets[sequence]!;
    return new Array<number>(countArg(op, `${argument}[${sequence + 1}]`, end, begin) - begin).fill(sequence);
  });
}

/**
 * Sequences of any length packed one behind another into one batch, as `documents` by where they begin: a query sees
 * the keys of its own sequence.
 *
 * @param offsets [sequences + 1] cumulative lengths, the first 0 and the last n (`cu_seqlens_q` of FlashAttention)
 * @param keyOffsets the same of the keys, where they differ: as many sequences
 * @throws FOVEA_ARGUMENT for anything else
 */
export function cuSeqlens(offsets: readonly number[], keyOffsets?: readonly number[]): Mask {
  const op = 'mask.cuSeqlens';
  const ids = idsOf(op, 'offsets', offsets);
  if (keyOffsets === undefined) return documents(ids);
  const keyIds = idsOf(op, 'keyOffsets', keyOffsets);
  if (keyOffsets.length !== offsets.length)
    throw argumentError(op, 'keyOffsets', `${offsets.length} offsets, as many as of the queries`, keyOffsets);
  return documents(ids, keyIds);
}

/**
 * The keys before the end of each sequence of a batch.
 *
 * @param lengths one for each batch, or one for all: whole numbers or an integer tensor [b]
 * @throws FOVEA_ARGUMENT for anything else, FOVEA_DTYPE for a tensor of floats
 */
export function padding(lengths: MaskNumbers): Mask {
  return new Mask({ type: 'padding', lengths: numbersArg('mask.padding', 'lengths', lengths, [1]) });
}

/**
 * A bool tensor as a mask.
 *
 * @param x bool, broadcasts to [b, h, n, m]: true where a key is seen
 * @throws FOVEA_DTYPE for any other dtype, FOVEA_ARGUMENT for what is no tensor
 */
export function tensorMask(x: Tensor): Mask {
  if (!isTensor(x)) throw argumentError('mask.tensorMask', 'x', 'a bool Tensor', x);
  return boolMask('mask.tensorMask', 'x', x);
}

/** A node in JSON: the contents of a tensor are nested arrays. */
type Written<T extends MaskNode['type']> = T extends 'tensorMask' ? { mask: TensorData } : MaskNode & { type: T };
/** Reads a node as `toJSON` writes it: the functions above check what it holds. */
const readers: { readonly [T in MaskNode['type']]: (node: Written<T>) => Mask } = {
  causal: ({ align }) => causal({ align }),
  slidingWindow: ({ left, right, align }) => slidingWindow(left, right, { align }),
  dilated: ({ step, width, align }) => dilated(step, width, { align }),
  prefix: ({ length }) => prefix(length),
  blocks: ({ table, size, align }) => blocks(table, size, { align }),
  strided: ({ stride, align }) => strided(stride, { align }),
  fixed: ({ stride, summary, align }) => fixed(stride, { summary, align }),
  globalTokens: ({ indices, align }) => globalTokens(indices, { align }),
  randomBlocks: ({ count, seed, size, align }) => randomBlocks(count, seed, { size, align }),
  documents: ({ ids, keyIds }) => documents(ids, keyIds),
  padding: ({ lengths }) => padding(lengths),
  tensorMask: ({ mask }) => tensorMask(tensor(mask, { dtype: 'bool' })),
  and: (node) => termsOf(node).reduce((a, b) => a.and(b)),
  or: (node) => termsOf(node).reduce((a, b) => a.or(b)),
  not: ({ term }) => fromJson(term).not(),
};
function termsOf({ type, terms }: MaskNode & { type: 'and' | 'or' }): Mask[] {
  if (!Array.isArray(terms) || terms.length === 0)
    throw argumentError('mask.fromJson', `terms of '${type}'`, 'a list of masks', terms);
  return terms.map((term) => fromJson(term as MaskJson));
}

/**
 * The mask that `toJSON` wrote. Tensors come back on the CPU.
 *
 * @throws FOVEA_ARGUMENT for what is no such value
 */
export function fromJson(json: MaskJson | MaskNode): Mask {
  const type: unknown = (json as MaskJson | null)?.type;
  if (typeof type !== 'string' || !Object.hasOwn(readers, type))
    throw argumentError(
      'mask.fromJson',
      'json',
      `an object whose type is one of ${Object.keys(readers).join(', ')}`,
      json,
    );
  const read = readers[type as MaskNode['type']] as (node: unknown) => Mask;
  return read(json);
}
