// linearCrossEntropy against crossEntropy(linear()): gradients in every precision, graphs that are walked again,
// memory.
import {
  autocast,
  type Device,
  type Dtype,
  functional as F,
  grad,
  memory,
  noGrad,
  optim,
  randint,
  randn,
  resetPeakMemory,
  synchronizeSync,
  tensor,
  type Tensor,
  tidy,
} from 'fovea';
import { describe, expect, it } from 'vitest';
import { device, list } from '../helpers.js';

type Options = NonNullable<Parameters<typeof F.linearCrossEntropy>[3]>;
const composed = (h: Tensor, w: Tensor, t: Tensor, { bias, ...more }: Options): Tensor => {
  const options: Options = { ...more };
  delete options.chunkSize;
  const logits = F.linear(h, w, bias);
  return F.crossEntropy(logits.reshape([-1, logits.shape.at(-1)!]), t.reshape([-1]), options);
};
const leaf = (shape: number[], dtype: Dtype = 'float64', where: Device = device): Tensor =>
  randn(shape, { dtype, device: where }).requiresGrad_();
const classes = (v: number, shape: number[], where: Device = device): Tensor => randint(0, v, shape, { device: where });
function expectClose(a: Tensor, b: Tensor, tolerance: number, what = ''): void {
  expect([...a.shape], what).toEqual([...b.shape]);
  const [x, y] = [list(a), list(b)];
  const largest = Math.max(...y.map(Math.abs), 1e-30);
  const off = Math.max(...x.map((v, i) => Math.abs(v - y[i]!)));
  expect(off / largest, what).toBeLessThanOrEqual(tolerance);
}

const reductions = ['mean', 'sum', 'none'] as const;
describe.each(reductions)('reduction %s', (reduction) => {
  const options = { reduction, chunkSize: 5, ignoreIndex: 2, labelSmoothing: 0.1 };
  const [h, w, bias] = [leaf([3, 4, 7]), leaf([11, 7]), leaf([11])];
  const t = classes(11, [3, 4]);
  const rows = reduction === 'none' ? ([3, 4] as const) : [];
  const seed = randn([...rows], { dtype: 'float64', device });
  const both = [F.linearCrossEntropy, composed] as const;

  it('has the loss and the gradients of the composition', () => {
    const [one, other] = both.map((f) => {
      const loss = f(h, w, t, { ...options, bias });
      const g = grad(loss.reshape([...rows]), [h, w, bias], { gradOutputs: seed });
      return [loss.reshape([...rows]), ...g];
    }) as [Tensor[], Tensor[]];
    one.forEach((g, i) => expectClose(g, other[i]!, 1e-14, String(i)));
  });
  it.each([[0], [1], [2], [0, 2]])('gives those that are wanted alone: %j', (...wanted) => {
    const inputs = [h, w, bias].map((x, i) => (wanted.includes(i) ? x : x.detach())) as [Tensor, Tensor, Tensor];
    const [one, other] = both.map((f) =>
      grad(
        f(inputs[0], inputs[1], t, { ...options, bias: inputs[2] }).sum(),
        wanted.map((i) => inputs[i]!),
      ),
    ) as [Tensor[], Tensor[]];
    one.forEach((g, i) => expectClose(g, other[i]!, 1e-14));
  });
  it('can be walked twice with retainGraph, and not without', () => {
    const loss = F.linearCrossEntropy(h, w, t, { ...options, bias }).sum();
    const first = grad(loss, [h, w, bias], { retainGraph: true });
    const second = grad(loss, [h, w, bias]);
    first.forEach((g, i) => expectClose(g, second[i]!, 1e-14));
    expect(() => grad(loss, [h])).toThrow(/linearCrossEntropy saved were freed/);
  });
  it('can be differentiated again', () => {
    const [one, other] = both.map((f) => {
      const loss = f(h.tanh(), w, t, { ...options, bias })
        .square()
        .sum();
      const [dh, dw] = grad(loss, [h, w], { createGraph: true });
      return grad(dh!.square().sum().add(dw!.sum()), [h, w, bias]);
    }) as [Tensor[], Tensor[]];
    one.forEach((g, i) => expectClose(g, other[i]!, 1e-13, String(i)));
  });
  it('refuses a weight that was changed in place since', () => {
    const own = leaf([11, 7]);
    const loss = F.linearCrossEntropy(h, own, t, options).sum();
    noGrad(() => own.mul_(2));
    expect(() => loss.backward()).toThrow(/linearCrossEntropy saved weight/);
  });
  it.each(['float16', 'bfloat16'] as const)('takes %s', (dtype) => {
    const small = [h, w, bias].map((x) => x.detach().to(dtype).requiresGrad_()) as [Tensor, Tensor, Tensor];
    const [one, other] = both.map((f) => {
      const loss = f(small[0], small[1], t, { ...options, bias: small[2] });
      return [loss.reshape([...rows]), ...grad(loss.sum(), small)];
    }) as [Tensor[], Tensor[]];
    expect(one.map((g) => g.dtype)).toEqual(['float32', dtype, dtype, dtype]);
    const eps = dtype === 'float16' ? 2 ** -10 : 2 ** -7;
    one.forEach((g, i) => expectClose(g, other[i]!, i === 0 ? 1e-6 : 2 * eps, String(i)));
  });
});

describe('a mean', () => {
  it('over targets that do not count is NaN, with zero gradients, as in PyTorch', () => {
    const [h, w] = [leaf([3, 4]), leaf([5, 4])];
    const t = tensor([-100, -100, -100], { dtype: 'int64', device });
    const loss = F.linearCrossEntropy(h, w, t, { chunkSize: 2 });
    expect(loss.itemSync()).toBeNaN();
    loss.backward();
    for (const x of [h, w]) expect(new Set(list(x.grad!))).toEqual(new Set([0]));
  });
  it('over no rows is NaN, too', () => {
    const none = randn([0, 4], { device });
    const target = tensor([], { shape: [0], dtype: 'int64', device });
    expect(F.linearCrossEntropy(none, randn([5, 4], { device }), target).itemSync()).toBeNaN();
  });
  it('adds to a gradient that is there, as for tied weights', () => {
    const w = leaf([9, 4]);
    const ids = classes(9, [6]);
    const [one, other] = [F.linearCrossEntropy, composed].map((f) => {
      w.grad = null;
      f(F.embedding(ids, w).tanh(), w, ids, { chunkSize: 4 }).backward();
      f(F.embedding(ids, w).tanh(), w, ids, { chunkSize: 4 }).backward();
      return w.grad!;
    }) as [Tensor, Tensor];
    expectClose(one, other, 1e-14);
  });
});

describe('under autocast', () => {
  const [h, w, bias] = [leaf([12, 32], 'float32'), leaf([40, 32], 'float32'), leaf([40], 'float32')];
  const t = classes(40, [12]);
  const run = (f: typeof composed, dtype: 'bfloat16' | 'float16', scale = 1): Tensor[] => {
    const loss = autocast(dtype, () => f(h, w, t, { bias, chunkSize: 5 }));
    return [loss, ...grad(loss.mul(scale), [h, w, bias]).map((g) => g.mul(1 / scale))];
  };
  it.each(['bfloat16', 'float16'] as const)('%s: float32 gradients, as near as those of the composition', (dtype) => {
    const one = run(F.linearCrossEntropy, dtype, 1024);
    const other = run(composed, dtype, 1024);
    expect(one.map((g) => g.dtype)).toEqual(['float32', 'float32', 'float32', 'float32']);
    one.forEach((g, i) => expectClose(g, other[i]!, i === 0 ? 1e-6 : dtype === 'float16' ? 2e-3 : 2e-2, String(i)));
  });
  it('float16 loses no small gradients, whatever the scale', () => {
    // d mean / d logits is 1e-9 here, which is no float16
    const [scaled, plain] = [1, 65536].map((scale) => {
      const loss = autocast('float16', () => F.linearCrossEntropy(h, w, t, { bias, reduction: 'sum' }));
      return grad(loss.mul(1e-9 * scale), [w])[0]!.mul(1 / scale);
    }) as [Tensor, Tensor];
    expectClose(scaled, plain, 1e-6);
    expect(Math.max(...list(plain))).toBeGreaterThan(0);
  });
  it('works with a GradScaler', async () => {
    const optimizer = new optim.SGD([h, w, bias], { lr: 0.1 });
    const scaler = new optim.GradScaler();
    const losses: number[] = [];
    for (let i = 0; i < 4; i++) {
      optimizer.zeroGrad();
      const loss = autocast('float16', () => F.linearCrossEntropy(h, w, t, { bias, chunkSize: 5 }));
      scaler.scale(loss).backward();
      expect(await scaler.step(optimizer)).toBe(true);
      await scaler.update();
      losses.push((await loss.item()) as number);
    }
    expect(losses.slice(1).every((loss, i) => loss < losses[i]!)).toBe(true);
  });
});

describe('memory', () => {
  const [n, k, v] = [400, 64, 50_257];
  const make = (): [Tensor, Tensor, Tensor] =>
    tidy(() => [leaf([n, k], 'float32', 'cpu'), leaf([v, k], 'float32', 'cpu'), classes(v, [n], 'cpu')]);
  /** Bytes at the peak of `run` beyond what was there before. */
  const peak = (run: () => void): number => {
    synchronizeSync();
    const before = memory().live;
    resetPeakMemory();
    tidy(run);
    return memory().peak - before;
  };
  it('beyond the gradients is at most 64 MB, where the logits have 80', () => {
    const [h, w, t] = make();
    const gradients = 4 * (n * k + v * k);
    const used = peak(() => F.linearCrossEntropy(h, w, t).backward());
    expect(used - gradients).toBeLessThanOrEqual(64e6);
    expect(used).toBeGreaterThan(gradients);
    expect(w.grad!.size).toBe(v * k);
  });
  it.each(['bfloat16', 'float16'] as const)('%s takes no more, beside the converted weight', (dtype) => {
    const [h, w, t] = make();
    const used = peak(() => autocast(dtype, () => F.linearCrossEntropy(h, w, t)).backward());
    expect(used - 6 * (n * k + v * k)).toBeLessThanOrEqual(64e6);
  });
  it('without gradients is half of that', () => {
    const [h, w, t] = make();
    expect(peak(() => noGrad(() => F.linearCrossEntropy(h, w, t)))).toBeLessThanOrEqual(45e6);
  });
  it('is freed by backward', () => {
    const [h, w, t] = make();
    const before = memory().live;
    tidy(() => F.linearCrossEntropy(h, w, t).backward());
    for (const x of [h, w]) x.grad!.dispose();
    expect(memory().live - before).toBeLessThan(1e6);
  });
});
