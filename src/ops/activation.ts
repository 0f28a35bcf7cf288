/** Activation functions. Their gradients are kernels of their own; `composed` forms serve higher-order gradients. */
import { argumentError, dimArg, numberArg, optionsArg, shapeError } from '../tensor/check.js';
import { slotOf, type Tensor } from '../tensor/tensor.js';
import { inFloat32 } from './autocast.js';
import { castTo } from './cast.js';
import { gt } from './compare.js';
import { defineOp } from './define-op.js';
import { abs, add, div, erf, exp, log1p, maximum, mul, neg, pow, sub } from './elementwise.js';
import { kernels } from './kernels.gen.js';
import { floating } from './promote.js';
import { slice } from './shape.js';

const reluOp = defineOp({
  kernel: 'relu',
  backwardKernels: ['reluBackward'],
  saves: ['y'],
  reference: ({ x }) => ({ y: maximum(x, 0) }),
  gradient: ({ y }, { y: dy }) => ({ x: kernels.reluBackward({ y, dy }, {}).dx }),
  composed: ({ y }, { y: dy }) => ({ x: mul(dy, castTo(gt(y, 0), dy.slot!.dtype)) }),
});
const sigmoidOp = defineOp({
  kernel: 'sigmoid',
  backwardKernels: ['sigmoidBackward'],
  saves: ['y'],
  reference: ({ x }) => ({ y: div(1, add(exp(neg(x)), 1)) }),
  gradient: ({ y }, { y: dy }) => ({ x: kernels.sigmoidBackward({ y, dy }, {}).dx }),
  composed: ({ y }, { y: dy }) => ({ x: mul(dy, mul(y, sub(1, y))) }),
});
const tanhOp = defineOp({
  kernel: 'tanh',
  backwardKernels: ['tanhBackward'],
  saves: ['y'],
  reference: ({ x }) => ({ y: sub(1, div(2, add(exp(mul(x, 2)), 1))) }),
  gradient: ({ y }, { y: dy }) => ({ x: kernels.tanhBackward({ y, dy }, {}).dx }),
  composed: ({ y }, { y: dy }) => ({ x: mul(dy, sub(1, mul(y, y))) }),
});
const geluOp = defineOp({
  kernel: 'gelu',
  backwardKernels: ['geluBackward'],
  saves: ['x'],
  reference: ({ x }) => ({ y: mul(mul(x, 0.5), add(erf(mul(x, Math.SQRT1_2)), 1)) }),
  gradient: ({ x }, { y: dy }) => ({ x: kernels.geluBackward({ x, dy }, {}).dx }),
});
const geluTanhOp = defineOp({
  kernel: 'geluTanh',
  backwardKernels: ['geluTanhBackward'],
  saves: ['x'],
  reference({ x }) {
    const inner = mul(add(x, mul(pow(x, 3), 0.044715)), Math.sqrt(2 / Math.PI));
    return { y: mul(mul(x, 0.5), add(tanh(inner), 1)) };
  },
  gradient: ({ x }, { y: dy }) => ({ x: kernels.geluTanhBackward({ x, dy }, {}).dx }),
});
const siluOp = defineOp({
  kernel: 'silu',
  backwardKernels: ['siluBackward'],
  saves: ['x'],
  reference: ({ x }) => ({ y: mul(x, sigmoid(x)) }),
  gradient: ({ x }, { y: dy }) => ({ x: kernels.siluBackward({ x, dy }, {}).dx }),
});
const softplusOp = defineOp({
  kernel: 'softplus',
  backwardKernels: ['softplusBackward'],
  saves: ['x'],
  // max(x, 0) + log(1 + e^-|bx|) / b never overflows; beyond the threshold the last term vanishes anyway
  reference: ({ x }, { beta = 1 }) => ({ y: add(maximum(x, 0), div(log1p(exp(neg(abs(mul(x, beta))))), beta)) }),
  gradient: ({ x }, { y: dy }, attrs) => ({ x: kernels.softplusBackward({ x, dy }, attrs).dx }),
});

/**
 * max(x, 0), whose gradient at 0 is 0 (Nair & Hinton 2010).
 *
 * @param x any shape, floats or integers; only floats have a gradient
 * @returns the shape and dtype of `x`
 * @throws FOVEA_DTYPE for bool
 */
export function relu(x: Tensor): Tensor {
  return reluOp({ x }).y;
}
/**
 * 1 / (1 + e^-x).
 *
 * @param x any shape; integers and bool become float32
 * @returns the shape of `x`, floats
 */
export function sigmoid(x: Tensor): Tensor {
  return sigmoidOp({ x: floating(x, 'sigmoid') }).y;
}
/**
 * The hyperbolic tangent.
 *
 * @param x any shape; integers and bool become float32
 * @returns the shape of `x`, floats
 */
export function tanh(x: Tensor): Tensor {
  return tanhOp({ x: floating(x, 'tanh') }).y;
}
/** Options of `gelu`. */
export interface GeluOptions {
  /** 'none' (default): exact, through erf. 'tanh': the approximation that GPT-2 uses. */
  approximate?: 'none' | 'tanh';
}
/**
 * x Phi(x), Phi being the normal distribution function (Hendrycks & Gimpel 2016, https://arxiv.org/abs/1606.08415).
 *
 * @param x any shape, floats
 * @returns the shape and dtype of `x`
 * @throws FOVEA_DTYPE for integers and bool, FOVEA_ARGUMENT for an `approximate` that is neither 'none' nor 'tanh'
 */
export function gelu(x: Tensor, options?: GeluOptions): Tensor {
  const { approximate = 'none' } = optionsArg('gelu', options, ['approximate']);
  if (approximate === 'none') return geluOp({ x }).y;
  if (approximate !== 'tanh') throw argumentError('gelu', 'approximate', "'none' or 'tanh'", approximate);
  return geluTanhOp({ x }).y;
}
/**
 * x sigmoid(x), also called swish (Elfwing et al. 2017, https://arxiv.org/abs/1702.03118).
 *
 * @param x any shape, floats
 * @returns the shape and dtype of `x`
 * @throws FOVEA_DTYPE for integers and bool
 */
export function silu(x: Tensor): Tensor {
  return siluOp({ x }).y;
}
/** Options of `softplus`. */
export interface SoftplusOptions {
  /** Sharpness; default 1. */
  beta?: number;
  /** Where beta x exceeds this (default 20), the result is x. */
  threshold?: number;
}
/**
 * log(1 + e^(beta x)) / beta, a smooth relu (Dugas et al. 2000).
 *
 * @param x any shape, floats
 * @returns the shape and dtype of `x`
 * @throws FOVEA_DTYPE for integers and bool
 */
export function softplus(x: Tensor, options?: SoftplusOptions): Tensor {
  const { beta = 1, threshold = 20 } = optionsArg('softplus', options, ['beta', 'threshold']);
  return softplusOp(
    { x: inFloat32(x) },
    { beta: numberArg('softplus', 'beta', beta), threshold: numberArg('softplus', 'threshold', threshold) },
  ).y;
}
/**
 * log sigmoid(x), without overflow.
 *
 * @param x any shape; integers and bool become float32
 * @returns the shape of `x`, floats
 */
export function logSigmoid(x: Tensor): Tensor {
  return neg(softplusOp({ x: neg(floating(x, 'logSigmoid')) }, { beta: 1, threshold: 20 }).y);
}
/** Options of `leakyRelu`. */
export interface LeakyReluOptions {
  /** Default 0.01. */
  negativeSlope?: number;
}
/**
 * x where positive, else negativeSlope x (Maas et al. 2013).
 *
 * @param x any shape, floats or integers
 * @returns the shape of `x`; float32 for integers unless the slope is whole
 * @throws FOVEA_DTYPE for bool
 */
export function leakyRelu(x: Tensor, options?: LeakyReluOptions): Tensor {
  const { negativeSlope = 0.01 } = optionsArg('leakyRelu', options, ['negativeSlope']);
  slotOf(x, 'leakyRelu', 'x');
  return sub(relu(x), mul(relu(neg(x)), numberArg('leakyRelu', 'negativeSlope', negativeSlope)));
}
/**
 * The first half of axis `dim` times the sigmoid of the second (Dauphin et al. 2017, https://arxiv.org/abs/1612.08083).
 *
 * @param x [..., 2n, ...], the axis `dim` being 2n
 * @returns [..., n, ...]
 * @throws FOVEA_SHAPE for an axis of odd size, FOVEA_ARGUMENT for a `dim` that is not there
 */
export function glu(x: Tensor, dim = -1): Tensor {
  const { shape } = slotOf(x, 'glu', 'x');
  const d = dimArg('glu', dim, shape.length);
  const n = shape[d];
  if (n === undefined || n % 2)
    throw shapeError('glu', `expected an even size of axis ${d}, received x [${shape.join(',')}]`);
  return mul(slice(x, d, 0, n / 2), sigmoid(slice(x, d, n / 2)));
}
