// GPT-2 under autocast, against what PyTorch computed in the same dtype.
import { autocast, concat, noGrad, ones, type Tensor } from 'fovea';
import { type CausalLM, load } from 'fovea/models';
import { beforeAll, expect, test } from 'vitest';
import { compare, type Golden, readGolden } from '../golden.js';
import { device } from '../helpers.js';

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
