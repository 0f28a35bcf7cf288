// Attention under masks: random expressions of them against the dense mask, forward and backward, and what else meets
// them.
import * as fc from 'fast-check';
import {
  attention,
  grad,
  manualSeed,
  mask,
  type Mask,
  memory,
  nn,
  randn,
  record,
  resetPeakMemory,
  scaledDotProductAttention,
  tensor,
  type Tensor,
  tidy,
} from 'fovea';
import { describe, expect, it } from 'vitest';
import { device, list } from '../helpers.js';
import { cases, dense } from './mask-oracle.js';

describe('attention under random masks', () => {
  it('give attention the result and gradients of a dense mask', () => {
    fc.assert(
      fc.property(
        cases,
        fc.constantFrom('float32', 'bfloat16', 'float64'),
        fc.constantFrom(1, 2),
        ({ place, pair }, dtype, group) => {
          const { b, h, n, m } = place;
          const g = h % group === 0 ? h / group : h;
          const of = (heads: number, length: number, width: number): Tensor =>
            randn([b, heads, length, width], { dtype: dtype as 'float32', device, requiresGrad: true });
          const inputs = [of(h, n, 24), of(g, m, 24), of(g, m, 16)] as const;
          const dO = randn([b, h, n, 16], { dtype: dtype as 'float32', device });
          const results = [
            pair.mask,
            tensor(dense(place, pair.sees), { shape: [b, h, n, m], dtype: 'bool', device }),
          ].map((seen) => {
            for (const x of inputs) x.grad = null;
            const o = attention(...inputs, { mask: seen });
            o.backward(dO);
            return [o, ...inputs.map((x) => x.grad!)].map((x) => x.detach().to('float64').dataSync() as Float64Array);
          });
          const epsilon = { float32: 2 ** -23, bfloat16: 2 ** -7, float64: 2 ** -52 }[dtype as 'float32'];
          results[0]!.forEach((values, which) => {
            const others = results[1]![which]!;
            const largest = others.reduce((most, x) => Math.max(most, Math.abs(x)), 1);
            let worst = 0;
            values.forEach((x, i) => {
              const error = Math.abs(x - others[i]!) / largest;
              if (!(error <= worst)) worst = error;
            });
            // the same sums, cut into other tiles
            expect(worst).toBeLessThanOrEqual(32 * epsilon);
          });
        },
      ),
      { numRuns: 150, endOnFailure: true },
    );
  });
});

describe('attention under masks', () => {
  const qkv = (n: number, m: number, requiresGrad = false): [Tensor, Tensor, Tensor] => [
    randn([1, 2, n, 8], { device, requiresGrad }),
    randn([1, 2, m, 8], { device, requiresGrad }),
    randn([1, 2, m, 8], { device, requiresGrad }),
  ];
  it('has causality beside a mask, as scaledDotProductAttention and MultiheadAttention have', () => {
    const [q, k, v] = qkv(6, 6);
    const both = mask.causal().and(mask.slidingWindow(2));
    const expected = list(attention(q, k, v, { mask: both }));
    expect(list(attention(q, k, v, { causal: 'topLeft', mask: mask.slidingWindow(2) }))).toEqual(expected);
    expect(list(scaledDotProductAttention(q, k, v, { isCausal: true, attnMask: mask.slidingWindow(2) }))).toEqual(
      expected,
    );
    const padded = scaledDotProductAttention(q, k, v, {
      attnMask: both,
      keyPaddingMask: tensor([[true, true, true, true, false, false]], { device }),
    });
    expect(list(padded)).toEqual(list(attention(q, k, v, { mask: both.and(mask.padding([4])) })));
    const layer = new nn.MultiheadAttention(8, 2, { batchFirst: true });
    const x = randn([3, 6, 8]);
    const [fused] = layer.forward(x, x, x, { attnMask: both, needWeights: false });
    const [seen, weights] = layer.forward(x, x, x, { attnMask: both });
    const [dense] = layer.forward(x, x, x, { attnMask: both.toTensor(6), needWeights: false });
    list(fused).forEach((value, i) => expect(value).toBeCloseTo(list(dense)[i]!, 6));
    list(fused).forEach((value, i) => expect(value).toBeCloseTo(list(seen)[i]!, 5));
    expect(list(weights!.select(1, 0).select(0, 0).select(0, 5)).map(Boolean)).toEqual([
      false,
      false,
      false,
      true,
      true,
      true,
    ]);
  });

  it('joins tensors as it joins masks', () => {
    const [q, k, v] = qkv(5, 7);
    const a = tensor([true, false, true, true, false, true, true], { shape: [1, 1, 1, 7], device });
    const b = tensor([true, true, false, true, true], { shape: [5, 1], device });
    const m = mask.tensorMask(a).or(b).and(mask.prefix(6)).not();
    const [x, y] = [list(a), list(b)];
    const seen = Array.from({ length: 35 }, (_, at) => !((x[at % 7]! || y[Math.floor(at / 7)]!) && at % 7 < 6));
    const expected = attention(q, k, v, { mask: tensor(seen, { shape: [5, 7], device }) });
    expect(list(attention(q, k, v, { mask: m }))).toEqual(list(expected));
  });

  it('differentiates twice', () => {
    const seen = mask.slidingWindow(1, 0).or(mask.globalTokens([0]));
    const second = (m: Mask | Tensor): number[] => {
      manualSeed(3);
      const [q, k, v] = qkv(4, 4, true);
      const o = attention(q, k, v, { mask: m }).square().sum();
      const [dq] = grad([o], [q], { createGraph: true });
      return [q, k, v].flatMap((_, i) => list(grad([dq!.square().sum()], [q, k, v], { retainGraph: true })[i]!));
    };
    const expected = second(seen.toTensor(4, 4, { device }));
    second(seen).forEach((value, i) => expect(value).toBeCloseTo(expected[i]!, 5));
  });

  it('drops the weights that it drops under a dense mask', () => {
    const [q, k, v] = qkv(9, 33);
    const m = mask.slidingWindow(12, 5);
    const run = (given: Mask | Tensor): number[] => {
      manualSeed(5);
      return list(attention(q, k, v, { mask: given, dropoutP: 0.5 }));
    };
    const expected = run(m.toTensor(9, 33, { device }));
    run(m).forEach((value, i) => expect(value).toBeCloseTo(expected[i]!, 5));
  });

  it('allocates nothing of the size of the scores', () => {
    const [n, d] = [2048, 8];
    const of = (): Tensor => randn([1, 1, n, d], { requiresGrad: true });
    const [q, k, v] = [of(), of(), of()];
    const m = mask
      .slidingWindow(32)
      .or(mask.globalTokens([0, 7]))
      .and(mask.documents([...new Array<number>(n).keys()].map((i) => i >> 9)));
    attention(q, k, v, { mask: m }).sum().backward(); // gradients and programs stay
    const before = memory().live;
    resetPeakMemory();
    attention(q, k, v, { mask: m }).sum().backward();
    expect(memory().peak - before).toBeLessThan((n * n) / 2);
  });

  it('keeps one program for a mask, and frees it with the mask', () => {
    const [q, k, v] = qkv(5, 5);
    const m = mask.slidingWindow(3);
    attention(q, k, v, { mask: m });
    const { tensors } = memory();
    for (let i = 0; i < 10; i++)
      tidy(() => {
        attention(q, k, v, { mask: m });
        attention(q, k, v, { mask: m, causal: 'topLeft' });
        const keyPaddingMask = tensor([[true, true, true, false, false]], { device });
        scaledDotProductAttention(q, k, v, { attnMask: m, keyPaddingMask, isCausal: true });
      });
    expect(memory().tensors).toBe(tensors);
  });

  it('records a step over a cache that grows', () => {
    const options = (m: Mask) => ({ mask: m.and(mask.causal({ align: 'bottomRight' })) });
    const cache = [randn([1, 1, 12, 8], { device }), randn([1, 1, 12, 8], { device })] as const;
    const m = mask.slidingWindow(3, 0, { align: 'bottomRight' }).or(mask.globalTokens([0], { align: 'bottomRight' }));
    using step = record((q: Tensor) => attention(q, cache[0], cache[1], options(m)));
    for (let i = 0; i < 3; i++) {
      const q = randn([1, 1, 1, 8], { device });
      expect(list(step(q))).toEqual(list(attention(q, cache[0], cache[1], options(m))));
    }
  });
});
