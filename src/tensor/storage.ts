/** New tensors: of memory that is not written yet, of host data, of another device's tensor. */
import { native, scratch } from '../addon.js';
import type { Shape } from './layout.js';
import { Slot } from './slot.js';
import { live, Tensor } from './tensor.js';

/**
 * A tensor of undefined contents.
 *
 * @param dtype its code
 * @param device its number
 * @throws FOVEA_OUT_OF_MEMORY beyond the memory limit
 */
export function allocate(shape: Shape, dtype: number, device: number): Tensor {
  const slot = new Slot(dtype);
  for (let i = 0; i < shape.length; i++) scratch[i] = shape[i]!;
  slot.id = native.empty(slot, dtype, shape.length, device);
  return new Tensor(slot);
}

/** A copy of `x` on another device, outside of the graph. @param device its number */
export function transfer(x: Tensor, device: number): Tensor {
  const from = live(x);
  const slot = new Slot(from.dtype);
  slot.id = native.transfer(slot, from.id, device);
  return new Tensor(slot);
}

/** A tensor on the CPU with a copy of host data, whose bytes must be those of the shape. @param dtype its code */
export function upload(data: ArrayBufferView, shape: Shape, dtype: number): Tensor {
  const slot = new Slot(dtype);
  for (let i = 0; i < shape.length; i++) scratch[i] = shape[i]!;
  slot.id = native.upload(slot, data, dtype, shape.length);
  return new Tensor(slot);
}
