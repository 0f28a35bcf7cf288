// Recorded steps against the same function called anew: equal bits, and equal state of everything around.
import {
  autocast,
  defaultGenerator,
  functional as F,
  manualSeed,
  memory,
  noGrad,
  optim,
  record,
  tensor,
  type Tensor,
  tidy,
  zeros,
} from 'fovea';
import { load } from 'fovea/models';
import { describe, expect, it } from 'vitest';
import { readGolden } from '../golden.js';
import { codeOf, device, list } from '../helpers.js';
import { mlp, normal } from './mlp.js';

describe('a recorded forward', () => {
  it('gives the bits of its function, call after call', () => {
    const model = mlp();
    const step = record((x: Tensor) => model.forward(x));
    for (let i = 0; i < 4; i++) {
      const x = normal([3, 7], i);
      const y = step(x);
      expect(list(y)).toEqual(list(model.forward(x)));
      expect([y.shape, y.requiresGrad]).toEqual([[3, 5], false]);
    }
    expect(step.recordings).toBe(1);
    step.dispose();
  });
  it('runs no JavaScript of the function again', () => {
    let calls = 0;
    using step = record((x: Tensor) => {
      calls++;
      return x.add(1);
    });
    for (let i = 0; i < 3; i++) expect(list(step(tensor([i], { device })))).toEqual([i + 1]);
    expect(calls).toBe(1);
  });
  it('leaves earlier results as they were, and the inputs, too', () => {
    using step = record((x: Tensor) => x.mul(2));
    const x = tensor([1, 2], { device });
    const first = step(x);
    step(tensor([5, 6], { device }));
    expect([list(first), list(x)]).toEqual([
      [2, 4],
      [1, 2],
    ]);
  });
  it('takes views of any strides, empty tensors and several inputs', () => {
    using step = record((x: Tensor, i: Tensor) => [x.t().add(1), F.embedding(i, x)]);
    for (const seed of [1, 2]) {
      const x = normal([4, 6], seed).t();
      const i = tensor([[seed, 0, 5]], { dtype: 'int64', device });
      expect(step(x, i).map(list)).toEqual([x.t().add(1), F.embedding(i, x)].map(list));
    }
    using none = record((x: Tensor) => x.sum(1).add(3));
    for (const n of [0, 2, 0])
      expect(list(none(zeros([n, 3], { device })))).toEqual(Array.from({ length: n }, () => 3));
    expect(none.recordings).toBe(2);
  });
  it('returns arrays and objects as the function does', () => {
    using step = record((x: Tensor) => ({ a: x, parts: [x.add(1), null], none: undefined }));
    for (const v of [1, 2]) {
      const { a, parts, none } = step(tensor(v, { device }));
      expect([a.itemSync(), parts[0]!.itemSync(), parts[1], none]).toEqual([v, v + 1, null, undefined]);
    }
  });
  it('works in tidy, whose end frees the result alone', () => {
    using step = record((x: Tensor) => x.exp());
    for (let i = 0; i < 3; i++) expect(tidy(() => step(tensor(0, { device })).itemSync())).toBe(1);
  });
  it('reads parameters as they are at the call', () => {
    const model = mlp();
    using step = record((x: Tensor) => model.forward(x));
    const x = normal([2, 7], 1);
    step(x);
    noGrad(() => model.parameters().forEach((p) => void p.mul_(3)));
    expect(list(step(x))).toEqual(list(model.forward(x)));
    expect(step.recordings).toBe(1);
  });
});

it('replays the forward of GPT-2', async () => {
  const golden = readGolden('gpt2');
  const model = (await load(golden.folder, { device })).eval();
  using step = record((inputIds: Tensor) => noGrad(() => model.forward({ inputIds }).logits));
  const inputIds = golden.inputs['input_ids']!.to(device);
  for (const ids of [inputIds, inputIds.flip(1), inputIds])
    expect(list(step(ids))).toEqual(list(noGrad(() => model.forward({ inputIds: ids }).logits)));
  expect(step.recordings).toBe(1);
});

describe('a call records anew', () => {
  it('for another shape, dtype or mode, and keeps as many recordings as asked', () => {
    let calls = 0;
    using step = record(
      (x: Tensor) => {
        calls++;
        return x.matmul(x);
      },
      { maxRecordings: 2 },
    );
    const f32 = normal([2, 2], 1);
    const f64 = f32.to('float64');
    const call = (x: Tensor): number => {
      expect(list(step(x))).toEqual(list(x.matmul(x)));
      return calls;
    };
    expect([f32, f64, f32, normal([3, 3], 1), f32, f64].map(call)).toEqual([1, 2, 2, 3, 3, 4]);
    expect(step.recordings).toBe(2);
    expect(autocast('bfloat16', () => step(f32)).dtype).toBe('bfloat16');
    expect(calls).toBe(5);
  });
  it('when a module trains or is evaluated', () => {
    const model = mlp(0.5);
    const x = normal([3, 7], 1);
    using step = record((input: Tensor) => noGrad(() => model.forward(input)));
    step(x);
    model.eval();
    expect(list(step(x))).toEqual(list(model.forward(x)));
    expect(list(step(x))).toEqual(list(model.forward(x)));
    expect(step.recordings).toBe(1);
  });
  it('when a tensor that it took was disposed', () => {
    const held = { w: tensor([2], { device }) };
    using step = record((x: Tensor) => x.mul(held.w));
    expect(step(tensor([3], { device })).itemSync()).toBe(6);
    held.w.dispose();
    expect(codeOf(() => step(tensor([3], { device })))).toBe('FOVEA_DISPOSED');
    held.w = tensor([5], { device });
    for (const v of [3, 4]) expect(step(tensor([v], { device })).itemSync()).toBe(5 * v);
    expect(step.recordings).toBe(1);
  });
  it('when weights that were packed for it have changed', () => {
    const x = normal([16, 256], 1);
    const w = normal([256, 256], 2);
    const forward = (t: Tensor): Tensor => noGrad(() => F.linear(t, w));
    for (let i = 0; i < 3; i++) forward(x);
    let calls = 0;
    using step = record((t: Tensor) => {
      calls++;
      return forward(t);
    });
    using half = w.narrow(0, 0, 128);
    using double = record(() => half.mul_(2)); // neither through the slot of w nor by JavaScript
    for (let i = 0; i < 3; i++) {
      for (let j = 0; j < 2; j++) expect(list(step(x))).toEqual(list(x.matmul(w.clone().t())));
      double();
    }
    expect([calls, step.recordings]).toEqual([device === 'cpu' ? 2 : 1, 1]); // a GPU packs nothing
  });
  it('under autocast, whose conversions follow the parameters', () => {
    const model = mlp();
    const x = normal([2, 7], 1);
    autocast('bfloat16', () => {
      model.forward(x);
      using step = record((input: Tensor) => model.forward(input));
      for (let i = 0; i < 3; i++) {
        expect(list(step(x))).toEqual(list(model.forward(x)));
        noGrad(() => model.parameters().forEach((p) => void p.mul_(1.5)));
      }
      expect(step.recordings).toBe(1);
    });
  });
});

describe('what cannot be recorded', () => {
  const x = tensor([1, 2], { device });
  const w = tensor([1, 2], { device, requiresGrad: true });
  const inner = record((t: Tensor) => t.add(1));
  const cases: [string, (t: Tensor) => unknown, RegExp][] = [
    ['dataSync', (t) => t.add(1).dataSync(), /cannot be read/],
    ['itemSync', (t) => t.sum().itemSync(), /cannot be read/],
    ['toArraySync', (t) => t.toArraySync(), /cannot be read/],
    ['data, not awaited', (t) => void t.data().catch(() => 0), /cannot be read/],
    ['a read whose error is caught', (t) => [codeOf(() => t.dataSync())].slice(1), /cannot be read/],
    ['share', (t) => void t.share().catch(() => 0), /cannot be read/],
    ['nonzero', (t) => void F.nonzero(t).catch(() => 0), /cannot be read/],
    ['host data', (t) => t.add(tensor([1, 2], { device })), /would stay those of this call/],
    ['an asynchronous function', async (t) => t.add(1), /asynchronous/],
    ['a write into an input', (t) => t.add_(1), /writes into input 0/],
    ['another recorded step', (t) => inner(t), /cannot call another one/],
    ['a scaler', (t) => new optim.GradScaler().scale(t), /GradScaler\.scale/],
    ['seeding', () => void manualSeed(1), /manualSeed/],
    ['setting a state', () => void defaultGenerator().setState({ seed: 1, offset: 0 }), /setState/],
    ['a number', () => 3, /the result of fn, received 3/],
    ['another object', () => [new Map()], /the result of fn\[0\], received object Map/],
  ];
  it.each(cases)('%s', async (_, fn, message) => {
    using step = record(fn as (t: Tensor) => Tensor);
    const before = memory();
    expect(() => step(x)).toThrow(message);
    expect(codeOf(() => step(x))).toMatch(/FOVEA_UNSUPPORTED|FOVEA_ARGUMENT/);
    await new Promise(setImmediate); // what was asynchronous ends
    const { tensors, live } = memory();
    expect([tensors, live, step.recordings]).toEqual([before.tensors, before.live, 0]);
    expect(list(x.add(1))).toEqual([2, 3]);
  });
  it('inputs that are no tensors, are disposed or require gradients', () => {
    using step = record((t: Tensor) => t.add(1));
    const gone = tensor([1], { device });
    gone.dispose();
    expect([3, gone, w].map((t) => codeOf(() => step(t as Tensor)))).toEqual([
      'FOVEA_ARGUMENT',
      'FOVEA_DISPOSED',
      'FOVEA_AUTOGRAD',
    ]);
    expect(codeOf(() => record(3 as never))).toBe('FOVEA_ARGUMENT');
    expect(codeOf(() => record((t: Tensor) => t, { maxRecordings: 0 }))).toBe('FOVEA_ARGUMENT');
  });
  it('a step that is disposed while it runs ends', () => {
    const before = memory();
    const step = record((t: Tensor): Tensor => {
      step.dispose();
      return t.add(1);
    });
    const y = step(x);
    expect(list(y)).toEqual([2, 3]);
    y.dispose();
    expect(codeOf(() => step(x))).toBe('FOVEA_DISPOSED');
    expect([step.recordings, memory().live]).toEqual([0, before.live]);
  });
  it('what the function itself throws', () => {
    const before = memory();
    using step = record((t: Tensor) => {
      t.exp().log();
      throw new RangeError('mine');
    });
    expect(() => step(x)).toThrow('mine');
    expect([memory().tensors, memory().live]).toEqual([before.tensors, before.live]);
  });
});

describe('failures', () => {
  it('reject what depends on them, and the next call is sound', async () => {
    const table = normal([3, 2], 1);
    using step = record((ids: Tensor) => [F.embedding(ids, table).mul(2), ids.add(1)]);
    const ids = (v: number): Tensor => tensor([v], { dtype: 'int64', device });
    for (const [good, bad] of [
      [0, 9],
      [1, 7],
      [2, 3],
    ] as const) {
      const [failed, other] = step(ids(bad));
      await expect(failed!.data()).rejects.toMatchObject({ code: 'FOVEA_INDEX' });
      expect(list(other!)).toEqual([bad + 1]);
      expect(list(step(ids(good))[0]!)).toEqual(list(table.select(0, good).mul(2)));
    }
  });
  it('of an input reach the results of that call only', async () => {
    using step = record((x: Tensor) => zeros([1, 2], { device }).add(x));
    const failed = F.embedding(tensor([9n], { device }), zeros([3, 2], { device }));
    expect(list(step(zeros([1, 2], { device })))).toEqual([0, 0]);
    await expect(step(failed).data()).rejects.toMatchObject({ code: 'FOVEA_INDEX' });
    expect(list(step(zeros([1, 2], { device })))).toEqual([0, 0]);
  });
});

describe('memory', () => {
  const place = normal([], 1).device as 'cpu';
  const usage = (): [number, number] => [memory().tensors, memory().devices[place].live];
  it('of a recording is counted, and freed by dispose', () => {
    const x = normal([256, 256], 1);
    const step = record((t: Tensor) => {
      let y = t.exp();
      for (let i = 0; i < 8; i++) {
        using last = y;
        y = last.mul(2);
      }
      return y;
    });
    const before = usage();
    step(x).dispose();
    const held = usage()[1] - before[1];
    expect(held).toBeGreaterThan(2 * 4 * 256 ** 2);
    expect(held).toBeLessThan(4.5 * 4 * 256 ** 2);
    step(x).dispose();
    expect(usage()[1] - before[1]).toBe(held);
    step.dispose();
    step.dispose();
    expect(usage()).toEqual(before);
    expect(codeOf(() => step(x))).toBe('FOVEA_DISPOSED');
    expect(step.recordings).toBe(0);
  });
  it('comes back after a thousand recordings, and what was returned lives on', () => {
    const model = mlp(0.1);
    const x = normal([3, 7], 1);
    const before = usage();
    for (let i = 0; i < 1000; i++) {
      using step = record((t: Tensor) => {
        const loss = model.forward(t).sum();
        loss.backward();
        return loss;
      });
      step(x).dispose();
      model.zeroGrad();
      const last = step(x);
      step.dispose();
      if (i % 100 === 0) expect(last.itemSync()).not.toBeNaN();
      last.dispose();
      model.zeroGrad();
    }
    expect(usage()).toEqual(before);
  });
  it('of what a recording holds is not reused by others', () => {
    using step = record((t: Tensor) => tidy(() => t.add(1).add(1).add(1)));
    const others: Tensor[] = [];
    for (let i = 0; i < 20; i++) {
      expect(list(step(tensor([i, i], { device })))).toEqual([i + 3, i + 3]);
      others.push(tensor([i, -i], { device }).mul(2));
    }
    others.forEach((t, i) => expect(list(t)).toEqual([2 * i, -2 * i]));
  });
});
