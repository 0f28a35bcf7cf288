/**
 * Batches of similar lengths: a batch of b sequences is padded to the longest, to b · max(length) tokens, all of which
 * are computed. Sequences sorted by length within a pool leave little to pad, and batches cut at a budget of padded
 * tokens take about equally long.
 */
import { argumentError, countArg, optionsArg } from '../../tensor/check.js';
import { listArg } from './list.js';
import { permutation, RandomStream } from './random-stream.js';
import type { BatchSampler } from './sampler.js';

/** Options of {@link LengthBatchSampler}. */
export interface LengthBatchOptions {
  /** The most tokens of a batch, padding included. */
  tokensPerBatch: number;
  /** The most sequences of a batch (default: no limit but the tokens). */
  maxBatchSize?: number;
  /** Sequences that are sorted together: more leave less padding and less chance (default 8192). */
  poolSize?: number;
  /** Whether pools and batches come in random order (default true). */
  shuffle?: boolean;
  /** Which random order of all; it changes with the epoch (default 0). */
  seed?: number;
  /** Lengths are padded to a multiple of this, as `padCollate` does (default 1). */
  multipleOf?: number;
}

const padded = (length: number, multipleOf: number): number => Math.ceil(length / multipleOf) * multipleOf;

/** Lengths as whole numbers from 1. @throws FOVEA_ARGUMENT for anything else */
function lengthsArg(op: string, lengths: ArrayLike<number>): Float64Array {
  const list = listArg(op, 'lengths', lengths, 'a list of lengths');
  return Float64Array.from(list, (length, i) => countArg(op, `lengths[${i}]`, length, 1));
}

/** Puts sequences of similar lengths together, every one exactly once in an epoch. */
export class LengthBatchSampler implements BatchSampler {
  readonly #lengths: Float64Array;
  readonly #options: Required<LengthBatchOptions>;

  /**
   * @param lengths of the dataset's items, in tokens, from 1
   * @throws FOVEA_ARGUMENT for options out of range, and for a sequence longer than `tokensPerBatch`: cut it or leave
   *   it out of the dataset
   */
  constructor(lengths: ArrayLike<number>, options: LengthBatchOptions) {
    const op = 'LengthBatchSampler';
    const known = ['tokensPerBatch', 'maxBatchSize', 'poolSize', 'shuffle', 'seed', 'multipleOf'] as const;
    const given = optionsArg(op, options, known);
    if (given.shuffle !== undefined && typeof given.shuffle !== 'boolean')
      throw argumentError(op, 'shuffle', 'true or false', given.shuffle);
    this.#lengths = lengthsArg(op, lengths);
    this.#options = {
      tokensPerBatch: countArg(op, 'tokensPerBatch', given.tokensPerBatch, 1),
      maxBatchSize: countArg(op, 'maxBatchSize', given.maxBatchSize ?? Number.MAX_SAFE_INTEGER, 1),
      poolSize: countArg(op, 'poolSize', given.poolSize ?? 8192, 1),
      shuffle: given.shuffle ?? true,
      seed: countArg(op, 'seed', given.seed ?? 0),
      multipleOf: countArg(op, 'multipleOf', given.multipleOf ?? 1, 1),
    };
    const { tokensPerBatch, multipleOf } = this.#options;
    const long = this.#lengths.findIndex((length) => padded(length, multipleOf) > tokensPerBatch);
    if (long >= 0)
      throw argumentError(
        op,
        `lengths[${long}]`,
        `at most tokensPerBatch = ${tokensPerBatch} tokens, padded to a multiple of ${multipleOf},`,
        this.#lengths[long],
        'cut the sequence, leave it out or raise tokensPerBatch',
      );
  }

  /** The batches of an epoch, a pure function of (seed, epoch). */
  batches(epoch: number): number[][] {
    const { shuffle, seed, poolSize } = this.#options;
    const random = new RandomStream(seed, countArg('LengthBatchSampler.batches', 'epoch', epoch));
    const n = this.#lengths.length;
    const order = shuffle ? permutation(n, random) : Uint32Array.from({ length: n }, (_, i) => i);
    const batches: number[][] = [];
    for (let begin = 0; begin < n; begin += poolSize) {
      // The sort is stable, so that equal lengths stay in random order.
      const pool = Array.from(order.subarray(begin, begin + poolSize));
      this.#cut(
        pool.sort((a, b) => this.#lengths[a]! - this.#lengths[b]!),
        batches,
      );
    }
    return shuffle ? random.shuffle(batches) : batches;
  }

  /** Cuts sequences of rising length where the next would exceed a limit. */
  #cut(sorted: readonly number[], batches: number[][]): void {
    const { tokensPerBatch, maxBatchSize, multipleOf } = this.#options;
    let batch: number[] = [];
    for (const index of sorted) {
      const tokens = (batch.length + 1) * padded(this.#lengths[index]!, multipleOf);
      if (batch.length === maxBatchSize || tokens > tokensPerBatch) {
        batches.push(batch);
        batch = [];
      }
      batch.push(index);
    }
    if (batch.length > 0) batches.push(batch);
  }
}

/** Options of {@link paddingShare}. */
export interface PaddingShareOptions {
  /** Lengths are padded to a multiple of this (default 1). */
  multipleOf?: number;
}

/**
 * The share of the tokens of all batches that is padding: 1 - Σ length / Σ (b · max length).
 *
 * @param batches indices into `lengths`
 * @returns 0 without padding; less than 1
 * @throws FOVEA_ARGUMENT for what are no batches or no lengths
 */
export function paddingShare(
  batches: readonly ArrayLike<number>[],
  lengths: ArrayLike<number>,
  options?: PaddingShareOptions,
): number {
  const op = 'paddingShare';
  const { multipleOf = 1 } = optionsArg(op, options, ['multipleOf']);
  countArg(op, 'multipleOf', multipleOf, 1);
  if (!Array.isArray(batches)) throw argumentError(op, 'batches', 'a list of batches', batches);
  const known = lengthsArg(op, lengths);
  let real = 0;
  let computed = 0;
  for (const [i, batch] of batches.entries()) {
    let longest = 0;
    const indices = Array.from(listArg(op, `batches[${i}]`, batch, 'a list of indices'), Number);
    for (const index of indices) {
      const length = known[index];
      if (length === undefined) throw argumentError(op, `batches[${i}]`, `indices below ${known.length}`, index);
      real += length;
      longest = Math.max(longest, length);
    }
    computed += indices.length * padded(longest, multipleOf);
  }
  return computed === 0 ? 0 : 1 - real / computed;
}
