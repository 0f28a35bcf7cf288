/** weight · (log Σ e^x)²: keeps the normaliser of a softmax near 1 (PaLM, Chowdhery et al. 2022). */
import { logsumexp, mul, type Reduction, square } from '../../ops/index.js';
import { reductionArg } from '../../ops/loss-common.js';
import { argumentError, numberArg, optionsArg } from '../../tensor/check.js';
import type { Tensor } from '../../tensor/tensor.js';
import { countedRows, logitsArg, reduceRows } from './rows.js';

/** Options of {@link zLoss}. */
export interface ZLossOptions {
  /** Default 1e-4, PaLM's. */
  weight?: number;
  /** The class numbers [...] of the rows: those that are `ignoreIndex` do not count (default: all rows count). */
  target?: Tensor;
  /** Default -100. */
  ignoreIndex?: number;
  /** Default 'mean'. */
  reduction?: Reduction;
}
/**
 * weight · log² Z with Z = Σ e^x over the classes, to be added to the cross entropy of the same logits: it draws log Z
 * to 0, so that logits do not drift (Chowdhery et al. 2022, https://arxiv.org/abs/2204.02311, section 5).
 *
 * @param logits [..., c], floats
 * @returns 0-d, or with reduction 'none' the losses [...]; float32 (float64 for float64). The mean over no rows is NaN
 * @throws FOVEA_DTYPE or FOVEA_SHAPE for logits or a target that do not fit, FOVEA_ARGUMENT for options out of range
 */
export function zLoss(logits: Tensor, options?: ZLossOptions): Tensor {
  const op = 'zLoss';
  const given = optionsArg(op, options, ['weight', 'target', 'ignoreIndex', 'reduction']);
  const { weight = 1e-4, target, ignoreIndex = -100 } = given;
  const reduction = reductionArg(op, given.reduction);
  if (!(numberArg(op, 'weight', weight) >= 0)) throw argumentError(op, 'weight', 'a number of at least 0', weight);
  const x = logitsArg(op, 'logits', logits);
  const counts = target && countedRows(op, 'target', target, x, ignoreIndex);
  return reduceRows(mul(square(logsumexp(x, -1)), weight), counts, reduction);
}
