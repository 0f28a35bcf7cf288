/** Objectives that are not single ops. */
export {
  type AttentionMeasure,
  attentionSupervisionLoss,
  type AttentionSupervisionOptions,
  attentionTransferLoss,
  type AttentionTransferOptions,
} from './attention.js';
export {
  type ProblemType,
  sequenceClassificationLoss,
  type SequenceClassificationLossOptions,
} from './classification.js';
export { clipLoss, type ClipLossOptions, infoNCE, type InfoNceOptions } from './contrastive.js';
export { distillationLoss, type DistillationLossOptions } from './distillation.js';
export { type HungarianLoss, hungarianLoss, type HungarianLossOptions, type SetMatch } from './hungarian.js';
export { type Assignment, linearSumAssignment, type LinearSumAssignmentOptions } from './linear-sum-assignment.js';
export { zLoss, type ZLossOptions } from './z-loss.js';
