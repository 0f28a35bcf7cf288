// Activation checkpointing against plain calls: equal bits in less memory.
import {
  autocast,
  checkpoint,
  defaultGenerator,
  functional as F,
  Generator,
  grad,
  manualSeed,
  memory,
  nn,
  noGrad,
  optim,
  rand,
  randn,
  record,
  resetPeakMemory,
  synchronize,
  tensor,
  type Tensor,
  tidy,
} from 'fovea';
import { describe, expect, it } from 'vitest';
import { codeOf, list } from '../helpers.js';

type Call = typeof checkpoint;
const plain: Call = (fn, ...inputs) => fn(...inputs);

/** Post-norm layers with dropout, and a head. */
class Stack extends nn.Module {
  layers: nn.TransformerEncoderLayer[];
  head: nn.Linear = new nn.Linear(16, 3);
  readonly call: Call;
  constructor(call: Call, depth: number, dropout: number, width = 16) {
    super();
    this.call = call;
    const options = { dModel: width, nHead: 2, dimFeedforward: 4 * width, dropout, batchFirst: true };
    this.layers = Array.from({ length: depth }, () => new nn.TransformerEncoderLayer(options));
  }
  override forward(x: Tensor): Tensor {
    let h = x;
    for (const layer of this.layers) h = this.call((t: Tensor) => layer.forward(t), h);
    return h;
  }
}

function stack(call: Call, dropout = 0.2, depth = 3): Stack {
  manualSeed(3);
  return new Stack(call, depth, dropout);
}

/** Output, gradients of the input and of all parameters, and where the generator is then. */
function run(model: Stack, dtype: 'bfloat16' | 'float16' | false = false): (number[] | number)[] {
  manualSeed(5);
  const x = randn([2, 7, 16], { requiresGrad: true });
  const y = autocast(dtype, () => model.head.forward(model.forward(x)));
  const drawnAfter = defaultGenerator().offset;
  rand([5]); // what is drawn before backward changes nothing
  y.square().mean().backward();
  const gradients = model.parameters().map((p) => list(p.grad!));
  model.zeroGrad();
  return [list(y), list(x.grad!), ...gradients, drawnAfter, defaultGenerator().offset];
}

describe('checkpoint computes what a plain call does, to the bit', () => {
  it.each([
    ['without dropout', 0, false],
    ['with dropout', 0.2, false],
    ['under autocast in bfloat16', 0.2, 'bfloat16'],
    ['under autocast in float16', 0.2, 'float16'],
  ] as const)('%s', (_, dropout, dtype) => {
    using expected = stack(plain, dropout);
    using model = stack(checkpoint, dropout);
    expect(run(model, dtype)).toEqual(run(expected, dtype));
  });

  it('with a generator of its own, and one that is made inside', () => {
    const results = [plain, checkpoint].map((call) => {
      const generator = new Generator(9);
      const x = tensor([1, 2, 3, 4, 5, 6], { requiresGrad: true });
      const y = call((t: Tensor) => {
        const dropped = F.dropout(t.mul(t), { generator });
        return F.dropout(dropped.mul(t), { generator: new Generator(4) });
      }, x);
      F.dropout(y, { generator });
      y.sum().backward();
      return [list(y), list(x.grad!), generator.offset];
    });
    expect(results[1]).toEqual(results[0]);
  });

  it('in several inputs and outputs, some without gradients, beside other arguments', () => {
    const results = [plain, checkpoint].map((call) => {
      const [a, b] = [tensor([1, 2], { requiresGrad: true }), tensor([3, 5], { requiresGrad: true })];
      const mask = tensor([1, 0]);
      const fn = (x: Tensor, scale: number, m: Tensor, y: Tensor): [Tensor, undefined, Tensor, Tensor, Tensor] => {
        const product = x.mul(y).mul(scale);
        return [product.mul(m), undefined, product.square(), x, m.add(1)];
      };
      const [first, hole, second, same, constant] = call(fn, a, 7, mask, b);
      expect(hole).toBeUndefined();
      expect([first.requiresGrad, same.requiresGrad, constant.requiresGrad]).toEqual([true, true, false]);
      first.sum().add(second.mul(same).sum()).backward();
      return [first, second, same, constant, a.grad!, b.grad!].map(list);
    });
    expect(results[1]).toEqual(results[0]);
  });

  it.each([0.1, null])('with a batch norm, whose statistics move once, by a momentum of %s', (momentum) => {
    const nested: Call = (fn, ...inputs) =>
      checkpoint((...again: typeof inputs) => checkpoint(fn, ...again), ...inputs);
    const results = [plain, checkpoint, nested].map((call) => {
      manualSeed(2);
      using norm = new nn.BatchNorm1d(4, { momentum });
      using linear = new nn.Linear(4, 4);
      const grads: number[][] = [];
      for (let step = 0; step < 3; step++) {
        const x = randn([5, 4], { requiresGrad: true });
        const y = call((t: Tensor) => norm.forward(linear.forward(t)).tanh(), x)
          .square()
          .sum();
        y.backward(undefined, { retainGraph: true });
        y.backward(); // each walk runs it again
        grads.push(list(x.grad!));
      }
      const statistics = [norm.runningMean!, norm.runningVar!, norm.numBatchesTracked!].map(list);
      return [...grads, ...statistics, list(linear.weight.grad!), list(norm.weight!.grad!)];
    });
    expect(results[0]![5]).toEqual([3]);
    expect(results[1]).toEqual(results[0]);
    expect(results[2]).toEqual(results[0]);
  });

  it('where an output is not used', () => {
    const x = tensor([2], { requiresGrad: true });
    const [cube] = checkpoint((t: Tensor) => [t.mul(t).mul(t), t.exp()], x);
    cube!.sum().backward();
    expect(list(x.grad!)).toEqual([12]);
  });

  it('nested, and with parameters that several runs share', () => {
    const results = [plain, checkpoint].map((call) => {
      manualSeed(1);
      const w = randn([4, 4], { requiresGrad: true });
      const x = randn([3, 4], { requiresGrad: true });
      const inner = (t: Tensor): Tensor => F.dropout(t.matmul(w).tanh(), { p: 0.3 });
      const outer = (t: Tensor): Tensor => call(inner, call(inner, t).mul(2)).add(t);
      call(outer, call(outer, x)).sum().backward();
      return [list(x.grad!), list(w.grad!)];
    });
    expect(results[1]![0]).toEqual(results[0]![0]);
    // sums over the places of use are taken in another order
    for (const [i, value] of results[1]![1]!.entries()) expect(value).toBeCloseTo(results[0]![1]![i]!, 4);
  });

  it('in a recorded step, whose replays draw new numbers', () => {
    const results = [plain, checkpoint].map((call) => {
      using model = stack(call);
      const optimizer = new optim.AdamW(model.parameters(), { lr: 1e-3 });
      manualSeed(8);
      using step = record((x: Tensor) => {
        optimizer.zeroGrad();
        const loss = model.head.forward(model.forward(x)).square().mean();
        loss.backward();
        optimizer.step();
        return loss;
      });
      const losses = [1, 2, 3].map((seed) => step(randn([2, 7, 16], { generator: new Generator(seed) })).itemSync());
      expect(step.recordings).toBe(1);
      return [losses, ...model.parameters().map(list), defaultGenerator().offset];
    });
    expect(results[1]).toEqual(results[0]);
  });
});

describe('checkpoint', () => {
  it('gives second derivatives, to parameters as well', () => {
    const results = [plain, checkpoint].map((call) => {
      const w = tensor([2, 3], { requiresGrad: true });
      const x = tensor([5, 7], { requiresGrad: true });
      const before = x.mul(w); // w leads to the input, too
      const y = call((t: Tensor) => t.mul(t).mul(w), before).sum();
      const [dx, dw] = grad(y, [x, w], { createGraph: true });
      const [ddx, ddw] = grad(dx!.mul(dw!).sum(), [x, w]);
      return [dx, dw, ddx, ddw].map((t) => list(t!));
    });
    expect(results[1]).toEqual(results[0]);
  });

  it('gives gradients to grad(), hooks and a second walk', () => {
    const w = tensor([3], { requiresGrad: true });
    const x = tensor([2], { requiresGrad: true });
    const seen: number[] = [];
    w.registerHook((g) => {
      seen.push(g.itemSync());
      return g.mul(10);
    });
    const y = checkpoint((t: Tensor) => t.mul(t).mul(w), x).sum();
    expect(grad(y, [w], { retainGraph: true }).map(list)).toEqual([[40]]);
    y.backward(undefined, { retainGraph: true });
    y.backward();
    expect([list(x.grad!), list(w.grad!), seen]).toEqual([[24], [80], [4, 4, 4]]);
    expect(codeOf(() => y.backward())).toBe('FOVEA_AUTOGRAD');
  });

  it('reaches parameters where no input requires gradients', () => {
    using layer = new nn.Linear(3, 2);
    checkpoint((t: Tensor) => layer.forward(t), tensor([[1, 2, 4]]))
      .sum()
      .backward();
    expect(list(layer.weight.grad!)).toEqual([1, 2, 4, 1, 2, 4]);
  });

  it('is a plain call where nothing is recorded or required', () => {
    const w = tensor([3], { requiresGrad: true });
    let calls = 0;
    const fn = (t: Tensor): Tensor => {
      calls++;
      return t.mul(w);
    };
    expect(noGrad(() => checkpoint(fn, tensor([2]))).requiresGrad).toBe(false);
    w.requiresGrad_(false);
    expect(list(checkpoint(fn, tensor([2])))).toEqual([6]);
    expect(calls).toBe(2);
  });

  it('takes at most 45 % of the memory of activations on 12 layers', async () => {
    const peak = async (call: Call): Promise<number> => {
      using model = new Stack(call, 12, 0.1, 64);
      const x = randn([4, 64, 64]);
      const step = (): void => tidy(() => model.forward(x).square().mean().backward());
      step(); // gradients are there from now on
      await synchronize();
      const before = memory().live;
      resetPeakMemory();
      step();
      await synchronize();
      return memory().peak - before;
    };
    const [all, few] = [await peak(plain), await peak(checkpoint)];
    console.log(`activations of 12 layers: ${all} bytes, in checkpoints ${few} (${((100 * few) / all).toFixed(1)} %)`);
    expect(few / all).toBeLessThan(0.45);
  });

  it('leaves nothing behind over 100 steps, used or dropped', async () => {
    using model = stack(checkpoint);
    const x = randn([2, 7, 16]);
    const step = (backward: boolean): void =>
      tidy(() => {
        const loss = model.forward(x).square().mean();
        if (backward) loss.backward();
      });
    step(true);
    await synchronize();
    const before = memory();
    for (let i = 0; i < 100; i++) step(true);
    await synchronize();
    expect([memory().tensors, memory().live]).toEqual([before.tensors, before.live]);
    for (let i = 0; i < 100; i++) step(false);
    globalThis.gc?.();
    await new Promise((resolve) => setImmediate(resolve));
    step(true);
    await synchronize();
    expect(memory().live - before.live).toBeLessThan(1 << 20);
  });
});

describe('checkpoint refuses', () => {
  const x = tensor([1, 2], { requiresGrad: true });

  it('what is no function, no tensor or a promise', () => {
    expect(() => checkpoint(1 as never, x)).toThrow(/checkpoint: expected a function for fn, received 1/);
    expect(() => checkpoint((() => 1) as never, x)).toThrow(/a tensor or an array of tensors for the result of fn/);
    expect(() => checkpoint((() => [x, 1]) as never, x)).toThrow(/for the result of fn/);
    expect(() => checkpoint((async () => x) as never, x)).toThrow(/a synchronous function for fn/);
    expect(codeOf(() => checkpoint((t: Tensor) => t.mul(2), tensor([1])).backward())).toBe('FOVEA_AUTOGRAD');
  });

  it('a tensor with a history that is no input', () => {
    const scale = x.exp();
    expect(() => checkpoint((t: Tensor) => t.mul(scale), x)).toThrow(/a result of exp from outside.*as an input/);
    expect(() => checkpoint((t: Tensor) => [t, scale], x)).toThrow(/a result of exp from outside/);
    expect(checkpoint((t: Tensor, s: Tensor) => t.mul(s), x, scale).requiresGrad).toBe(true);
  });

  it('to seed generators', () => {
    const seeds = (t: Tensor): Tensor => {
      manualSeed(1);
      return F.dropout(t);
    };
    expect(() => checkpoint(seeds, x)).toThrow(/manualSeed was called in fn/);
    expect(codeOf(() => checkpoint(seeds, x))).toBe('FOVEA_UNSUPPORTED');
  });

  it('in backward, a function that does something else', () => {
    using layer = new nn.Dropout(0.5);
    const fails = (fn: (t: Tensor) => Tensor, change: () => void, message: RegExp): void => {
      const y = checkpoint(fn, x).sum();
      change();
      expect(() => y.backward()).toThrow(message);
    };
    fails(
      (t) => layer.forward(t).mul(2),
      () => layer.eval(),
      /fewer random numbers when it ran again/,
    );
    fails(
      (t) => layer.forward(t.mul(2)),
      () => layer.train(),
      /drew other random numbers/,
    );
    let columns = 1;
    fails(
      (t) => t.expand([columns, 2]).mul(t),
      () => (columns = 2),
      /returned other shapes/,
    );
    let twice = false;
    fails(
      (t) => (twice ? t.mul(2).mul(2) : t.mul(4)),
      () => (twice = true),
      /computed something else/,
    );
  });

  it('in backward, an input that was changed and a tensor that is gone', () => {
    const input = tensor([1, 2]);
    const y = checkpoint((t: Tensor) => t.mul(x), input).sum();
    input.add_(1);
    expect(() => y.backward()).toThrow(/checkpoint saved 0 for its gradient, but it was changed in place/);
    const z = tidy(() => {
      const mask = tensor([0, 1]);
      return checkpoint((t: Tensor) => t.mul(mask), x);
    });
    expect(() => z.sum().backward()).toThrow(/from outside was disposed; pass it to checkpoint as an input/);
    const kept = tidy(() => checkpoint((t: Tensor, mask: Tensor) => t.mul(mask), x, tensor([0, 1])));
    kept.sum().backward();
    expect(list(x.grad!)).toEqual([0, 1]);
  });

  it('and goes on after an error of fn', () => {
    const before = memory().tensors;
    const fails = (t: Tensor): Tensor => t.matmul(t.reshape([1, 2]).reshape([3]));
    expect(codeOf(() => tidy(() => checkpoint(fails, x)))).toBe('FOVEA_SHAPE');
    expect(memory().tensors).toBe(before);
    expect(list(grad(checkpoint((t: Tensor) => t.mul(t), x).sum(), x)[0]!)).toEqual([2, 4]);
  });
});
