/** Comparisons and logic: the results are bool and have no gradient. */
import { argumentError } from '../tensor/check.js';
import { slotOf, type Tensor } from '../tensor/tensor.js';
import { castTo } from './cast.js';
import { kernels } from './kernels.gen.js';
import { withNumber, withTensor } from './promote.js';

type Comparison = 'eq' | 'ne' | 'lt' | 'le' | 'gt' | 'ge';

function compare(name: Comparison, a: Tensor | number, b: Tensor | number): Tensor {
  if (typeof b === 'number') {
    if (typeof a === 'number') throw argumentError(name, 'a or b', 'a Tensor', a);
    const code = withNumber(slotOf(a, name, 'a').dtype, b);
    return kernels[name]({ a: castTo(a, code) }, { scalar: b }).c;
  }
  slotOf(b, name, 'b');
  if (typeof a === 'number') {
    const code = withNumber(b.slot!.dtype, a);
    return kernels[name]({ a: castTo(b, code) }, { scalar: a, scalarFirst: true }).c;
  }
  slotOf(a, name, 'a');
  const code = withTensor(a, b);
  return kernels[name]({ a: castTo(a, code), b: castTo(b, code) }, {}).c;
}

/**
 * a = b, elementwise; NaN equals nothing.
 *
 * @param a any shape and dtype, or a number
 * @param b like `a`; both broadcast, and are compared in the promoted dtype
 * @returns bool of the broadcast shape; no gradient
 * @throws FOVEA_SHAPE if they do not broadcast, FOVEA_ARGUMENT for two numbers
 */
export function eq(a: Tensor | number, b: Tensor | number): Tensor {
  return compare('eq', a, b);
}
/**
 * a != b, elementwise; NaN differs from itself.
 *
 * @returns bool of the broadcast shape; no gradient
 * @throws FOVEA_SHAPE if they do not broadcast, FOVEA_ARGUMENT for two numbers
 */
export function ne(a: Tensor | number, b: Tensor | number): Tensor {
  return compare('ne', a, b);
}
/**
 * a < b, elementwise, in the promoted dtype; false where either is NaN.
 *
 * @returns bool of the broadcast shape; no gradient
 * @throws FOVEA_SHAPE if they do not broadcast, FOVEA_ARGUMENT for two numbers
 */
export function lt(a: Tensor | number, b: Tensor | number): Tensor {
  return compare('lt', a, b);
}
/**
 * a <= b, elementwise, in the promoted dtype; false where either is NaN.
 *
 * @returns bool of the broadcast shape; no gradient
 * @throws FOVEA_SHAPE if they do not broadcast, FOVEA_ARGUMENT for two numbers
 */
export function le(a: Tensor | number, b: Tensor | number): Tensor {
  return compare('le', a, b);
}
/**
 * a > b, elementwise, in the promoted dtype; false where either is NaN.
 *
 * @returns bool of the broadcast shape; no gradient
 * @throws FOVEA_SHAPE if they do not broadcast, FOVEA_ARGUMENT for two numbers
 */
export function gt(a: Tensor | number, b: Tensor | number): Tensor {
  return compare('gt', a, b);
}
/**
 * a >= b, elementwise, in the promoted dtype; false where either is NaN.
 *
 * @returns bool of the broadcast shape; no gradient
 * @throws FOVEA_SHAPE if they do not broadcast, FOVEA_ARGUMENT for two numbers
 */
export function ge(a: Tensor | number, b: Tensor | number): Tensor {
  return compare('ge', a, b);
}
/**
 * Whether both are not 0, elementwise, for any dtypes.
 *
 * @returns bool of the broadcast shape
 * @throws FOVEA_SHAPE if they do not broadcast
 */
export function logicalAnd(a: Tensor, b: Tensor): Tensor {
  return kernels.logicalAnd({ a, b }, {}).c;
}
/**
 * Whether at least one is not 0, elementwise, for any dtypes.
 *
 * @returns bool of the broadcast shape
 * @throws FOVEA_SHAPE if they do not broadcast
 */
export function logicalOr(a: Tensor, b: Tensor): Tensor {
  return kernels.logicalOr({ a, b }, {}).c;
}
/**
 * Whether exactly one is not 0, elementwise, for any dtypes.
 *
 * @returns bool of the broadcast shape
 * @throws FOVEA_SHAPE if they do not broadcast
 */
export function logicalXor(a: Tensor, b: Tensor): Tensor {
  return kernels.logicalXor({ a, b }, {}).c;
}
/**
 * Whether each element is 0.
 *
 * @param x any shape and dtype
 * @returns bool of the shape of `x`
 */
export function logicalNot(x: Tensor): Tensor {
  return kernels.logicalNot({ x }, {}).y;
}
/**
 * Whether each element is NaN; never for integers and bool.
 *
 * @param x any shape and dtype
 * @returns bool of the shape of `x`
 */
export function isNan(x: Tensor): Tensor {
  return kernels.isNan({ x }, {}).y;
}
/**
 * Whether each element is neither NaN nor infinite; always for integers and bool.
 *
 * @param x any shape and dtype
 * @returns bool of the shape of `x`
 */
export function isFinite(x: Tensor): Tensor {
  return kernels.isFinite({ x }, {}).y;
}
