/**
 * States of optimizers in fewer bits: bfloat16, or bytes with one float32 scale for every 256 (Dettmers et al. 2021,
 * https://arxiv.org/abs/2110.02861). They are computed in float32 inside of the step; what is rounded, and how, is in
 * native/ops/optim/compact.h.
 */
import { zeros } from '../ops/index.js';
import { once } from '../tensor/capture.js';
import { argumentError } from '../tensor/check.js';
import type { Dtype } from '../tensor/dtype.js';
import type { Tensor } from '../tensor/tensor.js';
import { keep } from '../tensor/tidy.js';
import { wideOf } from './optimizer.js';

/**
 * What the states of an optimizer are kept in: 4, 2 or about 1 byte for each element of each state. 'float32' is
 * float64 for float64 parameters.
 */
export type StateDtype = 'float32' | 'bfloat16' | 'int8';

/** Elements that share a scale. */
const RUN = 256;

/** Checks the option. @throws FOVEA_ARGUMENT for anything else */
export function stateDtypeArg(op: string, value: unknown): void {
  if (value === 'float32' || value === 'bfloat16' || value === 'int8') return;
  throw argumentError(op, 'stateDtype', "'float32', 'bfloat16' or 'int8'", value);
}

/** The shape of the scales of a state in bytes. */
export function scalesShape(tensor: Tensor): readonly number[] {
  return [Math.ceil(tensor.size / RUN)];
}

/** A state of a parameter, all zeros, that outlives the step. */
export interface ZeroState {
  /** In the parameter's shape. */
  readonly values: Tensor;
  /** Of values in bytes. */
  readonly scales?: Tensor;
}

/** Makes a state. */
export function zeroState(tensor: Tensor, stateDtype: StateDtype): ZeroState {
  const { shape, device } = tensor;
  const make = (of: readonly number[], dtype: Dtype): Tensor => once(() => keep(zeros(of, { dtype, device })));
  if (stateDtype !== 'int8') return { values: make(shape, stateDtype === 'float32' ? wideOf(tensor) : stateDtype) };
  return { values: make(shape, 'uint8'), scales: make(scalesShape(tensor), 'float32') };
}
