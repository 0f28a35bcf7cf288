// What a run measures, tells and writes, and what precision costs it.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { functional as F, isGradEnabled, manualSeed, optim, tensor, train } from 'fovea';
import { GPT2LMHeadModel } from 'fovea/models';
import { afterAll, describe, expect, test } from 'vitest';
import { cut, mse, type Pair, type Net, setUp } from './net.ts';

const folder = mkdtempSync(join(tmpdir(), 'fovea-trainer-'));
afterAll(() => rmSync(folder, { recursive: true }));

describe('evaluation', () => {
  test('is the mean by weight, in evaluation mode and without gradients, with parts as they were', async () => {
    const modes: [boolean, boolean][] = [];
    const evalData = cut(3, 1);
    const { model, trainer } = setUp({
      seed: 1,
      trainData: cut(4),
      evalData,
      weight: ({ x }) => x.shape[0]!,
      loss: (net, pair) => {
        modes.push([net.training, isGradEnabled()]);
        return mse(net, pair);
      },
      callbacks: [{ onStart: () => void model.a.eval() }],
    });
    await trainer.run();
    expect(modes).toEqual([
      [true, true],
      [false, false],
      [false, false],
    ]);
    const whole = await F.mseLoss(model.forward(cut(4)[0]!.x), cut(4)[0]!.y).item();
    expect(await trainer.evaluate()).toBeCloseTo(whole, 5);
    model.train();
    model.b.eval();
    await trainer.evaluate();
    expect(model.modules().map(({ training }) => training)).toEqual([true, true, true, false]);
  });

  test('comes when it is due, once at the end, and tells what improved', async () => {
    const seen: [number, boolean, boolean][] = [];
    const { trainer } = setUp({
      trainData: cut(4, 4, 4, 4, 4),
      evalData: cut(4),
      evaluateEvery: 2,
      callbacks: [
        { onEvaluate: ({ step, improved, trainLoss }) => void seen.push([step, improved, trainLoss !== undefined]) },
      ],
    });
    const result = await trainer.run();
    expect(seen.map(([step]) => step)).toEqual([2, 4, 5]);
    expect(seen[0]).toEqual([2, true, true]);
    expect(result.best!.loss).toBeLessThanOrEqual(result.evalLoss!);
    const everyEpoch: number[] = [];
    await setUp({
      trainData: cut(4, 4, 4),
      evalData: cut(4),
      epochs: 2,
      callbacks: [{ onEvaluate: ({ step }) => void everyEpoch.push(step) }],
    }).trainer.run();
    expect(everyEpoch).toEqual([3, 6]);
  });

  test('early stopping waits for its patience', async () => {
    const told = async (losses: number[], options: train.EarlyStoppingOptions): Promise<string> => {
      const callback = train.earlyStopping(options);
      let stopped = -1;
      for (const [i, loss] of losses.entries()) {
        const report = { step: i, epoch: 0, loss, trainLoss: undefined, improved: true, seconds: 0 };
        const stop = (): void => void (stopped = stopped < 0 ? i : stopped);
        await callback.onEvaluate!(report, { step: i, epoch: 0, maxSteps: 9, stop });
      }
      return String(stopped);
    };
    expect(await told([5, 4, 3, 2, 1], { patience: 1 })).toBe('-1');
    expect(await told([5, 4, 4.5, 4.1, 3], { patience: 2 })).toBe('3');
    expect(await told([5, 4.95, 4.9, 4.8], { patience: 3, minDelta: 0.5 })).toBe('3');
    expect(await told([5, Number.NaN, Number.NaN], { patience: 2 })).toBe('2');
    const { trainer } = setUp({
      trainData: cut(4),
      evalData: cut(4),
      epochs: 50,
      callbacks: [train.earlyStopping({ patience: 2, minDelta: 1e9 })],
    });
    expect(await trainer.run()).toMatchObject({ step: 3, stopped: { by: 'earlyStopping' } });
    expect(() => train.earlyStopping({ patience: 0 })).toThrow(/patience/);
    expect(() => train.earlyStopping({ patience: 1, minDelta: -1 })).toThrow(/minDelta/);
  });
});

describe('around the loop', () => {
  test('callbacks are called in order, and awaited', async () => {
    const told: string[] = [];
    const tell = (name: string) => async (): Promise<void> => {
      await new Promise((resolve) => setImmediate(resolve));
      told.push(name);
    };
    const { trainer } = setUp({
      trainData: cut(4, 4),
      evalData: cut(4),
      evaluateEvery: 2,
      folder: join(folder, 'order'),
      saveEvery: 1,
      callbacks: [
        {
          onStart: tell('start'),
          onStep: tell('step'),
          onEvaluate: tell('evaluate'),
          onSave: tell('save'),
          onEnd: tell('end'),
        },
        { onStep: tell('and') },
      ],
    });
    await trainer.run();
    expect(told.join(' ')).toBe('start step and save step and evaluate save end');
  });

  test('schedules step with the updates, or with the epochs', async () => {
    for (const [scheduleEvery, expected] of [
      ['step', [1, 2, 3, 4, 5, 6]],
      ['epoch', [1, 1, 1, 2, 2, 2]],
    ] as const) {
      const rates: number[] = [];
      const made = setUp({ trainData: cut(4, 4, 4) });
      const trainer = new train.Trainer<Pair, Net>({
        model: made.model,
        optimizer: made.optimizer,
        scheduler: new optim.lrScheduler.LambdaLR(made.optimizer, (n) => n + 1),
        scheduleEvery,
        loss: mse,
        trainData: cut(4, 4, 4),
        epochs: 2,
        callbacks: [{ onStep: ({ lr }) => void rates.push(Math.round(lr / 0.05)) }],
      });
      await trainer.run();
      expect(rates).toEqual(expected);
    }
  });

  test('a signal ends it behind the step, and what was done is saved', async () => {
    const controller = new AbortController();
    const { trainer } = setUp({
      trainData: cut(4),
      epochs: 50,
      folder: join(folder, 'aborted'),
      signal: controller.signal,
      callbacks: [{ onStep: ({ step }) => (step === 5 ? controller.abort() : undefined) }],
    });
    await expect(trainer.run()).rejects.toMatchObject({ code: 'FOVEA_ABORTED' });
    expect((await train.listCheckpoints(join(folder, 'aborted'))).map(({ step }) => step)).toEqual([5]);
    await expect(trainer.run()).rejects.toMatchObject({ code: 'FOVEA_ABORTED' });
  });

  test('so does one in the middle of an evaluation', async () => {
    const controller = new AbortController();
    const evalData = {
      *[Symbol.iterator]() {
        for (const pair of cut(2, 2, 2)) {
          yield pair;
          controller.abort();
        }
      },
    };
    const place = join(folder, 'cancelled');
    const { trainer } = setUp({
      trainData: cut(4, 4, 4),
      evalData,
      evaluateEvery: 2,
      folder: place,
      signal: controller.signal,
    });
    await expect(trainer.run()).rejects.toMatchObject({ code: 'FOVEA_ABORTED' });
    expect((await train.listCheckpoints(place)).map(({ step }) => step)).toEqual([2]);
  });

  test('the log, the curve and the line say what happened', async () => {
    const written: string[] = [];
    const output = { write: (text: string) => void written.push(text), isTTY: true } as unknown as NodeJS.WriteStream;
    const curve = join(folder, 'told', 'loss.svg');
    const { trainer } = setUp({
      trainData: cut(4, 4, 4),
      evalData: cut(4),
      maxSteps: 3,
      epochs: undefined,
      folder: join(folder, 'told'),
      guards: [train.gradientNorm({ max: 1e-9, action: 'warn' })],
      callbacks: [train.progressLine(output), train.lossCurve(curve)],
    });
    await trainer.run();
    const log = readFileSync(join(folder, 'told', 'log.jsonl'), 'utf8')
      .trim()
      .split('\n');
    const events = log.map((line) => (JSON.parse(line) as { event: string }).event);
    expect(events).toEqual(['guard', 'step', 'guard', 'step', 'guard', 'step', 'evaluation', 'save', 'end']);
    expect(JSON.parse(log[1]!)).toMatchObject({
      step: 1,
      epoch: 0,
      lr: 0.05,
      peakMemory: expect.any(Number) as number,
    });
    expect(written.join('')).toMatch(/step 3\/3 {2}loss \d+\.\d{4} {2}lr 0\.0500 {2}peak \d+\.\d MB {2}0 s left/);
    expect(written.join('')).toMatch(/step 1: gradientNorm \(warn\): the norm/);
    const svg = readFileSync(curve, 'utf8');
    expect(svg).toMatch(/^<svg [^>]*role="img"/);
    expect(svg.match(/class="train" points="([^"]*)"/)![1]!.split(' ')).toHaveLength(3);
    expect(svg.match(/<circle/g)).toHaveLength(1);
  });

  test('the line of other outputs is plain', async () => {
    const written: string[] = [];
    const output = { write: (text: string) => void written.push(text) } as unknown as NodeJS.WriteStream;
    const stopper: train.TrainerCallback = { onStep: (_, trainer) => trainer.stop('me', 'enough') };
    await setUp({ trainData: cut(4, 4, 4), callbacks: [train.progressLine(output), stopper] }).trainer.run();
    expect(written).toHaveLength(2);
    expect(written[0]).toMatch(/^step 1 {2}loss [\d.]+ {2}lr 0\.0500 {2}peak [\d.]+ MB\n$/);
    expect(written[1]).toBe('stopped by me: enough\n');
  });
});

describe('lossCurveSvg', () => {
  test('draws within its frame, whatever it is given', () => {
    const curves: train.LossPoint[][] = [
      [],
      [[1, 2]],
      [
        [1, 2],
        [2, 2],
      ],
      [
        [0, 1e9],
        [5, -1e9],
      ],
      [
        [1, Number.NaN],
        [2, 1e-12],
        [3, 2e-12],
      ],
    ];
    for (const points of curves) {
      const svg = train.lossCurveSvg({ train: points, evaluation: points, title: '<a> & "b"' });
      expect(svg).not.toMatch(/NaN|Infinity|undefined/);
      expect(svg).toContain('&lt;a&gt; &amp; &quot;b&quot;');
      const finite = points.filter(([, loss]) => Number.isFinite(loss));
      for (const name of ['train', 'held']) {
        const drawn = new RegExp(`class="${name}" points="([^"]*)"`).exec(svg)![1]!.split(' ').filter(Boolean);
        expect(drawn).toHaveLength(finite.length);
        for (const point of drawn) {
          const [x, y] = point.split(',').map(Number) as [number, number];
          expect(x >= 64 && x <= 624 && y >= 48 && y <= 320, point).toBe(true);
        }
      }
    }
    const compared = train.lossCurveSvg({ train: [[1, 3]], others: { 'a < b': [[2, 4]], c: [] }, name: 'ours' });
    expect(compared).toContain('key-train">ours</tspan> · <tspan class="key-a">a &lt; b</tspan>');
    expect(compared).toMatch(/class="other a" points="624.0,48.0"/);
    expect(() => train.lossCurveSvg({ train: [], others: { a: [[1]] as never } })).toThrow(/others\.a/);
    expect(() => train.lossCurveSvg({ train: [], others: 1 as never })).toThrow(/up to 4/);
    expect(() => train.lossCurveSvg({ train: [[1]] as never })).toThrow(/a list of \[step, loss\] for train/);
    expect(() => train.lossCurveSvg(1 as never)).toThrow(/lossCurveSvg/);
  });

  test('a long run has as many points as can be seen, also across a checkpoint', () => {
    const curve = train.lossCurve(join(folder, 'long.svg'));
    for (let step = 1; step <= 10_000; step++)
      void curve.onStep!({ step, loss: 1 / step } as train.StepReport, undefined as never);
    const { train: saved } = curve.stateDict!() as { train: { points: [number, number][] } };
    expect(saved.points.length).toBeGreaterThan(999);
    expect(saved.points.length).toBeLessThan(2000);
    const mean = saved.points.reduce((sum, [step]) => sum + step, 0) / saved.points.length;
    expect(Math.abs(mean / 5000 - 1)).toBeLessThan(0.01);
    const other = train.lossCurve(join(folder, 'long.svg'));
    other.loadStateDict!(JSON.parse(JSON.stringify(curve.stateDict!())));
    expect(other.stateDict!()).toEqual(curve.stateDict!());
  });
});

describe('mixed precision', () => {
  /** Sequences of 16 letters in which each is followed by one of four at random: no model gets below ln 4 a letter. */
  function sequences(seed: number): BigInt64Array {
    let state = seed;
    const random = (): number => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) >>> 30;
    const ids = new BigInt64Array(8 * 32);
    for (let i = 0; i < ids.length; i++) ids[i] = BigInt((Number(ids[i - 1] ?? 0n) * 5 + random()) % 16);
    return ids;
  }

  async function finalLoss(precision: train.Precision): Promise<number> {
    manualSeed(1);
    using model = new GPT2LMHeadModel({ vocabSize: 16, nPositions: 32, nEmbd: 32, nLayer: 2, nHead: 2 });
    const optimizer = new optim.AdamW(model.parameters(), { lr: 5e-3 });
    const result = await new train.Trainer<BigInt64Array, GPT2LMHeadModel>({
      model,
      optimizer,
      scheduler: optim.lrScheduler.warmupCosine(optimizer, { warmupSteps: 10, totalSteps: 150 }),
      loss: (lm, ids) => {
        const inputIds = tensor(ids, { shape: [8, 32], dtype: 'int64' });
        return lm.forward({ inputIds, labels: inputIds, outputLogits: false }).loss!;
      },
      trainData: Array.from({ length: 150 }, (_, i) => sequences(i + 1)),
      evalData: Array.from({ length: 10 }, (_, i) => sequences(1000 + i)),
      epochs: 1,
      seed: 2,
      precision,
      clipNorm: 1,
    }).run();
    return result.evalLoss!;
  }

  test('reaches the loss of float32 within 1 %', async () => {
    const exact = await finalLoss('float32');
    expect(exact).toBeGreaterThan(Math.log(4));
    expect(exact).toBeLessThan(1.1 * Math.log(4));
    for (const precision of ['bfloat16', 'float16'] as const) {
      const rounded = await finalLoss(precision);
      console.log(`held-out loss: float32 ${exact}, ${precision} ${rounded}`);
      expect(rounded).not.toBe(exact);
      expect(Math.abs(rounded / exact - 1)).toBeLessThan(0.01);
    }
  });
});
