// Matrix products.
import { functional as F, tensor, zeros } from 'fovea';
import { tensorErrors } from '../errors.js';
import { matmul, Nd, zip } from '../nd.js';
import type { Args, ErrorCase, Row, Tolerance } from '../row.js';
import { FLOATS, type InputSpec, type Layout, type Sample } from '../samples.js';
import { geluErf, geluTanh } from './elementwise.js';

const asMatrices = (a: Nd, b: Nd): { a: Nd; b: Nd; drop: (c: Nd) => Nd } => {
  const left = a.shape.length === 1;
  const right = b.shape.length === 1;
  return {
    a: left ? a.reshape([1, ...a.shape]) : a,
    b: right ? b.reshape([...b.shape, 1]) : b,
    drop: (c) =>
      c.reshape(c.shape.filter((_, i) => !(left && i === c.shape.length - 2) && !(right && i === c.shape.length - 1))),
  };
};
const activations = {
  gelu: geluErf,
  geluTanh,
  relu: (x: number): number => (x < 0 ? 0 : x),
  silu: (x: number): number => x / (1 + Math.exp(-x)),
};
/** What `args.activation` makes of a result. */
const activated = (c: Nd, { activation }: Args): Nd =>
  activation === undefined ? c : c.map(activations[activation as keyof typeof activations]);
/** A gelu magnifies errors 1.13 times, and may be 4 units in the last place off itself. */
const magnified = (c: Nd, { args }: Sample): Nd => (args?.['activation'] === undefined ? c : c.map((v) => 3 * v));
const activationErrors = (name: string, run: (options: never, dtype: 'float32' | 'int32') => unknown): ErrorCase[] => [
  {
    label: 'an unknown activation',
    run: () => run({ activation: 'tanh' } as never, 'float32'),
    code: 'FOVEA_ARGUMENT',
    mentions: new RegExp(
      `${name}: expected 'gelu', 'geluTanh', 'relu' or 'silu' for activation, received string "tanh"`,
    ),
  },
  {
    label: 'an activation that is no string',
    run: () => run({ activation: 1 } as never, 'float32'),
    code: 'FOVEA_ARGUMENT',
    mentions: new RegExp(`${name}: .*for activation, received 1`),
  },
  {
    label: 'an activation of integers',
    run: () => run({ activation: 'gelu' } as never, 'int32'),
    code: 'FOVEA_ARGUMENT',
    mentions: new RegExp(`${name}: activation 'gelu' .*int32`),
  },
  {
    label: 'a misspelt option',
    run: () => run({ activaton: 'gelu' } as never, 'float32'),
    code: 'FOVEA_ARGUMENT',
    mentions: new RegExp(`${name}: .*activaton`),
  },
];
const multiply = (x: Nd, y: Nd): Nd => {
  const { a, b, drop } = asMatrices(x, y);
  return drop(matmul(a, b));
};
const magnitude = (a: Nd, b: Nd): Nd => multiply(a.map(Math.abs), b.map(Math.abs));
const product: Tolerance = {
  kind: 'sum',
  k: (s) => s.inputs[0]!.shape.at(-1)! + 1,
  magnitude: ([a, b]) => magnitude(a!, b!),
};

const pair = (a: number[], b: number[], la?: Layout, lb?: Layout, gradcheck = false): Sample => {
  const input = (shape: number[], layout?: Layout): InputSpec => ({ shape, ...(layout ? { layout } : {}) });
  return { label: `[${a}] ${la ?? ''} x [${b}] ${lb ?? ''}`, inputs: [input(a, la), input(b, lb)], gradcheck };
};

const matmulRow: Row = {
  name: 'matmul',
  dtypes: [...FLOATS, 'int32', 'int64'],
  samples: [
    pair([1, 1], [1, 1]),
    pair([3, 4], [4, 5], undefined, undefined, true),
    pair([15, 33], [33, 17]),
    pair([113, 95], [95, 61]),
    pair([7, 513], [513, 31]),
    pair([5, 3], [3, 4], 'transposed', undefined, true),
    pair([37, 19], [19, 23], undefined, 'transposed'),
    pair([37, 19], [19, 23], 'transposed', 'transposed'),
    pair([9, 21], [21, 6], 'offset', 'step'),
    pair([8, 5], [5, 9], 'expanded', 'misaligned'),
    pair([2, 3, 4], [2, 4, 3], undefined, undefined, true),
    pair([2, 1, 3, 5], [4, 5, 2]),
    pair([3, 2, 4], [4, 5], undefined, undefined, true),
    pair([5, 6], [3, 6, 2]),
    pair([4], [4], undefined, undefined, true),
    pair([4], [4, 3]),
    pair([2, 3, 4], [4]),
    pair([0, 4], [4, 3]),
    pair([2, 0], [0, 3]),
    pair([3, 4], [4, 0]),
    pair([0, 2, 3], [0, 3, 2]),
    pair([1, 700], [700, 65]),
    pair([2, 130], [130, 257], undefined, 'transposed'),
  ],
  run: ([a, b]) => F.matmul(a!, b!),
  reference: ([a, b]) => multiply(a!, b!),
  tolerance: product,
  differentiable: [0, 1],
  errors: [
    ...tensorErrors('matmul', F.matmul, tensor([1, 2])),
    {
      label: 'inner sizes differ',
      run: () => F.matmul(zeros([2, 3]), zeros([4, 5])),
      code: 'FOVEA_SHAPE',
      mentions: /matmul.*k=4.*k=3/s,
    },
    {
      label: 'batches differ',
      run: () => F.matmul(zeros([2, 2, 3]), zeros([3, 3, 2])),
      code: 'FOVEA_SHAPE',
      mentions: /matmul.*broadcast/s,
    },
    { label: '0-d', run: () => F.matmul(tensor(1), zeros([2])), code: 'FOVEA_SHAPE', mentions: /matmul/ },
  ],
};

const addmm: Row = {
  name: 'addmm',
  dtypes: FLOATS,
  samples: [
    [
      [3, 5],
      [3, 4],
      [4, 5],
    ],
    [[5], [3, 4], [4, 5]],
    [
      [3, 1],
      [3, 4],
      [4, 5],
    ],
    [[], [2, 3], [3, 2]],
    [
      [1, 5],
      [0, 4],
      [4, 5],
    ],
    [
      [3, 5],
      [3, 0],
      [0, 5],
    ],
    [[17], [33, 65], [65, 17]],
    [
      [9, 1],
      [9, 31],
      [31, 40],
    ],
  ].flatMap(([c, a, b], i) =>
    [{}, { alpha: 0.5, beta: 2 }, { alpha: 0.5, activation: 'geluTanh' }, { beta: 2, activation: 'silu' }].map(
      (args) => ({
        label: `[${c}] + [${a}] [${b}] ${JSON.stringify(args)}`,
        inputs: [{ shape: c! }, { shape: a! }, { shape: b!, ...(i % 2 ? { layout: 'transposed' as const } : {}) }],
        args,
        gradcheck: i < 4,
      }),
    ),
  ),
  run: ([c, a, b], args) => F.addmm(c!, a!, b!, args),
  reference: ([c, a, b], { alpha = 1, beta = 1, ...rest }) =>
    activated(
      zip((x, y) => (alpha as number) * x + (beta as number) * y, matmul(a!, b!), c!),
      rest,
    ),
  tolerance: {
    kind: 'sum',
    k: (s) => s.inputs[1]!.shape.at(-1)! + 2,
    magnitude: ([c, a, b], s) =>
      magnified(
        zip((x, y) => x + 2 * Math.abs(y), magnitude(a!, b!), c!),
        s,
      ),
  },
  differentiable: [0, 1, 2],
  errors: [
    ...tensorErrors('addmm', F.addmm, zeros([2, 2]), zeros([2, 2])),
    ...activationErrors('addmm', (options, dtype) => {
      const [c, a, b] = [zeros([2], { dtype }), zeros([2, 2], { dtype }), zeros([2, 2], { dtype })];
      return F.addmm(c, a, b, options);
    }),
    {
      label: 'a batch',
      run: () => F.addmm(zeros([2]), zeros([2, 2, 2]), zeros([2, 2])),
      code: 'FOVEA_SHAPE',
      mentions: /addmm/,
    },
  ],
};

const residualLayouts: readonly Layout[] = ['dense', 'step'];
const linear: Row = {
  name: 'linear',
  dtypes: FLOATS,
  samples: [
    [
      [3, 4],
      [5, 4],
    ],
    [[4], [5, 4]],
    [
      [2, 3, 4],
      [5, 4],
    ],
    [
      [0, 4],
      [5, 4],
    ],
    [
      [1, 130],
      [67, 130],
    ],
    [
      [64, 33],
      [31, 33],
    ],
    [
      [2, 1, 3, 8],
      [1, 8],
    ],
    [
      [3, 0],
      [5, 0],
    ],
    [
      [20, 1030],
      [37, 1030],
    ],
  ].flatMap(([x, w], i) =>
    [true, false].flatMap((bias) =>
      [undefined, 'gelu', 'geluTanh', 'relu', 'silu'].flatMap((activation) =>
        (bias ? [undefined, ...residualLayouts] : [undefined]).map((layout) => ({
          label: `[${x}] [${w}] bias ${bias} ${activation ?? ''} ${layout ? `residual ${layout}` : ''}`,
          inputs: [
            { shape: x! },
            { shape: w! },
            ...(bias ? [{ shape: [w![0]!] }] : []),
            ...(layout ? [{ shape: [...x!.slice(0, -1), w![0]!], layout }] : []),
          ],
          args: activation ? { activation } : {},
          gradcheck: i < 3,
        })),
      ),
    ),
  ),
  run: ([x, w, b, residual], args) => F.linear(x!, w!, b, { ...args, ...(residual ? { residual } : {}) }),
  reference: ([x, w, b, residual], args) => {
    const y = multiply(x!, w!.transpose());
    const z = activated(b ? zip((p, q) => p + q, y, b) : y, args);
    return residual ? zip((p, q) => p + q, z, residual) : z;
  },
  tolerance: {
    kind: 'sum',
    k: (s) => s.inputs[0]!.shape.at(-1)! + 1,
    magnitude: ([x, w, b, residual], s) => {
      const none = new Nd([], [0]);
      const z = magnified(
        zip((p, q) => p + Math.abs(q), magnitude(x!, w!.transpose()), b ?? none),
        s,
      );
      return zip((p, q) => p + Math.abs(q), z, residual ?? none);
    },
  },
  differentiable: [0, 1, 2, 3],
  errors: [
    ...tensorErrors('linear', F.linear, zeros([3, 2])),
    ...activationErrors('linear', (options, dtype) =>
      F.linear(zeros([2, 3], { dtype }), zeros([4, 3], { dtype }), null, options),
    ),
    {
      label: 'a residual of another shape',
      run: () => F.linear(zeros([2, 3]), zeros([5, 3]), null, { residual: zeros([5]) }),
      code: 'FOVEA_SHAPE',
      mentions: /linear.*\[2,5\].*residual.*\[5\].*expand/s,
    },
    {
      label: 'a residual that is no tensor',
      run: () => F.linear(zeros([2, 3]), zeros([5, 3]), null, { residual: 1 as never }),
      code: 'FOVEA_ARGUMENT',
      mentions: /linear.*residual/s,
    },
    {
      label: 'widths differ',
      run: () => F.linear(zeros([2, 3]), zeros([5, 4])),
      code: 'FOVEA_SHAPE',
      mentions: /3.*4|4.*3/s,
    },
  ],
};

/** Sums over every assignment of the letters: what an einsum means. */
function einsumReference(equation: string, operands: Nd[]): Nd {
  const [left = '', right = ''] = equation.replaceAll(' ', '').split('->');
  const terms = left.split(',');
  const sizes = new Map<string, number>();
  terms.forEach((term, i) => [...term].forEach((letter, d) => sizes.set(letter, operands[i]!.shape[d]!)));
  const summed = [...sizes.keys()].filter((letter) => !right.includes(letter));
  return Nd.from(
    [...right].map((l) => sizes.get(l)!),
    (index) => {
      const at = new Map([...right].map((l, i) => [l, index[i]!]));
      const walk = (depth: number): number => {
        if (depth === summed.length)
          return operands.reduce((p, o, i) => p * o.at([...terms[i]!].map((l) => at.get(l)!)), 1);
        let total = 0;
        for (let v = 0; v < sizes.get(summed[depth]!)!; v++) {
          at.set(summed[depth]!, v);
          total += walk(depth + 1);
        }
        return total;
      };
      return walk(0);
    },
  );
}
const einsum: Row = {
  name: 'einsum',
  dtypes: ['float32', 'float64'],
  samples: (
    [
      ['ij,jk->ik', [2, 3], [3, 4]],
      ['ij->ji', [2, 3]],
      ['ij->', [2, 3]],
      ['ij->j', [2, 3]],
      ['i,j->ij', [3], [4]],
      ['bij,bjk->bik', [2, 3, 4], [2, 4, 2]],
      ['ii->i', [3, 3]],
      ['ii->', [3, 3]],
      ['bhid,bhjd->bhij', [1, 2, 3, 4], [1, 2, 5, 4]],
      ['ij,ij->', [2, 3], [2, 3]],
      ['ij,kj->ik', [2, 3], [4, 3]],
      ['i,i->', [5], [5]],
      ['abc,cd,de->abe', [2, 2, 3], [3, 2], [2, 2]],
      ['ij,jk->ik', [0, 3], [3, 2]],
    ] as [string, ...number[][]][]
  ).map(([equation, ...shapes], i) => ({
    label: `${equation} ${shapes.map((s) => `[${s}]`).join(' ')}`,
    inputs: shapes.map((shape) => ({ shape })),
    args: { equation },
    gradcheck: i < 13,
  })),
  run: (x, { equation }: Args) => F.einsum(equation as string, ...x),
  reference: (x, { equation }) => einsumReference(equation as string, x),
  tolerance: { kind: 'close', eps: 64 },
  differentiable: [0, 1, 2],
  errors: [
    {
      label: 'no arrow and no operand',
      run: () => F.einsum('ij,jk->ik', zeros([2, 2])),
      code: 'FOVEA_ARGUMENT',
      mentions: /einsum.*operand|einsum.*2/s,
    },
    { label: 'rank differs', run: () => F.einsum('ij->i', zeros([2])), code: 'FOVEA_SHAPE', mentions: /einsum/ },
    {
      label: 'sizes differ',
      run: () => F.einsum('ij,jk->ik', zeros([2, 3]), zeros([4, 2])),
      code: 'FOVEA_SHAPE',
      mentions: /einsum.*j/s,
    },
    {
      label: 'an unknown output letter',
      run: () => F.einsum('ij->k', zeros([2, 3])),
      code: 'FOVEA_ARGUMENT',
      mentions: /einsum.*k/s,
    },
    {
      label: 'not a string',
      run: () => F.einsum(3 as never, zeros([2, 3])),
      code: 'FOVEA_ARGUMENT',
      mentions: /einsum/,
    },
  ],
};

export const linearRows: Row[] = [matmulRow, addmm, linear, einsum];
