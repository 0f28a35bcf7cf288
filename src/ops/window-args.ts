/**
 * What convolution and pooling share: images of one and two dimensions with or without a batch, and the sizes that
 * windows have along each of them. Everything is computed in two dimensions; one is two with one line.
 */
import { argumentError, countArg } from '../tensor/check.js';
import type { Tensor } from '../tensor/tensor.js';
import { floatsArg } from './floats-arg.js';
import { reshape } from './shape.js';

/** A size along each dimension, [height, width] or [length], or one number for all of them. */
export type WindowSize = number | readonly number[];
/** Along both dimensions, height first. */
export type Pair = readonly [y: number, x: number];
/** How many dimensions an op takes. */
export type Dimensions = 1 | 2;

/**
 * A size for each dimension. What has one gets `along` for the one line.
 *
 * @param along what stands for the height of what has none
 * @returns [height, width]
 * @throws FOVEA_ARGUMENT for what is neither a whole number of at least `least` nor a list of one for each dimension
 */
export function pairArg(op: string, name: string, value: unknown, dims: Dimensions, least: number, along = 1): Pair {
  const list = Array.isArray(value) ? (value as unknown[]) : new Array<unknown>(dims).fill(value);
  if (list.length !== dims)
    throw argumentError(op, name, dims === 1 ? 'a number or a list of one' : 'a number or a list of two', value);
  const sizes = list.map((size) => countArg(op, name, size, least));
  return dims === 1 ? [along, sizes[0]!] : [sizes[0]!, sizes[1]!];
}

/** Images as the kernels take them, and the way back. */
export interface Images {
  /** [b, c, h, w] */
  readonly x: Tensor;
  /** A result [b, c, h, w] without the axes that the argument did not have. */
  readonly restore: (y: Tensor) => Tensor;
}

/**
 * Checks images and gives them a batch and two dimensions.
 *
 * @throws FOVEA_DTYPE for what are no floats, FOVEA_SHAPE for another rank
 */
export function imagesArg(op: string, x: Tensor, dims: Dimensions): Images {
  const shape = floatsArg(op, 'x', x, [dims + 1, dims + 2]);
  if (shape.length === 4) return { x, restore: (y) => y };
  const batched = shape.length === dims + 2;
  const [b, c, ...sizes] = batched ? shape : [1, ...shape];
  const four = [b!, c!, ...(dims === 1 ? [1] : []), ...sizes];
  const restore = (y: Tensor): Tensor => {
    const [, channels, ...others] = y.shape;
    const rest = [channels!, ...(dims === 1 ? others.slice(1) : others)];
    return reshape(y, batched ? [y.shape[0]!, ...rest] : rest);
  };
  return { x: reshape(x, four), restore };
}

/** Indices that a window of `kernel` taps spans. */
export const spanOf = (kernel: number, dilation: number): number => dilation * (kernel - 1) + 1;

/** Where taps are, as the kernels of convolutions take it. */
export interface Steps {
  readonly strideY: number;
  readonly strideX: number;
  readonly dilationY: number;
  readonly dilationX: number;
  readonly paddingY: number;
  readonly paddingX: number;
}
/** The attributes of kernels from what there is along both dimensions. */
export function stepsAt(stride: Pair, dilation: Pair, padding: Pair): Steps {
  const [[strideY, strideX], [dilationY, dilationX], [paddingY, paddingX]] = [stride, dilation, padding];
  return { strideY, strideX, dilationY, dilationX, paddingY, paddingX };
}
