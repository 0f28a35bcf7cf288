/**
 * Attention maps of one sequence, row by row, from a tensor or from a capture: at no time are all n · m weights read at
 * once.
 */
import { narrow, reshape, select, tensor } from '../ops/index.js';
import { argumentError } from '../tensor/check.js';
import { isTensor, type Tensor } from '../tensor/tensor.js';
import { keep } from '../tensor/tidy.js';
import { entropy } from './analysis.js';
import { apart } from './apart.js';
import { headsArg, indexArg, weightsArg } from './arguments.js';
import { AttentionCapture } from './capture.js';

/** Weights [n, m], [h, n, m] or [b, h, n, m], or a capture that computes them. */
export type WeightSource = Tensor | AttentionCapture;

/** Which maps of a source are meant. */
export interface MapOptions {
  /** Which heads, in this order (default: all). */
  heads?: readonly number[];
  /** Which sequence of the batch (default 0). */
  batch?: number;
}

/** How many weights are read at once: 4 MB in float32, which JavaScript walks over in some milliseconds. */
const atOnce = 1 << 20;

/** The maps of some heads of one sequence. */
export interface WeightRows {
  /** Numbers of the heads. */
  readonly heads: readonly number[];
  /** Queries. */
  readonly n: number;
  /** Keys. */
  readonly m: number;
  /** [heads, to - from, m], freed by the caller. */
  readonly part: (from: number, to: number) => Tensor;
}

/** @throws FOVEA_ARGUMENT, FOVEA_DTYPE, FOVEA_SHAPE, FOVEA_INDEX, naming what does not fit */
export function weightRows(op: string, source: WeightSource, options: MapOptions): WeightRows {
  const { batch = 0 } = options;
  if (source instanceof AttentionCapture) {
    const heads = headsOf(op, options, source.heads);
    indexArg(op, 'batch', batch, source.batch);
    const { queries: n, keys: m } = source;
    const part = (from: number, to: number): Tensor =>
      apart(() => keep(reshape(source.weights({ rows: [from, to], heads, batch }), [-1, to - from, m])));
    return { heads, n, m, part };
  }
  if (!isTensor(source)) throw argumentError(op, 'weights', 'a Tensor or a capture of an observer', source);
  const shape = weightsArg(op, source, 2);
  if (shape.length > 4)
    throw argumentError(op, 'weights', '[n,m], [h,n,m] or [b,h,n,m]', shape, 'select one map of the others');
  const [n, m] = shape.slice(-2) as [number, number];
  const heads = headsOf(op, options, shape.at(-3) ?? 1);
  indexArg(op, 'batch', batch, shape.length === 4 ? shape[0]! : 1);
  const part = (from: number, to: number): Tensor => {
    const maps = shape.length === 4 ? select(source, 0, batch) : reshape(source, [-1, n, m]);
    const rows = narrow(maps, 1, from, to - from);
    return options.heads ? rows.indexSelect(0, indexOf(heads, rows)) : rows;
  };
  return { heads, n, m, part: (from, to) => apart(() => keep(part(from, to))) };
}

function headsOf(op: string, { heads }: MapOptions, all: number): readonly number[] {
  return heads === undefined ? Array.from({ length: all }, (_, head) => head) : headsArg(op, heads, all);
}

function indexOf(heads: readonly number[], like: Tensor): Tensor {
  return tensor([...heads], { dtype: 'int64', device: like.device });
}

/**
 * Reads all maps.
 *
 * @param visit gets the place of a head in `heads`, a query, its row of m weights, which it must not keep, and their
 *   entropy
 */
export async function eachRow(
  { heads, n, m, part }: WeightRows,
  visit: (head: number, query: number, row: Float32Array, entropy: number) => void,
): Promise<void> {
  const step = Math.max(1, Math.floor(atOnce / Math.max(1, heads.length * m)));
  for (let from = 0; from < n; from += step) {
    const to = Math.min(n, from + step);
    const rows = part(from, to);
    const entropies = keep(entropy(rows));
    const reads = [rows.data({ as: 'float32' }), entropies.data({ as: 'float32' })] as const;
    for (const read of [rows, entropies]) read.dispose();
    // oxlint-disable-next-line eslint/no-await-in-loop -- one block after the other is what bounds the memory
    const [values, nats] = await Promise.all(reads);
    for (let head = 0; head < heads.length; head++)
      for (let query = from; query < to; query++) {
        const at = (head * (to - from) + query - from) * m;
        visit(head, query, values.subarray(at, at + m), nats[at / m]!);
      }
  }
}
