// Tensors between the CPU and a GPU: bytes, order, failures, memory. Runs where FOVEA_TEST_DEVICE names a device.
import {
  add,
  arange,
  type Device,
  embedding,
  emptyCache,
  type FoveaError,
  functional as F,
  manualSeed,
  memory,
  ones,
  rand,
  randint,
  randn,
  synchronize,
  tensor,
  tidy,
  type Tensor,
  zeros,
} from 'fovea';
import { describe, expect, it } from 'vitest';
import { codeOf, device, list } from '../helpers.js';

const there = (x: Tensor): Tensor => x.to(device);
const rejection = (promise: Promise<unknown>): Promise<FoveaError> =>
  promise.then(
    () => expect.unreachable('expected a rejection'),
    (error: unknown) => error as FoveaError,
  );

describe('bytes', () => {
  it.each(['float32', 'float64', 'float16', 'bfloat16', 'int32', 'int64', 'uint8', 'int8', 'bool'] as const)(
    '%s goes there and back',
    async (dtype) => {
      const x = tensor([0, 1, 2, 3, 100, 1], { dtype }).reshape([2, 3]);
      const y = there(x);
      expect([y.device, y.dtype, [...y.shape]]).toEqual(['cuda:0', dtype, [2, 3]]);
      expect(list(y.to('cpu'))).toEqual(list(x));
      expect(new Uint8Array((await y.data()).buffer)).toEqual(new Uint8Array((await x.data()).buffer));
    },
  );

  it('views go as they look, on both sides', async () => {
    const x = arange(24).reshape([2, 3, 4]);
    for (const view of [
      (t: Tensor) => t.transpose(0, 2),
      (t: Tensor) => t.slice(2, 1, 4, 2),
      (t: Tensor) => t.select(1, 2),
    ]) {
      expect(list(there(view(x)))).toEqual(list(view(x)));
      expect(list(view(there(x)))).toEqual(list(view(x)));
      expect(list(view(there(x)).to('cpu'))).toEqual(list(view(x)));
    }
    expect(list(there(tensor(7)).expand([3]))).toEqual([7, 7, 7]);
  });

  it('nothing at all goes, too', async () => {
    const x = there(zeros([3, 0]));
    expect([...x.shape, x.device]).toEqual([3, 0, 'cuda:0']);
    expect((await x.data()).length).toBe(0);
    expect([...x.to('cpu').shape]).toEqual([3, 0]);
  });

  it('more than one piece keeps its order', async () => {
    const n = 5_000_011;
    const x = there(tensor(Float32Array.from({ length: n }, (_, i) => i)));
    const back = await x.data();
    const copied = await x.to('cpu').data();
    for (const i of [0, 1, 2_097_151, 2_097_152, 4_194_304, n - 1]) expect([back[i], copied[i]]).toEqual([i, i]);
    expect(x.dataSync()[n - 1]).toBe(n - 1);
  });

  it('the same device is the tensor itself', () => {
    const x = there(ones([2]));
    expect(x.to('cuda:0')).toBe(x);
    expect(x.to(device)).toBe(x);
  });
});

describe('order', () => {
  it('a write after to() does not reach the copy', async () => {
    const x = ones([100_000]);
    const y = there(x);
    x.zero_();
    expect((await y.data())[99_999]).toBe(1);
    const z = y.to('cpu');
    const read = y.data();
    y.zero_();
    expect([(await z.data())[5], (await read)[5], (await y.data())[5]]).toEqual([1, 1, 0]);
  });

  it('freed memory is reused in order', async () => {
    const sums: Promise<Float32Array>[] = [];
    for (let i = 0; i < 50; i++)
      tidy(() => {
        const a = tensor(new Float32Array(1000).fill(i), { device });
        const b = tensor(new Float32Array(1000).fill(1), { device });
        sums.push(a.add(b).data());
      });
    const all = await Promise.all(sums);
    expect(all.map((s) => [s[0], s[999]])).toEqual(Array.from({ length: 50 }, (_, i) => [i + 1, i + 1]));
  });

  it('gradients cross', async () => {
    const x = tensor([1, 2, 3], { requiresGrad: true });
    there(x)
      .mul(there(tensor([2, 4, 8])))
      .to('cpu')
      .sum()
      .backward();
    expect(list(x.grad!)).toEqual([2, 4, 8]);
    expect(x.grad!.device).toBe('cpu');
  });
});

describe('devices', () => {
  it('do not mix', () => {
    const error = (() => {
      try {
        return add(ones([2]), there(ones([2])));
      } catch (e) {
        return e as FoveaError;
      }
    })();
    expect(error).toMatchObject({ code: 'FOVEA_DEVICE', message: /add: b is on cuda:0 but a is on cpu.*to\(\)/ });
    expect(codeOf(() => zeros([1], { device: 'cuda:77' }))).toBe('FOVEA_DEVICE');
    expect(codeOf(() => zeros([1], { device: 'tpu' as Device }))).toBe('FOVEA_ARGUMENT');
  });

  it('make what is asked for there', () => {
    for (const x of [
      zeros([2], { device }),
      arange(3, { device }),
      rand([2], { device }),
      tensor([1], { device }),
      F.oneHot(tensor([1], { dtype: 'int64', device }), 3),
    ])
      expect(x.device).toBe('cuda:0');
  });
});

describe('failures', () => {
  it('reject exactly the reads of what depends on them', async () => {
    const table = there(randn([10, 4]));
    const bad = embedding(there(tensor([3, 12], { dtype: 'int64' })), table);
    const good = embedding(there(tensor([3, 9], { dtype: 'int64' })), table);
    const after = bad.add(good);
    for (const x of [bad, after, after.to('cpu'), after.sum()]) {
      const error = await rejection(x.data());
      expect(error).toMatchObject({ code: 'FOVEA_INDEX', message: /^embedding: .*12.*10/ });
      expect(codeOf(() => x.dataSync())).toBe('FOVEA_INDEX');
    }
    expect((await good.data()).length).toBe(8);
    expect((await table.data()).length).toBe(40);
  });

  it('are mended by what replaces all of a tensor', async () => {
    const x = there(zeros([2, 4]));
    x.copy_(embedding(there(tensor([0, 5], { dtype: 'int64' })), there(ones([3, 4]))));
    expect((await rejection(x.data())).code).toBe('FOVEA_INDEX');
    x.fill_(3);
    expect(list(x)).toEqual(Array(8).fill(3));
  });

  it('cross with the copy', async () => {
    const bad = embedding(tensor([9], { dtype: 'int64' }), ones([3, 4]));
    expect((await rejection(there(bad).data())).code).toBe('FOVEA_INDEX');
    expect((await rejection(there(bad).to('cpu').data())).code).toBe('FOVEA_INDEX');
  });
});

describe('random numbers', () => {
  const draw: Record<string, (at: Device) => Tensor> = {
    rand: (at) => rand([10_007], { device: at }),
    'rand float64': (at) => rand([1003], { dtype: 'float64', device: at }),
    randn: (at) => randn([10_007], { device: at }),
    'randn bfloat16': (at) => randn([1003], { dtype: 'bfloat16', device: at }),
    randint: (at) => randint(-5, 1000, [1003], { device: at }),
    dropout: (at) => F.dropout(ones([2003], { device: at }), { p: 0.3 }),
    multinomial: (at) => F.multinomial(arange(1, 21, 1, { dtype: 'float32', device: at }), 7),
  };
  it.each(Object.keys(draw))('%s equals the CPU', async (name) => {
    manualSeed(7);
    const there = draw[name]!(device);
    manualSeed(7);
    const here = draw[name]!('cpu');
    expect(there.device).toBe('cuda:0');
    expect(new Uint8Array((await there.data()).buffer)).toEqual(new Uint8Array((await here.data()).buffer));
  });
});

describe('memory', () => {
  /** Frees what earlier tests dropped. */
  const settle = async (): Promise<void> => {
    globalThis.gc!();
    await synchronize();
    emptyCache();
  };
  it('is counted there and comes back', async () => {
    await settle();
    const live = (): number => memory().devices['cuda:0']!.live;
    const before = live();
    for (let i = 0; i < 1000; i++) tidy(() => void randn([1000], { device }).mul(2).sum());
    expect(live()).toBe(before);
    using x = zeros([1 << 20], { device });
    expect(live() - before).toBeGreaterThanOrEqual(4 << 20);
    x.dispose();
    await settle();
    expect(live()).toBe(before);
  });

  it('that is dropped is swept', async () => {
    const before = memory().devices['cuda:0']!;
    // Enough that a fast device is not done before a collection is.
    for (let i = 0; i < 4000; i++) zeros([1 << 18], { device });
    expect(memory().devices['cuda:0']!.peak - before.live).toBeLessThan(2000 * 2 ** 20);
  });

  it('that is dropped is swept no later after much more has been given back', async () => {
    await settle();
    const live = (): number => memory().devices['cuda:0']!.live;
    const before = live();
    // A slow device does not outrun V8, whatever the marks of our own are.
    for (const x of Array.from({ length: 1200 }, () => zeros([1 << 18], { device }))) x.dispose();
    let most = 0;
    for (let i = 0; i < 3000; i++) {
      zeros([1 << 18], { device });
      most = Math.max(most, live() - before);
    }
    expect(most).toBeLessThan(1500 * 2 ** 20);
  });
});
