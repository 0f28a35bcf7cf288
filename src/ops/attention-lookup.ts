/**
 * Attention at temperature 0: the values of the keys with the highest score, their mean where several have it.
 *
 *   p_ij = [s_ij = max_j s_ij] / (how many have it),   o = p v
 *
 * Some rows at a time, so that no matrix of all scores is made.
 */
import { accumulatorOf } from '../tensor/dtype.js';
import type { Tensor } from '../tensor/tensor.js';
import { attentionProbabilities, repeatHeads, type ScoreAttrs, type ScoreInputs } from './attention-reference.js';
import { castTo } from './cast.js';
import { full } from './creation.js';
import { concat } from './join.js';
import { matmul } from './matmul.js';
import { amax } from './reduce.js';
import { narrow } from './shape.js';

const rowsAtOnce = 256;

/**
 * What the fused kernel tends to as all scores grow.
 *
 * @param attrs with `lookup`
 * @returns o [b, h, n, e]; lse [b, h, n], the highest scores
 */
export function attentionLookup(
  { v, ...inputs }: ScoreInputs & { v: Tensor },
  attrs: ScoreAttrs,
): { o: Tensor; lse: Tensor } {
  const { q, bias, mask } = inputs;
  const [b, h, n] = q.shape as [number, number, number];
  const m = v.shape[2]!;
  const values = repeatHeads(v, h / v.shape[1]!);
  const accumulator = accumulatorOf(v.slot!.dtype);
  const parts: { o: Tensor; lse: Tensor }[] = [];
  for (let first = 0; first === 0 || first < n; first += rowsAtOnce) {
    const count = Math.min(rowsAtOnce, n - first);
    const rows = (x: Tensor | undefined): Tensor | undefined =>
      x && x.shape[2] !== 1 ? narrow(x, 2, first, count) : x;
    const some = { q: narrow(q, 2, first, count), bias: rows(bias), mask: attrs.maskInPattern ? mask : rows(mask) };
    const { scores, p } = attentionProbabilities({ ...inputs, ...some }, attrs, { first, queries: n });
    // without keys there is no highest score
    const lse = m === 0 ? full([b, h, count], -Infinity, { device: q.device }) : amax(scores.detach(), -1);
    parts.push({ o: matmul(p, values), lse: castTo(lse, accumulator) });
  }
  return {
    o: concat(
      parts.map(({ o }) => o),
      2,
    ),
    lse: concat(
      parts.map(({ lse }) => lse),
      2,
    ),
  };
}
