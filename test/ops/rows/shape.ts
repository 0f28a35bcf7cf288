// Views: where every element comes from.
import { functional as F, zeros } from 'fovea';
import { dimErrors } from '../errors.js';
import { Nd } from '../nd.js';
import { type Row } from '../row.js';
import { L, N, pick, positive, shapeRow, window } from './shape-row.js';

export const shapeRows: Row[] = [
  shapeRow('reshape', {
    cases: [
      [[6], { shape: [2, 3] }],
      [[2, 3], { shape: [3, 2] }],
      [[2, 3, 4], { shape: [6, -1] }],
      [[1], { shape: [] }],
      [[], { shape: [1, 1] }],
      [[0, 3], { shape: [3, 0] }],
      [[4, 6], { shape: [2, 2, 6] }],
      [[5, 7], { shape: [-1] }],
      [[131], { shape: [1, 131] }],
      [[2, 2, 2], { shape: [8] }],
    ],
    run: (x, { shape }) => F.reshape(x, L(shape)),
    reference: (x, { shape }) =>
      x.reshape(
        L(shape).map((n) =>
          n === -1
            ? x.size /
              L(shape)
                .filter((v) => v !== -1)
                .reduce((a, b) => a * b, 1)
            : n,
        ),
      ),
    errors: [
      {
        label: 'another size',
        run: () => F.reshape(zeros([2, 3]), [4]),
        code: 'FOVEA_SHAPE',
        mentions: /reshape.*\[2, ?3\].*4/s,
      },
      {
        label: 'two unknowns',
        run: () => F.reshape(zeros([2, 3]), [-1, -1]),
        code: 'FOVEA_ARGUMENT',
        mentions: /reshape/,
      },
    ],
  }),
  shapeRow('flatten', {
    cases: [
      [[2, 3], {}],
      [[2, 3, 4], {}],
      [[2, 3, 4], { start: 1 }],
      [[2, 3, 4], { start: 0, end: 1 }],
      [[], {}],
      [[5], {}],
      [[0, 3], {}],
      [[1, 1], {}],
      [[2, 2, 2, 2], { start: 1, end: -2 }],
      [[17, 3], { start: -2, end: -1 }],
      [[3, 1, 2], { start: 1, end: 1 }],
      [[4, 4], { start: 0 }],
    ],
    run: (x, { start, end }) => F.flatten(x, start as number | undefined, end as number | undefined),
    reference: (x, { start = 0, end = -1 }) => {
      const rank = x.shape.length;
      if (rank === 0) return x.reshape([1]);
      const [a, b] = [positive(N(start), rank), positive(N(end), rank)];
      return x.reshape([
        ...x.shape.slice(0, a),
        x.shape.slice(a, b + 1).reduce((p, q) => p * q, 1),
        ...x.shape.slice(b + 1),
      ]);
    },
    errors: [
      {
        label: 'start after end',
        run: () => F.flatten(zeros([2, 3]), 1, 0),
        code: 'FOVEA_ARGUMENT',
        mentions: /flatten/,
      },
    ],
  }),
  shapeRow('squeeze', {
    cases: [
      [[1, 3, 1], {}],
      [[1, 3, 1], { dim: 0 }],
      [[1, 3, 1], { dim: -1 }],
      [[2, 3], {}],
      [[1], {}],
      [[], {}],
      [[1, 1, 1], {}],
      [[0, 1], {}],
      [[2, 1, 3], { dim: 1 }],
      [[2, 3], { dim: 0 }],
      [[1, 131], { dim: 0 }],
      [[5, 1], {}],
    ],
    run: (x, { dim }) => (dim === undefined ? F.squeeze(x) : F.squeeze(x, N(dim))),
    reference: (x, { dim }) =>
      x.reshape(x.shape.filter((n, d) => n !== 1 || (dim !== undefined && d !== positive(N(dim), x.shape.length)))),
    errors: dimErrors('squeeze', (x, dim) => F.squeeze(x, dim)),
  }),
  shapeRow('unsqueeze', {
    cases: [
      [[3], { dim: 0 }],
      [[3], { dim: 1 }],
      [[3], { dim: -1 }],
      [[2, 3], { dim: 1 }],
      [[], { dim: 0 }],
      [[0], { dim: 0 }],
      [[2, 3], { dim: -3 }],
      [[131], { dim: 0 }],
      [[1], { dim: 1 }],
      [[2, 3, 4], { dim: 2 }],
    ],
    run: (x, { dim }) => F.unsqueeze(x, N(dim)),
    reference: (x, { dim }) =>
      x.reshape([
        ...x.shape.slice(0, positive(N(dim), x.shape.length + 1)),
        1,
        ...x.shape.slice(positive(N(dim), x.shape.length + 1)),
      ]),
    errors: [
      { label: 'dim 5', run: () => F.unsqueeze(zeros([2]), 5), code: 'FOVEA_ARGUMENT', mentions: /unsqueeze.*dim/s },
    ],
  }),
  shapeRow('transpose', {
    cases: [
      [[2, 3], { a: 0, b: 1 }],
      [[2, 3, 4], { a: 0, b: 2 }],
      [[2, 3, 4], { a: -1, b: -2 }],
      [[5], { a: 0, b: 0 }],
      [[0, 3], { a: 0, b: 1 }],
      [[1, 7], { a: 0, b: 1 }],
      [[17, 33], { a: 0, b: 1 }],
      [[2, 1, 3, 2], { a: 1, b: 3 }],
      [[131, 2], { a: 1, b: 0 }],
    ],
    run: (x, { a, b }) => F.transpose(x, N(a), N(b)),
    reference: (x, { a, b }) => {
      const order = x.shape.map((_, d) => d);
      const [p, q] = [positive(N(a), order.length), positive(N(b), order.length)];
      [order[p], order[q]] = [order[q]!, order[p]!];
      return x.permute(order);
    },
    errors: dimErrors('transpose', (x, dim) => F.transpose(x, dim, 0)),
  }),
  shapeRow('permute', {
    cases: [
      [[2, 3], { dims: [1, 0] }],
      [[2, 3, 4], { dims: [2, 0, 1] }],
      [[2, 3, 4], { dims: [0, -1, 1] }],
      [[5], { dims: [0] }],
      [[], { dims: [] }],
      [[0, 2], { dims: [1, 0] }],
      [[1, 2, 1, 3], { dims: [3, 2, 1, 0] }],
      [[17, 15], { dims: [1, 0] }],
      [[2, 2, 2], { dims: [0, 1, 2] }],
    ],
    run: (x, { dims }) => F.permute(x, L(dims)),
    reference: (x, { dims }) => x.permute(L(dims).map((d) => positive(d, x.shape.length))),
    errors: [
      {
        label: 'a dim twice',
        run: () => F.permute(zeros([2, 3]), [0, 0]),
        code: 'FOVEA_ARGUMENT',
        mentions: /permute/,
      },
      { label: 'too few dims', run: () => F.permute(zeros([2, 3]), [0]), code: 'FOVEA_ARGUMENT', mentions: /permute/ },
    ],
  }),
  shapeRow('expand', {
    cases: [
      [[1], { shape: [4] }],
      [[3], { shape: [2, 3] }],
      [[2, 1], { shape: [2, 5] }],
      [[1, 3], { shape: [4, -1] }],
      [[], { shape: [2, 2] }],
      [[1], { shape: [0] }],
      [[2, 1, 3], { shape: [4, 2, 2, 3] }],
      [[131], { shape: [131] }],
      [[1, 1], { shape: [17, 3] }],
      [[5, 1], { shape: [5, 1] }],
      [[3], { shape: [1, 1, 3] }],
      [[1], { shape: [70] }],
    ],
    run: (x, { shape }) => F.expand(x, L(shape)),
    reference: (x, { shape }) => {
      const target = L(shape).map((n, d) => (n === -1 ? x.shape[d - L(shape).length + x.shape.length]! : n));
      return Nd.from(target, (at) => x.at(at));
    },
    errors: [
      {
        label: 'an axis that is not 1',
        run: () => F.expand(zeros([2, 3]), [2, 6]),
        code: 'FOVEA_SHAPE',
        mentions: /expand.*3.*6/s,
      },
    ],
  }),
  shapeRow('slice', {
    cases: [
      [[7], { dim: 0, start: 1, end: 5 }],
      [[7], { dim: 0, start: 0, end: 7, step: 2 }],
      [[7], { dim: 0, start: -3 }],
      [[3, 5], { dim: 1, start: 1, end: -1 }],
      [[3, 5], { dim: -1, start: 4, end: 2 }],
      [[3, 5], { dim: 0, start: 0, end: 99 }],
      [[1], { dim: 0, start: 0, end: 1 }],
      [[131], { dim: 0, start: 3, end: 130, step: 7 }],
      [[2, 3, 4], { dim: 2, start: 1, step: 3 }],
      [[0, 2], { dim: 0, start: 0, end: 0 }],
    ],
    run: (x, { dim, start, end, step }) =>
      F.slice(x, N(dim), start as number | undefined, end as number | undefined, step as number | undefined),
    reference: (x, { dim, start, end, step = 1 }) => {
      const d = positive(N(dim), x.shape.length);
      const n = x.shape[d]!;
      const clampTo = (v: number): number => Math.min(Math.max(v < 0 ? v + n : v, 0), n);
      const [a, b] = [clampTo(N(start ?? 0)), clampTo(N(end ?? n))];
      return window(x, d, a, Math.max(0, Math.ceil((b - a) / N(step))), N(step));
    },
    errors: [
      ...dimErrors('slice', (x, dim) => F.slice(x, dim, 0, 1)),
      { label: 'step 0', run: () => F.slice(zeros([3]), 0, 0, 3, 0), code: 'FOVEA_ARGUMENT', mentions: /slice.*step/s },
    ],
  }),
  shapeRow('narrow', {
    cases: [
      [[7], { dim: 0, start: 2, n: 3 }],
      [[3, 5], { dim: 1, start: 0, n: 5 }],
      [[3, 5], { dim: 0, start: 2, n: 1 }],
      [[3, 5], { dim: -1, start: 1, n: 0 }],
      [[2, 3, 4], { dim: 1, start: 1, n: 2 }],
      [[131], { dim: 0, start: 100, n: 31 }],
      [[1], { dim: 0, start: 0, n: 1 }],
      [[0], { dim: 0, start: 0, n: 0 }],
      [[17, 3], { dim: 0, start: -2, n: 2 }],
      [[4, 4], { dim: 1, start: 3, n: 1 }],
    ],
    run: (x, { dim, start, n }) => F.narrow(x, N(dim), N(start), N(n)),
    reference: (x, { dim, start, n }) => {
      const d = positive(N(dim), x.shape.length);
      return window(x, d, positive(N(start), x.shape[d]!), N(n));
    },
    errors: [
      { label: 'beyond the end', run: () => F.narrow(zeros([3]), 0, 2, 2), code: 'FOVEA_INDEX', mentions: /narrow/ },
    ],
  }),
  shapeRow('select', {
    cases: [
      [[7], { dim: 0, i: 3 }],
      [[3, 5], { dim: 1, i: -1 }],
      [[3, 5], { dim: 0, i: 0 }],
      [[2, 3, 4], { dim: 1, i: 2 }],
      [[1], { dim: 0, i: 0 }],
      [[131, 2], { dim: 0, i: 130 }],
      [[2, 0], { dim: 0, i: 1 }],
      [[2, 2, 2], { dim: -1, i: 1 }],
      [[17, 3], { dim: 1, i: 1 }],
    ],
    run: (x, { dim, i }) => F.select(x, N(dim), N(i)),
    reference: (x, { dim, i }) => {
      const d = positive(N(dim), x.shape.length);
      return pick(
        x,
        x.shape.filter((_, axis) => axis !== d),
        (at) => [...at.slice(0, d), positive(N(i), x.shape[d]!), ...at.slice(d)],
      );
    },
    errors: [
      {
        label: 'an index out of range',
        run: () => F.select(zeros([3]), 0, 3),
        code: 'FOVEA_INDEX',
        mentions: /select.*3/s,
      },
    ],
  }),
];
