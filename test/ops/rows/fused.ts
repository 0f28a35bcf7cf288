// Ops that put two together in one pass: norms of sums, gated linear units.
import { functional as F, type Tensor, zeros } from 'fovea';
import { tensorErrors } from '../errors.js';
import { alongAxis, Nd, zip } from '../nd.js';
import { close, type Row, ulp } from '../row.js';
import { FLOATS, type InputSpec, type Layout, roundTo, type Sample } from '../samples.js';
import { geluErf, geluTanh } from './elementwise.js';

const mean = (row: Float64Array): number => row.reduce((a, b) => a + b, 0) / row.length;
const standardised = (row: Float64Array): Float64Array => {
  const m = mean(row);
  const s = Math.sqrt(mean(row.map((v) => (v - m) ** 2)) + 1e-5);
  return row.map((v) => (v - m) / s);
};
const scaled = (row: Float64Array): Float64Array => {
  const s = Math.sqrt(mean(row.map((v) => v * v)) + 1e-6);
  return row.map((v) => v / s);
};

const normShapes: [number[], Layout?, Layout?][] = [
  [[2, 5]],
  [[5]],
  [[2, 3, 4]],
  [[3, 1]],
  [[4, 15]],
  [[4, 17], 'offset', 'transposed'],
  [[7, 131]],
  [[6, 33], 'transposed'],
  [[5, 9], 'dense', 'offset'],
  [[3, 16], 'step', 'misaligned'],
  [[0, 4]],
  [[40, 768]],
  [[3, 31], 'misaligned', 'expanded'],
  [[2, 1500]],
];
const addNorm = (name: 'addLayerNorm' | 'addRmsNorm', norm: (row: Float64Array) => Float64Array): Row => {
  const layer = name === 'addLayerNorm';
  const run = ([x, r, w, b]: Tensor[]): Tensor[] => {
    const last = [x!.shape.at(-1)!];
    const { sum, y } = layer
      ? F.addLayerNorm(x!, r!, last, w, b, { eps: 1e-5 })
      : F.addRmsNorm(x!, r!, last, w, { eps: 1e-6 });
    return [sum, y];
  };
  const parameters = (d: number): InputSpec[] => [
    { shape: [d], values: 'positive' },
    ...(layer ? [{ shape: [d] }] : []),
  ];
  return {
    name,
    dtypes: FLOATS,
    samples: normShapes.flatMap(([shape, first = 'dense', second = 'dense'], i) =>
      [true, false].map((affine) => ({
        label: `[${shape}] ${first} + ${second}, affine ${affine}`,
        inputs: [{ shape, layout: first }, { shape, layout: second }, ...(affine ? parameters(shape.at(-1)!) : [])],
        gradcheck: i < 3,
      })),
    ),
    run,
    // What is normalised is the sum as it is returned.
    reference: ([x, r, w, b], _, dtype) => {
      const sum = zip((u, v) => u + v, x!, r!);
      const y = alongAxis(
        sum.map((v) => roundTo(dtype, v)),
        -1,
        norm,
      );
      return [sum, zip((v, s, t) => v * s + t, y, w ?? new Nd([], [1]), b ?? new Nd([], [0]))];
    },
    tolerance: close(96),
    differentiable: [0, 1, 2, 3],
    errors: [
      ...tensorErrors(name, (x: Tensor) => F[name](x, zeros([2]), [2])),
      {
        label: 'the residual is none',
        run: () => F[name](zeros([2, 3]), 'x' as never, [3]),
        code: 'FOVEA_ARGUMENT',
        mentions: new RegExp(`${name}.*residual`),
      },
      {
        label: 'the residual has another shape',
        run: () => F[name](zeros([2, 3]), zeros([3]), [3]),
        code: 'FOVEA_SHAPE',
        mentions: new RegExp(`${name}.*residual.*\\[2,3\\].*\\[3\\]`),
      },
      {
        label: 'the residual has another dtype',
        run: () => F[name](zeros([2, 3]), zeros([2, 3], { dtype: 'float64' }), [3]),
        code: 'FOVEA_DTYPE',
        mentions: new RegExp(`${name}.*residual`),
      },
      {
        label: 'the shape differs',
        run: () => F[name](zeros([2, 3]), zeros([2, 3]), [4]),
        code: 'FOVEA_SHAPE',
        mentions: new RegExp(name),
      },
    ],
  };
};

const apartSamples = (): Sample[] =>
  (
    [
      [[7]],
      [[3, 5]],
      [[2, 3, 4], 'dense', 'transposed'],
      [[1]],
      [[4, 15]],
      [[4, 17], 'offset', 'misaligned'],
      [[6, 33], 'transposed'],
      [[3, 16], 'step', 'dense'],
      [[4, 6], 'expanded', 'offset'],
      [[0, 4]],
      [[3, 0]],
      [[9, 1031]],
      [[70_001]],
    ] as [number[], Layout?, Layout?][]
  ).map(([shape, first = 'dense', second = 'dense'], i) => ({
    label: `[${shape}] ${first}, ${second}`,
    // Far below 0 a gelu is a small difference, in the reference too.
    inputs: [
      { shape, layout: first, values: i < 12 ? 'normal' : 'unit' },
      { shape, layout: second },
    ],
    gradcheck: i < 3,
  }));
const halvesSamples = (): Sample[] =>
  (
    [
      [[6]],
      [[3, 4]],
      [[2, 3, 4], 'transposed'],
      [[5, 30]],
      [[4, 34], 'offset'],
      [[3, 16], 'step'],
      [[4, 6], 'expanded'],
      [[0, 4]],
      [[3, 0]],
      [[7, 2062], 'misaligned'],
      [[35, 2048]],
    ] as [number[], Layout?][]
  ).map(([shape, layout = 'dense'], i) => ({
    label: `halves of [${shape}] ${layout}`,
    inputs: [{ shape, layout, values: i < 3 ? 'normal' : 'unit' }],
    gradcheck: i < 3,
  }));
const specialSample: Sample = {
  label: 'special values',
  inputs: [
    { shape: [16], values: 'special' },
    { shape: [16], values: 'normal' },
  ],
};

/** act(gate) up of two tensors, or of the halves of one. */
function product([x, up]: Nd[], act: (v: number) => number): Nd {
  if (up) return zip((g, u) => act(g) * u, x!, up);
  const n = x!.shape.at(-1)! / 2;
  return Nd.from([...x!.shape.slice(0, -1), n], (at) => {
    const leading = at.slice(0, -1);
    const column = at.at(-1)!;
    return act(x!.at([...leading, column])) * x!.at([...leading, n + column]);
  });
}
const gatedErrors = (name: 'swiglu' | 'geglu'): Row['errors'] => [
  ...tensorErrors(name, F[name], zeros([2])),
  {
    label: 'up is none',
    run: () => F[name](zeros([2]), 'x' as never),
    code: 'FOVEA_ARGUMENT',
    mentions: new RegExp(`${name}.*up`),
  },
  {
    label: 'shapes differ',
    run: () => F[name](zeros([2, 3]), zeros([2, 4])),
    code: 'FOVEA_SHAPE',
    mentions: new RegExp(`${name}.*\\[2,3\\].*\\[2,4\\]`),
  },
  {
    label: 'an axis that has no halves',
    run: () => F[name](zeros([2, 3])),
    code: 'FOVEA_SHAPE',
    mentions: new RegExp(`${name}.*even.*\\[2,3\\]`),
  },
  { label: '0-d', run: () => F[name](zeros([])), code: 'FOVEA_SHAPE', mentions: new RegExp(name) },
  {
    label: 'dtypes differ',
    run: () => F[name](zeros([2]), zeros([2], { dtype: 'float64' })),
    code: 'FOVEA_DTYPE',
    mentions: new RegExp(name),
  },
  {
    label: 'integers',
    run: () => F[name](zeros([2], { dtype: 'int32' })),
    code: 'FOVEA_DTYPE',
    mentions: new RegExp(name),
  },
];
const silu = (x: number): number => (x >= 0 ? x / (1 + Math.exp(-x)) : (x * Math.exp(x)) / (1 + Math.exp(x)));
const swiglu: Row = {
  name: 'swiglu',
  dtypes: FLOATS,
  samples: [...apartSamples(), ...halvesSamples(), specialSample],
  run: ([gate, up]) => F.swiglu(gate!, up),
  reference: (x) => product(x, silu),
  tolerance: ulp(5),
  differentiable: [0, 1],
  errors: gatedErrors('swiglu'),
};
const geglu: Row = {
  name: 'geglu',
  dtypes: FLOATS,
  samples: ['none', 'tanh'].flatMap((approximate) =>
    [...apartSamples(), ...halvesSamples(), specialSample].map((s) => ({
      ...s,
      label: `${approximate}, ${s.label}`,
      args: { approximate },
    })),
  ),
  run: ([gate, up], { approximate }) => F.geglu(gate!, up, { approximate: approximate as 'none' | 'tanh' }),
  reference: (x, { approximate }) => product(x, approximate === 'tanh' ? geluTanh : geluErf),
  tolerance: ulp(5),
  differentiable: [0, 1],
  errors: [
    ...gatedErrors('geglu'),
    {
      label: 'an unknown approximation',
      run: () => F.geglu(zeros([2]), null, { approximate: 'erf' as never }),
      code: 'FOVEA_ARGUMENT',
      mentions: /geglu.*approximate/,
    },
  ],
};

export const fusedRows: Row[] = [addNorm('addLayerNorm', standardised), addNorm('addRmsNorm', scaled), swiglu, geglu];
