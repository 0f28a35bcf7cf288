/** Parameters: the tensors of a module that training changes. */
import type { Tensor } from '../tensor/tensor.js';
import { keep } from '../tensor/tidy.js';

const parameters = new WeakSet<Tensor>();

/**
 * Marks a leaf tensor as a parameter, so that the {@link Module} that holds it as a property lists it; no `tidy` frees
 * it.
 *
 * @param options.requiresGrad whether gradients are accumulated for it (default true)
 */
export function parameter(tensor: Tensor, options: { requiresGrad?: boolean } = {}): Tensor {
  keep(tensor);
  tensor.requiresGrad_(options.requiresGrad ?? true);
  parameters.add(tensor);
  return tensor;
}

/** @returns whether `value` was made by {@link parameter} */
export function isParameter(value: unknown): value is Tensor {
  return typeof value === 'object' && value !== null && parameters.has(value as Tensor);
}

/** Frees the gradients of `parameters`. */
export function zeroGrad(parameters: Iterable<Tensor>): void {
  for (const tensor of parameters) {
    const { gradient } = tensor;
    tensor.grad = null;
    gradient?.dispose();
  }
}
