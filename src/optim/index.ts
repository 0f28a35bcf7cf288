/** Optimizers, schedules of the learning rate, averages of weights, and scaling of the loss. */
export * as lrScheduler from './lr-scheduler.js';
export { Adafactor, type AdafactorOptions } from './adafactor.js';
export { Adagrad, type AdagradOptions } from './adagrad.js';
export { Adam, type AdamOptions, AdamW } from './adam.js';
export { ChainedOptimizer } from './chained.js';
export { GradScaler, type GradScalerOptions, type GradScalerState } from './grad-scaler.js';
export {
  gaussNewtonBartlett,
  type GaussNewtonBartlettOptions,
  hutchinson,
  type HutchinsonOptions,
} from './hessian.js';
export { Lion, type LionOptions } from './lion.js';
export {
  ExponentialMovingAverage,
  type ExponentialMovingAverageOptions,
  type MovingAverageState,
} from './moving-average.js';
export { Muon, type MuonOptions } from './muon.js';
export { NAdam, type NAdamOptions } from './nadam.js';
export {
  Optimizer,
  type OptimizerStateDict,
  type ParamGroup,
  type ParamGroupInput,
  type Params,
  type ParamState,
  type StepBatch,
} from './optimizer.js';
export { RAdam, type RAdamOptions } from './radam.js';
export { RMSprop, type RMSpropOptions } from './rmsprop.js';
export { SGD, type SGDOptions } from './sgd.js';
export { type HessianEstimator, Sophia, type SophiaOptions } from './sophia.js';
export type { StateDtype } from './state-dtype.js';
