// The native draw of tokens against the same composed of other ops, and against the set that its definition says.
import { type Dtype, functional as F, Generator, randn, type Tensor, tensor, tidy } from 'fovea';
import { describe, expect, it } from 'vitest';
import { sampleTokens, type SamplingOptions } from '../../dist/generate/sampler.js';
import { definedOps } from '../../dist/ops/define-op.js';
import { device } from '../helpers.js';
import { values } from '../ops/samples.js';

type Limits = Partial<Pick<SamplingOptions, 'temperature' | 'topK' | 'topP' | 'minP'>>;
const unlimited = { doSample: true, temperature: 1, topK: 0, topP: 1, minP: 0, generator: undefined };
const list = (t: Tensor): number[] => Array.from(values(t).data);
const normal = (rows: number, n: number, dtype: Dtype = 'float32', scale = 3): Tensor =>
  randn([rows, n], { generator: new Generator(7 * n + rows), device })
    .mul(scale)
    .to(dtype);

/** What the op and its reference draw with the same numbers. */
function both(logits: Tensor, limits: Limits, seed: number): [number[], number[]] {
  const { temperature, topK, topP, minP } = { ...unlimited, ...limits };
  const attrs = { temperature, topK, topP, minP, seed, offset: 3 };
  const op = definedOps.get('sampleTokens')!;
  const run = op as unknown as (x: { logits: Tensor }, attrs: object) => { ids: Tensor };
  return tidy(() => [list(run({ logits }, attrs).ids), list(op.spec.reference!({ logits }, attrs)['ids']!)]);
}

const settings: Limits[] = [
  {},
  { temperature: 0.3 },
  { topK: 1 },
  { topK: 3 },
  { topK: 50, temperature: 1.7 },
  { topK: 100_000 },
  { topP: 0 },
  { topP: 0.5 },
  { topP: 0.9, temperature: 0.7 },
  { topP: 0.999, temperature: 5 },
  { topK: 40, topP: 0.8 },
  { minP: 0.05 },
  { minP: 1 },
  { topK: 20, topP: 0.95, minP: 0.1, temperature: 1.3 },
];
describe('sampleTokens draws what its reference draws', () => {
  const sizes: [number, number][] = [
    [3, 1],
    [40, 5],
    [33, 63],
    [20, 65],
    [20, 1000],
    [4, 50_257],
  ];
  it.each(sizes.flatMap(([rows, n]) => settings.map((limits) => [rows, n, limits] as const)))(
    'from [%d, %d] with %o',
    (rows, n, limits) => {
      const [actual, expected] = both(normal(rows, n), limits, n);
      expect(actual).toEqual(expected);
    },
  );
  it.each(['float64', 'float16', 'bfloat16'] as const)('in %s, also where many logits are equal', (dtype) => {
    for (const limits of settings) {
      const [actual, expected] = both(normal(25, 700, dtype, 1), limits, 11);
      expect(actual, JSON.stringify(limits)).toEqual(expected);
    }
  });
  it('from flat logits, of which more than the first few are needed', () => {
    for (const limits of [{ topP: 0.3 }, { topP: 0.99 }, { minP: 0.5 }]) {
      const [actual, expected] = both(normal(3, 5000, 'float32', 0.01), limits, 5);
      expect(actual).toEqual(expected);
      expect(Math.max(...actual)).toBeGreaterThan(64);
    }
  });
  it('from views', () => {
    const logits = normal(12, 90);
    for (const view of [
      logits.t(),
      logits.slice(1, 0, 90, 2),
      logits.narrow(1, 5, 60),
      logits.narrow(0, 1, 1).expand([6, 90]),
    ])
      for (const limits of [{}, { topK: 5 }, { topP: 0.7 }]) {
        const [actual, expected] = both(view, limits, 2);
        expect(actual).toEqual(expected);
        expect(both(view.contiguous(), limits, 2)[0]).toEqual(actual);
      }
  });
  it('where logits are masked, and no token where they are not finite', () => {
    const inf = Number.POSITIVE_INFINITY;
    const rows = [
      [-inf, 1, -inf, -inf],
      [Number.NaN, 0, 1, 2],
      [0, inf, 1, 2],
      [-inf, -inf, -inf, -inf],
      [0, -inf, -inf, 9],
    ];
    for (const limits of settings) {
      const [actual, expected] = both(tensor(rows, { device }), limits, 1);
      expect(actual).toEqual(expected);
      expect(actual.slice(0, 4)).toEqual([1, -1, -1, -1]);
      expect([0, 3]).toContain(actual[4]);
    }
    expect(both(normal(0, 5), {}, 1)[0]).toEqual([]);
  });
});

describe('sampleTokens', () => {
  /** The tokens that may be drawn and their probabilities, from the definition, in float64. */
  function distribution(logits: number[], { temperature, topK, topP, minP }: Required<Limits>): Map<number, number> {
    const order = [...logits.keys()].sort((a, b) => logits[b]! - logits[a]!).slice(0, topK || undefined);
    const weights = order.map((id) => Math.exp((logits[id]! - logits[order[0]!]!) / temperature));
    const total = weights.reduce((a, b) => a + b, 0);
    const kept: [number, number][] = [];
    let before = 0;
    for (const [i, weight] of weights.entries()) {
      if (i > 0 && ((topP < 1 && before >= topP) || weight < minP)) break;
      kept.push([order[i]!, weight]);
      before += weight / total;
    }
    const sum = kept.reduce((a, [, weight]) => a + weight, 0);
    return new Map(kept.map(([id, weight]) => [id, weight / sum]));
  }
  it.each(settings)('follows its distribution with %o', (limits) => {
    const rows = 8000;
    const logits = normal(1, 12, 'float32', 1.5);
    const options = { ...unlimited, ...limits };
    const drawn = list(sampleTokens(logits.expand([rows, 12]), { ...options, generator: new Generator(3) }));
    const expected = distribution(list(logits), options);
    for (const id of drawn) if (!expected.has(id)) expect.fail(`drew ${id}`);
    for (const [id, p] of expected)
      expect(Math.abs(drawn.filter((d) => d === id).length / rows - p)).toBeLessThan(5 * Math.sqrt(p / rows) + 1e-9);
  });
  it('takes as many numbers from a generator as multinomial does', () => {
    const [mine, other] = [new Generator(1), new Generator(1)];
    sampleTokens(normal(3, 50), { ...unlimited, topK: 7, generator: mine });
    F.multinomial(F.ones([3, 7]), 1, { generator: other });
    expect(mine.getState()).toEqual(other.getState());
  });
  it('refuses a temperature below 0, and one that no logit survives', () => {
    const draw = (temperature: number) => () =>
      sampleTokens(tensor([[3e38, 1]], { device }), { ...unlimited, temperature }).dataSync();
    expect(draw(-1)).toThrow(expect.objectContaining({ code: 'FOVEA_ARGUMENT' }));
    expect(draw(1e-9)).toThrow(expect.objectContaining({ code: 'FOVEA_ARGUMENT' }));
  });
});
