// Random numbers for weights and inputs of peers: uniform, which is quick to make and as good as any for timing.

const pool = Float32Array.from({ length: 1 << 20 }, () => 2 * Math.random() - 1);

/** @returns so many numbers between -range and range, as float32 */
export function randomNumbers(count, range = 1) {
  const made = new Float32Array(count);
  for (let start = 0; start < count; start += pool.length) {
    // Each stretch begins elsewhere in the pool, so that rows of a matrix differ.
    const shift = Math.floor(Math.random() * pool.length);
    const length = Math.min(pool.length, count - start);
    for (let i = 0; i < length; i++) made[start + i] = range * pool[(i + shift) & (pool.length - 1)];
  }
  return made;
}

/** @returns so many integers from -127 to 127 */
export const randomBytes = (count) => Int8Array.from(randomNumbers(count, 127));

/** @returns so many whole numbers from 0 to below `end` */
export const randomIndices = (count, end) => Array.from({ length: count }, () => Math.floor(Math.random() * end));
