/** Optimizers, schedules of the learning rate, and scaling of the loss. */
export * as lrScheduler from './lr-scheduler.js';
export { Adam, type AdamOptions, AdamW } from './adam.js';
export { GradScaler, type GradScalerOptions, type GradScalerState } from './grad-scaler.js';
export { LambdaLR, type WarmupCosineOptions } from './lr-scheduler.js';
export {
  Optimizer,
  type OptimizerStateDict,
  type ParamGroup,
  type ParamGroupInput,
  type Params,
  type ParamState,
} from './optimizer.js';
export { SGD, type SGDOptions } from './sgd.js';
