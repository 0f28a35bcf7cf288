// Softmax, norms and losses.
import { functional as F, type Tensor, tensor, zeros } from 'fovea';
import { dimErrors, tensorErrors } from '../errors.js';
import { alongAxis, Nd, softmaxRow, zip } from '../nd.js';
import { type Args, close, type Row } from '../row.js';
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

export const targets =
  (classes: number, ignored?: number): InputSpec['values'] =>
  (i) =>
    ignored !== undefined && i % 4 === 1 ? ignored : (i * 7) % classes;
export const crossEntropy: Row = {
  name: 'crossEntropy',
  dtypes: FLOATS,
  samples: [
    [3, 5],
    [1, 2],
    [7, 131],
    [2, 50_257],
    [16, 17],
    [9, 1],
    [5, 33],
  ].flatMap(([n, c], i) =>
    [{}, { labelSmoothing: 0.1 }, { reduction: 'sum' }, { reduction: 'none', ignoreIndex: 1 }].map((args: Args) => ({
      label: `[${n},${c}] ${JSON.stringify(args)}`,
      inputs: [
        { shape: [n!, c!] },
        {
          shape: [n!],
          dtype: 'int64' as const,
          values: targets(c!, args['ignoreIndex'] as number | undefined) as (i: number) => number,
        },
      ],
      args,
      gradcheck: i < 2,
    })),
  ),
  run: ([x, t], args) => F.crossEntropy(x!, t!, args),
  reference: ([x, t], { labelSmoothing = 0, reduction = 'mean', ignoreIndex = -100 }) => {
    const log = alongAxis(x!, -1, logSoftmaxRow);
    const c = x!.shape[1]!;
    const s = labelSmoothing as number;
    const loss = t!
      .map((target) => target)
      .data.map((target, i) => {
        if (target === ignoreIndex) return 0;
        let uniform = 0;
        for (let j = 0; j < c; j++) uniform -= log.at([i, j]) / c;
        return -(1 - s) * log.at([i, target]) + s * uniform;
      });
    if (reduction === 'none') return new Nd([loss.length], loss);
    const total = loss.reduce((a, b) => a + b, 0);
    return new Nd([], [reduction === 'sum' ? total : total / t!.data.filter((v) => v !== ignoreIndex).length]);
  },
  tolerance: relaxed,
  differentiable: [0],
  errors: [
    ...tensorErrors('crossEntropy', F.crossEntropy, tensor([0], { dtype: 'int64' })),
    {
      label: 'lengths differ',
      run: () => F.crossEntropy(zeros([2, 3]), tensor([0], { dtype: 'int64' })),
      code: 'FOVEA_SHAPE',
      mentions: /crossEntropy/,
    },
    {
      label: 'a class that does not exist',
      run: () => F.crossEntropy(zeros([1, 3]), tensor([3], { dtype: 'int64' })).dataSync(),
      code: 'FOVEA_INDEX',
      mentions: /3/,
    },
    {
      label: 'an unknown reduction',
      run: () => F.crossEntropy(zeros([1, 3]), tensor([0], { dtype: 'int64' }), { reduction: 'max' as never }),
      code: 'FOVEA_ARGUMENT',
      mentions: /reduction/,
    },
  ],
};

const lossShapes: number[][] = [[], [1], [5], [3, 4], [2, 3, 4], [131], [17], [33, 2], [1, 1], [70_001], [6, 7], [15]];
const twoInputLoss = (
  name: 'mseLoss' | 'binaryCrossEntropyWithLogits' | 'klDiv',
  f: (x: number, y: number) => number,
  second: InputSpec['values'],
  differentiable: number[],
): Row => ({
  name,
  dtypes: FLOATS,
  samples: lossShapes.flatMap((shape, i) =>
    (['mean', 'sum', 'none'] as const).map((reduction) => ({
      label: `[${shape}] ${reduction}`,
      inputs: [{ shape }, { shape, values: second! }],
      args: { reduction },
      gradcheck: i < 5,
    })),
  ),
  run: ([x, y], args) => F[name](x!, y!, args),
  reference: ([x, y], { reduction }) => {
    const loss = zip(f, x!, y!);
    const total = loss.data.reduce((a, b) => a + b, 0);
    return reduction === 'none' ? loss : new Nd([], [reduction === 'sum' ? total : total / loss.size]);
  },
  // Composed of ops that each round; in klDiv y log y and y x nearly cancel, so that their roundings outweigh the result.
  tolerance: close(512, { roundings: name === 'klDiv' ? 16 : 4 }),
  differentiable,
  errors: [
    ...tensorErrors(name, F[name], tensor([1])),
    {
      label: 'shapes differ',
      run: () => F[name](zeros([2, 3]), zeros([2, 4])),
      code: 'FOVEA_SHAPE',
      mentions: /3.*4/s,
    },
    {
      label: 'an unknown reduction',
      run: () => F[name](zeros([2]), zeros([2]), { reduction: 'max' as never }),
      code: 'FOVEA_ARGUMENT',
      mentions: /reduction/,
    },
  ],
});

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
  crossEntropy,
  twoInputLoss('mseLoss', (x, y) => (x - y) ** 2, 'normal', [0, 1]),
  twoInputLoss(
    'binaryCrossEntropyWithLogits',
    (x, y) => Math.max(x, 0) - x * y + Math.log1p(Math.exp(-Math.abs(x))),
    'unit',
    [0],
  ),
  twoInputLoss('klDiv', (x, y) => (y > 0 ? y * (Math.log(y) - x) : 0), 'positive', [0]),
];
