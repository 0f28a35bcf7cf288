/** Pooling layers, which have no parameters: `avgPool2d`, `maxPool2d` and the like with their options. */
import {
  adaptiveAvgPool1d,
  adaptiveAvgPool2d,
  adaptiveMaxPool1d,
  adaptiveMaxPool2d,
  type AdaptiveMaxPoolOptions as AdaptiveMaxPoolOpOptions,
  type AdaptiveSize,
  avgPool1d,
  avgPool2d,
  type AvgPoolOptions,
  maxPool1d,
  maxPool2d,
  type MaxPoolOptions as MaxPoolOpOptions,
  type ValuesAndIndices,
  type WindowSize,
} from '../ops/index.js';
import { optionsArg } from '../tensor/check.js';
import type { Tensor } from '../tensor/tensor.js';
import { Module } from './module.js';

/** Options of {@link MaxPool1d} and {@link MaxPool2d}: those of `maxPool2d`. */
export type MaxPoolOptions<R extends boolean = boolean> = MaxPoolOpOptions & { returnIndices?: R };
/** Options of {@link AdaptiveMaxPool1d} and {@link AdaptiveMaxPool2d}: those of `adaptiveMaxPool2d`. */
export type AdaptiveMaxPoolOptions<R extends boolean = boolean> = AdaptiveMaxPoolOpOptions & { returnIndices?: R };
/** The largest elements: alone, or with `returnIndices` beside their places. */
export type MaxPooled<R extends boolean> = R extends true ? ValuesAndIndices : Tensor;

const avgOptions = ['stride', 'padding', 'ceilMode', 'countIncludePad'] as const;
const maxOptions = ['stride', 'padding', 'dilation', 'ceilMode', 'returnIndices'] as const;

/** Means over windows of sequences. */
export class AvgPool1d extends Module {
  /** Elements of a window. */
  readonly kernelSize: WindowSize;
  /** As they were given. */
  readonly options: AvgPoolOptions;

  constructor(kernelSize: WindowSize, options: AvgPoolOptions = {}) {
    super();
    this.kernelSize = kernelSize;
    this.options = optionsArg('AvgPool1d', options, avgOptions);
  }

  /** @param x [b, c, l] or [c, l] @returns [b, c, windows] or [c, windows] */
  override forward(x: Tensor): Tensor {
    return avgPool1d(x, this.kernelSize, this.options);
  }
}
/** Means over windows of images. */
export class AvgPool2d extends Module {
  /** Elements of a window. */
  readonly kernelSize: WindowSize;
  /** As they were given. */
  readonly options: AvgPoolOptions;

  constructor(kernelSize: WindowSize, options: AvgPoolOptions = {}) {
    super();
    this.kernelSize = kernelSize;
    this.options = optionsArg('AvgPool2d', options, avgOptions);
  }

  /** @param x [b, c, h, w] or [c, h, w] @returns [b, c, rows, columns] or [c, rows, columns] */
  override forward(x: Tensor): Tensor {
    return avgPool2d(x, this.kernelSize, this.options);
  }
}
/** The largest elements of windows of sequences. */
export class MaxPool1d<R extends boolean = false> extends Module {
  /** Elements of a window. */
  readonly kernelSize: WindowSize;
  /** As they were given. */
  readonly options: MaxPoolOptions<R>;

  constructor(kernelSize: WindowSize, options: MaxPoolOptions<R> = {}) {
    super();
    this.kernelSize = kernelSize;
    this.options = optionsArg('MaxPool1d', options, maxOptions);
  }

  /**
   * @param x [b, c, l] or [c, l]
   * @returns [b, c, windows] or [c, windows]; with `returnIndices` beside their places
   */
  override forward(x: Tensor): MaxPooled<R> {
    return maxPool1d(x, this.kernelSize, this.options) as MaxPooled<R>;
  }
}
/** The largest elements of windows of images. */
export class MaxPool2d<R extends boolean = false> extends Module {
  /** Elements of a window. */
  readonly kernelSize: WindowSize;
  /** As they were given. */
  readonly options: MaxPoolOptions<R>;

  constructor(kernelSize: WindowSize, options: MaxPoolOptions<R> = {}) {
    super();
    this.kernelSize = kernelSize;
    this.options = optionsArg('MaxPool2d', options, maxOptions);
  }

  /**
   * @param x [b, c, h, w] or [c, h, w]
   * @returns [b, c, rows, columns] or [c, rows, columns]; with `returnIndices` beside their places
   */
  override forward(x: Tensor): MaxPooled<R> {
    return maxPool2d(x, this.kernelSize, this.options) as MaxPooled<R>;
  }
}
/** Means over a fixed number of windows of sequences of any length. */
export class AdaptiveAvgPool1d extends Module {
  /** Windows. */
  readonly outputSize: AdaptiveSize;

  constructor(outputSize: AdaptiveSize) {
    super();
    this.outputSize = outputSize;
  }

  /** @param x [b, c, l] or [c, l] @returns [b, c, outputSize] or [c, outputSize] */
  override forward(x: Tensor): Tensor {
    return adaptiveAvgPool1d(x, this.outputSize);
  }
}
/** Means over a fixed number of windows of images of any size. */
export class AdaptiveAvgPool2d extends Module {
  /** Windows along both dimensions; null: as many as there are elements. */
  readonly outputSize: AdaptiveSize;

  constructor(outputSize: AdaptiveSize) {
    super();
    this.outputSize = outputSize;
  }

  /** @param x [b, c, h, w] or [c, h, w] @returns [b, c, ...outputSize] or [c, ...outputSize] */
  override forward(x: Tensor): Tensor {
    return adaptiveAvgPool2d(x, this.outputSize);
  }
}
/** The largest elements of a fixed number of windows of sequences of any length. */
export class AdaptiveMaxPool1d<R extends boolean = false> extends Module {
  /** Windows. */
  readonly outputSize: AdaptiveSize;
  /** As they were given. */
  readonly options: AdaptiveMaxPoolOptions<R>;

  constructor(outputSize: AdaptiveSize, options: AdaptiveMaxPoolOptions<R> = {}) {
    super();
    this.outputSize = outputSize;
    this.options = optionsArg('AdaptiveMaxPool1d', options, ['returnIndices']);
  }

  /**
   * @param x [b, c, l] or [c, l]
   * @returns [b, c, outputSize] or [c, outputSize]; with `returnIndices` beside their places
   */
  override forward(x: Tensor): MaxPooled<R> {
    return adaptiveMaxPool1d(x, this.outputSize, this.options) as MaxPooled<R>;
  }
}
/** The largest elements of a fixed number of windows of images of any size. */
export class AdaptiveMaxPool2d<R extends boolean = false> extends Module {
  /** Windows along both dimensions; null: as many as there are elements. */
  readonly outputSize: AdaptiveSize;
  /** As they were given. */
  readonly options: AdaptiveMaxPoolOptions<R>;

  constructor(outputSize: AdaptiveSize, options: AdaptiveMaxPoolOptions<R> = {}) {
    super();
    this.outputSize = outputSize;
    this.options = optionsArg('AdaptiveMaxPool2d', options, ['returnIndices']);
  }

  /**
   * @param x [b, c, h, w] or [c, h, w]
   * @returns [b, c, ...outputSize] or [c, ...outputSize]; with `returnIndices` beside their places
   */
  override forward(x: Tensor): MaxPooled<R> {
    return adaptiveMaxPool2d(x, this.outputSize, this.options) as MaxPooled<R>;
  }
}
