// A gated linear layer beside the ops that it stands for: bits, memory, gradients of any order, quantised weights.
import { autocast, functional as F, grad, memory, noGrad, ones, quantize, randn, type Tensor } from 'fovea';
import { describe, expect, it } from 'vitest';
import { device, list } from '../helpers.js';
import { FLOATS, FUSED_ACTIVATIONS } from './samples.js';

const activations = { ...FUSED_ACTIVATIONS, sigmoid: F.sigmoid };
describe.each(Object.keys(activations) as (keyof typeof activations)[])('%s', (activation) => {
  const act = activations[activation];
  it('has the gradients of the ops apart, once and twice, with the weights apart or in one', () => {
    const make = (...shape: number[]): Tensor => randn(shape, { dtype: 'float64', device, requiresGrad: true });
    const inputs = [make(4, 5), make(3, 5), make(3, 5), make(3), make(3)] as const;
    const derivatives = (y: Tensor): Tensor[] => {
      const first = grad(y.square().sum(), [...inputs], { createGraph: true });
      const score = first.reduce((total, g) => total.add(g.square().sum()), ones([], { dtype: 'float64', device }));
      return [...first, ...grad(score, [...inputs])];
    };
    const [x, w, v, b, c] = inputs;
    const expected = derivatives(act(F.linear(x, w, b)).mul(F.linear(x, v, c)));
    const apart = F.gatedLinear(x, w, v, { activation, gateBias: b, upBias: c });
    const inOne = F.gatedLinear(x, F.concat([w, v]), null, { activation, gateBias: F.concat([b, c]) });
    for (const y of [apart, inOne])
      derivatives(y).forEach((g, i) => {
        const want = list(expected[i]!);
        const scale = Math.max(1, ...want.map(Math.abs));
        want.forEach((value, at) => expect(list(g)[at]! / scale).toBeCloseTo(value / scale, 10));
      });
  });
  it.each(FLOATS)('%s: every call gives the same bits, however often the weights were used', (dtype) => {
    const [x, w, v] = [
      [20, 300],
      [260, 300],
      [260, 300],
    ].map((shape) => randn(shape, { dtype, device }));
    const once = (): number[] => noGrad(() => list(F.gatedLinear(x!, w!, v, { activation })));
    const first = once();
    for (let i = 0; i < 3; i++) expect(once()).toEqual(first);
    const traced = F.gatedLinear(x!.clone().requiresGrad_(true), w!, v, { activation });
    expect(list(traced)).toEqual(first);
  });
});

it('keeps no memory but that of its result where no gradient is wanted', () => {
  const [x, w] = [randn([6, 40], { device }), randn([400, 40], { device })];
  const live = (): number => (device === 'cpu' ? memory() : memory().devices['cuda:0']!).live;
  const held = (make: () => Tensor): number => {
    const before = live();
    using y = make();
    expect(y.shape).toEqual([6, 200]);
    return live() - before;
  };
  noGrad(() => {
    for (let i = 0; i < 3; i++) expect(held(() => F.gatedLinear(x, w))).toBe(held(() => ones([6, 200], { device })));
  });
});

it('promotes its operands, and runs in the dtype of autocast', () => {
  const [x, w] = [randn([2, 4], { dtype: 'bfloat16', device }), randn([6, 4], { device })];
  expect(F.gatedLinear(x, w).dtype).toBe('float32');
  expect(F.gatedLinear(x, x.transpose(0, 1).matmul(x), x.transpose(0, 1).matmul(x).float()).dtype).toBe('float32');
  expect(autocast('bfloat16', () => F.gatedLinear(x, w)).dtype).toBe('bfloat16');
});

it('takes quantised weights', () => {
  const x = randn([3, 64], { device });
  const [w, v] = [randn([8, 64], { device }), randn([8, 64], { device })].map((weight) => quantize(weight, 'q8_0'));
  const expected = F.swiglu(F.linear(x, w!), F.linear(x, v!));
  expect(list(F.gatedLinear(x, w!, v))).toEqual(list(expected));
});
