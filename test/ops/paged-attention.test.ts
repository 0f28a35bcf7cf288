// Attention over pages beside attention over the same keys and values one after the other: bits, what is not read, what
// batches and recordings change, and what runs where there is no kernel.
import {
  autocast,
  fallbacks,
  functional as F,
  grad,
  memory,
  randn,
  record,
  resetPeakMemory,
  strict,
  tensor,
  type Dtype,
  type Tensor,
  zeros,
} from 'fovea';
import { describe, expect, it } from 'vitest';
import { codeOf, device, list } from '../helpers.js';
import { close } from './row.js';
import { difference } from './compare.js';
import { FLOATS, random, values } from './samples.js';

interface Sizes {
  h: number;
  g: number;
  n: number;
  d: number;
  e: number;
  /** Positions of a page. */
  size: number;
  lengths: readonly number[];
  dtype?: Dtype;
  /** Whether all sequences begin with the pages of the first, as far as both fill them. */
  shared?: boolean;
}
interface Paged {
  q: Tensor;
  kPages: Tensor;
  vPages: Tensor;
  pageTable: Tensor;
  lengths: Tensor;
  /** Keys and values [1, g, length, width] of each sequence. */
  keys: Tensor[];
  values: Tensor[];
}
const integers = (numbers: readonly number[], shape: readonly number[], dtype: Dtype = 'int64'): Tensor =>
  tensor([...numbers], { shape, dtype, device });

/** Page numbers of each sequence in an order without order; -1 where no length reaches. */
function tableOf({ size, lengths, shared = false }: Sizes): { rows: number[][]; pages: number } {
  const used = lengths.map((length) => Math.ceil(length / size));
  const t = Math.max(0, ...used) + 2;
  const free = Array.from({ length: used.reduce((sum, count) => sum + count, 2) }, (_, page) => page);
  const next = random(size + lengths.length);
  const take = (): number => free.splice(Math.floor(next() * free.length), 1)[0]!;
  const rows = used.map((count) => Array.from({ length: t }, (_, i) => (i < count ? take() : -1)));
  const full = lengths.map((length) => Math.floor(length / size));
  if (shared)
    rows.forEach((row, b) =>
      row.splice(0, Math.min(full[0]!, full[b]!), ...rows[0]!.slice(0, Math.min(full[0]!, full[b]!))),
    );
  return { rows, pages: used.reduce((sum, count) => sum + count, 2) };
}

/** A pool that holds NaN wherever no sequence has a position. */
function paged(sizes: Sizes): Paged {
  const { h, g, n, d, e, size, lengths, dtype = 'float32' } = sizes;
  const { rows, pages } = tableOf(sizes);
  const own = (width: number): { pool: Tensor; of: Tensor[] } => {
    const data = Array.from(randn([pages, g, size, width]).dataSync({ as: 'float64' }));
    const held = new Set(
      rows.flatMap((row, b) =>
        Array.from({ length: lengths[b]! }, (_, j) => row[Math.floor(j / size)]! * size + (j % size)),
      ),
    );
    const masked = data.map((x, at) => {
      const page = Math.floor(at / (g * size * width));
      return held.has(page * size + (Math.floor(at / width) % size)) ? x : Number.NaN;
    });
    const pool = tensor(masked, { shape: [pages, g, size, width], dtype, device });
    const of = lengths.map((length, b) => {
      const count = Math.ceil(length / size);
      const taken = F.indexSelect(pool, 0, integers(rows[b]!.slice(0, count), [count]));
      return taken
        .permute([1, 0, 2, 3])
        .reshape([1, g, count * size, width])
        .narrow(2, 0, length);
    });
    return { pool, of };
  };
  const [k, v] = [own(d), own(e)];
  return {
    q: randn([lengths.length, h, n, d], { device }).to(dtype),
    kPages: k.pool,
    vPages: v.pool,
    pageTable: integers(rows.flat(), [rows.length, rows[0]?.length ?? 1]),
    lengths: integers(lengths, [lengths.length]),
    keys: k.of,
    values: v.of,
  };
}

const run = ({ q, kPages, vPages, pageTable, lengths }: Paged, more: { softcap?: number; scale?: number } = {}) =>
  F.pagedAttention(q, kPages, vPages, { pageTable, lengths, ...more, returnLse: true });
/** The same sequence by sequence. */
const apart = ({ q, keys, values: v }: Paged, more: { softcap?: number; scale?: number } = {}) =>
  keys.map((k, b) => F.attention(q.narrow(0, b, 1), k, v[b]!, { causal: 'bottomRight', ...more, returnLse: true }));
/** To the bit where the kernel for few queries runs for both. */
function expectEqual(x: Paged, more: { softcap?: number; scale?: number } = {}): void {
  const together = run(x, more);
  apart(x, more).forEach(({ output, lse }, b) => {
    for (const [actual, expected] of [
      [together.output.narrow(0, b, 1), output],
      [together.lse.narrow(0, b, 1), lse],
    ] as const)
      if (device === 'cpu' && x.q.shape[2]! <= 4) expect(list(actual)).toEqual(list(expected));
      else
        expect(
          difference(values(actual), values(expected), actual.dtype, close(192, { roundings: 3 }), [], {
            label: '',
            inputs: [],
          }),
        ).toBeUndefined();
  });
}

describe.each(FLOATS)('%s pages', (dtype) => {
  it.each([1, 3, 16, 17, 64])('of %i positions give what attention gives of each sequence', (size) => {
    const lengths = [1, size, 130, 700, 517].map((length) => Math.max(length, 5));
    expectEqual(paged({ h: 8, g: 2, n: 1, d: 64, e: 48, size, lengths, dtype }));
    expectEqual(paged({ h: 3, g: 3, n: 1, d: 33, e: 64, size, lengths, dtype }));
  });
  it.each([1, 2, 4, 5, 33, 70])('take %i queries', (n) => {
    const lengths = [n, n + 9, 300];
    expectEqual(paged({ h: 4, g: 2, n, d: 32, e: 32, size: 16, lengths, dtype }), { softcap: 3, scale: 0.4 });
    expectEqual(paged({ h: 2, g: 2, n, d: 16, e: 24, size: 5, lengths, dtype }));
  });
  it('may be shared by sequences', () => {
    const x = paged({ h: 4, g: 1, n: 2, d: 32, e: 32, size: 16, lengths: [70, 90, 64, 20], dtype, shared: true });
    expect(list(x.pageTable.narrow(1, 0, 4).select(0, 1))).toEqual(list(x.pageTable.narrow(1, 0, 4).select(0, 0)));
    expectEqual(x);
  });
});

describe('what a sequence sees', () => {
  it('is nothing without a position of its own, which gives zeros and lse -Infinity', () => {
    const x = paged({ h: 2, g: 1, n: 3, d: 8, e: 4, size: 4, lengths: [0, 1, 2, 9] });
    const { output, lse } = run(x);
    const rows = values(lse);
    for (let b = 0; b < 4; b++)
      for (let h = 0; h < 2; h++)
        for (let i = 0; i < 3; i++) {
          const seen = [0, 1, 2, 9][b]! - 3 + i >= 0;
          expect(rows.at([b, h, i]) === Number.NEGATIVE_INFINITY).toBe(!seen);
          const row = list(output.select(0, b).select(0, h).select(0, i));
          expect(row.every((value) => (seen ? Number.isFinite(value) && value !== 0 : value === 0))).toBe(true);
        }
  });
  it('is no infinity or NaN of a position behind a query', () => {
    const x = paged({ h: 2, g: 2, n: 2, d: 16, e: 16, size: 16, lengths: [40, 33] });
    const before = run(x).output;
    const last = x.pageTable.narrow(1, 2, 1).reshape([2]);
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY])
      for (const pool of [x.kPages, x.vPages]) {
        const spoilt = pool.clone();
        const rows = spoilt.permute([0, 2, 1, 3]).reshape([spoilt.shape[0]! * 16, 2, 16]);
        rows.indexPut_(last.mul(16).add(integers([7, 0], [2])), zeros([2, 2, 16], { device }).add(bad));
        const pages = rows.reshape([spoilt.shape[0]!, 16, 2, 16]).permute([0, 2, 1, 3]);
        const changed = run(pool === x.kPages ? { ...x, kPages: pages } : { ...x, vPages: pages }).output;
        expect(list(changed.narrow(2, 0, 1))).toEqual(list(before.narrow(2, 0, 1)));
        expect(list(changed.narrow(2, 1, 1))).not.toEqual(list(before.narrow(2, 1, 1)));
      }
  });
  // On a GPU pages are gathered, and bits are those of attention in that batch; its values are tested above.
  it.skipIf(device !== 'cpu')('does not depend on its batch', () => {
    const lengths = Array.from({ length: 24 }, (_, b) => [1500, 40, 1, 700][b % 4]! + b);
    const x = paged({ h: 4, g: 2, n: 1, d: 32, e: 32, size: 16, lengths });
    const all = run(x).output;
    for (const b of [0, 5, 22, 23]) {
      const one = {
        ...x,
        q: x.q.narrow(0, b, 1),
        pageTable: x.pageTable.narrow(0, b, 1),
        lengths: x.lengths.narrow(0, b, 1),
      };
      expect(list(all.narrow(0, b, 1))).toEqual(list(run(one).output));
    }
  });
});

describe('a pool', () => {
  const x = paged({ h: 4, g: 2, n: 2, d: 16, e: 24, size: 16, lengths: [33, 100] });
  const expected = list(run(x).output);
  const turned = (pool: Tensor): Tensor => pool.permute([0, 2, 1, 3]).contiguous().permute([0, 2, 1, 3]);
  it('may have its heads side by side', () => {
    expect(list(run({ ...x, kPages: turned(x.kPages), vPages: turned(x.vPages) }).output)).toEqual(expected);
  });
  // On a GPU it is: there is no kernel, and pages are gathered; what comes of it is tested all over this file.
  it.skipIf(device !== 'cpu')('is not copied', () => {
    const large = paged({ h: 2, g: 2, n: 1, d: 64, e: 64, size: 16, lengths: [3000] });
    for (const y of [large, { ...large, kPages: turned(large.kPages), vPages: turned(large.vPages) }]) {
      const { live } = memory();
      resetPeakMemory();
      run(y);
      expect(memory().peak - live).toBeLessThan((large.kPages.size * 4) / 4);
    }
  });
  it('has a table and lengths of any integers and strides', () => {
    const wide = zeros([5, 2], { dtype: 'int32', device });
    const columns = x.pageTable.narrow(1, 0, 7).to('int32');
    const pageTable = F.concat([columns.t(), wide], 0).t();
    expect(list(run({ ...x, pageTable, lengths: x.lengths.to('uint8') }).output)).toEqual(expected);
  });
  it('may be empty, and so may the batch', () => {
    const none = paged({ h: 2, g: 1, n: 1, d: 4, e: 6, size: 4, lengths: [] });
    expect(run(none).output.shape).toEqual([0, 2, 1, 6]);
    expect(run(none).lse.shape).toEqual([0, 2, 1]);
    const without = F.pagedAttention(zeros([1, 2, 1, 4]), zeros([0, 1, 4, 4]), zeros([0, 1, 4, 6]), {
      pageTable: tensor([7], { shape: [1, 1], dtype: 'int64' }),
      lengths: tensor([0], { dtype: 'int64' }),
    });
    expect(list(without)).toEqual(new Array<number>(12).fill(0));
  });
});

describe('where there is no kernel', () => {
  it('gradients go to queries and pages, by other ops, which says so', () => {
    const x = paged({ h: 4, g: 2, n: 3, d: 8, e: 6, size: 4, lengths: [5, 14, 9], shared: true, dtype: 'float64' });
    const leaves = [x.q, x.kPages, x.vPages].map((t) => t.clone().requiresGrad_());
    const [q, kPages, vPages] = leaves as [Tensor, Tensor, Tensor];
    const weight = randn([3, 4, 3, 6], { dtype: 'float64', device });
    const { output } = run({ ...x, q, kPages, vPages });
    const actual = grad(output.mul(weight).sum(), leaves);
    if (device === 'cpu') expect(fallbacks().get('pagedAttention')).toBe('its kernel has no gradient');
    const own = x.q.clone().requiresGrad_();
    const expected = x.keys.map((k, b) =>
      F.attention(own.narrow(0, b, 1), k, x.values[b]!, { causal: 'bottomRight' })
        .mul(weight.narrow(0, b, 1))
        .sum(),
    );
    const [found, wanted] = [actual, grad(F.stack(expected).sum(), [own])].map(([dq]) => list(dq!)) as [
      number[],
      number[],
    ];
    wanted.forEach((value, i) => expect(found[i]).toBeCloseTo(value, 10));
    // none goes to what no sequence has
    for (const [i, pool] of [x.kPages, x.vPages].entries()) {
      const missing = list(F.isNan(pool).to('float64'));
      expect(list(actual[i + 1]!).every((value, at) => (missing[at] ? value === 0 : Number.isFinite(value)))).toBe(
        true,
      );
    }
    expect(codeOf(() => strict(() => run({ ...x, q })))).toBe('FOVEA_UNSUPPORTED');
  });
  it('lengths and pages are checked, too', () => {
    const q = zeros([1, 1, 1, 4], { requiresGrad: true });
    const call = (table: number[], length: number) => () =>
      F.pagedAttention(q, zeros([2, 1, 4, 4]), zeros([2, 1, 4, 4]), {
        pageTable: tensor(table, { shape: [1, 2], dtype: 'int64' }),
        lengths: tensor([length], { dtype: 'int64' }),
      }).dataSync();
    expect(call([1, 99], 4)()).toHaveLength(4);
    for (const bad of [call([1, 99], 5), call([-1, 0], 1), call([0, 1], 9), call([0, 1], -1)])
      expect(codeOf(bad)).toBe('FOVEA_INDEX');
  });
});

it('takes queries in the dtype of the pages under autocast, and leaves the pages', () => {
  const x = paged({ h: 2, g: 1, n: 1, d: 16, e: 16, size: 16, lengths: [20, 40], dtype: 'bfloat16' });
  const q = x.q.to('float32');
  expect(codeOf(() => run({ ...x, q }))).toBe('FOVEA_DTYPE');
  const { output } = autocast('bfloat16', () => run({ ...x, q }));
  expect(output.dtype).toBe('bfloat16');
  expect(list(output)).toEqual(list(run(x).output));
  const wide = { ...x, kPages: x.kPages.to('float32'), vPages: x.vPages.to('float32') };
  expect(autocast('bfloat16', () => run(wide)).output.dtype).toBe('float32');
});

it('decodes in a recorded step as lengths grow, over pages that are written meanwhile', () => {
  const [b, h, g, d, size, spare] = [2, 4, 2, 16, 4, 8];
  // heads lie side by side, so that a position is one row to write
  const pools = [0, 1].map(() => zeros([spare + 1, size, g, d], { device })) as [Tensor, Tensor];
  const rows = pools.map((pool) => pool.reshape([(spare + 1) * size, g, d])) as [Tensor, Tensor];
  let calls = 0;
  using step = record((q: Tensor, k: Tensor, v: Tensor, place: Tensor, pageTable: Tensor, lengths: Tensor): Tensor => {
    calls++;
    rows[0].indexPut_(place, k);
    rows[1].indexPut_(place, v);
    const [kPages, vPages] = pools.map((pool) => pool.permute([0, 2, 1, 3])) as [Tensor, Tensor];
    return F.pagedAttention(q, kPages, vPages, { pageTable, lengths });
  });
  const tables = [
    [5, 0, 7, 2],
    [3, 6, 1, 4],
  ];
  const history = tables.map(() => ({ keys: [] as Tensor[], values: [] as Tensor[] }));
  for (let i = 1; i <= 13; i++) {
    // the second sequence has none in the first steps
    const lengths = [i, Math.max(0, i - 3)];
    const place = lengths.map((length, at) =>
      length === 0 ? spare * size : tables[at]![Math.floor((length - 1) / size)]! * size + ((length - 1) % size),
    );
    const [q, k, v] = [
      [b, h, 1, d],
      [b, g, d],
      [b, g, d],
    ].map((shape) => randn(shape, { device })) as [Tensor, Tensor, Tensor];
    const output = step(q, k, v, integers(place, [b]), integers(tables.flat(), [b, 4]), integers(lengths, [b]));
    history.forEach((all, at) => {
      const actual = list(output.narrow(0, at, 1));
      if (lengths[at] === 0) return expect(actual).toEqual(actual.map(() => 0));
      all.keys.push(k.narrow(0, at, 1).unsqueeze(2));
      all.values.push(v.narrow(0, at, 1).unsqueeze(2));
      const expected = F.attention(q.narrow(0, at, 1), F.concat(all.keys, 2), F.concat(all.values, 2));
      list(expected).forEach((value, j) => expect(actual[j]).toBeCloseTo(value, 5));
    });
  }
  expect([calls, step.recordings]).toEqual([1, 1]);
});
