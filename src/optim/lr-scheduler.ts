/** Schedules of the learning rate: PyTorch's classes, and factors that begin with a warm-up. */
export {
  ConstantLR,
  type ConstantLROptions,
  CosineAnnealingLR,
  type CosineAnnealingLROptions,
  CosineAnnealingWarmRestarts,
  type CosineAnnealingWarmRestartsOptions,
  ExponentialLR,
  LambdaLR,
  LinearLR,
  type LinearLROptions,
  MultiStepLR,
  type MultiStepLROptions,
  PolynomialLR,
  type PolynomialLROptions,
  StepLR,
  type StepLROptions,
} from './lr-classes.js';
export { ChainedScheduler, SequentialLR, type SequentialLROptions } from './lr-combined.js';
export {
  decay,
  type DecayOptions,
  type DecayShape,
  inverseSqrt,
  type LrPhase,
  noam,
  type NoamOptions,
  phases,
  stable,
  warmup,
  warmupCosine,
  type WarmupCosineOptions,
  warmupInverseSqrt,
  warmupLinear,
  warmupStableDecay,
  type WarmupStableDecayOptions,
} from './lr-phases.js';
export { type AnyOptimizer, type LrFactor, type LrRule, LRScheduler, type LRSchedulerState } from './lr-schedule.js';
