/**
 * Keys and values of the tokens that a model has seen, so that a further token costs one position instead of all.
 *
 * Memory for `capacity` positions is taken once and written in place; attention reads narrow views of it. In a recorded step
 * (`record`) those views move and grow with the cache from replay to replay.
 */
import { noGrad } from '../autograd/backward.js';
import { FoveaError } from '../errors.js';
import { arange, empty } from '../ops/index.js';
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
import { keep } from '../tensor/tidy.js';

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
  /** Positions that fit. */
  readonly capacity: number;
  readonly #layers: { k: Tensor; v: Tensor }[];
  readonly #device: Device;
  /** The recording of the step that made this. */
  readonly #born = capturing;
  #length = 0;
  /** The step that is being recorded, the length before it, and how many positions it adds. */
  #recorded: { by: Capture; start: number; added: number } | null = null;

  constructor({ layers, batch, heads, capacity, headDim, dtype, device = 'cpu' }: KvCacheOptions) {
    this.capacity = capacity;
    this.#device = device;
    const make = (): Tensor => {
      const positions = keep(empty([batch, heads, capacity, headDim], { dtype, device }));
      live(positions).sharedVersion().appends = true;
      return positions;
    };
    this.#layers = Array.from({ length: layers }, () => ({ k: make(), v: make() }));
    // What a recorded step makes is empty again in its replays.
    eachTime(() => {
      this.#length = 0;
    });
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
      holdsWhile(() => this.#length + recorded.added <= this.capacity);
    }
    this.#recorded.added = Math.max(this.#recorded.added, this.#length + added - this.#recorded.start);
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
