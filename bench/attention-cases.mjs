// Cases of attention (see cases.mjs): dense, of one query, also over pages, and under masks, whose work is that of the
// scores that are seen.
import { bytesOf, define, floats, flopLimit, setsFor } from './define-case.mjs';

/** `backward` counts gradients, too: two and a half times the work. Causal ones have half of the scores. */
export function denseCase(group, kind, dtype, { b = 1, h, n, d, causal = false, backward = false, ...rest }) {
  const batch = b > 1 ? `, B ${b}` : '';
  const label = `S ${n}${batch}, H ${h}, D ${d}${causal ? ', causal' : ''}${backward ? ', forward and backward' : ''}`;
  const work = 4 * b * h * n * n * d * (causal ? 0.5 : 1) * (backward ? 3.5 : 1);
  const sizes = { b, h, g: h, n, m: n, d, causal };
  return define(group, kind, label, dtype, { op: 'attention', ...sizes, work, limit: flopLimit(dtype), ...rest });
}

/** Lengths of a narrow model (GPT-2's heads) and of a wide one, and of gradients. */
function dense(tiny) {
  const lengths = tiny ? [2, 4, 8, 12, 16, 20] : [128, 512, 1024, 2048, 4096, 8192];
  const middle = lengths.slice(2, 5);
  const [narrow, wide] = tiny
    ? [
        { h: 2, d: 16 },
        { h: 4, d: 32 },
      ]
    : [
        { h: 12, d: 64 },
        { h: 32, d: 128 },
      ];
  const both = (dtype, shape) =>
    [false, true].map((causal) => denseCase('attention', 'attention', dtype, { ...shape, causal }));
  return floats.flatMap((dtype) => [
    ...lengths.flatMap((n) => both(dtype, { ...narrow, n })),
    ...middle.flatMap((n) => both(dtype, { ...wide, n })),
    ...middle.map((n) => denseCase('attention', 'attentionBackward', dtype, { ...narrow, n, backward: true })),
  ]);
}

/** One query for each head, as a step of decoding has it; `g` heads of keys, those that share them in pages, too. */
function decoding(tiny) {
  const [narrow, shared] = tiny
    ? [
        [1, 2, 2, 48, 16],
        [1, 4, 2, 48, 32],
      ]
    : [
        [4, 12, 12, 4096, 64],
        [1, 32, 8, 4096, 128],
      ];
  const one = (kind, dtype, [b, h, g, m, d], rest, suffix = '') => {
    const work = 2 * b * g * m * d * bytesOf[dtype];
    const sizes = { b, h, g, n: 1, m, d, sets: setsFor(work, tiny), work, limit: 'read' };
    const label = `one query, ${m} keys, B ${b}, H ${h === g ? h : `${h}/${g}`}, D ${d}${suffix}`;
    return define('attention', kind, label, dtype, { ...sizes, ...rest });
  };
  const sizes = tiny ? [16, 24] : [16, 64];
  return floats.flatMap((dtype) => [
    ...[narrow, shared].map((shape) => one('attention', dtype, shape, { causal: false })),
    ...sizes.map((size) => one('pagedAttention', dtype, shared, { size }, `, pages of ${size}`)),
  ]);
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
export const attentions = (tiny) => [...dense(tiny), ...decoding(tiny), ...masked(tiny)];
