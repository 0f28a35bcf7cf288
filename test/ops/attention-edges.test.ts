// Attention at its edges: NaN in what is hidden, empty shapes, numbers out of range, and what it refuses.
import {
  attention,
  grad,
  mask,
  positionBias,
  type PositionBias,
  randn,
  score,
  tensor,
  type Tensor,
  zeros,
} from 'fovea';
import { describe, expect, it } from 'vitest';
import { codeOf, device, list } from '../helpers.js';

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
      // what is composed multiplies gradients of 0 with what is NaN
      const composed = 'temperature' in options || device !== 'cpu';
      const run = (keys: Tensor, values: Tensor): number[][] => {
        const o = attention(q, keys, values, { ...options, mask: seen });
        const wanted = composed ? [] : [q, keys, values];
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
