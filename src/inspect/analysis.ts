/**
 * Figures of attention weights. All of them are computed in float32 (float64 for float64), outside of the graph, on the
 * device of the weights. A row of zeros belongs to a query that saw no key, and counts nowhere.
 */
import {
  add,
  clamp,
  concat,
  div,
  ge,
  gt,
  log,
  logicalAnd,
  max,
  mean,
  mul,
  narrow,
  ones,
  sqrt,
  sub,
  sum,
  unsqueeze,
  where,
} from '../ops/index.js';
import { argumentError, optionsArg, shapeError } from '../tensor/check.js';
import type { Tensor } from '../tensor/tensor.js';
import { tidy } from '../tensor/tidy.js';
import { apart, wide } from './apart.js';
import { weightsArg } from './arguments.js';

const perRow = (p: Tensor): Tensor => sub(0, sum(mul(p, log(clamp(p, { min: 1e-37 }))), -1));
const sees = (p: Tensor): Tensor => gt(sum(p, -1), 0);

/** The mean over the last axis of what `counted` says; NaN where that is nothing. */
function meanWhere(counted: Tensor, x: Tensor): Tensor {
  return div(sum(where(counted, x, 0), -1), sum(counted.to(x.dtype), -1));
}

/** Options of {@link entropy}. */
export interface EntropyOptions {
  /** 'none' (default): of each query; 'mean': of each head, over its queries that see a key. */
  reduction?: 'none' | 'mean';
}

/**
 * How widely queries look: -Σ p ln p over the keys, in nats; 0 for a single key, ln m for m keys alike.
 *
 * @param weights [..., n, m], rows that sum to 1 (or to 0)
 * @returns [..., n], or [...] with `reduction: 'mean'` (NaN where no query sees a key); float32, float64 for float64
 * @throws FOVEA_SHAPE, FOVEA_DTYPE for what are no weights, FOVEA_ARGUMENT for another reduction
 */
export function entropy(weights: Tensor, options?: EntropyOptions): Tensor {
  const op = 'inspect.entropy';
  const { reduction = 'none' } = optionsArg(op, options, ['reduction']);
  if (reduction !== 'none' && reduction !== 'mean') throw argumentError(op, 'reduction', "'none' or 'mean'", reduction);
  weightsArg(op, weights, 2);
  return apart(() => {
    const p = wide(weights);
    return reduction === 'none' ? perRow(p) : meanWhere(sees(p), perRow(p));
  });
}

/** What {@link alignment} gives. */
export interface Alignment {
  /** int64 [..., n]: the key with the largest weight of each query, the first of equal ones. */
  keys: Tensor;
  /** [..., n]: that weight. */
  confidence: Tensor;
  /** [...]: the share of steps from a query to the next on which that key does not go back; 1 for a single query. */
  monotonicity: Tensor;
}

/**
 * Which key each query is aligned with, as Bahdanau et al. (2015, https://arxiv.org/abs/1409.0473) read alignments of
 * words off the attention between languages, and how monotonic that is: 1 for speech and transcript in the same order,
 * about one half for keys at random.
 *
 * @param weights [..., n, m], mostly of attention from a decoder's queries to an encoder's keys
 * @throws FOVEA_SHAPE (also without a query or key) and FOVEA_DTYPE for what are no weights
 */
export function alignment(weights: Tensor): Alignment {
  const op = 'inspect.alignment';
  const shape = weightsArg(op, weights, 2);
  const [n, m] = shape.slice(-2) as [number, number];
  if (n === 0 || m === 0) throw shapeError(op, `expected queries and keys in weights, received [${shape.join(',')}]`);
  return apart(() => {
    const { values: confidence, indices: keys } = max(wide(weights), -1);
    if (n === 1) return { keys, confidence, monotonicity: ones(shape.slice(0, -2), { device: weights.device }) };
    const forward = ge(narrow(keys, -1, 1, n - 1), narrow(keys, -1, 0, n - 1));
    return { keys, confidence, monotonicity: mean(forward.to('float32'), -1) };
  });
}

/**
 * How differently heads attend: the Jensen-Shannon distance sqrt(JSD) of their weights, mean over the queries that see
 * keys in both, with JSD in bits: 0 for heads that are alike, 1 for heads that never look at the same key. Clark et al.
 * (2019, https://arxiv.org/abs/1906.04341) compare heads by that divergence; its root is a metric (Endres and
 * Schindelin 2003).
 *
 * @param weights [..., h, n, m]
 * @param other [..., g, n, m] to compare with, such as another layer's (default: the same heads)
 * @returns [..., h, g], symmetric with zeros on the diagonal for the same heads; NaN where no query sees keys in both
 * @throws FOVEA_SHAPE where they do not fit each other, FOVEA_DTYPE for what are no weights
 */
export function compareHeads(weights: Tensor, other: Tensor = weights): Tensor {
  const op = 'inspect.compareHeads';
  const [a, b] = [weightsArg(op, weights, 3), weightsArg(op, other, 3, 'other')];
  const fits = a.length === b.length && a.every((size, axis) => axis === a.length - 3 || size === b[axis]);
  if (!fits)
    throw shapeError(op, `expected other [...,g,n,m] like weights [${a.join(',')}], received [${b.join(',')}]`);
  return apart(() => {
    const [p, q] = [wide(weights), wide(other)];
    const [heads, entropyOfQ, seenByQ] = [a.at(-3)!, perRow(q), sees(q)];
    const rows = Array.from({ length: heads }, (_, head) =>
      tidy(() => {
        const one = narrow(p, -3, head, 1);
        const divergence = sub(perRow(mul(add(one, q), 0.5)), mul(add(perRow(one), entropyOfQ), 0.5));
        // Rounding may leave a little less than nothing between heads that are alike.
        const distance = sqrt(clamp(div(divergence, Math.LN2), { min: 0, max: 1 }));
        return unsqueeze(meanWhere(logicalAnd(sees(one), seenByQ), distance), -2);
      }),
    );
    return concat(rows, -2);
  });
}
