/**
 * Attention with its probabilities, for whoever wants to see them:
 *
 *   weights = dropout(softmax(scale · q kᵀ + bias, where mask)),  output = weights v
 *
 * q [b, h, n, d], k [b, h, m, d], v [b, h, m, e]. This holds all n · m probabilities in memory; the fused kernel, which
 * layers use when nobody asks for weights, does not.
 */
import { maskFor } from '../ops/attention.js';
import { attentionProbabilities } from '../ops/attention-reference.js';
import { type AttentionOptions, dropout, matmul } from '../ops/index.js';
import type { Tensor } from '../tensor/tensor.js';

/** Those of the op `attention` that layers use; masks and biases broadcast to [b, h, n, m]. */
export type AttentionWeightsOptions = {
  [K in 'mask' | 'bias' | 'causal' | 'scale' | 'dropoutP']?: AttentionOptions[K] | undefined;
};

/** @returns output [b, h, n, e] and weights [b, h, n, m]; a row that sees no key is zero in both */
export function attentionWithWeights(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  { mask, bias, causal, scale = 1 / Math.sqrt(q.shape.at(-1)!), dropoutP = 0 }: AttentionWeightsOptions,
): { output: Tensor; weights: Tensor } {
  const seen = maskFor(
    'attention',
    { ...(mask ? { mask } : {}), causal: causal ?? false },
    [q, k],
    q.shape.slice(0, 2),
  );
  const { p } = attentionProbabilities({ q, k, bias, ...seen }, { scale, ...seen });
  const weights = dropoutP > 0 ? dropout(p, { p: dropoutP }) : p;
  return { output: matmul(weights, v), weights };
}
