// Windows as columns, and columns added up.
import { functional as F, type Tensor, zeros } from 'fovea';
import { tensorErrors } from '../errors.js';
import { count, indices, Nd } from '../nd.js';
import type { Args, Row } from '../row.js';
import { FLOATS, type Layout, type Sample } from '../samples.js';
import { along, eachTap, offset, refused, type Size, type Steps, windowsOf } from './windows.js';

const columnSample = (
  shape: number[],
  kernel: Size,
  steps: Steps = {},
  layout: Layout = 'dense',
  gradcheck = false,
): Sample => ({
  label: `[${shape}] ${layout}, windows ${JSON.stringify(kernel)} ${JSON.stringify(steps)}`,
  inputs: [{ shape, layout }],
  args: { kernel, steps },
  gradcheck,
});
const kernelOf = ({ kernel }: Args): number[] => [0, 1].map((i) => along(kernel as Size, i, 1));
const stepsOf = ({ steps }: Args): Steps => steps as Steps;
const unfold: Row = {
  name: 'unfold',
  dtypes: FLOATS,
  samples: [
    columnSample([2, 3, 4, 5], 2, {}, 'dense', true),
    columnSample([1, 2, 5, 4], [3, 2], { padding: [1, 0], stride: 2 }, 'transposed', true),
    columnSample([2, 5, 5], 2, { dilation: [2, 3] }, 'dense', true),
    columnSample([1, 1, 1, 1], 1),
    columnSample([0, 3, 4, 4], 2),
    columnSample([2, 0, 4, 4], 2),
    columnSample([1, 3, 8, 8], 4, { stride: 4 }),
    columnSample([2, 3, 7, 9], 3, { padding: 2 }, 'step'),
    columnSample([1, 2, 6, 17], [1, 5], { stride: [1, 3], padding: [0, 2] }, 'offset'),
    columnSample([3, 2, 4, 4], 3, {}, 'expanded'),
    columnSample([1, 3, 15, 13], 3, { dilation: 2, padding: 2 }, 'misaligned'),
    columnSample([1, 40, 31, 30], 3, { padding: 1 }),
  ],
  run: ([x], args) => F.unfold(x!, args['kernel'] as Size, stepsOf(args) as object),
  reference: ([given], args) => {
    const kernel = kernelOf(args);
    const x = given!.shape.length === 4 ? given! : given!.reshape([1, ...given!.shape]);
    const [b, c, ...sizes] = x.shape as [number, number, number, number];
    const windows = windowsOf(stepsOf(args), sizes, kernel);
    const shape = [b, c * count(kernel), count(windows)];
    const y = new Float64Array(count(shape));
    for (const plane of indices([b, c]))
      eachTap(stepsOf(args), sizes, windows, kernel, (place, window, tap) => {
        const at = [plane[0]!, plane[1]! * count(kernel) + offset(kernel, tap), offset(windows, window)];
        y[offset(shape, at)] = x.data[offset(x.shape, [...plane, ...place])]!;
      });
    return new Nd(given!.shape.length === 4 ? shape : shape.slice(1), y);
  },
  tolerance: { kind: 'exact' },
  differentiable: [0],
  errors: [
    ...tensorErrors('unfold', (x: Tensor) => F.unfold(x, 2)),
    refused('a vector', () => F.unfold(zeros([4]), 2), 'FOVEA_SHAPE', /unfold: expected x .*\[4\]/),
    refused('no window', () => F.unfold(zeros([1, 1, 3, 3]), 4), 'FOVEA_SHAPE', /unfold: windows of 4 x 4.*3 x 3/),
    refused('a kernel of nothing', () => F.unfold(zeros([1, 1, 3, 3]), 0), 'FOVEA_ARGUMENT', /unfold.*kernelSize/),
    refused('integers', () => F.unfold(zeros([1, 1, 3, 3], { dtype: 'int32' }), 2), 'FOVEA_DTYPE', /unfold.*int32/),
  ],
};
const foldSample = (
  shape: number[],
  image: Size,
  kernel: Size,
  steps: Steps = {},
  layout: Layout = 'dense',
  gradcheck = false,
): Sample => {
  const made = columnSample(shape, kernel, steps, layout, gradcheck);
  return { ...made, label: `${made.label} into ${JSON.stringify(image)}`, args: { ...made.args, image } };
};
function folded(given: Nd, args: Args): Nd {
  const kernel = kernelOf(args);
  const image = [0, 1].map((i) => along(args['image'] as Size, i, 1));
  const x = given.shape.length === 3 ? given : given.reshape([1, ...given.shape]);
  const [b, rows] = x.shape as [number, number, number];
  const c = rows / count(kernel);
  const windows = windowsOf(stepsOf(args), image, kernel);
  const shape = [b, c, ...image];
  const y = new Float64Array(count(shape));
  for (const plane of indices([b, c]))
    eachTap(stepsOf(args), image, windows, kernel, (place, window, tap) => {
      const at = [plane[0]!, plane[1]! * count(kernel) + offset(kernel, tap), offset(windows, window)];
      y[offset(shape, [...plane, ...place])]! += x.data[offset(x.shape, at)]!;
    });
  return new Nd(given.shape.length === 3 ? shape : shape.slice(1), y);
}
const fold: Row = {
  name: 'fold',
  dtypes: FLOATS,
  samples: [
    foldSample([2, 12, 12], [4, 5], 2, {}, 'dense', true),
    foldSample([1, 12, 6], [5, 4], [3, 2], { padding: [1, 0], stride: 2 }, 'transposed', true),
    foldSample([8, 6], 5, 2, { dilation: [2, 3] }, 'dense', true),
    foldSample([1, 1, 1], 1, 1),
    foldSample([0, 12, 9], 4, 2),
    foldSample([2, 0, 9], 4, 2),
    foldSample([1, 48, 4], 8, 4, { stride: 4 }),
    foldSample([2, 27, 99], [7, 9], 3, { padding: 2 }, 'step'),
    foldSample([1, 10, 36], [6, 17], [1, 5], { stride: [1, 3], padding: [0, 2] }, 'offset'),
    foldSample([3, 18, 4], 4, 3, {}, 'expanded'),
    foldSample([1, 27, 195], [15, 13], 3, { dilation: 2, padding: 2 }, 'misaligned'),
    foldSample([1, 180, 930], [31, 30], 3, { padding: 1 }),
  ],
  run: ([x], args) => F.fold(x!, args['image'] as Size, args['kernel'] as Size, stepsOf(args) as object),
  reference: ([x], args) => folded(x!, args),
  tolerance: {
    kind: 'sum',
    k: ({ args }) => count(kernelOf(args!)),
    magnitude: ([x], { args }) => folded(x!.map(Math.abs), args!),
  },
  differentiable: [0],
  errors: [
    ...tensorErrors('fold', (x: Tensor) => F.fold(x, 3, 2)),
    refused(
      'other columns',
      () => F.fold(zeros([1, 4, 5]), 3, 2),
      'FOVEA_SHAPE',
      /fold: expected x \[b,c · 4,4\].*\[1,4,5\]/,
    ),
    refused(
      'rows that are no multiple of the taps',
      () => F.fold(zeros([1, 6, 4]), 3, 2),
      'FOVEA_SHAPE',
      /fold: .*\[1,6,4\]/,
    ),
    refused('no size', () => F.fold(zeros([1, 4, 4]), 'x' as never, 2), 'FOVEA_ARGUMENT', /fold.*outputSize/),
  ],
};

export const unfoldRows: Row[] = [unfold, fold];
