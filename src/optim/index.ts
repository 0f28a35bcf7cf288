/** Optimizers and schedules of the learning rate. */
export * as lrScheduler from './lr-scheduler.js';
export { Adam, type AdamOptions, AdamW } from './adam.js';
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
