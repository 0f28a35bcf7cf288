// GPT-2 on sequences packed into rows: losses and gradients are those of each sequence alone.
import { manualSeed, mask, noGrad, tensor, type Tensor } from 'fovea';
import { GPT2LMHeadModel } from 'fovea/models';
import { AdamW } from 'fovea/optim';
import { packedCausalLMCollator, RandomStream, Trainer } from 'fovea/train';
import { describe, expect, test } from 'vitest';
import { list } from '../helpers.js';

const sizes = { vocabSize: 23, nPositions: 32, nEmbd: 16, nLayer: 2, nHead: 2 };
const whole = { embdPdrop: 0, attnPdrop: 0, residPdrop: 0 };

function make(dtype: 'float32' | 'float64'): GPT2LMHeadModel {
  manualSeed(7);
  return new GPT2LMHeadModel({ ...sizes, ...whole }).to(dtype);
}

const random = new RandomStream(5);
const documents = [9, 2, 14, 1, 5, 11, 3].map((length) => Array.from({ length }, () => random.below(23)));
const predicted = documents.map(({ length }) => length - 1);
const tokens = predicted.reduce((a, b) => a + b);
const idsOf = (rows: readonly number[][]): Tensor => tensor(rows, { dtype: 'int64' });

type Loss = () => Tensor;
/** The mean of losses by weight, and the gradients of all parameters. */
function measured(model: GPT2LMHeadModel, losses: readonly Loss[], weights: readonly number[]): number[][] {
  let mean = 0;
  for (const [i, loss] of losses.entries()) {
    const share = loss().mul(weights[i]!);
    share.backward();
    mean += list(share)[0]!;
  }
  const gradients = model.parameters().map((p) => list(p.grad!));
  model.zeroGrad();
  return [[mean], ...gradients];
}

const alone = (model: GPT2LMHeadModel): number[][] => {
  // Of a single token nothing is predicted.
  const long = documents.filter(({ length }) => length > 1);
  const losses = long.map(
    (row): Loss =>
      () =>
        model.forward({ inputIds: idsOf([row]), labels: idsOf([row]) }).loss!,
  );
  return measured(
    model,
    losses,
    long.map(({ length }) => (length - 1) / tokens),
  );
};

function furthest(given: number[][], expected: number[][]): number {
  const apart = expected.map((values, i) => {
    const largest = Math.max(...values.map(Math.abs));
    return Math.max(...values.map((value, j) => Math.abs(value - given[i]![j]!))) / largest;
  });
  return Math.max(...apart);
}

describe.each(['inOrder', 'bestFit'] as const)('packed %s', (order) => {
  test.each([
    ['float64', true, 1e-12],
    ['float64', false, 1e-12],
    ['float32', true, 2e-6],
  ] as const)('in %s, with logits: %s', (dtype, outputLogits, limit) => {
    using model = make(dtype);
    const batch = packedCausalLMCollator({ padId: 0, length: 18, order })(documents);
    expect(batch.inputIds.shape).toEqual([order === 'inOrder' ? 4 : 3, 18]);
    const given = measured(model, [() => model.forward({ ...batch, outputLogits }).loss!], [1]);
    const expected = alone(model);
    expect(furthest(given, expected)).toBeLessThan(limit);
    // The mask does it: without it sequences see those before them.
    const { mask: _, ...open } = batch;
    expect(furthest(measured(model, [() => model.forward(open).loss!], [1]), expected)).toBeGreaterThan(1e-3);
  });
});

describe('mask', () => {
  const ids = [[1, 2, 3, 4, 5, 6]];
  const seen = mask.documents([[0, 0, 0, 1, 1, 1]]);

  test('is joined with causality and attentionMask, and shows in the weights', () => {
    using model = make('float32').eval();
    const attentionMask = tensor([[1, 1, 1, 0, 1, 1]], { dtype: 'int64' });
    const { attentions } = noGrad(() =>
      model.forward({ inputIds: idsOf(ids), mask: seen, attentionMask, outputAttentions: true }),
    );
    const shown = list(attentions![0]!.select(1, 0)).map((p) => (p > 0 ? 1 : 0));
    expect(shown).toEqual(
      [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 1, 0],
        [0, 0, 0, 0, 1, 1],
      ].flat(),
    );
  });

  test('goes on with a cache', () => {
    using model = make('float32').eval();
    const inputIds = idsOf(ids);
    const expected = list(noGrad(() => model.forward({ inputIds, mask: seen }).logits.narrow(1, 4, 2)));
    using cache = model.makeCache(1, 6);
    const given = noGrad(() => {
      model.forward({ inputIds: inputIds.narrow(1, 0, 4), mask: mask.documents([[0, 0, 0, 1]]), pastKeyValues: cache });
      return list(model.forward({ inputIds: inputIds.narrow(1, 4, 2), mask: seen, pastKeyValues: cache }).logits);
    });
    for (const [i, x] of given.entries()) expect(Math.abs(x - expected[i]!)).toBeLessThan(1e-5);
  });

  test('has to be one, and to fit', () => {
    using model = make('float32');
    const inputIds = idsOf(ids);
    expect(() => model.forward({ inputIds, mask: tensor([true]) as never })).toThrow(/expected a mask for mask/);
    expect(() => model.forward({ inputIds, mask: mask.documents([0, 1]) })).toThrow(/documents has ids/);
  });
});

test('a Trainer takes packed batches, and learns as from the sequences alone', async () => {
  const packed = packedCausalLMCollator({ padId: 0, length: 18 });
  const train = async (
    trainData: Parameters<GPT2LMHeadModel['forward']>[0][],
    accumulate: number,
  ): Promise<number[]> => {
    using model = make('float64');
    const optimizer = new AdamW(model.parameters(), { lr: 1e-2 });
    const losses: number[] = [];
    await new Trainer({
      model,
      optimizer,
      loss: (lm, batch) => lm.forward(batch).loss!,
      weight: ({ labels }) => list(labels!.slice(1, 1)).filter((label) => label >= 0).length,
      trainData,
      accumulate,
      epochs: 5,
      callbacks: [{ onStep: ({ loss }) => void losses.push(loss) }],
    }).run();
    return losses;
  };
  const single = documents.map((row) => ({ inputIds: idsOf([row]), labels: idsOf([row]) }));
  const expected = await train(single, single.length);
  const given = await train([packed(documents)], 1);
  expect(given).toHaveLength(5);
  expect(given[4]).toBeLessThan(given[0]!);
  for (const [i, loss] of given.entries()) expect(Math.abs(loss - expected[i]!)).toBeLessThan(1e-10);
});
