// Guards inside of runs: each fires where it should, and is silent where nothing is wrong.
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { functional as F, inspect, manualSeed, memory, nn, noGrad, optim, randn, type Tensor, train } from 'fovea';
import { describe, expect, test } from 'vitest';
import { type Pair, setUp } from './net.ts';

/** Calls a guard and writes down what it says. */
function reporter(): { reports: train.GuardReport[]; callback: train.TrainerCallback } {
  const reports: train.GuardReport[] = [];
  return { reports, callback: { onGuard: (report) => void reports.push(report) } };
}

describe('attentionCollapse', () => {
  /** Two layers, the second with scores `sharpness` times as large, in a run with the guard of the docstring. */
  async function run(sharpness: number) {
    manualSeed(2);
    const options = { dModel: 8, nHead: 2, dimFeedforward: 16, dropout: 0.1, batchFirst: true };
    using model = new nn.TransformerEncoder(new nn.TransformerEncoderLayer(options), { numLayers: 2 });
    noGrad(() => void model.layers[1]!.parameters()[0]!.mul_(sharpness)); // of q, k and v
    const { reports, callback } = reporter();
    const tensors: number[] = [];
    using observer = inspect.observe(model, { maxCalls: 1 });
    const entropyOf = async (layer: inspect.AttentionCapture) => {
      using weights = layer.weights();
      using entropy = inspect.entropy(weights).mean();
      return [layer.module, await entropy.item()] as const;
    };
    const entropies = async () => Object.fromEntries(await Promise.all(observer.captures.map(entropyOf)));
    const guards = [train.nonFinite(), train.attentionCollapse({ entropies })];
    const result = await new train.Trainer<Tensor, nn.TransformerEncoder>({
      model,
      optimizer: new optim.AdamW(model.parameters(), { lr: 1e-3 }),
      loss: (encoder, x) => encoder.forward(x).square().mean(),
      trainData: [randn([2, 6, 8]), randn([3, 5, 8])],
      evalData: [randn([1, 4, 8])],
      evaluateEvery: 33,
      maxSteps: 104,
      guards,
      callbacks: [callback, { onStep: () => void tensors.push(memory().tensors) }],
    }).run();
    return { result, reports, tensors };
  }

  test('stops a run in which each query of a layer sees one key', async () => {
    const { result, reports } = await run(200);
    expect(result).toMatchObject({ step: 99, stopped: { by: 'attentionCollapse' } });
    expect(reports).toHaveLength(1);
    expect(reports[0]!.reason).toMatch(/below 0\.05 nats in layers\.1\.self_?[aA]ttn \(\S+\)$/);
  });

  test('is silent where attention spreads, and leaves nothing behind', async () => {
    const { result, reports, tensors } = await run(1);
    expect(result).toMatchObject({ step: 104, stopped: undefined });
    expect(reports).toEqual([]);
    // the observer keeps the last call of each layer, and batches are of two sizes
    expect(new Set(tensors.slice(-4)).size).toBe(1);
  });

  test('is written in its docstring as it is here', () => {
    const [own, source] = [import.meta.url, new URL('../../src/train/guards.ts', import.meta.url)].map((url) =>
      readFileSync(fileURLToPath(url), 'utf8'),
    ) as [string, string];
    const docstring = source.slice(source.indexOf(' * Attention that looks at one key only'));
    const example = /@example\n(.*?) \* @throws/s.exec(docstring)![1]!;
    const lines = example
      .trimEnd()
      .split('\n')
      .map((line) => line.replace(/^ \* ?/, '').trim());
    const here = new Set(own.split('\n').map((line) => line.trim()));
    expect(lines.length).toBeGreaterThan(5);
    expect(lines.filter((line) => !here.has(line))).toEqual([]);
  });
});

/** Rows with a target that they decide, but for some noise. */
function pairs(count: number, rows: number, seed: number): Pair[] {
  manualSeed(seed);
  return Array.from({ length: count }, () => {
    const x = randn([rows, 5]);
    return {
      x,
      y: x
        .sum(1, { keepdim: true })
        .mul(0.3)
        .add(randn([rows, 1]).mul(0.1)),
    };
  });
}

describe('lossSpike', () => {
  async function run(spoil: (batch: Pair, i: number) => Pair) {
    const { reports, callback } = reporter();
    const updates: boolean[] = [];
    const losses: number[] = [];
    const { trainer } = setUp({
      trainData: pairs(60, 32, 3).map(spoil),
      guards: [train.lossSpike()],
      callbacks: [
        callback,
        {
          onStep({ updated, loss }) {
            updates.push(updated);
            losses.push(loss);
          },
        },
      ],
    });
    await trainer.run();
    return { reports, updates, losses };
  }

  test('leaves out the update of a spoilt batch alone', async () => {
    const { reports, updates, losses } = await run(({ x, y }, i) => ({ x, y: i === 40 ? y.add(30) : y }));
    expect(reports.map(({ step, guard, action }) => [step, guard, action])).toEqual([[41, 'lossSpike', 'skip']]);
    expect(updates.indexOf(false)).toBe(40);
    expect(updates.filter((updated) => !updated)).toHaveLength(1);
    expect(losses[40]).toBeGreaterThan(100);
    expect(losses[41]).toBeLessThan(1); // the weights are those from before
  });

  test('is silent in a run that learns', async () => {
    const { reports, updates, losses } = await run((batch) => batch);
    expect(reports).toEqual([]);
    expect(updates.every(Boolean)).toBe(true);
    expect(losses.at(-1)).toBeLessThan(losses[0]! / 2);
  });
});

describe('overfitting', () => {
  class Wide extends nn.Module {
    a = new nn.Linear(5, 64);
    b = new nn.Linear(64, 1);
    override forward(x: Tensor): Tensor {
      return this.b.forward(this.a.forward(x).tanh());
    }
  }

  async function run(trainData: Pair[], evalData: Pair[]) {
    manualSeed(4);
    const model = new Wide();
    const { reports, callback } = reporter();
    const evaluations: train.EvaluationReport[] = [];
    const result = await new train.Trainer<Pair, Wide>({
      model,
      optimizer: new optim.Adam(model.parameters(), { lr: 0.02 }),
      loss: (net, { x, y }) => F.mseLoss(net.forward(x), y),
      trainData,
      evalData,
      evaluateEvery: 10,
      maxSteps: 400,
      guards: [train.overfitting()],
      callbacks: [callback, { onEvaluate: (report) => void evaluations.push(report) }],
    }).run();
    return { result, reports, evaluations };
  }

  test('stops a run that learns eight rows of noise by heart', async () => {
    const noise = (seed: number, rows: number): Pair => {
      manualSeed(seed);
      return { x: randn([rows, 5]), y: randn([rows, 1]) };
    };
    const { result, reports, evaluations } = await run([noise(1, 8)], [noise(2, 256)]);
    expect(result.stopped?.by).toBe('overfitting');
    expect(result.step).toBeLessThan(400);
    expect(reports).toHaveLength(1);
    const [before, last] = [evaluations.at(-4)!, evaluations.at(-1)!];
    expect(last.loss).toBeGreaterThan(before.loss);
    expect(last.trainLoss).toBeLessThan(before.trainLoss!);
  });

  test('is silent where what is learnt holds elsewhere', async () => {
    const { result, reports, evaluations } = await run(pairs(4, 128, 5), pairs(1, 256, 6));
    expect(result).toMatchObject({ step: 400, stopped: undefined });
    expect(reports).toEqual([]);
    expect(evaluations.at(-1)!.loss).toBeLessThan(evaluations[0]!.loss / 2);
  });
});
