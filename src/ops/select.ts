/** Elements chosen by a condition, a range or their place: no arithmetic. */
import { FoveaError } from '../errors.js';
import { argumentError, integerArg, numberArg, optionsArg, shapeError } from '../tensor/check.js';
import { Code } from '../tensor/dtype.js';
import { slotOf, type Tensor } from '../tensor/tensor.js';
import { sumTo } from './broadcast.js';
import { castTo } from './cast.js';
import { ge, le, logicalAnd } from './compare.js';
import { defineOp, type DefinedOp } from './define-op.js';
import { kernels } from './kernels.gen.js';
import { operandArg, withNumber, withTensor } from './promote.js';

const whereOp = defineOp({
  kernel: 'where',
  saves: ['condition'],
  shapes: true,
  gradient: ({ condition }, { c: dc }, _, s, wants) => ({
    a: wants.a ? sumTo(where(condition, dc, 0), s.a) : undefined,
    b: wants.b ? sumTo(where(condition, 0, dc), s.b) : undefined,
  }),
});

/**
 * a where `condition`, else b; all three broadcast.
 *
 * @param condition bool
 * @param a any dtype, or a number
 * @param b like `a`; they are promoted to one dtype
 * @returns the broadcast shape in the promoted dtype; float32 for two numbers
 * @throws FOVEA_DTYPE if the condition is not bool, FOVEA_SHAPE if the shapes do not broadcast
 */
export function where(condition: Tensor, a: Tensor | number, b: Tensor | number): Tensor {
  slotOf(condition, 'where', 'condition');
  operandArg('where', 'a', a);
  operandArg('where', 'b', b);
  if (typeof a === 'number') {
    if (typeof b === 'number') return choose(condition, a, b);
    const code = withNumber(b.slot!.dtype, a);
    return whereOp({ condition, b: castTo(b, code) }, { scalarA: a }).c;
  }
  if (typeof b === 'number') {
    const code = withNumber(a.slot!.dtype, b);
    return whereOp({ condition, a: castTo(a, code) }, { scalarB: b }).c;
  }
  const code = withTensor(a, b);
  return whereOp({ condition, a: castTo(a, code), b: castTo(b, code) }).c;
}
/** Two numbers have no tensor to take their dtype from: float32. */
function choose(condition: Tensor, a: number, b: number): Tensor {
  const ones = castTo(condition, 0);
  return whereOp({ condition, b: whereOp({ condition, a: ones }, { scalarB: b }).c }, { scalarA: a }).c;
}

/**
 * Checks a mask, for ops that other ops are made of.
 *
 * @throws FOVEA_DTYPE unless it is bool
 */
export function maskArg(op: string, mask: Tensor): void {
  if (slotOf(mask, op, 'mask').dtype !== Code.bool)
    throw new FoveaError(
      'FOVEA_DTYPE',
      `${op}: expected a bool mask, received ${mask.dtype}; convert it with .to('bool')`,
    );
}

/**
 * x with `value` where `mask` is true.
 *
 * @param x any dtype
 * @param mask bool; broadcasts with `x`
 * @param value a number, or a tensor that broadcasts; converted to the dtype of `x`
 * @returns the broadcast shape, the dtype of `x`
 * @throws FOVEA_DTYPE for a mask that is not bool, FOVEA_SHAPE if the shapes do not broadcast
 */
export function maskedFill(x: Tensor, mask: Tensor, value: Tensor | number): Tensor {
  const { dtype } = slotOf(x, 'maskedFill', 'x');
  maskArg('maskedFill', mask);
  operandArg('maskedFill', 'value', value);
  return castTo(where(mask, value, x), dtype);
}

const clampOp = defineOp({
  kernel: 'clamp',
  backwardKernels: ['clampBackward'],
  saves: ['x'],
  gradient: ({ x }, { y: dy }, attrs) => ({ x: kernels.clampBackward({ x, dy }, attrs).dx }),
  composed({ x }, { y: dy }, { min = -Infinity, max = Infinity }) {
    return { x: where(logicalAnd(ge(x, min), le(x, max)), dy, 0) };
  },
});

/** Bounds of `clamp`. */
export interface ClampOptions {
  /** The lowest value that stays; default: none. */
  min?: number;
  /** The highest value that stays; default: none. */
  max?: number;
}
/**
 * x moved into [min, max]; NaN stays NaN, and max wins where min is larger.
 *
 * @param x any shape, floats or integers; the bounds of integers are rounded towards zero
 * @returns the shape and dtype of `x`
 * @throws FOVEA_ARGUMENT without a bound, FOVEA_DTYPE for bool
 */
export function clamp(x: Tensor, options: ClampOptions): Tensor {
  const { min, max } = optionsArg('clamp', options, ['min', 'max']);
  if (min === undefined && max === undefined) throw argumentError('clamp', 'options', 'min, max or both', options);
  if (min !== undefined) numberArg('clamp', 'min', min);
  if (max !== undefined) numberArg('clamp', 'max', max);
  return clampOp({ x }, { min, max }).y;
}

const triangleOp: DefinedOp<'triangle'> = defineOp({
  kernel: 'triangle',
  saves: [],
  gradient: (_, { y: dy }, attrs) => ({ x: triangleOp({ x: dy }, attrs).y }),
});
function triangle(op: string, x: Tensor, diagonal: number, upper: boolean): Tensor {
  const { shape } = slotOf(x, op, 'x');
  if (shape.length < 2) throw shapeError(op, `expected at least two axes [...,m,n], received [${shape.join(',')}]`);
  return triangleOp({ x }, { diagonal: integerArg(op, 'diagonal', diagonal), upper }).y;
}
/**
 * x with zeros above a diagonal.
 *
 * @param x [..., m, n], any dtype
 * @param diagonal 0: the main one, positive: above it, negative: below it
 * @returns the shape and dtype of `x`
 * @throws FOVEA_SHAPE for fewer than two axes
 */
export function tril(x: Tensor, diagonal = 0): Tensor {
  return triangle('tril', x, diagonal, false);
}
/**
 * x with zeros below a diagonal.
 *
 * @param x [..., m, n], any dtype
 * @param diagonal 0: the main one, positive: above it, negative: below it
 * @returns the shape and dtype of `x`
 * @throws FOVEA_SHAPE for fewer than two axes
 */
export function triu(x: Tensor, diagonal = 0): Tensor {
  return triangle('triu', x, diagonal, true);
}
