// GPT-2 that keeps only what goes into each block: the same numbers, and less memory, in training alone.
import { manualSeed, mask, memory, nn, synchronize, tensor, type Tensor } from 'fovea';
import { GPT2LMHeadModel } from 'fovea/models';
import { expect, test } from 'vitest';
import { device } from '../helpers.js';

function makeModel(nLayer: number): GPT2LMHeadModel {
  manualSeed(1);
  const sizes = { vocabSize: 31, nPositions: 64, nEmbd: 16, nHead: 2, nLayer };
  return new GPT2LMHeadModel(sizes).to(device);
}

function inputOf(batch: number, n: number): { inputIds: Tensor; labels: Tensor } {
  const ids = Array.from({ length: batch }, (_, row) => Array.from({ length: n }, (_, i) => (7 * i + 5 * row) % 31));
  const inputIds = tensor(ids, { dtype: 'int64', device });
  return { inputIds, labels: inputIds };
}

/** Bytes of tensors where the model is. */
const live = (): number => (device === 'cpu' ? memory() : memory().devices['cuda:0']!).live;

/** The loss, all gradients, and the bytes that forward leaves behind. */
async function outcome(model: GPT2LMHeadModel, extra: object = {}): Promise<{ numbers: number[][]; bytes: number }> {
  manualSeed(2);
  const input = { ...inputOf(3, 50), ...extra };
  await synchronize();
  const before = live();
  const { loss } = model.forward({ ...input, outputLogits: false });
  await synchronize();
  const bytes = live() - before;
  loss!.backward();
  const parts = [loss!, ...model.parameters().flatMap(({ grad }) => (grad ? [grad] : []))];
  const numbers = await Promise.all(parts.map(async (x) => Array.from(await x.data())));
  model.zeroGrad();
  return { numbers, bytes };
}

test('loss and gradients are the same to the bit, dropout and masks included', async () => {
  const model = makeModel(3);
  const attentionMask = tensor(
    [new Array(50).fill(1), [...new Array(20).fill(0), ...new Array(30).fill(1)], new Array(50).fill(1)],
    {
      device,
    },
  );
  const halves = [...new Array(25).fill(0), ...new Array(25).fill(1)];
  const documents = mask.documents(tensor([halves, halves, halves], { dtype: 'int64', device }));
  const masks = [{ attentionMask }, { mask: documents }, { attentionMask, mask: documents }];
  for (const extra of [{}, ...masks, { outputAttentions: true }]) {
    model.gradientCheckpointing = false;
    const plain = await outcome(model, extra);
    expect(plain.numbers).toHaveLength(1 + model.parameters().length);
    model.gradientCheckpointing = true;
    expect((await outcome(model, extra)).numbers).toEqual(plain.numbers);
  }
});

test('twelve blocks keep less than a quarter of the memory; in evaluation nothing changes', async () => {
  const model = makeModel(12);
  const plain = await outcome(model);
  model.gradientCheckpointing = true;
  expect((await outcome(model)).bytes).toBeLessThan(0.25 * plain.bytes);
  model.eval();
  expect((await outcome(model)).bytes).toBeGreaterThan(0.5 * plain.bytes);
  const prompt = inputOf(1, 4).inputIds;
  expect((await model.generate({ inputIds: prompt, maxNewTokens: 3 })).shape).toEqual([1, 7]);
});

test('adapters train under it', async () => {
  const model = makeModel(2);
  nn.addAdapter(model, { r: 2, targetModules: 'all-linear', loraDropout: 0.1 });
  const plain = await outcome(model);
  model.gradientCheckpointing = true;
  expect((await outcome(model)).numbers).toEqual(plain.numbers);
});
