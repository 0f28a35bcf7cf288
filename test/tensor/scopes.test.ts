// Lifetimes and modes that no single function bounds.
import { adopt, enableGrad, memory, noGrad, randn, releaseShared, tensor, TensorScope, zeros } from 'fovea';
import { functional as F, nn } from 'fovea';
import { GPT2LMHeadModel } from 'fovea/models';
import { describe, expect, it } from 'vitest';

const later = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

describe('a scope', () => {
  it('frees at its end what was made in its runs', async () => {
    const before = memory().tensors;
    {
      using scope = new TensorScope();
      const x = scope.run(() => randn([4]).add(1));
      const y = await scope.run(async () => {
        await later(1);
        return x.mul(2);
      });
      expect(await y.data()).toHaveLength(4);
      expect(memory().tensors - before).toBe(3);
    }
    expect(memory().tensors).toBe(before);
  });
  it('refuses to run after its end', () => {
    const scope = new TensorScope();
    scope.dispose();
    expect(() => scope.run(() => 1)).toThrow(/this scope has ended/);
  });
});

describe('a mode', () => {
  /** Whether a timer that `noGrad` left behind records. */
  const timerRecords = (): Promise<boolean> => {
    const w = randn([2], { requiresGrad: true });
    return new Promise((resolve) => {
      noGrad(() => void setTimeout(() => resolve(w.mul(2).requiresGrad), 2));
    });
  };
  it('ends with its function, whatever other requests do', async () => {
    expect(await timerRecords()).toBe(true);
    const other = noGrad(() => later(30));
    expect(await timerRecords()).toBe(true);
    await other;
  });
  it('falls back to the one around it', async () => {
    const w = randn([2], { requiresGrad: true });
    const inner = await noGrad(async () => {
      const recorded = await enableGrad(async () => {
        await later(1);
        return w.mul(2).requiresGrad;
      });
      await later(1);
      return [recorded, w.mul(2).requiresGrad];
    });
    expect(inner).toEqual([true, false]);
  });
});

it('share is a method, too', async () => {
  const shared = await tensor([1, 2]).share();
  expect(await adopt(shared).data()).toEqual(Float32Array.of(1, 2));
  releaseShared(shared);
});

it('a failed tensor is sound again once all of it is overwritten', async () => {
  const layer = new nn.Linear(2, 2);
  const saved = Object.fromEntries(Object.entries(layer.stateDict()).map(([key, t]) => [key, t.detach().clone()]));
  const failed = F.embedding(tensor([9n]), zeros([3, 2]));
  noGrad(() => layer.weight.add_(failed));
  await expect(layer.weight.data()).rejects.toMatchObject({ code: 'FOVEA_INDEX' });
  layer.loadStateDict(saved);
  expect(await layer.weight.data()).toEqual(await saved['weight']!.data());
});

it('leaving the block ends a stream', async () => {
  const model = new GPT2LMHeadModel({ vocabSize: 8, nPositions: 64, nEmbd: 8, nLayer: 1, nHead: 2 }).eval();
  const inputIds = tensor([[1, 2, 3]], { dtype: 'int64' });
  const before = memory().tensors;
  {
    await using stream = model.stream({ inputIds, maxNewTokens: 50 });
    await stream.next();
    expect(memory().tensors).toBeGreaterThan(before);
  }
  expect(memory().tensors).toBe(before);
});
