// Convolutions and transposed ones, by their definition.
import { type Dtype, functional as F, type Tensor, zeros } from 'fovea';
import { tensorErrors } from '../errors.js';
import { count, Nd } from '../nd.js';
import type { Args, ErrorCase, Row } from '../row.js';
import { FLOATS, type InputSpec, type Layout, type Sample } from '../samples.js';
import { eachTap, imageOf, offset, refused, type Steps, windowsOf } from './windows.js';

/** Images with a batch. */
const batched = (x: Nd, w: Nd): Nd => (x.shape.length === w.shape.length ? x : x.reshape([1, ...x.shape]));
/** y[b, o, windows] or, transposed, y[b, c, image]: what both are sums of, and the bias. */
function convolved([given, w, bias]: Nd[], steps: Steps, transposed: boolean): Nd {
  const x = batched(given!, w!);
  const { groups = 1 } = steps;
  const [b, channels, ...sizes] = x.shape as [number, number, ...number[]];
  const [first, second, ...kernel] = w!.shape as [number, number, ...number[]];
  const outs = transposed ? second * groups : first;
  const result = transposed ? imageOf(steps, sizes, kernel) : windowsOf(steps, sizes, kernel);
  const shape = [b, outs, ...result];
  const y = new Float64Array(count(shape));
  const [inEach, outEach] = [channels / groups, outs / groups];
  for (let n = 0; n < b; n++)
    for (let o = 0; o < outs; o++) {
      const g = Math.floor(o / outEach);
      for (let c = g * inEach; c < (g + 1) * inEach; c++)
        eachTap(steps, transposed ? result : sizes, transposed ? sizes : result, kernel, (place, window, tap) => {
          const weight = w!.data[offset(w!.shape, transposed ? [c, o % outEach, ...tap] : [o, c % inEach, ...tap])]!;
          const from = transposed ? window : place;
          y[offset(shape, [n, o, ...(transposed ? place : window)])]! +=
            weight * x.data[offset(x.shape, [n, c, ...from])]!;
        });
    }
  const places = count(result);
  const added = bias ? y.map((v, i) => v + bias.data[Math.floor(i / places) % outs]!) : y;
  return new Nd(given!.shape.length === w!.shape.length ? shape : shape.slice(1), added);
}

interface More extends Steps {
  x?: Layout;
  weight?: Layout;
  bias?: boolean;
  gradcheck?: boolean;
}
/** `shape` of x and of the weight; the bias has a number for each of `outs`. */
function sample(x: number[], weight: number[], outs: number, more: More = {}): Sample {
  const { x: layout = 'dense', weight: weightLayout = 'dense', bias = false, gradcheck = false, ...steps } = more;
  const inputs: InputSpec[] = [
    { shape: x, layout },
    { shape: weight, layout: weightLayout },
    ...(bias ? [{ shape: [outs] }] : []),
  ];
  return { label: `[${x}] ${layout} by [${weight}] ${JSON.stringify(steps)}`, inputs, args: { steps }, gradcheck };
}
type Name = 'conv1d' | 'conv2d' | 'convTranspose1d' | 'convTranspose2d';
function row(name: Name, samples: Sample[], errors: ErrorCase[]): Row {
  const transposed = name.startsWith('convTranspose');
  const options = ({ steps }: Args): object => steps as object;
  return {
    name,
    dtypes: FLOATS,
    samples,
    run: ([x, w, b], args) => F[name](x!, w!, b, options(args)),
    reference: (x, args) => convolved(x, options(args), transposed),
    tolerance: {
      kind: 'sum',
      k: ({ inputs }) =>
        count(inputs[1]!.shape.slice(transposed ? 2 : 1)) * (transposed ? inputs[1]!.shape[0]! : 1) + 1,
      magnitude: (x, { args }) =>
        convolved(
          x.map((v) => v.map(Math.abs)),
          options(args!),
          transposed,
        ),
    },
    differentiable: [0, 1, 2],
    errors: [...tensorErrors(name, F[name], zeros(name.endsWith('1d') ? [1, 1, 1] : [1, 1, 1, 1])), ...errors],
  };
}
const ints = (shape: number[]): Tensor => zeros(shape, { dtype: 'int32' });
const of = (dtype: Dtype, shape: number[]): Tensor => zeros(shape, { dtype });

/** What both refuse in the same words; `w`: the weight of 4 channels in, 6 out, with three taps. */
const commonErrors = (name: Name, x: number[], w: number[], rest: number[]): ErrorCase[] => [
  refused('another rank of x', () => F[name](zeros([3]), zeros(w)), 'FOVEA_SHAPE', new RegExp(`${name}: .*\\[3\\]`)),
  refused(
    'another rank of the weight',
    () => F[name](zeros(x), zeros([4])),
    'FOVEA_SHAPE',
    new RegExp(`${name}.*weight`),
  ),
  refused(
    'a weight that is none',
    () => F[name](zeros(x), 3 as never),
    'FOVEA_ARGUMENT',
    new RegExp(`${name}.*weight`),
  ),
  refused('integers', () => F[name](ints(x), ints(w)), 'FOVEA_DTYPE', new RegExp(`${name}: expected floats.*int32`)),
  refused(
    'a weight of integers',
    () => F[name](zeros(x), ints(w)),
    'FOVEA_DTYPE',
    new RegExp(`${name}: expected floats for weight.*int32`),
  ),
  refused(
    'groups that do not divide the filters',
    () => F[name](zeros(x), zeros(w), null, { groups: 5 }),
    'FOVEA_SHAPE',
    new RegExp(`${name}: .*filters.*5 groups`),
  ),
  refused(
    'channels of other groups',
    () => F[name](zeros([x[0]!, 5, ...x.slice(2)]), zeros(w)),
    'FOVEA_SHAPE',
    new RegExp(`${name}: x .* has 5 channels, but .* takes 4`),
  ),
  refused('no groups', () => F[name](zeros(x), zeros(w), null, { groups: 0 }), 'FOVEA_ARGUMENT', /groups/),
  refused(
    'a bias of another length',
    () => F[name](zeros(x), zeros(w), zeros([4])),
    'FOVEA_SHAPE',
    new RegExp(`${name}: .*bias \\[6\\], received \\[4\\]`),
  ),
  refused('a stride of 0', () => F[name](zeros(x), zeros(w), null, { stride: 0 }), 'FOVEA_ARGUMENT', /stride.*0/),
  refused(
    'a negative padding',
    () => F[name](zeros(x), zeros(w), null, { padding: -1 }),
    'FOVEA_ARGUMENT',
    /padding.*-1/,
  ),
  refused(
    'too many strides',
    () => F[name](zeros(x), zeros(w), null, { stride: [1, 1, 1] }),
    'FOVEA_ARGUMENT',
    /stride/,
  ),
  refused(
    'a kernel of no taps',
    () => F[name](zeros(x), zeros([...w.slice(0, 2), ...rest])),
    'FOVEA_SHAPE',
    /kernel|tap/,
  ),
  refused(
    'a misspelt option',
    () => F[name](zeros(x), zeros(w), null, { strides: 2 } as never),
    'FOVEA_ARGUMENT',
    /strides/,
  ),
];

const conv1d = row(
  'conv1d',
  [
    sample([2, 3, 9], [4, 3, 3], 4, { padding: 1, bias: true, gradcheck: true }),
    sample([1, 4, 10], [6, 2, 3], 6, { stride: 2, groups: 2, gradcheck: true }),
    sample([1, 2, 7], [2, 1, 2], 2, { groups: 2, dilation: 2, x: 'transposed', gradcheck: true }),
    sample([3, 8], [2, 3, 4], 2, { bias: true, padding: [2], stride: [3] }),
    sample([1, 1, 1], [1, 1, 1], 1),
    sample([2, 5, 31], [7, 5, 5], 7, { padding: 'same' }),
    sample([2, 5, 31], [7, 5, 4], 7, { padding: 'same', dilation: 3, bias: true }),
    sample([1, 3, 17], [15, 3, 3], 15, { padding: 'valid', x: 'step', weight: 'offset' }),
    sample([0, 3, 9], [2, 3, 3], 2, { bias: true }),
    sample([2, 3, 20], [0, 3, 3], 0),
    sample([1, 131, 40], [19, 131, 7], 19, { padding: 3, x: 'misaligned' }),
    sample([4, 2, 6], [3, 2, 6], 3, { x: 'expanded' }),
    sample([1, 2, 700], [3, 2, 9], 3, { stride: 5, padding: 4, bias: true }),
  ],
  [
    ...commonErrors('conv1d', [1, 4, 9], [6, 4, 3], [0]),
    refused(
      'a kernel beyond the padded input',
      () => F.conv1d(zeros([1, 1, 3]), zeros([1, 1, 6]), null, { padding: 1 }),
      'FOVEA_SHAPE',
      /conv1d: the kernel spans \[6\].*padded input \[5\]/,
    ),
    refused(
      "'same' with a stride",
      () => F.conv1d(zeros([1, 1, 9]), zeros([1, 1, 3]), null, { padding: 'same', stride: 2 }),
      'FOVEA_ARGUMENT',
      /conv1d: expected 1 with padding 'same' for stride, received 2/,
    ),
    refused(
      'another word',
      () => F.conv1d(zeros([1, 1, 9]), zeros([1, 1, 3]), null, { padding: 'full' as never }),
      'FOVEA_ARGUMENT',
      /conv1d.*'same' or 'valid'.*full/,
    ),
  ],
);
const conv2d = row(
  'conv2d',
  [
    sample([2, 3, 5, 6], [4, 3, 3, 3], 4, { padding: 1, bias: true, gradcheck: true }),
    sample([1, 4, 6, 7], [6, 2, 3, 2], 6, { stride: [2, 3], groups: 2, gradcheck: true }),
    sample([1, 3, 5, 5], [3, 1, 3, 3], 3, { groups: 3, padding: 'same', bias: true, gradcheck: true, x: 'transposed' }),
    sample([1, 1, 7, 6], [2, 1, 2, 3], 2, { stride: [3, 2], dilation: [2, 2], padding: [1, 2], gradcheck: true }),
    sample([3, 8, 9], [2, 3, 4, 4], 2, { stride: 4, bias: true }),
    sample([1, 1, 1, 1], [1, 1, 1, 1], 1),
    sample([2, 4, 8, 8], [5, 4, 1, 1], 5, { stride: 2 }),
    sample([1, 2, 9, 11], [3, 2, 5, 4], 3, { padding: 'same', dilation: [1, 2] }),
    sample([2, 3, 12, 12], [17, 3, 4, 4], 17, { stride: 4, x: 'step', weight: 'transposed', bias: true }),
    sample([0, 3, 5, 5], [2, 3, 3, 3], 2),
    sample([1, 6, 13, 10], [12, 1, 5, 3], 12, { groups: 6, padding: [2, 1], stride: 2, x: 'offset' }),
    sample([1, 90, 5, 7], [16, 90, 3, 3], 16, { padding: 1, weight: 'misaligned' }),
    sample([3, 2, 4, 3], [3, 2, 2, 2], 3, { x: 'expanded', bias: true }),
    sample([1, 2, 1, 40], [33, 2, 1, 3], 33, { padding: [0, 1] }),
    sample([1, 3, 40, 35], [8, 3, 7, 7], 8, { stride: 2, padding: 3, bias: true }),
  ],
  [
    ...commonErrors('conv2d', [1, 4, 9, 9], [6, 4, 3, 3], [0, 3]),
    refused(
      'a kernel beyond the padded input',
      () => F.conv2d(zeros([1, 1, 3, 9]), zeros([1, 1, 3, 3]), null, { dilation: [2, 1] }),
      'FOVEA_SHAPE',
      /conv2d: the kernel spans \[5,3\].*padded input \[3,9\]/,
    ),
    refused(
      "'same' with a stride",
      () => F.conv2d(zeros([1, 1, 9, 9]), zeros([1, 1, 3, 3]), null, { padding: 'same', stride: [2, 1] }),
      'FOVEA_ARGUMENT',
      /conv2d: expected 1 with padding 'same' for stride, received 2/,
    ),
    refused(
      'planes of 2^64 elements',
      () => F.conv2d(zeros([1, 1, 4, 4]), zeros([1, 1, 2, 2]), null, { dilation: 2 ** 32 - 4, padding: 2 ** 31 - 2 }),
      'FOVEA_SHAPE',
      /conv2d: images of \[4294967296,4294967296\], padding included, are too large/,
    ),
    refused(
      'a bias of integers alone',
      () => F.conv2d(zeros([1, 1, 3, 3]), of('float32', [1, 1, 1, 1]), [1] as never),
      'FOVEA_ARGUMENT',
      /conv2d.*bias/,
    ),
  ],
);
const transposeErrors = (name: 'convTranspose1d' | 'convTranspose2d', x: number[], w: number[]): ErrorCase[] => [
  refused(
    'padding beyond what can be counted',
    () => F[name](zeros(x), zeros(w), null, { dilation: 2 ** 42, padding: 2 ** 42 }),
    'FOVEA_SHAPE',
    /are too large/,
  ),
  ...commonErrors(
    name,
    x,
    w,
    x.slice(2).map(() => 0),
  ),
  refused(
    'as much behind as the stride',
    () => F[name](zeros(x), zeros(w), null, { stride: 2, outputPadding: 2 }),
    'FOVEA_ARGUMENT',
    new RegExp(`${name}: expected less than the stride.*outputPadding, received 2`),
  ),
  refused(
    'nothing left',
    () => F[name](zeros(x), zeros(w), null, { padding: 9 }),
    'FOVEA_SHAPE',
    new RegExp(`${name}: x .* gives a result of size \\[-`),
  ),
];
const convTranspose1d = row(
  'convTranspose1d',
  [
    sample([2, 3, 5], [3, 4, 3], 4, { padding: 1, bias: true, gradcheck: true }),
    sample([1, 4, 5], [4, 3, 3], 6, { stride: 2, groups: 2, outputPadding: 1, gradcheck: true }),
    sample([1, 2, 4], [2, 1, 2], 2, { stride: 3, dilation: 2, groups: 2, x: 'transposed', gradcheck: true }),
    sample([3, 8], [3, 2, 4], 2, { bias: true, padding: [2], stride: [3] }),
    sample([1, 1, 1], [1, 1, 1], 1),
    sample([2, 5, 31], [5, 7, 5], 7, { stride: 5 }),
    sample([1, 3, 17], [3, 15, 3], 15, { x: 'step', weight: 'offset' }),
    sample([0, 3, 9], [3, 2, 3], 2, { bias: true }),
    sample([2, 3, 20], [3, 0, 3], 0),
    sample([1, 131, 40], [131, 19, 7], 19, { padding: 3, x: 'misaligned' }),
    sample([4, 2, 6], [2, 3, 6], 3, { x: 'expanded', stride: 2 }),
    sample([1, 2, 90], [2, 3, 2], 3, { stride: 4, bias: true, outputPadding: 3 }),
  ],
  transposeErrors('convTranspose1d', [1, 4, 5], [4, 6, 3]),
);
const convTranspose2d = row(
  'convTranspose2d',
  [
    sample([2, 3, 4, 3], [3, 4, 3, 3], 4, { padding: 1, bias: true, gradcheck: true }),
    sample([1, 4, 3, 4], [4, 3, 3, 2], 6, { stride: [2, 3], groups: 2, outputPadding: [1, 2], gradcheck: true }),
    sample([1, 2, 3, 3], [2, 1, 2, 3], 2, { stride: 2, dilation: [3, 2], groups: 2, x: 'transposed', gradcheck: true }),
    sample([3, 8, 9], [3, 2, 4, 4], 2, { stride: 4, bias: true }),
    sample([1, 1, 1, 1], [1, 1, 1, 1], 1),
    sample([2, 5, 6, 7], [5, 7, 2, 2], 7, { stride: 2 }),
    sample([1, 3, 7, 5], [3, 15, 4, 4], 15, { stride: 2, padding: 1, x: 'step', weight: 'offset' }),
    sample([0, 3, 4, 4], [3, 2, 3, 3], 2, { bias: true }),
    sample([1, 3, 5, 6], [3, 2, 1, 1], 2, { stride: 3, bias: true }),
    sample([1, 70, 5, 4], [70, 19, 3, 3], 19, { padding: 1, x: 'misaligned' }),
    sample([4, 2, 3, 3], [2, 3, 3, 3], 3, { x: 'expanded', stride: 2 }),
    sample([1, 2, 9, 9], [2, 3, 5, 5], 3, { stride: 3, padding: 2, bias: true }),
  ],
  transposeErrors('convTranspose2d', [1, 4, 5, 5], [4, 6, 3, 3]),
);

export const convRows: Row[] = [conv1d, conv2d, convTranspose1d, convTranspose2d];
