/**
 * Attention by its formula, with all n · m scores in memory: what the fused kernel must equal, and what layers run whose
 * caller wants to see the probabilities.
 *
 *   p = softmax(scale q k^T + bias, where mask),  o = dropout(p) v
 *
 * q [b, h, n, d], k [b, g, m, d], v [b, g, m, e] with g dividing h. A row that may see no key is zero in p and o.
 */
import { accumulatorOf } from '../tensor/dtype.js';
import type { Tensor } from '../tensor/tensor.js';
import { expand } from './broadcast.js';
import { castTo } from './cast.js';
import { eq } from './compare.js';
import { ones } from './creation.js';
import { add, mul } from './elementwise.js';
import { kernels } from './kernels.gen.js';
import { matmul } from './matmul.js';
import { dropoutAt } from './random.js';
import { amax, logsumexp } from './reduce.js';
import { tril, where } from './select.js';
import { reshape, transpose, unsqueeze } from './shape.js';
import { softmax } from './softmax.js';

/** The kernel's codes of a causal mask. */
export const causalCodes = { none: 0, topLeft: 1, bottomRight: 2 } as const;

/** What scores are made of. */
export interface ScoreInputs {
  /** [b, h, n, d] */
  q: Tensor;
  /** [b, g, m, d] */
  k: Tensor;
  /** Added; broadcasts to [b, h, n, m]. */
  bias?: Tensor | undefined;
  /** bool, broadcasts to [b, h, n, m]: true where a key may be seen. */
  mask?: Tensor | undefined;
  /** A program that says the same (mask-program.ts). */
  pattern?: Tensor | undefined;
}
/** How scores are made. */
export interface ScoreAttrs {
  /** Factor of the products; default 1. */
  scale?: number | undefined;
  /** One of {@link causalCodes}. */
  causal?: number | undefined;
  /** Whether the pattern reads the mask, which then means nothing by itself. */
  maskInPattern?: boolean | undefined;
}

/** Key heads as often as query heads use them. */
function repeatHeads(x: Tensor, times: number): Tensor {
  if (times === 1) return x;
  const [b, g, m, d] = x.shape as [number, number, number, number];
  return reshape(expand(unsqueeze(x, 2), [b, g, times, m, d]), [b, g * times, m, d]);
}

/**
 * The scores and their probabilities, before dropout.
 *
 * @returns scores [b, h, n, m], -inf where a key is hidden, and p of that shape, zero in rows that see no key
 */
export function attentionProbabilities(
  { q, k, bias, mask, pattern }: ScoreInputs,
  { scale = 1, causal = causalCodes.none, maskInPattern = false }: ScoreAttrs,
): { scores: Tensor; p: Tensor } {
  const [n, m] = [q.shape[2]!, k.shape[2]!];
  let scores = mul(matmul(q, transpose(repeatHeads(k, q.shape[1]! / k.shape[1]!), -2, -1)), scale);
  if (bias) scores = add(scores, bias);
  if (mask && !maskInPattern) scores = where(mask, scores, -Infinity);
  if (pattern) {
    const [b, h] = q.shape as [number, number];
    const read = maskInPattern && mask ? expand(mask, [b, h, n, m]) : undefined;
    const sizes = { batch: b, heads: h, rows: n, queries: n, keys: m };
    scores = where(kernels.attentionVisible({ pattern, mask: read }, sizes).seen, scores, -Infinity);
  }
  if (causal !== causalCodes.none) {
    const visible = tril(ones([n, m], { dtype: 'bool', device: q.device }), causal === causalCodes.topLeft ? 0 : m - n);
    scores = where(visible, scores, -Infinity);
  }
  // without keys there is nothing to exponentiate
  if (m === 0) return { scores, p: scores };
  // softmax of a row of -inf would be NaN, and so would its gradient
  const blind = eq(amax(scores.detach(), -1, { keepdim: true }), -Infinity);
  return { scores, p: where(blind, 0, softmax(where(blind, 0, scores), -1)) };
}

/**
 * What the fused kernel computes.
 *
 * @returns o [b, h, n, e] in the dtype of the inputs, and lse [b, h, n] in float32 (float64 for float64)
 */
export function attentionReference(
  { v, ...inputs }: ScoreInputs & { v: Tensor },
  attrs: ScoreAttrs & { dropoutP?: number | undefined; seed?: number | undefined; offset?: number | undefined },
): { o: Tensor; lse: Tensor } {
  const { dropoutP = 0, seed = 0, offset = 0 } = attrs;
  const { scores, p } = attentionProbabilities(inputs, attrs);
  const dropped = dropoutP > 0 ? dropoutAt(p, dropoutP, seed, offset) : p;
  const lse = logsumexp(castTo(scores.detach(), accumulatorOf(v.slot!.dtype)), -1);
  return { o: matmul(dropped, repeatHeads(v, inputs.q.shape[1]! / v.shape[1]!)), lse };
}
