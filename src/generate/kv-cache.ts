/**
 * Keys and values of the tokens that a model has seen, so that a further token costs one position instead of all.
 *
 * Memory for `capacity` positions is taken once and written in place; attention reads narrow views of it.
 */
import { noGrad } from '../autograd/backward.js';
import { FoveaError } from '../errors.js';
import { empty } from '../ops/index.js';
import { refuseInRecording } from '../tensor/capture.js';
import type { Device } from '../tensor/device.js';
import type { Dtype } from '../tensor/dtype.js';
import type { Tensor } from '../tensor/tensor.js';
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
  #length = 0;

  constructor({ layers, batch, heads, capacity, headDim, dtype, device = 'cpu' }: KvCacheOptions) {
    this.capacity = capacity;
    const make = (): Tensor => keep(empty([batch, heads, capacity, headDim], { dtype, device }));
    this.#layers = Array.from({ length: layers }, () => ({ k: make(), v: make() }));
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
   */
  update(layer: number, k: Tensor, v: Tensor): { k: Tensor; v: Tensor } {
    refuseInRecording(
      'KvCache.update',
      'its length would stay what it is; write keys and values at a position that is an input',
    );
    const cache = this.#layers[layer]!;
    const added = k.shape[2]!;
    const total = this.#length + added;
    if (total > this.capacity) {
      throw new FoveaError(
        'FOVEA_ARGUMENT',
        `KvCache: ${total} positions do not fit in a cache of ${this.capacity}; make it larger`,
      );
    }
    noGrad(() => {
      cache.k.narrow(2, this.#length, added).copy_(k);
      cache.v.narrow(2, this.#length, added).copy_(v);
    });
    return { k: cache.k.narrow(2, 0, total), v: cache.v.narrow(2, 0, total) };
  }

  /** Says that `count` positions were appended to every layer. */
  advance(count: number): void {
    refuseInRecording(
      'KvCache.advance',
      'its length would stay what it is; write keys and values at a position that is an input',
    );
    this.#length += count;
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
