/**
 * The loss of a set of predictions whose order means nothing (DETR, Carion et al. 2020,
 * https://arxiv.org/abs/2005.12872): predictions are matched with targets at the least cost, and each then learns from
 * its own target, those left over from "no object" ∅.
 *
 *   cost[q][k] = pair[q][k] - λ softmax(z_q)[c_k]
 *   loss       = Σ_q w crossEntropy(z_q, class of q's target or ∅) + Σ over matches pair[q][k]
 *
 * z [b, q, c + 1], ∅ being the last class; w is 1 for classes and `noObjectWeight` for ∅. What else makes a pair good
 * or bad (boxes, for DETR) comes as a matrix of costs, of which the matching reads the numbers and the loss takes the
 * matches.
 */
import { noGrad } from '../../autograd/backward.js';
import { FoveaError } from '../../errors.js';
import { add, concat, crossEntropy, div, indexSelect, mul, type Reduction, reshape } from '../../ops/index.js';
import { select, softmax, stack, sum, tensor, zeros } from '../../ops/index.js';
import { castTo } from '../../ops/cast.js';
import { floatsArg } from '../../ops/floats-arg.js';
import { reduced, reductionArg } from '../../ops/loss-common.js';
import { argumentError, numberArg, optionsArg, shapeError } from '../../tensor/check.js';
import { accumulatorOf, Code, isFloat } from '../../tensor/dtype.js';
import { slotOf, type Tensor } from '../../tensor/tensor.js';
import { tidy } from '../../tensor/tidy.js';
import { linearSumAssignment } from './linear-sum-assignment.js';

const op = 'hungarianLoss';

/** Options of {@link hungarianLoss}. */
export interface HungarianLossOptions {
  /**
   * [q, k] for each image: what each prediction costs as that of each target, beside its class; for DETR
   * 5 |box - box'|₁ + 2 (1 - GIoU). Differentiable.
   */
  pairCosts?: readonly Tensor[];
  /** λ: what the probability of the right class is worth in the matching; default 1. */
  classCost?: number;
  /** The weight of ∅ in the cross entropy; default 0.1. */
  noObjectWeight?: number;
  /**
   * 'mean' (default), as DETR's code: the weighted mean of the cross entropies plus the pair costs per target of the
   * batch; 'none', as its formula (2): the sum for each image, [b]; 'sum': the sum of these.
   */
  reduction?: Reduction;
}
/** Which prediction is matched with which target of an image: min(q, k) pairs. */
export interface SetMatch {
  /** Numbers of predictions, rising. */
  queries: number[];
  /** The target of each. */
  targets: number[];
}
/** What {@link hungarianLoss} gives. */
export interface HungarianLoss {
  /** The sum of both parts. */
  loss: Tensor;
  /** Of the classes, 0-d, or [b] with reduction 'none'. */
  classLoss: Tensor;
  /** Of the pair costs, likewise. */
  pairLoss: Tensor;
  /** By image. */
  matches: SetMatch[];
}

interface Sets {
  logits: Tensor;
  /** [k] for each image. */
  labels: readonly Tensor[];
  /** [q, k] for each image. */
  pairs: readonly Tensor[] | undefined;
}
function setsArg(logits: Tensor, labels: readonly Tensor[], pairs: readonly Tensor[] | undefined): Sets {
  const [b, q, classes] = floatsArg(op, 'logits', logits, [3]) as [number, number, number];
  if (classes === 0) throw shapeError(op, `expected logits [b,q,c+1], received [${logits.shape.join(',')}]`);
  for (const [name, list] of Object.entries({ labels, pairCosts: pairs ?? labels }))
    if (!Array.isArray(list) || list.length !== b)
      throw argumentError(op, name, `a list of ${b} tensors, one for each image`, list);
  labels.forEach((label, i) => {
    const { dtype, shape } = slotOf(label, op, `labels[${i}]`);
    if (isFloat(dtype) || dtype === Code.bool)
      throw new FoveaError(
        'FOVEA_DTYPE',
        `${op}: expected class numbers (int64) for labels[${i}], received ${label.dtype}`,
      );
    if (shape.length !== 1) throw shapeError(op, `expected labels[${i}] [k], received [${shape.join(',')}]`);
    if (!pairs) return;
    const pair = floatsArg(op, `pairCosts[${i}]`, pairs[i]!, [2]);
    if (pair[0] !== q || pair[1] !== shape[0])
      throw shapeError(op, `expected pairCosts[${i}] [${q},${shape[0]}], received [${pair.join(',')}]`);
  });
  return { logits, labels, pairs };
}

/** The costs of all images one after the other, [Σ q k], and all labels, [Σ k]. */
function matchingCosts({ logits, labels, pairs }: Sets, classCost: number): { costs: Tensor; classes: Tensor } {
  const probabilities = softmax(castTo(logits, accumulatorOf(logits.slot!.dtype)), -1);
  const costs = labels.map((label, i) => {
    const ofClasses = mul(indexSelect(select(probabilities, 0, i), 1, label), -classCost);
    return reshape(pairs ? add(ofClasses, pairs[i]!) : ofClasses, [-1]);
  });
  return { costs: concat(costs), classes: concat(labels) };
}

/** Reads what decides the matches, once for the whole batch, and makes them. */
async function matchSets(sets: Sets, classCost: number): Promise<{ matches: SetMatch[]; classes: number[][] }> {
  const { logits, labels } = sets;
  const [, q, all] = logits.shape as [number, number, number];
  const counts = labels.map((label) => label.size);
  if (labels.length === 0) return { matches: [], classes: [] };
  const made = noGrad(() => tidy(() => matchingCosts(sets, classCost)));
  const reads = [made.costs.data({ as: 'float64' }), made.classes.data({ as: 'float64' })] as const;
  for (const x of Object.values(made)) x.dispose();
  const [costs, numbers] = await Promise.all(reads);
  let at = 0;
  const classes: number[][] = [];
  const matches = counts.map((k, image) => {
    const own = Array.from(numbers.subarray(at, at + k));
    const wrong = own.find((label) => label >= all - 1);
    if (wrong !== undefined)
      throw new FoveaError('FOVEA_INDEX', `${op}: label ${wrong} of image ${image} is none of ${all - 1} classes`);
    classes.push(own);
    const match = matchSet(costs.subarray(at * q, (at + k) * q), q, k, image);
    at += k;
    return match;
  });
  return { matches, classes };
}
function matchSet(costs: Float64Array, q: number, k: number, image: number): SetMatch {
  const rows = Array.from({ length: q }, (_, i) => costs.subarray(i * k, (i + 1) * k));
  try {
    const { rows: queries, columns: targets } = linearSumAssignment(rows);
    return { queries, targets };
  } catch (cause) {
    if (!(cause instanceof FoveaError)) throw cause;
    throw new FoveaError(cause.code, `${op}: image ${image} cannot be matched: ${cause.message}`, { cause });
  }
}

/** Σ_q w crossEntropy(z_q, class of its target or ∅). */
function classLossOf(
  logits: Tensor,
  matches: readonly SetMatch[],
  labels: readonly (readonly number[])[],
  noObjectWeight: number,
  reduction: Reduction,
): Tensor {
  const [b, q, all] = logits.shape as [number, number, number];
  const { device } = logits;
  const classes = new Array<number>(b * q).fill(all - 1);
  matches.forEach(({ queries, targets }, image) =>
    queries.forEach((query, i) => (classes[image * q + query] = labels[image]![targets[i]!]!)),
  );
  const target = tensor(classes, { dtype: 'int64', device });
  const weights = Array.from({ length: all }, (_, c) => (c === all - 1 ? noObjectWeight : 1));
  const weight = tensor(weights, { dtype: 'float64', device });
  const rows = reshape(logits, [b * q, all]);
  if (reduction !== 'none') return crossEntropy(rows, target, { weight, reduction });
  return sum(reshape(crossEntropy(rows, target, { weight, reduction }), [b, q]), 1);
}

/** Σ over matches pair[q][k]; 'mean': per target, at least one. */
function pairLossOf({ logits, labels, pairs }: Sets, matches: readonly SetMatch[], reduction: Reduction): Tensor {
  const { device } = logits;
  const images = (pairs ?? []).map((pair, image) => {
    const { queries, targets } = matches[image]!;
    const [, k] = pair.shape as [number, number];
    const places = queries.map((query, i) => query * k + targets[i]!);
    const flat = castTo(reshape(pair, [pair.size]), accumulatorOf(pair.slot!.dtype));
    return sum(indexSelect(flat, 0, tensor(places, { dtype: 'int64', device })));
  });
  const sums = images.length ? stack(images) : zeros([labels.length], { device });
  if (reduction !== 'mean') return reduced(sums, reduction);
  const targets = labels.reduce((n, label) => n + label.size, 0);
  return div(sum(sums), Math.max(1, targets));
}

/**
 * DETR's loss (Carion et al. 2020, https://arxiv.org/abs/2005.12872, section 3.1) of predictions in no order, for any
 * kind of pair cost. Waits for the costs of the batch, without blocking; the matching itself (see {@link
 * linearSumAssignment}) runs on the thread of the caller.
 *
 * @param logits [b, q, c + 1], floats: q predictions for each image, ∅ being the last class
 * @param labels for each image the classes of its targets, [k], integers below c; k may be 0
 * @returns the loss, 0-d ([b] with reduction 'none'), its parts, and the matches
 * @throws rejects with FOVEA_SHAPE, FOVEA_DTYPE or FOVEA_ARGUMENT for what does not fit, FOVEA_INDEX for a label that
 *   is no class, FOVEA_NAN naming the image for costs that are NaN, FOVEA_ARGUMENT for so many infinite ones that a
 *   target finds no prediction
 */
export async function hungarianLoss(
  logits: Tensor,
  labels: readonly Tensor[],
  options?: HungarianLossOptions,
): Promise<HungarianLoss> {
  const given = optionsArg(op, options, ['pairCosts', 'classCost', 'noObjectWeight', 'reduction']);
  const { classCost = 1, noObjectWeight = 0.1 } = given;
  const reduction = reductionArg(op, given.reduction);
  numberArg(op, 'classCost', classCost);
  if (!(numberArg(op, 'noObjectWeight', noObjectWeight) >= 0))
    throw argumentError(op, 'noObjectWeight', 'a number of at least 0', noObjectWeight);
  const sets = setsArg(logits, labels, given.pairCosts);
  const { matches, classes } = await matchSets(sets, classCost);
  const losses = tidy(() => {
    const classLoss = classLossOf(logits, matches, classes, noObjectWeight, reduction);
    const pairLoss = pairLossOf(sets, matches, reduction);
    return { loss: add(classLoss, pairLoss), classLoss, pairLoss };
  });
  return { ...losses, matches };
}
