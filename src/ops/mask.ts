/**
 * Masks of attention: values of a small algebra that say which keys a query sees. The kernel asks a mask about whole
 * blocks of scores, and neither loads nor computes those of which nothing is seen, so that windows, BigBird's and
 * Longformer's patterns are masks and cost what they show.
 *
 *   mask.causal().and(mask.slidingWindow(256, 0).or(mask.globalTokens([0])))
 *
 * Masks are immutable, print as the calls that make them, and go through JSON.
 */
import { inspect } from 'node:util';
import { FoveaError } from '../errors.js';
import { argumentError, countArg, optionsArg } from '../tensor/check.js';
import { deviceArg, type Device } from '../tensor/device.js';
import { Code } from '../tensor/dtype.js';
import { isTensor, slotOf, type Tensor } from '../tensor/tensor.js';
import { expand } from './broadcast.js';
import { contiguous } from './cast.js';
import { visibleOf } from './mask-lowering.js';
import { jsonOf, type MaskJson, type MaskNode, textOf } from './mask-node.js';
import { drawMask, type MaskSvgOptions } from './mask-svg.js';

/** Options of {@link Mask.toTensor}. */
export interface MaskTensorOptions {
  /** Default 1. */
  batch?: number;
  /** Default 1. */
  heads?: number;
  /** Default 'cpu'. */
  device?: Device;
}

/** Which keys each query sees. Made by the functions of `mask`. */
export class Mask {
  /**
   * What it is made of.
   *
   * @internal
   */
  readonly node: MaskNode;

  /** @internal */
  constructor(node: MaskNode) {
    this.node = Object.freeze(node);
    Object.freeze(this);
  }

  /**
   * What both show.
   *
   * @param other a mask, or a bool tensor that broadcasts to [b, h, n, m]
   * @returns a new mask
   * @throws FOVEA_ARGUMENT for what is neither, FOVEA_DTYPE for a tensor that is not bool
   */
  and(other: Mask | Tensor): Mask {
    return this.#joined('and', other);
  }
  /**
   * What either shows.
   *
   * @param other a mask, or a bool tensor that broadcasts to [b, h, n, m]
   * @returns a new mask
   * @throws FOVEA_ARGUMENT for what is neither, FOVEA_DTYPE for a tensor that is not bool
   */
  or(other: Mask | Tensor): Mask {
    return this.#joined('or', other);
  }
  /** What this hides. @returns a new mask */
  not(): Mask {
    return new Mask(this.node.type === 'not' ? this.node.term : { type: 'not', term: this.node });
  }

  #joined(type: 'and' | 'or', other: Mask | Tensor): Mask {
    const terms = [this, maskArg(`mask.${type}`, 'other', other)].flatMap(({ node }) =>
      node.type === type ? node.terms : [node],
    );
    return new Mask({ type, terms: Object.freeze(terms) });
  }

  /**
   * The mask of all scores, which attention itself never makes.
   *
   * @param queries n
   * @param keys m; default n
   * @returns bool [batch, heads, n, m], true where a key is seen
   * @throws FOVEA_SHAPE if what the mask holds does not fit
   */
  toTensor(queries: number, keys: number = queries, options?: MaskTensorOptions): Tensor {
    const given = optionsArg('mask.toTensor', options, ['batch', 'heads', 'device']);
    const sizes = {
      b: countArg('mask.toTensor', 'batch', given.batch ?? 1),
      h: countArg('mask.toTensor', 'heads', given.heads ?? 1),
      n: countArg('mask.toTensor', 'queries', queries),
      m: countArg('mask.toTensor', 'keys', keys),
    };
    const seen = visibleOf('mask.toTensor', this.node, sizes, deviceArg('mask.toTensor', given.device));
    return contiguous(expand(seen, [sizes.b, sizes.h, sizes.n, sizes.m]));
  }
  /**
   * A drawing: a row for each query, a column for each key, filled where the key is seen. Above `cells` rows or columns
   * several share a cell, as dark as their share of what is seen. Waits for the values.
   *
   * @returns one `<svg>` element
   * @throws as `toTensor`
   */
  toSvg(options?: MaskSvgOptions): string {
    return drawMask(this.node, String(this), options);
  }
  /** @returns a plain value for `fromJson`; waits for the contents of tensors */
  toJSON(): MaskJson {
    return jsonOf(this.node);
  }
  /** @returns the calls that make the mask, long lists cut short */
  toString(): string {
    return textOf(this.node);
  }
}
// what console.log shows
Object.defineProperty(Mask.prototype, inspect.custom, {
  value(this: Mask): string {
    return `Mask ${String(this)}`;
  },
});

/**
 * A mask, or a bool tensor as one.
 *
 * @throws FOVEA_ARGUMENT for what is neither, FOVEA_DTYPE for a tensor that is not bool
 */
export function maskArg(op: string, argument: string, value: Mask | Tensor): Mask {
  if (value instanceof Mask) return value;
  if (isTensor(value)) return boolMask(op, argument, value);
  throw argumentError(op, argument, 'a mask or a bool Tensor', value, 'masks are made by mask.causal() and the like');
}
/** A checked bool tensor as a mask. @returns it @throws FOVEA_DTYPE for any other dtype */
export function boolMask(op: string, argument: string, x: Tensor): Mask {
  if (slotOf(x, op, argument).dtype !== Code.bool)
    throw new FoveaError(
      'FOVEA_DTYPE',
      `${op}: expected a bool tensor for ${argument}, received ${x.dtype}; pass additive terms as bias`,
    );
  return new Mask({ type: 'tensorMask', mask: x });
}
