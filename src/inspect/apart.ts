/** How this room computes: beside what the caller computes, not as a part of it. */
import { noGrad } from '../autograd/backward.js';
import { autocast } from '../tensor/modes.js';
import type { Tensor } from '../tensor/tensor.js';
import { tidy } from '../tensor/tidy.js';

/**
 * Runs `fn` outside of the graph and of `autocast`, and frees what it makes and does not return. @returns what `fn`
 * returns
 */
export function apart<T>(fn: () => T): T {
  return noGrad(() => autocast(false, () => tidy(fn)));
}

/** What sums are made in: float64 for float64, else float32; outside of the graph. */
export function wide(x: Tensor): Tensor {
  return x.dtype === 'float64' ? x.detach() : x.detach().to('float32');
}
