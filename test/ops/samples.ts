// Builds the inputs of a sample twice: as a tensor in the wanted layout and dtype, and as a float64 array.
import { type Dtype, functional as F, type HostArray, type Tensor, tensor } from 'fovea';
import { device } from '../helpers.js';
import { count, indices, Nd } from './nd.js';
import type { Tolerance } from './row.js';

/**
 * How a tensor lies in memory. What lies between its elements is filled with a red zone (NaN, or a huge number for
 * integers), so that a read outside of the view shows in the result.
 */
export type Layout = 'dense' | 'transposed' | 'offset' | 'step' | 'expanded' | 'misaligned';
export type Values =
  | 'normal'
  | 'positive'
  | 'unit'
  | 'special'
  | 'distinct'
  | 'smallInt'
  | 'bool'
  | ((i: number) => number);

export interface InputSpec {
  shape: readonly number[];
  layout?: Layout;
  values?: Values;
  /** Stays in this dtype whatever the sample's dtype is (indices, masks). */
  dtype?: Dtype;
}
export interface Sample {
  label: string;
  inputs: InputSpec[];
  /** Further arguments of the op, as the row understands them. */
  args?: Record<string, unknown>;
  /** Small and smooth enough for central differences. */
  gradcheck?: boolean;
  /** In the place of the row's. */
  tolerance?: Tolerance;
}

export const FLOATS: readonly Dtype[] = ['float32', 'float64', 'float16', 'bfloat16'];
export const INTS: readonly Dtype[] = ['int32', 'int64', 'uint8', 'int8'];
/** The activations that `linear` takes, as ops. */
export const FUSED_ACTIVATIONS = {
  gelu: (x: Tensor): Tensor => F.gelu(x),
  geluTanh: (x: Tensor): Tensor => F.gelu(x, { approximate: 'tanh' }),
  relu: F.relu,
  silu: F.silu,
};
export const isFloat = (dtype: Dtype): boolean => FLOATS.includes(dtype);

/** Numbers that do not repeat from run to run by accident: mulberry32, seeded per sample. */
export function random(seed: number): () => number {
  let s = seed >>> 0;
  return () => {
    s = (s + 0x6d2b79f5) >>> 0;
    let t = Math.imul(s ^ (s >>> 15), 1 | s);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}
const normal = (next: () => number): number => Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next());

const SPECIAL = [
  Number.NaN,
  Number.POSITIVE_INFINITY,
  Number.NEGATIVE_INFINITY,
  -0,
  0,
  1,
  -1,
  1e-45,
  -1e-40,
  3.4028234e38,
  -3.4028234e38,
  1.17549435e-38,
  0.5,
  -2.5,
  88.8,
  -104,
];

function generate(values: Values, shape: readonly number[], next: () => number): Float64Array {
  const n = count(shape);
  const make: Record<Exclude<Values, (i: number) => number>, (i: number) => number> = {
    normal: () => normal(next),
    positive: () => 0.1 + 3 * next(),
    unit: () => 1.8 * next() - 0.9,
    special: (i) => SPECIAL[i % SPECIAL.length]!,
    distinct: (i) => (((i * 7919) % 10007) - 5000) / 1000,
    smallInt: () => Math.floor(next() * 11) - 5,
    bool: () => Number(next() < 0.5),
  };
  return Float64Array.from({ length: n }, (_, i) => (typeof values === 'function' ? values(i) : make[values](i)));
}

const scratch = new DataView(new ArrayBuffer(8));
function toBfloat16Bits(x: number): number {
  scratch.setFloat32(0, x);
  const u = scratch.getUint32(0);
  return Number.isNaN(x) ? 0x7fc0 : ((u + 0x7fff + ((u >>> 16) & 1)) >>> 16) & 0xffff;
}
export function fromBfloat16Bits(bits: number): number {
  scratch.setUint32(0, (bits << 16) >>> 0);
  return scratch.getFloat32(0);
}
export function fromHalfBits(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24);
}
function roundToHalf(x: number): number {
  const f = Math.fround(x);
  if (!Number.isFinite(f) || f === 0) return f;
  const exponent = Math.max(Math.floor(Math.log2(Math.abs(f))), -14);
  const step = 2 ** (exponent - 10);
  const q = f / step;
  const r = Math.round(q);
  const even = Math.abs(q - Math.trunc(q)) === 0.5 ? 2 * Math.round(q / 2) : r;
  const y = even * step;
  return Math.abs(y) > 65504 ? Math.sign(y) * Number.POSITIVE_INFINITY : Object.is(y, 0) && f < 0 ? -0 : y;
}

/** x rounded to what `dtype` can hold. */
export function roundTo(dtype: Dtype, x: number): number {
  switch (dtype) {
    case 'float32':
      return Math.fround(x);
    case 'float16':
      return roundToHalf(x);
    case 'bfloat16':
      return fromBfloat16Bits(toBfloat16Bits(x));
    case 'float64':
      return x;
    case 'bool':
      return Number(x !== 0);
    case 'uint8':
      return Math.abs(Math.trunc(x)) & 255;
    default:
      return Math.trunc(x);
  }
}

export interface Built {
  tensor: Tensor;
  nd: Nd;
}

export function build(spec: InputSpec, sampleDtype: Dtype, seed: number): Built {
  const dtype = spec.dtype ?? sampleDtype;
  const values = spec.values ?? (dtype === 'bool' ? 'bool' : isFloat(dtype) ? 'normal' : 'smallInt');
  const layout = spec.layout ?? 'dense';
  // Integers have no special values; their extremes are samples of their own where an op defines them.
  const raw = generate(values === 'special' && !isFloat(dtype) ? 'smallInt' : values, spec.shape, random(seed));
  let nd = new Nd(
    spec.shape,
    raw.map((v) => roundTo(dtype, v)),
  );
  if (layout === 'expanded') {
    const [first = 1] = spec.shape;
    const period = nd.size / Math.max(1, first);
    nd = new Nd(
      spec.shape,
      nd.data.map((_, i) => nd.data[period ? i % period : 0]!),
    );
  }
  return { tensor: lay(nd, layout, dtype), nd };
}

function lay(nd: Nd, layout: Layout, dtype: Dtype): Tensor {
  const redZone = isFloat(dtype) ? Number.NaN : dtype === 'bool' ? 1 : 101;
  const make = (x: Nd): Tensor => tensor(Array.from(x.data), { shape: x.shape, dtype, device });
  const { shape } = nd;
  const rank = shape.length;
  switch (layout) {
    case 'dense':
      return make(nd);
    case 'transposed':
      return make(nd.transpose()).transpose(-2, -1);
    case 'offset': {
      const padded = [shape[0]! + 3, ...shape.slice(1)];
      return make(
        Nd.from(padded, ([i, ...rest]) => (i! < 2 || i! >= shape[0]! + 2 ? redZone : nd.at([i! - 2, ...rest]))),
      ).narrow(0, 2, shape[0]!);
    }
    case 'step': {
      const n = shape[rank - 1]!;
      const wide = [...shape.slice(0, -1), 2 * n];
      return make(
        Nd.from(wide, (i) => (i[rank - 1]! % 2 ? redZone : nd.at([...i.slice(0, -1), i[rank - 1]! / 2]))),
      ).slice(-1, 0, 2 * n, 2);
    }
    case 'expanded':
      return make(Nd.from([1, ...shape.slice(1)], (i) => nd.at(i))).expand(shape);
    case 'misaligned': {
      const flat = new Nd([nd.size + 2], [redZone, ...nd.data, redZone]);
      return make(flat).narrow(0, 1, nd.size).reshape(shape);
    }
  }
}

/** The values of a tensor as float64, whatever its dtype, read through its storage bits. */
export function values(t: Tensor): Nd {
  const data = t.dataSync<HostArray>();
  const numbers = Float64Array.from(data as ArrayLike<number | bigint>, Number);
  if (data instanceof Uint16Array)
    for (let i = 0; i < data.length; i++)
      numbers[i] = t.dtype === 'float16' ? fromHalfBits(data[i]!) : fromBfloat16Bits(data[i]!);
  return new Nd(t.shape, numbers);
}

/** The sample classes that every elementwise op must survive. */
export function unarySamples(domain: Values = 'normal', special = true): Sample[] {
  const one = (label: string, spec: InputSpec, gradcheck = false): Sample => ({
    label,
    inputs: [{ values: domain, ...spec }],
    gradcheck,
  });
  return [
    one('0-d', { shape: [] }, true),
    one('size 0', { shape: [0] }),
    one('size 0 inside', { shape: [3, 0, 2] }),
    one('size 1', { shape: [1] }),
    one('prime', { shape: [131] }),
    one('vector - 1', { shape: [15] }),
    one('vector + 1', { shape: [17] }),
    one('matrix', { shape: [3, 5] }, true),
    one('rank 8', { shape: [1, 2, 1, 3, 1, 2, 1, 2] }),
    one('transposed', { shape: [7, 19], layout: 'transposed' }),
    one('transposed small', { shape: [2, 3], layout: 'transposed' }, true),
    one('strided with offset', { shape: [5, 9], layout: 'offset' }),
    one('every second', { shape: [4, 33], layout: 'step' }),
    one('expanded', { shape: [6, 5], layout: 'expanded' }),
    one('misaligned', { shape: [8, 37], layout: 'misaligned' }),
    one('threads', { shape: [70_001] }),
    ...(special ? [{ label: 'special values', inputs: [{ shape: [48], values: 'special' as const }] }] : []),
  ];
}

export function binarySamples(left: Values = 'normal', right: Values = left, special = true): Sample[] {
  const two = (label: string, a: InputSpec, b: InputSpec, gradcheck = false): Sample => ({
    label,
    inputs: [
      { values: left, ...a },
      { values: right, ...b },
    ],
    gradcheck,
  });
  const same = (label: string, shape: number[], layout: Layout = 'dense', gradcheck = false) =>
    two(label, { shape, layout }, { shape }, gradcheck);
  return [
    same('0-d', []),
    same('size 0', [0, 4]),
    same('size 1', [1]),
    same('prime', [131]),
    same('vector + 1', [17]),
    same('matrix', [3, 5], 'dense', true),
    two('row broadcast', { shape: [4, 7] }, { shape: [7] }, true),
    two('column broadcast', { shape: [3, 4] }, { shape: [3, 1] }, true),
    two('both broadcast', { shape: [5, 1, 6] }, { shape: [4, 1] }),
    two('0-d operand', { shape: [23] }, { shape: [] }),
    two('broadcast to size 0', { shape: [0, 3] }, { shape: [1, 3] }),
    same('transposed', [9, 21], 'transposed'),
    two('both strided', { shape: [5, 18], layout: 'offset' }, { shape: [5, 18], layout: 'step' }),
    same('expanded', [6, 5], 'expanded'),
    same('misaligned', [8, 37], 'misaligned'),
    same('threads', [70_001]),
    ...(special
      ? [
          {
            label: 'special values',
            inputs: [
              { shape: [16, 1], values: 'special' as const },
              { shape: [16], values: 'special' as const },
            ],
          },
        ]
      : []),
  ];
}

export function* eachIndex(shape: readonly number[]): Generator<readonly number[]> {
  for (const index of indices(shape)) yield [...index];
}
