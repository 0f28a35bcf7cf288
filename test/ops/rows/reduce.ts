// Reductions over one, several or all axes.
import { type Dtype, functional as F, type Tensor, zeros } from 'fovea';
import { dimErrors, tensorErrors } from '../errors.js';
import { alongAxis, count, type Nd, reduce, total as sumOf } from '../nd.js';
import { type Args, exact, type Row, type Tolerance } from '../row.js';
import { FLOATS, type InputSpec, type Sample } from '../samples.js';

type Dim = number | readonly number[] | undefined;
interface Where extends Args {
  dim?: Dim;
  keepdim?: boolean;
}

const sampleOf = (
  shape: readonly number[],
  dim: Dim,
  more: Partial<InputSpec> = {},
  args: Args = {},
  gradcheck = false,
): Sample => ({
  label: `[${shape}] ${more.layout ?? ''} dim ${dim} ${JSON.stringify(args)}`,
  inputs: [{ shape, ...more }],
  args: { ...(dim === undefined ? {} : { dim }), ...args },
  gradcheck,
});

/** Shapes and axes that every reduction meets; `empty`: also over axes of size 0. */
function samples(empty: boolean, more: Partial<InputSpec> = {}): Sample[] {
  return [
    sampleOf([], undefined, more, {}, true),
    sampleOf([1], undefined, more),
    sampleOf([131], 0, more),
    sampleOf([3, 5], undefined, more, {}, true),
    sampleOf([3, 5], 0, more, {}, true),
    sampleOf([3, 5], -1, more, { keepdim: true }, true),
    sampleOf([2, 3, 4], [0, 2], more, {}, true),
    sampleOf([2, 3, 4], [1], more, { keepdim: true }),
    sampleOf([4, 31], 1, { ...more, layout: 'transposed' }),
    sampleOf([5, 33], 0, { ...more, layout: 'step' }),
    sampleOf([6, 17], 1, { ...more, layout: 'offset' }),
    sampleOf([6, 7], 0, { ...more, layout: 'expanded' }),
    sampleOf([3, 29], -1, { ...more, layout: 'misaligned' }),
    sampleOf([3, 0, 2], 0, more),
    sampleOf([70_001], undefined, more),
    sampleOf([700, 130], 0, more),
    sampleOf([16, 3], 0, { ...more, values: 'special' }),
    ...(empty ? [sampleOf([0], undefined, more), sampleOf([2, 0, 3], 1, more)] : []),
  ];
}

const dimsOf = (dim: Dim): readonly number[] | undefined => (typeof dim === 'number' ? [dim] : dim);
const lengthOf = (s: Sample): number => {
  const { shape } = s.inputs[0]!;
  const dims = dimsOf(s.args?.['dim'] as Dim);
  return dims ? count(dims.map((d) => shape.at(d)!)) : count(shape);
};
const maxOf = (row: Float64Array): number =>
  row.reduce((a, b) => (Number.isNaN(a) || Number.isNaN(b) ? Number.NaN : Math.max(a, b)), Number.NEGATIVE_INFINITY);

type Reduction = (x: Tensor, dim?: number | readonly number[], options?: Record<string, unknown>) => Tensor;
interface Options {
  dtypes?: readonly Dtype[];
  tolerance?: Tolerance;
  empty?: boolean;
  inputs?: Partial<InputSpec>;
  differentiable?: boolean;
  more?: readonly Args[];
  oneAxis?: boolean;
}
function reduction(name: string, f: (row: Float64Array, args: Args) => number, o: Options = {}): Row {
  const op = (F as unknown as Record<string, Reduction>)[name]!;
  const split = ({ dim, keepdim, ...rest }: Where): [Dim, Args] => [dim, { ...rest, ...(keepdim ? { keepdim } : {}) }];
  const base = samples(o.empty ?? true, o.inputs).filter((s) => !o.oneAxis || !Array.isArray(s.args?.['dim']));
  return {
    name,
    dtypes: o.dtypes ?? FLOATS,
    samples: (o.more ?? [{}]).flatMap((args) =>
      base.map((s) => ({ ...s, label: `${s.label} ${JSON.stringify(args)}`, args: { ...s.args, ...args } })),
    ),
    run: ([x], args) => {
      const [dim, rest] = split(args);
      return op(x!, dim, rest);
    },
    reference: ([x], args) => {
      const { dim, keepdim } = args as Where;
      return reduce(x!, dimsOf(dim), keepdim ?? false, (row) => f(row, args));
    },
    tolerance: o.tolerance ?? {
      kind: 'sum',
      k: lengthOf,
      magnitude: ([x], s) => {
        const { dim, keepdim } = (s.args ?? {}) as Where;
        return reduce(x!, dimsOf(dim), keepdim ?? false, (row) => sumOf(row.map(Math.abs)));
      },
    },
    errors: [...tensorErrors(name, op), ...dimErrors(name, (x, dim) => op(x, dim))],
    ...(o.differentiable === false ? {} : { differentiable: [0] }),
  };
}

const variance = (row: Float64Array, args: Args): number => {
  const mean = sumOf(row) / row.length;
  return (
    sumOf(row.map((v) => (v - mean) ** 2)) / Math.max(0, row.length - ((args['correction'] as number | undefined) ?? 1))
  );
};
const norm = (row: Float64Array, args: Args): number => {
  const p = (args['p'] as number | undefined) ?? 2;
  if (p === Number.POSITIVE_INFINITY) return maxOf(row.map(Math.abs));
  if (p === 0) return row.filter((v) => v !== 0).length;
  return sumOf(row.map((v) => Math.abs(v) ** p)) ** (1 / p);
};
const logsumexp = (row: Float64Array): number => {
  const top = maxOf(row);
  return Number.isFinite(top) ? top + Math.log(sumOf(row.map((v) => Math.exp(v - top)))) : top;
};
const firstIndex = (row: Float64Array, better: (a: number, b: number) => boolean): number => {
  let best = 0;
  for (let i = 1; i < row.length && !Number.isNaN(row[best]!); i++)
    if (Number.isNaN(row[i]!) || better(row[i]!, row[best]!)) best = i;
  return best;
};
const integers = ['int32', 'int64', 'uint8', 'int8'] as const;
const relaxed: Tolerance = { kind: 'close', eps: 64, floor: 8 };
const positive: Partial<InputSpec> = { values: 'positive' };
const finite = (rows: Row): Row => ({
  ...rows,
  samples: rows.samples.filter((s) => s.inputs[0]!.values !== 'special'),
});

/** No largest element of nothing; no square root's slope at a variance of zero. */
const defined = (row: Row): Row => ({
  ...row,
  samples: row.samples.filter((s) =>
    row.name === 'std'
      ? s.inputs[0]!.layout !== 'expanded'
      : lengthOf(s) > 0 || s.args?.['p'] !== Number.POSITIVE_INFINITY,
  ),
});

const extreme = (name: 'amax' | 'amin'): Row =>
  reduction(name, (row) => (name === 'amax' ? maxOf(row) : -maxOf(row.map((v) => -v))), {
    dtypes: [...FLOATS, ...integers],
    tolerance: exact,
    empty: false,
    inputs: { values: 'distinct' },
  });

const withIndices = (name: 'max' | 'min'): Row => {
  const sign = name === 'max' ? 1 : -1;
  return {
    ...extreme(name === 'max' ? 'amax' : 'amin'),
    name,
    samples: samples(false, { values: 'distinct' }).filter((s) => !Array.isArray(s.args?.['dim'])),
    run: ([x], { dim, keepdim }) => {
      if (dim === undefined) return F[name](x!);
      const { values, indices } = F[name](x!, dim as number, { keepdim: keepdim as boolean });
      return [values, indices];
    },
    reference: ([x], { dim, keepdim }) => {
      const dims = dim === undefined ? undefined : [dim as number];
      const pick = (f: (row: Float64Array) => number): Nd =>
        reduce(x!, dims, (keepdim as boolean | undefined) ?? false, f);
      const values = pick((row) => sign * maxOf(row.map((v) => sign * v)));
      return dim === undefined ? values : [values, pick((row) => firstIndex(row, (a, b) => sign * a > sign * b))];
    },
    errors: [
      ...tensorErrors(name, F[name]),
      ...dimErrors(name, (x, dim) => F[name](x, dim)),
      {
        label: 'an empty axis',
        run: () => F[name](zeros([2, 0]), 1).values.dataSync(),
        code: 'FOVEA_SHAPE',
        mentions: /no elements/,
      },
    ],
  };
};

const arg = (name: 'argmax' | 'argmin'): Row =>
  reduction(name, (row) => firstIndex(row, (a, b) => (name === 'argmax' ? a > b : a < b)), {
    dtypes: [...FLOATS, ...integers],
    tolerance: exact,
    empty: false,
    inputs: { values: 'distinct' },
    differentiable: false,
    oneAxis: true,
  });

const cumsum: Row = {
  name: 'cumsum',
  dtypes: [...FLOATS, 'int32', 'int64'],
  samples: [
    [[5], 0],
    [[1], 0],
    [[0], 0],
    [[3, 5], 0],
    [[3, 5], -1],
    [[2, 3, 4], 1],
    [[131], 0],
    [[4, 33], 1, 'transposed'],
    [[5, 9], 0, 'offset'],
    [[3, 17], 1, 'step'],
    [[4, 6], 0, 'expanded'],
    [[3, 0, 2], 0],
    [[20_001], 0],
  ].map(([shape, dim, layout], i) => ({
    label: `[${shape}] dim ${dim} ${layout ?? ''}`,
    inputs: [{ shape: shape as number[], ...(layout ? { layout: layout as 'step' } : {}) }],
    args: { dim },
    gradcheck: i >= 3 && i < 6,
  })),
  run: ([x], { dim }) => F.cumsum(x!, dim as number),
  reference: ([x], { dim }) => {
    const run = (row: Float64Array): Float64Array => {
      let total = 0;
      return row.map((v) => (total += v));
    };
    return alongAxis(x!, dim as number, run);
  },
  tolerance: { kind: 'close', eps: 512 },
  differentiable: [0],
  errors: [...tensorErrors('cumsum', F.cumsum, 0), ...dimErrors('cumsum', (x, dim) => F.cumsum(x, dim))],
};

const truth = (name: 'any' | 'all'): Row =>
  reduction(name, (row) => Number(name === 'any' ? row.some((v) => v !== 0) : row.every((v) => v !== 0)), {
    dtypes: ['bool', 'float32', 'int32', 'uint8'],
    tolerance: exact,
    differentiable: false,
    oneAxis: true,
    inputs: { values: (i) => i % 5 },
  });

export const reduceRows: Row[] = [
  reduction('sum', sumOf, { dtypes: [...FLOATS, 'int32', 'int64', 'uint8', 'bool'] }),
  reduction('mean', (row) => sumOf(row) / row.length, {
    tolerance: {
      kind: 'sum',
      k: lengthOf,
      magnitude: ([x], s) =>
        reduce(
          x!,
          dimsOf((s.args as Where).dim),
          (s.args as Where).keepdim ?? false,
          (row) => sumOf(row.map(Math.abs)) / row.length,
        ),
    },
  }),
  finite(
    reduction('prod', (row) => row.reduce((a, b) => a * b, 1), {
      inputs: { values: (i) => (i % 2 ? 1.0625 : 0.9375) },
      tolerance: { kind: 'close', eps: 4096 },
      dtypes: ['float32', 'float64'],
      oneAxis: true,
    }),
  ),
  extreme('amax'),
  extreme('amin'),
  withIndices('max'),
  withIndices('min'),
  arg('argmax'),
  arg('argmin'),
  finite(reduction('variance', variance, { tolerance: relaxed, empty: false, more: [{}, { correction: 0 }] })),
  defined(
    finite(
      reduction('std', (row, args) => Math.sqrt(variance(row, args)), {
        tolerance: relaxed,
        empty: false,
        inputs: positive,
      }),
    ),
  ),
  defined(
    finite(
      reduction('norm', norm, {
        tolerance: relaxed,
        inputs: positive,
        more: [{}, { p: 1 }, { p: 3 }, { p: Number.POSITIVE_INFINITY }],
      }),
    ),
  ),
  reduction('logsumexp', logsumexp, { tolerance: relaxed }),
  cumsum,
  truth('any'),
  truth('all'),
];
// The variance of one value is NaN by definition and has no gradient; a 0-d tensor holds one value.
for (const row of reduceRows) {
  if (row.name !== 'variance' && row.name !== 'std') continue;
  (row.samples as Sample[]).splice(
    0,
    row.samples.length,
    ...row.samples.map((s) => ({ ...s, gradcheck: (s.gradcheck ?? false) && lengthOf(s) > 1 })),
  );
}
