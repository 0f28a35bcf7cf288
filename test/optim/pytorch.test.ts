// Twenty steps of every optimizer, from parameters and gradients of small whole numbers, against what PyTorch gave in
// float64, and for Lion and Sophia their papers' algorithms on its tensors (test/golden/optim); groups, and saved
// states.
import { type Dtype, nn, optim, type Tensor, tensor, tidy } from 'fovea';
import { describe, expect, it } from 'vitest';
import { readJson } from '../golden.js';
import { device, list } from '../helpers.js';

type AnyOptimizer = optim.Optimizer<{ lr: number }>;
type Options = Record<string, unknown>;
type Estimates = Record<number, number[][]>;
interface Golden {
  steps: number[];
  shapes: number[][];
  matrices: number[][];
  /** `estimates`: of the Hessian's diagonal, by the step that they come before. */
  runs: { name: string; options: Options; kept: number[][]; estimates?: Estimates }[];
  muonInBfloat16: number[][];
}
const golden = readJson('optim', 'trajectories.json') as Golden;
const [first, middle, last] = golden.steps as [number, number, number];

const make = (name: string, params: unknown, options: Options = {}): AnyOptimizer => {
  const Type = (optim as unknown as Record<string, new (params: unknown, options: Options) => AnyOptimizer>)[name]!;
  return new Type(params, options);
};
const sizeOf = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);
const filled = (shape: readonly number[], dtype: Dtype, of: (i: number) => number): Tensor =>
  tensor(
    Array.from({ length: sizeOf(shape) }, (_, i) => of(i)),
    { shape, dtype, device },
  );
const parameters = (name: string, dtype: Dtype): Tensor[] =>
  (name === 'Muon' ? golden.matrices : golden.shapes).map((shape, k) =>
    nn.parameter(filled(shape, dtype, (i) => ((i * 6271 + k * 331) % 100) / 50 - 1)),
  );

/** Steps from `from` to `to` on sum(p · noise(step)) + sum(p⁴) / 4. */
function train(
  optimizer: AnyOptimizer,
  params: readonly Tensor[],
  from: number,
  to: number,
  estimates: Estimates = {},
): void {
  for (let step = from; step <= to; step++)
    tidy(() => {
      optimizer.zeroGrad();
      for (const [k, p] of params.entries()) {
        const noise = filled(p.shape, p.dtype, (i) => ((i * 7919 + step * 104729 + k * 1299709) % 1000) / 500 - 1);
        p.mul(noise).sum().add(p.pow(4).sum().div(4)).backward();
      }
      const estimate = estimates[step];
      if (estimate && optimizer instanceof optim.Sophia)
        optimizer.updateHessian((of) =>
          of.map((p) => filled(p.shape, p.dtype, (i) => estimate[params.indexOf(p)]![i]!)),
        );
      optimizer.step();
    });
  optimizer.zeroGrad();
}
const valuesOf = (params: readonly Tensor[]): number[] => params.flatMap(list);
/** The largest difference, in units of the largest value. */
function distance(actual: number[], expected: number[]): number {
  expect(actual.length).toBe(expected.length);
  const largest = Math.max(...expected.map(Math.abs));
  return Math.max(...actual.map((v, i) => Math.abs(v - expected[i]!))) / largest;
}

describe.each(golden.runs)('$name $options', ({ name, options, kept, estimates }) => {
  it.each([
    ['float64', 1e-11],
    ['float32', 1e-5],
  ] as const)('goes the recorded way in %s', (dtype, allowed) => {
    const params = parameters(name, dtype);
    const optimizer = make(name, params, options);
    const spans = [
      [1, first],
      [first + 1, middle],
      [middle + 1, last],
    ] as const;
    for (const [i, [from, to]] of spans.entries()) {
      train(optimizer, params, from, to, estimates);
      expect(distance(valuesOf(params), kept[i]!), `after ${to} steps`).toBeLessThan(allowed);
    }
  });

  it('goes it with a group for each parameter', () => {
    const params = parameters(name, 'float64');
    const groups = params.map((p) => ({ params: [p], ...options }));
    train(make(name, groups), params, 1, first, estimates);
    expect(distance(valuesOf(params), kept[0]!)).toBeLessThan(1e-11);
  });

  it('goes on from a saved state with the same bits', () => {
    const params = parameters(name, 'float32');
    const optimizer = make(name, params, options);
    train(optimizer, params, 1, middle, estimates);
    const copies = params.map((p) => nn.parameter(p.detach().clone()));
    const resumed = make(name, copies);
    resumed.loadStateDict(optimizer.stateDict());
    train(optimizer, params, middle + 1, last, estimates);
    train(resumed, copies, middle + 1, last, estimates);
    expect(valuesOf(copies)).toEqual(valuesOf(params));
  });
});

it('Muon is as near to PyTorch, which iterates in bfloat16, as that rounds', () => {
  for (const [i, { options }] of golden.runs.filter(({ name }) => name === 'Muon').entries()) {
    const params = parameters('Muon', 'float64');
    train(make('Muon', params, options), params, 1, last);
    const away = distance(valuesOf(params), golden.muonInBfloat16[i]!);
    expect(away).toBeLessThan(0.05 * Number(options['lr'] ?? 1e-3) * last);
    expect(away).toBeGreaterThan(1e-6);
  }
});
