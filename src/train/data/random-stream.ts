/**
 * Random numbers of data: Philox-4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") in
 * JavaScript, since an order or a mask is needed at once, not when the stream has passed.
 *
 * A stream is a pure function of a seed and a path of whole numbers, such as (epoch, batch): each number of the path
 * turns the key into that of an independent stream, key' = philox(key, number)[0..1]. So no result depends on what was
 * drawn before elsewhere, and workers need not share a state.
 */
import { countArg } from '../../tensor/check.js';

/** High 32 bits of a · b, of 32-bit numbers: a double holds no more than 53 bits of the product. */
function mulHigh(a: number, b: number): number {
  const [aLow, aHigh, bLow, bHigh] = [a & 0xffff, a >>> 16, b & 0xffff, b >>> 16];
  const middle = aHigh * bLow + ((aLow * bLow) >>> 16);
  const carry = aLow * bHigh + (middle & 0xffff);
  return (aHigh * bHigh + (middle >>> 16) + (carry >>> 16)) >>> 0;
}

type Words = [number, number, number, number];
type Key = readonly [low: number, high: number];

/** Four random words for a counter; the same as native/core/random.h gives. */
function philox([key0, key1]: Key, counter: Words): Words {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = [key0, key1];
  for (let round = 0; round < 10; round++) {
    const high0 = mulHigh(0xd2511f53, c0);
    const high1 = mulHigh(0xcd9e8d57, c2);
    const low0 = Math.imul(0xd2511f53, c0) >>> 0;
    const low1 = Math.imul(0xcd9e8d57, c2) >>> 0;
    c0 = (high1 ^ c1 ^ k0) >>> 0;
    c1 = low1;
    c2 = (high0 ^ c3 ^ k1) >>> 0;
    c3 = low0;
    k0 = (k0 + 0x9e3779b9) >>> 0;
    k1 = (k1 + 0xbb67ae85) >>> 0;
  }
  return [c0, c1, c2, c3];
}

const halves = (x: number): Key => [x >>> 0, Math.floor(x / 2 ** 32)];
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
