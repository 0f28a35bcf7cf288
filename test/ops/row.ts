// One row per exported op: how to call it, what it equals in float64, on which samples, and which calls it must refuse.
// The generic suites do the rest; an exported op without a row fails completeness.test.ts.
import type { Dtype, Tensor } from 'fovea';
import type { Nd } from './nd.js';
import type { Sample } from './samples.js';

export type Args = Record<string, unknown>;

/** How close to float64 a result must be. */
export type Tolerance =
  | { kind: 'exact'; zeros?: 'either' }
  /** Elementwise: units in the last place of float32; 16-bit results within one unit of the rounded float32. */
  | { kind: 'ulp'; ulp: number }
  /** Sums of k products: |error| <= 2 sqrt(k) eps (|A| |B|), the magnitude given by the row. */
  | { kind: 'sum'; k: (s: Sample) => number; magnitude: (x: Nd[], s: Sample) => Nd }
  /**
   * |error| <= eps (|expected| + a tenth of the largest) + floor, in multiples of the dtype's epsilon; `roundings`: how
   * often a 16-bit result is rounded on its way, where the op is composed of others (1 for a kernel).
   */
  | { kind: 'close'; eps: number; floor?: number; roundings?: number };

export interface ErrorCase {
  label: string;
  run: () => unknown;
  code: string;
  /** What the message must name: the op, the argument, sizes. */
  mentions: RegExp;
}

export interface Row {
  name: string;
  dtypes: readonly Dtype[];
  samples: readonly Sample[];
  run: (x: Tensor[], args: Args) => Tensor | readonly Tensor[];
  reference: (x: Nd[], args: Args, dtype: Dtype) => Nd | readonly Nd[];
  tolerance: Tolerance;
  errors: readonly ErrorCase[];
  /** Inputs that have a gradient, by position; none: the op is not differentiable. */
  differentiable?: readonly number[];
  /**
   * Results that are sums in another order than the reference's vary between instruction sets; elementwise ones may by
   * a few ULP.
   */
  randomness?: boolean;
}

export const ulp = (n: number): Tolerance => ({ kind: 'ulp', ulp: n });
export const exact: Tolerance = { kind: 'exact' };
/** Where PyTorch, too, leaves open which of -0 and 0 a comparison picks. */
export const exactButZero: Tolerance = { kind: 'exact', zeros: 'either' };
export const close = (eps: number, more: { floor?: number; roundings?: number } = {}): Tolerance => ({
  kind: 'close',
  eps,
  ...more,
});

/** The result of a row as a list. */
export const listOf = <T>(result: T | readonly T[]): readonly T[] => (Array.isArray(result) ? result : [result as T]);
