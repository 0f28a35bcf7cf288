// The example that the README opens with, word for word; `npm run typecheck` checks its types, this runs it.
import { expect, it } from 'vitest';
// biome-ignore lint/correctness/noUnusedImports: the example imports what a reader will want next
import { functional as F, manualSeed, memory, nn, noGrad, optim, randn, tensor, tidy } from 'fovea';

it('runs as written', async () => {
  manualSeed(0);
  const x = tensor([
    [1, 2],
    [3, 4],
  ]); // float32 on the CPU
  const w = randn([2, 3], { requiresGrad: true });
  const loss = x.matmul(w).gelu().mean();
  loss.backward();
  const g: Float32Array = await w.grad!.data();
  const q = randn([2, 8, 128, 64]),
    k = randn([2, 2, 128, 64]),
    v = randn([2, 2, 128, 64]);
  const o = F.scaledDotProductAttention(q, k, v, { isCausal: true, enableGqa: true });
  const layer = new nn.TransformerEncoderLayer({ dModel: 64, nHead: 4, dimFeedforward: 128, normFirst: true });
  const opt = new optim.AdamW(layer.parameters(), { lr: 1e-3, weightDecay: 0.01 });

  expect(g).toHaveLength(6);
  expect(g.some((value) => value !== 0)).toBe(true);
  expect(o.shape).toEqual([2, 8, 128, 64]);
  expect(layer.forward(randn([2, 5, 64])).shape).toEqual([2, 5, 64]);
  opt.step();
});

it('knows the array type of every dtype', async () => {
  const a: Float32Array = await tensor([1]).data();
  const b: Float64Array = await tensor([1], { dtype: 'float64' }).data();
  const c: BigInt64Array = await tensor([1], { dtype: 'int64' }).data();
  const d: Uint8Array = await tensor([true], { dtype: 'bool' }).data();
  expect([a, b, c, d].map((t) => t.constructor.name)).toEqual([
    'Float32Array',
    'Float64Array',
    'BigInt64Array',
    'Uint8Array',
  ]);
});
