/**
 * Keys and values of the tokens that a model has seen, so that a further token costs one position instead of all.
 *
 * Memory for `capacity` positions is taken once and written in place; attention reads narrow views of it. In a recorded
 * step (`record`) those views move and grow with the cache from replay to replay; other memory has the step recorded
 * anew.
 */
import { noGrad } from '../autograd/backward.js';
import { FoveaError } from '../errors.js';
import { arange, empty, indexSelect, tensor } from '../ops/index.js';
import { argumentError, countArg } from '../tensor/check.js';
import {
  type Capture,
  capturing,
  eachTime,
  holdsWhile,
  refuseInRecording,
  varying,
  window,
} from '../tensor/capture.js';
import type { Device } from '../tensor/device.js';
import type { Dtype } from '../tensor/dtype.js';
import { live, type Tensor } from '../tensor/tensor.js';
import { keep, tidy } from '../tensor/tidy.js';

/** What a cache must hold. */
export interface KvCacheOptions {
  /** Blocks of the model. */
  layers: number;
  /** Sequences. */
  batch: number;
  /** Of keys and values. */
  heads: number;
  /** Positions. */
  capacity: number;
  /** Width of a head. */
  headDim: number;
  /** Of keys and values. */
  dtype: Dtype;
  /** Where they lie; default: 'cpu'. */
  device?: Device | undefined;
}

/** Preallocated keys and values, [batch, heads, capacity, headDim] for each layer. */
export class KvCache {
  #layers: { k: Tensor; v: Tensor }[];
  #capacity: number;
  readonly #device: Device;
  /** How often the memory was replaced. */
  #moves = 0;
  /** The recording of the step that made this. */
  readonly #born = capturing;
  #length = 0;
  /** The step that is being recorded, the length before it, and how many positions it adds. */
  #recorded: { by: Capture; start: number; added: number } | null = null;

  constructor({ layers, batch, heads, capacity, headDim, dtype, device = 'cpu' }: KvCacheOptions) {
    this.#capacity = capacity;
    this.#device = device;
    const make = (): Tensor => positionsOf([batch, heads, capacity, headDim], dtype, device);
    this.#layers = Array.from({ length: layers }, () => ({ k: make(), v: make() }));
    // What a recorded step makes is empty again in its replays.
    eachTime(() => {
      this.#length = 0;
    });
  }

  /** Positions that fit. */
  get capacity(): number {
    return this.#capacity;
  }

  /** Positions that are filled in every layer. */
  get length(): number {
    return this.#length;
  }

  /**
   * Appends keys and values of new positions to one layer; `advance` says when all layers have them.
   *
   * @param k [batch, heads, n, headDim] @param v the same
   * @returns views of all positions so far, [batch, heads, length + n, headDim]
   * @throws FOVEA_ARGUMENT where they do not fit
   */
  update(layer: number, k: Tensor, v: Tensor): { k: Tensor; v: Tensor } {
    const cache = this.#layers[layer]!;
    const added = k.shape[2]!;
    const total = this.#length + added;
    if (total > this.capacity) {
      throw new FoveaError(
        'FOVEA_ARGUMENT',
        `KvCache: ${total} positions do not fit in a cache of ${this.capacity}; make it larger`,
      );
    }
    if (capturing !== null) this.#rely(capturing, added);
    noGrad(() => {
      this.#next(cache.k, added).copy_(k);
      this.#next(cache.v, added).copy_(v);
    });
    return { k: this.#seen(cache.k, 2, added), v: this.#seen(cache.v, 2, added) };
  }

  /** Says that `count` positions were appended to every layer. */
  advance(count: number): void {
    eachTime(() => {
      this.#length += count;
    });
  }

  /** The next `count` positions, int64 [count]. */
  positions(count: number): Tensor {
    return varying(
      'arange_',
      () => ({ start: this.#length }),
      ({ start }) => arange(start, start + count, 1, { dtype: 'int64', device: this.#device }),
    );
  }

  /**
   * What a mask of all positions says of those so far and `count` more.
   *
   * @param mask [batch, capacity] @returns a view, [batch, length + count]
   */
  maskOf(mask: Tensor, count: number): Tensor {
    if (capturing !== null) this.#rely(capturing, count);
    return this.#seen(mask, 1, count);
  }

  /** Where the next `count` positions of a layer are written. */
  #next(whole: Tensor, count: number): Tensor {
    const view = whole.narrow(2, this.#length, count);
    window(live(view), 2, this.capacity, () => this.#length, false);
    return view;
  }

  /** The positions so far and `count` more. */
  #seen(whole: Tensor, dim: number, count: number): Tensor {
    const view = whole.narrow(dim, 0, this.#length + count);
    window(live(view), dim, this.capacity, () => this.#length + count, true);
    return view;
  }

  /** A recorded step finds room for what it adds, and tells what grows by its length. */
  #rely(by: Capture, added: number): void {
    if (this.#length + added < 2)
      refuseInRecording('KvCache', 'it is the first position of an empty cache; let the model see the prompt before');
    if (this.#born === by) return;
    if (this.#recorded?.by !== by) {
      const recorded = { by, start: this.#length, added: 0 };
      this.#recorded = recorded;
      const moves = this.#moves;
      holdsWhile(() => this.#moves === moves && this.#length + recorded.added <= this.capacity);
    }
    this.#recorded.added = Math.max(this.#recorded.added, this.#length + added - this.#recorded.start);
  }

  /**
   * Has sequence r go on where sequence `rows[r]` was, as beams do (Hugging Face's `reorder_cache`): rows may be
   * missing, and come more than once.
   *
   * @throws FOVEA_ARGUMENT for what is no list of rows of the batch; FOVEA_UNSUPPORTED in a recorded step
   */
  reorder(rows: readonly number[]): void {
    const batch = this.#layers[0]!.k.shape[0]!;
    rowsArg('KvCache', rows, batch);
    if (rows.length === batch && rows.every((row, i) => row === i)) return;
    this.#move(rows, this.#capacity);
  }

  /**
   * Takes memory for more positions.
   *
   * @throws FOVEA_ARGUMENT unless `capacity` is a count above the present one; FOVEA_UNSUPPORTED in a recorded step
   */
  grow(capacity: number): void {
    countArg('KvCache', 'capacity', capacity, this.#capacity + 1);
    this.#move(undefined, capacity);
  }

  /** Moves what there is to other memory. @param rows of the batch, or all */
  #move(rows: readonly number[] | undefined, capacity: number): void {
    refuseInRecording('KvCache', 'its memory moves; do that between steps');
    const moved = (old: Tensor, index: Tensor | undefined): Tensor => {
      const [batch, heads, , headDim] = old.shape as [number, number, number, number];
      const next = positionsOf([rows?.length ?? batch, heads, capacity, headDim], old.dtype, this.#device);
      if (this.#length === 0) return next;
      const seen = old.narrow(2, 0, this.#length);
      next.narrow(2, 0, this.#length).copy_(index ? indexSelect(seen, 0, index) : seen);
      return next;
    };
    const before = this.#layers;
    this.#layers = noGrad(() =>
      tidy(() => {
        const index = rows && tensor([...rows], { dtype: 'int64', device: this.#device });
        return before.map(({ k, v }) => ({ k: moved(k, index), v: moved(v, index) }));
      }),
    );
    this.#capacity = capacity;
    this.#moves++;
    for (const { k, v } of before) {
      k.dispose();
      v.dispose();
    }
  }

  /** Frees the memory at once. */
  dispose(): void {
    for (const { k, v } of this.#layers) {
      k.dispose();
      v.dispose();
    }
  }

  /** What `using` calls: `dispose()`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Checks which rows of a batch go on. @throws FOVEA_ARGUMENT */
export function rowsArg(op: string, rows: readonly number[], batch: number): void {
  const fits = (row: unknown): boolean => Number.isInteger(row) && Number(row) >= 0 && Number(row) < batch;
  if (!Array.isArray(rows) || rows.length === 0 || !rows.every(fits))
    throw argumentError(op, 'rows', `a list of rows from 0 to ${batch - 1}`, rows);
}

/** Memory that is written position by position. */
function positionsOf(shape: number[], dtype: Dtype, device: Device): Tensor {
  const positions = keep(empty(shape, { dtype, device }));
  live(positions).sharedVersion().appends = true;
  return positions;
}
