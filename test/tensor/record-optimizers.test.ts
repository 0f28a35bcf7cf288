// Whole steps of training, recorded: gradients cleared, dropout, clipping, every optimizer and its schedule, against
// the same function called anew. Equal bits of losses, parameters and states.
import { defaultGenerator, functional as F, manualSeed, nn, optim, record, type Tensor } from 'fovea';
import { describe, expect, it } from 'vitest';
import { codeOf, list } from '../helpers.js';
import { mlp, normal } from './mlp.js';

type AnyOptimizer = optim.Optimizer<{ lr: number }>;
const STEPS = 20;

/** Of every parameter: numbers, and the elements of tensors. */
const stateOf = (optimizer: AnyOptimizer): unknown =>
  Object.values(optimizer.stateDict().state).map((entry) =>
    Object.entries(entry).map(([name, value]) => [name, typeof value === 'number' ? value : list(value)]),
  );

interface Run {
  losses: number[];
  parameters: number[][];
  state: unknown;
  offset: number;
  calls: number;
  recordings: number;
}

/** Trains with a schedule, in the step or behind it; `between` happens after step i. */
function train(
  recorded: boolean,
  make: (params: Tensor[]) => AnyOptimizer,
  {
    scheduled = 'behind',
    between = (): void => undefined,
  }: {
    scheduled?: 'inside' | 'behind';
    between?: (i: number, optimizer: AnyOptimizer, model: nn.Module) => void;
  } = {},
): Run {
  const model = mlp(0.3);
  const optimizer = make(model.parameters());
  const schedule = optim.lrScheduler.warmupCosine(optimizer, { warmupSteps: 4, totalSteps: STEPS });
  manualSeed(11);
  let calls = 0;
  const run = (x: Tensor, y: Tensor): Tensor => {
    calls++;
    model.zeroGrad();
    const loss = F.mseLoss(model.forward(x), y);
    loss.backward();
    nn.utils.clipGradNorm_(model.parameters(), 0.5);
    optimizer.step();
    if (scheduled === 'inside') schedule.step();
    return loss;
  };
  using step = record(run);
  const losses: number[] = [];
  for (let i = 0; i < STEPS; i++) {
    using loss = (recorded ? step : run)(normal([4, 7], i), normal([4, 5], 100 + i));
    losses.push(loss.itemSync());
    if (scheduled === 'behind') schedule.step();
    between(i, optimizer, model);
  }
  const parameters = model.parameters().map(list);
  const { recordings } = step;
  return { losses, parameters, state: stateOf(optimizer), offset: defaultGenerator().offset, calls, recordings };
}

/** Trains both ways. @returns how often the function ran while it was recorded, and how many recordings there were */
function compare(...args: [Parameters<typeof train>[1], Parameters<typeof train>[2]?]): [number, number] {
  const { calls, recordings, ...got } = train(true, ...args);
  const { calls: all, recordings: none, ...expected } = train(false, ...args);
  expect(got).toEqual(expected);
  expect(new Set(got.losses).size).toBe(STEPS);
  expect([all, none]).toEqual([STEPS, 0]);
  return [calls, recordings];
}

const matrices = (params: Tensor[]): Tensor[] => params.filter(({ rank }) => rank === 2);
const optimizers: [string, (params: Tensor[]) => AnyOptimizer][] = [
  ['AdamW', (params) => new optim.AdamW(params, { lr: 0.01 })],
  ['AdamW with amsgrad', (params) => new optim.AdamW(params, { lr: 0.01, amsgrad: true })],
  ['Adam', (params) => new optim.Adam(params, { lr: 0.01, weightDecay: 0.1 })],
  ['SGD', (params) => new optim.SGD(params, { lr: 0.1 })],
  ['SGD with momentum', (params) => new optim.SGD(params, { lr: 0.1, momentum: 0.9, dampening: 0.1 })],
  ['RAdam', (params) => new optim.RAdam(params, { lr: 0.01 })],
  ['NAdam', (params) => new optim.NAdam(params, { lr: 0.01 })],
  ['Adagrad', (params) => new optim.Adagrad(params, { lr: 0.1, lrDecay: 0.1, initialAccumulatorValue: 0.1 })],
  ['RMSprop', (params) => new optim.RMSprop(params, { lr: 0.01 })],
  ['RMSprop, centred', (params) => new optim.RMSprop(params, { lr: 0.01, centered: true, momentum: 0.5 })],
  ['Lion', (params) => new optim.Lion(params, { lr: 0.01, weightDecay: 0.1 })],
  ['Sophia', (params) => new optim.Sophia(params, { lr: 0.01, eps: 0.01 })],
  ['Adafactor', (params) => new optim.Adafactor(params, { lr: 0.1, weightDecay: 0.1 })],
  ['Muon', (params) => new optim.Muon(matrices(params), { lr: 0.1 })],
];

describe('a whole step of training, recorded', () => {
  it.each(optimizers)('with %s has the bits of one that is not', (_, make) => {
    expect(compare(make)).toEqual([1, 1]);
  });
  it('may move its schedule itself', () => {
    expect(compare((params) => new optim.AdamW(params, { lr: 0.01 }), { scheduled: 'inside' })).toEqual([1, 1]);
  });
  it('takes rates by group', () => {
    const groups = (params: Tensor[]): AnyOptimizer =>
      new optim.AdamW([
        { params: params.slice(0, 2), lr: 0.01, weightDecay: 0 },
        { params: params.slice(2), lr: 0.1 },
      ]);
    expect(compare(groups)).toEqual([1, 1]);
  });
  it('goes on from steps outside of it', () => {
    const between = (i: number, optimizer: AnyOptimizer): void => {
      if (i % 5 === 2) optimizer.step();
    };
    for (const [name, make] of optimizers) expect(compare(make, { between }), name).toEqual([1, 1]);
  });
});

describe('it is recorded anew', () => {
  const adamw = (params: Tensor[]): AnyOptimizer => new optim.AdamW(params, { lr: 0.01 });
  it('for other options', () => {
    const between = (i: number, { paramGroups }: AnyOptimizer): void => {
      if (i === 5) Object.assign(paramGroups[0]!, { weightDecay: 0.5, amsgrad: true });
      if (i === 9) Object.assign(paramGroups[0]!, { betas: [0.5, 0.5] });
    };
    expect(compare(adamw, { between })).toEqual([3, 3]);
  });
  it('for other parameters', () => {
    const halves = (params: Tensor[]): AnyOptimizer =>
      new optim.AdamW([{ params: params.slice(0, 1) }, { params: params.slice(1) }], { lr: 0.01 });
    const between = (i: number, { paramGroups }: AnyOptimizer): void => {
      if (i === 5) paramGroups[1]!.params.reverse();
      if (i === 9) paramGroups[1]!.params.pop();
      if (i === 12) paramGroups.pop();
    };
    expect(compare(halves, { between })).toEqual([4, 4]);
  });
  it('for a state that was loaded', () => {
    for (const [name, make] of optimizers) {
      const between = (i: number, optimizer: AnyOptimizer): void => {
        if (i !== 7) return;
        const other = make(optimizer.paramGroups.flatMap(({ params }) => params));
        other.loadStateDict(optimizer.stateDict());
        optimizer.loadStateDict(other.stateDict());
        other.dispose();
      };
      expect(compare(make, { between })[0], name).toBeLessThanOrEqual(2);
    }
  });
  it('for counts of steps that differ from then on', () => {
    const between = (i: number, { state, paramGroups }: AnyOptimizer): void => {
      if (i === 7) state.delete(paramGroups[0]!.params[1]!);
    };
    for (const [name, make] of optimizers)
      if (name !== 'SGD' && name !== 'Muon') expect(compare(make, { between }), name).toEqual([2, 2]);
  });
  it('where another parameter has a gradient', () => {
    const between = (i: number, _: AnyOptimizer, model: nn.Module): void => {
      if (i === 4 || i === 8) model.parameters()[0]!.requiresGrad_(i === 8);
    };
    for (const [name, make] of optimizers) expect(compare(make, { between })[0], name).toBe(3);
  });
});

it('refuses an optimizer of which it cannot know what changes', () => {
  class Own extends optim.SGD {
    protected override update(group: optim.ParamGroup<optim.SGDOptions>): void {
      group.lr *= 0.5;
      super.update(group);
    }
  }
  const model = mlp();
  const optimizer = new Own(model.parameters());
  using step = record(() => optimizer.step());
  expect(codeOf(() => step())).toBe('FOVEA_UNSUPPORTED');
  expect(() => step()).toThrow(/Own\.step/);
});

it('leaves the state to the optimizer when the recording goes', () => {
  const model = mlp();
  const optimizer = new optim.AdamW(model.parameters(), { lr: 0.01 });
  const step = record((x: Tensor) => {
    optimizer.zeroGrad();
    model.forward(x).square().mean().backward();
    optimizer.step();
  });
  for (let i = 0; i < 3; i++) step(normal([3, 7], i));
  const before = stateOf(optimizer);
  step.dispose();
  normal([64, 64], 5).exp().dispose();
  expect(stateOf(optimizer)).toEqual(before);
  expect([...optimizer.state.values()].map(({ step: count }) => count)).toEqual([3, 3, 3, 3]);
});
