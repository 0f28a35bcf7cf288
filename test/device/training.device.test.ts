// Models on a GPU: training follows the CPU's, and memory comes back.
import {
  type Device,
  emptyCache,
  manualSeed,
  memory,
  noGrad,
  optim,
  synchronize,
  tensor,
  tidy,
  type Tensor,
} from 'fovea';
import { GPT2LMHeadModel } from 'fovea/models';
import { describe, expect, it } from 'vitest';
import { device } from '../helpers.js';

const config = {
  vocabSize: 61,
  nPositions: 16,
  nEmbd: 32,
  nLayer: 2,
  nHead: 2,
  embdPdrop: 0,
  residPdrop: 0,
  attnPdrop: 0,
};

/** The losses of training on numbers that a fixed rule gives. */
async function losses(at: Device, steps: number, dtype?: 'bfloat16'): Promise<number[]> {
  manualSeed(3);
  using model = new GPT2LMHeadModel(config);
  if (dtype) model.to(dtype);
  model.to(at);
  const optimizer = new optim.AdamW(model.parameters(), { lr: 1e-3 });
  const found: number[] = [];
  for (let step = 0; step < steps; step++) {
    const loss = tidy(() => {
      const rows = [0, 1, 2, 3].map((row) => Array.from({ length: 16 }, (_, i) => (7 * row + 3 * i * i + step) % 61));
      const inputIds: Tensor = tensor(rows, { dtype: 'int64', device: at });
      const { loss: value } = model.forward({ inputIds, labels: inputIds });
      value!.backward();
      optimizer.step();
      optimizer.zeroGrad();
      return value!.detach();
    });
    found.push(await loss.item());
    loss.dispose();
  }
  optimizer.dispose();
  return found;
}

const farthest = (a: readonly number[], b: readonly number[]): number =>
  Math.max(...a.map((x, i) => Math.abs(x - b[i]!) / Math.abs(b[i]!)));

describe('training', () => {
  it('50 steps of GPT-2 follow the CPU', async () => {
    const here = await losses('cpu', 50);
    expect(farthest(await losses(device, 50), here)).toBeLessThanOrEqual(1e-4);
    const half = farthest(await losses('cpu', 50, 'bfloat16'), here);
    expect(farthest(await losses(device, 50, 'bfloat16'), here)).toBeLessThanOrEqual(2 * half);
  });

  it('models that come and go leave no memory behind', async () => {
    const live = (): number => memory().devices['cuda:0']!.live;
    const ids = tensor([[1, 2, 3]], { dtype: 'int64', device });
    const before = live();
    for (let i = 0; i < 100; i++) {
      using model = new GPT2LMHeadModel(config).to(device);
      noGrad(() => tidy(() => void model.forward({ inputIds: ids })));
    }
    await synchronize();
    emptyCache();
    expect(live()).toBe(before);
  });
});
