// Softmax and norms.
import { functional as F, type Tensor, zeros } from 'fovea';
import { dimErrors, tensorErrors } from '../errors.js';
import { alongAxis, Nd, softmaxRow, zip } from '../nd.js';
import { close, type Row } from '../row.js';
import { FLOATS, type InputSpec, type Layout, type Sample } from '../samples.js';

const relaxed = close(64, { floor: 1 });

const rowSamples = (): Sample[] =>
  (
    [
      [[5], 0],
      [[1], 0],
      [[3, 5], -1],
      [[3, 5], 0],
      [[2, 3, 4], 1],
      [[131], 0],
      [[4, 15], 1],
      [[4, 17], 1],
      [[6, 33], 1, 'transposed'],
      [[5, 9], -1, 'offset'],
      [[3, 16], 1, 'step'],
      [[4, 6], 0, 'expanded'],
      [[3, 31], 1, 'misaligned'],
      [[0, 4], 1],
      [[3, 0], 0],
      [[2, 50_257], 1],
    ] as [number[], number, Layout?][]
  ).map(([shape, dim, layout], i) => ({
    label: `[${shape}] dim ${dim} ${layout ?? ''}`,
    inputs: [{ shape, ...(layout ? { layout } : {}) }],
    args: { dim },
    gradcheck: i < 5,
  }));

const softmaxLike = (name: 'softmax' | 'logSoftmax', f: (row: Float64Array) => Float64Array): Row => ({
  name,
  dtypes: FLOATS,
  samples: rowSamples(),
  run: ([x], { dim }) => F[name](x!, dim as number),
  reference: ([x], { dim }) => alongAxis(x!, dim as number, f),
  tolerance: relaxed,
  differentiable: [0],
  errors: [...tensorErrors(name, F[name], 0), ...dimErrors(name, (x, dim) => F[name](x, dim))],
});
const logSoftmaxRow = (row: Float64Array): Float64Array => {
  const top = row.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  const lse = top + Math.log(row.reduce((a, b) => a + Math.exp(b - top), 0));
  return row.map((v) => v - lse);
};

const mean = (row: Float64Array): number => row.reduce((a, b) => a + b, 0) / row.length;
const normRow = (name: 'layerNorm' | 'rmsNorm', eps: number, standardise: (row: Float64Array) => Float64Array): Row => {
  const bias = name === 'layerNorm';
  const shapes: [number[], Layout?][] = [
    [[2, 5]],
    [[5]],
    [[2, 3, 4]],
    [[3, 1]],
    [[4, 15]],
    [[4, 17]],
    [[7, 131]],
    [[6, 33], 'transposed'],
    [[5, 9], 'offset'],
    [[3, 16], 'step'],
    [[0, 4]],
    [[40, 768]],
    [[3, 31], 'misaligned'],
    [[4, 6], 'expanded'],
  ];
  const parameters = (d: number): InputSpec[] => [
    { shape: [d], values: 'positive' },
    ...(bias ? [{ shape: [d] }] : []),
  ];
  const run = ([x, w, b]: Tensor[]): Tensor =>
    bias ? F.layerNorm(x!, [x!.shape.at(-1)!], w, b, { eps }) : F.rmsNorm(x!, [x!.shape.at(-1)!], w, { eps });
  return {
    name,
    dtypes: FLOATS,
    samples: shapes.flatMap(([shape, layout], i) =>
      [true, false].map((affine) => ({
        label: `[${shape}] ${layout ?? ''} affine ${affine}`,
        inputs: [{ shape, ...(layout ? { layout } : {}) }, ...(affine ? parameters(shape.at(-1)!) : [])],
        gradcheck: i < 3,
      })),
    ),
    run,
    reference: ([x, w, b]) => {
      const y = alongAxis(x!, -1, standardise);
      return zip((v, s, t) => v * s + t, y, w ?? new Nd([], [1]), b ?? new Nd([], [0]));
    },
    tolerance: close(96),
    differentiable: [0, 1, 2],
    errors: [
      ...tensorErrors(name, (x: Tensor) => F[name](x, [2])),
      {
        label: 'the shape differs',
        run: () => F[name](zeros([2, 3]), [4]),
        code: 'FOVEA_SHAPE',
        mentions: new RegExp(name),
      },
      {
        label: 'the weight differs',
        run: () => F[name](zeros([2, 3]), [3], zeros([4])),
        code: 'FOVEA_SHAPE',
        mentions: new RegExp(`${name}.*weight|weight.*${name}`, 's'),
      },
    ],
  };
};

export const networkRows: Row[] = [
  softmaxLike('softmax', softmaxRow),
  softmaxLike('logSoftmax', logSoftmaxRow),
  normRow('layerNorm', 1e-5, (row) => {
    const m = mean(row);
    const s = Math.sqrt(mean(row.map((v) => (v - m) ** 2)) + 1e-5);
    return row.map((v) => (v - m) / s);
  }),
  normRow('rmsNorm', 1e-6, (row) => {
    const s = Math.sqrt(mean(row.map((v) => v * v)) + 1e-6);
    return row.map((v) => v / s);
  }),
];
