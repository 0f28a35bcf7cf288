/**
 * Where those who watch attention come in: a room above sets a function that sees every call of `attention`, and may
 * put another output in the place of its own. Nobody watches most of the time, and then a call compares with null.
 */
import type { Tensor } from '../tensor/tensor.js';
import type { ScoreAttrs, ScoreInputs } from './attention-reference.js';

/**
 * Sees a call: what its scores are made of, and its output [b, h, n, e]. The output that it returns takes that one's
 * place.
 */
export type AttentionWatch = (inputs: ScoreInputs, attrs: ScoreAttrs, output: Tensor) => Tensor;

let watch: AttentionWatch | null = null;

/** Sets the one function that sees all calls; null: none. */
export function setAttentionWatch(next: AttentionWatch | null): void {
  watch = next;
}

/** The output of a call of attention, as it is or as who watches wants it. */
export function watched(inputs: ScoreInputs, attrs: ScoreAttrs, output: Tensor): Tensor {
  return watch === null ? output : watch(inputs, attrs, output);
}
