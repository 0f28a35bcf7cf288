// Tensors as users hold them: host data, dtypes, promotion, views, lifetime.
import {
  arange,
  empty,
  eye,
  full,
  functional as F,
  info,
  keep,
  linspace,
  memory,
  ones,
  randn,
  setMemoryLimit,
  synchronize,
  type Tensor,
  tensor,
  tidy,
  zeros,
} from 'fovea';
import { describe, expect, it } from 'vitest';
import { codeOf, list } from '../helpers.js';

describe('host data', () => {
  it('takes nested arrays, typed arrays and numbers, and copies at the call', () => {
    expect(
      tensor([
        [1, 2],
        [3, 4],
      ]).shape,
    ).toEqual([2, 2]);
    expect(tensor(5).shape).toEqual([]);
    expect(tensor([]).shape).toEqual([0]);
    expect(tensor([[], []]).shape).toEqual([2, 0]);
    const source = new Float32Array([1, 2, 3]);
    const t = tensor(source);
    source.fill(9);
    expect(list(t)).toEqual([1, 2, 3]);
  });

  it('infers dtypes as PyTorch does', () => {
    expect(tensor([1, 2]).dtype).toBe('float32');
    expect(tensor([true, false]).dtype).toBe('bool');
    expect(tensor([1n, 2n]).dtype).toBe('int64');
    expect(tensor(new Float64Array(1)).dtype).toBe('float64');
    expect(tensor(new Int32Array(1)).dtype).toBe('int32');
    expect(tensor(new Uint8Array(1)).dtype).toBe('uint8');
    expect(tensor(new BigInt64Array(1)).dtype).toBe('int64');
  });

  it('refuses ragged arrays, wrong sizes and foreign values', () => {
    expect(codeOf(() => tensor([[1, 2], [3]]))).toBe('FOVEA_SHAPE');
    expect(codeOf(() => tensor(new Float32Array(3), { shape: [2] }))).toBe('FOVEA_SHAPE');
    expect(codeOf(() => tensor(['x'] as never))).toBe('FOVEA_ARGUMENT');
    expect(codeOf(() => tensor([1], { dtype: 'float128' as never }))).toMatch(/FOVEA_(ARGUMENT|DTYPE)/);
    expect(codeOf(() => zeros([2 ** 40, 2 ** 40]))).toMatch(/FOVEA_(SHAPE|OUT_OF_MEMORY)/);
    expect(codeOf(() => zeros([-1]))).toMatch(/FOVEA_(SHAPE|ARGUMENT)/);
    expect(codeOf(() => zeros(Array(9).fill(1)))).toMatch(/FOVEA_(SHAPE|ARGUMENT)/);
  });

  it('reads back what each dtype holds', async () => {
    expect(await tensor([1n, 2n ** 60n]).data()).toEqual(new BigInt64Array([1n, 2n ** 60n]));
    expect(await tensor([2n ** 60n]).item<bigint>()).toBe(2n ** 60n);
    expect(await tensor([5n]).item()).toBe(5);
    expect(await tensor([true]).item<boolean>()).toBe(true);
    expect(await tensor([1.5], { dtype: 'bfloat16' }).data({ as: 'float32' })).toEqual(new Float32Array([1.5]));
    expect(await tensor([1.5], { dtype: 'float16' }).item()).toBe(1.5);
    expect(
      await tensor([
        [1, 2],
        [3, 4],
      ])
        .transpose(0, 1)
        .toArray(),
    ).toEqual([
      [1, 3],
      [2, 4],
    ]);
    expect(codeOf(() => tensor([1, 2]).itemSync())).toBe('FOVEA_SHAPE');
  });

  it('casts as C does, saturating where a float does not fit, and rounds 16-bit floats to even', () => {
    expect(list(tensor([1.9, -1.9, 300, -5]).to('int8'))).toEqual([1, -1, 127, -5]);
    expect(list(tensor([0, 2, Number.NaN]).to('bool'))).toEqual([0, 1, 1]);
    expect(list(tensor([1 + 2 ** -9, 1 + 3 * 2 ** -9]).to('bfloat16'))).toEqual(
      [1, 1 + 2 ** -7].map((v, i) => (i ? v : 1)),
    );
    expect(list(tensor([65504, 65520, 2 ** -25, 3 * 2 ** -25]).to('float16'))).toEqual([
      65504,
      Number.POSITIVE_INFINITY,
      0,
      2 * 2 ** -24,
    ]);
  });
});

describe('creation', () => {
  it('makes what its name says', () => {
    expect(list(zeros([2]))).toEqual([0, 0]);
    expect(list(ones([2], { dtype: 'int64' }))).toEqual([1, 1]);
    expect(list(full([2], 7))).toEqual([7, 7]);
    expect(list(eye(2))).toEqual([1, 0, 0, 1]);
    expect(list(arange(5))).toEqual([0, 1, 2, 3, 4]);
    expect(list(arange(1, 2, 0.5))).toEqual([1, 1.5]);
    expect(list(linspace(0, 1, 5))).toEqual([0, 0.25, 0.5, 0.75, 1]);
    expect(empty([3, 0]).shape).toEqual([3, 0]);
  });
});

describe('promotion is PyTorch’s', () => {
  const d = (
    dtype: 'float32' | 'float64' | 'float16' | 'bfloat16' | 'int32' | 'int64' | 'uint8' | 'int8' | 'bool',
    shape: number[] = [1],
  ): Tensor => ones(shape, { dtype });
  it.each([
    ['float32', 'float64', 'float64'],
    ['float16', 'bfloat16', 'float32'],
    ['int32', 'float16', 'float16'],
    ['int64', 'float32', 'float32'],
    ['uint8', 'int8', 'int16?'],
    ['int32', 'int64', 'int64'],
    ['bool', 'int8', 'int8'],
    ['bool', 'bool', 'bool'],
    ['uint8', 'int32', 'int32'],
  ] as const)('%s + %s', (a, b, expected) => {
    if (expected === 'int16?') expect(codeOf(() => d(a).add(d(b)))).toMatch(/none|FOVEA_DTYPE/);
    else expect(d(a).add(d(b)).dtype).toBe(expected);
  });
  it('numbers and 0-d tensors are weak', () => {
    expect(d('int32').add(1).dtype).toBe('int32');
    expect(d('int32').add(1.5).dtype).toBe('float32');
    expect(d('bfloat16').mul(2).dtype).toBe('bfloat16');
    expect(d('bfloat16').mul(d('float32', [])).dtype).toBe('bfloat16');
    expect(d('int32').mul(d('float64', [])).dtype).toBe('float64');
    expect(d('bool').add(1).dtype).toBe('int64');
  });
  it('integers divide to float32, and sum to int64', () => {
    expect(d('int32').div(d('int64')).dtype).toBe('float32');
    expect(d('uint8', [4]).sum().dtype).toBe('int64');
    expect(d('bool', [4]).sum().itemSync()).toBe(4);
  });
});

describe('views', () => {
  it('share storage and outlive their base', () => {
    const base = arange(12, { dtype: 'float32' }).reshape([3, 4]);
    const v = base.transpose(0, 1).narrow(0, 1, 2);
    base.add_(100);
    base.dispose();
    expect(list(v)).toEqual([101, 105, 109, 102, 106, 110]);
  });
  it('count from the end, refuse what is outside', () => {
    const x = arange(6).reshape([2, 3]);
    expect(list(x.select(-1, -1))).toEqual([2, 5]);
    expect(codeOf(() => x.select(0, 2))).toBe('FOVEA_INDEX');
    expect(list(x.slice(1, 0, 3, 2))).toEqual([0, 2, 3, 5]);
  });
  it('reshape is a view when it can be', () => {
    const x = zeros([4, 6]);
    x.reshape([24]).add_(1);
    expect(list(x).every((v) => v === 1)).toBe(true);
    expect(x.transpose(0, 1).reshape([24]).isContiguous()).toBe(true);
  });
});

describe('lifetime', () => {
  it('disposed use throws, twice is fine', () => {
    const t = ones([2]);
    t.dispose();
    t.dispose();
    expect(codeOf(() => t.add(1))).toBe('FOVEA_DISPOSED');
    expect(codeOf(() => t.shape)).toBe('FOVEA_DISPOSED');
  });
  it('using frees at the end of the block', () => {
    const before = memory().tensors;
    {
      using a = ones([8]);
      expect(a.size).toBe(8);
    }
    expect(memory().tensors).toBe(before);
  });
  it('keep exempts from tidy', () => {
    const t = tidy(() => {
      const inner = keep(ones([2]));
      return { inner, other: 1 };
    }).inner;
    expect(list(t)).toEqual([1, 1]);
    t.dispose();
  });
  it('counts what is live, cached and at the peak', async () => {
    const before = memory();
    const t = ones([1 << 20]);
    await synchronize();
    const during = memory();
    t.dispose();
    const after = memory();
    expect(during.live - before.live).toBeGreaterThanOrEqual(4 << 20);
    expect(after.live).toBe(before.live);
    expect(after.peak).toBeGreaterThanOrEqual(during.live);
    expect(after.cached).toBeGreaterThan(0);
  });
  it('throws out of memory at the call, and works afterwards', () => {
    const { limit } = memory();
    setMemoryLimit(memory().live + memory().cached + 64e6);
    expect(codeOf(() => zeros([1 << 28]))).toBe('FOVEA_OUT_OF_MEMORY');
    setMemoryLimit(limit);
    expect(randn([10]).size).toBe(10);
  });
  it('knows the machine', () => {
    expect(info().threads).toBeGreaterThanOrEqual(1);
    expect(info().isas).toContain(info().isa);
  });
});

it('functions and methods of the same name are the same op', () => {
  const x = randn([3, 4]);
  expect(list(F.gelu(x))).toEqual(list(x.gelu()));
  expect(list(F.sum(x, 0))).toEqual(list(x.sum(0)));
});
