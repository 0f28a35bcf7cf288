// GPT-2 under autocast, against what PyTorch computed in the same dtype; and its loss without logits.
import { autocast, concat, noGrad, ones, type Tensor, tidy } from 'fovea';
import { type CausalLM, load } from 'fovea/models';
import { beforeAll, expect, test } from 'vitest';
import { compare, type Golden, readGolden } from '../golden.js';
import { device, list } from '../helpers.js';

let golden: Golden;
let model: CausalLM;
beforeAll(async () => {
  golden = readGolden('gpt2');
  model = await load(golden.folder, { device });
});

test.each(['bfloat16', 'float16'] as const)('autocast(%s) stays within twice the error of PyTorch', async (dtype) => {
  const inputIds = golden.inputs['input_ids']!;
  const run = (): Tensor[] => {
    using cache = model.makeCache(2, 20);
    const part = (start: number, n: number): Tensor =>
      model.forward({ inputIds: inputIds.narrow(1, start, n), pastKeyValues: cache }).logits;
    return [model.forward({ inputIds }).logits, concat([part(0, 19), part(19, 1)], 1)];
  };
  const [error] = golden.info.reference_error[dtype === 'float16' ? 'fp16_vs_fp64' : 'bf16_vs_fp64']['logits']!;
  for (const logits of autocast(dtype, () => noGrad(run))) {
    expect(logits.dtype).toBe(dtype);
    const values = await logits.data({ as: 'float32' });
    const { difference, largest } = compare(values, await golden.expected['logits']!.data());
    expect(difference).toBeLessThanOrEqual(2 * error + 2e-5 * largest);
  }
});

test.each(['bfloat16', 'float16'] as const)('a cache that is made under autocast(%s) has its dtype', (dtype) => {
  using cache = autocast(dtype, () => model.makeCache(1, 4));
  const x = ones([1, 4, 1, 8], { device });
  expect(cache.update(0, x, x).k.dtype).toBe(dtype);
});

test('without logits the loss and the gradients are the same', () => {
  const inputIds = golden.inputs['input_ids']!;
  const attentionMask = ones(inputIds.shape, { dtype: 'int64', device });
  const run = (outputLogits: boolean): { loss: number; gradients: number[][]; shape: number[] } =>
    tidy(() => {
      const { loss, logits } = model.forward({ inputIds, attentionMask, labels: inputIds, outputLogits });
      loss!.backward();
      const gradients = model.parameters().map(({ grad }) => list(grad!));
      model.zeroGrad();
      return { loss: loss!.itemSync(), gradients, shape: [...logits.shape] };
    });
  const [whole, fused] = [run(true), run(false)];
  expect(whole.shape.slice(0, 2)).toEqual([...inputIds.shape]);
  expect(fused.shape).toEqual([inputIds.shape[0], 0, model.config.vocabSize]);
  expect(Math.abs(fused.loss / whole.loss - 1)).toBeLessThan(1e-6);
  fused.gradients.forEach((g, p) => {
    const largest = Math.max(...whole.gradients[p]!.map(Math.abs));
    g.forEach((v, i) => expect(Math.abs(v - whole.gradients[p]![i]!)).toBeLessThanOrEqual(1e-5 * largest + 1e-9));
  });
});

test('without logits and labels there are hidden states alone', () => {
  const inputIds = golden.inputs['input_ids']!;
  const output = noGrad(() => model.forward({ inputIds, outputLogits: false, outputHiddenStates: true }));
  expect(output.logits.shape[1]).toBe(0);
  expect(output.loss).toBeUndefined();
  expect(output.hiddenStates).toHaveLength(3);
});
