// Ops that put two together, beside the two: gradients of one result alone, second derivatives, and layers that use
// them.
import { functional as F, grad, nn, ones, randn, type Tensor } from 'fovea';
import { describe, expect, it } from 'vitest';
import { FUSED_ACTIVATIONS, values } from './samples.js';

const list = (t: Tensor): number[] => Array.from(values(t).data);
const input = (...shape: number[]): Tensor => randn(shape, { dtype: 'float64', requiresGrad: true });
const closeTo = (actual: Tensor, expected: Tensor): void =>
  list(expected).forEach((v, i) => expect(list(actual)[i]).toBeCloseTo(v, 10));

type Two = (x: Tensor, residual: Tensor, w: Tensor, b: Tensor) => { sum: Tensor; y: Tensor };
const pairs: [string, Two, Two][] = [
  [
    'addLayerNorm',
    (x, r, w, b) => F.addLayerNorm(x, r, 5, w, b),
    (x, r, w, b) => ({ sum: x.add(r), y: F.layerNorm(x.add(r), 5, w, b) }),
  ],
  [
    'addRmsNorm',
    (x, r, w, b) => F.addRmsNorm(x, r.add(b), 5, w),
    (x, r, w, b) => ({ sum: x.add(r).add(b), y: F.rmsNorm(x.add(r).add(b), 5, w) }),
  ],
];
describe.each(pairs)('%s', (_, fused, apart) => {
  const inputs = [input(4, 5), input(4, 5), input(5), input(5)] as [Tensor, Tensor, Tensor, Tensor];
  const [u, v] = [randn([4, 5], { dtype: 'float64' }), randn([4, 5], { dtype: 'float64' })];
  const losses: [string, (two: { sum: Tensor; y: Tensor }) => Tensor][] = [
    ['both results', ({ sum, y }) => sum.mul(u).sum().add(y.mul(v).sin().sum())],
    ['the sum alone', ({ sum }) => sum.mul(u).square().sum()],
    ['the norm alone', ({ y }) => y.mul(v).exp().sum()],
  ];
  it.each(losses)('has the gradients of the two ops, once and twice: %s', (__, loss) => {
    const derivatives = (op: Two): (Tensor | null)[] => {
      const first = grad(loss(op(...inputs)), inputs, { createGraph: true, allowUnused: true });
      const score = first
        .filter((g) => g !== null)
        .reduce((total, g) => total.add(g.square().sum()), ones([]).double());
      return [...first, ...grad(score, inputs, { allowUnused: true })];
    };
    const [actual, expected] = [derivatives(fused), derivatives(apart)];
    expect(actual.map((g) => g === null)).toEqual(expected.map((g) => g === null));
    actual.forEach((g, i) => g && closeTo(g, expected[i]!));
  });
  it('gives the bits of the two ops', () => {
    const [x, r] = [randn([300, 65]), randn([300, 65])];
    const weights = [randn([65]), randn([65])] as const;
    const sums = x.add(r);
    expect(list(F.addLayerNorm(x, r, 65, ...weights).y)).toEqual(list(F.layerNorm(sums, 65, ...weights)));
    expect(list(F.addRmsNorm(x, r, 65, weights[0]).sum)).toEqual(list(sums));
    expect(list(F.addRmsNorm(x, r, 65, weights[0]).y)).toEqual(list(F.rmsNorm(sums, 65, weights[0])));
  });
  it('takes several axes as one', () => {
    const [x, r, w] = [randn([3, 4, 5]), randn([3, 4, 5]), randn([4, 5])];
    const { sum, y } = F.addLayerNorm(x, r, [4, 5], w);
    expect(sum.shape).toEqual([3, 4, 5]);
    expect(list(y)).toEqual(list(F.layerNorm(sum, [4, 5], w)));
  });
});

describe.each(['swiglu', 'geglu'] as const)('%s', (name) => {
  it.each([false, true])('has second derivatives, of halves: %s', (halves) => {
    const act = name === 'swiglu' ? F.silu : F.gelu;
    const inputs = halves ? [input(3, 8)] : [input(3, 4), input(3, 4)];
    const apart = ([x, up]: Tensor[]): Tensor => (up ? act(x!).mul(up) : act(x!.slice(1, 0, 4)).mul(x!.slice(1, 4)));
    const derivatives = (y: Tensor): Tensor[] => {
      const first = grad(y.sin().sum(), inputs, { createGraph: true });
      const score = first.reduce((total, g) => total.add(g.square().sum()), ones([]).double());
      return [...first, ...grad(score, inputs)];
    };
    const expected = derivatives(apart(inputs));
    derivatives(F[name](inputs[0]!, inputs[1])).forEach((g, i) => closeTo(g, expected[i]!));
  });
});

describe('TransformerEncoderLayer', () => {
  it.each([true, false])('calls a norm that has a hook, and gives the same, normFirst %s', (normFirst) => {
    const layer = new nn.TransformerEncoderLayer({ dModel: 8, nHead: 2, dimFeedforward: 16, dropout: 0, normFirst });
    const x = randn([3, 2, 8]);
    const expected = list(layer.forward(x));
    let calls = 0;
    for (const norm of [layer.norm1, layer.norm2]) norm.registerForwardHook(() => void calls++);
    expect(list(layer.forward(x))).toEqual(expected);
    expect(calls).toBe(2);
  });
});

describe.each(Object.keys(FUSED_ACTIVATIONS) as (keyof typeof FUSED_ACTIVATIONS)[])(
  'products with %s',
  (activation) => {
    const act = FUSED_ACTIVATIONS[activation];
    const inputs = [input(4, 5), input(3, 5), input(3), input(4, 3)] as [Tensor, Tensor, Tensor, Tensor];
    type Product = (x: Tensor, w: Tensor, b: Tensor, r: Tensor) => Tensor;
    const products: [string, Product, Product][] = [
      ['linear', (x, w, b) => F.linear(x, w, b, { activation }), (x, w, b) => act(F.linear(x, w, b))],
      [
        'linear with a residual',
        (x, w, b, residual) => F.linear(x, w, b, { activation, residual }),
        (x, w, b, r) => act(F.linear(x, w, b)).add(r),
      ],
      [
        'addmm',
        (x, w, b) => F.addmm(b, x, w.transpose(0, 1), { activation, alpha: 0.5, beta: 2 }),
        (x, w, b) => act(F.addmm(b, x, w.transpose(0, 1), { alpha: 0.5, beta: 2 })),
      ],
    ];
    it.each(products)('%s has the gradients of the ops apart, once and twice', (_, together, apart) => {
      const derivatives = (op: Product): (Tensor | null)[] => {
        const first = grad(
          op(...inputs)
            .square()
            .sum(),
          inputs,
          { createGraph: true, allowUnused: true },
        );
        const score = first
          .filter((g) => g !== null)
          .reduce((total, g) => total.add(g.square().sum()), ones([]).double());
        return [...first, ...grad(score, inputs, { allowUnused: true })];
      };
      const [actual, expected] = [derivatives(together), derivatives(apart)];
      expect(actual.map((g) => g !== null)).toEqual(expected.map((g) => g !== null));
      expected.forEach((g, i) => g && closeTo(actual[i]!, g));
    });
    it('adds a residual that alone wants a gradient in the same kernel', () => {
      const [x, w, b] = inputs.map((t) => t.detach());
      const residual = inputs[3];
      const y = F.linear(x!, w!, b, { activation, residual });
      closeTo(y, act(F.linear(x!, w!, b)).add(residual));
      closeTo(grad(y.square().sum(), [residual])[0]!, y.mul(2));
    });
  },
);
