/**
 * Philox-4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") in JavaScript, for what is decided
 * there at once, not when the stream has passed. native/core/random.h is the same in C++.
 */

/** High 32 bits of a · b, of 32-bit numbers: a double holds no more than 53 bits of the product. */
function mulHigh(a: number, b: number): number {
  const [aLow, aHigh, bLow, bHigh] = [a & 0xffff, a >>> 16, b & 0xffff, b >>> 16];
  const middle = aHigh * bLow + ((aLow * bLow) >>> 16);
  const carry = aLow * bHigh + (middle & 0xffff);
  return (aHigh * bHigh + (middle >>> 16) + (carry >>> 16)) >>> 0;
}

/** A counter, or the random words that it gives. */
export type Words = [number, number, number, number];
/** What tells streams of counters apart. */
export type Key = readonly [low: number, high: number];

/** Four random words for a counter. */
export function philox([key0, key1]: Key, counter: Words): Words {
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

/** The low and the high 32 bits of a whole number from 0 to 2^53 - 1. */
export const halves = (x: number): Key => [x >>> 0, Math.floor(x / 2 ** 32)];
