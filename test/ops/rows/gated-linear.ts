// Linear layers behind a gate.
import { functional as F, zeros } from 'fovea';
import { tensorErrors } from '../errors.js';
import { matmul, Nd, zip } from '../nd.js';
import { close, type Row } from '../row.js';
import { FLOATS, type Layout, type Sample } from '../samples.js';
import { geluErf, geluTanh } from './elementwise.js';

const activations = {
  silu: (x: number): number => x / (1 + Math.exp(-x)),
  gelu: geluErf,
  geluTanh,
  relu: (x: number): number => (x < 0 ? 0 : x),
  sigmoid: (x: number): number => 1 / (1 + Math.exp(-x)),
};
type Activation = keyof typeof activations;

const linear = (x: Nd, weight: Nd, bias: Nd | undefined): Nd => {
  const y = matmul(x.shape.length === 1 ? x.reshape([1, ...x.shape]) : x, weight.transpose());
  const z = bias ? zip((p, q) => p + q, y, bias) : y;
  return z.reshape([...x.shape.slice(0, -1), weight.shape[0]!]);
};
/** Rows [begin, end) of the first axis. */
const part = (x: Nd | undefined, begin: number, end: number): Nd | undefined =>
  x && Nd.from([end - begin, ...x.shape.slice(1)], ([i, ...rest]) => x.at([i! + begin, ...rest]));

const shapes: [x: number[], n: number, layout?: Layout][] = [
  [[3, 4], 5],
  [[4], 3],
  [[2, 2, 3], 4, 'transposed'],
  [[0, 4], 5],
  [[3, 0], 4],
  [[3, 4], 0],
  [[1, 130], 67],
  [[64, 33], 31, 'offset'],
  [[20, 65], 37, 'step'],
  [[9, 300], 230],
];
const samples: Sample[] = shapes.flatMap(([x, n, layout = 'dense'], i) =>
  (Object.keys(activations) as Activation[]).flatMap((activation, a) =>
    [true, false].map((apart) => {
      const bias = (i + a) % 2 === 0;
      const rows = apart ? n : 2 * n;
      const weight = { shape: [rows, x.at(-1)!], layout };
      return {
        label: `[${x}] n ${n} ${activation} ${apart ? 'apart' : 'in one'} bias ${bias} ${layout}`,
        inputs: [
          { shape: x },
          weight,
          ...(apart ? [weight] : []),
          ...(bias ? Array.from({ length: apart ? 2 : 1 }, () => ({ shape: [rows] })) : []),
        ],
        args: { activation, apart },
        gradcheck: i < 3,
      };
    }),
  ),
);

export const gatedLinear: Row = {
  name: 'gatedLinear',
  dtypes: FLOATS,
  samples,
  run: ([x, gate, ...rest], { activation, apart }) => {
    const up = apart ? rest.shift() : null;
    const [gateBias = null, upBias = null] = rest;
    return F.gatedLinear(x!, gate!, up, { activation: activation as Activation, gateBias, upBias });
  },
  reference: ([x, gate, ...rest], { activation, apart }) => {
    const up = apart ? rest.shift() : undefined;
    const [gateBias, upBias] = rest;
    const n = gate!.shape[0]! / (up ? 1 : 2);
    const g = linear(x!, part(gate, 0, n)!, part(gateBias, 0, n)).map(activations[activation as Activation]);
    return zip((p, q) => p * q, g, linear(x!, up ?? part(gate, n, 2 * n)!, up ? upBias : part(gateBias, n, 2 * n)));
  },
  // Errors of the two products reach the result multiplied by the other: a share of the largest, and two roundings
  // more.
  tolerance: close(256, { roundings: 4 }),
  differentiable: [0, 1, 2, 3, 4],
  errors: [
    ...tensorErrors('gatedLinear', F.gatedLinear, zeros([3, 2])),
    {
      label: 'a weight that is no tensor',
      run: () => F.gatedLinear(zeros([2, 3]), 'w' as never),
      code: 'FOVEA_ARGUMENT',
      mentions: /gatedLinear.*gateWeight/,
    },
    {
      label: 'widths differ',
      run: () => F.gatedLinear(zeros([2, 3]), zeros([4, 5])),
      code: 'FOVEA_SHAPE',
      mentions: /gatedLinear: x \[\.\.\.,3\] needs a gateWeight \[n,3\], received \[4,5\]/,
    },
    {
      label: 'weights of different sizes',
      run: () => F.gatedLinear(zeros([2, 3]), zeros([4, 3]), zeros([5, 3])),
      code: 'FOVEA_SHAPE',
      mentions: /gatedLinear: .*\[4,3\].*upWeight.*\[5,3\]/,
    },
    {
      label: 'an odd number of rows for both',
      run: () => F.gatedLinear(zeros([2, 3]), zeros([5, 3])),
      code: 'FOVEA_SHAPE',
      mentions: /gatedLinear: without an upWeight.*\[2n,k\].*\[5,3\]/,
    },
    {
      label: 'a bias of another size',
      run: () => F.gatedLinear(zeros([2, 3]), zeros([4, 3]), zeros([4, 3]), { upBias: zeros([3]) }),
      code: 'FOVEA_SHAPE',
      mentions: /gatedLinear: .*upBias \[4\], received \[3\]/,
    },
    {
      label: 'a bias of a weight that is not there',
      run: () => F.gatedLinear(zeros([2, 3]), zeros([4, 3]), null, { upBias: zeros([2]) }),
      code: 'FOVEA_ARGUMENT',
      mentions: /gatedLinear: .*upBias.*gateBias \[2n\]/,
    },
    {
      label: 'an unknown activation',
      run: () => F.gatedLinear(zeros([2, 3]), zeros([4, 3]), null, { activation: 'tanh' as never }),
      code: 'FOVEA_ARGUMENT',
      mentions:
        /gatedLinear: expected 'silu', 'gelu', 'geluTanh', 'relu' or 'sigmoid' for activation, received string "tanh"/,
    },
    {
      label: 'integers',
      run: () => F.gatedLinear(zeros([2, 3], { dtype: 'int32' }), zeros([4, 3], { dtype: 'int32' })),
      code: 'FOVEA_DTYPE',
      mentions: /gatedLinear: expected floats, received int32.*float32/,
    },
    {
      label: 'a misspelt option',
      run: () => F.gatedLinear(zeros([2, 3]), zeros([4, 3]), null, { bias: null } as never),
      code: 'FOVEA_ARGUMENT',
      mentions: /gatedLinear: .*bias/,
    },
    {
      label: '0-d',
      run: () => F.gatedLinear(zeros([]), zeros([2, 1])),
      code: 'FOVEA_SHAPE',
      mentions: /gatedLinear: .*0-d/,
    },
  ],
};
