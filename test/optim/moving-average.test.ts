// Averages of weights against PyTorch's (test/golden/optim) and against the formula; swapped in and out, saved,
// recorded.
import { memory, nn, noGrad, optim, record, type Tensor, tensor } from 'fovea';
import { describe, expect, it } from 'vitest';
import { readJson } from '../golden.js';
import { codeOf, device, list } from '../helpers.js';
import { mlp, normal } from '../tensor/mlp.js';

const { average: golden } = readJson('optim', 'trajectories.json') as {
  average: { decay: number; shapes: number[][]; kept: number[][] };
};

const noise = (k: number, step: number, shape: readonly number[], dtype: 'float64' | 'float32' | 'bfloat16'): Tensor =>
  tensor(
    Array.from(
      { length: shape.reduce((a, b) => a * b, 1) },
      (_, i) => ((i * 7919 + step * 104729 + k * 1299709) % 1000) / 500 - 1,
    ),
    { shape, dtype, device },
  );
const close = (actual: number[], expected: number[], allowed: number): void => {
  expect(actual.length).toBe(expected.length);
  actual.forEach((v, i) => expect(Math.abs(v - expected[i]!)).toBeLessThanOrEqual(allowed));
};
const parameter = (...values: number[]): Tensor => nn.parameter(tensor(values, { device }));

describe('ExponentialMovingAverage', () => {
  it.each([
    ['float64', 1e-14],
    ['float32', 1e-6],
  ] as const)("has PyTorch's averages in %s", (dtype, allowed) => {
    // PyTorch copies at the first update: here the average begins then.
    const params = golden.shapes.map((shape, k) => nn.parameter(noise(k, 1, shape, dtype)));
    const { decay } = golden;
    const ema = new optim.ExponentialMovingAverage(params, { decay });
    for (const [i, expected] of golden.kept.entries()) {
      if (i > 0) {
        noGrad(() => params.forEach((p, k) => void p.copy_(noise(k, i + 1, p.shape, dtype))));
        ema.update();
      }
      close(ema.averages.flatMap(list), expected, allowed);
    }
    expect(ema.numUpdates).toBe(golden.kept.length - 1);
  });

  it('forgets its start sooner with a warm-up', () => {
    const p = parameter(1);
    const ema = new optim.ExponentialMovingAverage([p], { decay: 0.5, useWarmup: true });
    let expected = 1;
    for (let t = 1; t <= 20; t++) {
      noGrad(() => p.fill_(t));
      ema.update();
      expected += (1 - Math.min(0.5, (1 + t) / (10 + t))) * (t - expected);
      expect(list(ema.averages[0]!)[0]).toBeCloseTo(expected, 4);
    }
  });

  it('keeps averages of 16 bits in 32, where small shares count', () => {
    const p = nn.parameter(tensor([1, -2], { dtype: 'bfloat16', device }));
    const ema = new optim.ExponentialMovingAverage([p], { decay: 0.999 });
    noGrad(() => p.copy_(tensor([1.0078125, -2], { device })));
    for (let i = 0; i < 500; i++) ema.update();
    expect(ema.averages[0]!.dtype).toBe('float32');
    close(list(ema.averages[0]!), [1 + 0.0078125 * (1 - 0.999 ** 500), -2], 1e-5);
    ema.copyTo();
    expect(p.dtype).toBe('bfloat16');
  });

  it('takes the place of the parameters while a function runs, and no longer', async () => {
    const [p, q] = [parameter(1, 2), parameter(3)];
    const ema = new optim.ExponentialMovingAverage([p, q], { decay: 0.5 });
    noGrad(() => p.add_(2));
    ema.update();
    const seen = (): number[][] => [p, q].map(list);
    const [own, averaged] = [
      [[3, 4], [3]],
      [[2, 3], [3]],
    ];
    expect(ema.average(seen)).toEqual(averaged);
    expect(seen()).toEqual(own);
    const { tensors } = memory();
    const result = ema.average(async () => {
      await p.data();
      return seen();
    });
    expect(seen()).toEqual(averaged);
    for (const busy of [(): void => ema.update(), (): unknown => ema.average(seen)])
      expect(busy).toThrow(/in place of the parameters/);
    expect(await result).toEqual(averaged);
    expect(seen()).toEqual(own);
    expect(() =>
      ema.average(() => {
        throw new Error('within');
      }),
    ).toThrow('within');
    await expect(ema.average(() => Promise.reject(new Error('later')))).rejects.toThrow('later');
    expect(seen()).toEqual(own);
    expect(memory().tensors).toBe(tensors);
    ema.update();
    expect(list(ema.averages[0]!)).toEqual([2.5, 3.5]);
  });

  it('makes a graph from before notice that the parameters were others', () => {
    const p = parameter(2);
    const ema = new optim.ExponentialMovingAverage([p]);
    const loss = p.square().sum();
    ema.average(() => undefined);
    expect(codeOf(() => loss.backward())).toBe('FOVEA_AUTOGRAD');
  });

  it('goes on from a saved state with the same bits', () => {
    const [a, b] = [0, 1].map(() => golden.shapes.map((shape, k) => nn.parameter(noise(k, 0, shape, 'float32'))));
    const move = (params: Tensor[], t: number): void =>
      noGrad(() => params.forEach((p, k) => void p.copy_(noise(k, t, p.shape, 'float32'))));
    const options = { decay: 0.9, useWarmup: true };
    const whole = new optim.ExponentialMovingAverage(a!, options);
    for (let t = 1; t <= 5; t++) {
      move(a!, t);
      whole.update();
    }
    const resumed = new optim.ExponentialMovingAverage(b!, options);
    resumed.loadStateDict(whole.stateDict());
    for (let t = 6; t <= 9; t++)
      for (const [params, ema] of [
        [a!, whole],
        [b!, resumed],
      ] as const) {
        move(params, t);
        ema.update();
      }
    expect(resumed.numUpdates).toBe(9);
    expect(resumed.averages.map(list)).toEqual(whole.averages.map(list));
    const { tensors } = memory();
    resumed.dispose();
    expect(memory().tensors).toBe(tensors - 2);
  });

  it('goes on in recorded steps', () => {
    const train = (recorded: boolean): unknown => {
      const model = mlp();
      const optimizer = new optim.SGD(model.parameters(), { lr: 0.1 });
      const ema = new optim.ExponentialMovingAverage(model.parameters(), { decay: 0.8, useWarmup: true });
      const run = (x: Tensor): Tensor => {
        model.zeroGrad();
        const loss = model.forward(x).square().mean();
        loss.backward();
        optimizer.step();
        ema.update();
        return loss;
      };
      using step = record(run);
      const between: number[] = [];
      for (let i = 0; i < 8; i++) {
        (recorded ? step : run)(normal([4, 7], i));
        if (i === 4) between.push(...ema.average(() => list(model.forward(normal([2, 7], 9)))));
        if (i === 5) ema.loadStateDict(ema.stateDict());
      }
      if (recorded) expect(step.recordings).toBe(1);
      return { between, updates: ema.numUpdates, averages: ema.averages.map(list) };
    };
    expect(train(true)).toEqual(train(false));
  });

  it('writes into other tensors', () => {
    const p = parameter(1, 3);
    const ema = new optim.ExponentialMovingAverage([p], { decay: 0.5 });
    noGrad(() => p.zero_());
    ema.update();
    const other = tensor([0, 0], { dtype: 'float64', device });
    ema.copyTo([other]);
    expect(list(other)).toEqual([0.5, 1.5]);
    expect(list(p)).toEqual([0, 0]);
  });

  const ema = new optim.ExponentialMovingAverage([parameter(1, 2)]);
  const cases: [string, () => unknown, string, RegExp][] = [
    ['no tensors', () => new optim.ExponentialMovingAverage([]), 'FOVEA_ARGUMENT', /params/],
    ['no list', () => new optim.ExponentialMovingAverage(3 as never), 'FOVEA_ARGUMENT', /params/],
    ['what is no tensor', () => new optim.ExponentialMovingAverage([3 as never]), 'FOVEA_ARGUMENT', /params\[0\]/],
    [
      'integers',
      () => new optim.ExponentialMovingAverage([tensor([1], { dtype: 'int32', device })]),
      'FOVEA_DTYPE',
      /params\[0\] is int32/,
    ],
    ['a decay of 1', () => new optim.ExponentialMovingAverage([parameter(1)], { decay: 1 }), 'FOVEA_ARGUMENT', /decay/],
    [
      'another option',
      () => new optim.ExponentialMovingAverage([parameter(1)], { warmup: true } as never),
      'FOVEA_ARGUMENT',
      /warmup/,
    ],
    ['no function', () => ema.average(3 as never), 'FOVEA_ARGUMENT', /average.*fn/],
    ['two tensors for one', () => ema.copyTo([]), 'FOVEA_ARGUMENT', /copyTo.*1 tensors/],
    ['another shape', () => ema.copyTo([parameter(1)]), 'FOVEA_SHAPE', /copyTo: params\[0\] is \[1\], expected \[2\]/],
    ['no state', () => ema.loadStateDict({} as never), 'FOVEA_ARGUMENT', /loadStateDict.*state/],
    [
      'a state of another shape',
      () => ema.loadStateDict({ numUpdates: 1, averages: [parameter(1)] }),
      'FOVEA_SHAPE',
      /loadStateDict: averages\[0\]/,
    ],
  ];
  it.each(cases)('refuses %s', (_, run, code, message) => {
    expect(run).toThrow(message);
    expect(codeOf(run)).toBe(code);
  });
  it('refuses to swap inside of a recorded step', () => {
    using step = record(() => ema.average(() => undefined));
    expect(codeOf(() => step())).toBe('FOVEA_UNSUPPORTED');
  });
});
