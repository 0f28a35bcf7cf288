// States of Adam, AdamW and Lion in 16 and 8 bits: how much memory they take, how near training stays to float32
// states, what becomes of slow averages, NaN and odd sizes, saving, recording.
import {
  functional as F,
  Generator,
  manualSeed,
  memory,
  nn,
  optim,
  randn,
  record,
  type Tensor,
  tensor,
  tidy,
} from 'fovea';
import { describe, expect, it } from 'vitest';
import { codeOf, device, list } from '../helpers.js';
import { mlp, normal } from '../tensor/mlp.js';

type AnyOptimizer = optim.Optimizer<{ lr: number }>;
type Compact = 'bfloat16' | 'int8';
type Make = (params: Iterable<Tensor>, stateDtype?: optim.StateDtype) => AnyOptimizer;
const kinds: [string, Make, number][] = [
  ['Adam', (params, stateDtype = 'float32') => new optim.Adam(params, { lr: 0.01, stateDtype }), 2],
  ['AdamW', (params, stateDtype = 'float32') => new optim.AdamW(params, { lr: 0.01, stateDtype }), 2],
  ['AMSGrad', (params, stateDtype = 'float32') => new optim.AdamW(params, { lr: 0.01, amsgrad: true, stateDtype }), 3],
  ['Lion', (params, stateDtype = 'float32') => new optim.Lion(params, { lr: 0.002, stateDtype }), 1],
];
const both = ['bfloat16', 'int8'] as const;
const cases = kinds.flatMap(([name, make, states]) => both.map((dtype) => [name, dtype, make, states] as const));
const bits = (optimizer: AnyOptimizer): unknown =>
  Object.values(optimizer.stateDict().state).map((entry) =>
    Object.entries(entry).map(([name, value]) => [name, typeof value === 'number' ? value : list(value)]),
  );

/** A teacher's function, learned by a network that starts elsewhere. @returns losses */
function learn(make: (params: Iterable<Tensor>) => AnyOptimizer, steps: number): number[] {
  manualSeed(5);
  const sizes = [16, 64, 64, 4];
  const layers = (): nn.Linear[] => sizes.slice(1).map((out, i) => new nn.Linear(sizes[i]!, out).to(device));
  const [teacher, student] = [layers(), layers()];
  const apply = (net: nn.Linear[], x: Tensor): Tensor =>
    net.reduce((h, layer, i) => (i === net.length - 1 ? layer.forward(h) : F.gelu(layer.forward(h).mul(2))), x);
  using optimizer = make(student.flatMap((layer) => layer.parameters()));
  return Array.from({ length: steps }, (_, step) =>
    tidy(() => {
      const x = randn([64, 16], { generator: new Generator(step), device });
      const loss = F.mseLoss(apply(student, x), apply(teacher, x).detach().mul(4));
      optimizer.zeroGrad();
      loss.backward();
      optimizer.step();
      return loss.itemSync();
    }),
  );
}
const exactLosses = new Map<Make, number[]>();
const mean = (x: number[]): number => x.reduce((a, b) => a + b, 0) / x.length;

describe.each(cases)('%s with states in %s', (_, stateDtype, make, states) => {
  it('learns nearly as with float32', () => {
    const exact = exactLosses.get(make) ?? learn(make, 100);
    exactLosses.set(make, exact);
    const losses = learn((params) => make(params, stateDtype), 100);
    const [wanted, got] = [mean(exact.slice(-10)), mean(losses.slice(-10))];
    expect(losses[0]).toBe(exact[0]);
    expect(wanted).toBeLessThan(exact[0]! / 2);
    expect(Math.abs(got / wanted - 1)).toBeLessThan(0.05);
  });

  it('takes the memory that it says', () => {
    const sizes = [4096, 1000, 1];
    const params = sizes.map((n) => nn.parameter(randn([n], { device })));
    for (const p of params) p.grad = randn([p.size], { device });
    const optimizer = make(params, stateDtype);
    optimizer.step();
    const entries = Object.values(optimizer.stateDict().state);
    for (const [k, n] of sizes.entries()) {
      const tensors = Object.values(entries[k]!).filter((value) => typeof value !== 'number');
      const bytes = tensors.map((t) => t.size * { bfloat16: 2, uint8: 1, float32: 4 }[t.dtype as 'uint8']);
      const expected = stateDtype === 'int8' ? n + 4 * Math.ceil(n / 256) : 2 * n;
      expect(bytes.reduce((a, b) => a + b)).toBe(states * expected);
    }
    const live = (): number => memory().devices[params[0]!.device]!.live;
    const before = live();
    optimizer.dispose();
    expect(before - live()).toBeGreaterThanOrEqual(states * 4096 * (stateDtype === 'int8' ? 1 : 2));
  });

  it.each(['float32', 'float64', 'bfloat16', 'float16'] as const)('takes parameters of %s, of any size', (dtype) => {
    const sizes = [0, 1, 255, 256, 257, 1025, 33_000];
    const run = (kind?: Compact): number[][] => {
      const params = sizes.map((n, k) => nn.parameter(randn([n], { generator: new Generator(k), device }).to(dtype)));
      const optimizer = make(params, kind);
      for (let step = 0; step < 4; step++) {
        params.forEach((p, k) => {
          const g = randn([p.size], { generator: new Generator(100 * step + k), device });
          p.grad = g.sign().mul(g.abs().add(0.5)).to(dtype);
        });
        optimizer.step();
      }
      return params.map(list);
    };
    const [exact, compact] = [run(), run(stateDtype)];
    // Four steps move by at most 0.04: what is rounded in the states is a small part of that.
    const off = exact.flatMap((values, k) => values.map((v, i) => Math.abs(v - compact[k]![i]!)));
    const step = { float32: 0, float64: 0, bfloat16: 2 ** -6, float16: 2 ** -9 }[dtype];
    expect(mean(off)).toBeLessThan(0.0015 + step);
    expect(Math.max(...off)).toBeLessThan(0.02 + 2 * step);
  });

  it('shows a NaN', () => {
    const p = nn.parameter(randn([300], { device }));
    const optimizer = make([p], stateDtype);
    const step = (bad: number): void => {
      p.grad = tensor(
        Array.from({ length: 300 }, (__, i) => (i === 7 ? bad : 1)),
        { device },
      );
      optimizer.step();
    };
    step(Number.NaN);
    step(1);
    const values = list(p);
    expect(values[7]).toBeNaN();
    expect(values.slice(256).some(Number.isNaN)).toBe(false);
  });

  it('goes on from a saved state with the same bits', () => {
    const params = [300, 40].map((n, k) => nn.parameter(randn([n], { generator: new Generator(k), device })));
    const optimizer = make(params, stateDtype);
    const step = (o: AnyOptimizer, of: Tensor[], seed: number): void => {
      of.forEach((p, k) => (p.grad = randn([p.size], { generator: new Generator(100 * seed + k), device })));
      o.step();
    };
    for (let i = 0; i < 5; i++) step(optimizer, params, i);
    const copies = params.map((p) => nn.parameter(p.detach().clone()));
    const resumed = make(copies);
    resumed.loadStateDict(optimizer.stateDict());
    expect(bits(resumed)).toEqual(bits(optimizer));
    for (let i = 5; i < 9; i++) {
      step(optimizer, params, i);
      step(resumed, copies, i);
    }
    expect(copies.map(list)).toEqual(params.map(list));
    expect(bits(resumed)).toEqual(bits(optimizer));
  });

  it('has the same bits in recorded steps', () => {
    const train = (recorded: boolean): unknown => {
      const model = mlp();
      const optimizer = make(model.parameters(), stateDtype);
      const run = (x: Tensor, y: Tensor): Tensor => {
        model.zeroGrad();
        const loss = F.mseLoss(model.forward(x), y);
        loss.backward();
        optimizer.step();
        return loss;
      };
      using step = record(run);
      const losses = Array.from({ length: 10 }, (__, i) =>
        (recorded ? step : run)(normal([4, 7], i), normal([4, 5], 100 + i)).itemSync(),
      );
      if (recorded) expect(step.recordings).toBe(1);
      return { losses, parameters: model.parameters().map(list), state: bits(optimizer) };
    };
    expect(train(true)).toEqual(train(false));
  });
});

describe.each(both)('averages in %s', (stateDtype) => {
  it('follow gradients that slowly change', () => {
    // Of decay 0.999, an average takes in a thousandth at a time: less than half of what the last bit is worth.
    const n = 512;
    const sizes = Array.from({ length: n }, (_, i) => 1 + (i % 5));
    const p = nn.parameter(tensor(new Float32Array(n), { device }));
    const optimizer = new optim.Adam([p], { lr: 0, stateDtype });
    let [squares, steps] = [0, 0];
    const step = (scale: number): void => {
      p.grad = tensor(
        sizes.map((size) => scale * size),
        { device },
      );
      optimizer.step();
      squares = 0.999 * squares + 0.001 * scale ** 2;
      steps++;
    };
    /** The averages of squares, by how far a step with rate 1 goes, in units of what they should be. */
    const averages = (scale: number): number[] => {
      const before = list(p);
      optimizer.paramGroups[0]!.lr = 1;
      step(scale);
      optimizer.paramGroups[0]!.lr = 0;
      const moved = list(p).map((v, i) => before[i]! - v);
      return moved.map((m) => (scale / m) ** 2 / (squares / (1 - 0.999 ** steps)));
    };
    for (let i = 0; i < 100; i++) step(1);
    const first = averages(1);
    for (let i = 0; i < 2000; i++) step(0.1);
    for (const found of [first, averages(0.1)]) {
      for (const v of found) expect(Math.abs(v - 1)).toBeLessThan(0.35);
      expect(Math.abs(mean(found) - 1)).toBeLessThan(0.05);
    }
  });
});

it('small squares are not lost beside large ones, as they are divided by', () => {
  const p = nn.parameter(tensor([0, 0], { device }));
  const optimizer = new optim.Adam([p], { lr: 1, stateDtype: 'int8' });
  for (let step = 0; step < 5; step++) {
    p.grad = tensor([1e6, 1e-3], { device });
    optimizer.step();
  }
  for (const v of list(p)) expect(Math.abs(v)).toBeLessThan(6);
});

it('says what does not fit', () => {
  const p = nn.parameter(randn([300], { device }));
  p.grad = randn([300], { device });
  expect(() => new optim.AdamW([p], { stateDtype: 'float16' as never })).toThrow(/AdamW.*stateDtype.*float16/);
  expect(() => new optim.Lion([p], { stateDtype: 8 as never })).toThrow(/Lion.*stateDtype/);
  const wide = new optim.AdamW([p]);
  wide.step();
  const { state, paramGroups } = wide.stateDict();
  const narrow = new optim.AdamW([p], { stateDtype: 'int8' });
  const { stateDtype: _, ...group } = paramGroups[0]!;
  narrow.loadStateDict({ state, paramGroups: [group as never] });
  expect(codeOf(() => narrow.step())).toMatch(/FOVEA_(DTYPE|ARGUMENT)/);
  narrow.dispose();
  narrow.step();
  const saved = narrow.stateDict();
  const { expAvgScales, ...others } = saved.state[0]!;
  const short = { ...others, expAvgScales: (expAvgScales as Tensor).narrow(0, 0, 1) };
  expect(() => wide.loadStateDict({ ...saved, state: { 0: short } })).toThrow(/expAvgScales.*\[1\], expected \[2\]/);
});
