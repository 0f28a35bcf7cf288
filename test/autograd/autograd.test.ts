// The tape: what it keeps, what it frees, what it refuses.
import {
  customFunction,
  enableGrad,
  functional as F,
  grad,
  isGradEnabled,
  memory,
  noGrad,
  ones,
  randn,
  synchronize,
  type Tensor,
  tensor,
  tidy,
} from 'fovea';
import { describe, expect, it } from 'vitest';
import { codeOf, list } from '../helpers.js';

describe('backward', () => {
  it('adds to .grad of every leaf', () => {
    const x = tensor([1, 2, 3], { requiresGrad: true });
    x.mul(x).sum().backward();
    expect(list(x.grad!)).toEqual([2, 4, 6]);
    x.mul(2).sum().backward();
    expect(list(x.grad!)).toEqual([4, 6, 8]);
  });

  it('adds up where a tensor is used more than once', () => {
    const x = tensor([2], { requiresGrad: true });
    const y = x.mul(x);
    y.mul(y).add(y).sum().backward(); // x^4 + x^2
    expect(list(x.grad!)).toEqual([4 * 8 + 4]);
  });

  it('frees what it saved as it goes', async () => {
    const x = randn([1 << 20], { requiresGrad: true });
    const before = memory().live;
    let y: Tensor = x;
    for (let i = 0; i < 10; i++) y = y.tanh();
    const loss = y.sum();
    y.dispose();
    loss.backward();
    loss.dispose();
    x.grad!.dispose();
    await synchronize();
    globalThis.gc?.();
    expect(memory().live - before).toBeLessThan(2 * 4 * (1 << 20) * 10);
    expect(codeOf(() => loss.backward())).toBe('FOVEA_DISPOSED');
  });

  it('runs once, or again with retainGraph', () => {
    const x = tensor([3], { requiresGrad: true });
    const y = x.square().sum();
    y.backward(undefined, { retainGraph: true });
    y.backward();
    expect(list(x.grad!)).toEqual([12]);
    expect(codeOf(() => y.backward())).toBe('FOVEA_AUTOGRAD');
  });

  it('runs again where nothing was saved, as in PyTorch', () => {
    const x = tensor([3], { requiresGrad: true });
    const y = x.mul(2).add(1).sum();
    y.backward();
    y.backward();
    expect(list(x.grad!)).toEqual([4]);
  });

  it('takes the gradient of an output that is not a scalar', () => {
    const x = tensor([1, 2], { requiresGrad: true });
    const y = x.mul(3);
    expect(codeOf(() => y.backward())).toBe('FOVEA_AUTOGRAD');
    y.backward(tensor([1, 10]));
    expect(list(x.grad!)).toEqual([3, 30]);
  });

  it('refuses what was never recorded', () => {
    expect(codeOf(() => tensor([1]).sum().backward())).toBe('FOVEA_AUTOGRAD');
    expect(codeOf(() => tensor([1], { dtype: 'int32', requiresGrad: true }))).toBe('FOVEA_DTYPE');
  });

  it('survives the disposal of what the tape saved', () => {
    const w = tensor([2, 2], { requiresGrad: true });
    const x = tensor([3, 3]);
    const product = w.mul(x);
    const y = product.sum();
    x.dispose();
    product.dispose();
    y.backward();
    expect(list(w.grad!)).toEqual([3, 3]);
  });

  it('sums over what was broadcast', () => {
    const b = tensor([1, 2, 3], { requiresGrad: true });
    const c = tensor([[1], [2]], { requiresGrad: true });
    b.add(c).sum().backward();
    expect(list(b.grad!)).toEqual([2, 2, 2]);
    expect(c.grad!.shape).toEqual([2, 1]);
    expect(list(c.grad!)).toEqual([3, 3]);
  });
});

describe('in place', () => {
  it('notices a saved tensor that changed, also through a view, and names the op', () => {
    const w = tensor([2, 2, 2], { requiresGrad: true });
    const x = tensor([3, 3, 3]);
    const y = w.mul(x).sum();
    x.narrow(0, 0, 1).add_(1);
    expect(() => y.backward()).toThrow(/mul/);
    expect(codeOf(() => y.backward())).toBe('FOVEA_AUTOGRAD');
  });

  it('refuses leaves that require gradients, outside of noGrad', () => {
    const w = tensor([1], { requiresGrad: true });
    expect(codeOf(() => w.add_(1))).toBe('FOVEA_AUTOGRAD');
    noGrad(() => w.add_(1));
    expect(list(w)).toEqual([2]);
  });

  it('refuses a target whose elements repeat, and copies overlapping operands', () => {
    expect(
      codeOf(() =>
        tensor([1])
          .expand([4])
          .add_(tensor([1, 2, 3, 4])),
      ),
    ).toBe('FOVEA_LAYOUT');
    const a = tensor([
      [1, 2],
      [3, 4],
    ]);
    a.add_(a.transpose(0, 1));
    expect(list(a)).toEqual([2, 5, 5, 8]);
  });
});

describe('modes', () => {
  it('noGrad and enableGrad nest, and end with an exception', () => {
    const x = tensor([1], { requiresGrad: true });
    expect(noGrad(() => x.mul(2)).requiresGrad).toBe(false);
    noGrad(() => expect(enableGrad(() => x.mul(2)).requiresGrad).toBe(true));
    expect(() =>
      noGrad(() => {
        throw new Error('out');
      }),
    ).toThrow('out');
    expect(isGradEnabled()).toBe(true);
  });

  it('follow asynchronous work and never reach its neighbours', async () => {
    const x = tensor([1], { requiresGrad: true });
    const tick = () => new Promise((resolve) => setImmediate(resolve));
    const inside = noGrad(async () => {
      await tick();
      const first = x.mul(2).requiresGrad;
      await tick();
      return [first, isGradEnabled()];
    });
    const outside = (async () => {
      const seen = [isGradEnabled()];
      for (let i = 0; i < 5; i++) {
        await tick();
        seen.push(x.mul(2).requiresGrad);
      }
      return seen;
    })();
    expect(await inside).toEqual([false, false]);
    expect(await outside).toEqual([true, true, true, true, true, true]);
    expect(isGradEnabled()).toBe(true);
  });

  it('tidy keeps what an async function returns and frees the rest', async () => {
    await synchronize();
    const before = memory().tensors;
    const kept = await tidy(async () => {
      const a = ones([4]);
      const b = a.add(1);
      await b.data();
      return { deep: [b.mul(2)] };
    });
    expect(memory().tensors).toBe(before + 1);
    expect(list(kept.deep[0]!)).toEqual([4, 4, 4, 4]);
    kept.deep[0]!.dispose();
  });

  it('tidy frees the graph of a step but not the gradients of leaves', () => {
    const w = randn([64, 64], { requiresGrad: true });
    const step = () =>
      tidy(() => {
        w.matmul(w).gelu().mean().backward();
      });
    step();
    const before = memory().tensors;
    for (let i = 0; i < 5; i++) step();
    expect(memory().tensors).toBe(before);
    expect(w.grad!.isDisposed).toBe(false);
  });
});

describe('grad', () => {
  it('returns gradients and leaves .grad alone', () => {
    const x = tensor([2], { requiresGrad: true });
    const [g] = grad([x.pow(3).sum()], [x]);
    expect(list(g!)).toEqual([12]);
    expect(x.grad).toBeNull();
  });

  it('differentiates again with createGraph', () => {
    const x = tensor([2], { dtype: 'float64', requiresGrad: true });
    const [first] = grad([x.pow(4).sum()], [x], { createGraph: true });
    const [second] = grad([first!.sum()], [x], { createGraph: true });
    const [third] = grad([second!.sum()], [x]);
    expect([first!, second!, third!].map((t) => list(t)[0])).toEqual([32, 48, 48]);
  });

  it.each(['gelu', 'silu', 'tanh', 'softmax', 'layerNorm', 'attention', 'crossEntropy'])(
    'differentiates %s twice through its composed form',
    (name) => {
      const x = randn([1, 2, 3, 4], { dtype: 'float64', requiresGrad: true });
      const f = (t: Tensor): Tensor => {
        if (name === 'softmax') return F.softmax(t, -1).square();
        if (name === 'layerNorm') return F.layerNorm(t, [4]).pow(3);
        if (name === 'attention') return F.attention(t, t, t, { causal: 'topLeft' }).square();
        if (name === 'crossEntropy')
          return F.crossEntropy(t.reshape([6, 4]), tensor([0, 1, 2, 3, 0, 1], { dtype: 'int64' }));
        return F[name as 'gelu'](t).square();
      };
      const penalty = (t: Tensor): Tensor =>
        grad([f(t).sum()], [t], { createGraph: true })[0]!
          .square()
          .sum();
      const [second] = grad([penalty(x)], [x]);
      const eps = 1e-5;
      const at = 5;
      const shifted = (d: number): number => {
        const data = list(x);
        data[at]! += d;
        return penalty(tensor(data, { shape: x.shape, dtype: 'float64', requiresGrad: true })).itemSync();
      };
      const numeric = (shifted(eps) - shifted(-eps)) / (2 * eps);
      expect(Math.abs(list(second!)[at]! - numeric)).toBeLessThan(1e-5 + 1e-3 * Math.abs(numeric));
    },
  );

  it('says which input nothing depends on, unless allowed', () => {
    const x = tensor([1], { requiresGrad: true });
    const y = tensor([1], { requiresGrad: true });
    expect(codeOf(() => grad([x.sum()], [y]))).toBe('FOVEA_AUTOGRAD');
    expect(grad([x.sum()], [x, y], { allowUnused: true })[1]).toBeNull();
  });
});

describe('hooks and custom functions', () => {
  it('sees and replaces gradients', () => {
    const x = tensor([1, 2], { requiresGrad: true });
    const y = x.mul(2);
    const seen: number[][] = [];
    const remove = y.registerHook((g) => {
      seen.push(list(g));
      return g.mul(10);
    });
    x.registerHook((g) => void seen.push(list(g)));
    y.sum().backward(undefined, { retainGraph: true });
    expect(seen).toEqual([
      [1, 1],
      [20, 20],
    ]);
    expect(list(x.grad!)).toEqual([20, 20]);
    remove();
    x.grad = null;
    y.sum().backward();
    expect(list(x.grad!)).toEqual([2, 2]);
  });

  it('runs a forward and a backward of the user', () => {
    const cube = customFunction({
      forward(context, x: Tensor) {
        context.saveForBackward(x);
        return x.mul(x).mul(x);
      },
      backward(context, dy) {
        return dy.mul(context.savedTensors[0]!.square()).mul(3);
      },
    });
    const x = tensor([2, -1], { requiresGrad: true });
    cube(x).sum().backward();
    expect(list(x.grad!)).toEqual([12, 3]);
  });
});
