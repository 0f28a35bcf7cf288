// Sophia against its formulas, and its estimators against diagonals by central differences and by enumeration: their
// means over many draws, within the error of such means; exact where a single draw is.
import { functional as F, Generator, grad, memory, nn, optim, randn, record, type Tensor, tensor, tidy } from 'fovea';
import { describe, expect, it } from 'vitest';
import { codeOf, device, list } from '../helpers.js';
import { mlp, normal } from '../tensor/mlp.js';

const double = (shape: number[], seed: number, scale = 1): Tensor =>
  randn(shape, { generator: new Generator(seed), dtype: 'float64', device }).mul(scale);
const leaves = (shapes: number[][], scale = 0.7): Tensor[] =>
  shapes.map((shape, i) => nn.parameter(double(shape, 50 + i, scale)));

/** A small network of smooth functions, with a fused norm, attention and cross entropy inside. */
const SHAPES = [[4, 6], [6], [6], [6, 3], [3]];
const inputs = double([2, 3, 4], 1);
const targets = tensor([0, 2, 1, 1, 0, 2], { dtype: 'int64', device });
function logitsOf([w1, scale, shift, w2, b2]: readonly Tensor[]): Tensor {
  const hidden = F.layerNorm(inputs.matmul(w1!), 6, scale, shift);
  const mixed = F.scaledDotProductAttention(hidden, hidden, hidden, { isCausal: true });
  return F.gelu(mixed).matmul(w2!).add(b2!).reshape([6, 3]);
}
const lossOf = (params: readonly Tensor[]): Tensor => F.crossEntropy(logitsOf(params), targets);

/** d² loss / d p² for every element, from gradients a little to both sides. */
function diagonal(params: readonly Tensor[], loss: (params: readonly Tensor[]) => Tensor): number[] {
  const h = 1e-4;
  return params.flatMap((p, k) => {
    const at = list(p);
    return at.map((x, i) => {
      const slope = (v: number): number =>
        tidy(() => {
          const moved = nn.parameter(tensor(at.with(i, v), { shape: p.shape, dtype: 'float64', device }));
          return list(grad(loss(params.map((other, j) => (j === k ? moved : other))), moved)[0]!)[i]!;
        });
      return (slope(x + h) - slope(x - h)) / (2 * h);
    });
  });
}

/** Asserts that the means of `draws` estimates lie within five errors of such means of what they estimate. */
function expectMean(draws: number, estimate: () => Tensor[], expected: number[]): void {
  const sum = expected.map(() => 0);
  const squares = expected.map(() => 0);
  for (let n = 0; n < draws; n++)
    tidy(() =>
      estimate()
        .flatMap(list)
        .forEach((v, i) => {
          sum[i]! += v;
          squares[i]! += v * v;
        }),
    );
  for (const [i, want] of expected.entries()) {
    const mean = sum[i]! / draws;
    const error = Math.sqrt(Math.max(0, squares[i]! / draws - mean * mean) / draws);
    if (!(Math.abs(mean - want) <= 5 * error + 1e-7)) expect.fail(`element ${i}: ${mean} ± ${error}, not ${want}`);
  }
}

describe('hutchinson', () => {
  const exact = tidy(() => diagonal(leaves(SHAPES), lossOf));
  it.each(['rademacher', 'normal'] as const)('is right on average, with %s numbers', (distribution) => {
    const params = leaves(SHAPES);
    const generator = new Generator(7);
    expectMean(150, () => optim.hutchinson(lossOf(params), params, { distribution, generator }), exact);
    expect(Math.max(...exact.map(Math.abs))).toBeGreaterThan(0.1);
  });
  it('is exact in one draw where the Hessian is diagonal', () => {
    const [x, y] = leaves([[2, 3], [5]]) as [Tensor, Tensor];
    const loss = x.pow(3).sum().add(y.exp().mul(2).sum());
    const [ofX, ofY] = optim.hutchinson(loss, [x, y]);
    list(ofX!).forEach((v, i) => expect(v).toBeCloseTo(6 * list(x)[i]!, 12));
    list(ofY!).forEach((v, i) => expect(v).toBeCloseTo(2 * Math.exp(list(y)[i]!), 12));
  });
  it('is zero for what is linear, or not there', () => {
    const [x, y, z] = leaves([[3], [2], [2]]) as [Tensor, Tensor, Tensor];
    expect(optim.hutchinson(x.mul(2).sum(), [x]).map(list)).toEqual([[0, 0, 0]]);
    const estimates = optim.hutchinson(x.mul(2).sum().add(y.square().sum()), [x, y, z]);
    expect(estimates.map(list)).toEqual([
      [0, 0, 0],
      [2, 2],
      [0, 0],
    ]);
  });
  it('keeps the graph on request, and leaves nothing else', () => {
    const params = leaves(SHAPES);
    const { tensors } = memory();
    const [w] = params as [Tensor];
    const smooth = (): Tensor => F.sigmoid(inputs.matmul(w)).square().mean();
    tidy(() => optim.hutchinson(smooth(), [w]).length);
    tidy(() => optim.gaussNewtonBartlett(logitsOf(params), params).length);
    expect(memory().tensors).toBe(tensors);
    const [x] = leaves([[3]]) as [Tensor];
    const kept = x.pow(3).sum();
    optim.hutchinson(kept, [x], { retainGraph: true });
    kept.backward();
    list(x.grad!).forEach((v, i) => expect(v).toBeCloseTo(3 * list(x)[i]! ** 2, 12));
    const freed = x.pow(3).sum();
    optim.hutchinson(freed, [x]);
    expect(codeOf(() => freed.backward())).toBe('FOVEA_AUTOGRAD');
  });
  it('refuses what it cannot use', () => {
    const [x] = leaves([[3]]) as [Tensor];
    const loss = x.pow(3).sum();
    expect(() => optim.hutchinson(loss, [])).toThrow(/hutchinson.*params/);
    expect(() => optim.hutchinson(loss, 3 as never)).toThrow(/hutchinson.*params/);
    expect(() => optim.hutchinson(loss, [x], { distribution: 'uniform' as never })).toThrow(/distribution.*uniform/);
    expect(() => optim.hutchinson(x.pow(3), [x])).toThrow(/one element/);
    expect(codeOf(() => optim.hutchinson(x.detach().sum(), [x]))).toBe('FOVEA_AUTOGRAD');
  });
});

describe('gaussNewtonBartlett', () => {
  /**
   * The mean over rows of Σ over classes of p (d -log p / d θ)²: every label that could be drawn, by its probability.
   */
  function enumerated(params: readonly Tensor[], logits: (params: readonly Tensor[]) => Tensor): number[] {
    const [rows, classes] = logits(params).shape as [number, number];
    const total: number[] = params.flatMap(list).map(() => 0);
    for (let row = 0; row < rows; row++)
      for (let c = 0; c < classes; c++)
        tidy(() => {
          const logP = F.logSoftmax(logits(params), -1).select(0, row).select(0, c);
          const gradients = grad(logP, [...params], { allowUnused: true });
          const flat = gradients.flatMap((g, k) => (g ? list(g) : list(params[k]!).map(() => 0)));
          flat.forEach((v, i) => (total[i]! += (Math.exp(logP.itemSync()) * v * v) / rows));
        });
    return total;
  }
  it('is right on average', () => {
    const params = leaves(SHAPES);
    const exact = enumerated(params, logitsOf);
    const generator = new Generator(11);
    expectMean(300, () => optim.gaussNewtonBartlett(logitsOf(params), params, { generator }), exact);
    expect(Math.max(...exact)).toBeGreaterThan(0.05);
  });
  it('is the Hessian itself of a linear model, whatever the labels', () => {
    const params = leaves([[4, 3], [3]]);
    const linear = ([w, b]: readonly Tensor[]): Tensor => inputs.reshape([6, 4]).matmul(w!).add(b!);
    const exact = diagonal(params, (p) => F.crossEntropy(linear(p), targets));
    enumerated(params, linear).forEach((v, i) => expect(v).toBeCloseTo(exact[i]!, 7));
    const generator = new Generator(13);
    expectMean(300, () => optim.gaussNewtonBartlett(linear(params), params, { generator }), exact);
  });
  it('takes rows in any shape, and is never negative', () => {
    const [w, unused] = leaves([[4, 3], [2]]) as [Tensor, Tensor];
    const of = (logits: Tensor): number[][] =>
      optim.gaussNewtonBartlett(logits, [w, unused], { generator: new Generator(1) }).map(list);
    const deep = of(inputs.matmul(w));
    expect(deep).toEqual(of(inputs.reshape([6, 4]).matmul(w)));
    expect(Math.min(...deep[0]!)).toBeGreaterThanOrEqual(0);
    expect(deep[1]).toEqual([0, 0]);
  });
  it('refuses what it cannot use', () => {
    const [w] = leaves([[4, 3]]) as [Tensor];
    expect(() => optim.gaussNewtonBartlett(tensor(1, { device }), [w])).toThrow(
      /gaussNewtonBartlett.*\[\.\.\., classes\]/,
    );
    expect(() => optim.gaussNewtonBartlett(inputs.matmul(w).slice(0, 0, 0), [w])).toThrow(/at least one row/);
    expect(() => optim.gaussNewtonBartlett(inputs.matmul(w), [w], { bs: 3 } as never)).toThrow(/bs/);
  });
});

it('squares gradients of float16 in float32', () => {
  const x = tensor([[2 ** -14]], { dtype: 'float16', device });
  const w = nn.parameter(tensor([[0, 0]], { dtype: 'float16', device }));
  const [estimate] = optim.gaussNewtonBartlett(x.matmul(w), [w]);
  expect(estimate!.dtype).toBe('float32');
  // Whichever class is drawn, the gradient is ±2^-15, the square of which float16 does not have.
  expect(list(estimate!)).toEqual([2 ** -30, 2 ** -30]);
});

describe('Sophia', () => {
  const options = { lr: 0.1, betas: [0.8, 0.6], gamma: 0.5, eps: 0.05, weightDecay: 0.2 } as const;

  it('follows its formula with estimates in between', () => {
    const params = leaves([[3, 5], [7]]);
    const optimizer = new optim.Sophia(params, options);
    const expected = params.map(list);
    const m = expected.map((values) => values.map(() => 0));
    const h = expected.map((values) => values.map(() => 0));
    for (let step = 0; step < 8; step++) {
      if (step % 3 === 0) {
        const estimates = params.map((p, k) => double([...p.shape], 100 * step + k));
        optimizer.updateHessian(() => estimates);
        estimates.forEach((estimate, k) => list(estimate).forEach((v, i) => (h[k]![i]! += 0.4 * (v - h[k]![i]!))));
      }
      params.forEach((p, k) => {
        p.grad = double([...p.shape], 1000 * step + k, 0.3);
        list(p.grad).forEach((g, i) => {
          m[k]![i] = 0.8 * m[k]![i]! + 0.2 * g;
          const ratio = m[k]![i]! / Math.max(0.5 * h[k]![i]!, 0.05);
          expected[k]![i] = expected[k]![i]! * (1 - 0.1 * 0.2) - 0.1 * Math.min(1, Math.max(-1, ratio));
        });
      });
      optimizer.step();
      params.forEach((p, k) => list(p).forEach((v, i) => expect(v).toBeCloseTo(expected[k]![i]!, 12)));
    }
    const { hessian, expAvg, step } = optimizer.stateDict().state[1]!;
    expect(step).toBe(8);
    list(hessian as Tensor).forEach((v, i) => expect(v).toBeCloseTo(h[1]![i]!, 12));
    list(expAvg as Tensor).forEach((v, i) => expect(v).toBeCloseTo(m[1]![i]!, 12));
  });

  it('shows a NaN of the gradient or of the estimate', () => {
    for (const of of ['gradient', 'estimate']) {
      const p = nn.parameter(tensor([1, 2], { device }));
      const optimizer = new optim.Sophia([p]);
      optimizer.updateHessian(() => [tensor([of === 'estimate' ? Number.NaN : 1, 1], { device })]);
      p.grad = tensor([of === 'gradient' ? Number.NaN : 1, 1], { device });
      optimizer.step();
      expect(list(p).map(Number.isNaN)).toEqual([true, false]);
    }
  });

  it('has one pace in a flat and a steep direction', () => {
    const scales = tensor([1000, 1, 0.01], { dtype: 'float64', device });
    const x = nn.parameter(tensor([1, 1, 1], { dtype: 'float64', device }));
    const optimizer = new optim.Sophia([x], { lr: 0.05, betas: [0.5, 0.9], gamma: 1, weightDecay: 0 });
    for (let step = 0; step < 100; step++)
      tidy(() => {
        const loss = (): Tensor => x.square().mul(scales).sum().div(2);
        if (step % 10 === 0) optimizer.updateHessian((params) => optim.hutchinson(loss(), params));
        optimizer.zeroGrad();
        loss().backward();
        optimizer.step();
      });
    for (const v of list(x)) expect(Math.abs(v)).toBeLessThan(0.05);
  });

  const train = (recorded: boolean, estimate: 'hutchinson' | 'gaussNewtonBartlett'): unknown => {
    const model = mlp();
    const optimizer = new optim.Sophia(model.parameters(), { lr: 0.01, gamma: 0.5 });
    const generator = new Generator(3);
    const classes = (y: Tensor): Tensor => y.argmax(-1);
    const plain = {
      curvature: (x: Tensor, y: Tensor): void =>
        optimizer.updateHessian((params) =>
          estimate === 'hutchinson'
            ? optim.hutchinson(F.crossEntropy(model.forward(x), classes(y)), params, { generator })
            : optim.gaussNewtonBartlett(model.forward(x), params, { generator }),
        ),
      step: (x: Tensor, y: Tensor): Tensor => {
        model.zeroGrad();
        const loss = F.crossEntropy(model.forward(x), classes(y));
        loss.backward();
        optimizer.step();
        return loss;
      },
    };
    using curvature = record(plain.curvature);
    using step = record(plain.step);
    const run = recorded ? { curvature, step } : plain;
    const losses: number[] = [];
    for (let i = 0; i < 12; i++) {
      if (i % 3 === 0) run.curvature(normal([4, 7], 50 + i), normal([4, 5], i));
      losses.push(run.step(normal([4, 7], i), normal([4, 5], i)).itemSync());
    }
    if (recorded) expect([curvature.recordings, step.recordings]).toEqual([1, 1]);
    const states = Object.values(optimizer.stateDict().state).map((entry) => list(entry['hessian'] as Tensor));
    return { losses, states, parameters: model.parameters().map(list), offset: generator.offset };
  };
  it.each(['hutchinson', 'gaussNewtonBartlett'] as const)('records steps and estimates by %s', (estimate) => {
    expect(train(true, estimate)).toEqual(train(false, estimate));
  });

  it('records estimates where a whole group is frozen', () => {
    for (const frozenFirst of [true, false]) {
      const [frozen, trained] = [tensor([1, 2], { device }), nn.parameter(tensor([1, 2], { device }))];
      const groups = [
        { params: [trained], betas: [0.9, 0.5] as const },
        { params: [frozen], betas: [0.9, 0] as const },
      ];
      const optimizer = new optim.Sophia(frozenFirst ? groups.reverse() : groups);
      using update = record((estimate: Tensor) => optimizer.updateHessian(() => [estimate.mul(1)]));
      for (let i = 0; i < 3; i++) update(tensor([8, 16], { device }));
      expect(list(optimizer.stateDict().state[frozenFirst ? 1 : 0]!['hessian'] as Tensor)).toEqual([7, 14]);
    }
  });

  it('refuses options and estimates that do not fit', () => {
    const [p] = leaves([[3]]) as [Tensor];
    expect(() => new optim.Sophia([p], { eps: 0 })).toThrow(/Sophia.*above 0.*eps/);
    expect(() => new optim.Sophia([p], { gamma: -1 })).toThrow(/Sophia.*gamma/);
    const optimizer = new optim.Sophia([p]);
    expect(() => optimizer.updateHessian([p] as never)).toThrow(/updateHessian.*estimator/);
    expect(() => optimizer.updateHessian(() => [])).toThrow(/a list of 1 tensors/);
    expect(() => optimizer.updateHessian(() => [3 as never])).toThrow(/estimate 0/);
    expect(() => optimizer.updateHessian(() => [double([2], 1)])).toThrow(/estimate 0 is \[2\], its parameter \[3\]/);
    expect(optimizer.state.size).toBe(0);
  });
});
