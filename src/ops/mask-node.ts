/**
 * What masks are made of: plain values, as they are kept, printed and written to JSON. Positions count from 0; query i
 * stands at key position i, or at i + m - n where it is aligned at the bottom right.
 */
import { isTensor, type Tensor } from '../tensor/tensor.js';

/** Whether the first query meets the first key ('topLeft'), or the last the last, as decoding with a cache needs. */
export type MaskAlign = 'topLeft' | 'bottomRight';
/** Whole numbers, one or one list for each batch: of the host, or an integer tensor. */
export type MaskNumbers = readonly number[] | readonly (readonly number[])[] | Tensor;
/** Which blocks of keys a block of queries sees: [rows][columns], or one such table for each head. */
export type BlockTable = readonly (readonly boolean[])[] | readonly (readonly (readonly boolean[])[])[];

/** One mask, or some joined. */
export type MaskNode =
  | { readonly type: 'causal'; readonly align: MaskAlign }
  | { readonly type: 'slidingWindow'; readonly left: number; readonly right: number; readonly align: MaskAlign }
  | { readonly type: 'dilated'; readonly step: number; readonly width: number; readonly align: MaskAlign }
  | { readonly type: 'prefix'; readonly length: number }
  | { readonly type: 'blocks'; readonly table: BlockTable; readonly size: number; readonly align: MaskAlign }
  | { readonly type: 'strided'; readonly stride: number; readonly align: MaskAlign }
  | { readonly type: 'fixed'; readonly stride: number; readonly summary: number; readonly align: MaskAlign }
  | { readonly type: 'globalTokens'; readonly indices: readonly number[]; readonly align: MaskAlign }
  | {
      readonly type: 'randomBlocks';
      readonly count: number;
      readonly seed: number;
      readonly size: number;
      readonly align: MaskAlign;
    }
  | { readonly type: 'documents'; readonly ids: MaskNumbers; readonly keyIds?: MaskNumbers }
  | { readonly type: 'padding'; readonly lengths: MaskNumbers }
  | { readonly type: 'tensorMask'; readonly mask: Tensor }
  | { readonly type: 'and' | 'or'; readonly terms: readonly MaskNode[] }
  | { readonly type: 'not'; readonly term: MaskNode };

/** A mask as `JSON.stringify` writes it: the same values, with the contents of tensors as nested arrays. */
export type MaskJson = { readonly type: MaskNode['type']; readonly [name: string]: unknown };

const plain = (value: unknown): unknown => {
  if (isTensor(value)) return plain(value.toArraySync());
  if (typeof value === 'bigint') return Number(value);
  return Array.isArray(value) ? value.map(plain) : value;
};

/** @returns the node with the contents of its tensors, which it waits for */
export function jsonOf(node: MaskNode): MaskJson {
  if (node.type === 'and' || node.type === 'or') return { type: node.type, terms: node.terms.map(jsonOf) };
  if (node.type === 'not') return { type: 'not', term: jsonOf(node.term) };
  return Object.fromEntries(Object.entries(node).map(([name, value]) => [name, plain(value)])) as MaskJson;
}

const mostShown = 8;

function shown(value: unknown): string {
  if (isTensor(value)) return String(value);
  if (!Array.isArray(value)) return String(value);
  const more = value.length > mostShown ? `, … ${value.length} in all` : '';
  return `[${value.slice(0, mostShown).map(shown).join(', ')}${more}]`;
}

/** Arguments in the order of their functions; the rest are options, left out at their defaults. */
const defaults: Readonly<Record<string, unknown>> = { align: 'topLeft', summary: 1 };

/** @returns the calls that make the node, long lists cut short */
export function textOf(node: MaskNode): string {
  if (node.type === 'not') return `${textOf(node.term)}.not()`;
  if (node.type === 'and' || node.type === 'or')
    return node.terms.map(textOf).reduce((text, term) => `${text}.${node.type}(${term})`);
  const { type, ...values } = node;
  const given = Object.entries(values).filter(([name, value]) => value !== undefined && value !== defaults[name]);
  const named = given.filter(([name]) => name in defaults || (type === 'randomBlocks' && name === 'size'));
  const args = given.filter((entry) => !named.includes(entry)).map(([, value]) => shown(value));
  if (named.length)
    args.push(
      `{ ${named.map(([name, value]) => `${name}: ${typeof value === 'string' ? `'${value}'` : shown(value)}`).join(', ')} }`,
    );
  return `${type}(${args.join(', ')})`;
}
