// Ops that are short for others.
import { functional as F, tensor, zeros } from 'fovea';
import { broadcastErrors, dimErrors, tensorErrors } from '../errors.js';
import { alongAxis, Nd, zip } from '../nd.js';
import { close, exact, type Row } from '../row.js';
import { binarySamples, FLOATS, INTS, unarySamples } from '../samples.js';

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
  samples: unarySamples('distinct').flatMap((s) => [
    s,
    { ...s, label: `${s.label} 0.2`, args: { negativeSlope: 0.2 } },
  ]),
  run: ([x], args) => F.leakyRelu(x!, args),
  reference: ([x], { negativeSlope = 0.01 }) => x!.map((v) => (v > 0 ? v : v * (negativeSlope as number))),
  tolerance: close(4, { roundings: 2 }),
  differentiable: [0],
  errors: tensorErrors('leakyRelu', F.leakyRelu),
};

const glu: Row = {
  name: 'glu',
  dtypes: FLOATS,
  samples: (
    [
      [[4], 0],
      [[2, 6], 1],
      [[2, 6], 0],
      [[2, 3, 4], -1],
      [[2], 0],
      [[131, 2], 1],
      [[34, 3], 0],
      [[5, 30], -1],
      [[0, 4], 1],
      [[1, 2], 1],
      [[7, 16], 1],
      [[4, 4, 4], 1],
    ] as [number[], number][]
  ).map(([shape, dim], i) => ({
    label: `[${shape}] dim ${dim}`,
    inputs: [{ shape }],
    args: { dim },
    gradcheck: i < 4,
  })),
  run: ([x], { dim }) => F.glu(x!, dim as number),
  reference: ([x], { dim }) =>
    alongAxis(x!, dim as number, (row) => {
      const half = row.length / 2;
      return row.slice(0, half).map((a, i) => a / (1 + Math.exp(-row[half + i]!)));
    }),
  tolerance: close(16, { roundings: 3 }),
  differentiable: [0],
  errors: [
    ...tensorErrors('glu', F.glu),
    ...dimErrors('glu', (x, dim) => F.glu(x, dim)),
    { label: 'an odd axis', run: () => F.glu(zeros([2, 3]), 1), code: 'FOVEA_SHAPE', mentions: /glu.*3/s },
  ],
};

const oneHot: Row = {
  name: 'oneHot',
  dtypes: ['int64', 'int32', 'uint8'],
  samples: [[], [1], [3], [2, 3], [131], [0], [2, 2, 2], [17], [5, 1], [1, 7], [33], [4, 4]].map((shape) => ({
    label: `[${shape}]`,
    inputs: [{ shape, values: (i: number) => (i * 3) % 5 }],
    args: { numClasses: 5 },
  })),
  run: ([x], { numClasses }) => F.oneHot(x!, numClasses as number),
  reference: ([x], { numClasses }) =>
    Nd.from([...x!.shape, numClasses as number], (at) => Number(x!.at(at.slice(0, -1)) === at.at(-1))),
  tolerance: exact,
  errors: [
    ...tensorErrors('oneHot', F.oneHot, 3),
    {
      label: 'no such class',
      run: () => F.oneHot(tensor([3], { dtype: 'int64' }), 3).dataSync(),
      code: 'FOVEA_INDEX',
      mentions: /holds 3.*3/s,
    },
    { label: 'floats', run: () => F.oneHot(tensor([0.5]), 3), code: 'FOVEA_DTYPE', mentions: /oneHot/ },
  ],
};

export const composedRows: Row[] = [same('clone'), same('contiguous'), lerp, leakyRelu, glu, oneHot];
