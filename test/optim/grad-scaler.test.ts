// Loss scaling: what a step does with sound gradients and with others, the order of calls, states, training in float16.
import { autocast, functional as F, memory, nn, ones, optim, randn, tensor, type Tensor, tidy } from 'fovea';
import { describe, expect, it } from 'vitest';
import { list } from '../helpers.js';

const { GradScaler, SGD } = optim;
type Scaler = InstanceType<typeof GradScaler>;

/** A parameter of three ones, and a step that gives it the gradient `g` times the scale. */
function setup(options?: optim.GradScalerOptions) {
  const p = ones([3], { requiresGrad: true });
  const optimizer = new SGD([p], { lr: 0.5 });
  const scaler = new GradScaler(options);
  const backward = (g: number): void => {
    optimizer.zeroGrad();
    tidy(() => scaler.scale(p.mul(g).sum()).backward());
  };
  return { p, optimizer, scaler, backward };
}
const thrown = async (run: () => unknown): Promise<unknown> => {
  try {
    return await run();
  } catch (error) {
    return error;
  }
};
const misuse = (mentions: RegExp): object => ({
  code: 'FOVEA_ARGUMENT',
  message: expect.stringMatching(mentions) as string,
});

describe('a step', () => {
  it('sees the gradients without the scale', async () => {
    const { p, optimizer, scaler, backward } = setup();
    backward(0.25);
    expect(list(p.grad!)).toEqual([16384, 16384, 16384]);
    expect(await scaler.step(optimizer)).toBe(true);
    await scaler.update();
    expect(list(p)).toEqual([0.875, 0.875, 0.875]);
    expect(scaler.getScale()).toBe(65536);
  });
  it.each([Infinity, -Infinity, Number.NaN])('is skipped for %s, and the scale halves', async (bad) => {
    const { p, optimizer, scaler, backward } = setup();
    backward(bad);
    expect(await scaler.step(optimizer)).toBe(false);
    await scaler.update();
    expect(list(p)).toEqual([1, 1, 1]);
    expect(scaler.getScale()).toBe(32768);
    backward(1);
    expect(await scaler.step(optimizer)).toBe(true);
    expect(list(p)).toEqual([0.5, 0.5, 0.5]);
  });
  it('is skipped where backward overflows float16, and goes on once the scale fits', async () => {
    const w = tensor([[4, 4]], { requiresGrad: true });
    const optimizer = new SGD([w], { lr: 1e-3 });
    const scaler = new GradScaler();
    const steps: boolean[] = [];
    for (let i = 0; i < 4; i++) {
      optimizer.zeroGrad();
      const loss = autocast('float16', () =>
        F.linear(ones([1, 2]), w)
          .mul(ones([1]))
          .sum(),
      );
      scaler.scale(loss).backward();
      steps.push(await scaler.step(optimizer));
      await scaler.update();
    }
    // 65536 is no float16, 32768 is one
    expect(steps).toEqual([false, true, true, true]);
    expect(scaler.getScale()).toBe(32768);
    expect(list(w.grad!)).toEqual([1, 1]);
  });
  it('grows the scale after sound steps in a row', async () => {
    const { optimizer, scaler, backward } = setup({
      initScale: 8,
      growthInterval: 2,
      growthFactor: 4,
      backoffFactor: 0.25,
    });
    const scales: number[] = [];
    for (const g of [1, 1, 1, Infinity, 1, 1]) {
      backward(g);
      await scaler.step(optimizer);
      await scaler.update();
      scales.push(scaler.getScale());
    }
    expect(scales).toEqual([8, 32, 32, 8, 8, 32]);
  });
  it('does not grow the scale beyond float32', async () => {
    const { optimizer, scaler, backward } = setup({ initScale: 2 ** 127, growthInterval: 1 });
    backward(2 ** -127);
    expect(await scaler.step(optimizer)).toBe(true);
    await scaler.update();
    expect(scaler.getScale()).toBe(2 ** 127);
  });
  it('of one optimizer may be skipped, and that of another not', async () => {
    const [a, b] = [ones([2], { requiresGrad: true }), ones([2], { requiresGrad: true })];
    const optimizers = [new SGD([a], { lr: 1 }), new SGD([b], { lr: 1 })];
    const scaler = new GradScaler({ initScale: 4 });
    for (const loss of scaler.scale([a.mul(Infinity).sum(), b.sum()])) loss.backward();
    expect([await scaler.step(optimizers[0]!), await scaler.step(optimizers[1]!)]).toEqual([false, true]);
    await scaler.update();
    expect(scaler.getScale()).toBe(2);
    expect([list(a), list(b)]).toEqual([
      [1, 1],
      [0, 0],
    ]);
  });
  it('takes gradients in several dtypes, and leaves parameters without one alone', async () => {
    const params = [ones([2]), ones([2], { dtype: 'float64' }), ones([2]).bfloat16(), ones([2])];
    for (const p of params) p.requiresGrad_();
    const optimizer = new SGD(params, { lr: 1 });
    const scaler = new GradScaler({ initScale: 4 });
    for (const bad of [1, Infinity]) {
      optimizer.zeroGrad();
      params.slice(0, 3).forEach((p, i) => scaler.scale(p.mul(i === 2 ? bad : 1).sum()).backward());
      expect(await scaler.step(optimizer)).toBe(bad === 1);
      await scaler.update();
    }
    expect(params.map((p) => list(p)[0])).toEqual([0, 0, 0, 1]);
  });
  it('leaves nothing behind', async () => {
    const { optimizer, scaler, backward } = setup();
    backward(1);
    const before = memory().tensors;
    await scaler.step(optimizer);
    await scaler.update();
    backward(1);
    scaler.unscale_(optimizer);
    await scaler.update(2);
    expect(scaler.getScale()).toBe(2);
    expect(memory().tensors).toBe(before);
  });
});

describe('unscale_', () => {
  it('gives clipGradNorm_ the true norm', async () => {
    const { p, optimizer, scaler, backward } = setup();
    backward(2);
    scaler.unscale_(optimizer);
    expect(list(p.grad!)).toEqual([2, 2, 2]);
    expect(nn.utils.clipGradNorm_(p, Math.sqrt(3)).itemSync()).toBeCloseTo(Math.sqrt(12), 6);
    expect(await scaler.step(optimizer)).toBe(true);
    list(p).forEach((v) => expect(v).toBeCloseTo(0.5, 5));
  });
  it('notices what clipping has turned into NaN', async () => {
    const { p, optimizer, scaler, backward } = setup();
    backward(Infinity);
    scaler.unscale_(optimizer);
    nn.utils.clipGradNorm_(p, 1);
    expect(await scaler.step(optimizer)).toBe(false);
    expect(list(p)).toEqual([1, 1, 1]);
  });
  it('refuses float16 gradients', async () => {
    const p = ones([2], { dtype: 'float16', requiresGrad: true });
    const optimizer = new SGD([p], { lr: 1 });
    const scaler = new GradScaler();
    scaler.scale(p.sum()).backward();
    const error = await thrown(() => scaler.step(optimizer));
    expect(error).toMatchObject({ code: 'FOVEA_DTYPE', message: expect.stringMatching(/float16/) as string });
  });
});

describe('calls out of order', () => {
  it('unscale_ twice, or after step', async () => {
    const { optimizer, scaler, backward } = setup();
    backward(1);
    scaler.unscale_(optimizer);
    expect(await thrown(() => scaler.unscale_(optimizer))).toMatchObject(misuse(/unscale_: .*since the last update/));
    await scaler.step(optimizer);
    expect(await thrown(() => scaler.unscale_(optimizer))).toMatchObject(misuse(/unscale_: step\(\) was already/));
    await scaler.update();
    backward(1);
    scaler.unscale_(optimizer);
  });
  it('step twice, awaited or not', async () => {
    const { p, optimizer, scaler, backward } = setup();
    backward(1);
    const first = scaler.step(optimizer);
    expect(await thrown(() => scaler.step(optimizer))).toMatchObject(misuse(/step: .*since the last update/));
    expect(await first).toBe(true);
    expect(await thrown(() => scaler.step(optimizer))).toMatchObject(misuse(/step: .*since the last update/));
    expect(list(p)).toEqual([0.5, 0.5, 0.5]);
  });
  it('step without gradients, update without step', async () => {
    const { p, optimizer, scaler, backward } = setup();
    expect(await thrown(() => scaler.update())).toMatchObject(misuse(/update: .*step\(\) or unscale_\(\)/));
    expect(await thrown(() => scaler.step(optimizer))).toMatchObject(misuse(/step: no parameter/));
    expect(await thrown(() => scaler.update())).toMatchObject(misuse(/update: /));
    backward(1);
    expect(await scaler.step(optimizer)).toBe(true);
    await scaler.update();
    expect(list(p)).toEqual([0.5, 0.5, 0.5]);
  });
  it('anything while an update runs', async () => {
    const { optimizer, scaler, backward } = setup();
    backward(1);
    const stepped = scaler.step(optimizer);
    const updated = scaler.update();
    for (const run of [() => scaler.scale(ones([])), () => scaler.step(optimizer), () => scaler.unscale_(optimizer)])
      expect(await thrown(run)).toMatchObject(misuse(/an update\(\) is still running; await it/));
    await updated;
    expect(await stepped).toBe(true);
  });
  it('what is no optimizer, no tensor, no option', async () => {
    const { scaler } = setup();
    const wrong = {} as unknown as optim.SGD;
    expect(await thrown(() => scaler.step(wrong))).toMatchObject(misuse(/step: expected an Optimizer/));
    expect(await thrown(() => scaler.unscale_(wrong))).toMatchObject(misuse(/unscale_: expected an Optimizer/));
    expect(await thrown(() => scaler.scale(3 as unknown as Tensor))).toMatchObject(misuse(/scale/));
    expect(await thrown(() => scaler.update(0))).toMatchObject(misuse(/newScale/));
    const bad: [string, object][] = [
      ['initScale', { initScale: 0 }],
      ['growthFactor', { growthFactor: 1 }],
      ['backoffFactor', { backoffFactor: 1 }],
      ['growthInterval', { growthInterval: 0 }],
      ['enabled', { enabled: 'yes' }],
      ['options', { initialScale: 1 }],
    ];
    for (const [name, options] of bad)
      expect(await thrown(() => new GradScaler(options)), name).toMatchObject(misuse(new RegExp(name)));
  });
  it('a gradient that could not be computed is reported by step and update', async () => {
    const { p, optimizer, scaler } = setup();
    const missing = F.gather(p, 0, tensor([7], { dtype: 'int64' }));
    scaler.scale(missing.sum()).backward();
    expect(await thrown(() => scaler.step(optimizer))).toMatchObject({ code: 'FOVEA_INDEX' });
    expect(await thrown(() => scaler.update())).toMatchObject({ code: 'FOVEA_INDEX' });
    expect(scaler.getScale()).toBe(65536);
  });
});

describe('a disabled scaler', () => {
  it('passes everything', async () => {
    const { p, optimizer, scaler, backward } = setup({ enabled: false });
    expect([scaler.isEnabled(), scaler.getScale(), scaler.stateDict()]).toEqual([false, 1, {}]);
    const loss = p.sum();
    expect(scaler.scale(loss)).toBe(loss);
    backward(1);
    scaler.unscale_(optimizer);
    scaler.unscale_(optimizer);
    expect(await scaler.step(optimizer)).toBe(true);
    await scaler.update();
    scaler.loadStateDict({ scale: -1 });
    expect(list(p)).toEqual([0.5, 0.5, 0.5]);
  });
});

describe('states', () => {
  it('go on where they were', async () => {
    const { optimizer, scaler, backward } = setup({
      initScale: 4,
      growthInterval: 3,
      growthFactor: 3,
      backoffFactor: 0.1,
    });
    for (let i = 0; i < 2; i++) {
      backward(1);
      await scaler.step(optimizer);
      await scaler.update();
    }
    const state = JSON.parse(JSON.stringify(scaler.stateDict())) as optim.GradScalerState;
    const numbers = { scale: 4, growthFactor: 3, backoffFactor: 0.1, growthInterval: 3, growthTracker: 2 };
    expect(state).toEqual(numbers);
    const other: Scaler = new GradScaler();
    other.loadStateDict(state);
    expect(other.stateDict()).toEqual(numbers);
    const p = ones([1], { requiresGrad: true });
    const next = new SGD([p], { lr: 1 });
    other.scale(p.sum()).backward();
    await other.step(next);
    await other.update();
    expect(other.getScale()).toBe(12);
  });
  it('that are none are refused', async () => {
    const { scaler } = setup();
    const before = scaler.stateDict();
    for (const state of [{}, { ...before, scale: 0 }, { ...before, growthTracker: -1 }, { ...before, more: 1 }, 3])
      expect(await thrown(() => scaler.loadStateDict(state as object))).toMatchObject(misuse(/loadStateDict/));
    expect(scaler.stateDict()).toEqual(before);
  });
});

it('never blocks the event loop: other work runs while a step waits for its gradients', async () => {
  const w = randn([512, 512], { requiresGrad: true });
  const optimizer = new SGD([w], { lr: 1e-3 });
  const scaler = new GradScaler({ initScale: 1024 });
  const order: string[] = [];
  tidy(() => {
    let y = w;
    for (let i = 0; i < 4; i++) y = y.matmul(w).mul(1 / 512);
    scaler.scale(y.sum()).backward();
  });
  const step = scaler.step(optimizer).then(() => order.push('step'));
  await Promise.resolve().then(() => order.push('other'));
  await step;
  expect(order).toEqual(['other', 'step']);
});
