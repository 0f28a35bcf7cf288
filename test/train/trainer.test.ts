// What a run computes, and what it refuses.
import { keep, memory, optim, randn, tensor, type Tensor, train } from 'fovea';
import { describe, expect, test } from 'vitest';
import { cut, mse, Net, type Pair, setUp } from './net.ts';

async function weightsAfter(
  trainData: Pair[],
  options: Partial<train.TrainerOptions<Pair, Net>> = {},
): Promise<number[]> {
  const { model, trainer } = setUp({ trainData, epochs: 3, ...options });
  await trainer.run();
  return model.parameters().flatMap((p) => [...p.dataSync()]);
}

const furthest = (a: number[], b: number[]): number => Math.max(...a.map((value, i) => Math.abs(value - b[i]!)));

describe('gradients are accumulated', () => {
  test('four batches of four rows are one of sixteen, to 1e-6', async () => {
    const whole = await weightsAfter(cut(16, 16));
    const parts = await weightsAfter(cut(4, 4, 4, 4, 4, 4, 4, 4), { accumulate: 4 });
    expect(furthest(whole, parts)).toBeLessThan(1e-6);
    expect(furthest(whole, await weightsAfter(cut(4, 4, 4, 4)))).toBeGreaterThan(1e-3);
  });

  test('batches of unequal size by their weights', async () => {
    const whole = await weightsAfter(cut(16));
    const parts = cut(7, 1, 5, 3);
    const weight = ({ x }: Pair): number => x.shape[0]!;
    expect(furthest(whole, await weightsAfter(parts, { accumulate: 4, weight }))).toBeLessThan(1e-6);
    expect(furthest(whole, await weightsAfter(parts, { accumulate: 4 }))).toBeGreaterThan(1e-3);
  });

  test('an epoch may end with fewer, which count as much as they are', async () => {
    const losses: number[] = [];
    const { trainer } = setUp({
      trainData: cut(2, 2, 2, 2, 2),
      accumulate: 2,
      callbacks: [{ onStep: ({ loss }) => void losses.push(loss) }],
    });
    expect(await trainer.run()).toMatchObject({ step: 3, epoch: 1 });
    expect(losses).toHaveLength(3);
    expect(await weightsAfter(cut(2), { accumulate: 4 })).toEqual(await weightsAfter(cut(2)));
  });

  test('a batch of weight 0 is passed over', async () => {
    const bad = { x: tensor([[Number.NaN, 0, 0, 0, 0]]), y: tensor([[0]]) };
    const weight = (pair: Pair): number => (pair === bad ? 0 : 1);
    const [first, second] = cut(2, 2) as [Pair, Pair];
    expect(await weightsAfter([first, bad, second], { accumulate: 3, weight })).toEqual(
      await weightsAfter([first, second], { accumulate: 2 }),
    );
    await expect(weightsAfter([bad], { weight })).rejects.toThrow(/a sum above 0 over the batches of a step/);
    await expect(weightsAfter([first], { weight: () => -1 })).rejects.toThrow(/for weight\(batch\), received -1/);
  });
});

describe('a step', () => {
  test('reports loss, rate, norm, scale, time and memory', async () => {
    const reports: train.StepReport[] = [];
    const { trainer, optimizer } = setUp({
      trainData: cut(4, 4),
      epochs: 2,
      clipNorm: 1e-3,
      callbacks: [{ onStep: (report) => void reports.push(report) }],
    });
    optimizer.paramGroups[0]!.lr = 0.01;
    const result = await trainer.run();
    expect(reports.map(({ step, epoch, lr, lossScale, updated }) => [step, epoch, lr, lossScale, updated])).toEqual([
      [1, 0, 0.01, 1, true],
      [2, 0, 0.01, 1, true],
      [3, 1, 0.01, 1, true],
      [4, 1, 0.01, 1, true],
    ]);
    for (const { gradNorm, peakMemory, seconds } of reports) {
      expect(gradNorm).toBeGreaterThan(1e-2);
      expect(peakMemory).toBeGreaterThan(100);
      expect(seconds).toBeGreaterThan(0);
    }
    expect(result).toEqual({
      step: 4,
      epoch: 2,
      loss: reports[3]!.loss,
      evalLoss: undefined,
      best: undefined,
      stopped: undefined,
    });
  });

  test('clips by norm and by value', async () => {
    /** What one step at a rate of 1 subtracts. */
    const gradients = async (options: Partial<train.TrainerOptions<Pair, Net>>): Promise<number[]> => {
      const { model } = setUp({});
      const optimizer = new optim.SGD(model.parameters(), { lr: 1 });
      const weights = (): number[] => model.parameters().flatMap((p) => [...p.dataSync()]);
      const before = weights();
      const trainData = cut(4);
      await new train.Trainer<Pair, Net>({ model, optimizer, loss: mse, trainData, maxSteps: 1, ...options }).run();
      return weights().map((value, i) => before[i]! - value);
    };
    const [plain, norm, value] = [
      await gradients({}),
      await gradients({ clipNorm: 0.1 }),
      await gradients({ clipValue: 0.02 }),
    ];
    const length = Math.hypot(...plain);
    expect(length).toBeGreaterThan(0.1);
    expect(
      furthest(
        norm,
        plain.map((g) => (g * 0.1) / length),
      ),
    ).toBeLessThan(1e-6);
    expect(
      furthest(
        value,
        plain.map((g) => Math.max(-0.02, Math.min(0.02, g))),
      ),
    ).toBeLessThan(1e-6);
  });

  test.each(['float32', 'bfloat16', 'float16'] as const)('in %s leaves nothing behind', async (precision) => {
    const counts: number[] = [];
    const { trainer } = setUp({
      trainData: {
        *[Symbol.iterator]() {
          for (let i = 0; i < 8; i++) yield { x: randn([4, 5]), y: randn([4, 1]) };
        },
      },
      accumulate: 2,
      epochs: 3,
      precision,
      callbacks: [{ onStep: () => void counts.push(memory().tensors) }],
    });
    await trainer.run();
    expect(counts).toHaveLength(12);
    expect(new Set(counts.slice(1)).size).toBe(1);
  });

  test('lets the event loop turn', async () => {
    let [turns, steps] = [0, 0];
    const turn = (): void => {
      turns++;
      if (steps < 20) setImmediate(turn);
    };
    setImmediate(turn);
    const { trainer } = setUp({ trainData: cut(64), epochs: 20, callbacks: [{ onStep: () => void steps++ }] });
    await trainer.run();
    expect(turns).toBeGreaterThanOrEqual(20);
  });

  test('takes a loss that is awaited', async () => {
    const loss = async (net: Net, pair: Pair): Promise<Tensor> => {
      await new Promise((resolve) => setImmediate(resolve));
      return mse(net, pair);
    };
    expect(await weightsAfter(cut(4, 4), { loss, precision: 'bfloat16' })).toEqual(
      await weightsAfter(cut(4, 4), { precision: 'bfloat16' }),
    );
  });

  test('frees batches but those that come again', async () => {
    const fresh = cut(4, 4);
    const kept = cut(2)[0]!;
    keep(kept.x);
    const given = new Set([...fresh, kept]);
    await setUp({ trainData: given }).trainer.run();
    expect([...given].map(({ x, y }) => [x.isDisposed, y.isDisposed])).toEqual([
      [true, true],
      [true, true],
      [false, true],
    ]);
    const again = cut(4, 4);
    await setUp({ trainData: again, epochs: 2, evalData: again }).trainer.run();
    await setUp({ trainData: new Set(again), disposeBatches: false, evalData: again }).trainer.run();
    expect(again.some(({ x }) => x.isDisposed)).toBe(false);
  });

  test('a seed repeats a run to the last bit, dropout included', async () => {
    const first = await weightsAfter(cut(4, 4), { seed: 3 });
    expect(await weightsAfter(cut(4, 4), { seed: 3 })).toEqual(first);
    expect(await weightsAfter(cut(4, 4), { seed: 5 })).not.toEqual(first);
  });
});

describe('what does not fit is refused', () => {
  const wrong: [string, object, RegExp][] = [
    ['a model', { model: {} }, /Trainer: expected a Module for model/],
    ['an optimizer', { optimizer: {} }, /an Optimizer for optimizer/],
    ['a loss', { loss: 1 }, /a function for loss/],
    ['data', { trainData: 5 }, /an iterable of batches, such as a DataLoader for trainData/],
    ['no end', { epochs: undefined }, /a number of epochs or of maxSteps.*a run needs an end/],
    ['a count', { accumulate: 0 }, /accumulate/],
    ['a limit', { clipNorm: -1 }, /a number above 0 for clipNorm/],
    ['a precision', { precision: 'float64' }, /one of float32, bfloat16, float16, f32, bf16, f16 for precision/],
    ['a schedule', { scheduler: { step: () => 1 } }, /step, stateDict and loadStateDict for scheduler/],
    ['saving nowhere', { saveEvery: 1 }, /a path, since saveEvery is given for folder/],
    ['evaluating nothing', { evaluateEvery: 1 }, /batches, since evaluateEvery is given for evalData/],
    ['a guard', { guards: [1] }, /a list of objects for guards/],
    ['a callback', { callbacks: [{ onStep: 1 }] }, /a function for callbacks\[0\]\.onStep, received 1/],
    ['extra', { extra: { rng: {} } }, /stateDict and loadStateDict for extra\.rng/],
    ['averages', { ema: {} }, /an ExponentialMovingAverage for ema/],
    [
      'curvature without Sophia',
      { hessian: { estimate: () => [] } },
      /nothing beside an optimizer other than Sophia for hessian/,
    ],
    [
      'Sophia without curvature',
      { optimizer: new optim.Sophia(new Net().parameters()) },
      /\{ estimate \}, since the optimizer is Sophia for hessian/,
    ],
    [
      'curvature every 0 steps',
      { optimizer: new optim.Sophia(new Net().parameters()), hessian: { estimate: () => [], every: 0 } },
      /hessian\.every/,
    ],
    [
      'two of a name',
      { guards: [train.lossSpike(), train.lossSpike()] },
      /two callbacks or guards with a state are named lossSpike/,
    ],
    [
      'a state without a name',
      { callbacks: [{ stateDict: () => 1 }] },
      /a string for a callback with a state for name/,
    ],
    ['a log', { log: 3 }, /a path or false for log/],
    ['a signal', { signal: {} }, /an AbortSignal for signal/],
    ['a seed', { seed: -1 }, /seed/],
    ['a misspelt option', { epoch: 3 }, /only .* for options, received string "epoch"/],
  ];
  test.each(wrong)('%s', (_, options, message) => {
    expect(() => setUp(options)).toThrow(message);
  });

  test('data without a batch, or for one epoch only', async () => {
    await expect(setUp({ trainData: [] }).trainer.run()).rejects.toThrow(/trainData has no batch in epoch 0/);
    const once = { [Symbol.iterator]: () => generator } as Iterable<Pair>;
    const generator = cut(4).values();
    const run = setUp({ trainData: once, epochs: 2 }).trainer.run();
    await expect(run).rejects.toThrow(/no batch in epoch 1; give data that can be iterated over anew/);
    await expect(setUp({ trainData: cut(4), evalData: [] }).trainer.run()).rejects.toThrow(
      /batches of a weight above 0/,
    );
    await expect(setUp({ trainData: cut(4) }).trainer.evaluate()).rejects.toThrow(/expected batches for evalData/);
  });

  test('a loss that leads to no gradient, is no tensor or no scalar', async () => {
    const fails = (loss: unknown) => setUp({ trainData: cut(4), loss: loss as typeof mse }).trainer.run();
    await expect(fails(() => tensor(1))).rejects.toMatchObject({ code: 'FOVEA_AUTOGRAD' });
    await expect(fails(() => 1)).rejects.toThrow(/expected a Tensor for the result of loss/);
    await expect(fails((net: Net, { x }: Pair) => net.forward(x))).rejects.toThrow(
      /reduce it with sum\(\) or mean\(\)/,
    );
    const other = tensor([1], { requiresGrad: true });
    await expect(fails(() => other.sum())).rejects.toThrow(/no gradient to any parameter of the optimizer/);
  });

  test('two runs at once', async () => {
    const { trainer } = setUp({ trainData: cut(4) });
    const run = trainer.run();
    await expect(trainer.run()).rejects.toThrow(/the run is under way/);
    await expect(trainer.resume('x')).rejects.toThrow(/the run is under way/);
    await run;
  });

  test('what data, loss and callbacks throw comes through, and gradients are gone', async () => {
    const boom = (): never => {
      throw new Error('boom');
    };
    const { trainer, model } = setUp({ trainData: cut(4), callbacks: [{ onStep: boom }] });
    await expect(trainer.run()).rejects.toThrow('boom');
    await expect(setUp({ trainData: { [Symbol.iterator]: boom } }).trainer.run()).rejects.toThrow('boom');
    await expect(setUp({ trainData: cut(4), loss: boom }).trainer.run()).rejects.toThrow('boom');
    expect([model.training, model.parameters().every(({ grad }) => grad === null)]).toEqual([false, true]);
  });
});
