// Batch and group normalisation.
import { functional as F, tensor, type Tensor, zeros } from 'fovea';
import { tensorErrors } from '../errors.js';
import { Nd } from '../nd.js';
import { close, type Row } from '../row.js';
import { FLOATS, type InputSpec, type Layout, type Sample } from '../samples.js';
import { refused } from './windows.js';

const EPS = 1e-5;
/** Which elements share a mean with element i of [b, c, ...]: a number for each such set. */
type Sets = (b: number, c: number) => number;
interface Statistics {
  mean: number[];
  variance: number[];
  count: number[];
}
/** Places of [b, c, ...] with their image and channel. */
function eachPlace(x: Nd, body: (i: number, b: number, c: number) => void): void {
  const [, channels = 1] = x.shape;
  const places = x.size / Math.max(1, x.shape[0]! * channels);
  for (let i = 0; i < x.size; i++) {
    const segment = Math.floor(i / places);
    body(i, Math.floor(segment / channels), segment % channels);
  }
}
function statisticsOf(x: Nd, sets: Sets): Statistics {
  const [mean, variance, count]: [number[], number[], number[]] = [[], [], []];
  eachPlace(x, (i, b, c) => {
    const s = sets(b, c);
    count[s] = (count[s] ?? 0) + 1;
    mean[s] = (mean[s] ?? 0) + x.data[i]!;
  });
  for (const s of count.keys()) mean[s]! /= count[s]!;
  eachPlace(x, (i, b, c) => {
    const s = sets(b, c);
    variance[s] = (variance[s] ?? 0) + (x.data[i]! - mean[s]!) ** 2 / count[s]!;
  });
  return { mean, variance, count };
}
function normalised(
  x: Nd,
  { mean, variance }: Statistics,
  sets: Sets,
  weight: Nd | undefined,
  bias: Nd | undefined,
): Nd {
  const y = new Float64Array(x.size);
  eachPlace(x, (i, b, c) => {
    const s = sets(b, c);
    const normal = (x.data[i]! - mean[s]!) / Math.sqrt(variance[s]! + EPS);
    y[i] = normal * (weight?.data[c] ?? 1) + (bias?.data[c] ?? 0);
  });
  return new Nd(x.shape, y);
}

const affineInputs = (c: number): InputSpec[] => [{ shape: [c], values: 'positive' }, { shape: [c] }];
const byChannel: Sets = (_, c) => c;

interface BatchArgs {
  training: boolean;
  running: boolean;
  affine: boolean;
  momentum?: number;
  /** Whether the running ones are among the results. */
  follow: boolean;
}
const batchShapes: [number[], Layout?][] = [
  [[3, 4]],
  [[2, 3, 5]],
  [[2, 3, 2, 3]],
  [[4, 1, 1]],
  [[5, 17]],
  [[2, 5, 131]],
  [[3, 6, 7, 5], 'transposed'],
  [[4, 3, 9], 'offset'],
  [[2, 4, 8, 8], 'step'],
  [[3, 2, 4, 4], 'expanded'],
  [[2, 9, 40, 31], 'misaligned'],
  [[64, 33]],
  [[2, 3, 4, 5, 6]],
];
const batchSample = ([shape, layout = 'dense']: [number[], Layout?], given: BatchArgs, gradcheck = false): Sample => ({
  label: `[${shape}] ${layout} ${JSON.stringify(given)}`,
  inputs: [
    { shape, layout },
    ...(given.running ? [{ shape: [shape[1]!] }, { shape: [shape[1]!], values: 'positive' as const }] : []),
    ...(given.affine ? affineInputs(shape[1]!) : []),
  ],
  args: { ...given },
  gradcheck,
});
/** x, running mean and variance, weight and bias of a sample, where it has them. */
function parts<T>([x, ...rest]: readonly T[], { running, affine }: BatchArgs): (T | undefined)[] {
  const [mean, variance] = running ? rest : [];
  const [weight, bias] = affine ? rest.slice(running ? 2 : 0) : [];
  return [x, mean, variance, weight, bias];
}
const evaluation: BatchArgs = { training: false, running: true, affine: true, follow: false };
const training: BatchArgs = { training: true, running: true, affine: true, momentum: 0.3, follow: true };
const batchNorm: Row = {
  name: 'batchNorm',
  dtypes: FLOATS,
  samples: [
    ...batchShapes.map((s, i) => batchSample(s, evaluation, i < 3)),
    ...batchShapes.map((s) => batchSample(s, training)),
    ...batchShapes.slice(0, 3).map((s) => batchSample(s, { ...training, follow: false }, true)),
    ...batchShapes
      .slice(1, 4)
      .map((s) => batchSample(s, { ...training, running: false, affine: false, follow: false }, true)),
    batchSample([[2, 3, 4]], { ...evaluation, affine: false }, true),
    batchSample([[0, 3, 4]], evaluation),
  ],
  run: (inputs, args) => {
    const given = args as unknown as BatchArgs;
    const [x, mean, variance, weight, bias] = parts(inputs, given);
    // in training they are written to
    const [m, v] = [mean?.clone(), variance?.clone()];
    const momentum = given.momentum === undefined ? {} : { momentum: given.momentum };
    const y = F.batchNorm(x!, m, v, weight, bias, { training: given.training, ...momentum });
    return given.follow ? [y, m!, v!] : y;
  },
  reference: (inputs, args) => {
    const given = args as unknown as BatchArgs;
    const [x, mean, variance, weight, bias] = parts(inputs, given);
    if (!given.training) {
      const statistics = { mean: [...mean!.data], variance: [...variance!.data], count: [] };
      return normalised(x!, statistics, byChannel, weight, bias);
    }
    const own = statisticsOf(x!, byChannel);
    const y = normalised(x!, own, byChannel, weight, bias);
    const { momentum = 0.1 } = given;
    if (!given.follow) return y;
    return [
      y,
      new Nd(
        mean!.shape,
        mean!.data.map((r, c) => r + momentum * (own.mean[c]! - r)),
      ),
      new Nd(
        variance!.shape,
        variance!.data.map((r, c) => r + momentum * ((own.variance[c]! * own.count[c]!) / (own.count[c]! - 1) - r)),
      ),
    ];
  },
  // Of sums of up to 2480 elements, for which 2 sqrt(2480) units would do; 9 were seen at most. Running ones of 16 bits
  // are followed in 16 bits.
  tolerance: close(32, { roundings: 4 }),
  differentiable: [0, 3, 4],
  errors: [
    ...tensorErrors('batchNorm', F.batchNorm),
    refused(
      'a vector',
      () => F.batchNorm(zeros([3]), zeros([3]), zeros([3])),
      'FOVEA_SHAPE',
      /batchNorm: expected x .*\[3\]/,
    ),
    refused(
      'no running ones',
      () => F.batchNorm(zeros([2, 3]), null, null),
      'FOVEA_ARGUMENT',
      /batchNorm.*runningMean/,
    ),
    refused(
      'other channels',
      () => F.batchNorm(zeros([2, 3]), zeros([2]), zeros([3])),
      'FOVEA_SHAPE',
      /batchNorm.*runningMean \[3\], received \[2\]/,
    ),
    refused(
      'another weight',
      () => F.batchNorm(zeros([2, 3]), zeros([3]), zeros([3]), zeros([4])),
      'FOVEA_SHAPE',
      /batchNorm.*weight/,
    ),
    refused(
      'one element for each channel',
      () => F.batchNorm(zeros([1, 3, 1]), null, null, null, null, { training: true }),
      'FOVEA_SHAPE',
      /batchNorm.*more than one element/,
    ),
    refused(
      'integers',
      () => F.batchNorm(zeros([2, 3], { dtype: 'int32' }), zeros([3]), zeros([3])),
      'FOVEA_DTYPE',
      /batchNorm.*int32/,
    ),
    refused(
      'a momentum of axes',
      () => F.batchNorm(zeros([2, 3]), zeros([3]), zeros([3]), null, null, { momentum: tensor([1]) }),
      'FOVEA_ARGUMENT',
      /momentum/,
    ),
    refused(
      'an unknown option',
      () => F.batchNorm(zeros([2, 3]), zeros([3]), zeros([3]), null, null, { train: true } as never),
      'FOVEA_ARGUMENT',
      /train/,
    ),
  ],
};

const groupShapes: [number[], number, Layout?][] = [
  [[2, 4, 5], 2],
  [[2, 6], 3],
  [[3, 4, 2, 3], 4],
  [[1, 1, 2], 1],
  [[2, 3, 131], 1],
  [[2, 32, 7, 5], 8, 'transposed'],
  [[4, 6, 9], 2, 'offset'],
  [[2, 4, 8, 8], 4, 'step'],
  [[3, 2, 4, 4], 1, 'expanded'],
  [[2, 9, 40, 31], 3, 'misaligned'],
  [[0, 4, 5], 2],
  [[5, 64], 4],
  [[2, 4, 3, 4, 5], 2],
];
const setsOf = ({ shape }: Nd, groups: number): Sets => {
  const each = shape[1]! / groups;
  return (b, c) => b * groups + Math.floor(c / each);
};
const groupNorm: Row = {
  name: 'groupNorm',
  dtypes: FLOATS,
  samples: groupShapes.flatMap(([shape, groups, layout = 'dense'], i) =>
    [true, false].map((affine) => ({
      label: `[${shape}] ${layout} in ${groups} groups, affine ${affine}`,
      inputs: [{ shape, layout }, ...(affine ? affineInputs(shape[1]!) : [])],
      args: { groups },
      gradcheck: i < 3,
    })),
  ),
  run: ([x, weight, bias], { groups }) => F.groupNorm(x!, groups as number, weight, bias),
  reference: ([x, weight, bias], { groups }) => {
    const sets = setsOf(x!, groups as number);
    return normalised(x!, statisticsOf(x!, sets), sets, weight, bias);
  },
  // sums of the elements of a group; what they are multiplied by is their magnitude without signs
  tolerance: {
    kind: 'sum',
    k: ({ inputs: [x], args }) =>
      x!.shape.reduce((a, b) => a * b, 1) / (x!.shape[0]! * (args!['groups'] as number) || 1),
    magnitude: ([x, weight, bias], { args }) => {
      const sets = setsOf(x!, args!['groups'] as number);
      const own = statisticsOf(x!, sets);
      const { mean } = statisticsOf(x!.map(Math.abs), sets);
      return normalised(
        x!.map(Math.abs),
        { ...own, mean: mean.map((m) => -m) },
        sets,
        weight?.map(Math.abs),
        bias?.map(Math.abs),
      );
    },
  },
  differentiable: [0, 1, 2],
  errors: [
    ...tensorErrors('groupNorm', (x: Tensor) => F.groupNorm(x, 1)),
    refused('a vector', () => F.groupNorm(zeros([3]), 1), 'FOVEA_SHAPE', /groupNorm: expected x .*\[3\]/),
    refused(
      'groups that do not divide',
      () => F.groupNorm(zeros([2, 6, 3]), 4),
      'FOVEA_SHAPE',
      /groupNorm: the 6 channels.*4 groups/,
    ),
    refused('no groups', () => F.groupNorm(zeros([2, 6]), 0), 'FOVEA_ARGUMENT', /groupNorm.*numGroups/),
    refused(
      'another weight',
      () => F.groupNorm(zeros([2, 6]), 2, zeros([2])),
      'FOVEA_SHAPE',
      /groupNorm.*weight \[6\], received \[2\]/,
    ),
    refused(
      'a weight of integers',
      () => F.groupNorm(zeros([2, 6]), 2, zeros([6], { dtype: 'int32' })),
      'FOVEA_DTYPE',
      /groupNorm.*weight.*int32/,
    ),
    refused('integers', () => F.groupNorm(zeros([2, 6], { dtype: 'int32' }), 2), 'FOVEA_DTYPE', /groupNorm.*int32/),
  ],
};

export const channelNormRows: Row[] = [batchNorm, groupNorm];
