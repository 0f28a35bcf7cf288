/** Losses of embeddings: how far the vectors along the last axis are from each other. */
import { argumentError, numberArg, optionsArg, shapeError } from '../tensor/check.js';
import { sameShape } from '../tensor/layout.js';
import { slotOf, type Tensor } from '../tensor/tensor.js';
import { eq } from './compare.js';
import { add, div, minimum, mul, sqrt, square, sub } from './elementwise.js';
import { type LossOptions, lossOperands, positiveArg, reductionArg, sameShapes } from './loss-common.js';
import { norm, sum } from './reduce.js';
import { clamp, where } from './select.js';

/** Options of `cosineEmbeddingLoss`. */
export interface CosineEmbeddingLossOptions extends LossOptions {
  /** How similar vectors of a pair of -1 may be without a loss, from -1 to 1; default 0. */
  margin?: number;
}
/** PyTorch's, which is added to both squared lengths. */
const COSINE_EPSILON = 1e-12;
/**
 * 1 - cos(a, b) for pairs of target 1, max(0, cos(a, b) - margin) for those of -1 and 0 for others, with
 * cos(a, b) = a·b / sqrt((a·a + 1e-12) (b·b + 1e-12)).
 *
 * @param input1 [n, d] or [d], floats
 * @param input2 the shape of `input1`
 * @param target [n] or [], 1 or -1, of any dtype
 * @returns 0-d, or with reduction 'none' the losses [n], in the dtype that both inputs promote to
 * @throws FOVEA_SHAPE for shapes that do not fit, FOVEA_ARGUMENT for options out of range
 */
export function cosineEmbeddingLoss(
  input1: Tensor,
  input2: Tensor,
  target: Tensor,
  options?: CosineEmbeddingLossOptions,
): Tensor {
  const op = 'cosineEmbeddingLoss';
  const { reduction, margin = 0 } = optionsArg(op, options, ['reduction', 'margin']);
  const how = reductionArg(op, reduction);
  if (!(Math.abs(numberArg(op, 'margin', margin)) <= 1)) throw argumentError(op, 'margin', 'from -1 to 1', margin);
  sameShapes(op, { input1, input2 });
  const { shape } = slotOf(input1, op, 'input1');
  const { shape: pairs } = slotOf(target, op, 'target');
  if (shape.length < 1 || shape.length > 2 || !sameShape(pairs, shape.slice(0, -1)))
    throw shapeError(
      op,
      `expected inputs [n,d] and a target [n], or [d] and [], received [${shape.join(',')}] and [${pairs.join(',')}]`,
    );
  const { operands, finish } = lossOperands(op, input1, input2);
  const [a, b] = operands as [Tensor, Tensor];
  const length = (x: Tensor): Tensor => add(sum(square(x), -1), COSINE_EPSILON);
  const cosine = div(sum(mul(a, b), -1), sqrt(mul(length(a), length(b))));
  const apart = where(eq(target, -1), clamp(sub(cosine, margin), { min: 0 }), 0);
  return finish(where(eq(target, 1), sub(1, cosine), apart), how);
}

/** Options of `tripletMarginLoss`. */
export interface TripletMarginLossOptions extends LossOptions {
  /** How much farther the negative must be than the positive; default 1. */
  margin?: number;
  /** Which norm measures distances; default 2. */
  p?: number;
  /** Added to each difference; default 1e-6. */
  eps?: number;
  /** Whether the negative's distance is that to the positive, where it is less; default false. */
  swap?: boolean;
}
/**
 * max(0, |a - p| - |a - n| + margin), with the norm of a - p + eps as the distance (Schroff et al. 2015,
 * https://arxiv.org/abs/1503.03832; `swap`: Balntas et al. 2016).
 *
 * @param anchor [..., d], floats
 * @param positive the shape of `anchor`
 * @param negative the shape of `anchor`
 * @returns 0-d, or with reduction 'none' the losses [...], in the dtype that all promote to
 * @throws FOVEA_SHAPE if the shapes differ or have no axis, FOVEA_ARGUMENT for options out of range
 */
export function tripletMarginLoss(
  anchor: Tensor,
  positive: Tensor,
  negative: Tensor,
  options?: TripletMarginLossOptions,
): Tensor {
  const op = 'tripletMarginLoss';
  const given = optionsArg(op, options, ['reduction', 'margin', 'p', 'eps', 'swap']);
  const { margin = 1, p = 2, eps = 1e-6, swap = false } = given;
  const how = reductionArg(op, given.reduction);
  positiveArg(op, 'margin', margin);
  positiveArg(op, 'p', p);
  if (!(numberArg(op, 'eps', eps) >= 0)) throw argumentError(op, 'eps', 'a number of at least 0', eps);
  sameShapes(op, { anchor, positive, negative });
  if (anchor.rank === 0) throw shapeError(op, 'expected vectors [...,d], received 0-d tensors');
  const { operands, finish } = lossOperands(op, anchor, positive, negative);
  const [a, near, far] = operands as [Tensor, Tensor, Tensor];
  const distance = (x: Tensor, y: Tensor): Tensor => norm(add(sub(x, y), eps), -1, { p });
  const away = swap ? minimum(distance(a, far), distance(near, far)) : distance(a, far);
  return finish(clamp(add(sub(distance(a, near), away), margin), { min: 0 }), how);
}
