// The transformer of the paper learns to write numbers in words, with the paper's schedule and label smoothing.
import { Generator, manualSeed, randperm, tidy, type Tensor } from 'fovea';
import { Seq2SeqTransformer } from 'fovea/models';
import { AdamW, lrScheduler } from 'fovea/optim';
import { expect, it } from 'vitest';
import { batchOf, eos, rowsOf, vocabSize, wordsToIds } from './number-words.js';

const [largest, heldOut, batchSize, steps] = [10_000, 500, 128, 1500];

async function accuracy(model: Seq2SeqTransformer, numbers: readonly number[], numBeams: number): Promise<number> {
  const inputIds = batchOf(numbers).inputIds;
  using answer = await model.generate({ inputIds, numBeams, maxNewTokens: 12 });
  const rows = rowsOf(answer);
  const right = numbers.filter((n, i) => {
    const wanted = [...wordsToIds(n), eos];
    return wanted.every((token, j) => rows[i]![j] === token);
  });
  return right.length / numbers.length;
}

it('writes 99 of 100 numbers that it has not seen, greedily and by beams', { timeout: 600_000 }, async () => {
  manualSeed(5);
  const order = Array.from((await randperm(largest, { generator: new Generator(5) }).data()) as BigInt64Array, Number);
  const [test, train] = [order.slice(0, heldOut), order.slice(heldOut)];
  using model = new Seq2SeqTransformer({
    vocabSize,
    dModel: 64,
    nHead: 4,
    numEncoderLayers: 2,
    numDecoderLayers: 2,
    dimFeedforward: 128,
  });
  // Section 5.3 of the paper.
  using optimizer = new AdamW(model.parameters(), { lr: 1, betas: [0.9, 0.98], eps: 1e-9, weightDecay: 0 });
  const warmup = 300;
  const rate = (n: number): number => 64 ** -0.5 * Math.min((n + 1) ** -0.5, (n + 1) * warmup ** -1.5);
  const schedule = new lrScheduler.LambdaLR(optimizer, rate);
  let loss: Tensor | undefined;
  for (let step = 0; step < steps; step++) {
    const at = (step * batchSize) % (train.length - batchSize);
    loss?.dispose();
    loss = tidy(() => {
      const { loss: value } = model.forward(batchOf(train.slice(at, at + batchSize)));
      optimizer.zeroGrad();
      value!.backward();
      optimizer.step();
      return value!.detach();
    });
    await loss.data();
    schedule.step();
  }
  model.eval();
  expect(await accuracy(model, test, 1)).toBeGreaterThanOrEqual(0.99);
  expect(await accuracy(model, test, 4)).toBeGreaterThanOrEqual(0.99);
});
