// Ops whose result's size depends on values, so that they are asynchronous.
import { full, tensor, zeros } from 'fovea';
import { describe, expect, it } from 'vitest';

describe('nonzero', () => {
  it('lists the places in row-major order', async () => {
    expect(
      await (
        await tensor([
          [0, 3],
          [Number.NaN, 0],
        ]).nonzero()
      ).toArray(),
    ).toEqual([
      [0, 1],
      [1, 0],
    ]);
    expect((await zeros([3, 4]).nonzero()).shape).toEqual([0, 2]);
    expect((await zeros([0, 4]).nonzero()).shape).toEqual([0, 2]);
    expect((await tensor(5).nonzero()).shape).toEqual([1, 0]);
    expect(await (await tensor([true, false, true]).nonzero()).toArray()).toEqual([[0], [2]]);
    expect((await full([70_001], 1).nonzero()).shape).toEqual([70_001, 1]);
    expect(
      await (
        await tensor([
          [0, 1],
          [2, 0],
        ])
          .transpose(0, 1)
          .nonzero()
      ).toArray(),
    ).toEqual([
      [0, 1],
      [1, 0],
    ]);
  });
  it('rejects what is not a tensor', async () => {
    const { functional } = await import('fovea');
    await expect(functional.nonzero('x' as never)).rejects.toMatchObject({ code: 'FOVEA_ARGUMENT' });
  });
});

describe('maskedSelect', () => {
  it('keeps what the mask shows, and passes gradients back there', async () => {
    const x = tensor([1, 2, 3, 4], { requiresGrad: true });
    const y = await x.maskedSelect(tensor([true, false, false, true]));
    expect(await y.toArray()).toEqual([1, 4]);
    y.mul(2).sum().backward();
    expect(await x.grad!.toArray()).toEqual([2, 0, 0, 2]);
  });
  it('rejects a mask that is not bool', async () => {
    await expect(tensor([1, 2]).maskedSelect(tensor([1, 0]))).rejects.toMatchObject({ code: 'FOVEA_DTYPE' });
  });
});
