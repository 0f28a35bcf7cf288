// The transformer of the paper learns to write numbers in words, with the paper's schedule and label smoothing.
import { Generator, manualSeed, randperm } from 'fovea';
import { Seq2SeqTransformer } from 'fovea/models';
import { AdamW, lrScheduler } from 'fovea/optim';
import { arrayDataset, DataLoader, seq2seqCollator, Trainer } from 'fovea/train';
import { expect, it } from 'vitest';
import { batchOf, bos, digitsToIds, eos, pad, rowsOf, vocabSize, wordsToIds } from './number-words.js';

const [largest, heldOut, batchSize, maxSteps] = [10_000, 500, 128, 1500];
const dModel = 64;

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

/** Says how long something took, which depends on what else the machine does. */
async function timed<T>(what: string, run: () => Promise<T>): Promise<T> {
  const start = performance.now();
  const result = await run();
  console.log(`number to words: ${what} in ${((performance.now() - start) / 1000).toFixed(1)} s`);
  return result;
}

it('writes 99 of 100 numbers that it has not seen, greedily and by beams', { timeout: 600_000 }, async () => {
  manualSeed(5);
  const order = Array.from((await randperm(largest, { generator: new Generator(5) }).data()) as BigInt64Array, Number);
  const [test, train] = [order.slice(0, heldOut), order.slice(heldOut)];
  const layers = { numEncoderLayers: 2, numDecoderLayers: 2, dimFeedforward: 128 };
  using model = new Seq2SeqTransformer({ vocabSize, dModel, nHead: 4, ...layers });
  // Section 5.3 of the paper.
  using optimizer = new AdamW(model.parameters(), { lr: 1, betas: [0.9, 0.98], eps: 1e-9, weightDecay: 0 });
  const pairs = train.map((n) => ({ inputIds: digitsToIds(n), labels: [...wordsToIds(n), eos] }));
  const trainer = new Trainer({
    model,
    optimizer,
    scheduler: lrScheduler.noam(optimizer, { dModel, warmupSteps: 300 }),
    trainData: new DataLoader(arrayDataset(pairs), {
      batchSize,
      shuffle: true,
      collate: seq2seqCollator({ padId: pad, decoderStartId: bos }),
    }),
    loss: (net, batch) => net.forward(batch).loss!,
    maxSteps,
  });
  const { step } = await timed(`${maxSteps} steps`, () => trainer.run());
  expect(step).toBe(maxSteps);
  model.eval();
  for (const beams of [1, 4])
    expect(await timed(`${heldOut} by beams of ${beams}`, () => accuracy(model, test, beams))).toBeGreaterThanOrEqual(
      0.99,
    );
});
