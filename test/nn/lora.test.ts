// Adapters: low-rank terms beside the linear layers of a model.
import { autocast, concat, manualSeed, nn, noGrad, randint, randn, record, type Tensor, tensor, tidy } from 'fovea';
import { GPT2LMHeadModel } from 'fovea/models';
import { describe, expect, it } from 'vitest';
import { codeOf, device, list } from '../helpers.js';
import { affine, type Matrix, matrix } from './reference.js';

class Two extends nn.Module {
  first = new nn.Linear(6, 9);
  second = new nn.Linear(9, 4, { bias: false });
  norm = new nn.LayerNorm(4);
  override forward(x: Tensor): Tensor {
    return this.norm.forward(this.second.forward(this.first.forward(x).tanh()));
  }
}

const smallGpt2 = (): GPT2LMHeadModel => {
  manualSeed(3);
  return new GPT2LMHeadModel({ vocabSize: 31, nPositions: 16, nEmbd: 24, nLayer: 2, nHead: 3 }).to(device).eval();
};
const ids = (rows = 2, n = 9): Tensor => randint(0, 31, [rows, n], { dtype: 'int64', device });

/** Terms that make a difference. */
function randomise(model: nn.Module): void {
  noGrad(() =>
    tidy(() => {
      for (const [key, tensor] of model.namedParameters())
        if (/lora_[AB]/.test(key)) tensor.copy_(randn(tensor.shape, { device }).mul(0.2));
    }),
  );
}
const rows = (flat: number[], width: number): Matrix =>
  Array.from({ length: flat.length / width }, (_, i) => flat.slice(i * width, (i + 1) * width));
const largest = (a: number[], b: number[]): number => Math.max(...a.map((x, i) => Math.abs(x - b[i]!)));

describe('addAdapter', () => {
  it('changes not a bit of what a model computes', () => {
    const model = smallGpt2();
    const inputIds = ids();
    const forward = (): number[] => noGrad(() => list(model.forward({ inputIds, labels: inputIds }).logits));
    const loss = (): number =>
      model.forward({ inputIds, labels: inputIds, outputLogits: false }).loss!.itemSync() as number;
    const [before, lossBefore] = [forward(), loss()];
    const names = nn.addAdapter(model, { targetModules: 'all-linear', r: 3, loraDropout: 0.5 });
    expect(names).toHaveLength(8);
    expect(names[0]).toBe('transformer.h.0.attn.c_attn');
    expect(forward()).toEqual(before);
    expect(loss()).toBe(lossBefore);
  });

  it('leaves nothing to train but A and B', () => {
    const model = smallGpt2();
    nn.addAdapter(model, { targetModules: ['c_attn'], r: 2 });
    const trained = model.namedParameters().filter(([, { requiresGrad }]) => requiresGrad);
    expect(trained.map(([key]) => key)).toEqual(
      [0, 1].flatMap((i) =>
        ['A', 'B'].map((part) => `transformer.h.${i}.attn.c_attn.lora.default.lora_${part}.weight`),
      ),
    );
    expect(trained.map(([, { shape }]) => shape)).toEqual([
      [2, 24],
      [72, 2],
      [2, 24],
      [72, 2],
    ]);
    const inputIds = ids();
    model.train().forward({ inputIds, labels: inputIds }).loss!.backward();
    expect(model.namedParameters().filter(([, { grad }]) => grad !== null)).toEqual(trained);
    // B is zero at first, so that nothing reaches A yet.
    expect(list(trained[0]![1].grad!).every((value) => value === 0)).toBe(true);
    expect(list(trained[1]![1].grad!).some((value) => value !== 0)).toBe(true);
  });

  it('draws A as Linear draws its weight', () => {
    const model = new Two().to(device);
    manualSeed(1);
    nn.addAdapter(model, { targetModules: ['first'], r: 300 });
    const a = list(model.parameters().find(({ shape }) => shape[0] === 300)!);
    expect(Math.max(...a.map(Math.abs))).toBeLessThanOrEqual(1 / Math.sqrt(6));
    expect(Math.max(...a.map(Math.abs))).toBeGreaterThan(0.98 / Math.sqrt(6));
  });

  it.each([
    [{ targetModules: ['second'] }, ['second']],
    [{ targetModules: /first|sec.*/ }, ['first', 'second']],
    [{ targetModules: 'all-linear' as const }, ['first', 'second']],
    // An expression has to match the whole name.
    [{ targetModules: /.*irst/g }, ['first']],
  ])('%j', (options, names) => {
    const model = new Two().to(device);
    expect(nn.addAdapter(model, options)).toEqual(names);
    expect(names.map((name) => model[name as 'first'])).toEqual(names.map(() => expect.any(nn.LoraLinear) as unknown));
  });

  it('trains the biases that are asked for', () => {
    const biases = (bias: 'all' | 'loraOnly'): string[] => {
      const model = new Two().to(device);
      nn.addAdapter(model, { targetModules: ['first'], bias });
      return model.namedParameters().flatMap(([key, { requiresGrad }]) => (requiresGrad ? [key] : []));
    };
    const terms = ['first.lora.default.lora_A.weight', 'first.lora.default.lora_B.weight'];
    expect(biases('loraOnly')).toEqual(['first.base_layer.bias', ...terms]);
    expect(biases('all')).toEqual(['first.base_layer.bias', ...terms, 'norm.bias']);
  });

  it('refuses what it cannot do, and changes nothing then', () => {
    const model = smallGpt2();
    const keys = Object.keys(model.stateDict());
    const targetModules = ['c_attn'];
    for (const [options, code, message] of [
      [{ targetModules, r: 0 }, 'FOVEA_ARGUMENT', /r/],
      [{ targetModules, r: 1.5 }, 'FOVEA_ARGUMENT', /r/],
      [{ targetModules, loraAlpha: Number.NaN }, 'FOVEA_ARGUMENT', /loraAlpha/],
      [{ targetModules, loraDropout: 1.2 }, 'FOVEA_ARGUMENT', /loraDropout/],
      [{ targetModules, useRslora: 1 }, 'FOVEA_ARGUMENT', /useRslora/],
      [{ targetModules, bias: 'some' }, 'FOVEA_ARGUMENT', /bias/],
      [{ targetModules, adapterName: 'a.b' }, 'FOVEA_ARGUMENT', /adapterName/],
      [{ targetModules, rank: 3 }, 'FOVEA_ARGUMENT', /rank/],
      [{}, 'FOVEA_ARGUMENT', /targetModules/],
      [{ targetModules: [] }, 'FOVEA_ARGUMENT', /targetModules/],
      [{ targetModules: 'c_attn' }, 'FOVEA_ARGUMENT', /targetModules/],
      [{ targetModules: ['c_attn', 'c_atn'] }, 'FOVEA_ARGUMENT', /c_atn.*there are c_attn, c_proj, c_fc, lm_head/],
      [{ targetModules: /nothing/ }, 'FOVEA_ARGUMENT', /matches none/],
      [{ targetModules: ['wte'] }, 'FOVEA_UNSUPPORTED', /wte is no linear layer \(Embedding\)/],
      [{ targetModules: ['mlp'] }, 'FOVEA_UNSUPPORTED', /mlp is no linear layer/],
    ] as const) {
      const call = (): unknown => nn.addAdapter(model, options as never);
      expect(codeOf(call), String(message)).toBe(code);
      expect(call).toThrow(message);
    }
    expect(codeOf(() => nn.addAdapter(randn([2]) as never, { targetModules }))).toBe('FOVEA_ARGUMENT');
    const apart = new nn.MultiheadAttention(4, 2, { kdim: 6 });
    class Holder extends nn.Module {
      attn = apart;
    }
    expect(codeOf(() => nn.addAdapter(new Holder(), { targetModules: ['attn'] }))).toBe('FOVEA_UNSUPPORTED');
    expect(Object.keys(model.stateDict())).toEqual(keys);
    expect(model.parameters().every(({ requiresGrad }) => requiresGrad)).toBe(true);
  });
});

/** One layer in a model. */
class One extends nn.Module {
  layer: nn.Linear;
  constructor(options: { dtype?: 'float32' | 'bfloat16' | 'float64' } = {}) {
    super();
    this.layer = new nn.Linear(6, 5, options);
  }
  override forward(x: Tensor): Tensor {
    return this.layer.forward(x);
  }
}
const baseOf = (model: One): nn.Linear => (model.layer as unknown as nn.LoraLinear).baseLayer as nn.Linear;
const sum = (count: number, value: (i: number) => number): number =>
  Array.from({ length: count }, (_, i) => value(i)).reduce((s, v) => s + v, 0);

describe('a layer with a term', () => {
  it.each([false, true])('is what the formula says, and so are its gradients (rslora %s)', (useRslora) => {
    const [r, alpha, n] = [3, 5, 4];
    const scale = alpha / (useRslora ? Math.sqrt(r) : r);
    const model = new One().to(device);
    nn.addAdapter(model, { targetModules: ['layer'], r, loraAlpha: alpha, useRslora });
    randomise(model);
    const base = baseOf(model);
    const [a, b] = model.parameters().filter(({ requiresGrad }) => requiresGrad) as [Tensor, Tensor];
    const [x, dy] = [matrix(n, 6, 1), matrix(n, 5, 2)];
    const input = tensor(x, { device, requiresGrad: true });
    const y = model.forward(input);
    y.mul(tensor(dy, { device })).sum().backward();

    const [A, B, W] = [rows(list(a), 6), rows(list(b), r), rows(list(base.weight), 6)];
    const low = affine(x, A);
    const term = affine(low, B);
    const expected = affine(x, W, list(base.bias!)).map((row, i) => row.map((v, j) => v + scale * term[i]![j]!));
    expect(largest(list(y), expected.flat())).toBeLessThan(5e-6);
    // dB = s dyᵀ (x Aᵀ), dA = s (dy B)ᵀ x, dx = dy W + s dy B A
    const db = B.map((row, j) => row.map((_, k) => scale * sum(n, (i) => dy[i]![j]! * low[i]![k]!)));
    const dyB = dy.map((row) => A.map((_, k) => scale * sum(5, (j) => row[j]! * B[j]![k]!)));
    const da = A.map((row, k) => row.map((_, c) => sum(n, (i) => dyB[i]![k]! * x[i]![c]!)));
    const dx = x.map((row, i) =>
      row.map((_, c) => sum(5, (j) => dy[i]![j]! * W[j]![c]!) + sum(r, (k) => dyB[i]![k]! * A[k]![c]!)),
    );
    expect(largest(list(b.grad!), db.flat())).toBeLessThan(5e-6);
    expect(largest(list(a.grad!), da.flat())).toBeLessThan(5e-6);
    expect(largest(list(input.grad!), dx.flat())).toBeLessThan(5e-6);
    expect(base.weight.grad).toBe(null);
  });

  it('takes any number of rows, and none', () => {
    const model = new One().to(device);
    nn.addAdapter(model, { targetModules: ['layer'], r: 2 });
    randomise(model);
    for (const shape of [[6], [1, 6], [2, 3, 6], [0, 6], [2, 0, 6]])
      expect(model.forward(randn(shape, { device })).shape).toEqual([...shape.slice(0, -1), 5]);
  });

  it('drops what the term takes, in training alone', () => {
    const model = new One().to(device);
    nn.addAdapter(model, { targetModules: ['layer'], r: 2, loraDropout: 0.5 });
    randomise(model);
    const x = randn([3, 6], { device });
    const forward = (): number[] => noGrad(() => list(model.forward(x)));
    expect(forward()).not.toEqual(forward());
    model.eval();
    expect(forward()).toEqual(forward());
    nn.disableAdapters(model);
    model.train();
    expect(forward()).toEqual(noGrad(() => list(baseOf(model).forward(x))));
  });

  it('is of the dtype of its layer, with terms in float32 or float64', () => {
    for (const [dtype, ofTerm] of [
      ['float32', 'float32'],
      ['bfloat16', 'float32'],
      ['float64', 'float64'],
    ] as const) {
      const model = new One({ dtype }).to(device);
      const x = randn([3, 6], { dtype, device });
      const before = list(model.forward(x));
      nn.addAdapter(model, { targetModules: ['layer'], r: 2 });
      expect(list(model.forward(x)), dtype).toEqual(before);
      randomise(model);
      const y = model.forward(x);
      expect(y.dtype).toBe(dtype);
      expect(list(y)).not.toEqual(before);
      const terms = model.parameters().filter(({ requiresGrad }) => requiresGrad);
      expect(terms.map((term) => term.dtype)).toEqual([ofTerm, ofTerm]);
      y.square().mean().backward();
      expect(terms.every(({ grad }) => grad!.dtype === ofTerm)).toBe(true);
    }
  });

  it('computes under autocast as other layers do', () => {
    const model = smallGpt2();
    nn.addAdapter(model, { targetModules: 'all-linear', r: 4 });
    randomise(model);
    const inputIds = ids();
    const loss = (): Tensor => model.forward({ inputIds, labels: inputIds }).loss!;
    const exact = loss();
    exact.backward();
    const terms = model.parameters().filter(({ requiresGrad }) => requiresGrad);
    const gradients = terms.map(({ grad }) => list(grad!));
    model.zeroGrad();
    const rounded = autocast('bfloat16', loss);
    rounded.backward();
    expect(rounded.itemSync()).not.toBe(exact.itemSync());
    expect(Math.abs((rounded.itemSync() as number) / (exact.itemSync() as number) - 1)).toBeLessThan(5e-3);
    for (const [i, { grad }] of terms.entries()) {
      expect(grad!.dtype).toBe('float32');
      const exactly = gradients[i]!;
      const square = (values: number[]): number => values.reduce((total, value) => total + value * value, 0);
      expect(square(list(grad!).map((value, at) => value - exactly[at]!)) / square(exactly)).toBeLessThan(3e-2);
    }
  });

  it('stands beside quantised weights, whichever came first', () => {
    const x = ids();
    const logits = (model: GPT2LMHeadModel): number[] => noGrad(() => list(model.forward({ inputIds: x }).logits));
    const filter = (name: string): boolean => /attn\.c_attn/.test(name);
    const [one, other] = [smallGpt2(), smallGpt2()];
    nn.quantize_(one, { type: 'int8', filter });
    const before = logits(one);
    nn.addAdapter(one, { targetModules: ['c_attn'], r: 2 });
    expect(logits(one)).toEqual(before);
    nn.addAdapter(other, { targetModules: ['c_attn'], r: 2 });
    expect(nn.quantize_(other, { type: 'int8', filter })[0]).toBe('transformer.h.0.attn.c_attn.base_layer');
    expect(logits(other)).toEqual(before);
    const labels = x;
    one.forward({ inputIds: x, labels }).loss!.backward();
    const trained = one.parameters().filter(({ requiresGrad }) => requiresGrad);
    expect(trained.map(({ grad }) => grad !== null)).toEqual([true, true, true, true]);
    const call = (): void => nn.mergeAdapters(one);
    expect(codeOf(call)).toBe('FOVEA_UNSUPPORTED');
    expect(call).toThrow(/transformer\.h\.0\.attn\.c_attn is quantised \(int8\)/);
  });

  it('is recorded and generated with, and generation follows what is active', async () => {
    const model = smallGpt2();
    const inputIds = ids(1, 5);
    const generated = async (): Promise<number[]> => list(await model.generate({ inputIds, maxNewTokens: 6 }));
    const plain = await generated();
    nn.addAdapter(model, { targetModules: 'all-linear', r: 4 });
    noGrad(() => model.parameters().forEach((p) => p.requiresGrad && void p.copy_(randn(p.shape, { device }))));
    model.eval();
    expect(model.recordable).toBe(true);
    const adapted = await generated();
    expect(adapted).not.toEqual(plain);
    const greedy = noGrad(() => {
      let all = inputIds;
      for (let i = 0; i < 6; i++)
        all = concat([all, model.forward({ inputIds: all }).logits.select(1, -1).argmax(-1, { keepdim: true })], 1);
      return list(all);
    });
    expect(adapted).toEqual(greedy);
    nn.disableAdapters(model);
    expect(await generated()).toEqual(plain);

    const two = new Two().to(device).eval();
    const step = noGrad(() => record((x: Tensor) => two.forward(x)));
    const x = randn([2, 6], { device });
    const first = noGrad(() => list(step(x)));
    nn.addAdapter(two, { targetModules: ['first'] });
    randomise(two);
    two.eval();
    const second = noGrad(() => list(step(x)));
    expect(second).not.toEqual(first);
    expect(second).toEqual(noGrad(() => list(two.forward(x))));
  });
});
