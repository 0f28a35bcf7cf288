// Groups of rows beside products one by one: bits, gradients of any order, and what a failure leaves.
import { functional as F, FoveaError, grad, ones, randn, tensor, type Tensor } from 'fovea';
import { describe, expect, it } from 'vitest';
import { device, list } from '../helpers.js';
import { FLOATS } from './samples.js';

const offsets = (ends: readonly number[]): Tensor => tensor([...ends], { dtype: 'int32', device });
const oneByOne = (x: Tensor, weights: Tensor, ends: readonly number[]): Tensor =>
  F.concat(
    ends.map((end, g) => {
      const begin = ends[g - 1] ?? 0;
      return F.matmul(x.narrow(0, begin, end - begin), weights.select(0, g));
    }),
  );

describe.each(FLOATS)('%s groups', (dtype) => {
  // few rows, many, none; blocks of rows and of k that are not full, and more than one of both
  const ends = [3, 3, 11, 20, 57, 58, 420];
  it.each([
    [33, 70],
    [1030, 36],
    [2100, 8],
    [5, 1100],
  ])('have the bits of products one by one, and so have gradients: k %i, n %i', (k, n) => {
    const x = randn([420, k], { dtype, device, requiresGrad: true });
    const held = [randn([7, k, n], { dtype, device }), randn([7, n, k], { dtype, device })] as const;
    for (const weights of [held[0].requiresGrad_(true), held[1].requiresGrad_(true).transpose(1, 2)]) {
      const dy = randn([420, n], { dtype, device });
      const [y, z] = [F.groupedMatmul(x, weights, offsets(ends)), oneByOne(x, weights, ends)];
      expect(list(y)).toEqual(list(z));
      const [actual, expected] = [y, z].map((t) => grad(t.mul(dy).sum(), [x, weights]));
      expect(list(actual![0]!)).toEqual(list(expected![0]!));
      expect(list(actual![1]!)).toEqual(list(expected![1]!));
    }
  });
});

it('has second derivatives', () => {
  const ends = [2, 2, 5, 6];
  const inputs = [randn([6, 4], { dtype: 'float64', device }), randn([4, 4, 3], { dtype: 'float64', device })];
  inputs.forEach((t) => t.requiresGrad_(true));
  const derivatives = (y: Tensor): Tensor[] => {
    const first = grad(y.sin().sum(), inputs, { createGraph: true });
    const score = first.reduce((total, g) => total.add(g.square().sum()), ones([], { dtype: 'float64', device }));
    return [...first, ...grad(score, inputs)];
  };
  const [x, weights] = inputs as [Tensor, Tensor];
  const expected = derivatives(oneByOne(x, weights, ends));
  derivatives(F.groupedMatmul(x, weights, offsets(ends))).forEach((g, i) =>
    list(expected[i]!).forEach((v, at) => expect(list(g)[at]).toBeCloseTo(v, 10)),
  );
});

it('gives a gradient to what wants one alone, and zeros to the weights of empty groups', () => {
  const [x, weights] = [randn([4, 3], { device }), randn([3, 3, 2], { device })];
  const offs = offsets([1, 1, 4]);
  const wanted = x.clone().requiresGrad_(true);
  const [dx] = grad(F.groupedMatmul(wanted, weights, offs).sum(), [wanted]);
  expect(list(dx!)).toEqual(list(oneByOne(ones([4, 2], { device }), weights.transpose(1, 2), [1, 1, 4])));
  const held = weights.clone().requiresGrad_(true);
  const [dw] = grad(F.groupedMatmul(x, held, offs).sum(), [held]);
  expect(list(dw!.select(0, 1))).toEqual([0, 0, 0, 0, 0, 0]);
  expect(list(dw!.select(0, 0))).toEqual(list(x.select(0, 0)).flatMap((v) => [v, v]));
});

it('keeps NaN and infinities within their group', () => {
  const x = ones([4, 2], { device });
  const weights = tensor([1, 1, Number.NaN, 1, Number.POSITIVE_INFINITY, 1], { shape: [3, 2, 1], device });
  expect(list(F.groupedMatmul(x, weights, offsets([2, 3, 4])))).toEqual([2, 2, Number.NaN, Number.POSITIVE_INFINITY]);
});

it('a failure reaches what was made of the result, and nothing else', async () => {
  const x = randn([4, 2], { device });
  const failed = async (): Promise<unknown> => {
    const y = F.groupedMatmul(x, randn([2, 2, 3], { device }), offsets([3, 5]));
    return y.sum().data();
  };
  await expect(failed()).rejects.toThrow(FoveaError);
  await expect(failed()).rejects.toMatchObject({ code: 'FOVEA_INDEX' });
  expect(F.groupedMatmul(x, randn([2, 2, 3], { device }), offsets([3, 4])).shape).toEqual([4, 3]);
  expect((await x.data()).length).toBe(8);
});
