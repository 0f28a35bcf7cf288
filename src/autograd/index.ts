/** Reverse-mode differentiation. */
export { backward, enableGrad, grad, isGradEnabled, noGrad, registerHook, retainGrad } from './backward.js';
export type { BackwardOptions, GradOptions } from './backward.js';
export { customFunction } from './custom-function.js';
export type { CustomFunctionSpec, FunctionContext } from './custom-function.js';
export { checkpoint } from './checkpoint.js';
export type { CheckpointOutput } from './checkpoint.js';
