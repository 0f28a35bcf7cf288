// Attention in ONNX Runtime's own fused ops, in each of the ways that they have.
import { totalmem } from 'node:os';
import { hidden, maskNumbers } from './mask-numbers.mjs';
import { groupedQueryGraph, multiHeadGraph } from './onnx-models.mjs';
import { float32, int32, numbers, prepareGraphs, prepareTurns } from './onnx-sessions.mjs';
import { Unsupported } from './serve.mjs';

/** MultiHeadAttention; `bias` [1, 1, n, m] is added to the scores. */
function multiHead(test, threads, bias) {
  const { b, h, n, m, d } = test;
  const [queries, keys] = [n, m].map((length) => [b, length, h * d]);
  const feed = { q: numbers(queries), k: numbers(keys), v: numbers(keys), ...(bias && { bias }) };
  return prepareGraphs([multiHeadGraph(test, bias !== undefined)], [feed], { y: numbers(queries) }, threads);
}

/** GroupQueryAttention, which is causal: the last n of m keys come with the queries, into the past that is there. */
function groupedQuery(test, threads) {
  const { b, h, g, n, m, d, sets = 1 } = test;
  const past = [b, g, m, d];
  const shared = {
    q: numbers([b, n, h * d]),
    k: numbers([b, n, g * d]),
    v: numbers([b, n, g * d]),
    last: int32(Array(b).fill(m - 1), [b]),
    total: int32([m], []),
  };
  const feeds = Array.from({ length: sets }, () => ({ ...shared, pastK: numbers(past), pastV: numbers(past) }));
  const y = numbers([b, n, h * d]);
  const fetches = (feed) => ({ y, k1: feed.pastK, v1: feed.pastV });
  return prepareTurns(groupedQueryGraph(test), feeds, fetches, threads);
}

/** The fastest of several ways, each of which a function prepares. */
async function fastest(ways) {
  let best;
  for (const prepareWay of ways) {
    const prepared = await prepareWay();
    await prepared.batch(1);
    const way = { ...prepared, took: Math.min(await prepared.batch(1), await prepared.batch(1)) };
    const [faster, slower] = best === undefined || way.took < best.took ? [way, best] : [best, way];
    await slower?.release();
    best = faster;
  }
  return best;
}

export function prepareAttention(test, threads) {
  if (test.n === 1) return groupedQuery(test, threads);
  if (!test.causal) return multiHead(test, threads);
  return fastest([() => multiHead(test, threads), () => groupedQuery(test, threads)]);
}

/** With the mask as numbers that are added: it has no other for pairs of positions. */
export function prepareMaskedAttention(test, threads) {
  const { b, h, n, m, mask } = test;
  const needed = 4 * n * m * (b * h + 1);
  if (needed > totalmem() / 2)
    throw new Unsupported(`mask and scores take ${(needed / 2 ** 30).toFixed(1)} GiB, more than half of the memory`);
  const bias = maskNumbers(mask, n, m);
  // Where all is seen there is nothing to add.
  return multiHead(
    { ...test, causal: false },
    threads,
    bias.includes(hidden) ? float32(bias, [1, 1, n, m]) : undefined,
  );
}
