// Ops that make a tensor out of numbers or out of another dtype.
import {
  arange,
  type Dtype,
  empty,
  emptyLike,
  eye,
  FoveaError,
  full,
  fullLike,
  linspace,
  ones,
  onesLike,
  type Tensor,
  tensor,
  zeros,
  zerosLike,
} from 'fovea';
import { describe, expect, it } from 'vitest';
import { FLOATS, fromBfloat16Bits, fromHalfBits, INTS, roundTo, values } from './samples.js';

const all: Dtype[] = [...FLOATS, ...INTS, 'bool'];
const list = (t: Tensor): number[] => Array.from(values(t).data);

describe.each(all)('%s', (dtype) => {
  it('fills', () => {
    expect(list(zeros([3], { dtype }))).toEqual([0, 0, 0]);
    expect(list(ones([3], { dtype }))).toEqual([1, 1, 1]);
    expect(list(full([2, 2], 1, { dtype }))).toEqual([1, 1, 1, 1]);
    expect(empty([2, 3], { dtype }).dtype).toBe(dtype);
    for (const like of [zerosLike, onesLike, emptyLike]) expect(like(zeros([2, 3], { dtype })).shape).toEqual([2, 3]);
    expect(list(fullLike(zeros([2], { dtype }), 1))).toEqual([1, 1]);
    expect(list(eye(2, 3, { dtype }))).toEqual([1, 0, 0, 0, 1, 0]);
  });
  it.each(all)('converts to %s', (to) => {
    const numbers = [0, 1, 2, 3, 100, 127, -1, -100].map((v) =>
      dtype === 'uint8' || to === 'uint8' || dtype === 'bool' ? Math.abs(v) : v,
    );
    const x = tensor(numbers, { dtype });
    expect(list(x.to(to))).toEqual(numbers.map((v) => roundTo(to, roundTo(dtype, v))));
  });
});

describe('16-bit floats', () => {
  const bits = Uint16Array.from({ length: 65536 }, (_, i) => i);
  it.each([
    ['float16', fromHalfBits],
    ['bfloat16', fromBfloat16Bits],
  ] as const)('%s: every bit pattern reads as its value, and rounds back to itself', (dtype, decode) => {
    const x = tensor(bits, { dtype });
    const read = x.dataSync({ as: 'float32' });
    const read16 = x.to('float32').to(dtype).dataSync<Uint16Array>(); // values where the runtime has Float16Array
    const back = new Uint16Array(read16.buffer, read16.byteOffset, read16.length);
    let wrong = 0;
    for (let i = 0; i < bits.length; i++) {
      const want = decode(i);
      const got = read[i]!;
      if (Number.isNaN(want) ? !Number.isNaN(got) : !Object.is(got, want) || back[i] !== i) wrong++;
    }
    expect(wrong).toBe(0);
  });
  it.each(['float16', 'bfloat16'] as const)('%s rounds to nearest even, at every length of row', (dtype) => {
    for (const n of [1, 7, 16, 33, 1000]) {
      const numbers = Array.from({ length: n }, (_, i) => Math.fround(Math.sin(i * 12.9898) * 10 ** ((i % 13) - 8)));
      expect(list(tensor(numbers).to(dtype))).toEqual(numbers.map((v) => roundTo(dtype, v)));
    }
  });
});

describe('ranges', () => {
  it('arange and linspace', () => {
    expect(list(arange(4))).toEqual([0, 1, 2, 3]);
    expect(arange(4).dtype).toBe('int64');
    expect(list(arange(5, 1, -2))).toEqual([5, 3]);
    expect(arange(0, 1, 0.25).dtype).toBe('float32');
    expect(list(arange(0)).length).toBe(0);
    expect(list(linspace(-1, 1, 3))).toEqual([-1, 0, 1]);
    expect(list(linspace(2, 9, 1))).toEqual([2]);
    expect(list(arange(100_003, { dtype: 'int32' })).at(-1)).toBe(100_002);
  });
  it('refuse what has no end', () => {
    for (const run of [
      () => arange(0, 5, 0),
      () => arange(0, 5, -1),
      () => arange(Number.NaN),
      () => linspace(0, 1, -1),
      () => full([2], 'x' as never),
      () => zeros('x' as never),
      () => eye(-1),
    ])
      expect(run).toThrow(FoveaError);
  });
});
