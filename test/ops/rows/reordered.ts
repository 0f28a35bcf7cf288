// Ops that put elements elsewhere, and are short for others.
import { functional as F, type Tensor, zeros } from 'fovea';
import { dimErrors, tensorErrors } from '../errors.js';
import { Nd } from '../nd.js';
import { exact, type Row } from '../row.js';
import { FLOATS, INTS, type Sample } from '../samples.js';

const everything = [...FLOATS, ...INTS, 'bool'] as const;

const shaped = (
  name: string,
  cases: [number[], unknown[]][],
  target: (shape: readonly number[], args: unknown[]) => number[],
  defaults: unknown[],
  errors: Row['errors'],
  from: (at: number[], shape: readonly number[], args: unknown[]) => number[] | null = () => null,
): Row => {
  const f = (F as unknown as Record<string, (x: Tensor, ...args: unknown[]) => Tensor>)[name]!;
  return {
    name,
    dtypes: everything,
    samples: cases.flatMap(([shape, args], i): Sample[] =>
      (shape.length > 1 && name !== 'view' ? (['dense', 'transposed'] as const) : (['dense'] as const)).map(
        (layout, j) => ({
          label: `[${shape}] ${layout} ${JSON.stringify(args)}`,
          inputs: [{ shape, layout }],
          args: { args },
          gradcheck: j === 0 && i < 4,
        }),
      ),
    ),
    run: ([x], { args }) => f(x!, ...(args as unknown[])),
    reference: ([x], { args }) => {
      const shape = target(x!.shape, args as unknown[]);
      return Nd.from(shape, (at) => {
        const source = from([...at], x!.shape, args as unknown[]);
        return source ? x!.at(source) : x!.data[at.reduce((flat, v, d) => flat * shape[d]! + v, 0)]!;
      });
    },
    tolerance: exact,
    differentiable: [0],
    errors: [...tensorErrors(name, f, ...defaults), ...errors],
  };
};
const moved = (shape: readonly number[], source: number, destination: number): number[] => {
  const rank = shape.length;
  const order = [...Array(rank).keys()].filter((d) => d !== (source + rank) % rank);
  order.splice((destination + rank) % rank, 0, (source + rank) % rank);
  return order;
};

const L = (v: unknown): number[] => v as number[];
export const reorderedRows: Row[] = [
  shaped(
    't',
    [
      [[2, 3], []],
      [[1, 4], []],
      [[5, 5], []],
      [[3, 2], []],
      [[0, 3], []],
      [[17, 33], []],
      [[1, 1], []],
    ],
    ([a, b]) => [b!, a!],
    [],
    [{ label: 'three axes', run: () => F.t(zeros([1, 2, 3])), code: 'FOVEA_SHAPE', mentions: /t:.*2|axes/ }],
    ([i, j]) => [j!, i!],
  ),
  shaped(
    'view',
    [
      [[6], [[2, 3]]],
      [[2, 3], [[3, -1]]],
      [[2, 3, 4], [[24]]],
      [[1], [[]]],
      [[], [[1]]],
      [[0, 3], [[3, 0]]],
      [[4, 6], [[2, 2, 6]]],
      [[131], [[1, 131]]],
      [[8], [[2, 2, 2]]],
      [[5, 7], [[35]]],
      [[17], [[17, 1]]],
      [[2, 2], [[4]]],
    ],
    (shape, [to]) =>
      L(to).map((n) =>
        n === -1
          ? shape.reduce((a, b) => a * b, 1) /
            L(to)
              .filter((v) => v !== -1)
              .reduce((a, b) => a * b, 1)
          : n,
      ),
    [[2]],
    [
      {
        label: 'a layout that no view has',
        run: () => F.view(zeros([2, 3]).transpose(0, 1), [6]),
        code: 'FOVEA_LAYOUT',
        mentions: /view/,
      },
    ],
  ),
  shaped(
    'unflatten',
    [
      [[6], [0, [2, 3]]],
      [
        [2, 6],
        [1, [3, 2]],
      ],
      [
        [2, 6],
        [-1, [2, -1]],
      ],
      [
        [4, 3],
        [0, [2, 2]],
      ],
      [[131], [0, [131, 1]]],
      [[0], [0, [0, 2]]],
      [[1], [0, [1, 1]]],
      [[12], [0, [2, 3, 2]]],
      [
        [3, 8],
        [-1, [2, 2, 2]],
      ],
      [[70_001], [0, [1, 70_001]]],
    ],
    (shape, [dim, sizes]) => {
      const d = ((dim as number) + shape.length) % shape.length;
      const known = L(sizes)
        .filter((n) => n !== -1)
        .reduce((a, b) => a * b, 1);
      return [...shape.slice(0, d), ...L(sizes).map((n) => (n === -1 ? shape[d]! / known : n)), ...shape.slice(d + 1)];
    },
    [0, [1]],
    [
      {
        label: 'sizes that do not multiply up',
        run: () => F.unflatten(zeros([6]), 0, [4, 2]),
        code: 'FOVEA_SHAPE',
        mentions: /unflatten|reshape/,
      },
    ],
  ),
  shaped(
    'movedim',
    [
      [
        [2, 3],
        [0, 1],
      ],
      [
        [2, 3, 4],
        [0, 2],
      ],
      [
        [2, 3, 4],
        [-1, 0],
      ],
      [
        [2, 3, 4],
        [1, 1],
      ],
      [[5], [0, 0]],
      [
        [0, 3],
        [0, 1],
      ],
      [
        [17, 33],
        [1, 0],
      ],
    ],
    (shape, [a, b]) => moved(shape, a as number, b as number).map((d) => shape[d]!),
    [0, 0],
    dimErrors('movedim', (x, dim) => F.movedim(x, dim, 0)),
    (at, shape, [a, b]) => {
      const source: number[] = [];
      moved(shape, a as number, b as number).forEach((d, i) => {
        source[d] = at[i]!;
      });
      return source;
    },
  ),
  {
    ...shaped(
      'expandAs',
      [
        [[1], []],
        [[3], []],
        [[2, 1], []],
        [[1, 3], []],
        [[], []],
        [[131], []],
        [[1, 1], []],
        [[5, 1], []],
      ],
      () => [],
      [zeros([2])],
      [],
    ),
    samples: (
      [
        [[1], [4]],
        [[3], [2, 3]],
        [
          [2, 1],
          [2, 5],
        ],
        [
          [1, 3],
          [4, 3],
        ],
        [[], [2, 2]],
        [[131], [131]],
        [
          [1, 1],
          [17, 3],
        ],
        [[1], [0]],
        [
          [5, 1],
          [5, 1],
        ],
        [
          [2, 1, 3],
          [2, 4, 3],
        ],
        [[1], [70]],
        [[3], [1, 1, 3]],
      ] as [number[], number[]][]
    ).map(([a, b], i) => ({ label: `[${a}] as [${b}]`, inputs: [{ shape: a }, { shape: b }], gradcheck: i < 3 })),
    run: ([x, other]) => F.expandAs(x!, other!),
    reference: ([x, other]) => Nd.from(other!.shape, (at) => x!.at(at)),
  },
  shaped(
    'repeat',
    [
      [[3], [[2]]],
      [[2, 3], [[2, 1]]],
      [[2, 3], [[1, 3]]],
      [[3], [[2, 2]]],
      [[1], [[4]]],
      [[], [[3]]],
      [[0, 2], [[2, 2]]],
      [[131], [[2]]],
      [[2, 2, 2], [[1, 2, 1]]],
      [[5], [[0]]],
    ],
    (shape, [times]) => L(times).map((n, i) => n * (shape[i - L(times).length + shape.length] ?? 1)),
    [[1]],
    [{ label: 'too few repeats', run: () => F.repeat(zeros([2, 3]), [2]), code: 'FOVEA_ARGUMENT', mentions: /repeat/ }],
    (at, shape) => at.slice(at.length - shape.length).map((v, d) => v % Math.max(1, shape[d]!)),
  ),
  shaped(
    'repeatInterleave',
    [
      [[3], [2, 0]],
      [
        [2, 3],
        [2, 1],
      ],
      [
        [2, 3],
        [3, 0],
      ],
      [
        [2, 3, 4],
        [2, -2],
      ],
      [[1], [4, 0]],
      [[131], [2, 0]],
      [
        [0, 2],
        [2, 1],
      ],
      [[5], [1, 0]],
    ],
    (shape, [n, dim]) =>
      shape.map((size, d) => (d === ((dim as number) + shape.length) % shape.length ? size * (n as number) : size)),
    [1, 0],
    dimErrors('repeatInterleave', (x, dim) => F.repeatInterleave(x, 2, dim)),
    (at, shape, [n, dim]) =>
      at.map((v, d) => (d === ((dim as number) + shape.length) % shape.length ? Math.floor(v / (n as number)) : v)),
  ),
  shaped(
    'diagonal',
    [
      [[3, 3], []],
      [[2, 4], []],
      [[5, 2], []],
      [[1, 1], []],
      [[0, 3], []],
      [[3, 0], []],
      [[17, 17], []],
      [[1, 5], []],
      [[33, 15], []],
      [[131, 131], []],
    ],
    (shape) => [...shape.slice(0, -2), Math.min(shape.at(-1)!, shape.at(-2)!)],
    [],
    [{ label: 'a vector', run: () => F.diagonal(zeros([3])), code: 'FOVEA_SHAPE', mentions: /diagonal/ }],
    (at) => [...at, at.at(-1)!],
  ),
];
