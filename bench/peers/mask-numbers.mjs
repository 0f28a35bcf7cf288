// Masks of bench/attention-cases.mjs, which are fovea's as JSON, as numbers that are added to scores.

/** What is added where a key is not seen. */
export const hidden = -Infinity;

/** By type: a function that marks in `row`, of m numbers, what query i sees. */
const kinds = {
  slidingWindow:
    ({ left, right }) =>
    (i, row) =>
      row.fill(0, Math.max(0, i - left), i + right + 1),
  prefix:
    ({ length }) =>
    (_, row) =>
      row.fill(0, 0, length),
  globalTokens({ indices }) {
    const seeAll = new Set(indices);
    return (i, row) => {
      if (seeAll.has(i)) row.fill(0);
      else for (const j of indices) row[j] = 0;
    };
  },
  blocks:
    ({ table, size }) =>
    (i, row) => {
      for (const [block, seen] of table[Math.floor(i / size)].entries())
        if (seen) row.fill(0, block * size, (block + 1) * size);
    },
  or({ terms }) {
    const all = terms.map(markerOf);
    return (i, row) => {
      for (const mark of all) mark(i, row);
    };
  },
};

function markerOf(mask) {
  if (!(mask.type in kinds)) throw new Error(`no numbers are written for masks like ${mask.type}`);
  return kinds[mask.type](mask);
}

/** @returns [n, m], row after row: 0 where a key is seen, else {@link hidden} */
export function maskNumbers(mask, n, m) {
  const mark = markerOf(mask);
  const made = new Float32Array(n * m).fill(hidden);
  for (let i = 0; i < n; i++) mark(i, made.subarray(i * m, (i + 1) * m));
  return made;
}
