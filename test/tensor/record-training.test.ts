// Recorded steps of training and random numbers, against the same function called anew: equal bits and equal state.
import {
  concat,
  defaultGenerator,
  functional as F,
  Generator,
  grad,
  manualSeed,
  nn,
  noGrad,
  optim,
  randn,
  record,
  tensor,
  type Tensor,
  tidy,
} from 'fovea';
import { describe, expect, it } from 'vitest';
import { codeOf, device, list } from '../helpers.js';
import { mlp, normal } from './mlp.js';

const gradients = (model: nn.Module): number[][] => model.parameters().map(({ grad }) => (grad ? list(grad) : []));

describe('a recorded step of training', () => {
  /** Losses and parameters after some steps, and how many recordings they took. */
  function train(recorded: boolean, how: 'outside' | 'inside' | 'accumulate', p = 0.3): [number[], number[][], number] {
    const model = mlp(p);
    manualSeed(11);
    const optimizer = new optim.AdamW(model.parameters(), { lr: 0.01 });
    const rate = new optim.lrScheduler.LambdaLR(optimizer, (n) => 1 / (n + 1));
    const run = (x: Tensor, y: Tensor): Tensor => {
      if (how === 'inside') model.zeroGrad();
      const loss = tidy(() => F.mseLoss(model.forward(x), y));
      loss.backward();
      return loss;
    };
    const step = record(run);
    const losses: number[] = [];
    for (let i = 0; i < 6; i++) {
      if (how === 'outside' || (how === 'accumulate' && i % 3 === 0)) optimizer.zeroGrad();
      losses.push((recorded ? step : run)(normal([4, 7], i), normal([4, 5], 100 + i)).itemSync());
      if (how !== 'accumulate' || i % 3 === 2) {
        optimizer.step();
        rate.step();
      }
    }
    const { recordings } = step;
    step.dispose();
    return [losses, [...model.parameters().map(list), ...gradients(model), [defaultGenerator().offset]], recordings];
  }
  it.each([
    ['outside', 1],
    ['inside', 1],
    ['accumulate', 2],
  ] as const)('is as without recording, gradients cleared %s', (how, recordings) => {
    const [losses, state, made] = train(true, how);
    const expected = train(false, how);
    expect([losses, state]).toEqual(expected.slice(0, 2));
    expect(new Set(losses).size).toBe(6);
    expect(made).toBe(recordings);
  });
  it('may write to parameters itself', () => {
    const run = (recorded: boolean): number[][] => {
      const model = mlp();
      const update = (x: Tensor, lr: Tensor): Tensor => {
        model.zeroGrad();
        const loss = model.forward(x).square().mean();
        loss.backward();
        noGrad(() => model.parameters().forEach((p) => void p.sub_(p.grad!.mul(lr))));
        return loss;
      };
      const step = recorded ? record(update) : update;
      const losses = [0.1, 0.05, 0.2].map((lr, i) => list(step(normal([3, 7], i), tensor(lr, { device }))));
      return [...losses, ...model.parameters().map(list)];
    };
    expect(run(true)).toEqual(run(false));
  });
  it('may clip gradients that were computed outside', () => {
    const model = mlp();
    using clip = record(() => nn.utils.clipGradNorm_(model.parameters(), 1e-3));
    for (let i = 0; i < 3; i++) {
      model.zeroGrad();
      model
        .forward(normal([3, 7], i))
        .sum()
        .backward();
      const before = gradients(model).flat();
      const norm = clip().itemSync();
      expect(Math.abs(norm / Math.hypot(...before) - 1)).toBeLessThan(1e-5);
      expect(Math.hypot(...gradients(model).flat())).toBeLessThan(1.001e-3);
    }
  });
  it('may differentiate by its inputs', () => {
    using step = record((x: Tensor) => grad(x.requiresGrad_().pow(3).sum(), x)[0]!);
    for (const v of [1, 2]) expect(step(tensor([v], { device })).itemSync()).toBe(3 * v * v);
  });
  it('records anew when a parameter is frozen or thawed', () => {
    const model = mlp();
    model.a.requiresGrad_(false);
    using step = record((x: Tensor) => model.forward(x).sum().backward());
    const x = normal([3, 7], 1);
    const counts = [true, false].map((thawed) => {
      step(x);
      const before = gradients(model).filter((g) => g.length > 0).length;
      model.a.requiresGrad_(thawed);
      model.zeroGrad();
      step(x);
      const after = gradients(model).filter((g) => g.length > 0).length;
      model.zeroGrad();
      return [before, after];
    });
    expect(counts).toEqual([
      [2, 4],
      [4, 2],
    ]);
  });
  it('counts its writes, so that a graph outside notices them', () => {
    const w = tensor([2], { device });
    const x = tensor([3], { device, requiresGrad: true });
    using step = record(() => noGrad(() => w.mul_(2)));
    step();
    const y = x.mul(w).sum();
    step();
    expect(codeOf(() => y.backward())).toBe('FOVEA_AUTOGRAD');
    expect(w.itemSync()).toBe(8);
  });
});

describe('random numbers', () => {
  it('go on as without recording', () => {
    const x = normal([64], 1);
    const generator = new Generator(5);
    const run = (t: Tensor): Tensor =>
      concat([F.dropout(t, { p: 0.5 }), randn([8], { generator, device }), F.dropout(t, { p: 0.1, generator })]);
    const sequence = (f: (t: Tensor) => Tensor): number[][] => {
      manualSeed(1);
      generator.manualSeed(2);
      return [...[0, 1, 2].map(() => list(f(x))), [defaultGenerator().offset, generator.offset]];
    };
    using step = record(run);
    const [a, b] = [sequence(step), sequence(run)];
    expect(a).toEqual(b);
    expect(a[1]).not.toEqual(a[0]);
    manualSeed(9);
    const seeded = list(step(x));
    manualSeed(9);
    expect(list(run(x)).slice(0, 64)).toEqual(seeded.slice(0, 64));
  });
  it('of a generator that the step makes are the same at each call', () => {
    using step = record(() => randn([4], { generator: new Generator(8), device }));
    expect([step(), step()].map(list)).toEqual([0, 0].map(() => list(normal([4], 8))));
  });
  it('are refused where generators cannot be told apart', () => {
    const [a, b] = [new Generator(4), new Generator(4)];
    using step = record(() => randn([4], { generator: a, device }).add(randn([4], { generator: b, device })));
    expect(() => step()).toThrow(/two generators in the same state/);
    a.manualSeed(6);
    expect(list(step())).toHaveLength(4);
  });
});
