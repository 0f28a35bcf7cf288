/** The taps of windows of images as columns, and columns added up to images. */
import { optionsArg, shapeError } from '../tensor/check.js';
import { sizeOf } from '../tensor/layout.js';
import { slotOf, type Tensor } from '../tensor/tensor.js';
import { foldOp, unfoldOp } from './conv-kernels.js';
import { reshape } from './shape.js';
import { imagesArg, pairArg, spanOf, stepsAt, type Pair, type Steps, type WindowSize } from './window-args.js';

/** Options of `unfold` and `fold`. */
export interface UnfoldOptions {
  /** From one tap to the next; default 1. */
  dilation?: WindowSize;
  /** Zeros on both sides; default 0. */
  padding?: WindowSize;
  /** From one window to the next; default 1. */
  stride?: WindowSize;
}

interface Windows {
  readonly kernel: Pair;
  readonly height: number;
  readonly width: number;
  readonly steps: Steps;
}
/** Where the windows of images [height, width] are. */
function windowsOf(op: string, image: Pair, kernelSize: WindowSize, options: UnfoldOptions | undefined): Windows {
  const given = optionsArg(op, options, ['dilation', 'padding', 'stride']);
  const kernel = pairArg(op, 'kernelSize', kernelSize, 2, 1);
  const dilation = pairArg(op, 'dilation', given.dilation ?? 1, 2, 1);
  const padding = pairArg(op, 'padding', given.padding ?? 0, 2, 0);
  const stride = pairArg(op, 'stride', given.stride ?? 1, 2, 1);
  const [height, width] = [0, 1].map(
    (i) => Math.floor((image[i]! + 2 * padding[i]! - spanOf(kernel[i]!, dilation[i]!)) / stride[i]!) + 1,
  ) as [number, number];
  if (height < 1 || width < 1)
    throw shapeError(
      op,
      `windows of ${kernel.join(' x ')} taps do not fit an image of ${image.join(' x ')} with padding [${padding.join(',')}]`,
    );
  return { kernel, height, width, steps: stepsAt(stride, dilation, padding) };
}

/**
 * The taps of every window, one window to a column (im2col): what a convolution multiplies by its weights.
 *
 * @param x [b, c, h, w] or [c, h, w]; floats
 * @param kernelSize taps of a window
 * @returns [b, c · taps, windows] or [c · taps, windows]
 * @throws FOVEA_SHAPE for another rank, or if no window fits the padded image, FOVEA_DTYPE for integers and bool,
 *   FOVEA_ARGUMENT for sizes that are no counts
 */
export function unfold(x: Tensor, kernelSize: WindowSize, options?: UnfoldOptions): Tensor {
  const { x: images } = imagesArg('unfold', x, 2);
  const [b, c, h, w] = images.shape as [number, number, number, number];
  const { kernel, height, width, steps } = windowsOf('unfold', [h, w], kernelSize, options);
  const { columns } = unfoldOp({ x: images }, { ...steps, kernelY: kernel[0], kernelX: kernel[1], height, width });
  const rows = [c * sizeOf(kernel), height * width];
  return reshape(columns, x.rank === 3 ? rows : [b, ...rows]);
}

/**
 * Adds the columns of `unfold` up where they came from (col2im): the gradient of `unfold`, and its inverse only where
 * windows do not overlap.
 *
 * @param x [b, c · taps, windows] or [c · taps, windows]; floats
 * @param outputSize [h, w] of the images
 * @param kernelSize taps of a window
 * @returns [b, c, h, w] or [c, h, w]
 * @throws FOVEA_SHAPE if the rows are no multiple of the taps, or the columns are not as many as windows fit the
 *   images, FOVEA_DTYPE for integers and bool, FOVEA_ARGUMENT for sizes that are no counts
 */
export function fold(x: Tensor, outputSize: WindowSize, kernelSize: WindowSize, options?: UnfoldOptions): Tensor {
  const { x: images } = imagesArg('fold', x, 1);
  const image = pairArg('fold', 'outputSize', outputSize, 2, 1);
  const { kernel, height, width, steps } = windowsOf('fold', image, kernelSize, options);
  const [b, rows, , count] = images.shape as [number, number, number, number];
  const taps = sizeOf(kernel);
  if (rows % taps || count !== height * width)
    throw shapeError(
      'fold',
      `expected x [b,c · ${taps},${height * width}] for images of ${image.join(' x ')}, received [${slotOf(x, 'fold', 'x').shape.join(',')}]`,
    );
  const columns = reshape(images, [b, rows / taps, ...kernel, height, width]);
  const y = foldOp({ columns }, { ...steps, height: image[0], width: image[1] }).x;
  return x.rank === 2 ? reshape(y, y.shape.slice(1)) : y;
}
