/**
 * Norms of channels, x [b, c, …]:
 *
 *   batchNorm  over a channel's elements of all images (Ioffe & Szegedy 2015, https://arxiv.org/abs/1502.03167)
 *   groupNorm  over those of some neighbouring channels of one image (Wu & He 2018, https://arxiv.org/abs/1803.08494)
 *
 *   y = (x - mean) / sqrt(variance + eps) weight[c] + bias[c]
 */
import { noGrad } from '../autograd/backward.js';
import { argumentError, countArg, optionsArg, shapeError } from '../tensor/check.js';
import { runsAgain } from '../tensor/draws.js';
import { accumulatorOf } from '../tensor/dtype.js';
import { sizeOf } from '../tensor/layout.js';
import { slotOf, type Tensor } from '../tensor/tensor.js';
import { tidy } from '../tensor/tidy.js';
import { inFloat32 } from './autocast.js';
import { castTo } from './cast.js';
import { defineOp } from './define-op.js';
import { add, lerp, mul, neg, rsqrt, square, sub } from './elementwise.js';
import { floatsArg } from './floats-arg.js';
import { copy_ } from './in-place.js';
import { kernels } from './kernels.gen.js';
import { epsOf, type LayerNormOptions } from './norm.js';
import { mean } from './reduce.js';
import { reshape, transpose } from './shape.js';

/** Options of `batchNorm`. */
export interface BatchNormOptions {
  /** Whether mean and variance are those of `x`, instead of the running ones; default false. */
  training?: boolean;
  /** How much of the running mean and variance training replaces: a number, or a tensor of no axes. Default 0.1. */
  momentum?: number | Tensor;
  /** Added to the variance; default 1e-5. */
  eps?: number | undefined;
}
/** Options of `groupNorm`. */
export type GroupNormOptions = LayerNormOptions;

type Vector = Tensor | null | undefined;
type Three = [images: number, channels: number, places: number];

/** y weight + bias, by channel of [n, c, s]. */
function affine(y: Tensor, weight: Vector, bias: Vector): Tensor {
  const scaled = weight ? mul(y, reshape(weight, [weight.size, 1])) : y;
  return bias ? add(scaled, reshape(bias, [bias.size, 1])) : scaled;
}

/** x [n, c, s] in `groups` of each image's channels, or for 0 by channel of all images. */
const channelNormOp = defineOp({
  kernel: 'channelNorm',
  backwardKernels: ['channelNormBackward'],
  saves: ['x', 'weight', 'bias', 'mean', 'variance'],
  auxiliary: ['mean', 'variance'],
  reference({ x, weight, bias }, { eps = 1e-5, groups = 0, rows: count = 0 }) {
    const [n, c, s] = x.shape as Three;
    const wide = castTo(x, accumulatorOf(x.slot!.dtype));
    const rows = groups ? reshape(wide, [count, (c / groups) * s]) : reshape(transpose(wide, 0, 1), [c, n * s]);
    const middle = mean(rows, -1, { keepdim: true });
    const centred = sub(rows, middle);
    const variance = mean(square(centred), -1, { keepdim: true });
    const normal = mul(centred, rsqrt(add(variance, eps)));
    const y = groups ? reshape(normal, [n, c, s]) : transpose(reshape(normal, [c, n, s]), 0, 1);
    const statistics = { mean: reshape(middle, [count]), variance: reshape(variance, [count]) };
    return { y: castTo(affine(y, weight, bias), x.slot!.dtype), ...statistics };
  },
  gradient({ x, weight, bias, mean: m, variance }, { y: dy }, { eps, groups }) {
    const { dx, dweight, dbias } = kernels.channelNormBackward({ x, weight, mean: m, variance, dy }, { eps, groups });
    return { x: dx, weight: weight && dweight, bias: bias && dbias };
  },
});

/** Checks x [b, c, …] of floats. @returns its sizes with all places as one */
function sizesArg(op: string, x: Tensor): Three {
  const [b, c, ...places] = floatsArg(op, 'x', x, [2, 3, 4, 5, 6, 7, 8]);
  return [b!, c!, sizeOf(places)];
}
/** A number for each channel, if there is one. */
function vectorArg(op: string, name: string, v: Vector, channels: number): Vector {
  if (v === undefined || v === null) return undefined;
  const [length] = floatsArg(op, name, v, [1]);
  if (length !== channels) throw shapeError(op, `expected ${name} [${channels}], received [${length}]`);
  return v;
}
interface Affine {
  readonly weight: Tensor | undefined;
  readonly bias: Tensor | undefined;
}
/** Weight and bias in the dtype that is computed in. */
function affineArg(op: string, given: { weight: Vector; bias: Vector }, channels: number, code: number): Affine {
  const [weight, bias] = (['weight', 'bias'] as const).map((name) => vectorArg(op, name, given[name], channels));
  return { weight: weight ? castTo(weight, code) : undefined, bias: bias ? castTo(bias, code) : undefined };
}

/** running + momentum (value - running), in place. */
function follow(running: Vector, value: Tensor, momentum: number | Tensor): void {
  if (running) copy_(running, lerp(running, castTo(value, running.slot!.dtype), momentum));
}

/** Below so many places a channel's elements are brought together first: they would be too few at a time. */
const FEW_PLACES = 32;

/** What is known of each channel, in the dtype that is computed in, and how training goes on from there. */
interface Channels extends Affine {
  readonly runningMean: Vector;
  readonly runningVar: Vector;
  readonly momentum: number | Tensor;
  readonly eps: number;
}
/** By mean and variance of x itself, which the running ones follow; their variance is divided by n - 1. */
function byBatch(x: Tensor, [b, c, places]: Three, { weight, bias, eps, ...running }: Channels): Tensor {
  const few = places < FEW_PLACES && b > 1;
  const images = reshape(x, [b, c, places]);
  const rows = few ? reshape(transpose(images, 0, 1), [1, c, b * places]) : images;
  const { y, mean: middle, variance } = channelNormOp({ x: rows, weight, bias }, { eps, groups: 0, rows: c });
  const count = b * places;
  const move = (): void => {
    follow(running.runningMean, middle, running.momentum);
    follow(running.runningVar, mul(variance, count / (count - 1)), running.momentum);
  };
  if (!runsAgain()) noGrad(() => tidy(move));
  return reshape(few ? transpose(reshape(y, [c, b, places]), 0, 1) : y, x.shape);
}
/** By the running mean and variance: x scale + (bias - mean scale). */
function byRunning(x: Tensor, sizes: Three, { weight, bias, runningMean, runningVar, eps }: Channels): Tensor {
  if (!runningMean || !runningVar)
    throw argumentError('batchNorm', 'runningMean and runningVar', 'tensors outside of training', runningMean ?? null);
  const code = accumulatorOf(x.slot!.dtype);
  const rstd = rsqrt(add(castTo(runningVar, code), eps));
  const scale = weight ? mul(rstd, weight) : rstd;
  const moved = mul(castTo(runningMean, code), scale);
  const y = affine(castTo(reshape(x, sizes), code), scale, bias ? sub(bias, moved) : neg(moved));
  return reshape(castTo(y, x.slot!.dtype), x.shape);
}

/**
 * Batch normalisation (Ioffe & Szegedy 2015, https://arxiv.org/abs/1502.03167): each channel by its mean and (biased)
 * variance over batch and places, or by those that training has kept. In training the running mean and the running
 * variance (divided by n - 1) move towards those of `x`, in place and without gradient; once, where `checkpoint` runs
 * it twice.
 *
 * @param x [b, c, ...]; floats, of which 16-bit ones are computed in float32
 * @param runningMean [c]; without training it must be there
 * @param runningVar [c]; without training it must be there
 * @param weight [c]; no scale without it
 * @param bias [c]; no shift without it
 * @returns the shape and dtype of `x`
 * @throws FOVEA_SHAPE for less than two axes, vectors of another length, or one element for each channel in training,
 *   FOVEA_DTYPE for integers and bool, FOVEA_ARGUMENT without running ones outside of training, or for a momentum that
 *   is none
 */
export function batchNorm(
  x: Tensor,
  runningMean: Tensor | null | undefined,
  runningVar: Tensor | null | undefined,
  weight?: Tensor | null,
  bias?: Tensor | null,
  options?: BatchNormOptions,
): Tensor {
  const op = 'batchNorm';
  const { training = false, momentum = 0.1, eps } = optionsArg(op, options, ['training', 'momentum', 'eps']);
  const sizes = sizesArg(op, x);
  const [b, c, places] = sizes;
  const code = accumulatorOf(x.slot!.dtype);
  vectorArg(op, 'runningMean', runningMean, c);
  vectorArg(op, 'runningVar', runningVar, c);
  if (typeof momentum !== 'number' && slotOf(momentum, op, 'momentum').shape.length > 0)
    throw argumentError(op, 'momentum', 'a number or a tensor of no axes', momentum);
  const channels: Channels = {
    ...affineArg(op, { weight, bias }, c, code),
    runningMean,
    runningVar,
    momentum,
    eps: epsOf(op, { eps }, 1e-5),
  };
  if (!training) return byRunning(x, sizes, channels);
  if (b * places < 2)
    throw shapeError(op, `training needs more than one element for each channel, received x [${x.shape.join(',')}]`);
  return byBatch(x, sizes, channels);
}

/**
 * Group normalisation (Wu & He 2018, https://arxiv.org/abs/1803.08494): groups of neighbouring channels of each image
 * by their mean and (biased) variance over all places. As many groups as channels are instance normalisation.
 *
 * @param x [b, c, ...]; floats, of which 16-bit ones are computed in float32
 * @param numGroups a divisor of c
 * @param weight [c]; no scale without it
 * @param bias [c]; no shift without it
 * @returns the shape and dtype of `x`; under `autocast` 16-bit floats give float32
 * @throws FOVEA_SHAPE for less than two axes, groups that do not divide the channels or vectors of another length,
 *   FOVEA_DTYPE for integers and bool, FOVEA_ARGUMENT for less than one group
 */
export function groupNorm(
  x: Tensor,
  numGroups: number,
  weight?: Tensor | null,
  bias?: Tensor | null,
  options?: GroupNormOptions,
): Tensor {
  const op = 'groupNorm';
  const eps = epsOf(op, options, 1e-5);
  const input = inFloat32(x);
  const sizes = sizesArg(op, input);
  const [b, c] = sizes;
  countArg(op, 'numGroups', numGroups, 1);
  if (c % numGroups)
    throw shapeError(op, `the ${c} channels of x [${x.shape.join(',')}] do not divide into ${numGroups} groups`);
  const code = accumulatorOf(input.slot!.dtype);
  const given = { x: reshape(input, sizes), ...affineArg(op, { weight, bias }, c, code) };
  return reshape(channelNormOp(given, { eps, groups: numGroups, rows: b * numGroups }).y, x.shape);
}
