// Cutting, joining, padding and turning: where every element comes from.
import { functional as F, zeros } from 'fovea';
import { dimErrors } from '../errors.js';
import { Nd } from '../nd.js';
import { exact, type Row } from '../row.js';
import { cuts, everything, L, N, pick, pieces, positive, replaced, shapeRow } from './shape-row.js';

const rows: Row[] = [
  shapeRow('unbind', {
    cases: [
      [[3], { dim: 0 }],
      [[2, 3], { dim: 0 }],
      [[2, 3], { dim: 1 }],
      [[2, 3, 4], { dim: -2 }],
      [[1], { dim: 0 }],
      [[1, 5], { dim: 0 }],
      [[4, 2], { dim: -1 }],
      [[2, 0], { dim: 0 }],
      [[5, 17], { dim: 0 }],
    ],
    run: (x, { dim }) => F.unbind(x, N(dim)),
    reference: (x, { dim }) => {
      const d = positive(N(dim), x.shape.length);
      return Array.from({ length: x.shape[d]! }, (_, i) =>
        pick(
          x,
          x.shape.filter((__, axis) => axis !== d),
          (at) => [...at.slice(0, d), i, ...at.slice(d)],
        ),
      );
    },
    errors: dimErrors('unbind', (x, dim) => F.unbind(x, dim)),
  }),
  shapeRow('split', {
    cases: [
      [[7], { size: 3, dim: 0 }],
      [[6, 2], { size: [1, 5], dim: 0 }],
      [[2, 6], { size: 2, dim: 1 }],
      [[2, 3, 4], { size: 3, dim: -1 }],
      [[5], { size: 5, dim: 0 }],
      [[5], { size: 9, dim: 0 }],
      [[3, 4], { size: [0, 4], dim: 1 }],
      [[131], { size: 40, dim: 0 }],
      [[1], { size: 1, dim: 0 }],
    ],
    run: (x, { size, dim }) => F.split(x, size as number | number[], N(dim)),
    reference: (x, { size, dim }) => {
      const d = positive(N(dim), x.shape.length);
      return cuts(x, d, Array.isArray(size) ? size : pieces(x.shape[d]!, N(size)));
    },
    errors: [
      {
        label: 'sizes that do not add up',
        run: () => F.split(zeros([5]), [2, 2]),
        code: 'FOVEA_SHAPE',
        mentions: /split.*5/s,
      },
    ],
  }),
  shapeRow('chunk', {
    cases: [
      [[7], { n: 3, dim: 0 }],
      [[6, 2], { n: 2, dim: 0 }],
      [[2, 6], { n: 4, dim: 1 }],
      [[2, 3, 4], { n: 2, dim: -1 }],
      [[5], { n: 1, dim: 0 }],
      [[5], { n: 9, dim: 0 }],
      [[131], { n: 4, dim: 0 }],
      [[1], { n: 1, dim: 0 }],
      [[3, 4], { n: 4, dim: 1 }],
    ],
    run: (x, { n, dim }) => F.chunk(x, N(n), N(dim)),
    reference: (x, { n, dim }) => {
      const d = positive(N(dim), x.shape.length);
      return cuts(x, d, pieces(x.shape[d]!, Math.ceil(x.shape[d]! / N(n))));
    },
    errors: [{ label: 'no chunks', run: () => F.chunk(zeros([5]), 0), code: 'FOVEA_ARGUMENT', mentions: /chunk/ }],
  }),
  shapeRow('pad', {
    cases: [
      [[3], { by: [1, 2] }],
      [[2, 3], { by: [1, 0] }],
      [[2, 3], { by: [0, 1, 2, 0] }],
      [[2, 3, 4], { by: [1, 1], value: 2 }],
      [[0], { by: [2, 1] }],
      [[5], { by: [0, 0] }],
      [[5], { by: [-1, -2] }],
      [[131], { by: [3, 3] }],
      [[1], { by: [0, 4], value: 2 }],
      [[2, 2], { by: [-1, 1] }],
    ],
    run: (x, { by, value }) => F.pad(x, L(by), value === undefined ? {} : { value: N(value) }),
    reference: (x, { by, value = 0 }) => {
      const rank = x.shape.length;
      const before = x.shape.map((_, d) => L(by)[2 * (rank - 1 - d)] ?? 0);
      const shape = x.shape.map((n, d) => n + before[d]! + (L(by)[2 * (rank - 1 - d) + 1] ?? 0));
      return Nd.from(shape, (at) => {
        const from = at.map((v, d) => v - before[d]!);
        return from.every((v, d) => v >= 0 && v < x.shape[d]!) ? x.at(from) : N(value);
      });
    },
    errors: [
      { label: 'an odd number of amounts', run: () => F.pad(zeros([3]), [1]), code: 'FOVEA_ARGUMENT', mentions: /pad/ },
      { label: 'more than there is', run: () => F.pad(zeros([3]), [-2, -2]), code: 'FOVEA_SHAPE', mentions: /pad/ },
    ],
  }),
  shapeRow('flip', {
    cases: [
      [[3], { dims: [0] }],
      [[2, 3], { dims: [1] }],
      [[2, 3], { dims: [0, 1] }],
      [[2, 3, 4], { dims: [-1] }],
      [[1], { dims: [0] }],
      [[0, 2], { dims: [0] }],
      [[5], { dims: [] }],
      [[131], { dims: [0] }],
      [[17, 15], { dims: [0] }],
    ],
    run: (x, { dims }) => F.flip(x, L(dims)),
    reference: (x, { dims }) => {
      const flipped = L(dims).map((d) => positive(d, x.shape.length));
      return pick(x, x.shape, (at) => at.map((v, d) => (flipped.includes(d) ? x.shape[d]! - 1 - v : v)));
    },
    errors: dimErrors('flip', (x, dim) => F.flip(x, [dim])),
  }),
  shapeRow('roll', {
    cases: [
      [[5], { by: 2, dim: 0 }],
      [[5], { by: -1, dim: 0 }],
      [[2, 3], { by: 1, dim: 1 }],
      [[2, 3, 4], { by: 5, dim: 2 }],
      [[1], { by: 3, dim: 0 }],
      [[0], { by: 1, dim: 0 }],
      [[131], { by: 17, dim: 0 }],
      [[4, 4], { by: 0, dim: 0 }],
      [[3, 7], { by: -9, dim: -1 }],
    ],
    run: (x, { by, dim }) => F.roll(x, N(by), N(dim)),
    reference: (x, { by, dim }) => {
      const d = positive(N(dim), x.shape.length);
      return pick(x, x.shape, (at) =>
        at.map((v, axis) => (axis === d ? (((v - N(by)) % x.shape[d]!) + x.shape[d]!) % x.shape[d]! : v)),
      );
    },
    errors: dimErrors('roll', (x, dim) => F.roll(x, 1, dim)),
  }),
];

const joined = (name: 'concat' | 'stack', cases: [number[][], number][]): Row => ({
  name,
  dtypes: everything,
  samples: cases.map(([shapes, dim], i) => ({
    label: `${shapes.map((s) => `[${s}]`).join(' ')} dim ${dim}`,
    inputs: shapes.map((shape, j) => ({
      shape,
      layout: shape.length > 1 && (i + j) % 3 === 2 ? ('transposed' as const) : ('dense' as const),
    })),
    args: { dim },
    gradcheck: i < 3,
  })),
  run: (x, { dim }) => F[name](x, N(dim)),
  reference: (x, { dim }) => {
    const parts =
      name === 'concat'
        ? x
        : x.map((part) =>
            part.reshape([
              ...part.shape.slice(0, positive(N(dim), part.shape.length + 1)),
              1,
              ...part.shape.slice(positive(N(dim), part.shape.length + 1)),
            ]),
          );
    const d = positive(N(dim), parts[0]!.shape.length);
    const starts = parts.map((_, i) => parts.slice(0, i).reduce((sum, p) => sum + p.shape[d]!, 0));
    return Nd.from(
      replaced(
        parts[0]!.shape,
        d,
        parts.reduce((sum, p) => sum + p.shape[d]!, 0),
      ),
      (at) => {
        const which = starts.findLastIndex((s, i) => s <= at[d]! && parts[i]!.shape[d]! > 0);
        return parts[which]!.at(at.map((v, axis) => (axis === d ? v - starts[which]! : v)));
      },
    );
  },
  tolerance: exact,
  differentiable: [0, 1, 2],
  errors: [
    { label: 'nothing', run: () => F[name]([], 0), code: 'FOVEA_ARGUMENT', mentions: new RegExp(name) },
    {
      label: 'shapes differ',
      run: () => F[name]([zeros([2, 3]), zeros([3, 4])], 0),
      code: 'FOVEA_SHAPE',
      mentions: new RegExp(name),
    },
    { label: 'not tensors', run: () => F[name](['x'] as never, 0), code: 'FOVEA_ARGUMENT', mentions: new RegExp(name) },
    {
      label: 'dim 4',
      run: () => F[name]([zeros([2])], 4),
      code: 'FOVEA_ARGUMENT',
      mentions: new RegExp(`${name}.*dim`, 's'),
    },
  ],
});
rows.push(
  joined('concat', [
    [
      [
        [2, 3],
        [4, 3],
      ],
      0,
    ],
    [
      [
        [2, 3],
        [2, 1],
      ],
      1,
    ],
    [[[3], [2], [4]], 0],
    [
      [
        [2, 3],
        [2, 3],
      ],
      -1,
    ],
    [[[1], [1]], 0],
    [
      [
        [0, 3],
        [2, 3],
      ],
      0,
    ],
    [
      [
        [2, 0],
        [2, 2],
      ],
      1,
    ],
    [[[131], [17]], 0],
    [
      [
        [2, 2, 2],
        [2, 5, 2],
      ],
      1,
    ],
    [[[3, 4]], 0],
    [
      [
        [17, 33],
        [17, 15],
      ],
      1,
    ],
    [
      [
        [1, 2],
        [1, 2],
        [1, 2],
      ],
      0,
    ],
  ]),
  joined('stack', [
    [
      [
        [2, 3],
        [2, 3],
      ],
      0,
    ],
    [
      [
        [2, 3],
        [2, 3],
      ],
      1,
    ],
    [[[3], [3], [3]], 0],
    [
      [
        [2, 3],
        [2, 3],
      ],
      -1,
    ],
    [[[], []], 0],
    [[[0], [0]], 0],
    [[[131], [131]], 0],
    [
      [
        [2, 2, 2],
        [2, 2, 2],
      ],
      2,
    ],
    [[[3, 4]], 1],
    [
      [
        [17, 33],
        [17, 33],
      ],
      2,
    ],
    [[[1], [1]], 1],
    [[[5], [5]], -2],
  ]),
);

export const pieceRows: Row[] = rows;
