// Soft cap, temperature and biases by position: against their definition in float64 under random masks, what they print
// and refuse, lookups, and steps that are recorded. The op table has their samples and gradients one by one.
import * as fc from 'fast-check';
import {
  attention,
  fallbacks,
  grad,
  manualSeed,
  mask,
  memory,
  positionBias,
  randn,
  record,
  resetPeakMemory,
  score,
  strict,
  tensor,
  type Tensor,
  zeros,
} from 'fovea';
import { describe, expect, it } from 'vitest';
import { device, list } from '../helpers.js';
import { expression, type Place, type Sees } from './mask-oracle.js';

interface Terms {
  softcap: number | undefined;
  temperature: number;
  /** [h, 2 r + 1] */
  table: Tensor | undefined;
  bias: Tensor | undefined;
}

/** The definition, in ops of float64: gradients come from the tape. */
function definition(q: Tensor, k: Tensor, v: Tensor, { b, h, n, m }: Place, sees: Sees, terms: Terms): Tensor {
  const { softcap, temperature, table, bias } = terms;
  const seen = Array.from({ length: b * h * n * m }, (_, at) =>
    sees(Math.floor(at / (h * n * m)), Math.floor(at / (n * m)) % h, Math.floor(at / m) % n, at % m),
  );
  let scores = q.matmul(k.transpose(-1, -2)).div(Math.sqrt(q.shape.at(-1)!));
  if (softcap) scores = scores.div(softcap).tanh().mul(softcap);
  if (bias) scores = scores.add(bias);
  if (table) {
    const r = (table.shape[1]! - 1) / 2;
    const places = Array.from({ length: n * m }, (_, at) => {
      const distance = (at % m) - (Math.floor(at / m) + m - n);
      return Math.max(-r, Math.min(r, distance)) + r;
    });
    scores = scores.add(table.indexSelect(1, tensor(places, { dtype: 'int64', device })).reshape([h, n, m]));
  }
  const shown = tensor(seen, { shape: [b, h, n, m], dtype: 'bool', device });
  const e = scores.div(temperature).exp().mul(shown.to('float64'));
  const total = e.sum(-1, { keepdim: true });
  // a row that sees nothing is zero
  return e.div(total.add(total.eq(0).to('float64'))).matmul(v);
}

const places = fc.record({
  b: fc.integer({ min: 1, max: 2 }),
  h: fc.constantFrom(1, 2),
  n: fc.oneof(fc.integer({ min: 1, max: 12 }), fc.integer({ min: 120, max: 150 })),
  m: fc.oneof(fc.integer({ min: 1, max: 12 }), fc.integer({ min: 120, max: 280 })),
});
const cases = places.chain((place) =>
  fc.record({
    place: fc.constant(place),
    pair: expression(place),
    softcap: fc.constantFrom(undefined, 0.5, 20),
    temperature: fc.constantFrom(1, 0.3, 4),
    reach: fc.constantFrom(undefined, 0, 3, 200),
    biased: fc.boolean(),
  }),
);

describe('terms of scores', () => {
  it('give the result and gradients of their definition, under any mask', () => {
    fc.assert(
      fc.property(cases, fc.constantFrom<'float32' | 'float64'>('float32', 'float64'), (given, dtype) => {
        const { place, pair, softcap, temperature, reach, biased } = given;
        const { b, h, n, m } = place;
        const leaf = (shape: number[]): Tensor => randn(shape, { dtype, device, requiresGrad: true });
        const [q, k, v] = [leaf([b, h, n, 6]), leaf([b, h, m, 6]), leaf([b, h, m, 5])];
        const table = reach === undefined ? undefined : leaf([h, 2 * reach + 1]);
        const bias = biased ? leaf([1, h, n, m]) : undefined;
        const leaves = [q, k, v, table, bias].filter((x) => x !== undefined);
        const dO = randn([b, h, n, 5], { dtype, device });
        const o = attention(q, k, v, {
          mask: pair.mask,
          temperature,
          ...(softcap ? { softcap } : {}),
          ...(table ? { positionBias: positionBias.relative(table) } : {}),
          ...(bias ? { bias } : {}),
        });
        const wide = leaves.map((x) => x.detach().to('float64').requiresGrad_());
        const [wq, wk, wv] = wide as [Tensor, Tensor, Tensor];
        const more = wide.slice(3);
        const terms = { softcap, temperature, table: table && more.shift(), bias: bias && more.shift() };
        const expected = definition(wq, wk, wv, place, pair.sees, terms);
        const results = [o.detach(), ...grad([o], leaves, { gradOutputs: [dO] })];
        const exact = [expected.detach(), ...grad([expected], wide, { gradOutputs: [dO.to('float64')] })];
        // exponents are divided by the temperature, and so grow what was rounded
        const epsilon = (dtype === 'float32' ? 2 ** -23 : 2 ** -52) / Math.min(1, temperature);
        results.forEach((result, which) => {
          const [values, others] = [list(result), list(exact[which]!)];
          const largest = others.reduce((most, x) => Math.max(most, Math.abs(x)), 1);
          let worst = 0;
          values.forEach((x, i) => {
            const error = Math.abs(x - others[i]!) / largest;
            if (!(error <= worst)) worst = error;
          });
          // gradients of tables are sums over all queries that may cancel
          const sums = which > 3 && table ? 10 : 1;
          expect(worst).toBeLessThanOrEqual(200 * sums * epsilon);
        });
      }),
      { numRuns: device === 'cpu' ? 120 : 12, endOnFailure: true },
    );
  });

  it('differentiates twice', () => {
    const run = (more: object): number[] => {
      manualSeed(2);
      const [q, k, v, table] = [
        [1, 2, 3, 4],
        [1, 2, 5, 4],
        [1, 2, 5, 3],
        [2, 5],
      ].map((shape) => randn(shape, { dtype: 'float64', device, requiresGrad: true })) as [
        Tensor,
        Tensor,
        Tensor,
        Tensor,
      ];
      const o = attention(q, k, v, { softcap: 2, positionBias: positionBias.relative(table), ...more });
      const [dTable] = grad([o.square().sum()], [table], { createGraph: true });
      return grad([dTable!.square().sum()], [q, k, v, table]).flatMap(list);
    };
    // a mask that hides nothing takes another way
    const expected = run({});
    run({ mask: mask.prefix(9) }).forEach((x, i) => expect(x).toBeCloseTo(expected[i]!, 9));
  });
});

describe('biases by position', () => {
  it('print as the calls that make them', () => {
    expect(String(positionBias.alibi(8))).toBe('alibi(8)');
    expect(String(positionBias.relative(zeros([2, 5])))).toBe('relative(Tensor [2, 5] float32)');
    expect(String(positionBias.t5(zeros([32, 4])))).toBe('t5(Tensor [32, 4] float32)');
  });

  it("have ALiBi's slopes for any number of heads", () => {
    const [q, k, v] = [
      zeros([1, 6, 1, 4]),
      zeros([1, 6, 2, 4]),
      tensor([[1], [0]])
        .reshape([1, 1, 2, 1])
        .expand([1, 6, 2, 1]),
    ];
    // the weight of the key one before the query's own is 1 / (1 + e^slope)
    const weights = list(attention(q, k, v, { positionBias: positionBias.alibi(6) }));
    const slopes = [2 ** -2, 2 ** -4, 2 ** -6, 2 ** -8, 2 ** -1, 2 ** -3];
    weights.forEach((w, head) => expect(w).toBeCloseTo(1 / (1 + Math.exp(slopes[head]!)), 6));
  });

  it("have T5's buckets", () => {
    // Of 32 buckets up to distance 128, as the reference implementation has them.
    const expected = new Map([
      [0, 0],
      [-1, 1],
      [-7, 7],
      [-8, 8],
      [-11, 8],
      [-12, 9],
      [-16, 10],
      [-23, 11],
      [-64, 14],
      [-127, 15],
      [-500, 15],
      [1, 17],
      [9, 24],
      [200, 31],
    ]);
    const weight = tensor(Array.from({ length: 32 }, (_, i) => [i]));
    for (const [distance, bucket] of expected) {
      const m = Math.abs(distance) + 1;
      // the bias is the lse of the only key that is seen
      const [i, j] = distance < 0 ? [m - 1, 0] : [0, m - 1];
      const only = tensor(
        Array.from({ length: m }, (_, key) => key === j),
        { dtype: 'bool' },
      );
      const { lse } = attention(zeros([m, 1]), zeros([m, 1]), zeros([m, 1]), {
        positionBias: positionBias.t5(weight),
        mask: only,
        returnLse: true,
      });
      expect(list(lse)[i], `distance ${distance}`).toBeCloseTo(bucket, 5);
    }
  });

  it('are recorded with a step, ALiBi for keys that do not grow', () => {
    const [k, v] = [randn([1, 2, 9, 4], { device }), randn([1, 2, 9, 4], { device })];
    for (const bias of [positionBias.t5(randn([8, 2], { device })), positionBias.alibi(2)]) {
      if (String(bias).startsWith('alibi') && device !== 'cpu') continue;
      using step = record((q: Tensor) => attention(q, k, v, { positionBias: bias }));
      for (let i = 0; i < 3; i++) {
        const q = randn([1, 2, 1, 4], { device });
        expect(list(step(q))).toEqual(list(attention(q, k, v, { positionBias: bias })));
      }
    }
  });
});

describe('temperature 0', () => {
  it('looks up the value of the best key, the mean where several are', () => {
    const q = tensor(
      [
        [1, 0],
        [0, 1],
        [1, 1],
      ],
      { device },
    );
    const k = tensor(
      [
        [2, 0],
        [2, 1],
        [0, 3],
      ],
      { device },
    );
    const v = tensor([[10], [20], [40]], { device, requiresGrad: true });
    const { output, lse } = attention(q, k, v, { temperature: 0, scale: 1, returnLse: true });
    expect(list(output)).toEqual([15, 40, 30]);
    expect(list(lse)).toEqual([2, 3, 3]);
    output.sum().backward();
    expect(list(v.grad!)).toEqual([0.5, 1, 1.5]);
    expect(fallbacks().get('attention')).toMatch(/looks up/);
    expect(() => strict(() => attention(q, k, v, { temperature: 0 }))).toThrow(/looks up/);
  });

  it('is what small temperatures tend to, masks and NaN included', () => {
    const [q, k, v] = [randn([1, 2, 300, 8]), randn([1, 1, 40, 8]), randn([1, 1, 40, 4])];
    const options = { mask: mask.slidingWindow(5, 9), positionBias: positionBias.alibi(2) };
    const [cold, zero] = [1e-4, 0].map((temperature) => list(attention(q, k, v, { ...options, temperature })));
    zero!.forEach((x, i) => expect(x).toBeCloseTo(cold![i]!, 3));
    const spoilt = q.clone();
    spoilt.select(2, 3).fill_(Number.NaN);
    const rows = list(attention(spoilt, k, v, { temperature: 0 })).map(Number.isNaN);
    expect(rows.filter(Boolean)).toHaveLength(8);
    expect(list(attention(zeros([1, 1, 2, 4]), zeros([1, 1, 0, 4]), zeros([1, 1, 0, 3]), { temperature: 0 }))).toEqual([
      0, 0, 0, 0, 0, 0,
    ]);
  });
});

describe('scoring functions', () => {
  it('print as the calls that make them', () => {
    expect([score.dot(), score.scaledDot(), score.general(zeros([2, 3]))].map(String)).toEqual([
      'dot()',
      'scaledDot()',
      'general(Tensor [2, 3] float32)',
    ]);
  });

  it('concat is additive with the parts of its weight', () => {
    const [q, k, v] = [
      randn([1, 2, 9, 4], { device }),
      randn([1, 2, 7, 3], { device }),
      randn([1, 2, 7, 3], { device }),
    ];
    const [w, vector] = [randn([5, 7], { device }), randn([5], { device })];
    const [left, right] = [w.narrow(1, 0, 4), w.narrow(1, 4, 3)];
    const one = attention(q, k, v, { score: score.concat(w, vector) });
    expect(list(attention(q, k, v, { score: score.additive(left, right, vector) }))).toEqual(list(one));
  });

  it('make no term for each pair and each place of the width', () => {
    const [n, d] = [1024, 32];
    const leaf = (shape: number[]): Tensor => randn(shape, { requiresGrad: true });
    const [q, k, v] = [leaf([1, 1, n, d]), leaf([1, 1, n, d]), leaf([1, 1, n, d])];
    const how = score.additive(leaf([d, d]), leaf([d, d]), leaf([d]));
    attention(q, k, v, { score: how }).sum().backward();
    const before = memory().live;
    resetPeakMemory();
    attention(q, k, v, { score: how }).sum().backward();
    // q and k projected, their gradients and what is packed of them; not n n d floats, nor n n
    expect(memory().peak - before).toBeLessThan(n * n * 4);
  });
});
