/** The loss of a model that classifies whole sequences, by what its labels are. */
import { binaryCrossEntropyWithLogits, crossEntropy, mseLoss, type Reduction, reshape } from '../../ops/index.js';
import { floatsArg } from '../../ops/floats-arg.js';
import { argumentError, optionsArg } from '../../tensor/check.js';
import { isFloat } from '../../tensor/dtype.js';
import { slotOf, type Tensor } from '../../tensor/tensor.js';

const problemTypes = ['regression', 'single_label_classification', 'multi_label_classification'] as const;
/** What labels are, as `problem_type` of Hugging Face's configurations says it. */
export type ProblemType = (typeof problemTypes)[number];
/** Options of {@link sequenceClassificationLoss}. */
export interface SequenceClassificationLossOptions {
  /**
   * Default: 'regression' for one output, else 'single_label_classification' for labels of integers and
   * 'multi_label_classification' for those of floats.
   */
  problemType?: ProblemType;
  /** Default 'mean'. */
  reduction?: Reduction;
}
/**
 * What Hugging Face's `…ForSequenceClassification` train on: `mseLoss` for a regression, `crossEntropy` for one label
 * of several, `binaryCrossEntropyWithLogits` for any of them.
 *
 * @param logits [n, c], floats
 * @param labels class numbers [n]; or numbers or 0 and 1 [n, c], floats ([n], too, where c = 1)
 * @returns 0-d, or with reduction 'none' the losses [n] of one label, else [n, c]
 * @throws FOVEA_SHAPE or FOVEA_DTYPE for labels that do not fit, FOVEA_ARGUMENT for an unknown problem type; rejects
 *   with FOVEA_INDEX for a label that is no class
 */
export function sequenceClassificationLoss(
  logits: Tensor,
  labels: Tensor,
  options?: SequenceClassificationLossOptions,
): Tensor {
  const op = 'sequenceClassificationLoss';
  const { problemType, reduction = 'mean' } = optionsArg(op, options, ['problemType', 'reduction']);
  const [n, c] = floatsArg(op, 'logits', logits, [2]) as [number, number];
  const { dtype, shape } = slotOf(labels, op, 'labels');
  if (problemType !== undefined && !problemTypes.includes(problemType))
    throw argumentError(op, 'problemType', problemTypes.map((type) => `'${type}'`).join(', '), problemType);
  const several = isFloat(dtype) ? 'multi_label_classification' : 'single_label_classification';
  const type = problemType ?? (c === 1 ? 'regression' : several);
  if (type === 'single_label_classification') return crossEntropy(logits, labels, { reduction });
  const target = c === 1 && shape.length === 1 && shape[0] === n ? reshape(labels, [n, 1]) : labels;
  if (type === 'regression') return mseLoss(logits, target, { reduction });
  return binaryCrossEntropyWithLogits(logits, target, { reduction });
}
