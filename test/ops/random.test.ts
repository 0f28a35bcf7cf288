// Random ops: the distribution, the seed, and independence of how the numbers were asked for.
import {
  bernoulli,
  type Dtype,
  FoveaError,
  functional as F,
  Generator,
  manualSeed,
  multinomial,
  ones,
  rand,
  randint,
  randn,
  randperm,
  type Tensor,
  tensor,
  zeros,
} from 'fovea';
import { describe, expect, it } from 'vitest';
import { definedOps } from '../../dist/ops/define-op.js';
import { hostUniform } from '../../dist/ops/host-random.js';
import { FLOATS, values } from './samples.js';

const list = (t: Tensor): number[] => Array.from(values(t).data);
const mean = (x: number[]): number => x.reduce((a, b) => a + b, 0) / x.length;
const variance = (x: number[]): number => mean(x.map((v) => v * v)) - mean(x) ** 2;
const N = 100_000;

describe('distributions', () => {
  it.each(FLOATS)('rand is uniform in [0, 1), %s', (dtype) => {
    const x = list(rand([N], { dtype, generator: new Generator(1) }));
    expect(Math.min(...x.slice(0, 5000))).toBeGreaterThanOrEqual(0);
    expect(x.every((v) => v >= 0 && v < 1)).toBe(true);
    expect(Math.abs(mean(x) - 0.5)).toBeLessThan(0.01);
    expect(Math.abs(variance(x) - 1 / 12)).toBeLessThan(0.005);
  });
  it.each(FLOATS)('randn is normal, %s', (dtype) => {
    const x = list(randn([N], { dtype, generator: new Generator(2) }));
    expect(Math.abs(mean(x))).toBeLessThan(0.02);
    expect(Math.abs(variance(x) - 1)).toBeLessThan(0.03);
    const within = (s: number): number => x.filter((v) => Math.abs(v) < s).length / N;
    expect(Math.abs(within(1) - 0.6827)).toBeLessThan(0.01);
    expect(Math.abs(within(2) - 0.9545)).toBeLessThan(0.01);
    expect(Math.max(...x.slice(0, 5000))).toBeGreaterThan(2.5);
  });
  it('randint covers its range and nothing else', () => {
    const x = list(randint(-3, 4, [N], { generator: new Generator(3) }));
    for (let v = -3; v < 4; v++) expect(Math.abs(x.filter((y) => y === v).length / N - 1 / 7)).toBeLessThan(0.01);
    expect(new Set(x).size).toBe(7);
  });
  it('randperm is a permutation', () => {
    const x = list(randperm(1000));
    expect([...x].sort((a, b) => a - b)).toEqual(Array.from({ length: 1000 }, (_, i) => i));
    expect(x).not.toEqual([...x].sort((a, b) => a - b));
  });
  it('bernoulli follows its probabilities', () => {
    const x = list(bernoulli(rand([1]).mul(0).add(0.3).expand([N])));
    expect(Math.abs(mean(x) - 0.3)).toBeLessThan(0.01);
  });
  it('dropout zeroes p of the elements and scales the others', () => {
    for (const dtype of ['float32', 'bfloat16'] as Dtype[]) {
      const y = list(F.dropout(ones([N], { dtype }), { p: 0.25, training: true }));
      expect(Math.abs(y.filter((v) => v === 0).length / N - 0.25)).toBeLessThan(0.01);
      expect(y.every((v) => v === 0 || Math.abs(v - 4 / 3) < 0.01)).toBe(true);
    }
    expect(list(F.dropout(ones([8]), { p: 0.5, training: false }))).toEqual(Array(8).fill(1));
    expect(list(F.dropout(ones([8]), { p: 1, training: true }))).toEqual(Array(8).fill(0));
  });
  it('the gradient of dropout passes where the value did', () => {
    const x = ones([1000], { requiresGrad: true });
    const y = F.dropout(x, { p: 0.5, training: true });
    y.sum().backward();
    expect(list(x.grad!)).toEqual(list(y));
  });
  it('dropoutAdd adds to what dropout of the same numbers gives, on to both gradients', () => {
    for (const dtype of FLOATS)
      for (const [n, layout] of [[0], [1], [7], [513], [70_001], [300, 'transposed']] as [number, string?][]) {
        const spec = layout ? [20, n / 20] : [n];
        const make = (seed: number): Tensor => {
          const x = randn(spec, { dtype, generator: new Generator(seed) });
          return (layout ? x.t() : x).detach().requiresGrad_(true);
        };
        const [x, residual, other] = [make(1), make(2), make(1)] as [Tensor, Tensor, Tensor];
        const options = (): F.DropoutOptions => ({ p: 0.3, generator: new Generator(5) });
        const y = F.dropoutAdd(x, residual, options());
        const dropped = F.dropout(other, options());
        const [kept, added] = [list(dropped), list(residual)];
        const expected = kept.map((v, i) => v + added[i]!);
        // One rounding instead of two.
        const step = { float64: 2 ** -52, float32: 2 ** -23, float16: 2 ** -10, bfloat16: 2 ** -7 }[dtype as 'float32'];
        list(y).forEach((v, i) => {
          const allowed = step * (Math.abs(expected[i]!) + Math.abs(kept[i]!));
          if (!(Math.abs(v - expected[i]!) <= allowed)) expect.fail(`${dtype} [${i}]: ${v}, not ${expected[i]}`);
        });
        y.sum().backward();
        dropped.sum().backward();
        expect(list(x.grad!)).toEqual(list(other.grad!));
        expect(list(residual.grad!)).toEqual(Array(n).fill(1));
      }
  });
  it('dropoutAdd without dropout is a sum, and its reference agrees with it', () => {
    const [x, residual] = [tensor([1, 2, 3]), tensor([10, 20, 30])];
    expect(list(F.dropoutAdd(x, residual, { training: false }))).toEqual([11, 22, 33]);
    expect(list(F.dropoutAdd(x, residual, { p: 0 }))).toEqual([11, 22, 33]);
    expect(list(F.dropoutAdd(x, residual, { p: 1 }))).toEqual([10, 20, 30]);
    const { reference } = definedOps.get('dropoutAdd')!.spec;
    const attrs = { p: 0.5, seed: 3, offset: 0 };
    const a = randn([1000], { dtype: 'float64' });
    const b = randn([1000], { dtype: 'float64' });
    const op = definedOps.get('dropoutAdd') as unknown as (x: object, attrs: object) => { y: Tensor };
    expect(list(reference!({ x: a, residual: b }, attrs)['y']!)).toEqual(list(op({ x: a, residual: b }, attrs).y));
  });
  it('multinomial draws by weight, without replacement each once', () => {
    const draws = list(multinomial(tensor([[1, 2, 0, 5]]).expand([20_000, 4]), 1));
    [1 / 8, 2 / 8, 0, 5 / 8].forEach((p, i) =>
      expect(Math.abs(draws.filter((d) => d === i).length / 20_000 - p)).toBeLessThan(0.02),
    );
    const all = list(multinomial(ones([5, 7]), 7));
    for (let r = 0; r < 5; r++) expect(new Set(all.slice(7 * r, 7 * r + 7)).size).toBe(7);
    expect(multinomial(ones([3]), 10, { replacement: true }).shape).toEqual([10]);
  });
});

describe('seeds', () => {
  it('manualSeed repeats, and each call goes on', () => {
    manualSeed(7);
    const a = list(rand([5]));
    const b = list(rand([5]));
    manualSeed(7);
    expect(list(rand([5]))).toEqual(a);
    expect(list(rand([5]))).toEqual(b);
    expect(a).not.toEqual(b);
  });
  it('a Generator keeps its place, also over getState and setState', () => {
    const g = new Generator(5);
    rand([10], { generator: g });
    const state = g.getState();
    const next = list(rand([10], { generator: g }));
    g.setState(state);
    expect(list(rand([10], { generator: g }))).toEqual(next);
  });
  it('a longer tensor begins with the shorter one', () => {
    expect(list(rand([100], { generator: new Generator(9) })).slice(0, 8)).toEqual(
      list(rand([8], { generator: new Generator(9) })),
    );
  });
  it('matches the published test vector of Philox-4x32-10', () => {
    // Counter 0, key 0 gives 6627e8d5 e169c58d bc57ac4c 9b00dbd8 (Random123, kat_vectors).
    const words = [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8];
    const x = zeros([4]);
    x.uniform_(0, 1, { generator: new Generator(0) });
    expect(list(x)).toEqual(words.map((w) => (w >>> 8) / 2 ** 24));
  });
});

describe('refusals', () => {
  it.each([
    ['rand of a negative size', () => rand([-1])],
    ['randint of an empty range', () => randint(3, 3, [2])],
    ['dropout of p 2', () => F.dropout(ones([2]), { p: 2, training: true })],
    ['dropoutAdd of p 2', () => F.dropoutAdd(ones([2]), ones([2]), { p: 2 })],
    ['dropoutAdd of shapes that differ', () => F.dropoutAdd(ones([2]), ones([3]))],
    ['dropoutAdd of dtypes that differ', () => F.dropoutAdd(ones([2]), ones([2], { dtype: 'float64' }))],
    ['dropoutAdd of what is no tensor', () => F.dropoutAdd(ones([2]), 'x' as never)],
    ['multinomial of zeros', () => multinomial(zeros([1, 3]), 1).dataSync()],
    ['multinomial of negative weights', () => multinomial(tensor([[1, -1]]), 1).dataSync()],
    ['multinomial of NaN', () => multinomial(tensor([[1, Number.NaN]]), 1).dataSync()],
    ['more samples than categories', () => multinomial(ones([1, 3]), 4).dataSync()],
    ['a seed that is no number', () => manualSeed('x' as never)],
    ['a generator that is none', () => rand([2], { generator: {} as never })],
  ])('%s', (_, run) => {
    expect(run).toThrow(FoveaError);
  });
});

describe('numbers for what JavaScript decides', () => {
  it.each([0, 1, 2 ** 32 + 5, 2 ** 53 - 1])('are those of rand, from the same counters, seed %i', (seed) => {
    for (const [count, offset] of [
      [0, 0],
      [1, 3],
      [9, 2 ** 40 + 1],
    ] as const) {
      const [host, device] = [
        new Generator(seed).setState({ seed, offset }),
        new Generator().setState({ seed, offset }),
      ];
      expect(hostUniform('test', count, host)).toEqual(list(rand([count], { generator: device })));
      expect(host.getState()).toEqual(device.getState());
    }
  });
});
