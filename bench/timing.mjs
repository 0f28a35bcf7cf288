// How calls are timed, for fovea and for its peers in JavaScript alike.

export const median = (values) => {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
};

/**
 * What times calls in batches.
 *
 * @param call one call; may give a promise, which is waited for
 * @param wait for what calls have only enqueued, if they do
 * @returns `batch(count)`: the milliseconds of `count` calls one after the other, and of the wait for them
 */
export function batches(call, wait = async () => {}) {
  return async (count) => {
    const start = performance.now();
    for (let i = 0; i < count; i++) {
      const pending = call();
      if (pending instanceof Promise) await pending;
    }
    await wait();
    return performance.now() - start;
  };
}

/**
 * How many calls fill `milliseconds`, after a few that warm up caches, threads and compilers.
 *
 * @param prepared `batch`, and `count` if a batch always is of so many calls
 */
export async function callsFor({ batch, count }, milliseconds) {
  await batch(count ?? 2);
  if (count) return count;
  const once = await batch(1);
  if (once >= milliseconds) return 1;
  const few = Math.max(1, Math.min(10, Math.round(milliseconds / Math.max(once, 1e-3))));
  const each = (await batch(few)) / few;
  return Math.max(1, Math.min(2000, Math.round(milliseconds / Math.max(each, 1e-3))));
}
