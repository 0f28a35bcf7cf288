/** A check of arguments that ops of floats share. */
import { FoveaError } from '../errors.js';
import { shapeError } from '../tensor/check.js';
import { isFloat } from '../tensor/dtype.js';
import { slotOf, type Tensor } from '../tensor/tensor.js';

/**
 * A tensor of floats of some rank.
 *
 * @returns its shape
 * @throws FOVEA_DTYPE for what are no floats, FOVEA_SHAPE for another rank
 */
export function floatsArg(op: string, argument: string, x: Tensor, ranks: readonly number[]): readonly number[] {
  const { dtype, shape } = slotOf(x, op, argument);
  if (!isFloat(dtype))
    throw new FoveaError(
      'FOVEA_DTYPE',
      `${op}: expected floats for ${argument}, received ${x.dtype}; convert it with .to('float32')`,
    );
  if (!ranks.includes(shape.length))
    throw shapeError(op, `expected ${argument} of rank ${ranks.join(' or ')}, received shape [${shape.join(',')}]`);
  return shape;
}
