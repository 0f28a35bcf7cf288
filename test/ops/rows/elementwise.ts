// y[i] = f(x[i]) and c[i] = f(a[i], b[i]).
import { type Dtype, functional as F, type Tensor, tensor } from 'fovea';
import { broadcastErrors, tensorErrors } from '../errors.js';
import { erf, erfcOfPositive, zip } from '../nd.js';
import { type Args, exact, exactButZero, type Row, type Tolerance, ulp } from '../row.js';
import { binarySamples, FLOATS, INTS, isFloat, roundTo, type Sample, unarySamples, type Values } from '../samples.js';

type Unary = (x: Tensor) => Tensor;
type Binary = (a: Tensor, b: Tensor) => Tensor;

interface UnaryOptions {
  domain?: Values;
  special?: boolean;
  dtypes?: readonly Dtype[];
  tolerance?: Tolerance;
  differentiable?: boolean;
}
function unary(name: string, f: (x: number) => number, o: UnaryOptions = {}): Row {
  const op = (F as unknown as Record<string, Unary>)[name]!;
  return {
    name,
    dtypes: o.dtypes ?? FLOATS,
    samples: unarySamples(o.domain, o.special),
    run: ([x]) => op(x!),
    reference: ([x]) => x!.map(f),
    tolerance: o.tolerance ?? ulp(4),
    errors: tensorErrors(name, op),
    ...(o.differentiable === false ? {} : { differentiable: [0] }),
  };
}

const GELU_C = Math.sqrt(2 / Math.PI);
const roundHalfEven = (x: number): number => {
  const r = Math.round(x);
  const even = Math.abs(x % 1) === 0.5 ? 2 * Math.round(x / 2) : r;
  return even === 0 && (x < 0 || Object.is(x, -0)) ? -0 : even;
};
const numbers = [...FLOATS, 'int32', 'int64', 'int8'] as const;
const all: readonly Dtype[] = [...FLOATS, ...INTS, 'bool'];
const kept = { tolerance: exact, dtypes: numbers };
const flat = { tolerance: exact, differentiable: false };

/** 1/2 erfc(-x / sqrt 2), without cancellation for negative x. */
const normalCdf = (x: number): number => {
  const a = Math.abs(x) / Math.SQRT2;
  if (Number.isNaN(x) || a < 0.5) return 0.5 * (1 + erf(x / Math.SQRT2));
  const tail = erfcOfPositive(a, x) / 2;
  return x < 0 ? tail : 1 - tail;
};
const sigmoid = (x: number): number => (x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x)));
export const geluErf = (x: number): number => x * normalCdf(x);
export const geluTanh = (x: number): number => x * sigmoid(2 * GELU_C * (x + 0.044715 * x ** 3));

const unaryRows: Row[] = [
  unary('neg', (x) => -x, kept),
  unary('abs', Math.abs, kept),
  unary('sign', (x) => (x > 0 ? 1 : x < 0 ? -1 : x === 0 ? 0 : x), { ...kept, tolerance: exact }),
  unary('square', (x) => x * x, { ...kept, tolerance: ulp(1) }),
  unary('relu', (x) => (Number.isNaN(x) ? x : Math.max(x, 0)), { ...kept, tolerance: exactButZero }),
  unary('floor', Math.floor, { ...flat, dtypes: numbers }),
  unary('ceil', Math.ceil, { ...flat, dtypes: numbers }),
  unary('trunc', Math.trunc, { ...flat, dtypes: numbers }),
  unary('round', roundHalfEven, { ...flat, dtypes: numbers }),
  unary('exp', Math.exp),
  unary('expm1', Math.expm1),
  unary('log', Math.log, { domain: 'positive' }),
  unary('log1p', Math.log1p, { domain: 'unit' }),
  unary('log2', Math.log2, { domain: 'positive' }),
  unary('sqrt', Math.sqrt, { domain: 'positive' }),
  unary('rsqrt', (x) => 1 / Math.sqrt(x), { domain: 'positive' }),
  unary('reciprocal', (x) => 1 / x, { domain: 'positive' }),
  unary('sin', Math.sin),
  unary('cos', Math.cos),
  unary('tanh', Math.tanh),
  unary('sigmoid', sigmoid),
  unary('erf', erf),
  unary('silu', (x) => x * sigmoid(x)),
  unary('softplus', (x) => (x > 20 ? x : Math.log1p(Math.exp(x)))),
  unary('logSigmoid', (x) => (x >= 0 ? -Math.log1p(Math.exp(-x)) : x - Math.log1p(Math.exp(x)))),
  unary('isNan', (x) => Number(Number.isNaN(x)), { ...flat, dtypes: all }),
  unary('isFinite', (x) => Number(Number.isFinite(x)), { ...flat, dtypes: all }),
  unary('logicalNot', (x) => Number(x === 0), { ...flat, dtypes: all }),
];

const gelu: Row = {
  ...unary('gelu', () => 0),
  samples: ['none', 'tanh'].flatMap((approximate) =>
    unarySamples().map((s) => ({ ...s, label: `${approximate}, ${s.label}`, args: { approximate } })),
  ),
  run: ([x], { approximate }) => F.gelu(x!, { approximate: approximate as 'none' | 'tanh' }),
  reference: ([x], { approximate }) => x!.map(approximate === 'tanh' ? geluTanh : geluErf),
};

interface BinaryOptions {
  left?: Values;
  right?: Values;
  special?: boolean;
  dtypes?: readonly Dtype[];
  tolerance?: Tolerance;
  differentiable?: boolean;
}
function binary(name: string, f: (a: number, b: number) => number, o: BinaryOptions = {}): Row {
  const op = (F as unknown as Record<string, Binary>)[name]!;
  return {
    name,
    dtypes: o.dtypes ?? [...FLOATS, 'int32', 'int64', 'int8'],
    samples: [...binarySamples(o.left, o.right ?? o.left, o.special), ...scalarSamples(o.left ?? 'normal')],
    run: ([a, b], { scalar }) => (b ? op(a!, b) : op(a!, scalar as never)),
    reference: ([a, b], { scalar }: Args) => (b ? zip(f, a!, b) : a!.map((v) => f(v, scalar as number))),
    tolerance: o.tolerance ?? ulp(1),
    errors: [...tensorErrors(name, op, tensor([1])), ...broadcastErrors(name, op)],
    ...(o.differentiable === false ? {} : { differentiable: [0, 1] }),
  };
}
const scalarSamples = (values: Values): Sample[] => [
  { label: 'a number', inputs: [{ shape: [3, 5], values }], args: { scalar: 2 } },
  { label: 'a number, transposed', inputs: [{ shape: [13, 5], values, layout: 'transposed' }], args: { scalar: 3 } },
];

/** Sign of the divisor, as Python's %. */
const remainder = (a: number, b: number): number => {
  if (b === 0) return Number.NaN;
  if (!Number.isFinite(b)) return Number.isFinite(a) ? (a === 0 || a < 0 === b < 0 ? a : b) : Number.NaN;
  const r = a % b;
  return r !== 0 && r < 0 !== b < 0 ? r + b : r;
};
const maximum = (a: number, b: number): number => (Number.isNaN(a) || Number.isNaN(b) ? Number.NaN : Math.max(a, b));
const minimum = (a: number, b: number): number => (Number.isNaN(a) || Number.isNaN(b) ? Number.NaN : Math.min(a, b));
const truth = { dtypes: all, tolerance: exact, differentiable: false };
const nonzero: Values = (i) => (i % 3 === 0 ? -2 : 1 + (i % 4));

const binaryRows: Row[] = [
  binary('add', (a, b) => a + b),
  binary('sub', (a, b) => a - b),
  binary('mul', (a, b) => a * b),
  binary('div', (a, b) => a / b, { right: 'positive', dtypes: FLOATS }),
  binary('pow', (a, b) => (a === 1 || b === 0 ? 1 : a ** b), {
    left: 'positive',
    right: 'normal',
    dtypes: FLOATS,
    tolerance: ulp(4),
    special: false,
  }),
  binary('maximum', maximum, { left: 'distinct', tolerance: exactButZero }),
  binary('minimum', minimum, { left: 'distinct', tolerance: exactButZero }),
  binary('remainder', remainder, {
    left: 'smallInt',
    right: nonzero,
    tolerance: exact,
    differentiable: false,
    special: false,
  }),
  binary('floorDivide', (a, b) => Math.floor(a / b), {
    left: 'smallInt',
    right: nonzero,
    tolerance: exact,
    differentiable: false,
    special: false,
  }),
  binary('atan2', Math.atan2, { left: 'positive', dtypes: FLOATS, tolerance: ulp(4) }),
  binary('eq', (a, b) => Number(a === b), { left: 'smallInt', ...truth }),
  binary('ne', (a, b) => Number(a !== b), { left: 'smallInt', ...truth }),
  binary('lt', (a, b) => Number(a < b), { left: 'smallInt', ...truth }),
  binary('le', (a, b) => Number(a <= b), { left: 'smallInt', ...truth }),
  binary('gt', (a, b) => Number(a > b), { left: 'smallInt', ...truth }),
  binary('ge', (a, b) => Number(a >= b), { left: 'smallInt', ...truth }),
  ...(['logicalAnd', 'logicalOr', 'logicalXor'] as const).map((name) =>
    binary(
      name,
      {
        logicalAnd: (a: number, b: number) => Number(!!b && !!a),
        logicalOr: (a: number, b: number) => Number(isTrue(a) || isTrue(b)),
        logicalXor: (a: number, b: number) => Number(isTrue(a) !== isTrue(b)),
      }[name],
      {
        left: 'smallInt',
        special: false,
        ...truth,
      },
    ),
  ),
].map((row) =>
  row.name.startsWith('logical') ? { ...row, samples: row.samples.filter((s) => s.inputs.length === 2) } : row,
);
function isTrue(x: number): boolean {
  return x !== 0;
}

const where: Row = {
  name: 'where',
  dtypes: [...FLOATS, 'int32', 'bool'],
  samples: binarySamples('normal', 'normal', false).map((s) => ({
    ...s,
    inputs: [{ shape: s.inputs[1]!.shape, dtype: 'bool' as const, values: 'bool' as const }, ...s.inputs],
  })),
  run: ([c, a, b]) => F.where(c!, a!, b!),
  reference: ([c, a, b]) => zip((m, x, y) => (m ? x : y), c!, a!, b!),
  tolerance: exact,
  differentiable: [1, 2],
  errors: [
    ...tensorErrors('where', F.where, tensor([1]), tensor([2])),
    {
      label: 'a condition that is not bool',
      run: () => F.where(tensor([1, 0]), tensor([1, 2]), tensor([3, 4])),
      code: 'FOVEA_DTYPE',
      mentions: /where.*condition/s,
    },
  ],
};

const maskedFill: Row = {
  name: 'maskedFill',
  dtypes: [...FLOATS, 'int32', 'int64'],
  samples: unarySamples('normal', true).map((s) => ({
    ...s,
    inputs: [...s.inputs, { shape: s.inputs[0]!.shape, dtype: 'bool' as const }],
    args: { value: -3 },
  })),
  run: ([x, m], { value }) => F.maskedFill(x!, m!, value as number),
  reference: ([x, m], { value }) => zip((v, b) => (b ? (value as number) : v), x!, m!),
  tolerance: exact,
  differentiable: [0],
  errors: [
    ...tensorErrors('maskedFill', F.maskedFill, tensor([true]), 0),
    {
      label: 'a mask that is not bool',
      run: () => F.maskedFill(tensor([1, 2]), tensor([1, 0]), 0),
      code: 'FOVEA_DTYPE',
      mentions: /maskedFill|where/,
    },
  ],
};

const clamp: Row = {
  name: 'clamp',
  dtypes: [...FLOATS, 'int32', 'int64'],
  samples: [{ min: -0.5, max: 0.75 }, { min: 0 }, { max: 1 }].flatMap((args) =>
    unarySamples('distinct').map((s) => ({ ...s, label: `${JSON.stringify(args)} ${s.label}`, args })),
  ),
  run: ([x], args) => F.clamp(x!, args),
  reference: ([x], { min = Number.NEGATIVE_INFINITY, max = Number.POSITIVE_INFINITY }: Args, dtype) => {
    const bound = (b: unknown): number =>
      isFloat(dtype)
        ? roundTo(dtype, b as number)
        : Number.isFinite(b as number)
          ? Math.trunc(b as number)
          : (b as number);
    return x!.map((v) => (Number.isNaN(v) ? v : Math.min(Math.max(v, bound(min)), bound(max))));
  },
  tolerance: exactButZero,
  differentiable: [0],
  errors: [
    ...tensorErrors('clamp', F.clamp, { min: 0 }),
    { label: 'no bound', run: () => F.clamp(tensor([1]), {}), code: 'FOVEA_ARGUMENT', mentions: /clamp.*min.*max/s },
  ],
};

const triangle = (name: 'tril' | 'triu', keep: (row: number, column: number, diagonal: number) => boolean): Row => ({
  name,
  dtypes: [...FLOATS, 'int32', 'bool'],
  samples: [
    [[3, 3], 0],
    [[5, 7], 0],
    [[7, 5], 1],
    [[4, 4], -2],
    [[2, 3, 4], 0],
    [[0, 4], 0],
    [[4, 0], 0],
    [[1, 1], 0],
    [[17, 33], 3],
    [[6, 6], -9],
    [[6, 6], 9],
    [[2, 1, 31, 33], -1],
  ].map(([shape, diagonal], i) => ({
    label: `[${shape}] ${diagonal}`,
    inputs: [{ shape: shape as number[], layout: i % 3 === 2 ? ('transposed' as const) : ('dense' as const) }],
    args: { diagonal },
    gradcheck: i < 3,
  })),
  run: ([x], { diagonal }) => F[name](x!, diagonal as number),
  reference: ([x], { diagonal }) => {
    const columns = x!.shape.at(-1)!;
    const rows = x!.shape.at(-2)!;
    let i = 0;
    return x!.map((v) => {
      const at = i++;
      return keep(Math.floor(at / columns) % rows, at % columns, diagonal as number) ? v : 0;
    });
  },
  tolerance: exact,
  differentiable: [0],
  errors: [
    ...tensorErrors(name, F[name]),
    { label: 'a vector', run: () => F[name](tensor([1, 2])), code: 'FOVEA_SHAPE', mentions: /axes|dimension/ },
  ],
});

export const elementwiseRows: Row[] = [
  ...unaryRows,
  gelu,
  ...binaryRows,
  where,
  maskedFill,
  clamp,
  triangle('tril', (r, c, d) => c <= r + d),
  triangle('triu', (r, c, d) => c >= r + d),
];
