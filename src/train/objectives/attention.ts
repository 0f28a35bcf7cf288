/**
 * Objectives of attention weights: each row of a head, a distribution over keys, is to be near a given one.
 *
 *   kl    Σ_j t_j (log t_j - log w_j)
 *   mse   the mean over visible keys j of (w_j - t_j)²
 *
 * t is the given row, brought to the sum 1 over what is visible. A row of which nothing is visible, or whose given
 * weights are all 0, as those of a query that sees no key, does not count. Weights with gradients come per head from
 * `MultiheadAttention.forward` and from models' `attentions`; those of `inspect`'s captures have none, and serve as
 * teachers.
 */
import { clamp, div, gt, log, mean, mul, ne, type Reduction, square, squeeze, stack } from '../../ops/index.js';
import { sub, sum, where } from '../../ops/index.js';
import { expand } from '../../ops/broadcast.js';
import { castTo } from '../../ops/cast.js';
import { floatsArg } from '../../ops/floats-arg.js';
import { factorArg, reduced, reductionArg } from '../../ops/loss-common.js';
import { maskArg } from '../../ops/select.js';
import { argumentError, optionsArg } from '../../tensor/check.js';
import { accumulatorOf } from '../../tensor/dtype.js';
import { isTensor, type Tensor } from '../../tensor/tensor.js';
import { reduceRows } from './rows.js';

/** How far two rows of weights are from each other: Kullback-Leibler divergence, or mean squared difference. */
export type AttentionMeasure = 'kl' | 'mse';
/** Options of {@link attentionSupervisionLoss}. */
export interface AttentionSupervisionOptions {
  /** Default 'kl'. */
  measure?: AttentionMeasure;
  /** Of the rows that count; default 'mean'. */
  reduction?: Reduction;
}
/** Options of {@link attentionTransferLoss}. */
export interface AttentionTransferOptions extends AttentionSupervisionOptions {
  /** Bool, broadcasts to the student's maps: what counts, true where a key is visible (default: all). */
  mask?: Tensor | null;
}

/**
 * A weight below the smallest normal float32 counts as that, so that a key that was given up costs 87 and not Infinity.
 */
const LEAST_WEIGHT = 2 ** -126;
const KEEP = { keepdim: true };

function measureArg(op: string, measure: AttentionMeasure | undefined): AttentionMeasure {
  if (measure === undefined) return 'kl';
  if (measure !== 'kl' && measure !== 'mse') throw argumentError(op, 'measure', "'kl' or 'mse'", measure);
  return measure;
}

/** Two sets of maps, by the names of the arguments that they are. */
interface Maps {
  op: string;
  weights: Tensor;
  goal: Tensor;
  names: readonly [weights: string, goal: string];
  mask: Tensor | undefined;
}
function checkMaps({ op, weights, goal, names, mask }: Maps): void {
  const shape = floatsArg(op, names[0], weights, [2, 3, 4]);
  factorArg(op, names[1], goal, shape);
  if (mask === undefined) return;
  factorArg(op, 'mask', mask, shape);
  maskArg(op, mask);
}

/** One number for each row [..., n], and its reduction over those that count. */
function rowLoss(maps: Maps, measure: AttentionMeasure, reduction: Reduction): Tensor {
  checkMaps(maps);
  const { weights, goal, mask } = maps;
  const code = accumulatorOf(weights.slot!.dtype);
  const w = castTo(weights, code);
  const given = castTo(goal.detach(), code);
  const seen = expand(mask ? where(mask, given, 0) : given, w.shape);
  const total = sum(seen, -1, KEEP);
  const counts = ne(total, 0);
  const t = div(seen, where(counts, total, 1));
  const loss = measure === 'kl' ? divergence(t, w) : squaredError(t, w, mask);
  return reduceRows(loss, squeeze(counts, -1), reduction);
}
function divergence(t: Tensor, w: Tensor): Tensor {
  const surplus = sub(log(where(gt(t, 0), t, 1)), log(clamp(w, { min: LEAST_WEIGHT })));
  return sum(mul(t, surplus), -1);
}
function squaredError(t: Tensor, w: Tensor, mask: Tensor | undefined): Tensor {
  const error = square(sub(w, t));
  if (!mask) return mean(error, -1);
  const visible = sum(expand(castTo(mask, w.slot!.dtype), w.shape), -1);
  return div(sum(where(mask, error, 0), -1), clamp(visible, { min: 1 }));
}

/**
 * Draws attention to where it is known to belong: alignments (Liu et al. 2016, https://arxiv.org/abs/1609.04186), the
 * heads of syntax (Strubell et al. 2018, https://arxiv.org/abs/1804.08199).
 *
 * @param weights [n, m], [h, n, m] or [b, h, n, m]: the probabilities of each head; narrow them to the heads that are
 *   meant
 * @param targetWeights broadcasts to `weights`, any dtype: 0 and 1, or weights; each row is brought to the sum 1.
 *   Gets no gradient
 * @param mask bool, broadcasts to `weights`: true where a key is visible (default: all)
 * @returns 0-d, or with reduction 'none' the losses of the rows [..., n], 0 for those that do not count; float32
 *   (float64 for float64). The mean over no rows is NaN
 * @throws FOVEA_SHAPE or FOVEA_DTYPE for what does not fit, FOVEA_ARGUMENT for an unknown measure or reduction
 */
export function attentionSupervisionLoss(
  weights: Tensor,
  targetWeights: Tensor,
  mask?: Tensor | null,
  options?: AttentionSupervisionOptions,
): Tensor {
  const op = 'attentionSupervisionLoss';
  const { measure, reduction } = optionsArg(op, options, ['measure', 'reduction']);
  const names = ['weights', 'targetWeights'] as const;
  const maps = { op, weights, goal: targetWeights, names, mask: mask ?? undefined };
  return rowLoss(maps, measureArg(op, measure), reductionArg(op, reduction));
}

function layersArg(op: string, argument: string, maps: Tensor | readonly Tensor[]): readonly Tensor[] {
  if (isTensor(maps)) return [maps];
  if (!Array.isArray(maps) || maps.length === 0)
    throw argumentError(op, argument, 'a Tensor, or at least one in a list of layers', maps);
  return maps as readonly Tensor[];
}

/**
 * Draws a student's attention to its teacher's, head by head: 'kl' as MobileBERT (Sun et al. 2020,
 * https://arxiv.org/abs/2004.02984) and MiniLM do, 'mse' as TinyBERT (Jiao et al. 2020,
 * https://arxiv.org/abs/1909.10351) does.
 *
 * @param studentMaps [n, m], [h, n, m] or [b, h, n, m], or a list of such for several layers
 * @param teacherMaps of the same shapes, or broadcasting to them; as many layers. Get no gradient. Where the numbers of
 *   heads differ, average them on both sides: `mean(1, { keepdim: true })`
 * @returns 0-d: of several layers the mean of their means, or the sum of their sums; with reduction 'none' the losses
 *   of the rows [..., n], of a list [layers, ..., n]. float32 (float64 for float64); the mean over no rows is NaN
 * @throws FOVEA_SHAPE or FOVEA_DTYPE for maps that do not fit, FOVEA_ARGUMENT for other numbers of layers, or an
 *   unknown measure or reduction
 */
export function attentionTransferLoss(
  studentMaps: Tensor | readonly Tensor[],
  teacherMaps: Tensor | readonly Tensor[],
  options?: AttentionTransferOptions,
): Tensor {
  const op = 'attentionTransferLoss';
  const given = optionsArg(op, options, ['measure', 'reduction', 'mask']);
  const [measure, reduction] = [measureArg(op, given.measure), reductionArg(op, given.reduction)];
  const students = layersArg(op, 'studentMaps', studentMaps);
  const teachers = layersArg(op, 'teacherMaps', teacherMaps);
  if (students.length !== teachers.length)
    throw argumentError(op, 'teacherMaps', `${students.length} layers, one for each of the student`, teacherMaps);
  const losses = students.map((weights, i) => {
    const names = isTensor(studentMaps)
      ? (['studentMaps', 'teacherMaps'] as const)
      : ([`studentMaps[${i}]`, `teacherMaps[${i}]`] as const);
    return rowLoss({ op, weights, goal: teachers[i]!, names, mask: given.mask ?? undefined }, measure, reduction);
  });
  return isTensor(studentMaps) ? losses[0]! : reduced(stack(losses), reduction);
}
