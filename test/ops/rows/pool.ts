// Pooling by its definition.
import { functional as F, type Tensor, zeros } from 'fovea';
import { tensorErrors } from '../errors.js';
import { indices, Nd } from '../nd.js';
import { type Args, type ErrorCase, exact, type Row, type Tolerance } from '../row.js';
import { FLOATS, type InputSpec, type Layout, type Sample } from '../samples.js';
import { along, refused, type Size } from './windows.js';

interface Options {
  stride?: Size;
  padding?: Size;
  dilation?: Size;
  ceilMode?: boolean;
  countIncludePad?: boolean;
  returnIndices?: boolean;
}
/** What window w along one dimension reads, and how many elements count in a mean. */
interface Window {
  places: number[];
  elements: number;
}
function windowsAlong(size: number, kernel: Size, o: Options, i: number): Window[] {
  const k = along(kernel, i, 1);
  const [stride, padding, dilation] = [along(o.stride, i, k), along(o.padding, i, 0), along(o.dilation, i, 1)];
  const windows: Window[] = [];
  for (let start = -padding; o.ceilMode ? start < size : start + dilation * (k - 1) < size + padding; start += stride) {
    // ceilMode: one more window where elements are left, which must begin before the padding behind
    if (o.ceilMode && start + dilation * (k - 1) - stride >= size + padding - 1) break;
    const taps = Array.from({ length: k }, (_, t) => start + t * dilation);
    const places = taps.filter((p) => p >= 0 && p < size);
    const padded = taps.filter((p) => p < size + padding).length;
    windows.push({ places, elements: o.countIncludePad === false ? places.length : padded });
  }
  return windows;
}
const adaptiveAlong = (size: number, n: number): Window[] =>
  Array.from({ length: n }, (_, w) => {
    const [begin, end] = [Math.floor((w * size) / n), Math.ceil(((w + 1) * size) / n)];
    return { places: Array.from({ length: end - begin }, (_unused, i) => begin + i), elements: end - begin };
  });

/** `dims` axes of x in windows: what `reduce` makes of the elements of each, with their places in the image. */
function pooled(
  x: Nd,
  windows: Window[][],
  reduce: (values: number[], places: number[], elements: number) => number,
): Nd {
  const dims = windows.length;
  const leading = x.shape.slice(0, -dims);
  const sizes = x.shape.slice(-dims);
  const shape = [...leading, ...windows.map((w) => w.length)];
  return Nd.from(shape, (at) => {
    const own = windows.map((w, i) => w[at[leading.length + i]!]!);
    const values: number[] = [];
    const places: number[] = [];
    for (const index of indices(own.map((w) => w.places.length))) {
      const place = index.map((j, i) => own[i]!.places[j]!);
      values.push(x.at([...at.slice(0, leading.length), ...place]));
      places.push(place.reduce((sum, p, i) => sum * sizes[i]! + p, 0));
    }
    return reduce(
      values,
      places,
      own.reduce((n, w) => n * w.elements, 1),
    );
  });
}
const mean = (values: number[], _: number[], elements: number): number => values.reduce((a, b) => a + b, 0) / elements;
/** By the shape of the image. */
type WindowsOf = (shape: readonly number[], args: Args) => Window[][];
/** A mean is a sum of as many elements as its window has, at most as the largest. */
const asMeans = (windows: WindowsOf): Tolerance => ({
  kind: 'sum',
  k: ({ inputs: [x], args }) =>
    windows(x!.shape, args!).reduce((n, row) => n * Math.max(...row.map(({ elements }) => elements)), 1),
  magnitude: ([x], { args }) => pooled(x!.map(Math.abs), windows(x!.shape, args!), mean),
});
const largestAt = (values: number[]): number =>
  values.reduce((best, v, i) => (v > values[best]! || Number.isNaN(v) ? i : best), 0);
const largest = (values: number[]): number => values[largestAt(values)]!;
const whereLargest = (values: number[], places: number[]): number => places[largestAt(values)]!;

const sample = (
  shape: number[],
  size: unknown,
  options: Options = {},
  more: { layout?: Layout; values?: InputSpec['values']; gradcheck?: boolean } = {},
): Sample => ({
  label: `[${shape}] ${more.layout ?? ''} windows ${JSON.stringify(size)} ${JSON.stringify(options)}`,
  inputs: [{ shape, layout: more.layout ?? 'dense', values: more.values ?? 'distinct' }],
  args: { size, options },
  gradcheck: more.gradcheck ?? false,
});
const optionsOf = ({ options }: Args): Options => options as Options;
const ints = (shape: number[]): Tensor => zeros(shape, { dtype: 'int64' });

type Pool = 'avgPool1d' | 'avgPool2d' | 'maxPool1d' | 'maxPool2d';
function poolErrors(name: Pool, shape: number[]): ErrorCase[] {
  const run = F[name] as (x: Tensor, size: never, options?: object) => unknown;
  return [
    ...tensorErrors(name, (x: Tensor) => run(x, 2 as never)),
    refused(
      'another rank',
      () => run(zeros([3]), 2 as never),
      'FOVEA_SHAPE',
      new RegExp(`${name}: expected x .*\\[3\\]`),
    ),
    refused('integers', () => run(ints(shape), 2 as never), 'FOVEA_DTYPE', new RegExp(`${name}.*int64`)),
    refused(
      'windows of nothing',
      () => run(zeros(shape), 0 as never),
      'FOVEA_ARGUMENT',
      new RegExp(`${name}.*kernelSize`),
    ),
    refused(
      'windows larger than the image',
      () => run(zeros(shape), 9 as never),
      'FOVEA_SHAPE',
      new RegExp(`${name}: no window`),
    ),
    refused(
      'too much padding',
      () => run(zeros(shape), 3 as never, { padding: 2 }),
      'FOVEA_ARGUMENT',
      new RegExp(`${name}: expected at most half of.*for padding, received 2`),
    ),
    refused(
      'a stride of 0',
      () => run(zeros(shape), 2 as never, { stride: 0 }),
      'FOVEA_ARGUMENT',
      new RegExp(`${name}.*stride`),
    ),
    refused(
      'a mode that is none',
      () => run(zeros(shape), 2 as never, { ceilMode: 1 }),
      'FOVEA_ARGUMENT',
      new RegExp(`${name}.*ceilMode`),
    ),
    refused('an unknown option', () => run(zeros(shape), 2 as never, { step: 1 }), 'FOVEA_ARGUMENT', /step/),
    refused(
      'no images',
      () => run(zeros([1, 1, ...shape.slice(2).map(() => 0)]), 1 as never),
      'FOVEA_SHAPE',
      new RegExp(name),
    ),
  ];
}
const sequences = (options: Options = {}): Sample[] => [
  sample([2, 3, 8], 2, options, { gradcheck: true }),
  sample([1, 2, 9], 3, { ...options, stride: 2, padding: 1 }, { gradcheck: true, layout: 'transposed' }),
  sample([2, 7], [3], { ...options, stride: [1] }, { gradcheck: true }),
  sample([1, 1, 1], 1, options),
  sample([0, 3, 8], 2, options),
  sample([2, 0, 8], 2, options),
  sample([2, 3, 11], 2, { ...options, stride: 3, ceilMode: true }),
  sample([2, 3, 10], 4, { ...options, padding: 2, ceilMode: true }),
  sample([1, 5, 31], 7, { ...options, stride: 2 }, { layout: 'step' }),
  sample([3, 5, 17], 5, { ...options, stride: 1, padding: 2 }, { layout: 'offset' }),
  sample([4, 2, 9], 3, options, { layout: 'expanded' }),
  sample([2, 3, 1031], 3, { ...options, stride: 2, padding: 1 }, { layout: 'misaligned' }),
];
const images = (options: Options = {}): Sample[] => [
  sample([2, 3, 4, 6], 2, options, { gradcheck: true }),
  sample([1, 2, 5, 6], 3, { ...options, stride: 2, padding: 1 }, { gradcheck: true, layout: 'transposed' }),
  sample([2, 5, 5], [2, 3], { ...options, stride: [1, 2] }, { gradcheck: true }),
  sample([1, 1, 1, 1], 1, options),
  sample([0, 3, 4, 4], 2, options),
  sample([2, 3, 7, 8], 2, { ...options, stride: 3, ceilMode: true }),
  sample([2, 3, 7, 9], 3, { ...options, stride: 2, padding: 1, ceilMode: true }),
  sample([2, 3, 6, 7], [4, 2], { ...options, padding: [2, 1], ceilMode: true }),
  sample([1, 5, 13, 11], 3, { ...options, stride: 1, padding: 1 }, { layout: 'step' }),
  sample([3, 2, 9, 17], [3, 5], { ...options, stride: [3, 1] }, { layout: 'offset' }),
  sample([4, 2, 5, 5], 3, options, { layout: 'expanded' }),
  sample([2, 16, 56, 57], 3, { ...options, stride: 2, padding: 1 }, { layout: 'misaligned' }),
];

const windowsOf =
  (dims: number): WindowsOf =>
  (shape, args) =>
    shape.slice(-dims).map((n, i) => windowsAlong(n, args['size'] as Size, optionsOf(args), i));

function avgPool(name: 'avgPool1d' | 'avgPool2d', dims: number, samples: Sample[]): Row {
  const windows = windowsOf(dims);
  return {
    name,
    dtypes: FLOATS,
    samples,
    run: ([x], args) => F[name](x!, args['size'] as Size, optionsOf(args)),
    reference: ([x], args) => pooled(x!, windows(x!.shape, args), mean),
    tolerance: asMeans(windows),
    differentiable: [0],
    errors: [
      ...poolErrors(name, dims === 1 ? [1, 1, 5] : [1, 1, 5, 5]),
      refused(
        'a count that is no flag',
        () => F[name](zeros(dims === 1 ? [1, 1, 5] : [1, 1, 5, 5]), 2, { countIncludePad: 'no' as never }),
        'FOVEA_ARGUMENT',
        new RegExp(`${name}.*countIncludePad`),
      ),
    ],
  };
}
const asList = (result: unknown): Tensor[] => {
  const { values, indices: places } = result as { values: Tensor; indices: Tensor };
  return values === undefined ? [result as Tensor] : [values, places];
};
function maxPool(name: 'maxPool1d' | 'maxPool2d', dims: number, samples: Sample[]): Row {
  return {
    name,
    dtypes: FLOATS,
    samples,
    run: ([x], args) => asList(F[name](x!, args['size'] as Size, optionsOf(args) as { returnIndices?: false })),
    reference: ([x], args) => {
      const windows = windowsOf(dims)(x!.shape, args);
      const values = pooled(x!, windows, largest);
      return optionsOf(args).returnIndices ? [values, pooled(x!, windows, whereLargest)] : values;
    },
    tolerance: exact,
    differentiable: [0],
    errors: [
      ...poolErrors(name, dims === 1 ? [1, 1, 5] : [1, 1, 5, 5]),
      refused(
        'a window between the edges',
        () => F[name](zeros(dims === 1 ? [1, 1, 1] : [1, 1, 1, 1]), 2, { dilation: 3, padding: 2 }),
        'FOVEA_SHAPE',
        new RegExp(`${name}: a window has no element`),
      ),
    ],
  };
}
const special = (shape: number[], size: unknown, options: Options = {}): Sample =>
  sample(shape, size, options, { values: 'special' });

type AdaptivePool = 'adaptiveAvgPool1d' | 'adaptiveAvgPool2d' | 'adaptiveMaxPool1d' | 'adaptiveMaxPool2d';
const adaptiveWindows =
  (dims: number): WindowsOf =>
  (shape, { size }) =>
    shape.slice(-dims).map((n, i) => {
      const asked = Array.isArray(size) ? (size[i] as number | null) : (size as number);
      return adaptiveAlong(n, asked ?? n);
    });
function adaptivePool(name: AdaptivePool, dims: number): Row {
  const max = name.startsWith('adaptiveMax');
  const shapes: [number[], unknown, Layout?][] =
    dims === 1
      ? [
          [[2, 3, 8], 3],
          [[1, 2, 7], 4, 'transposed'],
          [[2, 5], [2]],
          [[1, 1, 1], 1],
          [[0, 3, 8], 2],
          [[2, 3, 4], 9],
          [[1, 2, 16], 4, 'step'],
          [[3, 5, 17], 5, 'offset'],
          [[4, 2, 9], 2, 'expanded'],
          [[2, 3, 1031], 10, 'misaligned'],
          [[2, 3, 6], [null]],
          [[1, 4, 100], 1],
        ]
      : [
          [[2, 3, 4, 6], 2],
          [[1, 2, 5, 7], [2, 3], 'transposed'],
          [[2, 5, 5], 3],
          [[1, 1, 1, 1], 1],
          [[0, 3, 4, 4], 2],
          [
            [2, 3, 3, 4],
            [5, 9],
          ],
          [[1, 2, 8, 12], 4, 'step'],
          [[3, 2, 9, 17], [3, 5], 'offset'],
          [[4, 2, 5, 5], 2, 'expanded'],
          [[2, 16, 56, 57], 7, 'misaligned'],
          [
            [2, 3, 6, 7],
            [null, 2],
          ],
          [[1, 4, 14, 14], 1],
        ];
  const run = F[name] as (x: Tensor, size: never, options?: object) => unknown;
  const windowsOfAll = adaptiveWindows(dims);
  return {
    name,
    dtypes: FLOATS,
    samples: shapes.flatMap(([shape, size, layout = 'dense'], i) =>
      (max ? [{}, { returnIndices: true }] : [{}]).map((options) =>
        sample(shape, size, options, { layout, gradcheck: i < 3 && !('returnIndices' in options) }),
      ),
    ),
    run: ([x], args) => asList(max ? run(x!, args['size'] as never, optionsOf(args)) : run(x!, args['size'] as never)),
    reference: ([x], args) => {
      const windows = windowsOfAll(x!.shape, args);
      const values = pooled(x!, windows, max ? largest : mean);
      return optionsOf(args).returnIndices ? [values, pooled(x!, windows, whereLargest)] : values;
    },
    tolerance: max ? exact : asMeans(windowsOfAll),
    differentiable: [0],
    errors: [
      ...tensorErrors(name, (x: Tensor) => run(x, 1 as never)),
      refused('another rank', () => run(zeros([3]), 1 as never), 'FOVEA_SHAPE', new RegExp(`${name}: .*\\[3\\]`)),
      refused(
        'no windows',
        () => run(zeros(dims === 1 ? [1, 1, 5] : [1, 1, 5, 5]), 0 as never),
        'FOVEA_ARGUMENT',
        new RegExp(`${name}.*outputSize`),
      ),
      refused(
        'too many sizes',
        () => run(zeros(dims === 1 ? [1, 1, 5] : [1, 1, 5, 5]), [1, 1, 1] as never),
        'FOVEA_ARGUMENT',
        new RegExp(`${name}.*outputSize`),
      ),
      refused(
        'images of nothing',
        () => run(zeros(dims === 1 ? [1, 1, 0] : [1, 1, 0, 5]), 1 as never),
        'FOVEA_SHAPE',
        new RegExp(name),
      ),
      refused(
        'integers',
        () => run(ints(dims === 1 ? [1, 1, 5] : [1, 1, 5, 5]), 1 as never),
        'FOVEA_DTYPE',
        new RegExp(`${name}.*int64`),
      ),
    ],
  };
}

export const poolRows: Row[] = [
  avgPool('avgPool1d', 1, [...sequences(), ...sequences({ countIncludePad: false })]),
  avgPool('avgPool2d', 2, [...images(), ...images({ countIncludePad: false })]),
  maxPool('maxPool1d', 1, [
    ...sequences(),
    ...sequences({ returnIndices: true }).map((s) => ({ ...s, gradcheck: false })),
    sample([2, 3, 20], 3, { dilation: 4, stride: 2, padding: 3 }),
    special([2, 3, 16], 3, { returnIndices: true }),
  ]),
  maxPool('maxPool2d', 2, [
    ...images(),
    ...images({ returnIndices: true }).map((s) => ({ ...s, gradcheck: false })),
    sample([2, 3, 12, 13], [2, 3], { dilation: [3, 2], stride: [2, 1], padding: [1, 2] }),
    special([1, 3, 8, 6], 2, { returnIndices: true }),
  ]),
  adaptivePool('adaptiveAvgPool1d', 1),
  adaptivePool('adaptiveAvgPool2d', 2),
  adaptivePool('adaptiveMaxPool1d', 1),
  adaptivePool('adaptiveMaxPool2d', 2),
];
