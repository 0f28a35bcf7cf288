/**
 * Attention rollout (Abnar and Zuidema 2020, https://arxiv.org/abs/2005.00928): how much of each input position is in
 * each output position, if information flows as attention does, half of it through the residual connection:
 *
 *   A = (1 - r) mean over heads of W + r I, rows divided by their sums;   rollout = A_L A_(L-1) … A_1
 */
import { add, amax, amin, arange, clamp, div, eq, matmul, mean, mul, narrow, sum, unsqueeze } from '../ops/index.js';
import { argumentError, optionsArg, probabilityArg, shapeError } from '../tensor/check.js';
import type { Tensor } from '../tensor/tensor.js';
import { tidy } from '../tensor/tidy.js';
import { apart, wide } from './apart.js';
import { rowsArg, weightsArg } from './arguments.js';
import { AttentionCapture } from './capture.js';
import type { WeightSource } from './weight-rows.js';

const fusions = { mean, max: amax, min: amin } as const;

/** Options of {@link rollout}. */
export interface RolloutOptions {
  /** Output positions, from the first to before the second (default: all). */
  rows?: readonly [from: number, to: number];
  /** How the heads of a layer become one map (default 'mean', as in the paper). */
  heads?: 'mean' | 'max' | 'min';
  /** The share r of the residual connection (default 0.5, as in the paper). */
  residual?: number;
}

/** Maps of a layer, some rows at a time. */
interface Layer {
  /** Leading axes. */
  readonly lead: readonly number[];
  readonly heads: number;
  readonly n: number;
  readonly m: number;
  /** [..., h, to - from, n] */
  rows(from: number, to: number): Tensor;
}

/** How many weights of a layer below are there at once: 16 MB in float32. */
const atOnce = 1 << 22;

function layerOf(op: string, source: WeightSource, at: number): Layer {
  if (source instanceof AttentionCapture) {
    const { batch, heads, queries: n, keys: m } = source;
    return { lead: [batch], heads, n, m, rows: (from, to) => source.weights({ rows: [from, to] }) };
  }
  const shape = weightsArg(op, source, 3, `layers[${at}]`);
  const [heads, n, m] = shape.slice(-3) as [number, number, number];
  const rows = (from: number, to: number): Tensor => narrow(source.detach(), -2, from, to - from);
  return { lead: shape.slice(0, -3), heads, n, m, rows };
}

/** Rows of A. */
function mixed(layer: Layer, from: number, to: number, { residual, heads }: Required<RolloutOptions>): Tensor {
  const weights = layer.rows(from, to);
  const fused = fusions[heads](wide(weights), -3);
  const { device, dtype } = fused;
  const own = eq(unsqueeze(arange(from, to, 1, { device }), 1), arange(fused.shape.at(-1)!, { device }));
  const a = add(mul(fused, 1 - residual), mul(own.to(dtype), residual));
  return div(a, clamp(sum(a, -1, { keepdim: true }), { min: 1e-37 }));
}

/**
 * Rollout of attention through layers.
 *
 * @param layers from the first to the last; weights [..., h, n, n] or captures of self-attention over the same n
 *   positions. Captures compute a block of rows at a time, so with few `rows` long inputs fit
 * @returns [..., rows, n] (captures: [b, rows, n]), rows that sum to 1, float32 (float64 for float64), outside of the
 *   graph; a query that saw no key passes on what is its own
 * @throws FOVEA_ARGUMENT for no layers or options out of range, FOVEA_SHAPE for maps that are not square or not alike,
 *   FOVEA_DTYPE for integers, FOVEA_INDEX for rows that are not there
 */
export function rollout(layers: readonly WeightSource[], options?: RolloutOptions): Tensor {
  const op = 'inspect.rollout';
  const { rows, heads = 'mean', residual = 0.5 } = optionsArg(op, options, ['rows', 'heads', 'residual']);
  if (!Object.hasOwn(fusions, heads)) throw argumentError(op, 'heads', "'mean', 'max' or 'min'", heads);
  probabilityArg(op, 'residual', residual);
  if (!Array.isArray(layers) || layers.length === 0)
    throw argumentError(op, 'layers', 'a list of weights or captures', layers);
  const given = (layers as readonly WeightSource[]).map((layer, at) => layerOf(op, layer, at));
  const { n, lead } = given[0]!;
  for (const [at, layer] of given.entries())
    if (layer.n !== n || layer.m !== n || String(layer.lead) !== String(lead))
      throw shapeError(
        op,
        `expected layers [${[...lead, 'h', n, n].join(',')}], received ` +
          `[${[...layer.lead, layer.heads, layer.n, layer.m].join(',')}] at ${at}; ` +
          'roll out self-attention over the same positions only',
      );
  const [from, to] = rowsArg(op, rows, n);
  const chosen = { rows: [from, to] as const, heads, residual };
  const all = (): Tensor | null =>
    given.reduceRight<Tensor | null>((above, layer) => tidy(() => through(above, layer, n, chosen)), null);
  return apart(all)!;
}

/** above · A of a layer, in blocks of rows of A; null above the last layer, of which some rows are wanted. */
function through(above: Tensor | null, layer: Layer, n: number, options: Required<RolloutOptions>): Tensor {
  if (above === null) return mixed(layer, ...options.rows, options);
  const step = Math.max(1, Math.floor(atOnce / Math.max(1, layer.heads * n)));
  let total: Tensor | null = null;
  for (let from = 0; from < n; from += step) {
    const to = Math.min(n, from + step);
    const before: Tensor | null = total;
    total = tidy(() => {
      const product = matmul(narrow(above, -1, from, to - from), mixed(layer, from, to, options));
      return before ? add(before, product) : product;
    });
    before?.dispose();
  }
  return total!;
}
