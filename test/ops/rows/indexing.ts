// Ops that read or write where an index tensor says, and sorting.
import { type Dtype, functional as F, tensor, zeros } from 'fovea';
import { device } from '../../helpers.js';
import { dimErrors, tensorErrors } from '../errors.js';
import { alongAxis, Nd } from '../nd.js';
import { type Args, close, exact, type Row } from '../row.js';
import { FLOATS, INTS, type InputSpec, type Layout, type Sample, type Values } from '../samples.js';

const everything: readonly Dtype[] = [...FLOATS, ...INTS, 'bool'];
const index = (shape: readonly number[], size: number, dtype: Dtype = 'int64'): InputSpec => ({
  shape,
  dtype,
  values: ((i: number) => (i * 5 + 1) % Math.max(1, size)) as Values,
});
const ids = (...n: number[]) => tensor(n, { dtype: 'int64' });
const layouts: (Layout | undefined)[] = [
  undefined,
  undefined,
  'transposed',
  'offset',
  'step',
  'expanded',
  'misaligned',
];
const withLayout = (i: number): Partial<InputSpec> =>
  layouts[i % layouts.length] ? { layout: layouts[i % layouts.length]! } : {};
const outOfRange = (name: string, run: () => { dataSync(): unknown }): Row['errors'] => [
  {
    label: 'an index out of range',
    run: () => run().dataSync(),
    code: 'FOVEA_INDEX',
    mentions: new RegExp(`${name}.*(index|id).*\\d`, 'is'),
  },
];

const embedding: Row = {
  name: 'embedding',
  dtypes: [...FLOATS, 'int32'],
  samples: [
    [[3], [5, 4]],
    [
      [2, 3],
      [7, 3],
    ],
    [[], [4, 2]],
    [[0], [3, 2]],
    [[131], [17, 33]],
    [
      [4, 4],
      [1, 8],
    ],
    [
      [2, 2, 2],
      [9, 1],
    ],
    [[5], [50, 15]],
    [[70], [300, 64]],
    [
      [3, 0],
      [4, 4],
    ],
    [[1], [1, 1]],
    [[12], [3, 17]],
  ].map(([i, w], at) => ({
    label: `ids [${i}] weight [${w}]`,
    inputs: [
      index(i!, w![0]!, at % 2 ? 'int32' : 'int64'),
      { shape: w!, ...(w!.length > 1 && at % 3 === 2 ? { layout: 'offset' as const } : {}) },
    ],
    gradcheck: at < 3,
  })),
  run: ([i, w]) => F.embedding(i!, w!),
  reference: ([i, w]) => Nd.from([...i!.shape, w!.shape[1]!], (at) => w!.at([i!.at(at.slice(0, -1)), at.at(-1)!])),
  tolerance: exact,
  differentiable: [1],
  errors: [
    ...tensorErrors('embedding', F.embedding, zeros([3, 2])),
    ...outOfRange('embedding', () => F.embedding(ids(3), zeros([3, 2]))),
    {
      label: 'float ids',
      run: () => F.embedding(tensor([0.5]), zeros([3, 2])),
      code: 'FOVEA_DTYPE',
      mentions: /embedding.*integer/s,
    },
  ],
};

const gatherShapes: [number[], number[], number][] = [
  [[3, 4], [3, 2], 1],
  [[3, 4], [2, 4], 0],
  [[5], [7], 0],
  [[2, 3, 4], [2, 5, 4], 1],
  [[1], [1], 0],
  [[131], [17], 0],
  [[4, 5], [4, 0], 1],
  [[6, 33], [6, 9], -1],
  [[5, 4], [3, 2], 0],
  [[2, 2, 2], [1, 2, 2], 2],
  [[17, 3], [40, 3], 0],
  [[8, 8], [8, 8], 1],
];
const gather: Row = {
  name: 'gather',
  dtypes: everything,
  samples: gatherShapes.map(([x, i, dim], at) => ({
    label: `[${x}] index [${i}] dim ${dim}`,
    inputs: [{ shape: x, ...(x.length > 1 ? withLayout(at) : {}) }, index(i, x.at(dim)!)],
    args: { dim },
    gradcheck: at < 4,
  })),
  run: ([x, i], { dim }) => F.gather(x!, dim as number, i!),
  reference: ([x, i], { dim }) => {
    const d = (dim as number) < 0 ? (dim as number) + x!.shape.length : (dim as number);
    return Nd.from(i!.shape, (at) => x!.at(at.map((v, axis) => (axis === d ? i!.at(at) : v))));
  },
  tolerance: exact,
  differentiable: [0],
  errors: [
    ...tensorErrors('gather', F.gather, 0, ids(0)),
    ...dimErrors('gather', (x, dim) => F.gather(x, dim, zeros([1, 1], { dtype: 'int64' }))),
    ...outOfRange('gather', () => F.gather(zeros([3]), 0, ids(4))),
  ],
};

const scatterRow = (name: 'scatter' | 'scatterAdd'): Row => ({
  name,
  dtypes: name === 'scatter' ? everything : [...FLOATS, ...INTS],
  samples: gatherShapes.map(([x, i, dim], at) => {
    // distinct positions, so that `scatter` has one answer; scatterAdd repeats them
    const size = x.at(dim)!;
    const spec: InputSpec =
      name === 'scatterAdd'
        ? index(i, size)
        : {
            shape: i.map((n, d) => (d === (dim + x.length) % x.length ? Math.min(n, size) : n)),
            dtype: 'int64',
            values: 'smallInt',
          };
    return {
      label: `[${x}] index [${spec.shape}] dim ${dim}`,
      inputs: [{ shape: x, ...(x.length > 1 ? withLayout(at) : {}) }, spec, { shape: spec.shape }],
      args: { dim, distinct: name === 'scatter' },
      gradcheck: at < 4,
    };
  }),
  run: ([x, i, src], { dim, distinct }) =>
    F[name](x!, dim as number, distinct ? positions(i!.shape, dim as number) : i!, src!),
  reference: ([x, i, src], { dim, distinct }) => {
    const d = (dim as number) < 0 ? (dim as number) + x!.shape.length : (dim as number);
    const out = new Nd(x!.shape, x!.data.slice());
    const strides = x!.shape.map((_, axis) => x!.shape.slice(axis + 1).reduce((a, b) => a * b, 1));
    let flat = 0;
    for (let at = 0; at < src!.size; at++) {
      const where = unravel(at, src!.shape);
      where[d] = distinct ? where[d]! : i!.data[at]!;
      flat = where.reduce((sum, v, axis) => sum + v * strides[axis]!, 0);
      out.data[flat] = name === 'scatter' ? src!.data[at]! : out.data[flat]! + src!.data[at]!;
    }
    return out;
  },
  tolerance: name === 'scatter' ? exact : close(64, { roundings: 4 }), // 16-bit sums are rounded at every addition
  differentiable: [0, 2],
  errors: [
    ...tensorErrors(name, F[name], 0, ids(0), tensor([1])),
    ...dimErrors(name, (x, dim) => F[name](x, dim, zeros([1, 1], { dtype: 'int64' }), zeros([1, 1]))),
    ...outOfRange(name, () => F[name](zeros([3]), 0, ids(5), tensor([1]))),
  ],
});
const unravel = (flat: number, shape: readonly number[]): number[] => {
  const at = new Array<number>(shape.length);
  for (let d = shape.length - 1, rest = flat; d >= 0; rest = Math.floor(rest / shape[d]!), d--)
    at[d] = rest % shape[d]!;
  return at;
};
const positions = (shape: readonly number[], dim: number) => {
  const d = dim < 0 ? dim + shape.length : dim;
  const n = shape.reduce((a, b) => a * b, 1);
  return tensor(
    Array.from({ length: n }, (_, i) => unravel(i, shape)[d]!),
    { shape, dtype: 'int64', device },
  );
};

const indexSelect: Row = {
  name: 'indexSelect',
  dtypes: everything,
  samples: (
    [
      [[3, 4], 2, 1],
      [[3, 4], 5, 0],
      [[5], 3, 0],
      [[2, 3, 4], 2, 1],
      [[1], 1, 0],
      [[131], 17, 0],
      [[4, 5], 0, 1],
      [[6, 33], 9, -1],
      [[2, 2, 2], 3, 2],
      [[17, 3], 40, 0],
      [[8, 8], 8, 1],
      [[0, 3], 2, 1],
    ] as [number[], number, number][]
  ).map(([x, n, dim], at) => ({
    label: `[${x}] ${n} of dim ${dim}`,
    inputs: [{ shape: x, ...(x.length > 1 ? withLayout(at) : {}) }, index([n], x.at(dim)!)],
    args: { dim },
    gradcheck: at < 4,
  })),
  run: ([x, i], { dim }) => F.indexSelect(x!, dim as number, i!),
  reference: ([x, i], { dim }) => selectReference(x!, i!, dim as number),
  tolerance: exact,
  differentiable: [0],
  errors: [
    ...tensorErrors('indexSelect', F.indexSelect, 0, ids(0)),
    ...dimErrors('indexSelect', (x, dim) => F.indexSelect(x, dim, ids(0))),
    ...outOfRange('indexSelect', () => F.indexSelect(zeros([3]), 0, ids(-1))),
  ],
};
function selectReference(x: Nd, i: Nd, dim: number): Nd {
  const d = dim < 0 ? dim + x.shape.length : dim;
  return Nd.from(
    x.shape.map((n, axis) => (axis === d ? i.size : n)),
    (at) => x.at(at.map((v, axis) => (axis === d ? i.data[v]! : v))),
  );
}

// ---- sorting: stable, NaN counts as the largest

const after = (a: number, b: number): boolean => (Number.isNaN(a) ? !Number.isNaN(b) : a > b);
const order = (row: Float64Array, descending: boolean): number[] =>
  [...row.keys()].sort((i, j) => {
    const [a, b] = [row[i]!, row[j]!];
    const compared = after(a, b) ? 1 : after(b, a) ? -1 : 0;
    return (descending ? -compared : compared) || i - j;
  });
const sortShapes: [number[], number][] = [
  [[7], 0],
  [[3, 5], 1],
  [[3, 5], 0],
  [[1], 0],
  [[2, 3, 4], 1],
  [[131], 0],
  [[4, 33], -1],
  [[5, 17], 1],
  [[0], 0],
  [[3, 0], 1],
  [[2, 1000], 1],
  [[6, 9], 0],
];
const sortSamples = (more: (n: number) => Args[]): Sample[] =>
  sortShapes.flatMap(([shape, dim], at) =>
    more(shape.at(dim)!).map((args) => ({
      label: `[${shape}] dim ${dim} ${JSON.stringify(args)}`,
      inputs: [
        {
          shape,
          values: (at % 4 === 3 ? 'smallInt' : 'distinct') as Values,
          ...(shape.length > 1 ? withLayout(at) : {}),
        },
      ],
      args: { dim, ...args },
      gradcheck: at < 3,
    })),
  );
const both = (x: Nd, dim: number, pick: (row: Float64Array) => number[]): [Nd, Nd] => {
  const size = pick(new Float64Array(x.shape.at(dim)!)).length;
  const d = dim < 0 ? dim + x.shape.length : dim;
  if (x.size === 0) {
    const empty = new Nd(
      x.shape.map((n, axis) => (axis === d ? size : n)),
      [],
    );
    return [empty, empty];
  }
  return [
    alongAxis(x, dim, (row) => Float64Array.from(pick(row), (i) => row[i]!)),
    alongAxis(x, dim, (row) => Float64Array.from(pick(row))),
  ];
};
const sortable: readonly Dtype[] = [...FLOATS, ...INTS];
const sort: Row = {
  name: 'sort',
  dtypes: sortable,
  samples: sortSamples(() => [{}, { descending: true }]),
  run: ([x], { dim, descending }) => {
    const { values, indices } = F.sort(x!, dim as number, { descending: (descending as boolean | undefined) ?? false });
    return [values, indices];
  },
  reference: ([x], { dim, descending }) =>
    both(x!, dim as number, (row) => order(row, (descending as boolean | undefined) ?? false)),
  tolerance: exact,
  differentiable: [0],
  errors: [...tensorErrors('sort', F.sort), ...dimErrors('sort', (x, dim) => F.sort(x, dim))],
};
const argsort: Row = {
  ...sort,
  name: 'argsort',
  run: ([x], { dim, descending }) =>
    F.argsort(x!, dim as number, { descending: (descending as boolean | undefined) ?? false }),
  reference: (x, args, dtype) => (sort.reference(x, args, dtype) as Nd[])[1]!,
  errors: [...tensorErrors('argsort', F.argsort), ...dimErrors('argsort', (x, dim) => F.argsort(x, dim))],
};
delete argsort.differentiable;
const topk: Row = {
  name: 'topk',
  dtypes: sortable,
  samples: sortSamples((n) => [{ k: Math.min(2, n) }, { k: n, largest: false }]),
  run: ([x], { dim, k, largest = true }) => {
    const { values, indices } = F.topk(x!, k as number, dim as number, { largest: largest as boolean });
    return [values, indices];
  },
  reference: ([x], { dim, k, largest = true }) =>
    both(x!, dim as number, (row) => order(row, largest as boolean).slice(0, k as number)),
  tolerance: exact,
  differentiable: [0],
  errors: [
    ...tensorErrors('topk', F.topk, 1),
    {
      label: 'k is larger than the axis',
      run: () => F.topk(zeros([3]), 4).values.dataSync(),
      code: 'FOVEA_ARGUMENT',
      mentions: /topk.*k.*3.*4/s,
    },
    { label: 'k is negative', run: () => F.topk(zeros([3]), -1), code: 'FOVEA_ARGUMENT', mentions: /topk.*k/s },
  ],
};

export const indexingRows: Row[] = [
  embedding,
  gather,
  scatterRow('scatter'),
  scatterRow('scatterAdd'),
  indexSelect,
  sort,
  argsort,
  topk,
];
