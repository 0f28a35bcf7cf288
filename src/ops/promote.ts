/**
 * Brings operands to one dtype, as PyTorch's `result_type` says: first tensors with axes decide, then 0-d ones, then
 * numbers.
 */
import { FoveaError } from '../errors.js';
import { argumentError } from '../tensor/check.js';
import { category, Code, dtypeNames, isFloat, promoteTypes } from '../tensor/dtype.js';
import { slotOf, type Tensor } from '../tensor/tensor.js';
import { castTo } from './cast.js';

/** What a JavaScript number counts as beside a tensor: weak, so only a higher category matters. */
function numberCategory(value: number): number {
  return Number.isInteger(value) ? 1 : 2;
}

/**
 * The dtype of an op on a tensor and a number.
 *
 * @param code the tensor's dtype
 * @returns a code: that of the tensor, or int64 or float32 if the number is of a higher category
 */
export function withNumber(code: number, value: number): number {
  const wanted = numberCategory(value);
  if (category(code) >= wanted) return code;
  return wanted === 2 ? Code.float32 : Code.int64;
}

/**
 * The dtype of an op on two tensors.
 *
 * @returns a code
 */
export function withTensor(a: Tensor, b: Tensor): number {
  const sa = a.slot!;
  const sb = b.slot!;
  if (sa.dtype === sb.dtype) return sa.dtype;
  const weakA = sa.shape.length === 0;
  const weakB = sb.shape.length === 0;
  if (weakA === weakB) return promoteTypes(sa.dtype, sb.dtype);
  const [strong, weak] = weakA ? [sb.dtype, sa.dtype] : [sa.dtype, sb.dtype];
  return category(weak) > category(strong) ? promoteTypes(strong, weak) : strong;
}

/**
 * PyTorch's `result_type` of any number of tensors.
 *
 * @returns a code
 */
export function resultType(tensors: readonly Tensor[]): number {
  let strong = -1;
  let weak = -1;
  for (const t of tensors) {
    const { dtype, shape } = t.slot!;
    if (shape.length > 0) strong = strong < 0 ? dtype : promoteTypes(strong, dtype);
    else weak = weak < 0 ? dtype : promoteTypes(weak, dtype);
  }
  if (strong < 0) return weak;
  return weak >= 0 && category(weak) > category(strong) ? promoteTypes(strong, weak) : strong;
}

/**
 * `x`, or for integers and bool its conversion to float32: functions such as exp give floats.
 *
 * @returns the shape of `x`
 */
export function floating(x: Tensor, op: string, argument = 'x'): Tensor {
  return isFloat(slotOf(x, op, argument).dtype) ? x : castTo(x, Code.float32);
}

/**
 * Checks a tensor or number operand.
 *
 * @throws FOVEA_ARGUMENT for anything else, FOVEA_DISPOSED
 */
export function operandArg(op: string, argument: string, value: unknown): void {
  if (typeof value === 'number') return;
  if (value === null || typeof value !== 'object') throw argumentError(op, argument, 'a Tensor or a number', value);
  slotOf(value as Tensor, op, argument);
}

/**
 * The operand of an op in place, converted to the target's dtype.
 *
 * @returns the shape of the operand
 * @throws FOVEA_DTYPE for a target of a lower category (bool, integers, floats)
 */
export function forTarget(target: Tensor, operand: Tensor, op: string): Tensor {
  const to = slotOf(target, op, 'a').dtype;
  const from = slotOf(operand, op, 'b').dtype;
  if (from === to) return operand;
  if (category(from) > category(to))
    throw new FoveaError(
      'FOVEA_DTYPE',
      `${op}: a ${dtypeNames[from]} result cannot be written into ${dtypeNames[to]}; convert the target with .to('${dtypeNames[from]}')`,
    );
  return castTo(operand, to);
}
