// Every guard, fired and silent.
import { inspect, manualSeed, nn, noGrad, optim, randn, tensor, type Tensor, train } from 'fovea';
import { describe, expect, test } from 'vitest';

const step = (loss: number, gradNorm = 1, at = 1): train.GuardedStep => ({ step: at, loss, gradNorm, scaled: false });
const evaluation = (loss: number, trainLoss: number | undefined): train.EvaluationReport => ({
  step: 1,
  epoch: 0,
  loss,
  trainLoss,
  improved: false,
  seconds: 0,
});

/** What a guard says of losses, one after the other: actions, and '-' where it is silent. */
async function said(guard: train.Guard, losses: number[]): Promise<string> {
  const actions: string[] = [];
  for (const [i, loss] of losses.entries())
    actions.push((await guard.beforeUpdate!(step(loss, 1, i + 1)))?.action ?? '-');
  return actions.join(' ');
}

/** As many numbers around 2, the same at each call. */
const around = (count: number): number[] => Array.from({ length: count }, (_, i) => 2 + 0.1 * Math.sin(7 * i));

describe('nonFinite', () => {
  test('is silent about numbers', async () => {
    expect(await said(train.nonFinite(), [1, 0, -5, 1e300])).toBe('- - - -');
  });

  test.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])('fires at %d', async (value) => {
    expect(() => train.nonFinite().beforeUpdate!(step(value, 1, 7))).toThrow(/loss of step 7 is (NaN|-?Infinity)/);
    expect(() => train.nonFinite().beforeUpdate!(step(1, value, 7))).toThrow(/norm of the gradients of step 7 is/);
    expect(await said(train.nonFinite({ action: 'skip' }), [1, value, 1])).toBe('- skip -');
  });

  test('does not skip for ever', async () => {
    const guard = train.nonFinite({ action: 'skip', maxSkips: 2 });
    expect(await said(guard, [Number.NaN, Number.NaN, 1, Number.NaN, Number.NaN])).toBe('skip skip - skip skip');
    const other = train.nonFinite({ action: 'skip', maxSkips: 2 });
    other.loadStateDict(guard.stateDict());
    expect(() => other.beforeUpdate!(step(Number.NaN))).toThrow(
      /loss of step 1 is NaN, and so it was in 2 steps before/,
    );
  });

  test('leaves the search for a scale alone, but not for ever', () => {
    const guard = train.nonFinite({ maxSkips: 3 });
    const overflow = { ...step(1, Number.POSITIVE_INFINITY), scaled: true };
    for (let i = 0; i < 3; i++) expect(guard.beforeUpdate!(overflow)).toBeUndefined();
    expect(() => guard.beforeUpdate!(overflow)).toThrow(/in 3 steps before/);
    expect(() => train.nonFinite().beforeUpdate!({ ...overflow, loss: Number.NaN })).toThrow(/loss of step/);
  });
});

describe('lossSpike', () => {
  test('is silent about noise, falling losses and its first steps', async () => {
    expect(await said(train.lossSpike(), around(100))).not.toContain('skip');
    expect(
      await said(
        train.lossSpike(),
        Array.from({ length: 100 }, (_, i) => 5 / (i + 1)),
      ),
    ).not.toContain('skip');
    expect(await said(train.lossSpike(), [1, 1, 1000, 1])).toBe('- - - -');
    expect(await said(train.lossSpike(), new Array<number>(40).fill(3))).not.toContain('skip');
  });

  test('fires at a spike alone', async () => {
    const losses = [...around(30), 4, ...around(5)];
    const expected = losses.map((loss) => (loss === 4 ? 'skip' : '-')).join(' ');
    expect(await said(train.lossSpike(), losses)).toBe(expected);
    const guard = train.lossSpike({ minSteps: 4, window: 8, action: 'warn' });
    await said(guard, around(8));
    const verdict = await guard.beforeUpdate!(step(20));
    expect(verdict).toMatchObject({
      action: 'warn',
      reason: expect.stringMatching(/20, .* deviations above/) as string,
    });
  });

  test('takes a new level for normal, also across a checkpoint', async () => {
    const guard = train.lossSpike({ window: 8, minSteps: 8 });
    await said(guard, around(8));
    const high = around(12).map((loss) => loss + 5);
    const answers = await said(guard, high);
    expect(answers.startsWith('skip skip skip')).toBe(true);
    expect(answers.endsWith('- - -')).toBe(true);
    const resumed = train.lossSpike({ window: 8, minSteps: 8 });
    resumed.loadStateDict(guard.stateDict());
    expect(await said(resumed, [7, 30])).toBe('- skip');
  });
});

describe('gradientNorm', () => {
  test('is silent up to its limit, and fires beyond', () => {
    const guard = train.gradientNorm({ max: 10 });
    expect(guard.beforeUpdate!(step(1, 10))).toBeUndefined();
    expect(guard.beforeUpdate!(step(1, 10.5))).toEqual({
      action: 'skip',
      reason: 'the norm of the gradients is 10.5, above 10',
    });
    expect(guard.beforeUpdate!({ ...step(1, Number.POSITIVE_INFINITY), scaled: true })).toBeUndefined();
  });
});

describe('attentionCollapse', () => {
  /** A layer whose scores are multiplied by `sharpness`, and a guard that observes it. */
  async function verdictAt(sharpness: number): Promise<train.GuardVerdict | undefined> {
    manualSeed(2);
    using layer = new nn.TransformerEncoderLayer({ dModel: 8, nHead: 2, dropout: 0, batchFirst: true });
    noGrad(() => layer.parameters()[0]!.mul_(sharpness)); // of q, k and v
    using observer = inspect.observe(layer, { maxCalls: 1 });
    const entropies = async (): Promise<Record<string, number>> =>
      Object.fromEntries(
        await Promise.all(
          observer.captures.map(
            async (one) => [one.module, await inspect.entropy(one.weights()).mean().item()] as [string, number],
          ),
        ),
      );
    const guard = train.attentionCollapse({ entropies, every: 2 });
    expect(await guard.beforeUpdate!(step(1, 1, 1))).toBeUndefined(); // it looks at every second step
    layer.forward(randn([2, 6, 8]));
    return guard.beforeUpdate!(step(1, 1, 2));
  }

  test('is silent about attention that spreads', async () => {
    expect(await verdictAt(1)).toBeUndefined();
  });

  test('fires where each query sees one key', async () => {
    expect(await verdictAt(200)).toEqual({
      action: 'stop',
      reason: expect.stringMatching(/below 0\.05 nats in selfAttn|below 0\.05 nats in self_attn \(/) as string,
    });
  });

  test('wants to be told of layers', async () => {
    const look = async (value: unknown): Promise<unknown> =>
      train.attentionCollapse({ entropies: () => value as never, every: 1 }).beforeUpdate!(step(1));
    await expect(look({})).rejects.toThrow(/observe the model first/);
    await expect(look({ a: 'x' })).rejects.toThrow(/the entropy of a/);
  });
});

describe('overfitting', () => {
  const run = (pairs: [number, number | undefined][], guard = train.overfitting({ evaluations: 2 })): string =>
    pairs
      .map(([loss, trainLoss]) => {
        const verdict = guard.afterEvaluation!(evaluation(loss, trainLoss));
        return verdict instanceof Promise ? 'later' : (verdict?.action ?? '-');
      })
      .join(' ');

  test('is silent while both fall, both rise, or only for a moment', () => {
    expect(
      run([
        [3, 3],
        [2, 2],
        [1, 1],
      ]),
    ).toBe('- - -');
    expect(
      run([
        [1, 1],
        [2, 2],
        [3, 3],
      ]),
    ).toBe('- - -');
    expect(
      run([
        [1, 3],
        [2, 2],
        [1.5, 1],
        [1.6, 0.9],
      ]),
    ).toBe('- - - -');
    expect(
      run([
        [1, undefined],
        [2, undefined],
        [3, undefined],
      ]),
    ).toBe('- - -');
  });

  test('fires where they go apart, also across a checkpoint', () => {
    expect(
      run([
        [1, 3],
        [2, 2],
        [3, 1],
        [4, 0.5],
      ]),
    ).toBe('- - stop stop');
    const first = train.overfitting({ evaluations: 2 });
    run(
      [
        [1, 3],
        [2, 2],
      ],
      first,
    );
    const second = train.overfitting({ evaluations: 2, action: 'warn' });
    second.loadStateDict(first.stateDict());
    expect(run([[3, 1]], second)).toBe('warn');
  });
});

describe('in a run', () => {
  class Scale extends nn.Module {
    w: Tensor = nn.parameter(tensor([2]));
    override forward(x: Tensor): Tensor {
      return this.w.mul(x).sum();
    }
  }

  async function run(
    batches: number[],
    guards: train.Guard[] | undefined,
    more: Partial<train.TrainerOptions<number>> = {},
  ) {
    const model = new Scale();
    const reports: (train.GuardReport | train.StepReport)[] = [];
    const trainer = new train.Trainer<number, Scale>({
      model,
      optimizer: new optim.SGD(model.parameters(), { lr: 1 }),
      loss: (scale, x) => scale.forward(tensor([x])),
      trainData: batches,
      epochs: 1,
      ...(guards ? { guards } : {}),
      callbacks: [{ onGuard: (report) => void reports.push(report), onStep: (report) => void reports.push(report) }],
      ...(more as object),
    });
    let error: unknown;
    const result = await trainer.run().catch((reason: unknown) => void (error = reason));
    return { result, error, reports, w: model.w.itemSync(), steps: trainer.step };
  }

  test('a NaN fails it before it reaches the weights', async () => {
    const { error, w, steps } = await run([1, Number.NaN, 1], undefined);
    expect(error).toMatchObject({
      code: 'FOVEA_NAN',
      message: expect.stringMatching(/loss of step 2 is NaN/) as string,
    });
    expect([w, steps]).toEqual([1, 1]);
  });

  test('a step is skipped, and the run goes on', async () => {
    const { result, w, reports } = await run([1, Number.NaN, 0.5], [train.nonFinite({ action: 'skip' })]);
    expect(result).toMatchObject({ step: 3, stopped: undefined });
    expect(w).toBe(0.5);
    expect(reports.map((report) => ('guard' in report ? report.action : report.updated))).toEqual([
      true,
      'skip',
      false,
      true,
    ]);
  });

  test('a warning changes nothing', async () => {
    const { w, reports } = await run([1, 8], [train.gradientNorm({ max: 5, action: 'warn' })]);
    expect(w).toBe(-7);
    expect(reports[1]).toEqual({
      step: 2,
      guard: 'gradientNorm',
      action: 'warn',
      reason: 'the norm of the gradients is 8, above 5',
    });
  });

  test('a stop ends it with the weights as they were', async () => {
    const { result, w } = await run([1, 8, 1], [train.gradientNorm({ max: 5, action: 'stop' })]);
    expect(w).toBe(1);
    expect(result).toMatchObject({ step: 1, stopped: { by: 'gradientNorm' } });
  });

  test('and the run may go on after that, in float16, too', async () => {
    const model = new Scale();
    let limit = 5;
    const guard: train.Guard = {
      name: 'mine',
      beforeUpdate({ gradNorm }) {
        if (gradNorm > 10) throw new Error('far too much');
        return gradNorm > limit ? { action: 'stop', reason: 'too much' } : undefined;
      },
    };
    const trainer = new train.Trainer<number, Scale>({
      model,
      optimizer: new optim.SGD(model.parameters(), { lr: 1 }),
      loss: (scale, x) => scale.forward(tensor([x])),
      trainData: [1, 8, 1, 16, 2, 1],
      maxSteps: 4,
      precision: 'float16',
      guards: [guard],
    });
    expect((await trainer.run()).stopped).toEqual({ by: 'mine', reason: 'too much' });
    limit = 20;
    await expect(trainer.run()).rejects.toThrow('far too much');
    expect(await trainer.run()).toMatchObject({ step: 4, stopped: undefined });
    expect(model.w.itemSync()).toBe(2 - 1 - 1 - 2 - 1);
  });

  test('a guard of evaluations stops it, too', async () => {
    const guard: train.Guard = {
      name: 'mine',
      afterEvaluation: ({ step }) => (step === 2 ? { action: 'stop', reason: 'enough' } : undefined),
    };
    const { result } = await run([1, 1, 1], [guard], { evalData: [1], evaluateEvery: 1 });
    expect(result).toMatchObject({ step: 2, stopped: { by: 'mine', reason: 'enough' } });
  });
});

test('options out of range are refused', () => {
  const odd: [() => unknown, RegExp][] = [
    [() => train.nonFinite({ action: 'warn' as never }), /nonFinite: expected 'skip' or 'stop' for action/],
    [() => train.nonFinite({ maxSkips: 0 }), /maxSkips/],
    [() => train.lossSpike({ window: 1 }), /window/],
    [() => train.lossSpike({ deviations: -1 }), /deviations/],
    [() => train.lossSpike({ action: 'shout' as never }), /action/],
    [() => train.gradientNorm({ max: 0 }), /max/],
    [() => train.gradientNorm(undefined as never), /max/],
    [() => train.attentionCollapse({ entropies: 1 as never }), /entropies/],
    [() => train.attentionCollapse({ entropies: () => ({}), threshold: 0 }), /threshold/],
    [() => train.attentionCollapse({ entropies: () => ({}), every: 0 }), /every/],
    [() => train.overfitting({ evaluations: 0 }), /evaluations/],
    [() => train.overfitting({ action: 'skip' as never }), /'warn' or 'stop'/],
    [() => train.lossSpike({ widow: 3 } as never), /widow/],
    [() => train.lossSpike().loadStateDict({ losses: 'x' }), /a list of numbers for losses/],
    [() => train.nonFinite().loadStateDict({ skipped: -1 }), /skipped/],
    [() => train.overfitting().loadStateDict({ loss: 1, trainLoss: 1, count: -1 }), /count/],
  ];
  for (const [call, message] of odd) expect(call).toThrow(message);
});
