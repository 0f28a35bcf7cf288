/**
 * Initialisers, in place and without gradient. For a weight [out, in, …]: fanIn = in × (product of the rest), fanOut =
 * out × (product of the rest).
 *
 *   xavier   Glorot & Bengio 2010: std = gain · sqrt(2 / (fanIn + fanOut))
 *   kaiming  He et al. 2015 (https://arxiv.org/abs/1502.01852): std = gain / sqrt(fanIn or fanOut)
 *   uniform forms draw from ±sqrt(3) · std
 *   orthogonal  Saxe et al. 2014 (https://arxiv.org/abs/1312.6120): the Q of a normal matrix's QR, R's diagonal above 0
 *
 * Schemes for whole models, by their depth, are in depth-schemes.ts.
 */
import { noGrad } from '../autograd/backward.js';
import { FoveaError } from '../errors.js';
import { concat, type Generator, matmul, narrow, tensor as makeTensor, where } from '../ops/index.js';
import { argumentError, numberArg, optionsArg } from '../tensor/check.js';
import { accumulatorOf, dtypeNames } from '../tensor/dtype.js';
import { runUnder } from '../tensor/modes.js';
import type { Tensor } from '../tensor/tensor.js';
import { tidy } from '../tensor/tidy.js';

/** Where the random numbers come from; the default generator if there is none. */
export interface RandomOptions {
  /** Default: the one that `manualSeed` seeds. */
  generator?: Generator;
}

/** Activations with a known gain. */
export type Nonlinearity = 'linear' | 'sigmoid' | 'tanh' | 'relu' | 'leakyRelu' | 'selu';

let skipping = false;

/**
 * Makes a module whose parameters hold undefined values, for weights that are about to be loaded.
 *
 * @param make builds the module; initialisers do nothing while it runs
 * @returns what `make` returns
 */
export function skipInit<T>(make: () => T): T {
  const before = skipping;
  skipping = true;
  try {
    return make();
  } finally {
    skipping = before;
  }
}

function inPlace(tensor: Tensor, fill: () => void): Tensor {
  if (!skipping) noGrad(() => tidy(fill));
  return tensor;
}

/** The options that ops of random numbers take. */
function random(op: string, options: RandomOptions): RandomOptions {
  const { generator } = optionsArg(op, options, ['generator']);
  return generator ? { generator } : {};
}

/**
 * Fills with uniform numbers from [a, b).
 *
 * @param tensor any shape, floats
 * @returns `tensor`
 * @throws FOVEA_DTYPE for integers and bool, FOVEA_ARGUMENT for an unknown option
 */
export function uniform_(tensor: Tensor, a = 0, b = 1, options: RandomOptions = {}): Tensor {
  return inPlace(tensor, () => void tensor.uniform_(a, b, random('uniform_', options)));
}

/**
 * Fills with normally distributed numbers of the given mean and standard deviation.
 *
 * @param tensor any shape, floats
 * @returns `tensor`
 * @throws FOVEA_DTYPE for integers and bool, FOVEA_ARGUMENT for an unknown option
 */
export function normal_(tensor: Tensor, mean = 0, std = 1, options: RandomOptions = {}): Tensor {
  return inPlace(tensor, () => void tensor.normal_(mean, std, random('normal_', options)));
}

/**
 * Fills with one value.
 *
 * @param tensor any shape and dtype
 * @returns `tensor`
 * @throws FOVEA_ARGUMENT for what is no number
 */
export function constant_(tensor: Tensor, value: number): Tensor {
  return inPlace(tensor, () => void tensor.fill_(value));
}

/** Fills with zeros. @returns `tensor` */
export function zeros_(tensor: Tensor): Tensor {
  return constant_(tensor, 0);
}

/** Fills with ones. @returns `tensor` */
export function ones_(tensor: Tensor): Tensor {
  return constant_(tensor, 1);
}

function fans(op: string, { shape }: Tensor): { fanIn: number; fanOut: number } {
  const [out, inputs, ...rest] = shape;
  if (out === undefined || inputs === undefined) {
    throw new FoveaError(
      'FOVEA_SHAPE',
      `${op}: tensor must have 2 or more dimensions to have a fan, but has shape [${shape}]`,
    );
  }
  const field = rest.reduce((product, size) => product * size, 1);
  return { fanIn: inputs * field, fanOut: out * field };
}

/**
 * The factor that keeps the variance of activations through a nonlinearity (He et al. 2015).
 *
 * @param param the negative slope of leakyRelu
 * @throws FOVEA_ARGUMENT for an unknown nonlinearity
 */
export function calculateGain(nonlinearity: Nonlinearity, param = 0.01): number {
  switch (nonlinearity) {
    case 'linear':
    case 'sigmoid':
      return 1;
    case 'tanh':
      return 5 / 3;
    case 'relu':
      return Math.SQRT2;
    case 'leakyRelu':
      return Math.sqrt(2 / (1 + param ** 2));
    case 'selu':
      return 3 / 4;
    default:
      throw argumentError(
        'calculateGain',
        'nonlinearity',
        'linear, sigmoid, tanh, relu, leakyRelu or selu',
        nonlinearity,
      );
  }
}

/**
 * Glorot's uniform initialiser.
 *
 * @param tensor a weight [out, in, ...], floats
 * @param options `gain` (default 1), `generator`
 * @returns `tensor`
 * @throws FOVEA_SHAPE for fewer than two axes, FOVEA_DTYPE for integers and bool
 */
export function xavierUniform_(tensor: Tensor, options: RandomOptions & { gain?: number } = {}): Tensor {
  const { fanIn, fanOut } = fans('xavierUniform_', tensor);
  const { gain = 1, ...rest } = optionsArg('xavierUniform_', options, ['gain', 'generator']);
  const bound = gain * Math.sqrt(6 / (fanIn + fanOut));
  return uniform_(tensor, -bound, bound, rest);
}

/**
 * Glorot's normal initialiser.
 *
 * @param tensor a weight [out, in, ...], floats
 * @param options `gain` (default 1), `generator`
 * @returns `tensor`
 * @throws FOVEA_SHAPE for fewer than two axes, FOVEA_DTYPE for integers and bool
 */
export function xavierNormal_(tensor: Tensor, options: RandomOptions & { gain?: number } = {}): Tensor {
  const { fanIn, fanOut } = fans('xavierNormal_', tensor);
  const { gain = 1, ...rest } = optionsArg('xavierNormal_', options, ['gain', 'generator']);
  return normal_(tensor, 0, gain * Math.sqrt(2 / (fanIn + fanOut)), rest);
}

/** Options of He's initialisers. */
export interface KaimingOptions extends RandomOptions {
  /** Negative slope of leakyRelu (default 0). */
  a?: number;
  /** Which variance stays the same: of the activations (`fanIn`, default) or of the gradients. */
  mode?: 'fanIn' | 'fanOut';
  /** Default leakyRelu, as in PyTorch. */
  nonlinearity?: Nonlinearity;
}

function kaimingStd(op: string, tensor: Tensor, options: KaimingOptions): { std: number; rest: RandomOptions } {
  const known = ['a', 'mode', 'nonlinearity', 'generator'] as const;
  const { a = 0, mode = 'fanIn', nonlinearity = 'leakyRelu', ...rest } = optionsArg(op, options, known);
  if (mode !== 'fanIn' && mode !== 'fanOut') throw argumentError(op, 'mode', "'fanIn' or 'fanOut'", mode);
  return { std: calculateGain(nonlinearity, a) / Math.sqrt(fans(op, tensor)[mode]), rest };
}

/**
 * He's uniform initialiser.
 *
 * @param tensor a weight [out, in, ...], floats
 * @returns `tensor`
 * @throws FOVEA_SHAPE for fewer than two axes, FOVEA_DTYPE for integers and bool, FOVEA_ARGUMENT for unknown options
 */
export function kaimingUniform_(tensor: Tensor, options: KaimingOptions = {}): Tensor {
  const { std, rest } = kaimingStd('kaimingUniform_', tensor, options);
  const bound = Math.sqrt(3) * std;
  return uniform_(tensor, -bound, bound, rest);
}

/**
 * He's normal initialiser.
 *
 * @param tensor a weight [out, in, ...], floats
 * @returns `tensor`
 * @throws FOVEA_SHAPE for fewer than two axes, FOVEA_DTYPE for integers and bool, FOVEA_ARGUMENT for unknown options
 */
export function kaimingNormal_(tensor: Tensor, options: KaimingOptions = {}): Tensor {
  const { std, rest } = kaimingStd('kaimingNormal_', tensor, options);
  return normal_(tensor, 0, std, rest);
}

/** Horner's rule, highest power first. */
function polynomial(w: Tensor, coefficients: readonly number[]): Tensor {
  const [first = 0, second = 0, ...rest] = coefficients;
  return rest.reduce((sum: Tensor, c) => sum.mul(w).add(c), w.mul(first).add(second));
}

// Giles 2010, "Approximating the erfinv function": single precision, in w = -ln(1 - x²), by the middle and the tails.
const erfinvMiddle = [
  2.81022636e-8, 3.43273939e-7, -3.5233877e-6, -4.39150654e-6, 2.1858087e-4, -1.25372503e-3, -4.17768164e-3,
  0.246640727, 1.50140941,
];
const erfinvTail = [
  -2.00214257e-4, 1.00950558e-4, 1.34934322e-3, -3.67342844e-3, 5.73950773e-3, -7.6224613e-3, 9.43887047e-3, 1.00167406,
  2.83297682,
];

/**
 * The inverse of erf on (-1, 1), to about 1e-6 relative (Giles 2010).
 *
 * @param x any shape, floats
 * @returns the shape of `x`
 */
export function erfinv(x: Tensor): Tensor {
  const w = x.neg().log1p().add(x.log1p()).neg();
  const middle = polynomial(w.sub(2.5), erfinvMiddle);
  const tail = polynomial(w.sqrt().sub(3), erfinvTail);
  return where(w.lt(5), middle, tail).mul(x);
}

/** Options of {@link truncNormal_}. */
export interface TruncNormalOptions extends RandomOptions {
  /** Of the distribution before it is cut; default 0. */
  mean?: number;
  /** Standard deviation before it is cut; default 1. */
  std?: number;
  /** Smallest value (default -2). */
  a?: number;
  /** Largest value (default 2). */
  b?: number;
}

// The largest float32 below 1, since erfinv(1) is infinite.
const almostOne = 1 - 2 ** -24;

/**
 * Fills from a normal distribution cut off at [a, b], by inverting its distribution function.
 *
 * @param tensor any shape, floats
 * @returns `tensor`
 * @throws FOVEA_DTYPE for integers and bool, FOVEA_ARGUMENT for unknown options
 */
export function truncNormal_(tensor: Tensor, options: TruncNormalOptions = {}): Tensor {
  const known = ['mean', 'std', 'a', 'b', 'generator'] as const;
  const { mean = 0, std = 1, a = -2, b = 2, ...rest } = optionsArg('truncNormal_', options, known);
  return inPlace(tensor, () => {
    const [low, high] = makeTensor([(a - mean) / std, (b - mean) / std])
      .mul(Math.SQRT1_2)
      .erf()
      .unbind(0);
    const u = tensor.uniform_(0, 1, rest).mul(high!.sub(low!)).add(low!);
    const normal = erfinv(u.clamp({ min: -almostOne, max: almostOne }))
      .mul(std * Math.SQRT2)
      .add(mean);
    tensor.copy_(normal.clamp({ min: a, max: b }));
  });
}

/**
 * Rows without their parts along those before them, each of norm 1 (Gram and Schmidt by halves, so that nearly all of
 * it is products of matrices).
 */
function orthonormal(rows: Tensor): Tensor {
  const n = rows.shape[0]!;
  if (n === 1) return rows.div(rows.square().sum(1, { keepdim: true }).sqrt());
  return tidy(() => {
    const first = orthonormal(narrow(rows, 0, 0, n >> 1));
    const rest = narrow(rows, 0, n >> 1, n - (n >> 1));
    const along = matmul(matmul(rest, first.transpose(0, 1)), first);
    return concat([first, orthonormal(rest.sub(along))], 0);
  });
}

/**
 * Fills with a matrix whose rows (or columns, of which there are fewer) are orthonormal, uniformly from all such (Saxe
 * et al. 2014, https://arxiv.org/abs/1312.6120). Axes behind the first count as one.
 *
 * @param tensor a weight [out, in, ...], floats
 * @param options `gain`, a factor (default 1), `generator`
 * @returns `tensor`
 * @throws FOVEA_SHAPE for fewer than two axes, FOVEA_DTYPE for integers and bool
 */
export function orthogonal_(tensor: Tensor, options: RandomOptions & { gain?: number } = {}): Tensor {
  const op = 'orthogonal_';
  fans(op, tensor);
  const { gain = 1, ...rest } = optionsArg(op, options, ['gain', 'generator']);
  numberArg(op, 'gain', gain);
  return inPlace(tensor, () => {
    tensor.normal_(0, 1, random(op, rest));
    if (tensor.size === 0) return;
    const [rows, columns] = [tensor.shape[0]!, tensor.size / tensor.shape[0]!];
    const matrix = tensor.to(dtypeNames[accumulatorOf(tensor.slot!.dtype)]!).reshape([rows, columns]);
    const wide = rows <= columns ? matrix : matrix.transpose(0, 1);
    // Once more: what rounding left along rows before is as large as the matrix's condition makes it.
    const q = runUnder({ autocast: null }, () => orthonormal(orthonormal(wide))).mul(gain);
    tensor.copy_((rows <= columns ? q : q.transpose(0, 1)).reshape(tensor.shape));
  });
}
