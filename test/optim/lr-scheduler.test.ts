// Schedules against rates that PyTorch and transformers gave (test/golden/optim), and what resuming, composing and
// recording ask of them.
import { nn, optim, record, tensor } from 'fovea';
import { describe, expect, it } from 'vitest';
import { readJson } from '../golden.js';
import { device } from '../helpers.js';

const { lrScheduler } = optim;
type Schedule = optim.lrScheduler.LRScheduler;
type Member = [name: string, options: Record<string, unknown>];
interface Golden {
  base: number[];
  single: { name: string; options: Record<string, unknown>; rates: number[][] }[];
  sequential: { members: Member[]; milestones: number[]; rates: number[][] }[];
  chained: { members: Member[]; rates: number[][] }[];
  factors: Record<string, number[]>;
}
const golden = readJson('optim', 'schedules.json') as Golden;

const optimizerOf = (rates = golden.base): optim.SGD =>
  new optim.SGD(rates.map((lr) => ({ params: [nn.parameter(tensor([1], { device }))], lr })));
const single = (optimizer: optim.SGD, [name, options]: Member): Schedule => {
  const Type = (lrScheduler as unknown as Record<string, new (optimizer: optim.SGD, options: unknown) => Schedule>)[
    name
  ]!;
  return new Type(optimizer, options);
};

function ratesOf(schedule: Schedule, steps: number): number[][] {
  return Array.from({ length: steps }, () => {
    const rates = schedule.getLastLr();
    schedule.step();
    return rates;
  });
}
function expectRates(actual: number[][], expected: number[][]): void {
  expect(actual.length).toBe(expected.length);
  for (const [step, row] of expected.entries())
    for (const [group, rate] of row.entries()) {
      const error = Math.abs(actual[step]![group]! - rate);
      if (!(error <= 1e-13 + 1e-12 * rate))
        expect.fail(`step ${step}, group ${group}: ${actual[step]![group]}, not ${rate}`);
    }
}

const made: [string, number[][], (optimizer: optim.SGD) => Schedule][] = [
  ...golden.single.map(({ name, options, rates }): (typeof made)[number] => [
    `${name} ${JSON.stringify(options)}`,
    rates,
    (optimizer) => single(optimizer, [name, options]),
  ]),
  ...golden.sequential.map(({ members, milestones, rates }): (typeof made)[number] => [
    `SequentialLR ${JSON.stringify(members)}`,
    rates,
    (optimizer) =>
      new lrScheduler.SequentialLR(
        optimizer,
        members.map((member) => single(optimizer, member)),
        { milestones },
      ),
  ]),
  ...golden.chained.map(({ members, rates }): (typeof made)[number] => [
    `ChainedScheduler ${JSON.stringify(members)}`,
    rates,
    (optimizer) => new lrScheduler.ChainedScheduler(members.map((member) => single(optimizer, member))),
  ]),
];

describe.each(made)('%s', (_, rates, make) => {
  it("has PyTorch's rates", () => {
    expectRates(ratesOf(make(optimizerOf()), rates.length), rates);
  });
  it.each([1, 6, 19])('goes on from step %i', (at) => {
    const before = make(optimizerOf());
    ratesOf(before, at);
    const state = JSON.parse(JSON.stringify(before.stateDict())) as { lastEpoch: number };
    expect(state).toEqual({ lastEpoch: at });
    const after = make(optimizerOf());
    after.loadStateDict(state);
    expect(ratesOf(after, rates.length - at)).toEqual(ratesOf(before, rates.length - at));
  });
  it('goes on with the rates of a saved optimizer, whichever was loaded first', () => {
    const optimizer = optimizerOf();
    const schedule = make(optimizer);
    ratesOf(schedule, 6);
    const [saved, state] = [optimizer.stateDict(), schedule.stateDict()];
    for (const first of ['optimizer', 'schedule']) {
      const other = optimizerOf([9, 9]);
      let resumed: Schedule | undefined = first === 'schedule' ? make(other) : undefined;
      other.loadStateDict(saved);
      resumed ??= make(other);
      resumed.loadStateDict(state);
      expectRates(ratesOf(resumed, rates.length - 6), rates.slice(6));
    }
  });
});

describe('factors', () => {
  const [warmupSteps, totalSteps] = [5, 26];
  const wsd = { warmupSteps, stableSteps: 10, decaySteps: 11, minLrRatio: 0.1 };
  const cases: [string, (optimizer: optim.SGD) => Schedule][] = [
    ['cosine', (o) => lrScheduler.warmupCosine(o, { warmupSteps, totalSteps })],
    ['linear', (o) => lrScheduler.warmupLinear(o, { warmupSteps, totalSteps })],
    ['inverseSqrt', (o) => lrScheduler.warmupInverseSqrt(o, { warmupSteps })],
    ['noam', (o) => lrScheduler.noam(o, { dModel: 64, warmupSteps })],
    ['wsd linear', (o) => lrScheduler.warmupStableDecay(o, wsd)],
    ['wsd cosine', (o) => lrScheduler.warmupStableDecay(o, { ...wsd, decayShape: 'cosine' })],
    ['wsd 1-sqrt', (o) => lrScheduler.warmupStableDecay(o, { ...wsd, decayShape: '1-sqrt' })],
  ];
  it.each(cases)('%s', (name, make) => {
    const recorded = golden.factors[name]!;
    // The warm-up of transformers begins with a step at rate 0, which is left out here, and that of WSD at the least
    // rate; what falls begins at the same step, but for the square root, which counts on from the warm-up.
    const expected = recorded.slice(0, -1).map((factor, step) => {
      if (name === 'noam') return factor;
      if (step < warmupSteps && name.startsWith('wsd')) return (step + 1) / warmupSteps;
      return step < warmupSteps || name === 'inverseSqrt' ? recorded[step + 1]! : factor;
    });
    const rates = ratesOf(make(optimizerOf([0.5, 1])), expected.length);
    expectRates(
      rates,
      expected.map((factor) => [0.5 * factor, factor]),
    );
  });

  it('compose as phases, each from its own start, the last for ever', () => {
    const { decay, phases, stable, warmup } = lrScheduler;
    const half = { steps: 2, factor: () => 0.5 };
    const factor = phases(warmup({ steps: 2 }), half, stable({ steps: 1 }), decay({ steps: 2, shape: 'linear' }));
    expect([0, 1, 2, 3, 4, 5, 6, 7, 8].map(factor)).toEqual([0.5, 1, 0.5, 0.5, 1, 1, 0.5, 0, 0]);
    expect([0, 1, 2, 9].map(phases(warmup({ steps: 2 })))).toEqual([0.5, 1, 1, 1]);
    expect([0, 1].map(phases(warmup({ steps: 0 }), stable({ steps: 0 }), decay({ steps: 0 })))).toEqual([1, 0]);
    const kept = phases(decay({ steps: 4, shape: '1-sqrt', minLrRatio: 0.2 }));
    expect(kept(0)).toBe(1);
    expect(kept(1)).toBeCloseTo(0.6, 14);
    expect(kept(99)).toBeCloseTo(0.2, 14);
  });
  it('take what warms up alone', () => {
    const schedule = lrScheduler.warmupCosine(optimizerOf([2]), { warmupSteps: 3, totalSteps: 3, minLrRatio: 0.5 });
    expect(ratesOf(schedule, 5).flat()).toEqual([2 / 3, (2 * 2) / 3, 2, 2, 1]);
  });
});

describe('LambdaLR', () => {
  it('takes a function for each group', () => {
    const schedule = new lrScheduler.LambdaLR(optimizerOf([1, 10]), [(n) => n, (n) => 0.5 ** n]);
    expect(ratesOf(schedule, 3)).toEqual([
      [0, 10],
      [1, 5],
      [2, 2.5],
    ]);
    expect(() => new lrScheduler.LambdaLR(optimizerOf(), [() => 1])).toThrow(/LambdaLR.*one function for each group/);
  });
  it('says which step has no rate', () => {
    const schedule = new lrScheduler.LambdaLR(optimizerOf([1]), (n) => 1 / (2 - n));
    schedule.step();
    expect(() => schedule.step()).toThrow(/LambdaLR.*group 0 at step 2/);
  });
});

it('a second schedule starts from the initial rates, as in PyTorch', () => {
  const optimizer = optimizerOf([1]);
  const first = new lrScheduler.ExponentialLR(optimizer, { gamma: 0.5 });
  ratesOf(first, 3);
  expect(new lrScheduler.ConstantLR(optimizer, { factor: 0.3 }).getLastLr()).toEqual([0.3]);
});

it('a group added later has its own initial rate', () => {
  const optimizer = optimizerOf([1]);
  const schedule = new lrScheduler.ExponentialLR(optimizer, { gamma: 0.5 });
  const [group] = optimizerOf([8]).paramGroups;
  optimizer.paramGroups.push(group!);
  schedule.step();
  schedule.step();
  expect(schedule.getLastLr()).toEqual([0.25, 2]);
});

describe.each(made)('in recorded steps, %s', (_, rates, make) => {
  it('has the rates of steps that are not', () => {
    const optimizer = optimizerOf();
    const schedule = make(optimizer);
    const params = optimizer.paramGroups.map(({ params: [p] }) => p!);
    for (const p of params) p.grad = tensor([1], { device });
    let calls = 0;
    using step = record(() => {
      calls++;
      optimizer.step();
      schedule.step();
    });
    const moved = params.map((p) => p.itemSync());
    for (const row of rates.slice(0, 12)) {
      step();
      params.forEach((p, group) => expect(p.itemSync()).toBeCloseTo((moved[group]! -= row[group]!), 5));
    }
    expect(calls).toBe(1);
  });
});

describe('refuses', () => {
  const o = optimizerOf();
  const other = new lrScheduler.ConstantLR(optimizerOf());
  const cases: [string, () => unknown, RegExp][] = [
    ['no optimizer', () => new lrScheduler.LambdaLR({} as never, () => 1), /LambdaLR.*Optimizer/],
    ['no function', () => new lrScheduler.LambdaLR(o, 1 as never), /LambdaLR.*lrLambda/],
    ['no rule', () => new lrScheduler.LRScheduler(o, 1 as never), /LRScheduler.*rule/],
    ['a factor above 1', () => new lrScheduler.ConstantLR(o, { factor: 2 }), /ConstantLR.*factor.*2/],
    ['a start at 0', () => new lrScheduler.LinearLR(o, { startFactor: 0 }), /LinearLR.*above 0.*startFactor/],
    ['no steps', () => new lrScheduler.LinearLR(o, { totalIters: 0 }), /LinearLR.*totalIters/],
    ['half steps', () => new lrScheduler.StepLR(o, { stepSize: 1.5 }), /StepLR.*stepSize/],
    ['missing options', () => new lrScheduler.ExponentialLR(o, undefined as never), /ExponentialLR.*gamma/],
    ['no list', () => new lrScheduler.MultiStepLR(o, { milestones: 3 as never }), /MultiStepLR.*milestones/],
    ['a negative power', () => new lrScheduler.PolynomialLR(o, { power: -1 }), /PolynomialLR.*power/],
    ['no period', () => new lrScheduler.CosineAnnealingLR(o, { tMax: 0 }), /CosineAnnealingLR.*tMax/],
    ['half periods', () => new lrScheduler.CosineAnnealingWarmRestarts(o, { t0: 2, tMult: 1.5 }), /tMult/],
    ['PyTorch spelling', () => new lrScheduler.CosineAnnealingLR(o, { T_max: 5 } as never), /T_max/],
    ['no schedules', () => new lrScheduler.ChainedScheduler([]), /ChainedScheduler.*schedulers/],
    ['other things', () => new lrScheduler.ChainedScheduler([1 as never]), /schedulers\[0\]/],
    ['two optimizers', () => new lrScheduler.SequentialLR(o, [other], { milestones: [] }), /schedulers\[0\].*another/],
    [
      'milestones that do not fit',
      () => new lrScheduler.SequentialLR(o, [new lrScheduler.ConstantLR(o)], { milestones: [3] }),
      /SequentialLR.*milestones/,
    ],
    [
      'milestones that go back',
      () => {
        const members = [1, 2, 3].map(() => new lrScheduler.ConstantLR(o));
        return new lrScheduler.SequentialLR(o, members, { milestones: [5, 5] });
      },
      /at least 6.*milestones\[1\]/,
    ],
    [
      'a state that is none',
      () => new lrScheduler.ConstantLR(o).loadStateDict({ lastEpoch: -1 }),
      /ConstantLR.*lastEpoch/,
    ],
    ['no phases', () => lrScheduler.phases(), /phases/],
    ['a phase without end in between', () => lrScheduler.phases({ steps: 1.5, factor: () => 1 }), /phases\[0\].steps/],
    ['an unknown shape', () => lrScheduler.decay({ steps: 3, shape: 'toString' as never }), /decay.*shape/],
    [
      'a share above 1',
      () => lrScheduler.warmupLinear(o, { warmupSteps: 1, totalSteps: 2, minLrRatio: 2 }),
      /minLrRatio/,
    ],
    [
      'a long warm-up',
      () => lrScheduler.warmupCosine(o, { warmupSteps: 3, totalSteps: 2 }),
      /warmupCosine.*totalSteps/,
    ],
    ['no width', () => lrScheduler.noam(o, { dModel: 0, warmupSteps: 2 }), /noam.*dModel/],
    ['no warm-up', () => lrScheduler.warmupInverseSqrt(o, { warmupSteps: 0 }), /warmupInverseSqrt.*warmupSteps/],
    [
      'no count',
      () => lrScheduler.warmupStableDecay(o, { warmupSteps: 1, stableSteps: -1, decaySteps: 1 }),
      /warmupStableDecay.*stableSteps/,
    ],
  ];
  it.each(cases)('%s', (_, run, message) => {
    expect(run).toThrow(message);
    expect(run).toThrow(expect.objectContaining({ code: 'FOVEA_ARGUMENT' }));
  });
});
