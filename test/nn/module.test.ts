// Modules: what they list, save, load, convert and free; initialisers; optimizers and schedules.
import { full, manualSeed, memory, nn, noGrad, optim, randn, tensor, type Tensor, zeros } from 'fovea';
import { describe, expect, test } from 'vitest';
import { compare } from '../golden.js';

class Net extends nn.Module {
  static override readonly stateDictKeys = { ln1: 'ln_1' };
  scale: Tensor = nn.parameter(tensor([1, 2]));
  ln1: nn.LayerNorm = new nn.LayerNorm(2);
  layers: nn.Linear[] = [new nn.Linear(2, 2), new nn.Linear(2, 2, { bias: false })];

  constructor() {
    super();
    this.registerBuffer('runningMean', zeros([2]));
    this.registerBuffer('temporary', zeros([1]), { persistent: false });
  }

  override forward(x: Tensor): Tensor {
    return this.layers.reduce((h, layer) => layer.forward(h), this.ln1.forward(x.mul(this.scale)));
  }
}

const keys = [
  'scale',
  'running_mean',
  'ln_1.weight',
  'ln_1.bias',
  'layers.0.weight',
  'layers.0.bias',
  'layers.1.weight',
];

describe('a module', () => {
  test('lists its parts in definition order, under snake case or given keys', () => {
    const net = new Net();
    expect(Object.keys(net.stateDict())).toEqual(keys);
    expect(net.namedParameters().map(([key]) => key)).toEqual(keys.filter((key) => key !== 'running_mean'));
    expect(net.namedBuffers().map(([key]) => key)).toEqual(['running_mean', 'temporary']);
    expect(net.namedModules().map(([key]) => key)).toEqual(['', 'ln_1', 'layers.0', 'layers.1']);
    expect(net.numParameters()).toBe(2 + 4 + 6 + 4);
  });

  test('switches training, gradients and dtype below it', () => {
    const net = new Net();
    expect(
      net
        .eval()
        .modules()
        .every(({ training }) => !training),
    ).toBe(true);
    expect(
      net
        .train()
        .modules()
        .every(({ training }) => training),
    ).toBe(true);
    expect(
      net
        .requiresGrad_(false)
        .parameters()
        .some(({ requiresGrad }) => requiresGrad),
    ).toBe(false);
    expect(net.parameters()).toHaveLength(6);
    net.requiresGrad_(true).to('float64');
    expect(Object.values(net.stateDict()).every(({ dtype }) => dtype === 'float64')).toBe(true);
    expect(net.parameters().every(({ requiresGrad, isLeaf }) => requiresGrad && isLeaf)).toBe(true);
  });

  test('tied weights stay one through conversion and loading', () => {
    const [a, b] = [new nn.Linear(2, 2, { bias: false }), new nn.Linear(2, 2, { bias: false })];
    class Tied extends nn.Module {
      first: nn.Linear = a;
      second: nn.Linear = b;
    }
    b.weight = a.weight;
    const tied = new Tied().to('float64');
    expect(tied.first.weight).toBe(tied.second.weight);
    expect(tied.parameters()).toHaveLength(1);
    expect(Object.keys(tied.stateDict())).toEqual(['first.weight', 'second.weight']);
    expect(tied.loadStateDict({ 'second.weight': full([2, 2], 3) })).toEqual({ missingKeys: [], unexpectedKeys: [] });
    tied.loadStateDict({ 'first.weight': full([2, 2], 4) }, { assign: true });
    expect(tied.first.weight).toBe(tied.second.weight);
  });

  test('hooks see and replace arguments and results', async () => {
    const layer = new nn.Linear(2, 2);
    const seen: string[] = [];
    const pre = layer.registerForwardPreHook((module, args) => {
      seen.push(`${module === layer} ${args.length}`);
      return [(args[0] as Tensor).mul(0)];
    });
    const post = layer.registerForwardHook((_module, _args, output) => (output as Tensor).add(10));
    await layer.forward(tensor([[1, 2]])).data();
    const out = await layer.forward(tensor([[1, 2]])).data();
    const bias = await layer.bias!.data();
    expect(out[0]).toBeCloseTo(bias[0]! + 10, 5);
    pre.remove();
    post.remove();
    layer.forward(tensor([[1, 2]]));
    expect(seen).toEqual(['true 1', 'true 1']);
  });

  test('a call frees what it made and did not return', () => {
    const net = new Net();
    const x = randn([3, 2]);
    noGrad(() => net.forward(x)).dispose();
    const before = memory().tensors;
    for (let i = 0; i < 5; i++) noGrad(() => net.forward(x)).dispose();
    expect(memory().tensors).toBe(before);
    // With the tape, backward frees what only the tape held.
    const [y, gradient] = [net.forward(x), randn([3, 2])];
    y.backward(gradient);
    y.dispose();
    gradient.dispose();
    net.zeroGrad();
    expect(memory().tensors).toBe(before);
  });

  test('dispose frees its tensors', () => {
    const net = new Net();
    const weight = net.ln1.weight!;
    net.dispose();
    expect(weight.isDisposed).toBe(true);
  });

  test('without forward it says so', () => {
    class Empty extends nn.Module {}
    expect(() => new Empty().forward()).toThrow(/Empty does not define forward/);
  });
});

describe('loadStateDict', () => {
  const good = (): Record<string, Tensor> =>
    Object.fromEntries(Object.entries(new Net().stateDict()).map(([key, x]) => [key, full([...x.shape], 0.5)]));

  test('copies and converts', async () => {
    const net = new Net();
    const before = net.ln1.weight;
    net.loadStateDict({ ...good(), 'ln_1.weight': full([2], 7, { dtype: 'float64' }) });
    expect(net.ln1.weight).toBe(before);
    expect(await net.ln1.weight!.data()).toEqual(new Float32Array([7, 7]));
  });

  test('is strict, and changes nothing when it fails', async () => {
    const net = new Net();
    const before = await net.scale.data();
    const { 'ln_1.bias': _left, ...rest } = good();
    const bad = { ...rest, extra: zeros([1]) };
    expect(() => net.loadStateDict(bad)).toThrow(/missing: ln_1\.bias; unexpected: extra/);
    expect(() => net.loadStateDict({ ...good(), 'layers.1.weight': zeros([2, 3]) })).toThrow(
      /layers\.1\.weight has shape \[2,3\], but the module needs \[2,2\]/,
    );
    expect(await net.scale.data()).toEqual(before);
    expect(net.loadStateDict(bad, { strict: false })).toEqual({
      missingKeys: ['ln_1.bias'],
      unexpectedKeys: ['extra'],
    });
    expect(await net.scale.data()).toEqual(new Float32Array([0.5, 0.5]));
  });

  test('can take the tensors themselves', () => {
    const net = new Net();
    const dict = good();
    net.loadStateDict(dict, { assign: true });
    expect(net.scale).toBe(dict['scale']);
    expect(net.scale.requiresGrad).toBe(true);
    expect(net.parameters()).toHaveLength(6);
  });
});

describe('initialisers', () => {
  const statistics = async (x: Tensor): Promise<{ mean: number; std: number; min: number; max: number }> => {
    const values = await x.data();
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    const std = Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length);
    return { mean, std, min: values.reduce((a, b) => Math.min(a, b)), max: values.reduce((a, b) => Math.max(a, b)) };
  };
  const [out, inputs] = [300, 200];
  const bound = Math.sqrt(6 / (out + inputs));
  test.each<[string, (x: Tensor) => Tensor, number, number]>([
    ['xavierUniform_', (x) => nn.init.xavierUniform_(x), bound / Math.sqrt(3), bound],
    ['xavierUniform_ with gain', (x) => nn.init.xavierUniform_(x, { gain: 2 }), (2 * bound) / Math.sqrt(3), 2 * bound],
    ['xavierNormal_', (x) => nn.init.xavierNormal_(x), Math.sqrt(2 / (out + inputs)), Number.POSITIVE_INFINITY],
    [
      'kaimingUniform_',
      (x) => nn.init.kaimingUniform_(x, { nonlinearity: 'relu' }),
      Math.sqrt(2 / inputs),
      Math.sqrt(6 / inputs),
    ],
    [
      'kaimingUniform_ of Linear',
      (x) => nn.init.kaimingUniform_(x, { a: Math.sqrt(5) }),
      1 / Math.sqrt(3 * inputs),
      1 / Math.sqrt(inputs),
    ],
    [
      'kaimingNormal_ by fanOut',
      (x) => nn.init.kaimingNormal_(x, { mode: 'fanOut', nonlinearity: 'relu' }),
      Math.sqrt(2 / out),
      Number.POSITIVE_INFINITY,
    ],
    // The standard deviation of a standard normal cut at ±2.
    ['truncNormal_', (x) => nn.init.truncNormal_(x), 0.87962, 2],
  ])('%s', async (_name, fill, std, limit) => {
    manualSeed(11);
    const x = zeros([out, inputs]);
    expect(fill(x)).toBe(x);
    const { mean, std: measured, min, max } = await statistics(x);
    expect(Math.abs(mean)).toBeLessThan((5 * std) / Math.sqrt(out * inputs));
    expect(measured / std).toBeCloseTo(1, 1);
    expect(Math.max(-min, max)).toBeLessThanOrEqual(limit * (1 + 1e-6));
  });

  test('truncNormal_ far from the middle stays within its limits', async () => {
    manualSeed(12);
    const { mean, min, max } = await statistics(nn.init.truncNormal_(zeros([20_000]), { mean: 5, std: 2, a: 7, b: 9 }));
    expect(min).toBeGreaterThanOrEqual(7);
    expect(max).toBeLessThanOrEqual(9);
    // 5 + 2 (φ(1) - φ(2)) / (Φ(2) - Φ(1))
    expect(mean).toBeCloseTo(7.7661, 1);
  });

  test('a vector has no fan', () => {
    expect(() => nn.init.xavierUniform_(zeros([3]))).toThrow(/2 or more dimensions/);
  });
});

describe('optimizers', () => {
  const start = [1, -2, 3];
  const gradients = [
    [0.5, -0.25, 2],
    [-1, 0.5, 0.75],
    [0.125, 3, -0.5],
  ];

  async function run(make: (p: Tensor) => optim.AdamW | optim.Adam | optim.SGD): Promise<Float32Array> {
    const p = nn.parameter(tensor(start));
    const optimizer = make(p);
    for (const g of gradients) {
      p.mul(tensor(g)).sum().backward();
      optimizer.step();
      optimizer.zeroGrad();
    }
    return p.data();
  }

  function adam(decay: number, decoupled: boolean): number[] {
    const [lr, b1, b2, eps] = [0.1, 0.8, 0.9, 1e-6];
    return start.map((initial, i) => {
      let [p, m, v] = [initial, 0, 0];
      for (const [t, row] of gradients.entries()) {
        const g = row[i]! + (decoupled ? 0 : decay * p);
        if (decoupled) p -= lr * decay * p;
        m = b1 * m + (1 - b1) * g;
        v = b2 * v + (1 - b2) * g * g;
        p -= (lr * (m / (1 - b1 ** (t + 1)))) / (Math.sqrt(v / (1 - b2 ** (t + 1))) + eps);
      }
      return p;
    });
  }

  const options = { lr: 0.1, betas: [0.8, 0.9], eps: 1e-6, weightDecay: 0.3 } as const;
  test('AdamW', async () => {
    expect(compare(await run((p) => new optim.AdamW([p], options)), adam(0.3, true)).difference).toBeLessThan(1e-5);
  });
  test('Adam', async () => {
    expect(compare(await run((p) => new optim.Adam([p], options)), adam(0.3, false)).difference).toBeLessThan(1e-5);
  });

  test.each([
    { momentum: 0, dampening: 0, nesterov: false },
    { momentum: 0.9, dampening: 0, nesterov: false },
    { momentum: 0.9, dampening: 0.5, nesterov: false },
    { momentum: 0.9, dampening: 0, nesterov: true },
  ])('SGD %o', async (variant) => {
    const [lr, decay] = [0.1, 0.05];
    const expected = start.map((initial, i) => {
      let p = initial;
      let u: number | undefined;
      for (const row of gradients) {
        const g = row[i]! + decay * p;
        u = u === undefined ? g : variant.momentum * u + (1 - variant.dampening) * g;
        p -= lr * (variant.momentum === 0 ? g : variant.nesterov ? g + variant.momentum * u : u);
      }
      return p;
    });
    const actual = await run((p) => new optim.SGD([p], { lr, weightDecay: decay, ...variant }));
    expect(compare(actual, expected).difference).toBeLessThan(1e-5);
  });

  test('groups have options of their own; a parameter without a gradient stays', async () => {
    const [a, b, c] = [1, 1, 1].map((value) => nn.parameter(tensor([value])));
    const optimizer = new optim.SGD([{ params: [a!] }, { params: [b!, c!], lr: 1 }], { lr: 0.1 });
    a!.add(b!).sum().backward();
    optimizer.step();
    expect(await Promise.all([a!, b!, c!].map((x) => x.item()))).toEqual([expect.closeTo(0.9, 6), 0, 1]);
    expect(() => new optim.SGD([a!, a!])).toThrow(/each parameter once/);
    expect(() => new optim.SGD([])).toThrow(/at least one parameter/);
    expect(() => new optim.SGD([a!.mul(2)])).toThrow(/leaf tensors/);
    expect(() => new optim.AdamW([{ params: [a!], rate: 1 } as never])).toThrow(/rate/);
  });

  test('state saved and loaded continues as if nothing happened', async () => {
    const train = async (interrupt: boolean): Promise<Float32Array> => {
      const p = nn.parameter(tensor(start));
      let optimizer = new optim.AdamW([p], options);
      for (const [i, g] of gradients.entries()) {
        if (interrupt && i === 2) {
          const next = new optim.AdamW([p], { lr: 99 });
          next.loadStateDict(optimizer.stateDict());
          optimizer.dispose();
          optimizer = next;
        }
        p.mul(tensor(g)).sum().backward();
        optimizer.step();
        optimizer.zeroGrad();
      }
      return p.data();
    };
    expect(await train(true)).toEqual(await train(false));
  });

  test('clipGradNorm_', async () => {
    const [a, b] = [nn.parameter(tensor([3, 0])), nn.parameter(tensor([[4]]))];
    a.square().sum().add(b.square().sum()).div(2).backward();
    expect(await nn.utils.clipGradNorm_([a, b], 1).item()).toBeCloseTo(5, 5);
    expect(compare(await a.grad!.data(), [0.6, 0]).difference).toBeLessThan(1e-6);
    expect(await b.grad!.item()).toBeCloseTo(0.8, 5);
    expect(await nn.utils.clipGradNorm_([a, b], 10).item()).toBeCloseTo(1, 5);
    expect(await b.grad!.item()).toBeCloseTo(0.8, 5);
    expect(await nn.utils.clipGradNorm_([], 1).item()).toBe(0);
    a.grad!.fill_(Number.NaN);
    expect(() => nn.utils.clipGradNorm_([a], 1, { errorIfNonfinite: true })).toThrow(
      expect.objectContaining({ code: 'FOVEA_NAN' }),
    );
  });

  test('warm-up and cosine', () => {
    const optimizer = new optim.SGD([nn.parameter(tensor([1]))], { lr: 2 });
    const scheduler = optim.lrScheduler.warmupCosine(optimizer, { warmupSteps: 2, totalSteps: 6, minLrRatio: 0.1 });
    const rates: number[] = [];
    for (let i = 0; i < 8; i++) {
      rates.push(scheduler.getLastLr()[0]!);
      scheduler.step();
    }
    const cosine = (progress: number): number => 2 * (0.1 + 0.45 * (1 + Math.cos(Math.PI * progress)));
    const expected = [1, 2, cosine(0), cosine(0.25), cosine(0.5), cosine(0.75), 0.2, 0.2];
    expect(compare(rates, expected).difference).toBeLessThan(1e-12);
    scheduler.loadStateDict({ lastEpoch: 1 });
    expect(scheduler.getLastLr()).toEqual([2]);
  });
});
