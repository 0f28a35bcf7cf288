// Attention with scoring functions: against their definitions, one pair of query and key at a time.
import { functional as F, score, type Tensor } from 'fovea';
import { matmul, Nd } from '../nd.js';
import { type Args, close, type Row } from '../row.js';
import type { InputSpec, Sample } from '../samples.js';

interface ScoredArgs extends Args {
  function: keyof typeof functions;
  scale?: number;
}
const rowOf = (x: Nd, b: number, h: number, i: number): number[] =>
  Array.from({ length: x.shape[3]! }, (_, c) => x.at([b, h, i, c]));
const dotOf = (a: readonly number[], b: readonly number[]): number => a.reduce((sum, x, c) => sum + x * b[c]!, 0);
const times = (w: Nd, x: readonly number[]): number[] =>
  Array.from({ length: w.shape[0]! }, (_, r) => x.reduce((sum, value, c) => sum + w.at([r, c]) * value, 0));

/** How a scoring function is made of the inputs behind q, k, v, and what it gives for a query and a key in float64. */
const functions = {
  dot: { make: () => score.dot(), of: () => (q: number[], k: number[]) => dotOf(q, k) },
  scaledDot: {
    make: () => score.scaledDot(),
    of: () => (q: number[], k: number[]) => dotOf(q, k) / Math.sqrt(q.length),
  },
  general: {
    make: ([w]: Tensor[]) => score.general(w!),
    of:
      ([w]: Nd[]) =>
      (q: number[], k: number[]) =>
        q.reduce((sum, x, r) => sum + x * k.reduce((s, y, c) => s + w!.at([r, c]) * y, 0), 0),
  },
  additive: {
    make: ([wq, wk, v]: Tensor[]) => score.additive(wq!, wk!, v!),
    of: ([wq, wk, v]: Nd[]) => {
      return (q: number[], k: number[], head: number): number => {
        const [a, b] = [times(wq!, q), times(wk!, k)];
        const weight = (c: number): number => (v!.shape.length === 1 ? v!.at([c]) : v!.at([head, c]));
        return a.reduce((sum, x, c) => sum + weight(c) * Math.tanh(x + b[c]!), 0);
      };
    },
  },
  concat: {
    make: ([w, v]: Tensor[]) => score.concat(w!, v!),
    of:
      ([w, v]: Nd[]) =>
      (q: number[], k: number[]) =>
        times(w!, [...q, ...k]).reduce((sum, x, c) => sum + v!.at([c]) * Math.tanh(x), 0),
  },
} as const;

function reference([q, k, v, ...rest]: Nd[], { function: name, scale = 1 }: ScoredArgs): Nd {
  const of = functions[name].of(rest) as (q: number[], k: number[], head: number) => number;
  const [b, h, n] = q!.shape as [number, number, number];
  const [g, m] = [k!.shape[1]!, k!.shape[2]!];
  const weights = Nd.from([b, h, n, m], ([i, j, r, c]) =>
    Math.exp(scale * of(rowOf(q!, i!, j!, r!), rowOf(k!, i!, Math.floor(j! / (h / g)), c!), j!)),
  );
  const values = Nd.from([b, h, m, v!.shape[3]!], ([i, j, r, c]) => v!.at([i!, Math.floor(j! / (h / g)), r!, c!]));
  const totals = Nd.from([b, h, n], ([i, j, r]) =>
    Array.from({ length: m }, (_, c) => weights.at([i!, j!, r!, c])).reduce((x, y) => x + y, 0),
  );
  const sums = matmul(weights, values);
  return Nd.from(sums.shape, ([i, j, r, c]) => sums.at([i!, j!, r!, c!]) / totals.at([i!, j!, r!]));
}

const sample = (
  name: ScoredArgs['function'],
  [b, h, g, n, m, dq, dk, e]: [number, number, number, number, number, number, number, number],
  extra: number[][],
  args: { scale?: number } = {},
  gradcheck = false,
): Sample => ({
  label: `${name} ${[b, h, g, n, m, dq, dk, e]}`,
  inputs: [[b, h, n, dq], [b, g, m, dk], [b, g, m, e], ...extra].map((shape): InputSpec => ({ shape })),
  args: { function: name, ...args },
  gradcheck,
  // what q and k are projected to is rounded before it is scored, and so are scores
  tolerance: close(192, { roundings: 4 }),
});

export const scoredSamples: Sample[] = [
  sample('dot', [1, 2, 2, 3, 4, 3, 3, 2], []),
  sample('scaledDot', [1, 2, 1, 3, 4, 3, 3, 2], []),
  sample('general', [1, 2, 1, 3, 4, 3, 5, 2], [[3, 5]], {}, true),
  sample('general', [2, 2, 2, 33, 40, 8, 12, 8], [[8, 12]], { scale: 0.1 }),
  sample('additive', [1, 2, 1, 3, 4, 2, 3, 2], [[4, 2], [4, 3], [4]], {}, true),
  sample(
    'additive',
    [2, 2, 2, 2, 3, 2, 2, 2],
    [
      [3, 2],
      [3, 2],
      [2, 3],
    ],
    { scale: 0.5 },
    true,
  ),
  sample('additive', [2, 4, 2, 37, 133, 8, 6, 5], [[12, 8], [12, 6], [12]]),
  sample('additive', [1, 2, 2, 1, 70, 4, 4, 4], [[33, 4], [33, 4], [33]]),
  sample('concat', [1, 2, 1, 3, 4, 2, 3, 2], [[4, 5], [4]], {}, true),
  sample('concat', [2, 1, 1, 20, 30, 6, 6, 4], [[16, 12], [16]]),
];
/** What a sample of these gives. */
export const runScored: Row['run'] = ([q, k, v, ...rest], args) => {
  const { function: name, ...options } = args as ScoredArgs;
  return F.attention(q!, k!, v!, {
    ...options,
    score: (functions[name].make as (x: Tensor[]) => never)(rest),
  }) as Tensor;
};
export const referenceOfScored: Row['reference'] = (x, args) => reference(x, args as ScoredArgs);
