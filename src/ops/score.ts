/**
 * Scoring functions of attention: values that say how well a key answers a query. Projections are made once, not for
 * each pair, and the sums over the width are made inside of the kernel, so that memory stays linear in the lengths.
 *
 *   score.general(weight)      score.concat(weight, vector)      score.additive(queryWeight, keyWeight, vector)
 */
import { argumentError } from '../tensor/check.js';
import type { Tensor } from '../tensor/tensor.js';

/** What the kernel makes scores of. */
export interface ScoredOperands {
  /** [b, h, n, d] */
  q: Tensor;
  /** [b, g, m, d] */
  k: Tensor;
  /** [h or 1, d]: scores are sums of vector_c tanh(q_c + k_c); without it, products. */
  vector?: Tensor | undefined;
  /** The factor of scores where none is asked for. */
  scale: number;
}

/** A scoring function. Made by the functions of `score`. */
export class Score {
  /** @internal */
  readonly prepare: (op: string, q: Tensor, k: Tensor) => ScoredOperands;
  readonly #text: string;

  /** @internal */
  constructor(text: string, prepare: (op: string, q: Tensor, k: Tensor) => ScoredOperands) {
    this.#text = text;
    this.prepare = prepare;
    Object.freeze(this);
  }
  /** @returns the call that makes it */
  toString(): string {
    return this.#text;
  }
}

/** The factor of scaled products. @returns 1 / sqrt(d) */
export const defaultScale = (q: Tensor): number => 1 / Math.sqrt(q.shape.at(-1)! || 1);

/** A scoring function. @returns it @throws FOVEA_ARGUMENT for anything else */
export function scoreArg(op: string, value: unknown): Score {
  if (value instanceof Score) return value;
  throw argumentError(op, 'score', 'a value of score.dot, scaledDot, general, concat or additive', value);
}
