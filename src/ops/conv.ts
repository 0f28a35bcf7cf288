/**
 * Convolution in one and two dimensions and its transposition, as PyTorch's: cross-correlation, over images [b, c, …]
 * or [c, …], in groups of channels. See conv-kernels.ts.
 */
import { argumentError, countArg, optionsArg, shapeError } from '../tensor/check.js';
import type { Tensor } from '../tensor/tensor.js';
import { lowered, toLowered } from './autocast.js';
import { convOp, convTransposeOp } from './conv-kernels.js';
import { floatsArg } from './floats-arg.js';
import { resultType } from './promote.js';
import { reshape } from './shape.js';
import {
  imagesArg,
  pairArg,
  spanOf,
  stepsAt,
  type Dimensions,
  type Images,
  type Pair,
  type WindowSize,
} from './window-args.js';

/** Options of `conv1d` and `conv2d`. */
export interface ConvOptions {
  /** From one window to the next; default 1. */
  stride?: WindowSize;
  /**
   * Zeros on both sides; default 0. 'valid' is none; 'same' is as many as give windows for all elements, one more
   * behind than before where they are odd, and wants a stride of 1.
   */
  padding?: WindowSize | 'same' | 'valid';
  /** From one tap to the next; default 1. */
  dilation?: WindowSize;
  /** The input's channels and the output's in as many groups, each of which sees its own; default 1. */
  groups?: number;
}
/** Options of `convTranspose1d` and `convTranspose2d`. */
export interface ConvTransposeOptions {
  /** From one element of `x` to the next, in the result; default 1. */
  stride?: WindowSize;
  /** What is cut off on both sides; default 0. */
  padding?: WindowSize;
  /** Added to the size of the result, behind; less than stride or dilation. Default 0. */
  outputPadding?: WindowSize;
  /** From one tap to the next; default 1. */
  dilation?: WindowSize;
  /** The input's channels and the output's in as many groups, each of which sees its own; default 1. */
  groups?: number;
}

const listed = (sizes: readonly number[]): string => `[${sizes.join(',')}]`;
/** Sizes as the caller gave them: without the line that one dimension has. */
const shown = (pair: Pair, dims: Dimensions): string => listed(dims === 1 ? [pair[1]] : pair);

/** What an op works on, in one dtype and two dimensions. */
interface Operands extends Images {
  readonly weight: Tensor;
  readonly bias: Tensor | undefined;
  readonly kernel: Pair;
  readonly groups: number;
}
/** How many channels of `x` a weight takes, and how many it makes. */
interface Sides {
  readonly inputs: (weight: readonly number[], groups: number) => number;
  readonly outputs: (weight: readonly number[], groups: number) => number;
}
const forward: Sides = { inputs: (w, g) => w[1]! * g, outputs: (w) => w[0]! };
const transposed: Sides = { inputs: (w) => w[0]!, outputs: (w, g) => w[1]! * g };

function operandsArg(
  op: string,
  dims: Dimensions,
  sides: Sides,
  given: { x: Tensor; weight: Tensor; bias: Tensor | null | undefined; groups: number },
): Operands {
  const images = imagesArg(op, given.x, dims);
  const shape = floatsArg(op, 'weight', given.weight, [dims + 2]);
  const groups = countArg(op, 'groups', given.groups, 1);
  if (shape[0]! % groups)
    throw shapeError(op, `the ${shape[0]} filters of weight ${listed(shape)} do not divide into ${groups} groups`);
  const [channels, inputs, outputs] = [images.x.shape[1]!, sides.inputs(shape, groups), sides.outputs(shape, groups)];
  if (channels !== inputs)
    throw shapeError(
      op,
      `x ${listed(given.x.shape)} has ${channels} channels, but weight ${listed(shape)} in ${groups} groups takes ${inputs}`,
    );
  const kernel = shape.slice(2);
  if (kernel.includes(0))
    throw shapeError(op, `expected a kernel of at least one tap, received weight ${listed(shape)}`);
  const { bias } = given;
  if (bias && floatsArg(op, 'bias', bias, [1])[0] !== outputs)
    throw shapeError(op, `weight ${listed(shape)} needs a bias [${outputs}], received ${listed(bias.shape)}`);
  const code = lowered(resultType(bias ? [given.x, given.weight, bias] : [given.x, given.weight]));
  const weight = toLowered(given.weight, code);
  return {
    x: toLowered(images.x, code),
    weight: dims === 1 ? reshape(weight, [shape[0]!, shape[1]!, 1, kernel[0]!]) : weight,
    bias: bias ? toLowered(bias, code) : undefined,
    kernel: dims === 1 ? [1, kernel[0]!] : [kernel[0]!, kernel[1]!],
    groups,
    restore: images.restore,
  };
}

/** Zeros before and in total, along each dimension. */
interface Padding {
  readonly before: Pair;
  readonly total: Pair;
}
function paddingArg(
  op: string,
  dims: Dimensions,
  padding: unknown,
  { kernel, stride, dilation }: { kernel: Pair; stride: Pair; dilation: Pair },
): Padding {
  if (padding === 'same') {
    const wide = stride.find((s) => s !== 1);
    if (wide !== undefined)
      throw argumentError(op, 'stride', "1 with padding 'same'", wide, 'give the padding in numbers');
    const [y, x] = [0, 1].map((i) => spanOf(kernel[i]!, dilation[i]!) - 1) as [number, number];
    return { before: [Math.floor(y / 2), Math.floor(x / 2)], total: [y, x] };
  }
  if (typeof padding === 'string' && padding !== 'valid')
    throw argumentError(op, 'padding', "numbers, 'same' or 'valid'", padding);
  const before = pairArg(op, 'padding', padding === 'valid' ? 0 : padding, dims, 0, 0);
  return { before, total: [2 * before[0], 2 * before[1]] };
}

/** Images beyond any memory, of which a kernel could not count the elements. */
function sizeArg(op: string, dims: Dimensions, size: Pair): void {
  if (size[0] * size[1] > 2 ** 40)
    throw shapeError(op, `images of ${shown(size, dims)}, padding included, are too large: at most 2^40 elements each`);
}

function convolved(
  op: 'conv1d' | 'conv2d',
  dims: Dimensions,
  given: { x: Tensor; weight: Tensor; bias: Tensor | null | undefined },
  options: ConvOptions | undefined,
): Tensor {
  const known = ['stride', 'padding', 'dilation', 'groups'] as const;
  const { stride: by = 1, padding = 0, dilation: apart = 1, groups = 1 } = optionsArg(op, options, known);
  const { x, weight, bias, kernel, restore } = operandsArg(op, dims, forward, { ...given, groups });
  const stride = pairArg(op, 'stride', by, dims, 1);
  const dilation = pairArg(op, 'dilation', apart, dims, 1);
  const { before, total } = paddingArg(op, dims, padding, { kernel, stride, dilation });
  const padded: Pair = [x.shape[2]! + total[0], x.shape[3]! + total[1]];
  const span: Pair = [spanOf(kernel[0], dilation[0]), spanOf(kernel[1], dilation[1])];
  if (span[0] > padded[0] || span[1] > padded[1])
    throw shapeError(
      op,
      `the kernel spans ${shown(span, dims)}, more than the padded input ${shown(padded, dims)} of x ${listed(given.x.shape)}`,
    );
  sizeArg(op, dims, padded);
  const attrs = {
    groups,
    ...stepsAt(stride, dilation, before),
    height: Math.floor((padded[0] - span[0]) / stride[0]) + 1,
    width: Math.floor((padded[1] - span[1]) / stride[1]) + 1,
  };
  return restore(convOp({ x, weight, bias }, attrs).y);
}

/**
 * The cross-correlation of sequences with filters: y[o, t] = Σ weight[o, c, i] x[c, t · stride + i · dilation -
 * padding] + bias[o], with zeros outside of `x`.
 *
 * @param x [b, channels, l] or [channels, l]; floats
 * @param weight [outs, channels / groups, k]
 * @param bias [outs]
 * @returns [b, outs, floor((l + 2 padding - dilation (k - 1) - 1) / stride) + 1], in the dtype that all promote to,
 *   under `autocast` in its
 * @throws FOVEA_SHAPE if channels, groups or bias do not fit, or the kernel spans more than the padded `x`,
 *   FOVEA_DTYPE for integers and bool, FOVEA_ARGUMENT for options that are no counts, or 'same' with a stride
 */
export function conv1d(x: Tensor, weight: Tensor, bias?: Tensor | null, options?: ConvOptions): Tensor {
  return convolved('conv1d', 1, { x, weight, bias }, options);
}
/**
 * The cross-correlation of images with filters: y[o, v, u] = Σ weight[o, c, i, j] x[c, v · stride + i · dilation -
 * padding, u · stride + j · dilation - padding] + bias[o], with zeros outside of `x`.
 *
 * @param x [b, channels, h, w] or [channels, h, w]; floats
 * @param weight [outs, channels / groups, i, j]
 * @param bias [outs]
 * @returns [b, outs, floor((h + 2 padding - dilation (i - 1) - 1) / stride) + 1, …], in the dtype that all promote to,
 *   under `autocast` in its
 * @throws FOVEA_SHAPE if channels, groups or bias do not fit, or the kernel spans more than the padded `x`,
 *   FOVEA_DTYPE for integers and bool, FOVEA_ARGUMENT for options that are no counts, or 'same' with a stride
 */
export function conv2d(x: Tensor, weight: Tensor, bias?: Tensor | null, options?: ConvOptions): Tensor {
  return convolved('conv2d', 2, { x, weight, bias }, options);
}

function transposedConvolved(
  op: 'convTranspose1d' | 'convTranspose2d',
  dims: Dimensions,
  given: { x: Tensor; weight: Tensor; bias: Tensor | null | undefined },
  options: ConvTransposeOptions | undefined,
): Tensor {
  const known = ['stride', 'padding', 'outputPadding', 'groups', 'dilation'] as const;
  const {
    stride: by = 1,
    padding: cut = 0,
    outputPadding: behind = 0,
    groups = 1,
    ...rest
  } = optionsArg(op, options, known);
  const { x, weight, bias, kernel, restore } = operandsArg(op, dims, transposed, { ...given, groups });
  const stride = pairArg(op, 'stride', by, dims, 1);
  const dilation = pairArg(op, 'dilation', rest.dilation ?? 1, dims, 1);
  const padding = pairArg(op, 'padding', cut, dims, 0, 0);
  const added = pairArg(op, 'outputPadding', behind, dims, 0, 0);
  if (added.some((n, i) => n >= Math.max(stride[i]!, dilation[i]!)))
    throw argumentError(op, 'outputPadding', 'less than the stride or the dilation', behind);
  const [height, width] = [0, 1].map(
    (i) => (x.shape[2 + i]! - 1) * stride[i]! - 2 * padding[i]! + spanOf(kernel[i]!, dilation[i]!) + added[i]!,
  ) as [number, number];
  if (x.shape[2] === 0 || x.shape[3] === 0 || height < 1 || width < 1)
    throw shapeError(op, `x ${listed(given.x.shape)} gives a result of size ${shown([height, width], dims)}`);
  sizeArg(op, dims, [height + 2 * padding[0], width + 2 * padding[1]]);
  const attrs = { groups, ...stepsAt(stride, dilation, padding), channels: weight.shape[1]! * groups, height, width };
  return restore(convTransposeOp({ x, weight, bias }, attrs).y);
}

/**
 * The transposition of `conv1d`, which is the gradient by its input: every element of `x` adds its filter to the
 * result.
 *
 * @param x [b, channels, l] or [channels, l]; floats
 * @param weight [channels, outs / groups, k]
 * @param bias [outs]
 * @returns [b, outs, (l - 1) stride - 2 padding + dilation (k - 1) + outputPadding + 1], in the dtype that all
 *   promote to, under `autocast` in its
 * @throws FOVEA_SHAPE if channels, groups or bias do not fit, or nothing would be left, FOVEA_DTYPE for integers and
 *   bool, FOVEA_ARGUMENT for options that are no counts, or an `outputPadding` of at least stride and dilation
 */
export function convTranspose1d(
  x: Tensor,
  weight: Tensor,
  bias?: Tensor | null,
  options?: ConvTransposeOptions,
): Tensor {
  return transposedConvolved('convTranspose1d', 1, { x, weight, bias }, options);
}
/**
 * The transposition of `conv2d`, which is the gradient by its input: every element of `x` adds its filter to the
 * result.
 *
 * @param x [b, channels, h, w] or [channels, h, w]; floats
 * @param weight [channels, outs / groups, i, j]
 * @param bias [outs]
 * @returns [b, outs, (h - 1) stride - 2 padding + dilation (i - 1) + outputPadding + 1, …], in the dtype that all
 *   promote to, under `autocast` in its
 * @throws FOVEA_SHAPE if channels, groups or bias do not fit, or nothing would be left, FOVEA_DTYPE for integers and
 *   bool, FOVEA_ARGUMENT for options that are no counts, or an `outputPadding` of at least stride and dilation
 */
export function convTranspose2d(
  x: Tensor,
  weight: Tensor,
  bias?: Tensor | null,
  options?: ConvTransposeOptions,
): Tensor {
  return transposedConvolved('convTranspose2d', 2, { x, weight, bias }, options);
}
