/** Losses of pairs of elements, x and its target t. The mean over all is the default, as in PyTorch. */
import { argumentError, numberArg, optionsArg } from '../tensor/check.js';
import type { Tensor } from '../tensor/tensor.js';
import { sigmoid } from './activation.js';
import { eq } from './compare.js';
import { abs, add, div, exp, log, log1p, maximum, mul, neg, pow, square, sub } from './elementwise.js';
import {
  factorArg,
  type LossOperands,
  type LossOptions,
  lossOperands,
  positiveArg,
  reductionArg,
  type Reduction,
  sameShapes,
} from './loss-common.js';
import { sum } from './reduce.js';
import { clamp, where } from './select.js';

function pairOf(op: string, input: Tensor, target: Tensor): LossOperands {
  sameShapes(op, { input, target });
  return lossOperands(op, input, target);
}
function differenceLoss(
  op: string,
  input: Tensor,
  target: Tensor,
  reduction: Reduction | undefined,
  loss: (difference: Tensor) => Tensor,
): Tensor {
  const how = reductionArg(op, reduction);
  const { operands, finish } = pairOf(op, input, target);
  return finish(loss(sub(operands[0]!, operands[1]!)), how);
}

/**
 * (input - target)^2
 *
 * @param input any shape, floats
 * @param target the shape of `input`
 * @returns 0-d, or with reduction 'none' the losses in the shape of `input`, in the dtype that both promote to
 * @throws FOVEA_SHAPE if the shapes differ, FOVEA_DTYPE for two of integers
 */
export function mseLoss(input: Tensor, target: Tensor, options?: LossOptions): Tensor {
  const { reduction } = optionsArg('mseLoss', options, ['reduction']);
  return differenceLoss('mseLoss', input, target, reduction, square);
}
/**
 * |input - target|
 *
 * @param input any shape, floats
 * @param target the shape of `input`
 * @returns 0-d, or with reduction 'none' the losses in the shape of `input`, in the dtype that both promote to
 * @throws FOVEA_SHAPE if the shapes differ, FOVEA_DTYPE for two of integers
 */
export function l1Loss(input: Tensor, target: Tensor, options?: LossOptions): Tensor {
  const { reduction } = optionsArg('l1Loss', options, ['reduction']);
  return differenceLoss('l1Loss', input, target, reduction, abs);
}

/** m (|d| - m / 2) / scale with m = min(|d|, bound): the parabola up to the bound, its tangent behind. */
function huber(d: Tensor, bound: number, scale: number): Tensor {
  const size = abs(d);
  const capped = clamp(size, { max: bound });
  return mul(div(capped, scale), sub(size, div(capped, 2)));
}

/** Options of `huberLoss`. */
export interface HuberLossOptions extends LossOptions {
  /** Where the parabola ends and the straight line begins; default 1. */
  delta?: number;
}
/**
 * d^2 / 2 where |d| < delta, else delta (|d| - delta / 2), for d = input - target (Huber 1964).
 *
 * @param input any shape, floats
 * @param target the shape of `input`
 * @returns 0-d, or with reduction 'none' the losses in the shape of `input`, in the dtype that both promote to
 * @throws FOVEA_SHAPE if the shapes differ, FOVEA_ARGUMENT unless delta is above 0, FOVEA_DTYPE for two of integers
 */
export function huberLoss(input: Tensor, target: Tensor, options?: HuberLossOptions): Tensor {
  const { reduction, delta = 1 } = optionsArg('huberLoss', options, ['reduction', 'delta']);
  positiveArg('huberLoss', 'delta', delta);
  return differenceLoss('huberLoss', input, target, reduction, (d) => huber(d, delta, 1));
}

/** Options of `smoothL1Loss`. */
export interface SmoothL1LossOptions extends LossOptions {
  /** Where the parabola ends and the straight line begins; default 1, and 0 is `l1Loss`. */
  beta?: number;
}
/**
 * d^2 / (2 beta) where |d| < beta, else |d| - beta / 2, for d = input - target (Girshick 2015,
 * https://arxiv.org/abs/1504.08083): `huberLoss` by beta.
 *
 * @param input any shape, floats
 * @param target the shape of `input`
 * @returns 0-d, or with reduction 'none' the losses in the shape of `input`, in the dtype that both promote to
 * @throws FOVEA_SHAPE if the shapes differ, FOVEA_ARGUMENT for a beta below 0, FOVEA_DTYPE for two of integers
 */
export function smoothL1Loss(input: Tensor, target: Tensor, options?: SmoothL1LossOptions): Tensor {
  const { reduction, beta = 1 } = optionsArg('smoothL1Loss', options, ['reduction', 'beta']);
  if (beta !== 0) positiveArg('smoothL1Loss', 'beta', beta);
  const loss = (d: Tensor): Tensor => (beta === 0 ? abs(d) : huber(d, beta, beta));
  return differenceLoss('smoothL1Loss', input, target, reduction, loss);
}

/** Options of `binaryCrossEntropyWithLogits`. */
export interface BinaryCrossEntropyOptions extends LossOptions {
  /** Factor of each loss; broadcasts to `input` (default: 1). */
  weight?: Tensor | null;
  /** Factor of the positive part, e.g. negatives / positives for each class; broadcasts to `input` (default: 1). */
  posWeight?: Tensor | null;
}
/** log(1 + e^x) and log(1 + e^-x), that is -log(1 - p) and -log p for p = sigmoid(x), without overflow. */
function surprises(x: Tensor): { ofZero: Tensor; ofOne: Tensor } {
  const tail = log1p(exp(neg(abs(x))));
  return { ofZero: add(maximum(x, 0), tail), ofOne: add(maximum(neg(x), 0), tail) };
}
function logitsLoss(x: Tensor, t: Tensor, posWeight?: Tensor): Tensor {
  // With one factor for both parts they join to max(x, 0) - x t + log(1 + e^-|x|).
  if (!posWeight) return add(sub(maximum(x, 0), mul(x, t)), log1p(exp(neg(abs(x)))));
  const { ofZero, ofOne } = surprises(x);
  return add(mul(mul(t, posWeight), ofOne), mul(sub(1, t), ofZero));
}
/**
 * -w (v t log sigmoid(x) + (1 - t) log(1 - sigmoid(x))), without overflow; w is `weight` and v `posWeight`.
 *
 * @param input logits of any shape
 * @param target probabilities in the shape of `input`
 * @returns 0-d, or with reduction 'none' the losses in the shape of `input`, in the dtype that all promote to
 * @throws FOVEA_SHAPE if the shapes differ, or a factor does not broadcast to them
 */
export function binaryCrossEntropyWithLogits(
  input: Tensor,
  target: Tensor,
  options?: BinaryCrossEntropyOptions,
): Tensor {
  const op = 'binaryCrossEntropyWithLogits';
  const given = optionsArg(op, options, ['reduction', 'weight', 'posWeight']);
  const how = reductionArg(op, given.reduction);
  sameShapes(op, { input, target });
  const factors = { weight: given.weight ?? undefined, posWeight: given.posWeight ?? undefined };
  for (const [name, factor] of Object.entries(factors)) if (factor) factorArg(op, name, factor, input.shape);
  const present = Object.values(factors).filter((x) => x !== undefined);
  const { operands, finish } = lossOperands(op, input, target, ...present);
  const [x, t, ...rest] = operands as [Tensor, Tensor, ...Tensor[]];
  const weight = factors.weight && rest[0];
  const loss = logitsLoss(x, t, factors.posWeight && rest.at(-1));
  return finish(weight ? mul(loss, weight) : loss, how);
}

/** Options of `sigmoidFocalLoss`. */
export interface SigmoidFocalLossOptions {
  /** Share of the positives, 1 - alpha being that of the negatives; -1: both count alike. Default 0.25. */
  alpha?: number;
  /** How much less what is easy counts; 0 is `binaryCrossEntropyWithLogits`. Default 2. */
  gamma?: number;
  /** Default 'none', as in torchvision. */
  reduction?: Reduction;
}
/** What 1 - p_t counts as where it is less: its power below 1 has no finite slope at 0. */
const SMALLEST_MISS = 2 ** -126;
/**
 * alpha_t (1 - p_t)^gamma CE (Lin et al. 2017, https://arxiv.org/abs/1708.02002), elementwise, with p = sigmoid(x),
 * 1 - p_t = t (1 - p) + (1 - t) p, alpha_t = alpha t + (1 - alpha) (1 - t) and CE the binary cross entropy;
 * torchvision's `sigmoid_focal_loss`.
 *
 * @param input logits of any shape
 * @param target 0, 1 or probabilities in the shape of `input`
 * @returns the losses in the shape of `input`, or 0-d with a reduction, in the dtype that both promote to
 * @throws FOVEA_SHAPE if the shapes differ, FOVEA_ARGUMENT for an alpha that is neither a share nor -1, or a gamma
 *   below 0
 */
export function sigmoidFocalLoss(input: Tensor, target: Tensor, options?: SigmoidFocalLossOptions): Tensor {
  const op = 'sigmoidFocalLoss';
  const { alpha = 0.25, gamma = 2, reduction = 'none' } = optionsArg(op, options, ['alpha', 'gamma', 'reduction']);
  const how = reductionArg(op, reduction);
  if (!(numberArg(op, 'alpha', alpha) === -1 || (alpha >= 0 && alpha <= 1)))
    throw argumentError(op, 'alpha', 'a share between 0 and 1, or -1', alpha);
  if (!(numberArg(op, 'gamma', gamma) >= 0)) throw argumentError(op, 'gamma', 'a number of at least 0', gamma);
  const { operands, finish } = pairOf(op, input, target);
  const [x, t] = operands as [Tensor, Tensor];
  let loss = logitsLoss(x, t);
  if (gamma !== 0) {
    const miss = add(mul(t, sigmoid(neg(x))), mul(sub(1, t), sigmoid(x)));
    loss = mul(loss, pow(clamp(miss, { min: SMALLEST_MISS }), gamma));
  }
  return finish(alpha === -1 ? loss : mul(loss, add(mul(t, 2 * alpha - 1), 1 - alpha)), how);
}

/** Options of `klDiv`. */
export interface KlDivOptions {
  /** 'batchmean' divides the sum by the first axis, which is the mathematical definition. */
  reduction?: Reduction | 'batchmean';
  /** Whether the target too is given as logarithms. */
  logTarget?: boolean;
}
/**
 * target (log target - input), for an input of log-probabilities (Kullback & Leibler 1951); 0 where the target is 0.
 *
 * @param input log-probabilities of any shape
 * @param target probabilities (with `logTarget` their logarithms) in the shape of `input`
 * @returns 0-d, or with reduction 'none' the terms in the shape of `input`, in the dtype that both promote to
 * @throws FOVEA_SHAPE if the shapes differ, FOVEA_ARGUMENT for an unknown reduction
 */
export function klDiv(input: Tensor, target: Tensor, options?: KlDivOptions): Tensor {
  const { reduction = 'mean', logTarget = false } = optionsArg('klDiv', options, ['reduction', 'logTarget']);
  const { operands, finish } = pairOf('klDiv', input, target);
  const [x, t] = operands as [Tensor, Tensor];
  // t log t of t = 0 is 0, and what is left of its slope there is that of -t x
  const entropy = (): Tensor => mul(t, log(where(eq(t, 0), 1, t)));
  const loss = logTarget ? mul(exp(t), sub(t, x)) : sub(entropy(), mul(t, x));
  if (reduction !== 'batchmean') return finish(loss, reductionArg('klDiv', reduction));
  return finish(div(sum(loss), input.shape[0] ?? 1), 'sum');
}
