// clipGradNorm_ and clipGradValue_ against PyTorch's definition in plain numbers, for every kind of norm.
import { type Dtype, memory, nn, type Tensor, tensor } from 'fovea';
import { describe, expect, it } from 'vitest';
import { codeOf, device, list } from '../helpers.js';
import { random, roundTo } from '../ops/samples.js';

const { clipGradNorm_, clipGradValue_ } = nn.utils;

/** Parameters whose gradients are given. */
const withGradients = (gradients: number[][], dtype: Dtype = 'float64'): Tensor[] =>
  gradients.map((g) => {
    const p = nn.parameter(
      tensor(
        g.map(() => 0),
        { dtype, device },
      ),
    );
    p.grad = tensor(g, { dtype, device });
    return p;
  });
const gradientsOf = (params: Tensor[]): number[][] => params.map(({ grad }) => list(grad!));
const numbers = (n: number, seed: number): number[] => {
  const next = random(seed);
  return Array.from({ length: n }, () => roundTo('float32', 4 * next() - 2));
};
const vectorNorm = (x: number[], p: number): number => {
  if (p === 0) return x.filter((v) => v !== 0).length;
  if (Math.abs(p) === Infinity) return (p > 0 ? Math.max : Math.min)(...x.map(Math.abs));
  return x.reduce((sum, v) => sum + Math.abs(v) ** p, 0) ** (1 / p);
};

describe('clipGradNorm_', () => {
  const gradients = [numbers(1030, 1), numbers(7, 2), [0, 0], numbers(1, 3)];
  it.each([2, 1, 3, 0.5, 0, Infinity, -Infinity])('of order %d', (normType) => {
    const total = vectorNorm(
      gradients.map((g) => vectorNorm(g, normType)),
      normType,
    );
    for (const maxNorm of [0.75, 1e9, 0]) {
      const params = withGradients(gradients);
      const norm = clipGradNorm_(params, maxNorm, { normType });
      expect([norm.dtype, norm.shape]).toEqual(['float32', []]);
      expect(Math.abs(norm.itemSync() - total)).toBeLessThanOrEqual(1e-6 * total);
      const scale = Math.min(1, maxNorm / (total + 1e-6));
      gradientsOf(params).forEach((g, k) =>
        g.forEach((v, i) => expect(Math.abs(v - gradients[k]![i]! * scale)).toBeLessThanOrEqual(1e-5 * scale)),
      );
    }
  });
  it.each(['float32', 'float16', 'bfloat16'] as const)('rounds gradients of %s once', (dtype) => {
    const rounded = gradients.map((g) => g.map((v) => roundTo(dtype, v)));
    for (const normType of [2, Infinity, 1]) {
      const total = vectorNorm(
        rounded.map((g) => vectorNorm(g, normType)),
        normType,
      );
      const params = withGradients(rounded, dtype);
      clipGradNorm_(params, 0.5, { normType });
      const step = { float32: 2 ** -22, float16: 2 ** -10, bfloat16: 2 ** -7 }[dtype];
      gradientsOf(params).forEach((g, k) =>
        g.forEach((v, i) => {
          const want = (rounded[k]![i]! * 0.5) / (total + 1e-6);
          expect(Math.abs(v - want)).toBeLessThanOrEqual(step * Math.abs(want) + (dtype === 'float16' ? 2 ** -24 : 0));
        }),
      );
    }
  });
  it('takes one tensor, any iterable, and parameters without a gradient', () => {
    const [p] = withGradients([[3, 4]]) as [Tensor];
    expect(clipGradNorm_(p, 10).itemSync()).toBe(5);
    expect(clipGradNorm_(new Set([p, nn.parameter(tensor([1], { device }))]), 10).itemSync()).toBe(5);
    expect(clipGradNorm_([], 1, { normType: Infinity }).itemSync()).toBe(0);
    expect(clipGradNorm_([nn.parameter(tensor([1], { device }))], 1).itemSync()).toBe(0);
  });
  it('sees infinities and NaN, and leaves gradients alone where it throws', () => {
    for (const bad of [Infinity, Number.NaN])
      for (const normType of [2, 1, Infinity]) {
        const given = [[1, bad], [2]];
        const params = withGradients(given);
        const options = { normType, errorIfNonfinite: true };
        expect(codeOf(() => clipGradNorm_(params, 1, options))).toBe('FOVEA_NAN');
        expect(gradientsOf(params)).toEqual(given);
        expect(clipGradNorm_(params, 1, { normType }).itemSync()).toBe(bad);
        // As in PyTorch: times 1 / ∞, or times NaN.
        expect(gradientsOf(params)).toEqual([[bad === Infinity ? 0 : bad, Number.NaN], [bad === Infinity ? 0 : bad]]);
      }
  });
  it('leaves nothing behind but the norm', () => {
    const params = withGradients(gradients);
    const { tensors } = memory();
    for (const normType of [2, 3]) clipGradNorm_(params, 1, { normType }).dispose();
    clipGradValue_(params, 1);
    expect(memory().tensors).toBe(tensors);
  });
});

describe('clipGradValue_', () => {
  it.each(['float64', 'float32', 'float16', 'bfloat16'] as const)('cuts every element of %s', (dtype) => {
    const gradients = [numbers(1030, 1), numbers(7, 2), []].map((g) => g.map((v) => roundTo(dtype, v)));
    const params = withGradients(gradients, dtype);
    const before = params.map(({ grad }) => grad);
    expect(clipGradValue_(params, 0.5)).toBeUndefined();
    expect(gradientsOf(params)).toEqual(gradients.map((g) => g.map((v) => Math.max(-0.5, Math.min(0.5, v)))));
    expect(params.map(({ grad }) => grad)).toEqual(before);
  });
  it('keeps NaN, cuts infinities, and passes over what has no gradient', () => {
    const params = withGradients([[Number.NaN, Infinity, -Infinity, 0.1]]);
    clipGradValue_(new Set([...params, nn.parameter(tensor([1], { device }))]), 0.25);
    expect(gradientsOf(params)).toEqual([[Number.NaN, 0.25, -0.25, 0.1]]);
    clipGradValue_(params[0]!, 0);
    expect(gradientsOf(params)).toEqual([[Number.NaN, 0, 0, 0]]);
  });
});

it.each([
  ['clipGradNorm_', () => clipGradNorm_([], -1), /maxNorm/],
  ['clipGradNorm_', () => clipGradNorm_([], 1, { normType: Number.NaN }), /normType/],
  ['clipGradNorm_', () => clipGradNorm_([], 1, { normType: 'inf' as never }), /normType/],
  ['clipGradNorm_', () => clipGradNorm_([], 1, { norm_type: 2 } as never), /norm_type/],
  ['clipGradNorm_', () => clipGradNorm_(3 as never, 1), /parameters/],
  ['clipGradValue_', () => clipGradValue_([], Number.NaN), /clipValue/],
  ['clipGradValue_', () => clipGradValue_([], '1' as never), /clipValue/],
  ['clipGradValue_', () => clipGradValue_([3 as never], 1), /parameters\[0\]/],
])('%s refuses what it cannot use', (name, run, message) => {
  expect(run).toThrow(message);
  expect(run).toThrow(expect.objectContaining({ code: 'FOVEA_ARGUMENT' }));
  expect(run).toThrow(new RegExp(`^${name}: `));
});
