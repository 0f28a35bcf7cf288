// What the op table does not ask of convolutions: the references of all three kernels, second derivatives, mixed
// precision.
import { autocast, functional as F, grad, randn, type Tensor } from 'fovea';
import { describe, expect, it } from 'vitest';
import { definedOps } from '../../dist/ops/define-op.js';
import { device, list } from '../helpers.js';

const normal = (...shape: number[]): Tensor => randn(shape, { dtype: 'float64', device, requiresGrad: true });
const closeTo = (actual: Tensor, expected: Tensor): void => {
  expect([...actual.shape]).toEqual([...expected.shape]);
  list(expected).forEach((v, i) => expect(list(actual)[i]).toBeCloseTo(v, 9));
};

/** Images of 4 channels, 7 x 9, to 6 in two groups, by 3 x 2 taps: windows 3 x 4. */
const steps = { groups: 2, strideY: 2, strideX: 3, dilationY: 1, dilationX: 2, paddingY: 0, paddingX: 2 };
const [x, weight, y] = [normal(2, 4, 7, 9), normal(6, 2, 3, 2), normal(2, 6, 3, 4)] as const;
const calls = {
  conv: [
    { x, weight, bias: normal(6) },
    { ...steps, height: 3, width: 4 },
  ],
  convTranspose: [
    { x: y, weight, bias: normal(4) },
    { ...steps, channels: 4, height: 7, width: 9 },
  ],
  convWeight: [
    { x, dy: y },
    { ...steps, channels: 2, kernelY: 3, kernelX: 2 },
  ],
} as const;

describe.each(Object.keys(calls) as (keyof typeof calls)[])('%s', (name) => {
  const [inputs, attrs] = calls[name];
  const op = definedOps.get(name)! as unknown as (given: object, how: object) => Record<string, Tensor>;
  const { reference } = definedOps.get(name)!.spec;
  it('is what its reference is, and so are its first and second derivatives', () => {
    const leaves = Object.values(inputs);
    const derivatives = (run: (given: never, how: never) => object): Tensor[] => {
      const [result] = Object.values(run(inputs as never, attrs as never)) as [Tensor];
      const first = grad(result.square().sum(), leaves, { createGraph: true });
      const score = first.reduce((sum, g) => sum.add(g.square().sum()), randn([], { dtype: 'float64', device }).mul(0));
      return [result, ...first, ...grad(score, leaves)];
    };
    const expected = derivatives(reference!);
    derivatives(op).forEach((tensor, i) => closeTo(tensor, expected[i]!));
  });
});

describe('columns', () => {
  it('multiplied by filters are a convolution', () => {
    const columns = F.unfold(x, [3, 2], { stride: [2, 3], padding: [0, 2], dilation: [1, 2] });
    const dense = normal(5, 4, 3, 2);
    const product = F.matmul(dense.reshape([5, 24]), columns).reshape([2, 5, 3, 4]);
    closeTo(F.conv2d(x, dense, null, { stride: [2, 3], padding: [0, 2], dilation: [1, 2] }), product);
  });
  it('are added up as often as windows overlap', () => {
    const ones = x.detach().mul(0).add(1);
    const counts = F.fold(F.unfold(ones, 3), [7, 9], 3);
    expect(list(counts.select(0, 0).select(0, 0).select(0, 3))).toEqual([3, 6, 9, 9, 9, 9, 9, 6, 3]);
  });
});

describe('autocast', () => {
  it('multiplies in its dtype, and normalises groups in float32', () => {
    const [image, filters] = [randn([1, 4, 5, 5], { device }), randn([4, 4, 3, 3], { device })];
    autocast('bfloat16', () => {
      expect(F.conv2d(image, filters, randn([4], { device })).dtype).toBe('bfloat16');
      expect(F.convTranspose2d(image, filters).dtype).toBe('bfloat16');
      expect(F.groupNorm(image.to('bfloat16'), 2).dtype).toBe('float32');
      expect(F.batchNorm(image.to('bfloat16'), null, null, null, null, { training: true }).dtype).toBe('bfloat16');
    });
  });
});

describe('pooling', () => {
  it('has second derivatives', () => {
    const image = normal(1, 2, 6, 6);
    for (const pool of [F.avgPool2d, F.maxPool2d] as ((t: Tensor, size: number, o: object) => Tensor)[]) {
      const [first] = grad(pool(image, 3, { stride: 2, padding: 1 }).square().sum(), [image], { createGraph: true });
      const [second] = grad(first!.square().sum(), [image]);
      // the score is 4 |Pᵀ P x|², of which the derivative is 8 (Pᵀ P)² x
      const [expected] = grad(pool(image, 3, { stride: 2, padding: 1 }).square().sum(), [image]);
      const [again] = grad(
        pool(image, 3, { stride: 2, padding: 1 })
          .mul(poolLike(pool, image, expected!))
          .sum(),
        [image],
      );
      closeTo(second!, again!.mul(4));
    }
  });
});
/** The pool's matrix for `image` times another tensor: the largest elements are where those of `image` are. */
function poolLike(pool: (t: Tensor, size: number, o: object) => Tensor, image: Tensor, other: Tensor): Tensor {
  const options = { stride: 2, padding: 1 };
  if (pool === (F.avgPool2d as unknown)) return pool(other, 3, options).detach();
  const { indices } = F.maxPool2d(image, 3, { ...options, returnIndices: true });
  const flat = other.reshape([2, 36]).gather(1, indices.reshape([2, 9]));
  return flat.reshape([1, 2, 3, 3]).detach();
}
