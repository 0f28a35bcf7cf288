/** Losses of classes, from logits or from their logarithms. The mean over what counts is the default, as in PyTorch. */
import { FoveaError } from '../errors.js';
import { argumentError, integerArg, optionsArg, probabilityArg, shapeError } from '../tensor/check.js';
import { accumulatorOf, Code, isFloat } from '../tensor/dtype.js';
import { sameShape, sizeOf } from '../tensor/layout.js';
import { slotOf, type Tensor } from '../tensor/tensor.js';
import { inFloat32 } from './autocast.js';
import { castTo } from './cast.js';
import { ne } from './compare.js';
import { defineOp } from './define-op.js';
import { add, div, mul, neg } from './elementwise.js';
import { floatsArg } from './floats-arg.js';
import { where } from './select.js';
import { gather, indexSelect } from './indexing.js';
import { kernels } from './kernels.gen.js';
import { countTargets, type LossOptions, reduced, reductionArg, type Reduction } from './loss-common.js';
import { mean, sum } from './reduce.js';
import { logSoftmax } from './softmax.js';
import { movedim, reshape, unsqueeze } from './shape.js';

/** Options of `nllLoss`. */
export interface NllLossOptions extends LossOptions {
  /** [c]: the factor of each class's losses; 'mean' divides by the sum of the targets' factors (default: all 1). */
  weight?: Tensor | null;
  /** The target that does not count; default -100. */
  ignoreIndex?: number;
}
/** Options of `crossEntropy`. */
export interface CrossEntropyOptions extends NllLossOptions {
  /** The share of the target that is spread evenly over all classes; default 0. */
  labelSmoothing?: number;
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
function classRows(op: string, argument: string, x: Tensor): Tensor {
  const { shape, dtype } = slotOf(x, op, argument);
  if (!isFloat(dtype))
    throw new FoveaError('FOVEA_DTYPE', `${op}: expected floats for ${argument}, received ${x.dtype}`);
  if (shape.length === 0) throw shapeError(op, `expected ${argument} [n,c], received a 0-d tensor`);
  if (shape.length === 1) return unsqueeze(x, 0);
  const last = shape.length === 2 ? x : movedim(x, 1, -1);
  return reshape(last, [sizeOf(last.shape.slice(0, -1)), shape[1]!]);
}
function targetShape(shape: readonly number[]): readonly number[] {
  return shape.length === 1 ? [] : shape.filter((_, i) => i !== 1);
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
 * The factors of the classes of `logits`.
 *
 * @throws FOVEA_SHAPE unless there is one for each, FOVEA_DTYPE unless floats
 */
function classWeight(op: string, logits: Tensor, weight: Tensor | null | undefined): Tensor | undefined {
  if (weight === undefined || weight === null) return undefined;
  const shape = floatsArg(op, 'weight', weight, [1]);
  const classes = logits.rank === 1 ? logits.shape[0]! : logits.shape[1];
  if (classes !== undefined && !sameShape(shape, [classes]))
    throw shapeError(
      op,
      `logits [${logits.shape.join(',')}] need a weight [${classes}], received [${shape.join(',')}]`,
    );
  return weight;
}

/** Losses [n] of targets [n], 0 for those that do not count, as one number or in the shape of `target`. */
interface ClassLosses {
  losses: Tensor;
  classes: Tensor;
  /** [n]: what each loss counts for in a mean; undefined: 1, or 0 for those that do not count. */
  shares: Tensor | undefined;
}
/** The mean over the targets that count is NaN, as in PyTorch, where none does. */
function finished(
  { losses, classes, shares }: ClassLosses,
  { reduction, ignoreIndex }: { reduction: Reduction; ignoreIndex: number },
  shape: readonly number[],
): Tensor {
  if (reduction === 'none') return reshape(losses, shape);
  const total = sum(losses);
  if (reduction === 'sum') return total;
  return div(total, shares ? sum(shares) : countTargets(classes, ignoreIndex, losses.slot!.dtype));
}
/** The factor of each target's class, in the dtype of that code; 0 where the target does not count. */
function sharesOf(weight: Tensor, classes: Tensor, counts: Tensor, code: number): Tensor {
  return where(counts, indexSelect(castTo(weight, code), 0, where(counts, classes, 0)), 0);
}

/** With factors w: (1 - s) w[t] (lse - x[t]) + s / c sum_j w[j] (lse - x[j]). */
function weightedCrossEntropy(
  rows: Tensor,
  classes: Tensor,
  weight: Tensor,
  { ignoreIndex, labelSmoothing }: { ignoreIndex: number; labelSmoothing: number },
): ClassLosses {
  const { loss } = crossEntropyOp({ logits: rows, target: classes }, { ignoreIndex, labelSmoothing: 0 });
  const code = loss.slot!.dtype;
  const counts = ne(classes, ignoreIndex);
  const shares = sharesOf(weight, classes, counts, code);
  const losses = mul(loss, shares);
  if (labelSmoothing === 0) return { losses, classes, shares };
  const all = neg(sum(mul(logSoftmax(castTo(rows, code), 1), castTo(weight, code)), 1));
  const even = where(counts, mul(all, labelSmoothing / rows.shape[1]!), 0);
  return { losses: add(mul(losses, 1 - labelSmoothing), even), classes, shares };
}

/**
 * -log of the probability of the target class, from logits: loss = log sum e^x - (1 - s) x[target] - s mean(x), s being
 * `labelSmoothing` (Szegedy et al. 2015, https://arxiv.org/abs/1512.00567); with `weight` w, PyTorch's
 * (1 - s) w[target] (log sum e^x - x[target]) + s mean(w (log sum e^x - x)). For probabilities t:
 * -sum ((1 - s) t + s / c) w log softmax(x), whose mean is over rows.
 *
 * @param logits [c], [n, c] or [n, c, ...], floats
 * @param target class numbers [n] or [n, ...] (integers), or probabilities of the shape of `logits`
 * @returns 0-d, or with reduction 'none' the losses in the shape of the class numbers; float32 (float64 for float64),
 *   also of 16-bit logits. The mean over no targets is NaN
 * @throws FOVEA_SHAPE for a target or weight that does not fit, FOVEA_DTYPE for logits or a weight that are no floats
 *   or a target of bool, FOVEA_ARGUMENT for options out of range, or an `ignoreIndex` beside probabilities; rejects
 *   with FOVEA_INDEX if a target is neither a class nor `ignoreIndex`
 */
export function crossEntropy(logits: Tensor, target: Tensor, options?: CrossEntropyOptions): Tensor {
  const op = 'crossEntropy';
  const given = optionsArg(op, options, ['reduction', 'weight', 'ignoreIndex', 'labelSmoothing']);
  const { ignoreIndex = -100, labelSmoothing = 0 } = given;
  const reduction = reductionArg(op, given.reduction);
  integerArg(op, 'ignoreIndex', ignoreIndex);
  probabilityArg(op, 'labelSmoothing', labelSmoothing);
  const rows = classRows(op, 'logits', logits);
  const weight = classWeight(op, logits, given.weight);
  if (isFloat(slotOf(target, op, 'target').dtype)) {
    if (ignoreIndex >= 0)
      throw argumentError(op, 'ignoreIndex', 'no class to ignore', ignoreIndex, 'a target of probabilities has none');
    if (!sameShape(logits.shape, target.shape))
      throw shapeError(
        op,
        `a target of probabilities needs the shape of the logits [${logits.shape.join(',')}], received [${target.shape.join(',')}]`,
      );
    const losses = softCrossEntropy(rows, classRows(op, 'target', target), weight, labelSmoothing);
    return reduction === 'none' ? reshape(losses, targetShape(logits.shape)) : reduced(losses, reduction);
  }
  const classes = classTarget(op, logits, target);
  const attrs = { ignoreIndex, labelSmoothing };
  const losses = weight
    ? weightedCrossEntropy(rows, classes, weight, attrs)
    : { losses: crossEntropyOp({ logits: rows, target: classes }, attrs).loss, classes, shares: undefined };
  return finished(losses, { reduction, ignoreIndex }, target.shape);
}

/** -sum_c w[c] t[c] log p[c] for rows of probabilities t. */
function softCrossEntropy(rows: Tensor, target: Tensor, weight: Tensor | undefined, labelSmoothing: number): Tensor {
  const code = accumulatorOf(rows.slot!.dtype);
  const t = castTo(target, code);
  const smooth = labelSmoothing === 0 ? t : add(mul(t, 1 - labelSmoothing), labelSmoothing / rows.shape[1]!);
  const weighted = weight ? mul(smooth, castTo(weight, code)) : smooth;
  return neg(sum(mul(logSoftmax(castTo(rows, code), 1), weighted), 1));
}

/**
 * -w[target] x[target], for log-probabilities x; w is `weight`, 1 for all classes by default.
 *
 * @param logProbs [c], [n, c] or [n, c, ...]
 * @param target class numbers [n] or [n, ...], integers
 * @returns 0-d, or with reduction 'none' the losses in the shape of the target; the dtype of `logProbs`. The mean
 *   over no targets is NaN
 * @throws FOVEA_SHAPE for a target or weight that does not fit, FOVEA_DTYPE for a target of floats or bool or a weight
 *   of integers; rejects with FOVEA_INDEX if a target is neither a class nor `ignoreIndex`
 */
export function nllLoss(logProbs: Tensor, target: Tensor, options?: NllLossOptions): Tensor {
  const op = 'nllLoss';
  const given = optionsArg(op, options, ['reduction', 'weight', 'ignoreIndex']);
  const reduction = reductionArg(op, given.reduction);
  const ignoreIndex = integerArg(op, 'ignoreIndex', given.ignoreIndex ?? -100);
  slotOf(logProbs, op, 'logProbs');
  const weight = classWeight(op, logProbs, given.weight);
  const classes = classTarget(op, logProbs, target);
  const counts = ne(classes, ignoreIndex);
  const rows = classRows(op, 'logProbs', inFloat32(logProbs));
  const { dtype } = rows.slot!;
  // Sums of 16-bit floats are kept in float32, and rounded once.
  const code = accumulatorOf(dtype);
  const picked = gather(rows, 1, unsqueeze(where(counts, classes, 0), 1));
  const loss = where(counts, neg(reshape(castTo(picked, code), classes.shape)), 0);
  const shares = weight && sharesOf(weight, classes, counts, code);
  const losses = { losses: shares ? mul(loss, shares) : loss, classes, shares };
  return castTo(finished(losses, { reduction, ignoreIndex }, target.shape), dtype);
}
