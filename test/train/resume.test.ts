// A run that was killed and resumed computes what it would have computed, to the bit.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Generator, manualSeed, memory, nn, optim, randn, type Tensor, tensor, train } from 'fovea';
import { afterAll, describe, expect, test } from 'vitest';
import { runScript } from '../native-runtime/children.ts';

const folder = mkdtempSync(join(tmpdir(), 'fovea-resume-'));
afterAll(() => rmSync(folder, { recursive: true }));

interface Outcome {
  losses: [step: number, loss: number, lr: number, scale: number][];
  digests: string[];
  best: { step: number; loss: number };
  evalLoss: number;
}

async function outcomeOf(name: string, mode: string, ...rest: string[]): Promise<Outcome | NodeJS.Signals | null> {
  const { stdout, stderr, status, signal } = await runScript(import.meta.url, 'resumable.mjs', [
    join(folder, name),
    mode,
    ...rest,
  ]);
  expect(stderr).toBe('');
  return status === 0 ? (JSON.parse(stdout) as Outcome) : signal;
}

describe('14 steps are 9 steps, kill -9 and a resume from step 7', () => {
  test.each([
    ['float32', 'stateful', 'AdamW', []],
    ['bfloat16', 'stateful', 'AdamW', []],
    ['float16', 'stateful', 'AdamW', []],
    ['float32', 'stateless', 'AdamW', []],
    ['float32', 'workers', 'Muon', [/^momentumBuffer /]],
    ['float32', 'lines', 'Sophia', [/^hessian /]],
    ['float32', 'lengths', 'Adafactor', [/^rowVar /, /^variance /]],
    ['float32', 'stateful', 'int8 and averages', [/^expAvgScale/, /^average /]],
    ['float32', 'lines', 'LoRA', [/lora_A/]],
    ['float32', 'lengths', 'batch norm', [/running_var/, /num_batches_tracked/]],
  ] as const)('in %s, data %s, %s', async (precision, data, method, states) => {
    const name = `${precision} ${data} ${method}`;
    const [whole, killed] = await Promise.all([
      outcomeOf(`${name}-whole`, 'whole', precision, data, method),
      outcomeOf(name, 'killed', precision, data, method),
    ]);
    expect(killed).toBe('SIGKILL');
    const resumed = (await outcomeOf(name, 'resumed', precision, data, method)) as Outcome;
    const expected = whole as Outcome;
    expect(resumed.losses).toEqual(expected.losses.slice(7));
    expect(expected.losses).toHaveLength(14);
    for (const state of states) expect(expected.digests.some((digest) => state.test(digest))).toBe(true);
    expect({ ...resumed, losses: [] }).toEqual({ ...expected, losses: [] });
    const steps = (log: string): number[] =>
      readFileSync(join(folder, log, 'log.jsonl'), 'utf8')
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as { event: string; step: number })
        .filter(({ event }) => event === 'step')
        .map(({ step }) => step);
    expect(steps(name)).toEqual(steps(`${name}-whole`));
  });
});

class Line extends nn.Module {
  w: Tensor = nn.parameter(tensor([0.5, -0.25]));
  override forward(x: Tensor): Tensor {
    return this.w.mul(x).sum();
  }
}

function lineTrainer(name: string, more: Partial<train.TrainerOptions<number, Line>> = {}, Optimizer = optim.AdamW) {
  const model = new Line();
  const optimizer = new Optimizer(model.parameters(), { lr: 0.1 });
  const trainer = new train.Trainer<number, Line>({
    model,
    optimizer,
    loss: (line, batch) => line.forward(tensor([batch, 1])).square(),
    trainData: [1, 2, 3],
    maxSteps: 4,
    folder: join(folder, name),
    ...more,
  });
  return { model, optimizer, trainer };
}

describe('resume', () => {
  test('changes nothing without a checkpoint, and goes on where there is one', async () => {
    const first = lineTrainer('on');
    expect(await first.trainer.resume()).toBe(0);
    expect((await first.trainer.run()).step).toBe(4);
    const second = lineTrainer('on', { maxSteps: 6 });
    expect(await second.trainer.resume()).toBe(4);
    expect([second.trainer.step, second.trainer.epoch]).toEqual([4, 1]);
    expect(await second.model.w.data()).toEqual(await first.model.w.data());
    expect((await second.trainer.run()).step).toBe(6);
    expect(readdirSync(join(folder, 'on')).sort()).toEqual(['log.jsonl', 'step-00000004', 'step-00000006']);
  });

  test('a run that goes on in the same process is as one in one go', async () => {
    const whole = lineTrainer('whole', { maxSteps: 8 });
    await whole.trainer.run();
    const parts = lineTrainer('parts', {
      maxSteps: 8,
      callbacks: [{ onStep: ({ step }, trainer) => (step % 2 === 1 ? trainer.stop('test', 'a pause') : undefined) }],
    });
    for (const step of [1, 3, 5, 7]) {
      const { stopped, step: at } = await parts.trainer.run();
      expect([at, stopped]).toEqual([step, { by: 'test', reason: 'a pause' }]);
    }
    expect((await parts.trainer.run()).step).toBe(8);
    expect(await parts.model.w.data()).toEqual(await whole.model.w.data());
  });

  test('so it is with a DataLoader that reads ahead, and with averages of the weights', async () => {
    const items = train.arrayDataset(Array.from({ length: 10 }, (_, i) => i / 10));
    const setUp = (name: string, pauses: boolean) => {
      const seen: number[][] = [];
      const trainData = new train.DataLoader(items, { batchSize: 2, shuffle: true, prefetch: 3 });
      const model = new Line();
      const ema = new optim.ExponentialMovingAverage(model.parameters(), { decay: 0.5 });
      const trainer = new train.Trainer<number[], Line>({
        model,
        optimizer: new optim.AdamW(model.parameters(), { lr: 0.1 }),
        loss(line, batch) {
          seen.push(batch);
          return line.forward(tensor(batch)).square();
        },
        trainData,
        maxSteps: 7,
        accumulate: 2,
        folder: join(folder, name),
        extra: { ema },
        callbacks: [
          {
            onStep(_, running) {
              ema.update();
              if (pauses) running.stop('test', 'a pause');
            },
          },
        ],
      });
      return { trainer, ema, seen };
    };
    const whole = setUp('loader-whole', false);
    await whole.trainer.run();
    const parts = setUp('loader-parts', true);
    for (let step = 1; step <= 4; step++) expect((await parts.trainer.run()).step).toBe(step);
    const others = setUp('loader-parts', false);
    expect(await others.trainer.resume()).toBe(4);
    await others.trainer.run();
    // 3 steps of an epoch have 2, 2 and 1 batches
    expect(whole.seen).toHaveLength(12);
    expect([...parts.seen, ...others.seen]).toEqual(whole.seen);
    expect(others.ema.numUpdates).toBe(7);
    expect(others.ema.averages.map((average) => average.toArraySync())).toEqual(
      whole.ema.averages.map((average) => average.toArraySync()),
    );
  });

  test('keeps what else is given to it', async () => {
    const odd = { numbers: [Number.NaN, -0, Number.POSITIVE_INFINITY, 0.1], big: 2n ** 60n, none: null, text: 'é' };
    const setUp = (maxSteps: number) => {
      const generator = new Generator(5);
      const average = tensor([0, 0]);
      let seen: unknown;
      const extra = {
        generator: { stateDict: () => generator.getState(), loadStateDict: (s: never) => void generator.setState(s) },
        average: {
          stateDict: () => ({ deep: [average, { average }], left: undefined, ...odd }),
          loadStateDict({ deep, ...others }: { deep: [Tensor, { average: Tensor }] }): void {
            expect(deep[1].average).toBe(deep[0]);
            average.copy_(deep[0]);
            seen = others;
          },
        },
      };
      const { trainer } = lineTrainer('extra', { maxSteps, extra });
      return { trainer, generator, average, seen: () => seen };
    };
    const first = setUp(3);
    randn([6], { generator: first.generator });
    first.average.add_(7);
    await first.trainer.run();
    const second = setUp(5);
    await second.trainer.resume();
    expect(second.generator.getState()).toEqual(first.generator.getState());
    expect([...(await second.average.data())]).toEqual([7, 7]);
    expect(second.seen()).toEqual(odd);
  });

  test('refuses what does not belong together', async () => {
    await lineTrainer('mixed').trainer.run();
    const path = join(folder, 'mixed', 'step-00000004');
    const resumed = (more: Partial<train.TrainerOptions<number, Line>>) =>
      lineTrainer('other', more).trainer.resume(path);
    const { optimizer: sgd } = lineTrainer('x', {}, optim.SGD as never);
    await expect(resumed({ optimizer: sgd })).rejects.toThrow(/expected AdamW for optimizer, received object SGD/);
    const scheduler = { step: () => undefined, stateDict: () => 1, loadStateDict: () => undefined };
    await expect(resumed({ scheduler })).rejects.toThrow(/parts of the run, received string "optimizer, scheduler"/);
    await expect(resumed({ extra: { ema: scheduler } })).rejects.toThrow(/received string "ema"/);
    class Other extends Line {
      v: Tensor = nn.parameter(tensor([1]));
    }
    await expect(resumed({ model: new Other() })).rejects.toThrow(/missing: v/);
    await expect(lineTrainer('y').trainer.resume(1 as never)).rejects.toThrow(/the path of a checkpoint for path/);
    await expect(lineTrainer('y').trainer.resume(join(folder, 'none'))).rejects.toMatchObject({ code: 'FOVEA_IO' });
    const { trainer } = lineTrainer('z', { folder: undefined });
    await expect(trainer.resume()).rejects.toThrow(/expected a path for folder/);
    await expect(trainer.save()).rejects.toThrow(/expected a path for folder/);
  });

  test('a run that begins anew does not go among the checkpoints of another', async () => {
    await lineTrainer('taken').trainer.run();
    await expect(lineTrainer('taken').trainer.run()).rejects.toThrow(
      /step-00000004 is of a later step than this run's 0/,
    );
  });

  test('a state that no file holds is named', async () => {
    const extra = (value: unknown) => ({ part: { stateDict: () => ({ a: [value] }), loadStateDict: () => undefined } });
    for (const value of [new Date(0), () => 1, new Uint8Array(2), Symbol('s')])
      await expect(lineTrainer('odd', { extra: extra(value) }).trainer.run()).rejects.toThrow(
        /plain data and tensors for state\.extra\.part\.a\.0/,
      );
    await expect(lineTrainer('odd', { extra: extra({ $x: 1 }) }).trainer.run()).rejects.toThrow(
      /does not begin with \$/,
    );
    expect(readdirSync(join(folder, 'odd')).sort()).toEqual(['log.jsonl']);
  });

  test('leaves no tensors behind', async () => {
    await lineTrainer('tensors').trainer.run();
    manualSeed(0);
    const { trainer } = lineTrainer('tensors');
    await trainer.resume();
    const before = memory().tensors;
    for (let i = 0; i < 5; i++) await trainer.resume();
    expect(memory().tensors).toBe(before);
  });
});
