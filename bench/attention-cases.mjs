// Cases of attention (see cases.mjs): dense, of one query, also over pages, and under masks, whose work is that of the
// scores that are seen.
import { bytesOf, define, floats, flopLimit, setsFor } from './define-case.mjs';

function dense(tiny) {
  const one = (dtype, [b, h, n, m, d], causal, kind = 'attention') => {
    const flops = 4 * b * h * n * m * d * (causal ? 0.5 : 1) * (kind === 'attention' ? 1 : 3.5);
    const read = 2 * b * h * m * d * bytesOf[dtype];
    const decoding = n === 1;
    const label = [
      decoding ? `one query, ${m} keys, B ${b}` : `S ${n}`,
      `H ${h}, D ${d}${causal ? ', causal' : ''}`,
      ...(kind === 'attention' ? [] : ['forward and backward']),
    ].join(', ');
    return define('attention', kind, label, dtype, {
      op: 'attention',
      b,
      h,
      g: h,
      n,
      m,
      d,
      causal,
      ...(decoding
        ? { sets: setsFor(read, tiny), work: read, limit: 'read' }
        : { work: flops, limit: flopLimit(dtype) }),
    });
  };
  const [short, middle, long, h, d] = tiny ? [8, 12, 16, 2, 16] : [1024, 2048, 4096, 12, 64];
  return floats.flatMap((dtype) => [
    one(dtype, [1, h, short, short, d], false),
    one(dtype, [1, h, middle, middle, d], false),
    one(dtype, [1, h, middle, middle, d], true),
    one(dtype, [1, h, long, long, d], true),
    one(dtype, [tiny ? 1 : 4, h, 1, long, d], false),
    one(dtype, [1, h, short, short, d], false, 'attentionBackward'),
  ]);
}

/** One query of heads that share key heads, as models of today decode, over keys in a row and in pages. */
function grouped(tiny) {
  const [b, h, g, m, d] = tiny ? [2, 4, 2, 48, 16] : [4, 32, 8, 4096, 128];
  const sizes = { b, h, g, n: 1, m, d };
  const one = (dtype, size) => {
    const work = 2 * b * g * m * d * bytesOf[dtype];
    const label = `one query, ${m} keys, B ${b}, H ${h}/${g}, D ${d}${size ? `, pages of ${size}` : ''}`;
    const shares = { sets: setsFor(work, tiny), work, limit: 'read' };
    return size
      ? define('attention', 'pagedAttention', label, dtype, { ...sizes, size, ...shares })
      : define('attention', 'attention', label, dtype, { ...sizes, causal: false, ...shares });
  };
  return floats.flatMap((dtype) => [one(dtype), one(dtype, 16), one(dtype, tiny ? 24 : 64)]);
}

/** How many keys n queries see that see `window` on either side, and for `global` of them each other. */
function longformerSees(n, window, global) {
  let seen = 0;
  for (let i = 0; i < n; i++) {
    const first = Math.max(0, i - window);
    const last = Math.min(n, i + window + 1);
    seen += i < global ? n : last - first + Math.min(global, first);
  }
  return seen;
}
/** BigBird's blocks: the first and the last see all and are seen by all, three around each, three chosen by a hash. */
function bigBirdTable(blocks) {
  return Array.from({ length: blocks }, (_, row) => {
    const chosen = [1, 2, 3].map((i) => (((row + 1) * 2654435761 * i + i * 40503) % 4294967296) % blocks);
    const sees = (column) => Math.abs(row - column) <= 1 || [row, column].some((x) => x % (blocks - 1) === 0);
    return Array.from({ length: blocks }, (__, column) => sees(column) || chosen.includes(column));
  });
}

function masked(tiny) {
  const [n, h, window, global, size] = tiny ? [24, 2, 4, 2, 4] : [16384, 2, 256, 64, 64];
  const d = tiny ? 16 : 64;
  const around = { type: 'slidingWindow', left: window, right: window };
  const tokens = { type: 'globalTokens', indices: Array.from({ length: global }, (_, i) => i) };
  const table = bigBirdTable(n / size);
  const masks = [
    { name: `window of ${window}`, mask: around, seen: longformerSees(n, window, 0) },
    { name: 'Longformer', mask: { type: 'or', terms: [around, tokens] }, seen: longformerSees(n, window, global) },
    {
      name: 'BigBird',
      mask: { type: 'blocks', table, size },
      seen: table.flat().filter(Boolean).length * size * size,
    },
    { name: 'full', mask: { type: 'prefix', length: n }, seen: n * n },
  ];
  return floats.flatMap((dtype) =>
    masks.map(({ name, mask, seen }) =>
      define('attention', 'maskedAttention', `${name}, S ${n}, H ${h}, D ${d}`, dtype, {
        b: 1,
        h,
        g: h,
        n,
        m: n,
        d,
        mask,
        work: 4 * h * seen * d,
        limit: flopLimit(dtype),
      }),
    ),
  );
}

/** @param tiny whether the cases are only to be run, not timed */
export const attentions = (tiny) => [...dense(tiny), ...grouped(tiny), ...masked(tiny)];
