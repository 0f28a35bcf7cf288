/**
 * Attention of which there is no kernel, some rows of queries at a time, so that no matrix of all scores is made: by
 * temperature 0, which looks up the values of the keys with the highest score (their mean where several have it),
 *
 *   p_ij = [s_ij = max_j s_ij] / (how many have it),   o = p v
 *
 * and with terms that the kernels of a device do not have.
 */
import { accumulatorOf } from '../tensor/dtype.js';
import type { Tensor } from '../tensor/tensor.js';
import {
  attentionProbabilities,
  causalCodes,
  repeatHeads,
  type ScoreAttrs,
  type ScoreInputs,
  type ScoreRows,
  visibleIn,
} from './attention-reference.js';
import { expand } from './broadcast.js';
import { castTo } from './cast.js';
import { gt, logicalAnd, ne } from './compare.js';
import { full } from './creation.js';
import { sub } from './elementwise.js';
import { concat } from './join.js';
import { matmul } from './matmul.js';
import { amax, logsumexp } from './reduce.js';
import { where } from './select.js';
import { narrow } from './shape.js';

/** Scores (or their terms, where they are sums) that are there at once. */
const atOnce = 1 << 22;

/**
 * What the fused kernel computes, without dropout; with `lookup`, what it tends to as all scores grow.
 *
 * @returns o [b, h, n, e]; lse [b, h, n], by lookup the highest scores
 */
export function attentionByRows(
  { v, ...inputs }: ScoreInputs & { v: Tensor },
  attrs: ScoreAttrs,
): { o: Tensor; lse: Tensor } {
  const { q, vector } = inputs;
  const [b, h, , d] = q.shape as [number, number, number, number];
  const m = v.shape[2]!;
  const values = repeatHeads(v, h / v.shape[1]!);
  const accumulator = accumulatorOf(v.slot!.dtype);
  const step = Math.floor(atOnce / Math.max(1, b * h * m * (vector ? d : 1)));
  return byRows(inputs, attrs, step, (some, place) => {
    const { scores, p } = attentionProbabilities(some, attrs, place);
    const wide = castTo(scores.detach(), accumulator);
    return { o: weighted(p, values), lse: attrs.lookup ? highest(wide, m) : logsumexp(wide, -1) };
  });
}

/** Runs `attend` for `step` queries at a time, with their bias and mask (all of a mask that a pattern reads). */
function byRows<I extends ScoreInputs>(
  inputs: I,
  { maskInPattern }: ScoreAttrs,
  step: number,
  attend: (some: I, place: ScoreRows) => { o: Tensor; lse: Tensor },
): { o: Tensor; lse: Tensor } {
  const { q, bias, mask } = inputs;
  const queries = q.shape[2]!;
  const parts: { o: Tensor; lse: Tensor }[] = [];
  for (let first = 0; first === 0 || first < queries; first += Math.max(1, step)) {
    const count = Math.min(Math.max(1, step), queries - first);
    const rows = (x: Tensor | undefined): Tensor | undefined =>
      x && x.shape[2] !== 1 ? narrow(x, 2, first, count) : x;
    const some = {
      ...inputs,
      q: narrow(q, 2, first, count),
      bias: rows(bias),
      mask: maskInPattern ? mask : rows(mask),
    };
    parts.push(attend(some, { first, queries }));
  }
  return joinedRows(parts);
}

function joinedRows(parts: readonly { o: Tensor; lse: Tensor }[]): { o: Tensor; lse: Tensor } {
  if (parts.length === 1) return parts[0]!;
  const of = (name: 'o' | 'lse'): Tensor =>
    concat(
      parts.map((part) => part[name]),
      2,
    );
  return { o: of('o'), lse: of('lse') };
}

/** p v, where what is infinite or NaN in v shows only to weights that are not 0. */
function weighted(p: Tensor, v: Tensor): Tensor {
  const { dtype } = v.slot!;
  // x - x is 0 for finite x alone
  const special = ne(sub(v.detach(), v.detach()), 0);
  const shows = gt(matmul(castTo(ne(p, 0), dtype), castTo(special, dtype)), 0);
  return where(shows, matmul(p, v), matmul(p, where(special, 0, v)));
}

/** Without keys there is no highest score. */
function highest(scores: Tensor, m: number): Tensor {
  const { shape, dtype, device } = scores;
  return m === 0 ? full(shape.slice(0, 3), -Infinity, { dtype, device }) : amax(scores, -1);
}

/**
 * Attention under a mask that the kernels of a device cannot ask about blocks: what it shows is made for some rows at a
 * time, which the kernel takes as they are.
 *
 * @param attention the kernel
 * @returns what `attention` returns for all rows
 */
export function attentionByMaskRows(
  inputs: ScoreInputs & { v: Tensor },
  attrs: ScoreAttrs & { dropoutP?: number | undefined },
  attention: (x: ScoreInputs & { v: Tensor }, attrs: ScoreAttrs) => { o: Tensor; lse: Tensor },
): { o: Tensor; lse: Tensor } {
  const [b, h, n] = inputs.q.shape as [number, number, number];
  const m = inputs.k.shape[2]!;
  // dropout numbers the scores of all rows
  const step = attrs.dropoutP ? n : Math.floor((4 * atOnce) / Math.max(1, b * h * m));
  return byRows(inputs, attrs, step, (some, place) => {
    const seen = visibleIn(some, attrs, m, place).reduce((x, y) => logicalAnd(x, y));
    const mask = expand(seen, [b, h, some.q.shape[2]!, m]);
    const whole = { ...attrs, causal: causalCodes.none, maskInPattern: false };
    return attention({ ...some, mask, pattern: undefined }, whole);
  });
}
