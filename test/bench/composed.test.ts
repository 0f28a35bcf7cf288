// What the group `fused` compares with: the same numbers as the fused kernel gives, and the same gradients.
import { functional as F, grad, manualSeed, ones, randint, randn, type Tensor } from 'fovea';
import { GPT2LMHeadModel } from 'fovea/models';
import { expect, test } from 'vitest';
import { list } from '../helpers.js';
import { load } from './load.js';

const { causalMask, composedAttention, composeAttention } = await load('composed-attention.mjs');

function expectNear(actual: readonly Tensor[], expected: readonly Tensor[]): void {
  for (const [i, tensor] of actual.entries())
    expect(tensor.sub(expected[i]!).abs().max().itemSync()).toBeLessThan(2e-6 * Math.max(1, ...list(tensor)));
}

test('composed attention is causal attention, with its gradients', () => {
  manualSeed(3);
  const [q, k, v] = [0, 1, 2].map(() => randn([2, 3, 9, 16], { requiresGrad: true })) as [Tensor, Tensor, Tensor];
  const dy = randn([2, 3, 9, 16]);
  const composed = composedAttention([q, k, v], causalMask(9));
  const fused = F.attention(q, k, v, { causal: 'topLeft' });
  expectNear([composed], [fused]);
  const gradients = (y: Tensor): Tensor[] => grad(y, [q, k, v], { gradOutputs: dy }) as Tensor[];
  expectNear(gradients(composed), gradients(fused));
});

test('a GPT-2 trains alike with either', () => {
  manualSeed(4);
  const sizes = { vocabSize: 40, nPositions: 16, nEmbd: 32, nLayer: 2, nHead: 2 };
  const model = new GPT2LMHeadModel({ ...sizes, embdPdrop: 0, residPdrop: 0, attnPdrop: 0 });
  const inputIds = randint(0, 40, [2, 16], { dtype: 'int64' });
  const step = (): Tensor[] => {
    const { loss } = model.forward({ inputIds, labels: inputIds, outputLogits: false });
    return [loss!, ...(grad(loss!, model.parameters()) as Tensor[])];
  };
  const fused = step();
  // It takes the place of the model's own: what sees all learns something else.
  composeAttention(model, ones([16, 16], { dtype: 'bool' }));
  expect(step()[0]!.sub(fused[0]!).abs().itemSync()).toBeGreaterThan(1e-5);
  composeAttention(model, causalMask(16));
  expectNear(step(), fused);
});
