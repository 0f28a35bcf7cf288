/**
 * Attention with its probabilities, for whoever wants to see them:
 *
 *   weights = dropout(softmax(scale · q kᵀ + bias, where mask)),  output = weights v
 *
 * q [b, h, n, d], k [b, h, m, d], v [b, h, m, e]. This holds all n · m probabilities in memory; the fused kernel, which
 * layers use when nobody asks for weights, does not.
 */
import { maskFor, termsFor } from '../ops/attention-inputs.js';
import { attentionProbabilities } from '../ops/attention-reference.js';
import { watched } from '../ops/attention-watch.js';
import { type AttentionOptions, dropout, matmul } from '../ops/index.js';
import type { Tensor } from '../tensor/tensor.js';

/** Those of the op `attention` that layers use; masks and biases broadcast to [b, h, n, m]. */
export type AttentionWeightsOptions = {
  [K in 'mask' | 'bias' | 'positionBias' | 'causal' | 'scale' | 'dropoutP']?: AttentionOptions[K] | undefined;
};

/** @returns output [b, h, n, e] and weights [b, h, n, m]; a row that sees no key is zero in both */
export function attentionWithWeights(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  { mask, bias, positionBias, causal, scale = 1 / Math.sqrt(q.shape.at(-1)!), dropoutP = 0 }: AttentionWeightsOptions,
): { output: Tensor; weights: Tensor } {
  const given = { ...(mask ? { mask } : {}), causal: causal ?? false };
  const lead = q.shape.slice(0, 2);
  const seen = maskFor('attention', given, [q, k], lead);
  const asked = { scale, ...(bias ? { bias } : {}), ...(positionBias ? { positionBias } : {}) };
  const terms = termsFor('attention', asked, [q, k], lead);
  const inputs = { ...terms.inputs, mask: seen.mask, pattern: seen.pattern };
  const attrs = { ...terms.attrs, causal: seen.causal, maskInPattern: seen.maskInPattern };
  const { p } = attentionProbabilities(inputs, attrs);
  const weights = dropoutP > 0 ? dropout(p, { p: dropoutP }) : p;
  return { output: watched(inputs, attrs, matmul(weights, v)), weights };
}
