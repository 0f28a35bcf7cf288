// A GPT-2 learns from batches of unequal numbers of tokens, accumulated by these numbers, what it learns from all as
// one.
import { manualSeed, type Tensor } from 'fovea';
import { GPT2LMHeadModel } from 'fovea/models';
import { SGD } from 'fovea/optim';
import { causalLMCollator, type LabelledBatch, type Precision, RandomStream, Trainer } from 'fovea/train';
import { expect, test } from 'vitest';
import { list } from '../helpers.js';

const random = new RandomStream(11);
const lengths = [[19, 4, 7], [2, 3], [31, 30, 29, 12], [9]];
const texts = lengths.map((row) => row.map((length) => Array.from({ length }, () => random.below(40))));
const collate = causalLMCollator({ padId: 0 });

/** Tokens that are predicted, which the loss is the mean over. */
const predicted = ({ labels }: LabelledBatch): number => list(labels.slice(1, 1)).filter((label) => label >= 0).length;

interface Step {
  loss: number;
  gradNorm: number;
  gradients: Map<string, number[]>;
}

/** A step's loss and gradients. */
async function step(
  batches: LabelledBatch[],
  precision: Precision,
  weight: ((batch: LabelledBatch) => number) | undefined,
): Promise<Step> {
  manualSeed(3);
  const dropout = { embdPdrop: 0, attnPdrop: 0, residPdrop: 0 };
  using model = new GPT2LMHeadModel({ vocabSize: 40, nPositions: 32, nEmbd: 32, nLayer: 2, nHead: 4, ...dropout });
  const gradients = new Map<string, number[]>();
  let found: Omit<Step, 'gradients'> = { loss: Number.NaN, gradNorm: Number.NaN };
  const take = ({ loss, gradNorm }: { loss: number; gradNorm: number }): undefined => {
    found = { loss, gradNorm };
    for (const [name, p] of model.namedParameters()) gradients.set(name, list(p.grad as Tensor));
  };
  const { step: done } = await new Trainer<LabelledBatch, GPT2LMHeadModel>({
    model,
    optimizer: new SGD(model.parameters(), { lr: 0.1 }),
    loss: (lm, batch) => lm.forward(batch).loss!,
    trainData: batches,
    accumulate: batches.length,
    maxSteps: 1,
    precision,
    weight,
    guards: [{ name: 'take', beforeUpdate: take }],
  }).run();
  expect(done).toBe(1);
  return { ...found, gradients };
}

/** The greatest distance of gradients of a parameter, in units of its greatest gradient. */
function apart(given: Step, expected: Step): number {
  const distances = [...expected.gradients].map(([name, values]) => {
    const other = given.gradients.get(name)!;
    const largest = Math.max(...values.map(Math.abs));
    return Math.max(...values.map((value, i) => Math.abs(value - other[i]!))) / largest;
  });
  return Math.max(...distances);
}

test.each([
  ['float32', 1e-6],
  // Each gradient that flows back is rounded to 8 bits, of the whole batch's mean otherwise than of a part's: 2^-9 of
  // each of the terms that a weight's gradient is a sum of, which agree in sign with its greatest ones.
  ['bfloat16', 2 ** -7],
] as const)('four batches are one of all their texts, in %s', async (precision, limit) => {
  const parts = texts.map((part) => collate(part));
  const all = collate(texts.flat());
  const expected = await step([all], precision, undefined);
  const given = await step(parts, precision, predicted);
  expect(Math.abs(given.loss - expected.loss) / expected.loss).toBeLessThan(limit);
  expect(Math.abs(given.gradNorm - expected.gradNorm) / expected.gradNorm).toBeLessThan(limit);
  expect(apart(given, expected)).toBeLessThan(limit);
  // Weights are what makes it so.
  expect(apart(await step(parts, precision, undefined), expected)).toBeGreaterThan(0.05);
});
