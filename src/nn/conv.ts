/**
 * Convolution layers in one and two dimensions, and transposed ones: y = weight ⋆ x + bias. Parameters, defaults and
 * keys are PyTorch's; beyond the edges of `x` are zeros.
 */
import {
  conv1d,
  conv2d,
  type ConvOptions as ConvOpOptions,
  convTranspose1d,
  convTranspose2d,
  type ConvTransposeOptions as ConvTransposeOpOptions,
  empty,
  type WindowSize,
} from '../ops/index.js';
import { FoveaError } from '../errors.js';
import { argumentError, countArg, optionsArg } from '../tensor/check.js';
import type { Dtype } from '../tensor/dtype.js';
import { sizeOf } from '../tensor/layout.js';
import type { Tensor } from '../tensor/tensor.js';
import { kaimingUniform_, uniform_ } from './init.js';
import { Module } from './module.js';
import { parameter } from './parameter.js';

/** What convolution layers have beside what their op takes. */
interface LayerOptions {
  /** Whether there is a bias (default true). */
  bias?: boolean;
  /** What is beyond the edges: there is only 'zeros', the default. */
  paddingMode?: 'zeros';
  /** Of the parameters; default float32. */
  dtype?: Dtype;
}
/** Options of {@link Conv1d} and {@link Conv2d}. */
export interface ConvOptions extends ConvOpOptions, LayerOptions {}
/** Options of {@link ConvTranspose1d} and {@link ConvTranspose2d}. */
export interface ConvTransposeOptions extends ConvTransposeOpOptions, LayerOptions {}

/** What the layer itself reads of its options. */
interface OwnOptions {
  readonly bias: boolean | undefined;
  readonly paddingMode: 'zeros' | undefined;
  readonly dtype: Dtype | undefined;
  readonly groups: number | undefined;
}

/** What a layer is called, and of which kind it is. */
interface Kind {
  readonly name: string;
  readonly dims: 1 | 2;
  readonly transposed: boolean;
}

function kernelArg({ name, dims }: Kind, kernelSize: WindowSize): readonly number[] {
  const sizes = typeof kernelSize === 'number' ? new Array<number>(dims).fill(kernelSize) : kernelSize;
  if (!Array.isArray(sizes) || sizes.length !== dims)
    throw argumentError(name, 'kernelSize', `a number or a list of ${dims}`, kernelSize);
  return (sizes as readonly number[]).map((size) => countArg(name, 'kernelSize', size, 1));
}

/** What convolution layers share. Keys: `weight`, `bias`. */
abstract class Convolution extends Module {
  /** Channels of the input. */
  readonly inChannels: number;
  /** Channels of the output. */
  readonly outChannels: number;
  /** Taps along each dimension. */
  readonly kernelSize: readonly number[];
  /** Groups of channels, each of which sees its own. */
  readonly groups: number;
  /**
   * [outChannels, inChannels / groups, ...kernelSize]; transposed, [inChannels, outChannels / groups, ...kernelSize]
   */
  weight: Tensor;
  /** [outChannels] */
  bias: Tensor | undefined;

  /**
   * Initialised as in PyTorch: weight and bias uniform within ±1/sqrt(fan in), that of the weight's second axis and
   * taps.
   */
  constructor(
    kind: Kind,
    [inChannels, outChannels, kernelSize]: readonly [number, number, WindowSize],
    { bias = true, paddingMode = 'zeros', dtype = 'float32', groups = 1 }: OwnOptions,
  ) {
    super();
    const { name } = kind;
    if (paddingMode !== 'zeros')
      throw new FoveaError(
        'FOVEA_UNSUPPORTED',
        `${name}: expected 'zeros' for paddingMode, received ${JSON.stringify(paddingMode)}; pad the input before instead`,
      );
    this.inChannels = countArg(name, 'inChannels', inChannels, 1);
    this.outChannels = countArg(name, 'outChannels', outChannels, 1);
    this.kernelSize = kernelArg(kind, kernelSize);
    this.groups = countArg(name, 'groups', groups, 1);
    for (const channels of [inChannels, outChannels])
      if (channels % groups)
        throw argumentError(name, 'groups', `a divisor of ${inChannels} and ${outChannels}`, groups);
    const [first, second] = kind.transposed ? [inChannels, outChannels] : [outChannels, inChannels];
    this.weight = parameter(empty([first, second / groups, ...this.kernelSize], { dtype }));
    kaimingUniform_(this.weight, { a: Math.sqrt(5) });
    if (!bias) return;
    const bound = 1 / Math.sqrt((second / groups) * sizeOf(this.kernelSize));
    this.bias = parameter(uniform_(empty([outChannels], { dtype }), -bound, bound));
  }
}

const convOptions = ['stride', 'padding', 'dilation', 'groups', 'bias', 'paddingMode', 'dtype'] as const;
const transposeOptions = [...convOptions, 'outputPadding'] as const;

/** Convolution of sequences. Keys: `weight` [outChannels, inChannels / groups, k], `bias` [outChannels]. */
export class Conv1d extends Convolution {
  /** Stride, padding, dilation and groups, as they were given. */
  readonly options: ConvOpOptions;

  constructor(inChannels: number, outChannels: number, kernelSize: WindowSize, options: ConvOptions = {}) {
    const { bias, paddingMode, dtype, ...steps } = optionsArg('Conv1d', options, convOptions);
    const own = { bias, paddingMode, dtype, groups: steps.groups };
    super({ name: 'Conv1d', dims: 1, transposed: false }, [inChannels, outChannels, kernelSize], own);
    this.options = steps;
  }

  /** @param x [b, inChannels, l] or [inChannels, l] @returns [b, outChannels, windows] or [outChannels, windows] */
  override forward(x: Tensor): Tensor {
    return conv1d(x, this.weight, this.bias, this.options);
  }
}
/** Convolution of images. Keys: `weight` [outChannels, inChannels / groups, i, j], `bias` [outChannels]. */
export class Conv2d extends Convolution {
  /** Stride, padding, dilation and groups, as they were given. */
  readonly options: ConvOpOptions;

  constructor(inChannels: number, outChannels: number, kernelSize: WindowSize, options: ConvOptions = {}) {
    const { bias, paddingMode, dtype, ...steps } = optionsArg('Conv2d', options, convOptions);
    const own = { bias, paddingMode, dtype, groups: steps.groups };
    super({ name: 'Conv2d', dims: 2, transposed: false }, [inChannels, outChannels, kernelSize], own);
    this.options = steps;
  }

  /**
   * @param x [b, inChannels, h, w] or [inChannels, h, w]
   * @returns [b, outChannels, rows, columns], without b if x has none
   */
  override forward(x: Tensor): Tensor {
    return conv2d(x, this.weight, this.bias, this.options);
  }
}
/** Transposed convolution of sequences. Keys: `weight` [inChannels, outChannels / groups, k], `bias` [outChannels]. */
export class ConvTranspose1d extends Convolution {
  /** Stride, padding, outputPadding, dilation and groups, as they were given. */
  readonly options: ConvTransposeOpOptions;

  constructor(inChannels: number, outChannels: number, kernelSize: WindowSize, options: ConvTransposeOptions = {}) {
    const { bias, paddingMode, dtype, ...steps } = optionsArg('ConvTranspose1d', options, transposeOptions);
    const own = { bias, paddingMode, dtype, groups: steps.groups };
    super({ name: 'ConvTranspose1d', dims: 1, transposed: true }, [inChannels, outChannels, kernelSize], own);
    this.options = steps;
  }

  /** @param x [b, inChannels, l] or [inChannels, l] @returns [b, outChannels, length] or [outChannels, length] */
  override forward(x: Tensor): Tensor {
    return convTranspose1d(x, this.weight, this.bias, this.options);
  }
}
/** Transposed convolution of images. Keys: `weight` [inChannels, outChannels / groups, i, j], `bias` [outChannels]. */
export class ConvTranspose2d extends Convolution {
  /** Stride, padding, outputPadding, dilation and groups, as they were given. */
  readonly options: ConvTransposeOpOptions;

  constructor(inChannels: number, outChannels: number, kernelSize: WindowSize, options: ConvTransposeOptions = {}) {
    const { bias, paddingMode, dtype, ...steps } = optionsArg('ConvTranspose2d', options, transposeOptions);
    const own = { bias, paddingMode, dtype, groups: steps.groups };
    super({ name: 'ConvTranspose2d', dims: 2, transposed: true }, [inChannels, outChannels, kernelSize], own);
    this.options = steps;
  }

  /**
   * @param x [b, inChannels, h, w] or [inChannels, h, w]
   * @returns [b, outChannels, height, width], without b if x has none
   */
  override forward(x: Tensor): Tensor {
    return convTranspose2d(x, this.weight, this.bias, this.options);
  }
}
