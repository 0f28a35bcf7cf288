// Weights that are packed once: the bits of products without, freed by writes and with the weight.
import { describe, expect, test } from 'vitest';
import { adopt, functional as F, memory, noGrad, randn, releaseShared, share, type Tensor, tidy } from 'fovea';
import { device } from '../helpers.js';

const [N, K] = [300, 257];
const packedBytes = 320 * 288 * 4;

async function results(fn: () => Tensor, times: number): Promise<unknown[]> {
  const all = [];
  for (let i = 0; i < times; i++) {
    const y = noGrad(fn);
    all.push(await y.data());
    y.dispose();
  }
  return all;
}

// Products on a GPU pack nothing: there the rows of linear and addmm in the op table are all there is to test.
describe.runIf(device === 'cpu')('packed weights', () => {
  test.each(['float32', 'bfloat16', 'float16', 'float64'] as const)(
    '%s: the same bits, packed or not',
    async (dtype) => {
      using w = randn([N, K], { dtype });
      using turned = randn([K, N], { dtype });
      using bias = randn([N], { dtype });
      for (const rows of [1, 8, 9, 40]) {
        using x = randn([rows, K], { dtype });
        const [first, ...linear] = await results(() => F.linear(x, w, bias, { activation: 'gelu' }), 4);
        for (const y of linear) expect(y).toEqual(first);
        const [second, ...added] = await results(() => F.addmm(bias, x, turned), 4);
        for (const y of added) expect(y).toEqual(second);
      }
    },
  );

  test('one weight multiplied as it lies and transposed, in turns', async () => {
    for (const [n, k] of [
      [256, 256],
      [N, K],
    ] as const) {
      using w = randn([n, k]);
      using copy = w.clone();
      using x = randn([20, k]);
      using y = randn([20, n]);
      using none = randn([k]);
      const [straight] = await results(() => F.addmm(none, y, copy), 1);
      const [transposed] = await results(() => F.linear(x, w), 3);
      for (const found of await results(() => F.addmm(none, y, w), 3)) expect(found).toEqual(straight);
      for (const found of await results(() => F.linear(x, w), 3)) expect(found).toEqual(transposed);
    }
  });

  test('made at the second product of many rows, freed with the weight', async () => {
    const w = randn([N, K]);
    using x = randn([20, K]);
    const before = memory().live;
    const held = (): number => memory().live - before;
    await results(() => F.linear(x, w), 1);
    expect(held()).toBe(0);
    await results(() => F.linear(x, w), 3);
    expect(held()).toBeGreaterThanOrEqual(packedBytes);
    const used = held();
    await results(() => F.linear(x, w), 3);
    expect(held()).toBe(used);
    w.dispose();
    expect(held()).toBeLessThan(0);
  });

  test('a write to the weight is seen, and frees them', async () => {
    using w = randn([N, K]);
    using x = randn([20, K]);
    const before = memory().live;
    await results(() => F.linear(x, w), 3);
    noGrad(() => w.mul_(2));
    expect(memory().live).toBe(before);
    const [changed] = await results(() => F.linear(x, w), 3);
    using fresh = w.clone();
    expect((await results(() => F.linear(x, fresh), 1))[0]).toEqual(changed);
  });

  test('so is one through another view', async () => {
    using w = randn([N, K]);
    using x = randn([20, K]);
    await results(() => F.linear(x, w), 3);
    noGrad(() => tidy(() => void w.narrow(0, 0, 7).fill_(0)));
    using y = noGrad(() => F.linear(x, w));
    expect(Math.max(...(await y.narrow(1, 0, 7).abs().data()))).toBe(0);
    expect(await y.narrow(1, 7, 1).abs().sum().item()).toBeGreaterThan(0);
  });

  test('not of storage that other threads may write to, nor where a gradient is wanted', async () => {
    using own = randn([N, K]);
    const sent = await share(own);
    using w = adopt(sent);
    using x = randn([20, K]);
    using wanted = randn([N, K], { requiresGrad: true });
    const before = memory().live;
    await results(() => F.linear(x, w), 4);
    for (let i = 0; i < 4; i++) tidy(() => void F.linear(x, wanted));
    expect(memory().live).toBe(before);
    releaseShared(sent);
  });
});
