// Views and joins: where every element comes from.
import { type Dtype, functional as F, type Tensor, zeros } from 'fovea';
import { dimErrors, tensorErrors } from '../errors.js';
import { Nd } from '../nd.js';
import { type Args, exact, type ErrorCase, type Row } from '../row.js';
import { FLOATS, INTS, type Layout, type Sample } from '../samples.js';

const everything: readonly Dtype[] = [...FLOATS, ...INTS, 'bool'];
const layouts: Layout[] = ['dense', 'transposed', 'offset', 'step', 'expanded', 'misaligned'];

type Case = [shape: number[], args: Args];
/** Every case dense, then in further layouts as far as its rank allows. */
const samplesOf = (cases: Case[]): Sample[] =>
  cases.flatMap(([shape, args], i) => {
    const usable: Layout[] = shape.length > 1 ? ['dense', layouts[1 + (i % 5)]!] : ['dense'];
    return usable.map((layout, j) => ({ label: `[${shape}] ${layout} ${JSON.stringify(args)}`, inputs: [{ shape, layout }], args, gradcheck: j === 0 && shape.reduce((a, b) => a * b, 1) <= 24 }));
  });

interface Spec {
  cases: Case[];
  run: (x: Tensor, args: Args) => Tensor | readonly Tensor[];
  reference: (x: Nd, args: Args) => Nd | readonly Nd[];
  errors: readonly ErrorCase[];
}
const shapeRow = (name: string, { cases, run, reference, errors }: Spec): Row => ({
  name,
  dtypes: everything,
  samples: samplesOf(cases),
  run: ([x], args) => run(x!, args),
  reference: ([x], args) => reference(x!, args),
  tolerance: exact,
  differentiable: [0],
  errors: [...tensorErrors(name, (F as unknown as Record<string, never>)[name]!, ...(errors.length ? defaultArguments(name) : [])), ...errors],
});
const defaultArguments = (name: string): unknown[] =>
  ({ reshape: [[2]], transpose: [0, 0], permute: [[0]], expand: [[2]], unsqueeze: [0], slice: [0, 0, 1], narrow: [0, 0, 1], select: [0, 0], split: [1, 0], chunk: [1, 0], pad: [[0, 0]], flip: [[0]], roll: [1, 0], unbind: [0] })[name] ?? [];

const positive = (dim: number, rank: number): number => (dim < 0 ? dim + rank : dim);
const N = (v: unknown): number => v as number;
const L = (v: unknown): number[] => v as number[];
const pick = (x: Nd, shape: readonly number[], f: (at: number[]) => number[]): Nd => Nd.from(shape, (at) => x.at(f([...at])));
const replaced = (shape: readonly number[], dim: number, n: number): number[] => shape.map((size, d) => (d === dim ? n : size));
const window = (x: Nd, dim: number, start: number, length: number, step = 1): Nd => pick(x, replaced(x.shape, dim, length), (at) => at.map((v, d) => (d === dim ? start + v * step : v)));
const cuts = (x: Nd, dim: number, sizes: number[]): Nd[] => {
  let start = 0;
  return sizes.map((n) => {
    const part = window(x, dim, start, n);
    start += n;
    return part;
  });
};
const pieces = (total: number, size: number): number[] => Array.from({ length: Math.max(1, Math.ceil(total / size)) }, (_, i) => Math.min(size, total - i * size));

const rows: Row[] = [
  shapeRow('reshape', {
    cases: [[[6], { shape: [2, 3] }], [[2, 3], { shape: [3, 2] }], [[2, 3, 4], { shape: [6, -1] }], [[1], { shape: [] }], [[], { shape: [1, 1] }], [[0, 3], { shape: [3, 0] }], [[4, 6], { shape: [2, 2, 6] }], [[5, 7], { shape: [-1] }], [[131], { shape: [1, 131] }], [[2, 2, 2], { shape: [8] }]],
    run: (x, { shape }) => F.reshape(x, L(shape)),
    reference: (x, { shape }) => x.reshape(L(shape).map((n) => (n === -1 ? x.size / L(shape).filter((v) => v !== -1).reduce((a, b) => a * b, 1) : n))),
    errors: [
      { label: 'another size', run: () => F.reshape(zeros([2, 3]), [4]), code: 'FOVEA_SHAPE', mentions: /reshape.*\[2, ?3\].*4/s },
      { label: 'two unknowns', run: () => F.reshape(zeros([2, 3]), [-1, -1]), code: 'FOVEA_ARGUMENT', mentions: /reshape/ },
    ],
  }),
  shapeRow('flatten', {
    cases: [[[2, 3], {}], [[2, 3, 4], {}], [[2, 3, 4], { start: 1 }], [[2, 3, 4], { start: 0, end: 1 }], [[], {}], [[5], {}], [[0, 3], {}], [[1, 1], {}], [[2, 2, 2, 2], { start: 1, end: -2 }], [[17, 3], { start: -2, end: -1 }], [[3, 1, 2], { start: 1, end: 1 }], [[4, 4], { start: 0 }]],
    run: (x, { start, end }) => F.flatten(x, start as number | undefined, end as number | undefined),
    reference: (x, { start = 0, end = -1 }) => {
      const rank = x.shape.length;
      if (rank === 0) return x.reshape([1]);
      const [a, b] = [positive(N(start), rank), positive(N(end), rank)];
      return x.reshape([...x.shape.slice(0, a), x.shape.slice(a, b + 1).reduce((p, q) => p * q, 1), ...x.shape.slice(b + 1)]);
    },
    errors: [{ label: 'start after end', run: () => F.flatten(zeros([2, 3]), 1, 0), code: 'FOVEA_ARGUMENT', mentions: /flatten/ }],
  }),
  shapeRow('squeeze', {
    cases: [[[1, 3, 1], {}], [[1, 3, 1], { dim: 0 }], [[1, 3, 1], { dim: -1 }], [[2, 3], {}], [[1], {}], [[], {}], [[1, 1, 1], {}], [[0, 1], {}], [[2, 1, 3], { dim: 1 }], [[2, 3], { dim: 0 }], [[1, 131], { dim: 0 }], [[5, 1], {}]],
    run: (x, { dim }) => (dim === undefined ? F.squeeze(x) : F.squeeze(x, N(dim))),
    reference: (x, { dim }) => x.reshape(x.shape.filter((n, d) => n !== 1 || (dim !== undefined && d !== positive(N(dim), x.shape.length)))),
    errors: dimErrors('squeeze', (x, dim) => F.squeeze(x, dim)),
  }),
  shapeRow('unsqueeze', {
    cases: [[[3], { dim: 0 }], [[3], { dim: 1 }], [[3], { dim: -1 }], [[2, 3], { dim: 1 }], [[], { dim: 0 }], [[0], { dim: 0 }], [[2, 3], { dim: -3 }], [[131], { dim: 0 }], [[1], { dim: 1 }], [[2, 3, 4], { dim: 2 }]],
    run: (x, { dim }) => F.unsqueeze(x, N(dim)),
    reference: (x, { dim }) => x.reshape([...x.shape.slice(0, positive(N(dim), x.shape.length + 1)), 1, ...x.shape.slice(positive(N(dim), x.shape.length + 1))]),
    errors: [{ label: 'dim 5', run: () => F.unsqueeze(zeros([2]), 5), code: 'FOVEA_ARGUMENT', mentions: /unsqueeze.*dim/s }],
  }),
  shapeRow('transpose', {
    cases: [[[2, 3], { a: 0, b: 1 }], [[2, 3, 4], { a: 0, b: 2 }], [[2, 3, 4], { a: -1, b: -2 }], [[5], { a: 0, b: 0 }], [[0, 3], { a: 0, b: 1 }], [[1, 7], { a: 0, b: 1 }], [[17, 33], { a: 0, b: 1 }], [[2, 1, 3, 2], { a: 1, b: 3 }], [[131, 2], { a: 1, b: 0 }]],
    run: (x, { a, b }) => F.transpose(x, N(a), N(b)),
    reference: (x, { a, b }) => {
      const order = x.shape.map((_, d) => d);
      const [p, q] = [positive(N(a), order.length), positive(N(b), order.length)];
      [order[p], order[q]] = [order[q]!, order[p]!];
      return x.permute(order);
    },
    errors: dimErrors('transpose', (x, dim) => F.transpose(x, dim, 0)),
  }),
  shapeRow('permute', {
    cases: [[[2, 3], { dims: [1, 0] }], [[2, 3, 4], { dims: [2, 0, 1] }], [[2, 3, 4], { dims: [0, -1, 1] }], [[5], { dims: [0] }], [[], { dims: [] }], [[0, 2], { dims: [1, 0] }], [[1, 2, 1, 3], { dims: [3, 2, 1, 0] }], [[17, 15], { dims: [1, 0] }], [[2, 2, 2], { dims: [0, 1, 2] }]],
    run: (x, { dims }) => F.permute(x, L(dims)),
    reference: (x, { dims }) => x.permute(L(dims).map((d) => positive(d, x.shape.length))),
    errors: [
      { label: 'a dim twice', run: () => F.permute(zeros([2, 3]), [0, 0]), code: 'FOVEA_ARGUMENT', mentions: /permute/ },
      { label: 'too few dims', run: () => F.permute(zeros([2, 3]), [0]), code: 'FOVEA_ARGUMENT', mentions: /permute/ },
    ],
  }),
  shapeRow('expand', {
    cases: [[[1], { shape: [4] }], [[3], { shape: [2, 3] }], [[2, 1], { shape: [2, 5] }], [[1, 3], { shape: [4, -1] }], [[], { shape: [2, 2] }], [[1], { shape: [0] }], [[2, 1, 3], { shape: [4, 2, 2, 3] }], [[131], { shape: [131] }], [[1, 1], { shape: [17, 3] }], [[5, 1], { shape: [5, 1] }], [[3], { shape: [1, 1, 3] }], [[1], { shape: [70] }]],
    run: (x, { shape }) => F.expand(x, L(shape)),
    reference: (x, { shape }) => {
      const target = L(shape).map((n, d) => (n === -1 ? x.shape[d - L(shape).length + x.shape.length]! : n));
      return Nd.from(target, (at) => x.at(at));
    },
    errors: [{ label: 'an axis that is not 1', run: () => F.expand(zeros([2, 3]), [2, 6]), code: 'FOVEA_SHAPE', mentions: /expand.*3.*6/s }],
  }),
  shapeRow('slice', {
    cases: [[[7], { dim: 0, start: 1, end: 5 }], [[7], { dim: 0, start: 0, end: 7, step: 2 }], [[7], { dim: 0, start: -3 }], [[3, 5], { dim: 1, start: 1, end: -1 }], [[3, 5], { dim: -1, start: 4, end: 2 }], [[3, 5], { dim: 0, start: 0, end: 99 }], [[1], { dim: 0, start: 0, end: 1 }], [[131], { dim: 0, start: 3, end: 130, step: 7 }], [[2, 3, 4], { dim: 2, start: 1, step: 3 }], [[0, 2], { dim: 0, start: 0, end: 0 }]],
    run: (x, { dim, start, end, step }) => F.slice(x, N(dim), start as number | undefined, end as number | undefined, step as number | undefined),
    reference: (x, { dim, start, end, step = 1 }) => {
      const d = positive(N(dim), x.shape.length);
      const n = x.shape[d]!;
      const clampTo = (v: number): number => Math.min(Math.max(v < 0 ? v + n : v, 0), n);
      const [a, b] = [clampTo(N(start ?? 0)), clampTo(N(end ?? n))];
      return window(x, d, a, Math.max(0, Math.ceil((b - a) / N(step))), N(step));
    },
    errors: [
      ...dimErrors('slice', (x, dim) => F.slice(x, dim, 0, 1)),
      { label: 'step 0', run: () => F.slice(zeros([3]), 0, 0, 3, 0), code: 'FOVEA_ARGUMENT', mentions: /slice.*step/s },
    ],
  }),
  shapeRow('narrow', {
    cases: [[[7], { dim: 0, start: 2, n: 3 }], [[3, 5], { dim: 1, start: 0, n: 5 }], [[3, 5], { dim: 0, start: 2, n: 1 }], [[3, 5], { dim: -1, start: 1, n: 0 }], [[2, 3, 4], { dim: 1, start: 1, n: 2 }], [[131], { dim: 0, start: 100, n: 31 }], [[1], { dim: 0, start: 0, n: 1 }], [[0], { dim: 0, start: 0, n: 0 }], [[17, 3], { dim: 0, start: -2, n: 2 }], [[4, 4], { dim: 1, start: 3, n: 1 }]],
    run: (x, { dim, start, n }) => F.narrow(x, N(dim), N(start), N(n)),
    reference: (x, { dim, start, n }) => {
      const d = positive(N(dim), x.shape.length);
      return window(x, d, positive(N(start), x.shape[d]!), N(n));
    },
    errors: [{ label: 'beyond the end', run: () => F.narrow(zeros([3]), 0, 2, 2), code: 'FOVEA_INDEX', mentions: /narrow/ }],
  }),
  shapeRow('select', {
    cases: [[[7], { dim: 0, i: 3 }], [[3, 5], { dim: 1, i: -1 }], [[3, 5], { dim: 0, i: 0 }], [[2, 3, 4], { dim: 1, i: 2 }], [[1], { dim: 0, i: 0 }], [[131, 2], { dim: 0, i: 130 }], [[2, 0], { dim: 0, i: 1 }], [[2, 2, 2], { dim: -1, i: 1 }], [[17, 3], { dim: 1, i: 1 }]],
    run: (x, { dim, i }) => F.select(x, N(dim), N(i)),
    reference: (x, { dim, i }) => {
      const d = positive(N(dim), x.shape.length);
      return pick(x, x.shape.filter((_, axis) => axis !== d), (at) => [...at.slice(0, d), positive(N(i), x.shape[d]!), ...at.slice(d)]);
    },
    errors: [{ label: 'an index out of range', run: () => F.select(zeros([3]), 0, 3), code: 'FOVEA_INDEX', mentions: /select.*3/s }],
  }),
  shapeRow('unbind', {
    cases: [[[3], { dim: 0 }], [[2, 3], { dim: 0 }], [[2, 3], { dim: 1 }], [[2, 3, 4], { dim: -2 }], [[1], { dim: 0 }], [[1, 5], { dim: 0 }], [[4, 2], { dim: -1 }], [[2, 0], { dim: 0 }], [[5, 17], { dim: 0 }]],
    run: (x, { dim }) => F.unbind(x, N(dim)),
    reference: (x, { dim }) => {
      const d = positive(N(dim), x.shape.length);
      return Array.from({ length: x.shape[d]! }, (_, i) => pick(x, x.shape.filter((__, axis) => axis !== d), (at) => [...at.slice(0, d), i, ...at.slice(d)]));
    },
    errors: dimErrors('unbind', (x, dim) => F.unbind(x, dim)),
  }),
  shapeRow('split', {
    cases: [[[7], { size: 3, dim: 0 }], [[6, 2], { size: [1, 5], dim: 0 }], [[2, 6], { size: 2, dim: 1 }], [[2, 3, 4], { size: 3, dim: -1 }], [[5], { size: 5, dim: 0 }], [[5], { size: 9, dim: 0 }], [[3, 4], { size: [0, 4], dim: 1 }], [[131], { size: 40, dim: 0 }], [[1], { size: 1, dim: 0 }]],
    run: (x, { size, dim }) => F.split(x, size as number | number[], N(dim)),
    reference: (x, { size, dim }) => {
      const d = positive(N(dim), x.shape.length);
      return cuts(x, d, Array.isArray(size) ? size : pieces(x.shape[d]!, N(size)));
    },
    errors: [{ label: 'sizes that do not add up', run: () => F.split(zeros([5]), [2, 2]), code: 'FOVEA_SHAPE', mentions: /split.*5/s }],
  }),
  shapeRow('chunk', {
    cases: [[[7], { n: 3, dim: 0 }], [[6, 2], { n: 2, dim: 0 }], [[2, 6], { n: 4, dim: 1 }], [[2, 3, 4], { n: 2, dim: -1 }], [[5], { n: 1, dim: 0 }], [[5], { n: 9, dim: 0 }], [[131], { n: 4, dim: 0 }], [[1], { n: 1, dim: 0 }], [[3, 4], { n: 4, dim: 1 }]],
    run: (x, { n, dim }) => F.chunk(x, N(n), N(dim)),
    reference: (x, { n, dim }) => {
      const d = positive(N(dim), x.shape.length);
      return cuts(x, d, pieces(x.shape[d]!, Math.ceil(x.shape[d]! / N(n))));
    },
    errors: [{ label: 'no chunks', run: () => F.chunk(zeros([5]), 0), code: 'FOVEA_ARGUMENT', mentions: /chunk/ }],
  }),
  shapeRow('pad', {
    cases: [[[3], { by: [1, 2] }], [[2, 3], { by: [1, 0] }], [[2, 3], { by: [0, 1, 2, 0] }], [[2, 3, 4], { by: [1, 1], value: 2 }], [[0], { by: [2, 1] }], [[5], { by: [0, 0] }], [[5], { by: [-1, -2] }], [[131], { by: [3, 3] }], [[1], { by: [0, 4], value: 2 }], [[2, 2], { by: [-1, 1] }]],
    run: (x, { by, value }) => F.pad(x, L(by), value === undefined ? {} : { value: N(value) }),
    reference: (x, { by, value = 0 }) => {
      const rank = x.shape.length;
      const before = x.shape.map((_, d) => L(by)[2 * (rank - 1 - d)] ?? 0);
      const shape = x.shape.map((n, d) => n + before[d]! + (L(by)[2 * (rank - 1 - d) + 1] ?? 0));
      return Nd.from(shape, (at) => {
        const from = at.map((v, d) => v - before[d]!);
        return from.every((v, d) => v >= 0 && v < x.shape[d]!) ? x.at(from) : N(value);
      });
    },
    errors: [
      { label: 'an odd number of amounts', run: () => F.pad(zeros([3]), [1]), code: 'FOVEA_ARGUMENT', mentions: /pad/ },
      { label: 'more than there is', run: () => F.pad(zeros([3]), [-2, -2]), code: 'FOVEA_SHAPE', mentions: /pad/ },
    ],
  }),
  shapeRow('flip', {
    cases: [[[3], { dims: [0] }], [[2, 3], { dims: [1] }], [[2, 3], { dims: [0, 1] }], [[2, 3, 4], { dims: [-1] }], [[1], { dims: [0] }], [[0, 2], { dims: [0] }], [[5], { dims: [] }], [[131], { dims: [0] }], [[17, 15], { dims: [0] }]],
    run: (x, { dims }) => F.flip(x, L(dims)),
    reference: (x, { dims }) => {
      const flipped = L(dims).map((d) => positive(d, x.shape.length));
      return pick(x, x.shape, (at) => at.map((v, d) => (flipped.includes(d) ? x.shape[d]! - 1 - v : v)));
    },
    errors: dimErrors('flip', (x, dim) => F.flip(x, [dim])),
  }),
  shapeRow('roll', {
    cases: [[[5], { by: 2, dim: 0 }], [[5], { by: -1, dim: 0 }], [[2, 3], { by: 1, dim: 1 }], [[2, 3, 4], { by: 5, dim: 2 }], [[1], { by: 3, dim: 0 }], [[0], { by: 1, dim: 0 }], [[131], { by: 17, dim: 0 }], [[4, 4], { by: 0, dim: 0 }], [[3, 7], { by: -9, dim: -1 }]],
    run: (x, { by, dim }) => F.roll(x, N(by), N(dim)),
    reference: (x, { by, dim }) => {
      const d = positive(N(dim), x.shape.length);
      return pick(x, x.shape, (at) => at.map((v, axis) => (axis === d ? (((v - N(by)) % x.shape[d]!) + x.shape[d]!) % x.shape[d]! : v)));
    },
    errors: dimErrors('roll', (x, dim) => F.roll(x, 1, dim)),
  }),
];

const joined = (name: 'concat' | 'stack', cases: [number[][], number][]): Row => ({
  name,
  dtypes: everything,
  samples: cases.map(([shapes, dim], i) => ({ label: `${shapes.map((s) => `[${s}]`).join(' ')} dim ${dim}`, inputs: shapes.map((shape, j) => ({ shape, layout: shape.length > 1 && (i + j) % 3 === 2 ? ('transposed' as const) : ('dense' as const) })), args: { dim }, gradcheck: i < 3 })),
  run: (x, { dim }) => F[name](x, N(dim)),
  reference: (x, { dim }) => {
    const parts = name === 'concat' ? x : x.map((part) => part.reshape([...part.shape.slice(0, positive(N(dim), part.shape.length + 1)), 1, ...part.shape.slice(positive(N(dim), part.shape.length + 1))]));
    const d = positive(N(dim), parts[0]!.shape.length);
    const starts = parts.map((_, i) => parts.slice(0, i).reduce((sum, p) => sum + p.shape[d]!, 0));
    return Nd.from(replaced(parts[0]!.shape, d, parts.reduce((sum, p) => sum + p.shape[d]!, 0)), (at) => {
      const which = starts.findLastIndex((s, i) => s <= at[d]! && parts[i]!.shape[d]! > 0);
      return parts[which]!.at(at.map((v, axis) => (axis === d ? v - starts[which]! : v)));
    });
  },
  tolerance: exact,
  differentiable: [0, 1, 2],
  errors: [
    { label: 'nothing', run: () => F[name]([], 0), code: 'FOVEA_ARGUMENT', mentions: new RegExp(name) },
    { label: 'shapes differ', run: () => F[name]([zeros([2, 3]), zeros([3, 4])], 0), code: 'FOVEA_SHAPE', mentions: new RegExp(name) },
    { label: 'not tensors', run: () => F[name](['x'] as never, 0), code: 'FOVEA_ARGUMENT', mentions: new RegExp(name) },
    { label: 'dim 4', run: () => F[name]([zeros([2])], 4), code: 'FOVEA_ARGUMENT', mentions: new RegExp(`${name}.*dim`, 's') },
  ],
});
rows.push(
  joined('concat', [[[[2, 3], [4, 3]], 0], [[[2, 3], [2, 1]], 1], [[[3], [2], [4]], 0], [[[2, 3], [2, 3]], -1], [[[1], [1]], 0], [[[0, 3], [2, 3]], 0], [[[2, 0], [2, 2]], 1], [[[131], [17]], 0], [[[2, 2, 2], [2, 5, 2]], 1], [[[3, 4]], 0], [[[17, 33], [17, 15]], 1], [[[1, 2], [1, 2], [1, 2]], 0]]),
  joined('stack', [[[[2, 3], [2, 3]], 0], [[[2, 3], [2, 3]], 1], [[[3], [3], [3]], 0], [[[2, 3], [2, 3]], -1], [[[], []], 0], [[[0], [0]], 0], [[[131], [131]], 0], [[[2, 2, 2], [2, 2, 2]], 2], [[[3, 4]], 1], [[[17, 33], [17, 33]], 2], [[[1], [1]], 1], [[[5], [5]], -2]]),
);

export const shapeRows: Row[] = rows;
