/**
 * Knowledge distillation (Hinton et al. 2015): a student learns what a teacher holds likely, beside what is right.
 *
 *   α T² KL(softmax(teacher / T) ‖ softmax(student / T)) + (1 - α) crossEntropy(student, labels)
 */
import {
  add,
  crossEntropy,
  div,
  eq,
  exp,
  logSoftmax,
  mul,
  type Reduction,
  reshape,
  sub,
  sum,
  where,
} from '../../ops/index.js';
import { positiveArg, reductionArg, sameShapes } from '../../ops/loss-common.js';
import { argumentError, optionsArg, probabilityArg } from '../../tensor/check.js';
import { sizeOf } from '../../tensor/layout.js';
import type { Tensor } from '../../tensor/tensor.js';
import { countedRows, logitsArg, reduceRows } from './rows.js';

/** Options of {@link distillationLoss}. */
export interface DistillationLossOptions {
  /** T: how soft both distributions are made; default 2. */
  temperature?: number;
  /** The right classes [...], integers; without them the teacher alone teaches. */
  labels?: Tensor;
  /** The share of the teacher where there are labels; default 0.5. */
  alpha?: number;
  /** Rows of this label do not count, for the teacher neither; default -100. */
  ignoreIndex?: number;
  /** Default 'mean'. */
  reduction?: Reduction;
}

/** Σ p (log p - log q) of each row, for logarithms; where p is 0, whatever q is, 0. */
function divergence(logP: Tensor, logQ: Tensor): Tensor {
  const p = exp(logP);
  return sum(where(eq(p, 0), 0, mul(p, sub(logP, logQ))), -1);
}

/**
 * α T² KL(softmax(teacher / T) ‖ softmax(student / T)) + (1 - α) crossEntropy(student, labels) for each row (Hinton et
 * al. 2015, https://arxiv.org/abs/1503.02531). T² keeps the size of the gradient, which falls by T².
 *
 * @param studentLogits [..., c], floats
 * @param teacherLogits the shape of `studentLogits`; gets no gradient
 * @returns 0-d, or with reduction 'none' the losses [...]; float32 (float64 for float64). The mean over no rows is NaN
 * @throws FOVEA_SHAPE or FOVEA_DTYPE for logits or labels that do not fit, FOVEA_ARGUMENT for options out of range or
 *   an alpha without labels; rejects with FOVEA_INDEX for a label that is no class
 */
export function distillationLoss(
  studentLogits: Tensor,
  teacherLogits: Tensor,
  options?: DistillationLossOptions,
): Tensor {
  const op = 'distillationLoss';
  const given = optionsArg(op, options, ['temperature', 'labels', 'alpha', 'ignoreIndex', 'reduction']);
  const { temperature = 2, labels, ignoreIndex = -100 } = given;
  const reduction = reductionArg(op, given.reduction);
  positiveArg(op, 'temperature', temperature);
  if (given.alpha !== undefined && !labels)
    throw argumentError(op, 'alpha', 'no share of the teacher without labels', given.alpha, 'pass labels, too');
  const alpha = labels ? probabilityArg(op, 'alpha', given.alpha ?? 0.5) : 1;
  const student = logitsArg(op, 'studentLogits', studentLogits);
  const teacher = logitsArg(op, 'teacherLogits', teacherLogits).detach();
  sameShapes(op, { studentLogits, teacherLogits });
  const soft = (logits: Tensor): Tensor => logSoftmax(div(logits, temperature), -1);
  const taught = mul(divergence(soft(teacher), soft(student)), alpha * temperature ** 2);
  if (!labels) return reduceRows(taught, undefined, reduction);
  const counts = countedRows(op, 'labels', labels, student, ignoreIndex);
  const n = sizeOf(labels.shape);
  const rows = reshape(student, [n, student.shape.at(-1)!]);
  const right = crossEntropy(rows, reshape(labels, [n]), { ignoreIndex, reduction: 'none' });
  return reduceRows(add(taught, mul(reshape(right, labels.shape), 1 - alpha)), counts, reduction);
}
