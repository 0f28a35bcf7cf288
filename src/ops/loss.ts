/** Losses. The mean over what counts is the default, as in PyTorch. */
import { FoveaError } from '../errors.js';
import { integerArg, optionsArg, probabilityArg, shapeError } from '../tensor/check.js';
import { accumulatorOf, Code, isFloat } from '../tensor/dtype.js';
import { sameShape, sizeOf } from '../tensor/layout.js';
import { slotOf, type Tensor } from '../tensor/tensor.js';
import { inFloat32 } from './autocast.js';
import { castTo } from './cast.js';
import { eq, ne } from './compare.js';
import { defineOp } from './define-op.js';
import { abs, add, div, exp, log, log1p, maximum, mul, neg, square, sub } from './elementwise.js';
import { where } from './select.js';
import { gather } from './indexing.js';
import { kernels } from './kernels.gen.js';
import { countTargets, reductionArg, type Reduction } from './loss-common.js';
import { mean, sum } from './reduce.js';
import { logSoftmax } from './softmax.js';
import { movedim, reshape, unsqueeze } from './shape.js';

/** Options of all losses. */
export interface LossOptions {
  /** Default 'mean'. */
  reduction?: Reduction;
}
/** Options of `crossEntropy`. */
export interface CrossEntropyOptions extends LossOptions {
  /** The target that does not count; default -100. */
  ignoreIndex?: number;
  /** The share of the target that is spread evenly over all classes; default 0. */
  labelSmoothing?: number;
}
/** Options of `nllLoss`. */
export interface NllLossOptions extends LossOptions {
  /** The target that does not count; default -100. */
  ignoreIndex?: number;
}

function reduced(loss: Tensor, reduction: Reduction): Tensor {
  return reduction === 'none' ? loss : reduction === 'sum' ? sum(loss) : mean(loss);
}

const crossEntropyOp = defineOp({
  kernel: 'crossEntropy',
  backwardKernels: ['crossEntropyBackward'],
  saves: ['logits', 'target', 'lse'],
  auxiliary: ['lse'],
  // loss = lse - (1 - s) x[target] - s mean(x); 0 where target = ignoreIndex
  reference({ logits, target }, { ignoreIndex = -100, labelSmoothing = 0 }) {
    const logp = logSoftmax(castTo(logits, accumulatorOf(logits.slot!.dtype)), -1);
    const counts = ne(target, ignoreIndex);
    const picked = neg(reshape(gather(logp, 1, unsqueeze(where(counts, target, 0), 1)), target.shape));
    const loss = add(mul(picked, 1 - labelSmoothing), mul(mean(logp, -1), -labelSmoothing));
    return { loss: where(counts, loss, 0) };
  },
  gradient: ({ logits, target, lse }, { loss: dloss }, attrs) => ({
    logits: kernels.crossEntropyBackward({ logits, target, lse, dloss }, attrs).dlogits,
  }),
});

/** Class logits [c], [n, c] or [n, c, ...] as rows. */
function classRows(op: string, x: Tensor): Tensor {
  const { shape } = slotOf(x, op, 'logits');
  if (shape.length === 0) throw shapeError(op, 'expected logits [n,c], received a 0-d tensor');
  if (shape.length === 1) return unsqueeze(x, 0);
  const last = shape.length === 2 ? x : movedim(x, 1, -1);
  return reshape(last, [sizeOf(last.shape.slice(0, -1)), shape[1]!]);
}
function targetShape(shape: readonly number[]): readonly number[] {
  return shape.length === 1 ? [] : shape.filter((_, i) => i !== 1);
}
/** The mean over the targets that count; NaN, as in PyTorch, where none does. */
function meanCounted(loss: Tensor, target: Tensor, ignoreIndex: number): Tensor {
  return div(sum(loss), countTargets(target, ignoreIndex, loss.slot!.dtype));
}
function classTarget(op: string, logits: Tensor, target: Tensor): Tensor {
  const { shape, dtype } = slotOf(target, op, 'target');
  if (isFloat(dtype) || dtype === Code.bool)
    throw new FoveaError('FOVEA_DTYPE', `${op}: expected class numbers (int64) for target, received ${target.dtype}`);
  const wanted = targetShape(logits.shape);
  if (!sameShape(shape, wanted))
    throw shapeError(
      op,
      `logits [${logits.shape.join(',')}] need a target [${wanted.join(',')}], received [${shape.join(',')}]`,
    );
  return reshape(castTo(target, Code.int64), [sizeOf(shape)]);
}

/**
 * -log of the probability of the target class, from logits: loss = log sum e^x - (1 - s) x[target] - s mean(x), s being
 * `labelSmoothing` (Szegedy et al. 2015, https://arxiv.org/abs/1512.00567).
 *
 * @param logits [c], [n, c] or [n, c, ...], floats
 * @param target class numbers [n] or [n, ...] (integers), or probabilities of the shape of `logits`
 * @returns 0-d, or with reduction 'none' the losses in the shape of the class numbers; the mean over no targets is NaN
 * @throws FOVEA_SHAPE for a target that does not fit, FOVEA_DTYPE for logits that are no floats or a target of bool,
 *   FOVEA_ARGUMENT for options out of range; rejects with FOVEA_INDEX if a target is neither a class nor `ignoreIndex`
 */
export function crossEntropy(logits: Tensor, target: Tensor, options?: CrossEntropyOptions): Tensor {
  const given = optionsArg('crossEntropy', options, ['reduction', 'ignoreIndex', 'labelSmoothing']);
  const { ignoreIndex = -100, labelSmoothing = 0 } = given;
  const reduction = reductionArg('crossEntropy', given.reduction);
  integerArg('crossEntropy', 'ignoreIndex', ignoreIndex);
  probabilityArg('crossEntropy', 'labelSmoothing', labelSmoothing);
  slotOf(logits, 'crossEntropy', 'logits');
  if (isFloat(slotOf(target, 'crossEntropy', 'target').dtype))
    return softCrossEntropy(logits, target, labelSmoothing, reduction);
  const classes = classTarget('crossEntropy', logits, target);
  const { loss } = crossEntropyOp(
    { logits: classRows('crossEntropy', logits), target: classes },
    { ignoreIndex, labelSmoothing },
  );
  if (reduction === 'mean') return meanCounted(loss, classes, ignoreIndex);
  return reduction === 'sum' ? sum(loss) : reshape(loss, target.shape);
}

/** -sum_c t[c] log p[c] for a target of probabilities. */
function softCrossEntropy(logits: Tensor, target: Tensor, smoothing: number, reduction: Reduction): Tensor {
  if (!sameShape(logits.shape, target.shape))
    throw shapeError(
      'crossEntropy',
      `a target of probabilities needs the shape of the logits [${logits.shape.join(',')}], received [${target.shape.join(',')}]`,
    );
  const rows = classRows('crossEntropy', inFloat32(logits));
  const c = rows.shape[1]!;
  const smooth = add(mul(classRows('crossEntropy', inFloat32(target)), 1 - smoothing), smoothing / c);
  const loss = neg(sum(mul(logSoftmax(rows, 1), smooth), 1));
  return reduction === 'none' ? reshape(loss, targetShape(logits.shape)) : reduced(loss, reduction);
}

/**
 * -x[target], for log-probabilities.
 *
 * @param logProbs [c], [n, c] or [n, c, ...]
 * @param target class numbers [n] or [n, ...], integers
 * @returns 0-d, or with reduction 'none' the losses in the shape of the target
 * @throws FOVEA_SHAPE for a target that does not fit, FOVEA_DTYPE for one of floats or bool; rejects with FOVEA_INDEX
 *   if a target is neither a class nor `ignoreIndex`
 */
export function nllLoss(logProbs: Tensor, target: Tensor, options?: NllLossOptions): Tensor {
  const given = optionsArg('nllLoss', options, ['reduction', 'ignoreIndex']);
  const reduction = reductionArg('nllLoss', given.reduction);
  const ignoreIndex = integerArg('nllLoss', 'ignoreIndex', given.ignoreIndex ?? -100);
  slotOf(logProbs, 'nllLoss', 'logProbs');
  const classes = classTarget('nllLoss', logProbs, target);
  const counts = ne(classes, ignoreIndex);
  const picked = gather(classRows('nllLoss', inFloat32(logProbs)), 1, unsqueeze(where(counts, classes, 0), 1));
  const loss = where(counts, neg(reshape(picked, classes.shape)), 0);
  if (reduction === 'mean') return meanCounted(loss, classes, ignoreIndex);
  return reduction === 'sum' ? sum(loss) : reshape(loss, target.shape);
}

function pair(op: string, input: Tensor, target: Tensor): void {
  const a = slotOf(input, op, 'input').shape;
  const b = slotOf(target, op, 'target').shape;
  if (!sameShape(a, b)) throw shapeError(op, `input [${a.join(',')}] and target [${b.join(',')}] differ`);
}

/**
 * (input - target)^2
 *
 * @param input any shape, floats
 * @param target the shape of `input`
 * @returns 0-d, or with reduction 'none' the losses in the shape of `input`
 * @throws FOVEA_SHAPE if the shapes differ, FOVEA_DTYPE for the mean of integers
 */
export function mseLoss(input: Tensor, target: Tensor, options?: LossOptions): Tensor {
  const reduction = reductionArg('mseLoss', optionsArg('mseLoss', options, ['reduction']).reduction);
  pair('mseLoss', input, target);
  return reduced(square(sub(inFloat32(input), inFloat32(target))), reduction);
}
/**
 * |input - target|
 *
 * @param input any shape, floats
 * @param target the shape of `input`
 * @returns 0-d, or with reduction 'none' the losses in the shape of `input`
 * @throws FOVEA_SHAPE if the shapes differ, FOVEA_DTYPE for the mean of integers
 */
export function l1Loss(input: Tensor, target: Tensor, options?: LossOptions): Tensor {
  const reduction = reductionArg('l1Loss', optionsArg('l1Loss', options, ['reduction']).reduction);
  pair('l1Loss', input, target);
  return reduced(abs(sub(inFloat32(input), inFloat32(target))), reduction);
}
/**
 * -(t log sigmoid(x) + (1 - t) log(1 - sigmoid(x))), without overflow: max(x, 0) - x t + log(1 + e^-|x|).
 *
 * @param input logits of any shape
 * @param target probabilities in the shape of `input`
 * @returns 0-d, or with reduction 'none' the losses in the shape of `input`
 * @throws FOVEA_SHAPE if the shapes differ
 */
export function binaryCrossEntropyWithLogits(input: Tensor, target: Tensor, options?: LossOptions): Tensor {
  const op = 'binaryCrossEntropyWithLogits';
  const reduction = reductionArg(op, optionsArg(op, options, ['reduction']).reduction);
  pair(op, input, target);
  const [x, t] = [inFloat32(input), inFloat32(target)];
  const loss = add(sub(maximum(x, 0), mul(x, t)), log1p(exp(neg(abs(x)))));
  return reduced(loss, reduction);
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
 * @returns 0-d, or with reduction 'none' the terms in the shape of `input`
 * @throws FOVEA_SHAPE if the shapes differ, FOVEA_ARGUMENT for an unknown reduction
 */
export function klDiv(input: Tensor, target: Tensor, options?: KlDivOptions): Tensor {
  const { reduction = 'mean', logTarget = false } = optionsArg('klDiv', options, ['reduction', 'logTarget']);
  pair('klDiv', input, target);
  const [x, t] = [inFloat32(input), inFloat32(target)];
  const loss = logTarget ? mul(exp(t), sub(t, x)) : sub(where(eq(t, 0), 0, mul(t, log(t))), mul(t, x));
  if (reduction !== 'batchmean') return reduced(loss, reductionArg('klDiv', reduction));
  return div(sum(loss), input.shape[0] ?? 1);
}
