// What a Trainer looks after besides the loop: Sophia's estimates of the curvature, and averages of weights.
import { manualSeed, optim, type Tensor, train } from 'fovea';
import { describe, expect, test } from 'vitest';
import { cut, mse, Net, type Pair, setUp } from './net.ts';

const valuesOf = (tensors: readonly Tensor[]): Promise<number[][]> =>
  Promise.all(
    tensors.map(async (tensor) => {
      const values = await tensor.data();
      return Array.from(values);
    }),
  );

describe('the curvature', () => {
  /** A net with Sophia, and what its estimates saw. */
  function withSophia(trainData: Pair[], options: Partial<train.TrainerOptions<Pair, Net>> = {}) {
    manualSeed(4);
    const model = new Net();
    const optimizer = new optim.Sophia(model.parameters(), { lr: 0.01 });
    const seen: number[] = [];
    const estimate = (net: Net, batch: Pair, params: readonly Tensor[]): Tensor[] => {
      seen.push(trainData.indexOf(batch));
      return optim.hutchinson(mse(net, batch), params);
    };
    const { trainer } = setUp({
      model,
      optimizer,
      loss: mse,
      trainData,
      epochs: undefined,
      maxSteps: 5,
      hessian: { estimate, every: 2 },
      ...options,
    });
    return { model, optimizer, trainer, seen };
  }

  test('is looked at before every so many updates, on a batch of the step, as a loop would', async () => {
    const data = cut(4, 4, 4, 4, 4);
    const { model, trainer, seen } = withSophia(data);
    await trainer.run();
    expect(seen).toEqual([0, 2, 4]);

    const { model: other, optimizer } = withSophia(data);
    other.train();
    for (const [step, pair] of data.entries()) {
      mse(other, pair).backward();
      if (step % 2 === 0) optimizer.updateHessian((params) => optim.hutchinson(mse(other, pair), params));
      optimizer.step();
      optimizer.zeroGrad();
    }
    expect(await valuesOf(model.parameters())).toEqual(await valuesOf(other.parameters()));
  });

  test('passes over batches that do not count, and steps that a guard leaves out', async () => {
    const skipping: train.Guard = {
      name: 'third',
      beforeUpdate: ({ step }) => (step === 3 ? { action: 'skip', reason: 'it is the third' } : undefined),
    };
    const data = cut(1, 4);
    const weight = ({ x }: Pair): number => (x.shape[0] === 1 ? 0 : 4);
    const { trainer, seen } = withSophia(data, { weight, accumulate: 2, guards: [skipping] });
    await trainer.run();
    expect(seen).toEqual([1, 1]);
  });

  test('a failure ends the run, and leaves the weights as they were and no gradients', async () => {
    const estimate = (): never => {
      throw new Error('bent');
    };
    const { model, trainer } = withSophia(cut(4), { hessian: { estimate } });
    const before = await valuesOf(model.parameters());
    await expect(trainer.run()).rejects.toThrow('bent');
    expect(await valuesOf(model.parameters())).toEqual(before);
    expect(model.parameters().every(({ grad }) => grad === null)).toBe(true);
    expect(trainer.step).toBe(0);
  });

  test('is float32 where steps are in float16, and in their precision in bfloat16', async () => {
    for (const precision of ['float16', 'bfloat16'] as const) {
      const dtypes: string[] = [];
      const data = cut(4);
      const estimate = (net: Net, { x, y }: Pair, params: readonly Tensor[]): Tensor[] => {
        dtypes.push(net.a.forward(x).dtype);
        return optim.hutchinson(mse(net, { x, y }), params);
      };
      await withSophia(data, { precision, hessian: { estimate }, maxSteps: 1 }).trainer.run();
      expect(dtypes).toEqual([precision === 'float16' ? 'float32' : 'bfloat16']);
    }
  });
});

describe('averages of weights', () => {
  test('follow the updates, stand in for the weights in evaluations, and leave them as they were', async () => {
    const data = cut(4, 4, 4);
    const { model, optimizer } = setUp({});
    const raw = await valuesOf(model.parameters());
    const ema = new optim.ExponentialMovingAverage(model.parameters(), { decay: 0.5 });
    const skipping: train.Guard = {
      name: 'second',
      beforeUpdate: ({ step }) => (step === 2 ? { action: 'skip', reason: 'it is the second' } : undefined),
    };
    const during: number[][][] = [];
    const averaged = new train.Trainer<Pair, Net>({
      model,
      optimizer,
      ema,
      loss: mse,
      trainData: data,
      evalData: cut(6),
      epochs: 1,
      guards: [skipping],
      callbacks: [{ onStep: async () => void during.push(await valuesOf(model.parameters())) }],
    });
    const { evalLoss } = await averaged.run();
    // average = (average + p) / 2 behind the first and the third update
    const mean = (a: number[][], b: number[][]): number[][] =>
      a.map((row, i) => row.map((value, j) => Math.fround((value + b[i]![j]!) / 2)));
    const expected = mean(mean(raw, during[0]!), during[2]!);
    const found = await valuesOf(ema.averages);
    for (const [i, row] of expected.entries())
      for (const [j, value] of row.entries()) expect(found[i]![j]).toBeCloseTo(value, 6);
    expect(ema.numUpdates).toBe(2);
    expect(await valuesOf(model.parameters())).toEqual(during[2]);
    ema.copyTo();
    const plain = setUp({ model, optimizer, evalData: cut(6), trainData: data });
    expect(await plain.trainer.evaluate()).toBe(evalLoss);
  });
});
