// Losses of pairs of elements.
import { functional as F, tensor, zeros } from 'fovea';
import { tensorErrors } from '../errors.js';
import { Nd, zip } from '../nd.js';
import type { Args, ErrorCase, Row, Tolerance } from '../row.js';
import { FLOATS, type InputSpec, type Layout, type Sample } from '../samples.js';
import { optionErrors, reduceTo, refuses } from './losses.js';

const INT64 = { dtype: 'int64' } as const;

const shapes: number[][] = [
  [],
  [1],
  [5],
  [3, 4],
  [2, 3, 4],
  [131],
  [17],
  [33, 2],
  [1, 1],
  [70_001],
  [6, 7],
  [15],
  [0, 3],
];
const layouts: Layout[] = ['transposed', 'offset', 'step', 'expanded', 'misaligned'];

interface PairLoss {
  name:
    | 'mseLoss'
    | 'l1Loss'
    | 'smoothL1Loss'
    | 'huberLoss'
    | 'binaryCrossEntropyWithLogits'
    | 'sigmoidFocalLoss'
    | 'klDiv';
  f: (x: number, y: number, args: Args) => number;
  /** The sum of what `f` adds and subtracts, without signs; default: of its one term, `f` itself. */
  magnitude?: (x: number, y: number, args: Args) => number;
  /** See `asPairSums`. */
  terms?: number;
  first?: InputSpec['values'];
  second: InputSpec['values'];
  differentiable: number[];
  variants?: Args[];
  errors?: ErrorCase[];
}
const pairSamples = ({ first = 'normal', second, variants = [{}] }: PairLoss): Sample[] =>
  variants.flatMap((variant, v) => [
    ...shapes.flatMap((shape, i) =>
      (['mean', 'sum', 'none'] as const).map((reduction) => ({
        label: `[${shape}] ${reduction} ${JSON.stringify(variant)}`,
        inputs: [
          { shape, values: first! },
          { shape, values: second! },
        ],
        args: { reduction, ...variant },
        gradcheck: i < (v === 0 ? 5 : 4),
      })),
    ),
    ...layouts.map((layout) => ({
      label: `${layout} ${JSON.stringify(variant)}`,
      inputs: [
        { shape: [5, 9], values: first!, layout },
        { shape: [5, 9], values: second! },
      ],
      args: { reduction: 'none', ...variant },
    })),
  ]);

/** An element is 2 sqrt(terms) units off at most, 4 if nothing is said, as elementwise ops are; elements are added. */
const asPairSums = (magnitude: (x: Nd[], args: Args) => Nd, terms = 4): Tolerance => ({
  kind: 'sum',
  k: ({ inputs: [x], args }) =>
    args!['reduction'] === 'none' ? terms : terms + x!.shape.reduce((n, size) => n * size, 1),
  magnitude: (x, { args }) => magnitude(x, args!),
});

/** Losses of pairs round once: of 16-bit floats they are computed in float32. */
const pairLoss = (loss: PairLoss): Row => ({
  name: loss.name,
  dtypes: FLOATS,
  samples: pairSamples(loss),
  run: ([x, y], args) => F[loss.name](x!, y!, args),
  reference: ([x, y], args) =>
    reduceTo(
      zip((a, b) => loss.f(a, b, args), x!, y!),
      args['reduction'],
    ),
  tolerance: asPairSums(
    ([x, y], args) =>
      reduceTo(
        zip((a, b) => (loss.magnitude ?? loss.f)(a, b, args), x!, y!),
        args['reduction'],
      ),
    loss.terms,
  ),
  differentiable: loss.differentiable,
  errors: [
    ...tensorErrors(loss.name, F[loss.name], tensor([1])),
    ...optionErrors(loss.name, (options) => F[loss.name](zeros([2]), zeros([2]), options)),
    refuses('shapes differ', () => F[loss.name](zeros([2, 3]), zeros([2, 4])), /3.*4/s, 'FOVEA_SHAPE'),
    refuses(
      'integers',
      () => F[loss.name](zeros([2], INT64), zeros([2], INT64)),
      new RegExp(`${loss.name}.*floats.*int64`),
      'FOVEA_DTYPE',
    ),
    ...(loss.errors ?? []),
  ],
});
const softplus = (x: number): number => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
const binary = (x: number, t: number): number => softplus(x) - t * x;
const binaryTerms = (x: number, t: number): number => softplus(x) + Math.abs(t * x);
const huber = (x: number, y: number, delta: number): number => {
  const d = Math.abs(x - y);
  return d < delta ? (d * d) / 2 : delta * (d - delta / 2);
};
const focalOf =
  (loss: typeof binary) =>
  (x: number, t: number, { alpha = 0.25, gamma = 2 }: Args): number => {
    const p = 1 / (1 + Math.exp(-x));
    const a = alpha as number;
    const miss = t / (1 + Math.exp(x)) + (1 - t) * p;
    return (a < 0 ? 1 : a * t + (1 - a) * (1 - t)) * miss ** (gamma as number) * loss(x, t);
  };
const outOf = (name: PairLoss['name'], option: string, ...values: unknown[]): ErrorCase[] =>
  values.map((value) =>
    refuses(
      `${option} ${String(value)}`,
      () => (F[name] as (...args: unknown[]) => unknown)(zeros([2]), zeros([2]), { [option]: value }),
      new RegExp(`${name}.*${option}`),
    ),
  );

const binaryCrossEntropy: Row = (() => {
  const name = 'binaryCrossEntropyWithLogits';
  const row = pairLoss({ name, f: binary, magnitude: binaryTerms, second: 'unit', differentiable: [0, 1] });
  const factors = (weight: number[] | null, posWeight: number[] | null, reduction: string): Sample => ({
    label: `weight ${weight} posWeight ${posWeight} ${reduction}`,
    inputs: [
      { shape: [3, 4] },
      { shape: [3, 4], values: 'unit' },
      ...[weight, posWeight].flatMap((shape) => (shape ? [{ shape, values: 'positive' as const }] : [])),
    ],
    args: { reduction, names: [...(weight ? ['weight'] : []), ...(posWeight ? ['posWeight'] : [])] },
    gradcheck: true,
  });
  /** `sign` Math.abs: without signs. softplus(-x) may be computed as softplus(x) - x. */
  const weighted = ([x, t, ...more]: Nd[], { reduction, names = [] }: Args, sign = (v: number): number => v): Nd => {
    const factor = (option: string): Nd => more[(names as string[]).indexOf(option)] ?? new Nd([], [1]);
    const plus = (v: number): number => (sign === Math.abs ? softplus(Math.abs(v)) + Math.abs(v) : softplus(v));
    const f = (a: number, b: number, w: number, v: number): number =>
      sign(w) * (sign(v * b) * plus(-a) + sign(1 - b) * plus(a));
    return reduceTo(
      zip(f as (...values: number[]) => number, x!, t!, factor('weight'), factor('posWeight')),
      reduction,
    );
  };
  const broadcast = (option: string, shape: number[]): ErrorCase =>
    refuses(
      `${option} [${shape}]`,
      () => F[name](zeros([2, 3]), zeros([2, 3]), { [option]: zeros(shape) }),
      new RegExp(`${name}.*${option} \\[${shape}\\].*\\[2,3\\]`),
      'FOVEA_SHAPE',
    );
  return {
    ...row,
    samples: [
      ...row.samples,
      factors([4], null, 'mean'),
      factors(null, [4], 'sum'),
      factors([3, 1], [4], 'none'),
      factors([], [3, 4], 'mean'),
    ],
    run: ([x, t, ...more], { reduction, names = [] }) =>
      F[name](x!, t!, {
        reduction: reduction as 'mean',
        ...Object.fromEntries((names as string[]).map((option, i) => [option, more[i]])),
      }),
    reference: (x, args) => weighted(x, args),
    tolerance: asPairSums((x, args) => weighted(x, args, Math.abs)),
    differentiable: [0, 1, 2, 3],
    errors: [...row.errors, broadcast('weight', [2]), broadcast('posWeight', [5, 2, 3])],
  };
})();

export const pairLossRows: Row[] = [
  pairLoss({ name: 'mseLoss', f: (x, y) => (x - y) ** 2, second: 'normal', differentiable: [0, 1] }),
  pairLoss({
    name: 'l1Loss',
    f: (x, y) => Math.abs(x - y),
    first: 'distinct',
    second: 'normal',
    differentiable: [0, 1],
  }),
  pairLoss({
    name: 'smoothL1Loss',
    f: (x, y, { beta = 1 }) => (beta === 0 ? Math.abs(x - y) : huber(x, y, beta as number) / (beta as number)),
    second: 'normal',
    differentiable: [0, 1],
    variants: [{}, { beta: 0.3 }, { beta: 0 }],
    errors: outOf('smoothL1Loss', 'beta', -1, Number.NaN, '1'),
  }),
  pairLoss({
    name: 'huberLoss',
    f: (x, y, { delta = 1 }) => huber(x, y, delta as number),
    second: 'normal',
    differentiable: [0, 1],
    variants: [{}, { delta: 0.3 }],
    errors: outOf('huberLoss', 'delta', 0, -1, Number.NaN, '1'),
  }),
  binaryCrossEntropy,
  pairLoss({
    name: 'sigmoidFocalLoss',
    f: focalOf(binary),
    magnitude: focalOf(binaryTerms),
    // a power multiplies what its base is off, and three factors are off, too
    terms: 16,
    second: (i) => i % 2,
    differentiable: [0, 1],
    variants: [{}, { alpha: -1, gamma: 1.5 }, { alpha: 0.7, gamma: 0 }],
    errors: [
      ...outOf('sigmoidFocalLoss', 'alpha', -0.5, 1.5, Number.NaN),
      ...outOf('sigmoidFocalLoss', 'gamma', -1, '2'),
    ],
  }),
  pairLoss({
    name: 'klDiv',
    f: (x, y, { logTarget = false }) => (logTarget ? Math.exp(y) * (y - x) : y > 0 ? y * (Math.log(y) - x) : 0),
    magnitude: (x, y, { logTarget = false }) =>
      logTarget ? Math.exp(y) * (Math.abs(y) + Math.abs(x)) : y > 0 ? y * (Math.abs(Math.log(y)) + Math.abs(x)) : 0,
    second: 'positive',
    differentiable: [0, 1],
    variants: [{}, { logTarget: true }],
  }),
];
