/** Conversions between dtypes, and copies. */
import { argumentError, dtypeArg, optionsArg } from '../tensor/check.js';
import { deviceArg, isDeviceName, type Device } from '../tensor/device.js';
import { dtypeNames, isDtype, type Dtype } from '../tensor/dtype.js';
import { transfer } from '../tensor/storage.js';
import { slotOf, type Tensor } from '../tensor/tensor.js';
import { record } from '../autograd/node.js';
import { kernels } from './kernels.gen.js';

/**
 * `x` itself if it has that dtype, else its conversion.
 *
 * @param code the dtype's code
 * @returns the shape of `x`
 */
export function castTo(x: Tensor, code: number): Tensor {
  const from = x.slot!.dtype;
  if (from === code) return x;
  const { y } = kernels.cast({ x }, { dtype: dtypeNames[code]! });
  return code > 3 ? y : record('cast', [x], y, (dy) => [castTo(dy, from)]);
}

/**
 * `x` converted to a dtype or moved to a device; `x` itself where nothing changes.
 *
 * Floats become integers by truncation, and bool by `x != 0`; NaN has no integer and gives an unspecified one.
 *
 * @param x any shape
 * @returns the shape of `x`
 * @throws FOVEA_DEVICE for a device that is not there, FOVEA_ARGUMENT for a target that is none of these
 */
export function to(x: Tensor, target: Dtype | Device | { dtype?: Dtype; device?: Device }): Tensor {
  slotOf(x, 'to', 'x');
  if (typeof target === 'string') {
    if (isDtype(target)) return castTo(x, dtypeArg('to', target));
    if (isDeviceName(target)) return moveTo(x, deviceArg('to', target));
  }
  if (target === null || typeof target !== 'object')
    throw argumentError('to', 'target', 'a dtype, a device or { dtype, device }', target);
  const { dtype, device } = optionsArg('to', target, ['dtype', 'device']);
  const moved = device === undefined ? x : moveTo(x, deviceArg('to', device));
  return dtype === undefined ? moved : castTo(moved, dtypeArg('to', dtype));
}

/**
 * `x` itself if it is on that device, else a copy there. The gradient goes the way back.
 *
 * @param device the device's number
 * @returns the shape and dtype of `x`
 */
export function moveTo(x: Tensor, device: number): Tensor {
  const from = x.slot!.device;
  if (from === device) return x;
  return record('to', [x], transfer(x, device), (dy) => [moveTo(dy, from)]);
}

/** `x` as float32. @returns the shape of `x`; `x` itself if it is float32 */
export function float(x: Tensor): Tensor {
  return to(x, 'float32');
}
/** `x` as float64. @returns the shape of `x`; `x` itself if it is float64 */
export function double(x: Tensor): Tensor {
  return to(x, 'float64');
}
/** `x` as float16, rounded to the nearest. @returns the shape of `x`; `x` itself if it is float16 */
export function half(x: Tensor): Tensor {
  return to(x, 'float16');
}
/** `x` as bfloat16, rounded to the nearest. @returns the shape of `x`; `x` itself if it is bfloat16 */
export function bfloat16(x: Tensor): Tensor {
  return to(x, 'bfloat16');
}
/** `x` as int32; floats are truncated. @returns the shape of `x`; `x` itself if it is int32 */
export function int(x: Tensor): Tensor {
  return to(x, 'int32');
}
/** `x` as int64; floats are truncated. @returns the shape of `x`; `x` itself if it is int64 */
export function long(x: Tensor): Tensor {
  return to(x, 'int64');
}
/** `x` as bool: whether each element is not 0. @returns the shape of `x`; `x` itself if it is bool */
export function bool(x: Tensor): Tensor {
  return to(x, 'bool');
}

/**
 * A copy of `x` in dense memory of its own, attached to the graph.
 *
 * @returns the shape and dtype of `x`
 */
export function clone(x: Tensor): Tensor {
  slotOf(x, 'clone', 'x');
  return record('clone', [x], kernels.copy({ x }, {}).y, (dy) => [dy]);
}

/**
 * `x` itself if its elements lie row-major without gaps, else a copy for which they do.
 *
 * @returns the shape and dtype of `x`
 */
export function contiguous(x: Tensor): Tensor {
  slotOf(x, 'contiguous', 'x');
  return x.isContiguous() ? x : clone(x);
}
