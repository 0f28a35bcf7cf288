/**
 * Attention with its probabilities, for whoever wants to see them:
 *
 *   weights = softmax(scale · q kᵀ + bias, where mask),  output = dropout(weights) v
 *
 * q [b, h, n, d], k [b, h, m, d], v [b, h, m, e]. This holds all n · m probabilities in memory; the fused kernel, which
 * layers use when nobody asks for weights, does not.
 */
import { dropout, matmul, softmax } from '../ops/index.js';
import type { Dtype } from '../tensor/dtype.js';
import type { Tensor } from '../tensor/tensor.js';

/** Smaller than any score, but finite, so that a row that sees no key has no NaN in its gradient. */
const lowest: Readonly<Partial<Record<Dtype, number>>> = { float16: -65504 };

export interface AttentionWeightsOptions {
  /** Bool, broadcastable to [b, h, n, m]: true where a key may be seen. */
  mask?: Tensor | undefined;
  /** Added to the scores; broadcastable to [b, h, n, m]. */
  bias?: Tensor | undefined;
  /** Default 1/sqrt(d). */
  scale?: number | undefined;
  dropoutP?: number | undefined;
}

/** @returns output [b, h, n, e] and weights [b, h, n, m]; a row that sees no key is zero in both */
export function attentionWithWeights(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  { mask, bias, scale = 1 / Math.sqrt(q.shape.at(-1)!), dropoutP = 0 }: AttentionWeightsOptions,
): { output: Tensor; weights: Tensor } {
  let scores = matmul(q.mul(scale), k.transpose(-2, -1));
  if (bias) scores = scores.add(bias);
  const hidden = mask?.logicalNot();
  if (hidden) scores = scores.maskedFill(hidden, lowest[scores.dtype] ?? -3e38);
  let weights = softmax(scores, -1);
  if (hidden) weights = weights.maskedFill(hidden, 0);
  if (dropoutP > 0) weights = dropout(weights, { p: dropoutP, training: true });
  return { output: matmul(weights, v), weights };
}
