// Is a result as close to float64 as its tolerance asks?
import type { Dtype } from 'fovea';
import type { Nd } from './nd.js';
import type { Tolerance } from './row.js';
import { isFloat, roundTo, type Sample } from './samples.js';

export const EPSILON: Record<string, number> = {
  float32: 2 ** -23,
  float64: 2 ** -52,
  float16: 2 ** -10,
  bfloat16: 2 ** -7,
};
const SMALLEST: Record<string, number> = {
  float32: 2 ** -149,
  float64: 2 ** -1074,
  float16: 2 ** -24,
  bfloat16: 2 ** -133,
};
const LARGEST: Record<string, number> = {
  float32: (2 - 2 ** -23) * 2 ** 127,
  float64: Number.MAX_VALUE,
  float16: 65504,
  bfloat16: (2 - 2 ** -7) * 2 ** 127,
};

/** The distance between neighbours of `dtype` around x. */
export function ulpOf(dtype: Dtype, x: number): number {
  const a = Math.abs(x);
  if (a === 0) return SMALLEST[dtype]!;
  return Math.max(2 ** Math.floor(Math.log2(a)) * EPSILON[dtype]!, SMALLEST[dtype]!);
}

/** The largest allowed error of each element. */
function allowance(
  tolerance: Tolerance,
  dtype: Dtype,
  expected: Nd,
  inputs: Nd[],
  sample: Sample,
): (i: number) => number {
  const eps = EPSILON[dtype] ?? 0;
  const half = dtype === 'float16' || dtype === 'bfloat16';
  const scale = expected.data.reduce((m, v) => (Number.isFinite(v) ? Math.max(m, Math.abs(v)) : m), 0);
  switch (tolerance.kind) {
    case 'exact':
      return () => 0;
    case 'ulp': {
      // float64 kernels go through libm, and so does the reference: several units together.
      const n = dtype === 'float64' ? Math.max(16, tolerance.ulp) : half ? 1 : tolerance.ulp;
      return (i) =>
        n * ulpOf(dtype, expected.data[i]!) + (half ? tolerance.ulp * ulpOf('float32', expected.data[i]!) : 0);
    }
    case 'sum': {
      const magnitude = tolerance.magnitude(inputs, sample);
      const k = Math.max(1, tolerance.k(sample));
      // 16-bit results are accumulated in float32 and rounded once.
      const unit = half ? EPSILON['float32']! : eps;
      return (i) =>
        2 * Math.sqrt(k) * unit * magnitude.data[i]! + (half ? ulpOf(dtype, expected.data[i]!) : 0) + SMALLEST[dtype]!;
    }
    case 'close':
      // Relative to each value, and to the largest one where terms cancel. One rounding to 16 bits is allowed for.
      return (i) => {
        const unit = half ? EPSILON['float32']! : eps;
        const rounding = half
          ? (tolerance.roundings ?? 1) *
            ulpOf(
              dtype,
              (tolerance.roundings ?? 1) > 1 ? Math.max(scale / 4, Math.abs(expected.data[i]!)) : expected.data[i]!,
            )
          : 0;
        return (
          tolerance.eps * unit * (Math.abs(expected.data[i]!) + 0.1 * scale) +
          (tolerance.floor ?? 0) * unit +
          rounding +
          SMALLEST[dtype]!
        );
      };
  }
}

/** A description of the worst element that is off, or nothing. */
export function difference(
  actual: Nd,
  expected: Nd,
  dtype: Dtype,
  tolerance: Tolerance,
  inputs: Nd[],
  sample: Sample,
): string | undefined {
  if (actual.shape.join() !== expected.shape.join()) return `shape [${actual.shape}] instead of [${expected.shape}]`;
  const float = isFloat(dtype);
  const allowed = float ? allowance(tolerance, dtype, expected, inputs, sample) : () => 0;
  for (let i = 0; i < expected.size; i++) {
    const want = float ? expected.data[i]! : roundTo(dtype, expected.data[i]!);
    const got = actual.data[i]!;
    if (Number.isNaN(want) && Number.isNaN(got)) continue;
    if (want === got) {
      if (
        float &&
        want === 0 &&
        tolerance.kind === 'exact' &&
        tolerance.zeros === undefined &&
        Object.is(want, -0) !== Object.is(got, -0)
      )
        return `element ${i}: sign of zero differs`;
      continue;
    }
    const overflowed =
      float &&
      Math.abs(want) > LARGEST[dtype]! &&
      Math.abs(got) === Number.POSITIVE_INFINITY &&
      Math.sign(want) === Math.sign(got);
    if (overflowed) continue;
    const error = Math.abs(got - want);
    // Just below the largest number, rounding may go either way to infinity.
    if (!Number.isFinite(got) && Number.isFinite(want) && Math.abs(want) > LARGEST[dtype]! * (1 - 4 * EPSILON[dtype]!))
      continue;
    // Of an infinity, any share is one, too: a number in its place is never near.
    if (!(error <= allowed(i) && error < Number.POSITIVE_INFINITY))
      return `element ${i}: ${got} instead of ${want} (error ${error.toExponential(2)}, allowed ${allowed(i).toExponential(2)})`;
  }
  return undefined;
}
