// Several adapters in one model, merging, removing and training them.
import { manualSeed, memory, nn, noGrad, optim, randint, randn, type Tensor, tidy } from 'fovea';
import { GPT2LMHeadModel } from 'fovea/models';
import { trainCausalLM } from 'fovea/train';
import { describe, expect, it } from 'vitest';
import { codeOf, device, list } from '../helpers.js';

const smallGpt2 = (): GPT2LMHeadModel => {
  manualSeed(3);
  return new GPT2LMHeadModel({ vocabSize: 31, nPositions: 16, nEmbd: 24, nLayer: 2, nHead: 3 }).to(device).eval();
};
const inputIds = randint(0, 31, [2, 9], { dtype: 'int64', device });
const logits = (model: GPT2LMHeadModel): number[] => noGrad(() => list(model.forward({ inputIds }).logits));

/** Terms of one adapter that make a difference. */
function randomise(model: nn.Module, name = 'default'): void {
  noGrad(() =>
    tidy(() => {
      for (const [key, tensor] of model.namedParameters())
        if (key.includes(`.${name}.lora_`)) tensor.copy_(randn(tensor.shape, { device }).mul(0.2));
    }),
  );
}
const largest = (a: number[], b: number[]): number => Math.max(...a.map((x, i) => Math.abs(x - b[i]!)));

describe('several adapters', () => {
  it('are used one by one, together or not at all', () => {
    const model = smallGpt2();
    const none = logits(model);
    const only = ['one', 'two'].map((adapterName) => {
      nn.addAdapter(model, { targetModules: adapterName === 'one' ? ['c_attn'] : ['c_attn', 'c_fc'], adapterName });
      randomise(model, adapterName);
      expect(nn.activeAdapters(model)).toEqual([adapterName]);
      return logits(model);
    });
    expect(only[0]).not.toEqual(none);
    expect(only[1]).not.toEqual(only[0]);
    nn.setAdapter(model, 'one');
    expect(logits(model)).toEqual(only[0]);
    const trained = model.namedParameters().filter(([, { requiresGrad }]) => requiresGrad);
    expect(trained.every(([key]) => key.includes('.one.'))).toBe(true);
    nn.setAdapter(model, ['one', 'two']);
    const both = logits(model);
    expect([only[0], only[1], none]).not.toContainEqual(both);
    nn.setAdapter(model, []);
    expect(logits(model)).toEqual(none);
    nn.setAdapter(model, ['one', 'two']);
    nn.disableAdapters(model);
    expect([logits(model), nn.activeAdapters(model)]).toEqual([none, []]);
    nn.enableAdapters(model);
    expect(logits(model)).toEqual(both);
    nn.mergeAdapters(model);
    expect(largest(logits(model), both)).toBeLessThan(2e-5);
    nn.unmergeAdapters(model);
    nn.deleteAdapter(model, 'two');
    expect(logits(model).map((v) => v.toFixed(4))).toEqual(only[0]!.map((v) => v.toFixed(4)));
    expect(model.modules().filter((module) => module instanceof nn.LoraLinear)).toHaveLength(2);
    nn.deleteAdapter(model, 'one');
    expect(model.modules().filter((module) => module instanceof nn.LoraLinear)).toHaveLength(0);
  });

  it('have names', () => {
    const model = smallGpt2();
    expect(codeOf(() => nn.setAdapter(model, 'x'))).toBe('FOVEA_ARGUMENT');
    nn.addAdapter(model, { targetModules: ['c_attn'] });
    for (const call of [
      () => nn.addAdapter(model, { targetModules: ['c_attn'] }),
      () => nn.addAdapter(model, { targetModules: ['c_attn'], adapterName: 'b', bias: 'all' }),
      () => nn.setAdapter(model, 'x'),
      () => nn.setAdapter(model, 3 as never),
      () => nn.deleteAdapter(model, 'x'),
      () => nn.unloadAdapters(model, { merged: true } as never),
    ])
      expect(codeOf(call)).toBe('FOVEA_ARGUMENT');
    expect(() => nn.setAdapter(model, 'x')).toThrow(/there are default/);
  });
});

describe('merging', () => {
  it.each(['float32', 'bfloat16'] as const)('computes the same within rounding, in %s', (dtype) => {
    const model = smallGpt2().to(dtype);
    nn.addAdapter(model, { targetModules: 'all-linear', r: 3, loraAlpha: 7 });
    randomise(model);
    const [before, weights] = [
      logits(model),
      list(model.stateDict()['transformer.h.0.attn.c_attn.base_layer.weight']!),
    ];
    const scale = Math.max(...before.map(Math.abs));
    const tolerance = dtype === 'float32' ? 2e-6 : 3e-2;
    nn.mergeAdapters(model);
    nn.mergeAdapters(model);
    const merged = logits(model);
    expect(merged).not.toEqual(before);
    expect(largest(merged, before)).toBeLessThan(tolerance * scale);
    for (const call of [
      () => nn.addAdapter(model, { targetModules: ['c_attn'], adapterName: 'b' }),
      () => nn.setAdapter(model, 'default'),
      () => nn.disableAdapters(model),
      () => nn.deleteAdapter(model, 'default'),
    ])
      expect(codeOf(call)).toBe('FOVEA_UNSUPPORTED');
    // What is taken out is what was added, whatever has become of the adapter.
    randomise(model);
    nn.unmergeAdapters(model);
    const again = list(model.stateDict()['transformer.h.0.attn.c_attn.base_layer.weight']!);
    expect(largest(again, weights)).toBeLessThan(tolerance * Math.max(...weights.map(Math.abs)));
    nn.unmergeAdapters(model);
  });

  it('leaves a plain model, which saves and trains', () => {
    const model = smallGpt2();
    const keys = Object.keys(model.stateDict());
    const plain = logits(model);
    nn.addAdapter(model, { targetModules: ['c_attn', 'c_fc'] });
    randomise(model);
    const before = logits(model);
    nn.unloadAdapters(model, { merge: true });
    expect(Object.keys(model.stateDict())).toEqual(keys);
    expect(largest(logits(model), before)).toBeLessThan(2e-5);
    expect(largest(logits(model), plain)).toBeGreaterThan(0.01);

    const other = smallGpt2();
    nn.addAdapter(other, { targetModules: ['c_attn', 'c_fc'] });
    randomise(other);
    nn.unloadAdapters(other);
    expect(logits(other)).toEqual(plain);
    nn.unloadAdapters(other);
  });

  it('refuses a weight that serves another module', () => {
    const model = smallGpt2();
    nn.addAdapter(model, { targetModules: ['lm_head'] });
    const before = logits(model);
    randomise(model);
    expect(logits(model)).not.toEqual(before);
    expect(() => nn.mergeAdapters(model)).toThrow(/lm_head is shared/);
    const labels = inputIds;
    const [whole, chunks] = [true, false].map(
      (outputLogits) => model.forward({ inputIds, labels, outputLogits }).loss!.itemSync() as number,
    );
    expect(Math.abs(whole! - chunks!)).toBeLessThan(1e-6);
    nn.unloadAdapters(model);
    expect(codeOf(() => nn.mergeAdapters(model))).toBe('FOVEA_ARGUMENT');
  });

  it('refuses to take a term out of a weight that was quantised meanwhile', () => {
    const model = smallGpt2();
    nn.addAdapter(model, { targetModules: ['c_attn'] });
    randomise(model);
    nn.mergeAdapters(model);
    nn.quantize_(model, { type: 'int8', filter: (name) => name.includes('c_attn') });
    expect(() => nn.unmergeAdapters(model)).toThrow(
      /unmergeAdapters: the weight of transformer\.h\.0\.attn\.c_attn is quantised/,
    );
  });
});

describe('training', () => {
  it('makes the loss fall, with state for the adapter alone', async () => {
    const sizes = { vocabSize: 31, nPositions: 16, nEmbd: 24, nLayer: 2, nHead: 3 };
    manualSeed(4);
    // With embeddings as small as fresh ones are, which stay as they are, no loss could fall far.
    const model = new GPT2LMHeadModel({ ...sizes, initializerRange: 0.3 }).to(device);
    const weights = Object.entries(model.stateDict()).map(([key, tensor]) => [key, list(tensor)] as const);
    nn.addAdapter(model, { targetModules: 'all-linear', r: 4, loraAlpha: 8 });
    const text = Uint16Array.from({ length: 600 }, (_, i) => [3, 9, 27, 5, 15, 8][i % 6]!);
    const losses: number[] = [];
    await trainCausalLM(model, text, {
      steps: 60,
      batchSize: 4,
      lr: 2e-2,
      weightDecay: 0,
      onProgress: ({ loss }) => losses.push(loss),
    });
    expect(losses[0]).toBeGreaterThan(3);
    expect(losses.at(-1)).toBeLessThan(1.5);
    nn.unloadAdapters(model);
    expect(Object.entries(model.stateDict()).map(([key, tensor]) => [key, list(tensor)])).toEqual(weights);

    nn.addAdapter(model, { targetModules: ['c_attn'], r: 2 });
    const trained = model.parameters().filter(({ requiresGrad }) => requiresGrad);
    using optimizer = new optim.AdamW(model.parameters(), { lr: 1e-3 });
    model.forward({ inputIds, labels: inputIds }).loss!.backward();
    optimizer.step();
    expect([...optimizer.state.keys()]).toEqual(trained);
  });

  it('leaves nothing behind', () => {
    const model = smallGpt2();
    const round = (): void => {
      nn.addAdapter(model, { targetModules: 'all-linear', loraDropout: 0.1 });
      model.train();
      tidy(() => model.forward({ inputIds, labels: inputIds }).loss!.backward());
      model.zeroGrad();
      nn.mergeAdapters(model);
      nn.unmergeAdapters(model);
      nn.deleteAdapter(model, 'default');
    };
    round();
    const { tensors } = memory();
    round();
    round();
    expect(memory().tensors).toBe(tensors);
  });
});

describe('trainableParameters', () => {
  it('counts as PEFT prints', () => {
    const model = smallGpt2();
    const all = model.numParameters();
    nn.addAdapter(model, { targetModules: ['c_attn'], r: 2 });
    const trainable = 2 * (2 * 24 + 72 * 2);
    const counted = nn.trainableParameters(model);
    expect(counted).toMatchObject({ trainable, all: all + trainable });
    const percent = ((100 * trainable) / (all + trainable)).toFixed(4);
    expect(String(counted)).toBe(
      `trainable params: ${trainable} || all params: ${(all + trainable).toLocaleString('en')} || trainable%: ${percent}`,
    );
    // A quantised weight counts as what it stands for.
    nn.quantize_(model, { type: 'int8', filter: (name) => name.includes('c_fc') });
    expect(nn.trainableParameters(model).all).toBe(all + trainable);
  });
});

describe('MultiheadAttention', () => {
  class Encoder extends nn.Module {
    selfAttn = new nn.MultiheadAttention(12, 3, { batchFirst: true });
    override forward(query: Tensor, key: Tensor = query): Tensor {
      return this.selfAttn.forward(query, key, key, { needWeights: false })[0];
    }
  }
  it('has terms beside both of its projections, in self-attention and in cross-attention', () => {
    const model = new Encoder().to(device).eval();
    const [x, y] = [randn([2, 5, 12], { device }), randn([2, 4, 12], { device })];
    const forward = (): number[] => noGrad(() => [...list(model.forward(x)), ...list(model.forward(x, y))]);
    const before = forward();
    expect(nn.addAdapter(model, { targetModules: ['self_attn'], r: 3 })).toEqual(['self_attn', 'self_attn.out_proj']);
    expect(forward()).toEqual(before);
    randomise(model);
    const adapted = forward();
    expect(largest(adapted, before)).toBeGreaterThan(0.01);
    nn.mergeAdapters(model);
    expect(largest(forward(), adapted)).toBeLessThan(1e-5);
    nn.unmergeAdapters(model);
    model.forward(x, y).square().mean().backward();
    const trained = model.namedParameters().filter(([, { grad }]) => grad !== null);
    expect(trained.map(([key]) => key)).toEqual([
      'self_attn.in_proj_lora.default.lora_A.weight',
      'self_attn.in_proj_lora.default.lora_B.weight',
      'self_attn.out_proj.lora.default.lora_A.weight',
      'self_attn.out_proj.lora.default.lora_B.weight',
    ]);
    nn.unloadAdapters(model);
    expect(largest(forward(), before)).toBeLessThan(1e-5);
    expect(model.selfAttn.inProjLora).toBe(undefined);
  });

  it('may have quantised weights', () => {
    const model = new Encoder().to(device).eval();
    nn.quantize_(model, { type: 'int8' });
    const x = randn([2, 5, 12], { device });
    const before = list(model.forward(x));
    nn.addAdapter(model, { targetModules: 'all-linear', r: 3 });
    expect(list(model.forward(x))).toEqual(before);
    randomise(model);
    expect(list(model.forward(x))).not.toEqual(before);
  });
});
