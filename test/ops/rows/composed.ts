// Ops that are short for others.
import { functional as F, type Tensor, tensor, zeros } from 'fovea';
import { broadcastErrors, dimErrors, tensorErrors } from '../errors.js';
import { alongAxis, Nd, zip } from '../nd.js';
import { close, exact, type Row } from '../row.js';
import { binarySamples, FLOATS, INTS, type Sample, unarySamples } from '../samples.js';

const everything = [...FLOATS, ...INTS, 'bool'] as const;

const same = (name: 'clone' | 'contiguous'): Row => ({
  name,
  dtypes: everything,
  samples: unarySamples(),
  run: ([x]) => F[name](x!),
  reference: ([x]) => x!,
  tolerance: exact,
  differentiable: [0],
  errors: tensorErrors(name, F[name]),
});

const shaped = (name: string, cases: [number[], unknown[]][], target: (shape: readonly number[], args: unknown[]) => number[], defaults: unknown[], errors: Row['errors'], from: (at: number[], shape: readonly number[], args: unknown[]) => number[] | null = () => null): Row => {
  const f = (F as unknown as Record<string, (x: Tensor, ...args: unknown[]) => Tensor>)[name]!;
  return {
    name,
    dtypes: everything,
    samples: cases.flatMap(([shape, args], i): Sample[] =>
      (shape.length > 1 && name !== 'view' ? (['dense', 'transposed'] as const) : (['dense'] as const)).map((layout, j) => ({ label: `[${shape}] ${layout} ${JSON.stringify(args)}`, inputs: [{ shape, layout }], args: { args }, gradcheck: j === 0 && i < 4 })),
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

const lerp: Row = {
  name: 'lerp',
  dtypes: FLOATS,
  samples: binarySamples('normal', 'normal', false).map((s) => ({ ...s, args: { weight: 0.25 } })),
  run: ([a, b], { weight }) => F.lerp(a!, b!, weight as number),
  reference: ([a, b], { weight }) => zip((x, y) => x + (weight as number) * (y - x), a!, b!),
  tolerance: close(8, { roundings: 3 }),
  differentiable: [0, 1],
  errors: [...tensorErrors('lerp', F.lerp, tensor([1]), 0.5), ...broadcastErrors('lerp', (a, b) => F.lerp(a, b, 0.5))],
};

const leakyRelu: Row = {
  name: 'leakyRelu',
  dtypes: FLOATS,
  samples: unarySamples('distinct').flatMap((s) => [s, { ...s, label: `${s.label} 0.2`, args: { negativeSlope: 0.2 } }]),
  run: ([x], args) => F.leakyRelu(x!, args),
  reference: ([x], { negativeSlope = 0.01 }) => x!.map((v) => (v > 0 ? v : v * (negativeSlope as number))),
  tolerance: close(4, { roundings: 2 }),
  differentiable: [0],
  errors: tensorErrors('leakyRelu', F.leakyRelu),
};

const glu: Row = {
  name: 'glu',
  dtypes: FLOATS,
  samples: ([[[4], 0], [[2, 6], 1], [[2, 6], 0], [[2, 3, 4], -1], [[2], 0], [[131, 2], 1], [[34, 3], 0], [[5, 30], -1], [[0, 4], 1], [[1, 2], 1], [[7, 16], 1], [[4, 4, 4], 1]] as [number[], number][]).map(([shape, dim], i) => ({ label: `[${shape}] dim ${dim}`, inputs: [{ shape }], args: { dim }, gradcheck: i < 4 })),
  run: ([x], { dim }) => F.glu(x!, dim as number),
  reference: ([x], { dim }) =>
    alongAxis(x!, dim as number, (row) => {
      const half = row.length / 2;
      return row.slice(0, half).map((a, i) => a / (1 + Math.exp(-row[half + i]!)));
    }),
  tolerance: close(16, { roundings: 3 }),
  differentiable: [0],
  errors: [...tensorErrors('glu', F.glu), ...dimErrors('glu', (x, dim) => F.glu(x, dim)), { label: 'an odd axis', run: () => F.glu(zeros([2, 3]), 1), code: 'FOVEA_SHAPE', mentions: /glu.*3/s }],
};

const l1Loss: Row = {
  name: 'l1Loss',
  dtypes: FLOATS,
  samples: [[], [1], [5], [3, 4], [131], [2, 3, 4], [70_001]].flatMap((shape, i) => (['mean', 'sum', 'none'] as const).map((reduction) => ({ label: `[${shape}] ${reduction}`, inputs: [{ shape, values: 'distinct' as const }, { shape }], args: { reduction }, gradcheck: i < 4 }))),
  run: ([x, y], args) => F.l1Loss(x!, y!, args),
  reference: ([x, y], { reduction }) => {
    const loss = zip((a, b) => Math.abs(a - b), x!, y!);
    const sum = loss.data.reduce((a, b) => a + b, 0);
    return reduction === 'none' ? loss : new Nd([], [reduction === 'sum' ? sum : sum / loss.size]);
  },
  tolerance: close(512, { roundings: 4 }),
  differentiable: [0, 1],
  errors: [...tensorErrors('l1Loss', F.l1Loss, tensor([1])), { label: 'an unknown reduction', run: () => F.l1Loss(zeros([2]), zeros([2]), { reduction: 'max' as never }), code: 'FOVEA_ARGUMENT', mentions: /reduction/ }],
};

const nllLoss: Row = {
  name: 'nllLoss',
  dtypes: FLOATS,
  samples: [[3, 5], [1, 2], [7, 131], [16, 17], [5, 33]].flatMap(([n, c], i) =>
    (['mean', 'sum', 'none'] as const).map((reduction) => ({ label: `[${n},${c}] ${reduction}`, inputs: [{ shape: [n!, c!] }, { shape: [n!], dtype: 'int64' as const, values: (at: number) => (at * 7) % c! }], args: { reduction }, gradcheck: i < 2 })),
  ),
  run: ([x, t], args) => F.nllLoss(x!, t!, args),
  reference: ([x, t], { reduction }) => {
    const loss = t!.data.map((target, i) => -x!.at([i, target]));
    const sum = loss.reduce((a, b) => a + b, 0);
    return reduction === 'none' ? new Nd([loss.length], loss) : new Nd([], [reduction === 'sum' ? sum : sum / loss.length]);
  },
  tolerance: close(64, { roundings: 4, floor: 1 }),
  differentiable: [0],
  errors: [
    ...tensorErrors('nllLoss', F.nllLoss, tensor([0], { dtype: 'int64' })),
    { label: 'an unknown reduction', run: () => F.nllLoss(zeros([1, 3]), tensor([0], { dtype: 'int64' }), { reduction: 'max' as never }), code: 'FOVEA_ARGUMENT', mentions: /reduction/ },
  ],
};

const oneHot: Row = {
  name: 'oneHot',
  dtypes: ['int64', 'int32', 'uint8'],
  samples: [[], [1], [3], [2, 3], [131], [0], [2, 2, 2], [17], [5, 1], [1, 7], [33], [4, 4]].map((shape) => ({ label: `[${shape}]`, inputs: [{ shape, values: (i: number) => (i * 3) % 5 }], args: { numClasses: 5 } })),
  run: ([x], { numClasses }) => F.oneHot(x!, numClasses as number),
  reference: ([x], { numClasses }) => Nd.from([...x!.shape, numClasses as number], (at) => Number(x!.at(at.slice(0, -1)) === at.at(-1))),
  tolerance: exact,
  errors: [...tensorErrors('oneHot', F.oneHot, 3), { label: 'floats', run: () => F.oneHot(tensor([0.5]), 3), code: 'FOVEA_DTYPE', mentions: /oneHot/ }],
};

const L = (v: unknown): number[] => v as number[];
export const composedRows: Row[] = [
  same('clone'),
  same('contiguous'),
  lerp,
  leakyRelu,
  glu,
  l1Loss,
  nllLoss,
  oneHot,
  shaped('t', [[[2, 3], []], [[1, 4], []], [[5, 5], []], [[3, 2], []], [[0, 3], []], [[17, 33], []], [[1, 1], []]], ([a, b]) => [b!, a!], [], [{ label: 'three axes', run: () => F.t(zeros([1, 2, 3])), code: 'FOVEA_SHAPE', mentions: /t:.*2|axes/ }], ([i, j]) => [j!, i!]),
  shaped('view', [[[6], [[2, 3]]], [[2, 3], [[3, -1]]], [[2, 3, 4], [[24]]], [[1], [[]]], [[], [[1]]], [[0, 3], [[3, 0]]], [[4, 6], [[2, 2, 6]]], [[131], [[1, 131]]], [[8], [[2, 2, 2]]], [[5, 7], [[35]]], [[17], [[17, 1]]], [[2, 2], [[4]]]], (shape, [to]) => L(to).map((n) => (n === -1 ? shape.reduce((a, b) => a * b, 1) / L(to).filter((v) => v !== -1).reduce((a, b) => a * b, 1) : n)), [[2]], [
    { label: 'a layout that no view has', run: () => F.view(zeros([2, 3]).transpose(0, 1), [6]), code: 'FOVEA_LAYOUT', mentions: /view/ },
  ]),
  shaped('unflatten', [[[6], [0, [2, 3]]], [[2, 6], [1, [3, 2]]], [[2, 6], [-1, [2, -1]]], [[4, 3], [0, [2, 2]]], [[131], [0, [131, 1]]], [[0], [0, [0, 2]]], [[1], [0, [1, 1]]], [[12], [0, [2, 3, 2]]], [[3, 8], [-1, [2, 2, 2]]], [[70_001], [0, [1, 70_001]]]], (shape, [dim, sizes]) => {
    const d = ((dim as number) + shape.length) % shape.length;
    const known = L(sizes).filter((n) => n !== -1).reduce((a, b) => a * b, 1);
    return [...shape.slice(0, d), ...L(sizes).map((n) => (n === -1 ? shape[d]! / known : n)), ...shape.slice(d + 1)];
  }, [0, [1]], [{ label: 'sizes that do not multiply up', run: () => F.unflatten(zeros([6]), 0, [4, 2]), code: 'FOVEA_SHAPE', mentions: /unflatten|reshape/ }]),
  shaped('movedim', [[[2, 3], [0, 1]], [[2, 3, 4], [0, 2]], [[2, 3, 4], [-1, 0]], [[2, 3, 4], [1, 1]], [[5], [0, 0]], [[0, 3], [0, 1]], [[17, 33], [1, 0]]], (shape, [a, b]) => moved(shape, a as number, b as number).map((d) => shape[d]!), [0, 0], dimErrors('movedim', (x, dim) => F.movedim(x, dim, 0)), (at, shape, [a, b]) => {
    const source: number[] = [];
    moved(shape, a as number, b as number).forEach((d, i) => {
      source[d] = at[i]!;
    });
    return source;
  }),
  {
    ...shaped('expandAs', [[[1], []], [[3], []], [[2, 1], []], [[1, 3], []], [[], []], [[131], []], [[1, 1], []], [[5, 1], []]], () => [], [zeros([2])], []),
    samples: ([[[1], [4]], [[3], [2, 3]], [[2, 1], [2, 5]], [[1, 3], [4, 3]], [[], [2, 2]], [[131], [131]], [[1, 1], [17, 3]], [[1], [0]], [[5, 1], [5, 1]], [[2, 1, 3], [2, 4, 3]], [[1], [70]], [[3], [1, 1, 3]]] as [number[], number[]][]).map(([a, b], i) => ({ label: `[${a}] as [${b}]`, inputs: [{ shape: a }, { shape: b }], gradcheck: i < 3 })),
    run: ([x, other]) => F.expandAs(x!, other!),
    reference: ([x, other]) => Nd.from(other!.shape, (at) => x!.at(at)),
  },
  shaped('repeat', [[[3], [[2]]], [[2, 3], [[2, 1]]], [[2, 3], [[1, 3]]], [[3], [[2, 2]]], [[1], [[4]]], [[], [[3]]], [[0, 2], [[2, 2]]], [[131], [[2]]], [[2, 2, 2], [[1, 2, 1]]], [[5], [[0]]]], (shape, [times]) => L(times).map((n, i) => n * (shape[i - L(times).length + shape.length] ?? 1)), [[1]], [{ label: 'too few repeats', run: () => F.repeat(zeros([2, 3]), [2]), code: 'FOVEA_ARGUMENT', mentions: /repeat/ }], (at, shape) => at.slice(at.length - shape.length).map((v, d) => v % Math.max(1, shape[d]!))),
  shaped('repeatInterleave', [[[3], [2, 0]], [[2, 3], [2, 1]], [[2, 3], [3, 0]], [[2, 3, 4], [2, -2]], [[1], [4, 0]], [[131], [2, 0]], [[0, 2], [2, 1]], [[5], [1, 0]]], (shape, [n, dim]) => shape.map((size, d) => (d === ((dim as number) + shape.length) % shape.length ? size * (n as number) : size)), [1, 0], dimErrors('repeatInterleave', (x, dim) => F.repeatInterleave(x, 2, dim)), (at, shape, [n, dim]) => at.map((v, d) => (d === ((dim as number) + shape.length) % shape.length ? Math.floor(v / (n as number)) : v))),
  shaped('diagonal', [[[3, 3], []], [[2, 4], []], [[5, 2], []], [[1, 1], []], [[0, 3], []], [[3, 0], []], [[17, 17], []], [[1, 5], []], [[33, 15], []], [[131, 131], []]], (shape) => [...shape.slice(0, -2), Math.min(shape.at(-1)!, shape.at(-2)!)], [], [{ label: 'a vector', run: () => F.diagonal(zeros([3])), code: 'FOVEA_SHAPE', mentions: /diagonal/ }], (at) => [...at, at.at(-1)!]),
];
