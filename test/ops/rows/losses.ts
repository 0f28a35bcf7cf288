// Losses of classes.
import { functional as F, type Tensor, tensor, zeros } from 'fovea';
import { tensorErrors } from '../errors.js';
import { alongAxis, Nd, total, zip } from '../nd.js';
import type { Args, ErrorCase, Row, Tolerance } from '../row.js';
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

/**
 * Losses of classes are sums of log-probabilities [n, c].
 *
 * @param terms how many numbers a loss is a sum of
 * @param magnitude of the log-probabilities, without signs
 */
const asClassSums = (terms: (n: number, c: number) => number, magnitude: (x: Nd) => Nd): Tolerance => ({
  kind: 'sum',
  k: ({ inputs: [x] }) => terms(x!.shape[0]!, x!.shape[1]!),
  magnitude: ([x, t, w], { args }) =>
    (t!.shape.length === 2 ? softClassLoss : classLoss)(
      magnitude(x!).map((v) => -v),
      t!,
      w,
      args!,
    ),
});

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
  // A log-probability is a logit without the logarithm of a sum of as many exponentials as there are classes.
  tolerance: asClassSums(
    (n, c) => n + c,
    (x) =>
      alongAxis(x, -1, (row) => {
        const largest = row.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
        return row.map((v) => Math.abs(v) + largest + 1);
      }),
  ),
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

export const nllLoss: Row = {
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
  tolerance: asClassSums(
    (n) => 4 + n,
    (x) => x.map(Math.abs),
  ),
  differentiable: [0, 2],
  errors: classErrors('nllLoss'),
};
