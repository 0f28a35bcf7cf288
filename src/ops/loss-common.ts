/** What losses share: how the losses of the elements become one, and which targets count. */
import { argumentError } from '../tensor/check.js';
import type { Tensor } from '../tensor/tensor.js';
import { castTo } from './cast.js';
import { ne } from './compare.js';
import { kernels } from './kernels.gen.js';

/** How the losses of the elements become one: 'mean' (default), 'sum', or 'none' for all of them. */
export type Reduction = 'mean' | 'sum' | 'none';

/** @returns the reduction, 'mean' if none is given @throws FOVEA_ARGUMENT for another */
export function reductionArg(op: string, reduction: Reduction | undefined): Reduction {
  if (reduction === undefined) return 'mean';
  if (reduction !== 'mean' && reduction !== 'sum' && reduction !== 'none')
    throw argumentError(op, 'reduction', "'mean', 'sum' or 'none'", reduction);
  return reduction;
}

/** How many targets count, 0-d, in the dtype of that code. */
export function countTargets(target: Tensor, ignoreIndex: number, code: number): Tensor {
  return castTo(kernels.countNonzero({ x: ne(target, ignoreIndex) }, {}).count, code);
}
