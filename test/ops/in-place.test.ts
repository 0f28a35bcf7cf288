// Writing through windows: the elements of the window change, and nothing beside them.
import { functional as F, full, tensor, type Tensor, zeros } from 'fovea';
import { describe, expect, it } from 'vitest';
import { list } from '../helpers.js';

const windows: [string, (base: Tensor) => Tensor][] = [
  ['rows', (x) => x.narrow(0, 2, 3)],
  ['columns', (x) => x.narrow(1, 1, 4)],
  ['every second', (x) => x.slice(1, 0, 6, 2)],
  ['transposed', (x) => x.transpose(0, 1).narrow(0, 1, 3)],
  ['one row', (x) => x.select(0, 4)],
];
const writes: [string, (x: Tensor) => Tensor, (v: number) => number][] = [
  ['add_', (x) => x.add_(5), (v) => v + 5],
  ['mul_', (x) => x.mul_(full(x.shape, 3, { dtype: x.dtype })), (v) => v * 3],
  ['zero_', (x) => x.zero_(), () => 0],
  ['fill_', (x) => x.fill_(9), () => 9],
  ['copy_', (x) => x.copy_(full(x.shape, 4, { dtype: 'int64' })), () => 4],
  ['clamp_', (x) => x.clamp_({ max: 10 }), (v) => Math.min(v, 10)],
  ['maskedFill_', (x) => x.maskedFill_(full(x.shape, true, { dtype: 'bool' }), -1), () => -1],
];

describe.each(windows)('through %s', (_, window) => {
  it.each(writes)('%s', (__, write, f) => {
    for (const dtype of ['float32', 'bfloat16', 'int64', 'int8'] as const) {
      const numbers = Array.from({ length: 36 }, (___, i) => i);
      const base = tensor(numbers, { shape: [6, 6], dtype });
      const inside = new Set(list(window(base)));
      expect(write(window(base)).shape).toEqual(window(base).shape);
      expect(list(base), dtype).toEqual(numbers.map((v) => (inside.has(v) ? f(v) : v)));
    }
  });
});

describe('indexPut_', () => {
  it('writes where the indices say', () => {
    const x = zeros([4, 2]);
    x.indexPut_(
      tensor([2, 0], { dtype: 'int64' }),
      tensor([
        [1, 2],
        [3, 4],
      ]),
    );
    expect(list(x)).toEqual([3, 4, 0, 0, 1, 2, 0, 0]);
    x.indexPut_(
      tensor([0, 0], { dtype: 'int64' }),
      tensor([
        [1, 1],
        [1, 1],
      ]),
      { accumulate: true },
    );
    expect(list(x).slice(0, 2)).toEqual([5, 6]);
  });
  it('refuses an index out of range, and leaves its neighbours readable', () => {
    const x = zeros([4, 2]);
    expect(() => x.indexPut_(tensor([9], { dtype: 'int64' }), tensor([[1, 2]])).dataSync()).toThrow(/9/);
    expect(list(F.add(zeros([2]), 1))).toEqual([1, 1]);
  });
});
