// Plain float64 arrays for references: slow, obvious, and sharing no code with what they check.

export class Nd {
  readonly shape: readonly number[];
  readonly data: Float64Array;

  constructor(shape: readonly number[], data: Float64Array | readonly number[]) {
    this.shape = shape;
    this.data = data instanceof Float64Array ? data : Float64Array.from(data);
    if (this.data.length !== count(shape)) throw new Error(`Nd: ${this.data.length} values for [${shape}]`);
  }

  static from(shape: readonly number[], value: (index: number[]) => number): Nd {
    const data = new Float64Array(count(shape));
    let i = 0;
    for (const index of indices(shape)) data[i++] = value(index);
    return new Nd(shape, data);
  }

  get size(): number {
    return this.data.length;
  }

  /** The value at `index`; axes of size 1 and missing leading axes broadcast. */
  at(index: readonly number[]): number {
    const pad = index.length - this.shape.length;
    let offset = 0;
    for (let d = 0; d < this.shape.length; d++)
      offset = offset * this.shape[d]! + (this.shape[d] === 1 ? 0 : index[d + pad]!);
    return this.data[offset]!;
  }

  map(f: (x: number) => number): Nd {
    return new Nd(this.shape, this.data.map(f));
  }

  reshape(shape: readonly number[]): Nd {
    return new Nd(shape, this.data);
  }

  permute(dims: readonly number[]): Nd {
    return Nd.from(
      dims.map((d) => this.shape[d]!),
      (index) => {
        const source = new Array<number>(index.length);
        dims.forEach((d, i) => {
          source[d] = index[i]!;
        });
        return this.at(source);
      },
    );
  }

  transpose(): Nd {
    const r = this.shape.length;
    return this.permute([...Array(r - 2).keys(), r - 1, r - 2]);
  }
}

export function count(shape: readonly number[]): number {
  return shape.reduce((a, b) => a * b, 1);
}

export function* indices(shape: readonly number[]): Generator<number[]> {
  const total = count(shape);
  const index = new Array<number>(shape.length).fill(0);
  for (let i = 0; i < total; i++) {
    yield index;
    for (let d = shape.length - 1; d >= 0; d--) {
      if (++index[d]! < shape[d]!) break;
      index[d] = 0;
    }
  }
}

export function broadcastShape(...shapes: (readonly number[])[]): number[] {
  const rank = Math.max(...shapes.map((s) => s.length));
  return Array.from({ length: rank }, (_, d) => {
    const sizes = shapes.map((s) => s[d - rank + s.length] ?? 1).filter((n) => n !== 1);
    return sizes[0] ?? 1;
  });
}

/** f over broadcast operands. */
export function zip(f: (...values: number[]) => number, ...operands: Nd[]): Nd {
  return Nd.from(broadcastShape(...operands.map((o) => o.shape)), (index) => f(...operands.map((o) => o.at(index))));
}

/** Applies `f` to each row along `dim`. `f` may return a row of another length, or a number to drop the axis. */
export function alongAxis(x: Nd, dim: number, f: (row: Float64Array) => Float64Array | number): Nd {
  const d = dim < 0 ? dim + x.shape.length : dim;
  const others = x.shape.filter((_, i) => i !== d);
  const rows: (Float64Array | number)[] = [];
  for (const index of indices(others)) {
    const row = new Float64Array(x.shape[d]!);
    for (let i = 0; i < row.length; i++) row[i] = x.at([...index.slice(0, d), i, ...index.slice(d)]);
    rows.push(f(row));
  }
  const first = rows[0] ?? f(new Float64Array(x.shape[d]!)); // without rows, the kind and the length of a result still count
  if (typeof first === 'number') return new Nd(others, rows as number[]);
  const moved = new Nd([...others, first.length], new Float64Array(rows.length * first.length));
  for (const [i, row] of (rows as Float64Array[]).entries()) moved.data.set(row, i * first.length);
  const order = [...Array(others.length).keys()];
  order.splice(d, 0, others.length);
  return moved.permute(order);
}

/** Reduces the axes `dims` (all of them when undefined) of x. */
export function reduce(
  x: Nd,
  dims: readonly number[] | undefined,
  keepdim: boolean,
  f: (row: Float64Array) => number,
): Nd {
  const rank = x.shape.length;
  const reduced = (dims ?? [...Array(rank).keys()]).map((d) => (d < 0 ? d + rank : d));
  const kept = [...Array(rank).keys()].filter((d) => !reduced.includes(d));
  const length = count(reduced.map((d) => x.shape[d]!));
  const keptShape = kept.map((d) => x.shape[d]!);
  const moved = x.permute([...kept, ...reduced]).data;
  const out = Float64Array.from({ length: count(keptShape) }, (_, i) => f(moved.slice(i * length, (i + 1) * length)));
  return new Nd(keepdim ? x.shape.map((n, d) => (reduced.includes(d) ? 1 : n)) : keptShape, out);
}

export function matmul(a: Nd, b: Nd): Nd {
  const lead = broadcastShape(a.shape.slice(0, -2), b.shape.slice(0, -2));
  const [m, k, n] = [a.shape.at(-2)!, a.shape.at(-1)!, b.shape.at(-1)!];
  return Nd.from([...lead, m, n], (index) => {
    const batch = index.slice(0, -2);
    let sum = 0;
    for (let p = 0; p < k; p++) sum += a.at([...batch, index.at(-2)!, p]) * b.at([...batch, p, index.at(-1)!]);
    return sum;
  });
}

export function softmaxRow(row: Float64Array): Float64Array {
  const top = row.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  const e = row.map((v) => Math.exp(v - top));
  const total = e.reduce((a, b) => a + b, 0);
  return e.map((v) => v / total);
}

/** The sum of a row, compensated (Neumaier), so that long references are exact to the last place. */
export function total(row: Float64Array): number {
  let sum = 0;
  let lost = 0;
  for (const v of row) {
    const next = sum + v;
    if (Number.isFinite(next)) lost += Math.abs(sum) >= Math.abs(v) ? sum - next + v : v - next + sum;
    sum = next;
  }
  return Number.isFinite(sum) ? sum + lost : sum;
}

/**
 * erfc(a) of a >= 1/2: its continued fraction, with as many terms as double precision needs there. Where a is a rounded
 * |x| / sqrt 2, the exponential is taken of x, whose square is split so that its rounding is not magnified.
 */
export function erfcOfPositive(a: number, x = a * Math.SQRT2): number {
  if (a > 40) return 0;
  let fraction = a;
  for (let k = Math.ceil(500 / (a * a)) + 30; k > 0; k--) fraction = a + k / 2 / fraction;
  const high = Math.fround(x);
  return (Math.exp((-high * high) / 2) * Math.exp((-(x - high) * (x + high)) / 2)) / (Math.sqrt(Math.PI) * fraction);
}

/**
 * erf in double precision: a series of positive terms (Abramowitz & Stegun 7.1.6), and 1 - erfc for large arguments.
 */
export function erf(x: number): number {
  if (Number.isNaN(x)) return x;
  const a = Math.abs(x);
  if (a > 6) return Math.sign(x);
  if (a > 3) return Math.sign(x) * (1 - erfcOfPositive(a));
  let term = x;
  let sum = x;
  for (let n = 1; Math.abs(term) > 1e-18 * Math.abs(sum); n++) {
    term *= (2 * x * x) / (2 * n + 1);
    sum += term;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}
