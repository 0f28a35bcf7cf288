// Losses of classes and of pairs of elements.
import { functional as F, type Tensor, tensor, zeros } from 'fovea';
import { tensorErrors } from '../errors.js';
import { alongAxis, Nd, total, zip } from '../nd.js';
import { type Args, close, type ErrorCase, type Row } from '../row.js';
import { FLOATS, type InputSpec, type Layout, type Sample } from '../samples.js';

const INT64 = { dtype: 'int64' } as const;

export const refuses = (label: string, run: () => unknown, mentions: RegExp, code = 'FOVEA_ARGUMENT'): ErrorCase => ({
  label,
  run,
  code,
  mentions,
});
/** The losses as one number, or all of them. */
export function reduceTo(loss: Nd, reduction: unknown, count = loss.size): Nd {
  if (reduction === 'none') return loss;
  return new Nd([], [reduction === 'sum' ? total(loss.data) : total(loss.data) / count]);
}
/** A reduction and an option that no loss knows. */
export const optionErrors = (name: string, call: (options: never) => unknown): ErrorCase[] => [
  refuses('an unknown reduction', () => call({ reduction: 'max' } as never), new RegExp(`${name}.*reduction`)),
  refuses('a misspelt option', () => call({ reduce: true } as never), new RegExp(`${name}.*reduce`)),
];

const logSoftmaxRow = (row: Float64Array): Float64Array => {
  const top = row.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  const lse = top + Math.log(row.reduce((a, b) => a + Math.exp(b - top), 0));
  return row.map((v) => v - lse);
};

export const targets =
  (classes: number, ignored?: number): InputSpec['values'] =>
  (i) =>
    ignored !== undefined && i % 4 === 1 ? ignored : (i * 7) % classes;

/** Losses of classes from log-probabilities [n, c], targets [n] and weights [c]: PyTorch's formulas. */
function classLoss(logp: Nd, target: Nd, weight: Nd | undefined, args: Args): Nd {
  const { labelSmoothing = 0, reduction = 'mean', ignoreIndex = -100 } = args;
  const [, c] = logp.shape as [number, number];
  const s = labelSmoothing as number;
  const w = (j: number): number => weight?.at([j]) ?? 1;
  let counted = 0;
  const losses = target.data.map((t, i) => {
    if (t === ignoreIndex) return 0;
    counted += w(t);
    let uniform = 0;
    for (let j = 0; j < c; j++) uniform -= (w(j) * logp.at([i, j])) / c;
    return -(1 - s) * w(t) * logp.at([i, t]) + s * uniform;
  });
  return reduceTo(new Nd([losses.length], losses), reduction, counted);
}
function softClassLoss(logp: Nd, target: Nd, weight: Nd | undefined, args: Args): Nd {
  const { labelSmoothing = 0, reduction = 'mean' } = args;
  const s = labelSmoothing as number;
  const [n, c] = logp.shape as [number, number];
  const terms = zip((l, t, w) => -w * l * ((1 - s) * t + s / c), logp, target, weight ?? new Nd([], [1]));
  return reduceTo(new Nd([n], alongAxis(terms, 1, total).data), reduction);
}

const classSamples = (shapes: number[][], arguments_: Args[]): Sample[] =>
  shapes.flatMap(([n, c], i) =>
    arguments_.map(({ weighted, ...args }) => ({
      label: `[${n},${c}] ${JSON.stringify(args)} ${weighted ? 'weighted' : ''}`,
      inputs: [
        { shape: [n!, c!] },
        { shape: [n!], ...INT64, values: targets(c!, args['ignoreIndex'] as number | undefined)! },
        ...(weighted ? [{ shape: [c!], values: 'positive' as const }] : []),
      ],
      args,
      gradcheck: i < 2,
    })),
  );
const softSample = (n: number, c: number, args: Args, weighted = false, layout: Layout = 'dense'): Sample => ({
  label: `[${n},${c}] probabilities ${JSON.stringify(args)} ${weighted} ${layout}`,
  inputs: [
    { shape: [n, c], layout },
    { shape: [n, c], values: 'positive', layout },
    ...(weighted ? [{ shape: [c], values: 'positive' as const }] : []),
  ],
  args,
  gradcheck: n < 4,
});
const withWeight = (args: Args, weight: Tensor | undefined): Args => (weight ? { ...args, weight } : args);

const classErrors = (name: 'crossEntropy' | 'nllLoss'): ErrorCase[] => [
  ...tensorErrors(name, F[name], tensor([0], INT64)),
  ...optionErrors(name, (options) => F[name](zeros([1, 3]), tensor([0], INT64), options)),
  refuses('lengths differ', () => F[name](zeros([2, 3]), tensor([0], INT64)), new RegExp(name), 'FOVEA_SHAPE'),
  refuses('a 0-d input', () => F[name](zeros([]), tensor(0, INT64)), new RegExp(`${name}.*0-d`), 'FOVEA_SHAPE'),
  refuses(
    'a class that does not exist',
    () => F[name](zeros([1, 3]), tensor([3], INT64)).dataSync(),
    /3/,
    'FOVEA_INDEX',
  ),
  refuses(
    'integers',
    () => F[name](zeros([1, 3], INT64), tensor([0], INT64)),
    new RegExp(`${name}.*floats`),
    'FOVEA_DTYPE',
  ),
  refuses(
    'a weight of another length',
    () => F[name](zeros([1, 3]), tensor([0], INT64), { weight: zeros([4]) }),
    new RegExp(`${name}.*weight \\[3\\].*\\[4\\]`),
    'FOVEA_SHAPE',
  ),
  refuses(
    'a weight of integers',
    () => F[name](zeros([1, 3]), tensor([0], INT64), { weight: zeros([3], INT64) }),
    new RegExp(`${name}.*weight`),
    'FOVEA_DTYPE',
  ),
];

export const crossEntropy: Row = {
  name: 'crossEntropy',
  dtypes: FLOATS,
  samples: [
    ...classSamples(
      [
        [3, 5],
        [1, 2],
        [7, 131],
        [2, 50_257],
        [16, 17],
        [9, 1],
        [5, 33],
      ],
      [
        {},
        { labelSmoothing: 0.1 },
        { reduction: 'sum' },
        { reduction: 'none', ignoreIndex: 1 },
        { weighted: true },
        { weighted: true, labelSmoothing: 0.2, ignoreIndex: 1 },
        { weighted: true, labelSmoothing: 0.2, reduction: 'none' },
      ],
    ),
    softSample(3, 4, {}),
    softSample(2, 5, { labelSmoothing: 0.3, reduction: 'sum' }, true),
    softSample(3, 2, { reduction: 'none' }, true),
    softSample(6, 33, { labelSmoothing: 0.1 }, false, 'transposed'),
    softSample(5, 17, { reduction: 'none' }, true, 'step'),
  ],
  run: ([x, t, w], args) => F.crossEntropy(x!, t!, withWeight(args, w)),
  reference: ([x, t, w], args) =>
    (t!.shape.length === 2 ? softClassLoss : classLoss)(alongAxis(x!, -1, logSoftmaxRow), t!, w, args),
  tolerance: close(64, { floor: 8 }),
  differentiable: [0, 1, 2],
  errors: [
    ...classErrors('crossEntropy'),
    refuses(
      'a class to ignore among probabilities',
      () => F.crossEntropy(zeros([2, 3]), zeros([2, 3]), { ignoreIndex: 0 }),
      /ignoreIndex.*probabilities/,
    ),
    refuses(
      'probabilities of another shape',
      () => F.crossEntropy(zeros([2, 3]), zeros([2, 4])),
      /\[2,3\].*\[2,4\]/,
      'FOVEA_SHAPE',
    ),
  ],
};

const nllLoss: Row = {
  name: 'nllLoss',
  dtypes: FLOATS,
  samples: classSamples(
    [
      [3, 5],
      [1, 2],
      [7, 131],
      [16, 17],
      [5, 33],
    ],
    [{}, { reduction: 'sum' }, { reduction: 'none' }, { weighted: true, ignoreIndex: 1 }, { weighted: true }],
  ),
  run: ([x, t, w], args) => F.nllLoss(x!, t!, withWeight(args, w)),
  reference: ([x, t, w], args) => classLoss(x!, t!, w, args),
  tolerance: close(64, { floor: 1 }),
  differentiable: [0, 2],
  errors: classErrors('nllLoss'),
};

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
  first?: InputSpec['values'];
  second: InputSpec['values'];
  differentiable: number[];
  variants?: Args[];
  errors?: ErrorCase[];
  eps?: number;
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
  tolerance: close(loss.eps ?? 512),
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
const huber = (x: number, y: number, delta: number): number => {
  const d = Math.abs(x - y);
  return d < delta ? (d * d) / 2 : delta * (d - delta / 2);
};
const focal = (x: number, t: number, { alpha = 0.25, gamma = 2 }: Args): number => {
  const p = 1 / (1 + Math.exp(-x));
  const a = alpha as number;
  const miss = t / (1 + Math.exp(x)) + (1 - t) * p;
  return (a < 0 ? 1 : a * t + (1 - a) * (1 - t)) * miss ** (gamma as number) * binary(x, t);
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
  const row = pairLoss({ name, f: binary, second: 'unit', differentiable: [0, 1] });
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
    reference: ([x, t, ...more], { reduction, names = [] }) => {
      const factor = (option: string): Nd => more[(names as string[]).indexOf(option)] ?? new Nd([], [1]);
      const f = (a: number, b: number, w: number, v: number): number =>
        w * (v * b * softplus(-a) + (1 - b) * softplus(a));
      return reduceTo(
        zip(f as (...values: number[]) => number, x!, t!, factor('weight'), factor('posWeight')),
        reduction,
      );
    },
    differentiable: [0, 1, 2, 3],
    errors: [...row.errors, broadcast('weight', [2]), broadcast('posWeight', [5, 2, 3])],
  };
})();

export const lossRows: Row[] = [
  crossEntropy,
  nllLoss,
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
    f: focal,
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
    second: 'positive',
    differentiable: [0, 1],
    variants: [{}, { logTarget: true }],
  }),
];
