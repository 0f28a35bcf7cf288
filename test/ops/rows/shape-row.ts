// What the rows of views and joins share: samples in all layouts, and where elements come from.
import { type Dtype, functional as F, type Tensor } from 'fovea';
import { tensorErrors } from '../errors.js';
import { Nd } from '../nd.js';
import { type Args, exact, type ErrorCase, type Row } from '../row.js';
import { FLOATS, INTS, type Layout, type Sample } from '../samples.js';

export const everything: readonly Dtype[] = [...FLOATS, ...INTS, 'bool'];
const layouts: Layout[] = ['dense', 'transposed', 'offset', 'step', 'expanded', 'misaligned'];

export type Case = [shape: number[], args: Args];
/** Every case dense, then in further layouts as far as its rank allows. */
export const samplesOf = (cases: Case[]): Sample[] =>
  cases.flatMap(([shape, args], i) => {
    const usable: Layout[] = shape.length > 1 ? ['dense', layouts[1 + (i % 5)]!] : ['dense'];
    return usable.map((layout, j) => ({
      label: `[${shape}] ${layout} ${JSON.stringify(args)}`,
      inputs: [{ shape, layout }],
      args,
      gradcheck: j === 0 && shape.reduce((a, b) => a * b, 1) <= 24,
    }));
  });

export interface Spec {
  cases: Case[];
  run: (x: Tensor, args: Args) => Tensor | readonly Tensor[];
  reference: (x: Nd, args: Args) => Nd | readonly Nd[];
  errors: readonly ErrorCase[];
}
export const shapeRow = (name: string, { cases, run, reference, errors }: Spec): Row => ({
  name,
  dtypes: everything,
  samples: samplesOf(cases),
  run: ([x], args) => run(x!, args),
  reference: ([x], args) => reference(x!, args),
  tolerance: exact,
  differentiable: [0],
  errors: [
    ...tensorErrors(
      name,
      (F as unknown as Record<string, never>)[name]!,
      ...(errors.length ? defaultArguments(name) : []),
    ),
    ...errors,
  ],
});
const defaultArguments = (name: string): unknown[] =>
  ({
    reshape: [[2]],
    transpose: [0, 0],
    permute: [[0]],
    expand: [[2]],
    unsqueeze: [0],
    slice: [0, 0, 1],
    narrow: [0, 0, 1],
    select: [0, 0],
    split: [1, 0],
    chunk: [1, 0],
    pad: [[0, 0]],
    flip: [[0]],
    roll: [1, 0],
    unbind: [0],
  })[name] ?? [];

export const positive = (dim: number, rank: number): number => (dim < 0 ? dim + rank : dim);
export const N = (v: unknown): number => v as number;
export const L = (v: unknown): number[] => v as number[];
export const pick = (x: Nd, shape: readonly number[], f: (at: number[]) => number[]): Nd =>
  Nd.from(shape, (at) => x.at(f([...at])));
export const replaced = (shape: readonly number[], dim: number, n: number): number[] =>
  shape.map((size, d) => (d === dim ? n : size));
export const window = (x: Nd, dim: number, start: number, length: number, step = 1): Nd =>
  pick(x, replaced(x.shape, dim, length), (at) => at.map((v, d) => (d === dim ? start + v * step : v)));
export const cuts = (x: Nd, dim: number, sizes: number[]): Nd[] => {
  let start = 0;
  return sizes.map((n) => {
    const part = window(x, dim, start, n);
    start += n;
    return part;
  });
};
export const pieces = (total: number, size: number): number[] =>
  Array.from({ length: Math.max(1, Math.ceil(total / size)) }, (_, i) => Math.min(size, total - i * size));
