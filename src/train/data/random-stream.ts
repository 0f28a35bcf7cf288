/**
 * Random numbers of data: Philox-4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") in
 * JavaScript, since an order or a mask is needed at once, not when the stream has passed.
 *
 * A stream is a pure function of a seed and a path of whole numbers, such as (epoch, batch): each number of the path
 * turns the key into that of an independent stream, key' = philox(key, number)[0..1]. So no result depends on what was
 * drawn before elsewhere, and workers need not share a state.
 */
import { countArg } from '../../tensor/check.js';
import { halves, type Key, philox, type Words } from '../../tensor/philox.js';

/** Keeps the counters of derived keys apart from those of numbers, whose last word is 0. */
const derivation = 0x64617461;

/** A stream of random numbers; without a path, the words of `new Generator(seed)`. */
export class RandomStream {
  readonly #key: Key;
  #block = 0;
  #words: Words = [0, 0, 0, 0];
  #next = 4;

  /**
   * @param seed a whole number from 0 to 2^53 - 1
   * @param path which of the seed's streams: whole numbers from 0, such as an epoch and a batch
   * @throws FOVEA_ARGUMENT for anything else
   */
  constructor(seed: number, ...path: number[]) {
    let key = halves(countArg('RandomStream', 'seed', seed));
    for (const [depth, number] of path.entries()) {
      const [low, high] = halves(countArg('RandomStream', `path[${depth}]`, number));
      const [k0, k1] = philox(key, [low, high, depth, derivation]);
      key = [k0, k1];
    }
    this.#key = key;
  }

  /** A whole number from 0 to 2^32 - 1. */
  uint32(): number {
    if (this.#next === 4) {
      const [low, high] = halves(this.#block++);
      this.#words = philox(this.#key, [low, high, 0, 0]);
      this.#next = 0;
    }
    return this.#words[this.#next++]!;
  }

  /** From the uniform distribution on [0, 1), with 53 bits. */
  uniform(): number {
    return ((this.uint32() >>> 5) * 2 ** 26 + (this.uint32() >>> 6)) / 2 ** 53;
  }

  /**
   * A whole number from 0 to n - 1.
   *
   * @throws FOVEA_ARGUMENT unless `n` is a whole number from 1
   */
  below(n: number): number {
    return Math.floor(this.uniform() * countArg('RandomStream.below', 'n', n, 1));
  }

  /**
   * Puts values into random order, in place (Durstenfeld 1964, "Algorithm 235: Random permutation").
   *
   * @returns `values`
   */
  shuffle<A extends { readonly length: number; [index: number]: unknown }>(values: A): A {
    for (let i = values.length - 1; i > 0; i--) {
      const j = this.below(i + 1);
      const value = values[i];
      values[i] = values[j];
      values[j] = value;
    }
    return values;
  }
}

/** The numbers from 0 to n - 1 in random order. */
export function permutation(n: number, random: RandomStream): Uint32Array {
  return random.shuffle(Uint32Array.from({ length: n }, (_, i) => i));
}
