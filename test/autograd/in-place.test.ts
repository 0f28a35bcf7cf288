// Gradients through writes: what backward needs is the value before the write.
import { memory, noGrad, tensor, type Tensor, tidy } from 'fovea';
import { describe, expect, it } from 'vitest';
import { codeOf, list } from '../helpers.js';

const leaf = (values: number[]): Tensor => tensor(values, { requiresGrad: true });

describe('a write', () => {
  it('passes gradients to its target and its operand', () => {
    const x = leaf([2, 3]);
    const b = leaf([5, 7]);
    const y = x.clone();
    y.mul_(b).add_(x).sum().backward();
    expect(list(x.grad!)).toEqual([6, 8]);
    expect(list(b.grad!)).toEqual([2, 3]);
  });
  it('counts a tensor that is both twice', () => {
    const x = leaf([2, -3]);
    const y = x.mul(1);
    y.mul_(y).sum().backward();
    expect(list(x.grad!)).toEqual([4, -6]);
  });
  it('can follow another', () => {
    const x = leaf([0.5, 2]);
    const y = x.clone();
    y.mul_(3)
      .clamp_({ max: 4 })
      .div_(tensor([2, 2]))
      .mul_(x);
    y.sum().backward();
    expect(list(y)).toEqual([0.375, 4]);
    expect(list(x.grad!)).toEqual([1.5, 2]);
  });
  it('stops gradients where it puts a constant', () => {
    const x = leaf([1, 2]);
    const y = x.mul(4).maskedFill_(tensor([true, false]), 9);
    y.square().sum().backward();
    expect(list(x.grad!)).toEqual([0, 64]);
  });
  it('leaves nothing behind', () => {
    const x = leaf([1, 2]);
    const step = (): void => {
      tidy(() => {
        x.clone().mul_(x).clamp_({ min: 0 }).sum().backward();
      });
    };
    step();
    const before = memory().tensors;
    for (let i = 0; i < 5; i++) step();
    expect(memory().tensors).toBe(before);
  });
});

describe('what a write refuses', () => {
  it('is a leaf that requires gradients, except under noGrad', () => {
    const x = leaf([1]);
    expect(codeOf(() => x.mul_(2))).toBe('FOVEA_AUTOGRAD');
    noGrad(() => x.mul_(2));
    expect(list(x)).toEqual([2]);
  });
  it('is a graph that views share, or that a constant would cut', () => {
    const y = leaf([1, 2]).mul(1);
    const view = y.narrow(0, 0, 1);
    expect(codeOf(() => y.mul_(2))).toBe('FOVEA_AUTOGRAD');
    expect(codeOf(() => view.zero_())).toBe('FOVEA_AUTOGRAD');
  });
  it('is found by backward where another op saved the old value', () => {
    const x = leaf([1, 2]);
    const y = x.mul(2);
    const z = y.square();
    y.add_(1);
    expect(codeOf(() => z.sum().backward())).toBe('FOVEA_AUTOGRAD');
  });
});
