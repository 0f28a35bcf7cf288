/**
 * Attention by its formula, with all n · m scores in memory: what the fused kernel must equal, and what layers run
 * whose caller wants to see the probabilities.
 *
 *   p = softmax(cap(scale q k^T) + biases, where mask),  o = dropout(p) v
 *
 * q [b, h, n, d], k [b, g, m, d], v [b, g, m, e] with g dividing h. A row that may see no key is zero in p and o.
 */
import { accumulatorOf } from '../tensor/dtype.js';
import type { Tensor } from '../tensor/tensor.js';
import { expand } from './broadcast.js';
import { castTo } from './cast.js';
import { eq, gt, logicalAnd, ne } from './compare.js';
import { tanh } from './activation.js';
import { arange, ones } from './creation.js';
import { add, div, mul, sub } from './elementwise.js';
import { indexSelect } from './indexing.js';
import { kernels } from './kernels.gen.js';
import { matmul } from './matmul.js';
import { dropoutAt } from './random.js';
import { amax, logsumexp, sum } from './reduce.js';
import { clamp, tril, where } from './select.js';
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
  /** [h or 1, size]: added by distance. */
  distance?: Tensor | undefined;
  /** [h or 1, d]: scores are sums of vector_c tanh(q_c + k_c) instead of products. */
  vector?: Tensor | undefined;
}
/** How scores are made. */
export interface ScoreAttrs {
  /** Factor of the products; default 1. */
  scale?: number | undefined;
  /** One of {@link causalCodes}. */
  causal?: number | undefined;
  /** Whether the pattern reads the mask, which then means nothing by itself. */
  maskInPattern?: boolean | undefined;
  /** Scores become c tanh(score / c), before biases; 0: they stay. */
  softcap?: number | undefined;
  /** The place of distance 0 in `distance`. */
  distanceZero?: number | undefined;
  /** Whether distances are from key i + m - n, else from key i. */
  distanceAligned?: boolean | undefined;
  /** Temperature 0: only the highest scores of a row count, and alike. */
  lookup?: boolean | undefined;
}
/** Which queries those in q are. */
export interface ScoreRows {
  /** The first of them. */
  first: number;
  /** How many there are of all. */
  queries: number;
}

/** Key heads as often as query heads use them. @returns [b, h, m, d] */
export function repeatHeads(x: Tensor, times: number): Tensor {
  if (times === 1 || x.shape[1] === 0) return x;
  const [b, g, m, d] = x.shape as [number, number, number, number];
  return reshape(expand(unsqueeze(x, 2), [b, g, times, m, d]), [b, g * times, m, d]);
}

/** The bias by distance of some rows. @returns [h or 1, n, m] */
export function biasByDistance(
  distance: Tensor,
  { distanceZero = 0, distanceAligned = false }: ScoreAttrs,
  n: number,
  m: number,
  { first, queries }: ScoreRows,
): Tensor {
  const { device } = distance;
  const start = first + (distanceAligned ? m - queries : 0);
  const keys = arange(m, { device });
  const rows = unsqueeze(arange(start, start + n, 1, { device }), 1);
  const place = clamp(add(sub(keys, rows), distanceZero), { min: 0, max: distance.shape[1]! - 1 });
  return reshape(indexSelect(distance, 1, reshape(place, [n * m])), [distance.shape[0]!, n, m]);
}

/**
 * What a pattern says of every key.
 *
 * @param read the mask that it reads, which broadcasts to [b, h, queries, m], if it does
 * @param shape [b, h, n, m]
 * @param rows which queries those are; default all
 * @returns bool of that shape
 */
export function patternVisible(
  pattern: Tensor,
  read: Tensor | undefined,
  [b, h, n, m]: readonly [number, number, number, number],
  { first, queries }: ScoreRows = { first: 0, queries: n },
): Tensor {
  return kernels.attentionVisible(
    { pattern, mask: read && expand(read, [b, h, queries, m]) },
    { batch: b, heads: h, rows: n, first, queries, keys: m },
  ).seen;
}

/** What decides which keys are seen. @returns bools that broadcast to [b, h, n, m]; all of them must be true */
export function visibleIn(
  { q, mask, pattern }: ScoreInputs,
  { causal = causalCodes.none, maskInPattern = false }: ScoreAttrs,
  m: number,
  rows: ScoreRows,
): Tensor[] {
  const [b, h, n] = q.shape as [number, number, number];
  const parts: Tensor[] = [];
  if (mask && !maskInPattern) parts.push(mask);
  if (pattern) parts.push(patternVisible(pattern, maskInPattern ? mask : undefined, [b, h, n, m], rows));
  if (causal !== causalCodes.none) {
    const diagonal = rows.first + (causal === causalCodes.topLeft ? 0 : m - rows.queries);
    parts.push(tril(ones([n, m], { dtype: 'bool', device: q.device }), diagonal));
  }
  return parts;
}

/** q k^T, or its additive counterpart. @returns [b, h, n, m] */
function rawScores({ q, k, vector }: ScoreInputs): Tensor {
  const keys = repeatHeads(k, q.shape[1]! / k.shape[1]!);
  if (!vector) return matmul(q, transpose(keys, -2, -1));
  const each = castTo(reshape(vector, [vector.shape[0]!, 1, 1, vector.shape[1]!]), q.slot!.dtype);
  return sum(mul(tanh(add(unsqueeze(q, 3), unsqueeze(keys, 2))), each), -1);
}

/** 1 / c at each of the c highest scores of a row, 0 elsewhere and in rows that see no key; NaN in rows with NaN. */
function highest(scores: Tensor): Tensor {
  const top = amax(scores, -1, { keepdim: true });
  const hit = castTo(logicalAnd(eq(scores, top), gt(top, -Infinity)), scores.slot!.dtype);
  return where(ne(top, top), Number.NaN, div(hit, clamp(sum(hit, -1, { keepdim: true }), { min: 1 })));
}

/**
 * The scores and their probabilities, before dropout.
 *
 * @param rows which queries are in q, whose bias and mask are of them alone (a mask that a pattern reads: of all);
 *   default all
 * @returns scores [b, h, n, m], -inf where a key is hidden, and p of that shape, zero in rows that see no key
 */
export function attentionProbabilities(
  inputs: ScoreInputs,
  attrs: ScoreAttrs,
  rows: ScoreRows = { first: 0, queries: inputs.q.shape[2]! },
): { scores: Tensor; p: Tensor } {
  const { q, bias, distance } = inputs;
  const { scale = 1, softcap = 0 } = attrs;
  const [n, m] = [q.shape[2]!, inputs.k.shape[2]!];
  let scores = mul(rawScores(inputs), scale);
  if (softcap) scores = mul(tanh(div(scores, softcap)), softcap);
  if (bias) scores = add(scores, bias);
  if (distance) scores = add(scores, castTo(biasByDistance(distance, attrs, n, m, rows), scores.slot!.dtype));
  for (const seen of visibleIn(inputs, attrs, m, rows)) scores = where(seen, scores, -Infinity);
  // without keys there is nothing to exponentiate
  if (m === 0) return { scores, p: scores };
  if (attrs.lookup) return { scores, p: highest(scores.detach()) };
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
