// Every optimizer against its formulas in float64 (models.ts), over seven steps: its options, groups, dtypes,
// parameters that pause, saved states.
import { type Dtype, FoveaError, nn, optim, type Tensor, tensor, tidy } from 'fovea';
import { describe, expect, it } from 'vitest';
import { device } from '../helpers.js';
import { random, roundTo } from '../ops/samples.js';
import { values } from '../ops/samples.js';
import { models, type Options } from './models.js';

type AnyOptimizer = optim.Optimizer<{ lr: number }>;
type Groups = ({ params: Tensor[] } & Options)[];
const make = (name: string, params: Groups | Tensor[], options: Options = {}): AnyOptimizer => {
  const Type = (optim as unknown as Record<string, new (params: unknown, options: Options) => AnyOptimizer>)[name]!;
  return new Type(params, options);
};

const betas = [0.8, 0.95];
const cases: [string, Options[]][] = [
  [
    'Adam',
    [{}, { lr: 0.1, betas, eps: 1e-6, weightDecay: 0.3 }, { amsgrad: true }, { maximize: true, weightDecay: 0.1 }],
  ],
  ['AdamW', [{}, { lr: 0.1, betas, weightDecay: 0.3, amsgrad: true }, { maximize: true }]],
  [
    'RAdam',
    [{}, { lr: 0.1, betas, weightDecay: 0.2 }, { betas, weightDecay: 0.2, decoupledWeightDecay: true, maximize: true }],
  ],
  [
    'NAdam',
    [
      {},
      { lr: 0.1, betas, weightDecay: 0.2, momentumDecay: 0.05 },
      { weightDecay: 0.2, decoupledWeightDecay: true, maximize: true },
    ],
  ],
  ['Adagrad', [{}, { lr: 0.1, lrDecay: 0.2, weightDecay: 0.1, initialAccumulatorValue: 0.5 }, { maximize: true }]],
  [
    'RMSprop',
    [
      {},
      { lr: 0.05, alpha: 0.8, weightDecay: 0.1 },
      { momentum: 0.9 },
      { centered: true, alpha: 0.5, eps: 0.01 },
      { centered: true, momentum: 0.5, maximize: true, eps: 0.01 },
    ],
  ],
  ['Lion', [{}, { lr: 0.05, betas, weightDecay: 0.3 }, { maximize: true }]],
  ['Sophia', [{}, { lr: 0.05, betas, weightDecay: 0.3, eps: 0.4 }]],
  [
    'SGD',
    [
      {},
      { lr: 0.1, weightDecay: 0.2 },
      { momentum: 0.9, dampening: 0.3 },
      { momentum: 0.9, nesterov: true, maximize: true },
    ],
  ],
  ['Adafactor', [{}, { lr: 0.1, weightDecay: 0.2, beta2Decay: -0.5, d: 1.5 }, { eps: [1e-3, 0.1], maximize: true }]],
  [
    'Muon',
    [{}, { lr: 0.1, weightDecay: 0.2, momentum: 0.8, nesterov: false }, { adjustLrFn: 'match_rms_adamw', nsSteps: 3 }],
  ],
];

const shapesOf = (name: string): number[][] =>
  name === 'Muon'
    ? [
        [3, 7],
        [9, 4],
      ]
    : [[3, 7], [17], [2, 3, 5], []];
const sizeOf = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);
const numbers = (n: number, seed: number, dtype: Dtype): number[] => {
  const next = random(seed);
  return Array.from({ length: n }, () => roundTo(dtype, 2 * next() - 1));
};
const epsilons: Record<string, number> = { float64: 2 ** -52, float32: 2 ** -23, float16: 2 ** -10, bfloat16: 2 ** -7 };

/** Steps with gradients that depend on the step and the parameter. `each` is called after every step. */
function train(
  optimizer: AnyOptimizer,
  params: Tensor[],
  steps: readonly number[],
  each?: (step: number) => void,
): void {
  for (const step of steps) {
    tidy(() => {
      params.forEach((p, i) => {
        const dtype = p.dtype;
        const g = tensor(numbers(p.size, 1000 * step + i, dtype), { shape: p.shape, dtype, device });
        p.mul(g).sum().backward();
      });
      optimizer.step();
      optimizer.zeroGrad();
    });
    each?.(step);
  }
}
const parameters = (name: string, dtype: Dtype): Tensor[] =>
  shapesOf(name).map((shape, i) => nn.parameter(tensor(numbers(sizeOf(shape), i, dtype), { shape, dtype, device })));
const list = (t: Tensor): number[] => Array.from(values(t).data);
const sevenSteps = [1, 2, 3, 4, 5, 6, 7];

describe.each(cases)('%s', (name, variants) => {
  it.each(variants.flatMap((options) => (['float64', 'float32'] as const).map((dtype) => [dtype, options] as const)))(
    'follows its formula in %s with %o',
    (dtype, options) => {
      const params = parameters(name, dtype);
      const expected = params.map(list);
      const steps = params.map((p) => models[name]!(options, p.shape, epsilons[dtype]!));
      train(make(name, params, options), params, sevenSteps, (step) => {
        params.forEach((p, i) => {
          expected[i] = steps[i]!(expected[i]!, numbers(p.size, 1000 * step + i, dtype));
          const allowed = dtype === 'float64' ? 1e-11 : 2e-5;
          list(p).forEach((v, at) => {
            const want = expected[i]![at]!;
            if (!(Math.abs(v - want) <= allowed * (1 + Math.abs(want))))
              expect.fail(`step ${step}, parameter ${i}[${at}]: ${v}, expected ${want}`);
          });
        });
      });
      expect(list(params[0]!)).not.toEqual(numbers(params[0]!.size, 0, dtype));
    },
  );

  it.each(['bfloat16', 'float16'] as const)('rounds parameters of %s once a step', (dtype) => {
    const options = { lr: 0.05 };
    const params = parameters(name, dtype);
    const steps = params.map((p) => models[name]!(options, p.shape, epsilons[dtype]!));
    let before = params.map(list);
    train(make(name, params, options), params, sevenSteps, (step) => {
      params.forEach((p, i) => {
        // From what was there, so that roundings do not add up; the averages are kept in more bits.
        const expected = steps[i]!(before[i]!, numbers(p.size, 1000 * step + i, dtype));
        list(p).forEach((v, at) => {
          const want = expected[at]!;
          const allowed = (epsilons[dtype]! / 2) * 1.01 * Math.abs(want) + 2e-5;
          if (!(Math.abs(v - want) <= allowed))
            expect.fail(`step ${step}, parameter ${i}[${at}]: ${v}, expected ${want}`);
        });
      });
      before = params.map(list);
    });
  });

  it('gives groups their own options, and leaves out parameters without a gradient', () => {
    const params = parameters(name, 'float64');
    const [first, ...others] = params as [Tensor, ...Tensor[]];
    const options = variants.at(-1)!;
    const optimizer = make(name, [{ params: [first] }, { params: others, ...options, lr: 0.25 }], { lr: 0.125 });
    const expected = params.map(list);
    const steps = params.map((p, i) => models[name]!(i ? { ...options, lr: 0.25 } : { lr: 0.125 }, p.shape, 2 ** -52));
    const moving = [[first, ...others], others, [first, ...others], [first]];
    moving.forEach((now, step) => {
      params.forEach((p, i) => {
        if (!now.includes(p)) return;
        const g = numbers(p.size, 31 * step + i, 'float64');
        expected[i] = steps[i]!(expected[i]!, g);
        tidy(() =>
          p
            .mul(tensor(g, { shape: p.shape, dtype: 'float64', device }))
            .sum()
            .backward(),
        );
      });
      optimizer.step();
      optimizer.zeroGrad();
    });
    params.forEach((p, i) => list(p).forEach((v, at) => expect(v).toBeCloseTo(expected[i]![at]!, 9)));
  });

  it.each(variants.flatMap((options) => (['float32', 'bfloat16'] as const).map((dtype) => [dtype, options] as const)))(
    'goes on from a saved state with the same bits, %s with %o',
    (dtype, options) => {
      const whole = parameters(name, dtype);
      train(make(name, whole, options), whole, sevenSteps);
      const resumed = parameters(name, dtype);
      const before = make(name, resumed, options);
      train(before, resumed, sevenSteps.slice(0, 4));
      const saved = before.stateDict();
      const after = make(name, resumed, {});
      after.loadStateDict(saved);
      before.dispose();
      train(after, resumed, sevenSteps.slice(4));
      expect(resumed.map(list)).toEqual(whole.map(list));
    },
  );

  it('refuses options that it does not know, and rates that are none', () => {
    const p = parameters(name, 'float32');
    for (const options of [{ rate: 1 }, { lr: -1 }, { lr: Number.NaN }, { lr: '1' }, { weightDecay: -1 }])
      expect(() => make(name, p, options), JSON.stringify(options)).toThrow(FoveaError);
    expect(() => make(name, p, { lr: -1 })).toThrow(new RegExp(`${name}: .*lr.*-1`));
  });
});

describe('refusals', () => {
  const p = (): Tensor[] => [nn.parameter(tensor([[1, 2]], { device }))];
  it.each([
    ['betas of 1', () => new optim.RAdam(p(), { betas: [0.9, 1] }), /RAdam.*betas/],
    ['one beta', () => new optim.Lion(p(), { betas: [0.9] as never }), /Lion.*betas/],
    ['a momentum below 0', () => new optim.RMSprop(p(), { momentum: -1 }), /RMSprop.*momentum/],
    ['a decay of the rate below 0', () => new optim.Adagrad(p(), { lrDecay: -1 }), /Adagrad.*lrDecay/],
    ['a growing average', () => new optim.Adafactor(p(), { beta2Decay: 1 }), /Adafactor.*beta2Decay/],
    ['a cut below 1', () => new optim.Adafactor(p(), { d: 0.5 }), /Adafactor.*\bd\b/],
    ['one eps', () => new optim.Adafactor(p(), { eps: 1 as never }), /Adafactor.*eps/],
    ['a vector for Muon', () => new optim.Muon([nn.parameter(tensor([1], { device }))]), /Muon.*matrices.*AdamW/],
    ['two coefficients', () => new optim.Muon(p(), { nsCoefficients: [1, 2] as never }), /Muon.*nsCoefficients/],
    ['an unknown rate', () => new optim.Muon(p(), { adjustLrFn: 'none' as never }), /Muon.*adjustLrFn/],
    ['nesterov without momentum', () => new optim.SGD(p(), { nesterov: true }), /SGD.*nesterov/],
  ])('%s', (_, run, message) => {
    expect(run).toThrow(message);
    expect(run).toThrow(expect.objectContaining({ code: 'FOVEA_ARGUMENT' }));
  });
  it('a state of another shape', () => {
    const optimizer = new optim.Adafactor(p());
    const rowVar = tensor([[1, 2]], { device });
    const state = { 0: { step: 1, rowVar, colVar: rowVar } };
    const { paramGroups } = optimizer.stateDict();
    expect(() => optimizer.loadStateDict({ state, paramGroups })).toThrow(/rowVar.*\[1,2\], expected \[1,1\]/);
  });
});

describe('Adafactor', () => {
  it('takes parameters and gradients that are views', () => {
    const made = (seed: number): Tensor => tensor(numbers(21, seed, 'float32'), { shape: [3, 7], device });
    const step = (view: (x: Tensor) => Tensor): number[] => {
      const p = nn.parameter(view(made(1)));
      const optimizer = new optim.Adafactor([p], { lr: 0.1 });
      for (const seed of [2, 3]) {
        p.grad = view(made(seed));
        optimizer.step();
      }
      return list(p);
    };
    expect(step((x) => x.t().contiguous().t())).toEqual(step((x) => x));
  });
});

describe('Muon', () => {
  it('makes the singular values of its step nearly alike', () => {
    const [m, n] = [6, 10];
    const weight = nn.parameter(tensor(numbers(m * n, 1, 'float64'), { shape: [m, n], dtype: 'float64', device }));
    const before = weight.detach().clone();
    const optimizer = new optim.Muon([weight], { lr: 1, weightDecay: 0 });
    weight
      .mul(tensor(numbers(m * n, 2, 'float64'), { shape: [m, n], dtype: 'float64', device }))
      .sum()
      .backward();
    optimizer.step();
    const step = before.sub(weight.detach());
    const gram = values(step.matmul(step.t()));
    for (let i = 0; i < m; i++) {
      expect(gram.at([i, i])).toBeGreaterThan(0.4);
      expect(gram.at([i, i])).toBeLessThan(1.5);
      for (let j = 0; j < i; j++) expect(Math.abs(gram.at([i, j]))).toBeLessThan(0.3);
    }
  });
});
