/**
 * Training: the Trainer with its checkpoints, guards and callbacks, data in batches, objectives, and training of
 * language models on text.
 */
export type { BatchPosition, Batches } from './batches.js';
export { type CheckpointEntry, listCheckpoints, verifyCheckpoint } from './checkpoint-folder.js';
export { type Corpus, readCorpus, readTokens } from './corpus.js';
export * from './data/index.js';
export { earlyStopping, type EarlyStoppingOptions } from './early-stopping.js';
export {
  attentionCollapse,
  type AttentionCollapseOptions,
  gradientNorm,
  type GradientNormOptions,
  lossSpike,
  type LossSpikeOptions,
  nonFinite,
  type NonFiniteOptions,
  overfitting,
  type OverfittingOptions,
} from './guards.js';
export { lossCurve, type LossCurveOptions, lossCurveSvg, type LossPoint } from './loss-curve.js';
export * from './objectives/index.js';
export type { Precision } from './precision.js';
export { progressLine } from './progress.js';
export { bitsPerToken, type EvaluateOptions, trainCausalLM, type TrainOptions, type TrainProgress } from './train.js';
export type {
  EvaluationReport,
  Guard,
  GuardAction,
  GuardedStep,
  GuardReport,
  GuardVerdict,
  RunningTrainer,
  SaveReport,
  Stateful,
  StepReport,
  TrainerCallback,
  TrainResult,
} from './trainer-events.js';
export type { Scheduler, TrainerOptions } from './trainer-options.js';
export type { HessianPart } from './training-step.js';
export { Trainer } from './trainer.js';
