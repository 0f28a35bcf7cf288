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
  type PositionBias,
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
import { codeOf, device, list } from '../helpers.js';
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

describe('what is hidden, empty or beyond a range', () => {
  const leaf = (shape: number[]): Tensor => randn(shape, { device, requiresGrad: true });
  it('does not show what is NaN in hidden keys, in results or gradients', () => {
    const [q, k, v] = [leaf([1, 1, 9, 4]), leaf([1, 1, 8, 4]), leaf([1, 1, 8, 3])];
    const spoilt = (x: Tensor): Tensor => {
      const y = x.detach().clone();
      y.select(2, 6).fill_(Number.NaN);
      return y.requiresGrad_();
    };
    const seen = mask.prefix(5);
    const how = score.additive(leaf([3, 4]), leaf([3, 4]), leaf([3]));
    for (const options of [{ temperature: 0 }, { softcap: 2 }, { score: how }, { softcap: 2, score: how }]) {
      const run = (keys: Tensor, values: Tensor): number[][] => {
        const o = attention(q, keys, values, { ...options, mask: seen });
        const wanted = 'temperature' in options ? [values] : [q, keys, values];
        return [o, ...grad([o.sum()], wanted)].map((x) => list(x.narrow(2, 0, 5)));
      };
      expect(run(spoilt(k), spoilt(v))).toEqual(run(k, v));
    }
  });

  it('has no width, no keys, no queries or no heads, as elsewhere', () => {
    for (const [h, n, m, d, e] of [
      [1, 1, 3, 0, 2],
      [1, 3, 3, 4, 0],
      [2, 0, 3, 4, 4],
      [2, 3, 0, 4, 4],
      [0, 3, 3, 4, 4],
    ]) {
      const [q, k, v] = [leaf([1, h!, n!, d!]), leaf([1, h!, m!, d!]), leaf([1, h!, m!, e!])];
      const biases = h === 0 ? [{}] : [{}, { positionBias: positionBias.alibi(h!) }];
      for (const bias of biases)
        for (const options of [
          bias,
          { ...bias, softcap: 2 },
          { ...bias, temperature: 0 },
          {
            ...bias,
            mask: mask
              .randomBlocks(1, 1)
              .or(mask.documents(new Array<number>(m!).fill(1), new Array<number>(m!).fill(1)).not()),
          },
        ]) {
          if ('mask' in options && n !== m) continue;
          const o = attention(q, k, v, options);
          expect(o.shape).toEqual([1, h, n, e]);
          o.sum().backward();
        }
    }
  });

  it('looks up by scores that were not rounded, and divides a bias beyond the range of 16 bits', () => {
    const [q, k, v] = [randn([1, 1, 64, 64]), randn([1, 1, 2048, 64]), randn([1, 1, 2048, 2])].map((x) =>
      x.to('bfloat16').to(device),
    ) as [Tensor, Tensor, Tensor];
    const wide = attention(q.to('float32'), k.to('float32'), v.to('float32'), { temperature: 0 });
    expect(list(attention(q, k, v, { temperature: 0 }))).toEqual(list(wide));
    const [a, b, c] = [
      zeros([1, 1, 1, 2]),
      zeros([1, 1, 2, 2]),
      tensor([
        [1, 2],
        [3, 4],
      ]).reshape([1, 1, 2, 2]),
    ].map((x) => x.to('float16').to(device)) as [Tensor, Tensor, Tensor];
    const bias = tensor([-60000, -60000], { device }).to('float16');
    expect(list(attention(a, b, c, { bias, temperature: 0.1 }))).toEqual([2, 3]);
  });

  it('takes tables of any length', () => {
    const m = 140_000;
    const [q, k] = [randn([1, 1, 1, 4], { device }), randn([1, 1, m, 4], { device })];
    const ids = new Array<number>(m).fill(0);
    const tokens = [...ids.keys()];
    expect(
      list(attention(q, k, k, { mask: mask.documents(ids).and(mask.globalTokens(tokens)) })).every(Number.isFinite),
    ).toBe(true);
  });
});

describe('wrong terms', () => {
  const [q, k, v] = [0, 1, 2].map(() => zeros([1, 2, 4, 8])) as [Tensor, Tensor, Tensor];
  const attend = (options: object) => () => attention(q, k, v, options);
  const withBias = (bias: PositionBias) => attend({ positionBias: bias });
  it.each<[string, () => unknown, string, RegExp]>([
    ['a soft cap of 0', attend({ softcap: 0 }), 'FOVEA_ARGUMENT', /softcap.*above 0|above 0.*softcap/],
    ['an endless soft cap', attend({ softcap: Infinity }), 'FOVEA_ARGUMENT', /softcap/],
    ['a negative temperature', attend({ temperature: -1 }), 'FOVEA_ARGUMENT', /temperature/],
    ['dropout in a lookup', attend({ temperature: 0, dropoutP: 0.5 }), 'FOVEA_ARGUMENT', /dropoutP/],
    ['a bias that is none', attend({ positionBias: 3 }), 'FOVEA_ARGUMENT', /positionBias/],
    ['slopes of other heads', withBias(positionBias.alibi(3)), 'FOVEA_SHAPE', /3 slopes.*2 heads/],
    ['a table of other heads', withBias(positionBias.relative(zeros([3, 5]))), 'FOVEA_SHAPE', /3 heads.*2/],
    ['buckets of other heads', withBias(positionBias.t5(zeros([8, 3]))), 'FOVEA_SHAPE', /3 heads.*2/],
    ['a score that is none', attend({ score: 'additive' }), 'FOVEA_ARGUMENT', /score/],
    ['a score of other widths', attend({ score: score.general(zeros([7, 8])) }), 'FOVEA_SHAPE', /general.*\[7,8\]/],
    ['parts of other widths', attend({ score: score.concat(zeros([3, 15]), zeros([3])) }), 'FOVEA_SHAPE', /concat/],
    [
      'vectors of other heads',
      attend({ score: score.concat(zeros([3, 16]), zeros([4, 3])) }),
      'FOVEA_SHAPE',
      /4 heads.*2/,
    ],
    [
      'weights that do not fit',
      () => score.additive(zeros([3, 8]), zeros([4, 8]), zeros([3])),
      'FOVEA_SHAPE',
      /additive/,
    ],
    ['integer weights', () => score.general(zeros([8, 8], { dtype: 'int64' })), 'FOVEA_DTYPE', /int64/],
    [
      'a weight for other heads',
      attend({ score: score.general(zeros([4, 8, 8])) }),
      'FOVEA_SHAPE',
      /general.*\[4,8,8\]/,
    ],
    ['a scale beyond float32', attend({ temperature: 1e-40 }), 'FOVEA_ARGUMENT', /float32.*temperature/],
    ['a soft cap beyond float32', attend({ softcap: 1e39 }), 'FOVEA_ARGUMENT', /float32/],
    [
      'heads that do not divide',
      () => attention(zeros([1, 3, 4, 8]), zeros([1, 2, 4, 8]), zeros([1, 2, 4, 8]), { temperature: 0 }),
      'FOVEA_SHAPE',
      /h=3.*multiple.*g=2/,
    ],
    [
      'other heads of values',
      () => attention(q, k, zeros([1, 4, 4, 8]), { temperature: 0 }),
      'FOVEA_SHAPE',
      /attention: expected q/,
    ],
    [
      'integers',
      () =>
        attention(
          zeros([2, 2], { dtype: 'int64' }),
          zeros([2, 2], { dtype: 'int64' }),
          zeros([2, 2], { dtype: 'int64' }),
          { temperature: 0 },
        ),
      'FOVEA_DTYPE',
      /attention: expected floats/,
    ],
    [
      'a bias of other batches',
      attend({ temperature: 0, bias: zeros([3, 1, 4, 4]) }),
      'FOVEA_SHAPE',
      /bias \[3,1,4,4\]/,
    ],
    ['no heads', () => positionBias.alibi(0), 'FOVEA_ARGUMENT', /alibi.*slopes|slopes.*alibi/],
    ['slopes in a matrix', () => positionBias.alibi(zeros([2, 2])), 'FOVEA_SHAPE', /alibi.*rank 1/],
    ['a table without a middle', () => positionBias.relative(zeros([2, 4])), 'FOVEA_SHAPE', /middle/],
    ['a table of integers', () => positionBias.relative(zeros([2, 5], { dtype: 'int64' })), 'FOVEA_DTYPE', /int64/],
    ['an odd number of buckets', () => positionBias.t5(zeros([7, 2])), 'FOVEA_SHAPE', /buckets/],
    [
      'a nearer end than the exact buckets',
      () => positionBias.t5(zeros([32, 2]), { maxDistance: 8 }),
      'FOVEA_ARGUMENT',
      /maxDistance/,
    ],
  ])('%s', (_, run, code, mentions) => {
    expect(run).toThrow(mentions);
    expect(codeOf(run)).toBe(code);
  });
});
