/**
 * Pooling of images [b, c, …] or [c, …] over windows: the largest element, or the mean. Adaptive pooling has as many
 * windows as asked for: window w of n covers [floor(w · size / n), ceil((w + 1) · size / n)).
 */
import { argumentError, countArg, optionsArg, shapeError } from '../tensor/check.js';
import { slotOf, type Tensor } from '../tensor/tensor.js';
import { filled } from './creation.js';
import { defineOp, type DefinedOp } from './define-op.js';
import { scatterAdd } from './indexing.js';
import type { Kernels } from './kernels.gen.js';
import type { ValuesAndIndices } from './reduce.js';
import { reshape } from './shape.js';
import { imagesArg, pairArg, spanOf, stepsAt, type Dimensions, type Pair, type WindowSize } from './window-args.js';

type Attrs = Kernels['avgPool']['attrs'];

const maxPoolOp = defineOp({
  kernel: 'maxPool',
  saves: ['indices'],
  shapes: true,
  gradient({ indices }, { y: dy }, _, { x: [b, c, h, w] }) {
    const { dtype, device } = slotOf(dy, 'maxPool', 'dy');
    const planes = b! * c!;
    const windows = indices.shape[2]! * indices.shape[3]!;
    const zeros = filled('maxPool', [planes, h! * w!], 0, dtype, device);
    const dx = scatterAdd(zeros, 1, reshape(indices, [planes, windows]), reshape(dy, [planes, windows]));
    return { x: reshape(dx, [b!, c!, h!, w!]) };
  },
});
const avgPoolOp: DefinedOp<'avgPool'> = defineOp({
  kernel: 'avgPool',
  saves: [],
  shapes: true,
  gradient: (_, { y: dy }, attrs, { x: [, , height, width] }) => ({
    x: avgPoolBackwardOp({ dy }, { ...attrs, height, width }).dx,
  }),
});
const avgPoolBackwardOp: DefinedOp<'avgPoolBackward'> = defineOp({
  kernel: 'avgPoolBackward',
  saves: [],
  shapes: true,
  gradient: (_, { dx: x }, attrs, { dy: [, , height, width] }) => ({
    dy: avgPoolOp({ x }, { ...attrs, height, width }).y,
  }),
});

/** Options of `avgPool1d` and `avgPool2d`. */
export interface AvgPoolOptions {
  /** From one window to the next; default: the size of a window. */
  stride?: WindowSize;
  /** Zeros on both sides, at most half of a window; default 0. */
  padding?: WindowSize;
  /** Whether there is a last window that reaches beyond the padding; default false. */
  ceilMode?: boolean;
  /** Whether padding counts in what sums are divided by; default true. */
  countIncludePad?: boolean;
}
/** Options of `maxPool1d` and `maxPool2d`. */
export interface MaxPoolOptions {
  /** From one window to the next; default: the size of a window. */
  stride?: WindowSize;
  /** How far windows reach beyond either side, at most half of one; nothing there is ever the largest. Default 0. */
  padding?: WindowSize;
  /** From one element of a window to the next; default 1. */
  dilation?: WindowSize;
  /** Whether there is a last window that reaches beyond the padding; default false. */
  ceilMode?: boolean;
  /** Whether to say where the largest elements were; default false. */
  returnIndices?: boolean;
}

/** Windows along one dimension; the last must begin inside of the image or the padding before it. */
function windowsAlong(size: number, span: number, stride: number, padding: number, ceilMode: boolean): number {
  const room = (size + 2 * padding - span) / stride;
  if (!ceilMode) return Math.floor(room) + 1;
  const count = Math.ceil(room) + 1;
  return (count - 1) * stride >= size + padding ? count - 1 : count;
}

interface Windows {
  stride: WindowSize | undefined;
  padding: WindowSize;
  dilation: WindowSize;
  ceilMode: boolean;
}
function attrsOf(op: string, dims: Dimensions, x: Tensor, kernelSize: WindowSize, given: Windows): Attrs {
  const kernel = pairArg(op, 'kernelSize', kernelSize, dims, 1);
  const stride = given.stride === undefined ? kernel : pairArg(op, 'stride', given.stride, dims, 1);
  const dilation = pairArg(op, 'dilation', given.dilation, dims, 1);
  const padding = pairArg(op, 'padding', given.padding, dims, 0, 0);
  if (typeof given.ceilMode !== 'boolean') throw argumentError(op, 'ceilMode', 'true or false', given.ceilMode);
  const span: Pair = [spanOf(kernel[0], dilation[0]), spanOf(kernel[1], dilation[1])];
  if (padding.some((n, i) => 2 * n > span[i]!))
    throw argumentError(
      op,
      'padding',
      `at most half of what a window spans ([${span.slice(2 - dims).join(',')}])`,
      given.padding,
    );
  const [height, width] = [0, 1].map((i) =>
    windowsAlong(x.shape[2 + i]!, span[i]!, stride[i]!, padding[i]!, given.ceilMode),
  ) as [number, number];
  if (x.shape[2] === 0 || x.shape[3] === 0 || height < 1 || width < 1)
    throw shapeError(
      op,
      `no window of [${kernel.slice(2 - dims).join(',')}] fits images of [${x.shape.slice(4 - dims).join(',')}]; pad them, or make the kernel smaller`,
    );
  return { kernelY: kernel[0], kernelX: kernel[1], ...stepsAt(stride, dilation, padding), height, width };
}

function averaged(
  op: 'avgPool1d' | 'avgPool2d',
  dims: Dimensions,
  given: Tensor,
  kernelSize: WindowSize,
  options: AvgPoolOptions | undefined,
): Tensor {
  const known = ['stride', 'padding', 'ceilMode', 'countIncludePad'] as const;
  const { stride, padding = 0, ceilMode = false, countIncludePad = true } = optionsArg(op, options, known);
  const { x, restore } = imagesArg(op, given, dims);
  const attrs = attrsOf(op, dims, x, kernelSize, { stride, padding, dilation: 1, ceilMode });
  if (typeof countIncludePad !== 'boolean')
    throw argumentError(op, 'countIncludePad', 'true or false', countIncludePad);
  return restore(avgPoolOp({ x }, { ...attrs, countsPadding: countIncludePad }).y);
}

function largest(
  op: 'maxPool1d' | 'maxPool2d',
  dims: Dimensions,
  given: Tensor,
  kernelSize: WindowSize,
  options: MaxPoolOptions | undefined,
): Tensor | ValuesAndIndices {
  const known = ['stride', 'padding', 'dilation', 'ceilMode', 'returnIndices'] as const;
  const { stride, padding = 0, dilation = 1, ceilMode = false, returnIndices } = optionsArg(op, options, known);
  const { x, restore } = imagesArg(op, given, dims);
  const attrs = attrsOf(op, dims, x, kernelSize, { stride, padding, dilation, ceilMode });
  // Padding is at most half of what a window spans, so that one without gaps reaches the image.
  if ((attrs.dilationY ?? 1) > 1 || (attrs.dilationX ?? 1) > 1) checkReached(op, x, attrs);
  const { y, indices } = maxPoolOp({ x }, attrs);
  return returnIndices ? { values: restore(y), indices: restore(indices) } : restore(y);
}
/** Windows with gaps may pass an image by, between the padding on its sides. */
function checkReached(op: string, { shape }: Tensor, attrs: Attrs): void {
  const { kernelY = 1, strideY = 1, dilationY = 1, paddingY = 0, height = 0 } = attrs;
  const { kernelX = 1, strideX = 1, dilationX = 1, paddingX = 0, width = 0 } = attrs;
  const reached = (size: number, [kernel, stride, dilation, padding, count]: readonly number[]): boolean => {
    for (let window = 0; window < count!; window++) {
      const start = window * stride! - padding!;
      const first = start < 0 ? start + Math.ceil(-start / dilation!) * dilation! : start;
      if (first >= size || first > start + (kernel! - 1) * dilation!) return false;
    }
    return true;
  };
  const rows = [kernelY, strideY, dilationY, paddingY, height];
  const columns = [kernelX, strideX, dilationX, paddingX, width];
  if (!reached(shape[2]!, rows) || !reached(shape[3]!, columns))
    throw shapeError(op, `a window has no element of x [${shape.join(',')}]; make the padding or the dilation smaller`);
}

/**
 * Means over windows of sequences.
 *
 * @param x [b, c, l] or [c, l]; floats
 * @param kernelSize elements of a window
 * @returns [b, c, floor((l + 2 padding - kernelSize) / stride) + 1], the dtype of `x`
 * @throws FOVEA_SHAPE for another rank, or if no window fits, FOVEA_DTYPE for integers and bool, FOVEA_ARGUMENT for
 *   sizes that are no counts, or a padding of more than half a window
 */
export function avgPool1d(x: Tensor, kernelSize: WindowSize, options?: AvgPoolOptions): Tensor {
  return averaged('avgPool1d', 1, x, kernelSize, options);
}
/**
 * Means over windows of images.
 *
 * @param x [b, c, h, w] or [c, h, w]; floats
 * @param kernelSize elements of a window
 * @returns [b, c, floor((h + 2 padding - kernelSize) / stride) + 1, …], the dtype of `x`
 * @throws what `avgPool1d` throws
 */
export function avgPool2d(x: Tensor, kernelSize: WindowSize, options?: AvgPoolOptions): Tensor {
  return averaged('avgPool2d', 2, x, kernelSize, options);
}

/**
 * The largest elements of windows of sequences; NaN wins. The gradient goes to the first of equals.
 *
 * @param x [b, c, l] or [c, l]; floats
 * @param kernelSize elements of a window
 * @returns [b, c, floor((l + 2 padding - dilation (kernelSize - 1) - 1) / stride) + 1], the dtype of `x`; with
 *   `returnIndices` beside their places, int64 of the same shape
 * @throws FOVEA_SHAPE for another rank, or if no window fits or one has no element, FOVEA_DTYPE for integers and bool,
 *   FOVEA_ARGUMENT for sizes that are no counts, or a padding of more than half a window
 */
export function maxPool1d(
  x: Tensor,
  kernelSize: WindowSize,
  options: MaxPoolOptions & { returnIndices: true },
): ValuesAndIndices;
export function maxPool1d(
  x: Tensor,
  kernelSize: WindowSize,
  options?: MaxPoolOptions & { returnIndices?: false },
): Tensor;
export function maxPool1d(x: Tensor, kernelSize: WindowSize, options?: MaxPoolOptions): Tensor | ValuesAndIndices;
export function maxPool1d(x: Tensor, kernelSize: WindowSize, options?: MaxPoolOptions): Tensor | ValuesAndIndices {
  return largest('maxPool1d', 1, x, kernelSize, options);
}
/**
 * The largest elements of windows of images; NaN wins. The gradient goes to the first of equals.
 *
 * @param x [b, c, h, w] or [c, h, w]; floats
 * @param kernelSize elements of a window
 * @returns [b, c, floor((h + 2 padding - dilation (kernelSize - 1) - 1) / stride) + 1, …], the dtype of `x`; with
 *   `returnIndices` beside their places y · w + x, int64 of the same shape
 * @throws what `maxPool1d` throws
 */
export function maxPool2d(
  x: Tensor,
  kernelSize: WindowSize,
  options: MaxPoolOptions & { returnIndices: true },
): ValuesAndIndices;
export function maxPool2d(
  x: Tensor,
  kernelSize: WindowSize,
  options?: MaxPoolOptions & { returnIndices?: false },
): Tensor;
export function maxPool2d(x: Tensor, kernelSize: WindowSize, options?: MaxPoolOptions): Tensor | ValuesAndIndices;
export function maxPool2d(x: Tensor, kernelSize: WindowSize, options?: MaxPoolOptions): Tensor | ValuesAndIndices {
  return largest('maxPool2d', 2, x, kernelSize, options);
}

/** How many windows adaptive pooling has along each dimension; null: as many as there are elements. */
export type AdaptiveSize = number | readonly (number | null)[];
/** Options of `adaptiveMaxPool1d` and `adaptiveMaxPool2d`. */
export interface AdaptiveMaxPoolOptions {
  /** Whether to say where the largest elements were; default false. */
  returnIndices?: boolean;
}

function adaptive(op: string, dims: Dimensions, x: Tensor, outputSize: AdaptiveSize): Attrs {
  const [, , h, w] = x.shape as [number, number, number, number];
  const sizes = dims === 1 ? [w] : [h, w];
  const list: unknown[] = Array.isArray(outputSize) ? outputSize : sizes.map(() => outputSize);
  if (list.length !== dims)
    throw argumentError(
      op,
      'outputSize',
      dims === 1 ? 'a number or a list of one' : 'a number or a list of two',
      outputSize,
    );
  const counts = list.map((n, i) => (n === null ? sizes[i]! : countArg(op, 'outputSize', n, 1)));
  if (h === 0 || w === 0) throw shapeError(op, `expected images with elements, received [${x.shape.join(',')}]`);
  return { adaptive: true, height: dims === 1 ? 1 : counts[0]!, width: counts.at(-1)! };
}
function adaptiveAveraged(op: string, dims: Dimensions, given: Tensor, outputSize: AdaptiveSize): Tensor {
  const { x, restore } = imagesArg(op, given, dims);
  return restore(avgPoolOp({ x }, adaptive(op, dims, x, outputSize)).y);
}
function adaptiveLargest(
  op: string,
  dims: Dimensions,
  given: Tensor,
  outputSize: AdaptiveSize,
  options: AdaptiveMaxPoolOptions | undefined,
): Tensor | ValuesAndIndices {
  const { returnIndices } = optionsArg(op, options, ['returnIndices']);
  const { x, restore } = imagesArg(op, given, dims);
  const { y, indices } = maxPoolOp({ x }, adaptive(op, dims, x, outputSize));
  return returnIndices ? { values: restore(y), indices: restore(indices) } : restore(y);
}

/**
 * Means over as many windows of sequences as asked for.
 *
 * @param x [b, c, l] or [c, l]; floats
 * @param outputSize windows
 * @returns [b, c, outputSize], the dtype of `x`
 * @throws FOVEA_SHAPE for another rank or images without elements, FOVEA_DTYPE for integers and bool, FOVEA_ARGUMENT
 *   for an `outputSize` below 1
 */
export function adaptiveAvgPool1d(x: Tensor, outputSize: AdaptiveSize): Tensor {
  return adaptiveAveraged('adaptiveAvgPool1d', 1, x, outputSize);
}
/**
 * Means over as many windows of images as asked for.
 *
 * @param x [b, c, h, w] or [c, h, w]; floats
 * @param outputSize windows along both dimensions; null: as many as there are elements
 * @returns [b, c, ...outputSize], the dtype of `x`
 * @throws what `adaptiveAvgPool1d` throws
 */
export function adaptiveAvgPool2d(x: Tensor, outputSize: AdaptiveSize): Tensor {
  return adaptiveAveraged('adaptiveAvgPool2d', 2, x, outputSize);
}
/**
 * The largest elements of as many windows of sequences as asked for; NaN wins.
 *
 * @param x [b, c, l] or [c, l]; floats
 * @param outputSize windows
 * @returns [b, c, outputSize], the dtype of `x`; with `returnIndices` beside their places, int64 of the same shape
 * @throws what `adaptiveAvgPool1d` throws
 */
export function adaptiveMaxPool1d(
  x: Tensor,
  outputSize: AdaptiveSize,
  options: { returnIndices: true },
): ValuesAndIndices;
export function adaptiveMaxPool1d(x: Tensor, outputSize: AdaptiveSize, options?: { returnIndices?: false }): Tensor;
export function adaptiveMaxPool1d(
  x: Tensor,
  outputSize: AdaptiveSize,
  options?: AdaptiveMaxPoolOptions,
): Tensor | ValuesAndIndices;
export function adaptiveMaxPool1d(
  x: Tensor,
  outputSize: AdaptiveSize,
  options?: AdaptiveMaxPoolOptions,
): Tensor | ValuesAndIndices {
  return adaptiveLargest('adaptiveMaxPool1d', 1, x, outputSize, options);
}
/**
 * The largest elements of as many windows of images as asked for; NaN wins.
 *
 * @param x [b, c, h, w] or [c, h, w]; floats
 * @param outputSize windows along both dimensions; null: as many as there are elements
 * @returns [b, c, ...outputSize], the dtype of `x`; with `returnIndices` beside their places y · w + x, int64 of the
 *   same shape
 * @throws what `adaptiveAvgPool1d` throws
 */
export function adaptiveMaxPool2d(
  x: Tensor,
  outputSize: AdaptiveSize,
  options: { returnIndices: true },
): ValuesAndIndices;
export function adaptiveMaxPool2d(x: Tensor, outputSize: AdaptiveSize, options?: { returnIndices?: false }): Tensor;
export function adaptiveMaxPool2d(
  x: Tensor,
  outputSize: AdaptiveSize,
  options?: AdaptiveMaxPoolOptions,
): Tensor | ValuesAndIndices;
export function adaptiveMaxPool2d(
  x: Tensor,
  outputSize: AdaptiveSize,
  options?: AdaptiveMaxPoolOptions,
): Tensor | ValuesAndIndices {
  return adaptiveLargest('adaptiveMaxPool2d', 2, x, outputSize, options);
}
