// Linear layers with quantised weights, and models whose layers are replaced by them.
import {
  functional as F,
  type Dtype,
  nn,
  noGrad,
  quantize,
  type QuantType,
  randint,
  randn,
  type Tensor,
  tensor,
  zeros,
} from 'fovea';
import { GPT2LMHeadModel } from 'fovea/models';
import { describe, expect, it } from 'vitest';
import { codeOf, device, list } from '../helpers.js';

class Tied extends nn.Module {
  embed = new nn.Embedding(10, 64);
  blocks = [new nn.FeedForward(64, 96), new nn.FeedForward(64, 96)];
  head = new nn.Linear(64, 10, { bias: false });
  constructor() {
    super();
    this.head.weight.dispose();
    this.head.weight = this.embed.weight;
  }
  override forward(x: Tensor): Tensor {
    return this.head.forward(this.blocks.reduce((h, block) => block.forward(h), x));
  }
}

const nmse = (actual: number[], expected: number[]): number =>
  expected.reduce((sum, v, i) => sum + (v - actual[i]!) ** 2, 0) / expected.reduce((sum, v) => sum + v * v, 0);

describe.each(['q8_0', 'q4_0', 'int8'] as const)('QuantizedLinear %s', (type) => {
  it.each(['float32', 'bfloat16', 'float16'] as const)('is linear with the quantised weight, in %s', (dtype: Dtype) => {
    const linear = new nn.Linear(64, 33);
    const layer = nn.QuantizedLinear.fromLinear(linear, type);
    const x = randn([2, 5, 64], { dtype });
    const y = layer.forward(x);
    expect([y.dtype, y.shape]).toEqual([dtype, [2, 5, 33]]);
    expect(list(y)).toEqual(list(F.linear(x, quantize(linear.weight, type), linear.bias)));
    expect(nmse(list(y), list(linear.forward(x.float())))).toBeLessThan(type === 'q4_0' ? 2e-2 : 5e-4);
    expect(linear.weight.isDisposed).toBe(false);
  });

  it('saves and loads its blocks', () => {
    const layer = nn.QuantizedLinear.fromLinear(new nn.Linear(64, 7), type);
    const other = nn.QuantizedLinear.fromLinear(new nn.Linear(64, 7), type);
    const x = randn([3, 64]);
    expect(Object.keys(layer.stateDict())).toEqual(['weight', 'bias']);
    expect(layer.parameters()).toEqual([layer.bias]);
    other.loadStateDict(layer.stateDict());
    expect(list(other.forward(x))).toEqual(list(layer.forward(x)));
    expect(codeOf(() => other.loadStateDict(new nn.Linear(64, 7).stateDict()))).toBe('FOVEA_SHAPE');
    layer.to('bfloat16');
    expect(layer.buffers().map(({ dtype }) => dtype)).toEqual(['uint8']);
    layer.dispose();
    expect(codeOf(() => layer.forward(x))).toBe('FOVEA_DISPOSED');
  });
});

it('takes the blocks themselves where a state dict is assigned, and refuses what is none before anything changes', () => {
  const [layer, other] = [0, 1].map(() => nn.QuantizedLinear.fromLinear(new nn.Linear(64, 16), 'q8_0'));
  const x = randn([3, 64]);
  const before = list(layer!.forward(x));
  const bytes = layer!.buffers()[0]!;
  const floats = { weight: zeros([bytes.size]), bias: zeros([16]) };
  expect(codeOf(() => layer!.loadStateDict(floats, { assign: true }))).toBe('FOVEA_SHAPE');
  expect(list(layer!.forward(x))).toEqual(before);
  const { bias } = other!;
  layer!.loadStateDict(other!.stateDict(), { assign: true });
  expect([bytes.isDisposed, layer!.bias === bias]).toEqual([true, true]);
  expect(list(layer!.forward(x))).toEqual(list(other!.forward(x)));
});

it('moves with its module', () => {
  const layer = nn.QuantizedLinear.fromLinear(new nn.Linear(64, 33), 'q8_0');
  const x = randn([5, 64]);
  const before = list(layer.forward(x));
  layer.to(device);
  expect(layer.weight.device).toBe(tensor([0], { device }).device);
  const there = list(layer.forward(x.to(device)));
  // The same integers; what differs is in which order their sums are added.
  expect(nmse(there, before)).toBeLessThan(1e-12);
});

describe('quantize_', () => {
  it('replaces every linear layer, and leaves a tied embedding', () => {
    const model = new Tied();
    const x = randn([4, 64]);
    const before = noGrad(() => list(model.forward(x)));
    const weights = model.blocks.map((block) => block.linear1.weight);
    const names = nn.quantize_(model, { type: 'q8_0' });
    expect(names).toEqual(['blocks.0.linear1', 'blocks.0.linear2', 'blocks.1.linear1', 'blocks.1.linear2', 'head']);
    expect(model.modules().some((module) => module instanceof nn.Linear)).toBe(false);
    expect(model.head).toBeInstanceOf(nn.QuantizedLinear);
    expect(
      nmse(
        noGrad(() => list(model.forward(x))),
        before,
      ),
    ).toBeLessThan(2e-3);
    expect(weights.every((weight) => weight.isDisposed)).toBe(true);
    expect(list(model.embed.weight)).toHaveLength(640);
  });

  it('replaces the layers of GPT-2, whose weights lie the other way round', async () => {
    const model = new GPT2LMHeadModel({ vocabSize: 40, nPositions: 32, nEmbd: 64, nLayer: 2, nHead: 2 }).eval();
    const inputIds = randint(0, 40, [1, 9], { dtype: 'int64' });
    const logits = (): number[] => noGrad(() => list(model.forward({ inputIds }).logits));
    const before = logits();
    const names = nn.quantize_(model, { type: 'q8_0', filter: (name) => name.startsWith('transformer.') });
    expect(names).toHaveLength(8);
    expect(names[0]).toBe('transformer.h.0.attn.c_attn');
    expect(nmse(logits(), before)).toBeLessThan(2e-3);
    // Decoding is recorded, and gives what the whole sequence gives.
    expect(model.recordable).toBe(true);
    const all = await model.generate({ inputIds, maxNewTokens: 6 });
    const last = noGrad(() =>
      list(
        model
          .forward({ inputIds: all.narrow(1, 0, 14) })
          .logits.argmax(-1)
          .narrow(1, 8, 6),
      ),
    );
    expect(list(all.narrow(1, 9, 6))).toEqual(last);
  });

  it('takes what the filter takes', () => {
    const model = new Tied();
    expect(nn.quantize_(model, { type: 'int8', filter: (name) => name.endsWith('linear2') })).toHaveLength(2);
    expect(model.blocks[0]!.linear1).toBeInstanceOf(nn.Linear);
    expect(model.blocks[1]!.linear2).toBeInstanceOf(nn.QuantizedLinear);
  });

  it('trains what is left: gradients pass through quantised layers', () => {
    const model = new Tied();
    nn.quantize_(model, { type: 'q4_0' });
    const x = randn([4, 64], { requiresGrad: true });
    model.forward(x).square().mean().backward();
    expect(list(x.grad!).some((v) => v !== 0)).toBe(true);
    expect(model.blocks[0]!.linear1.bias!.grad!.shape).toEqual([96]);
  });

  it('changes nothing where a layer does not suit', () => {
    const model = new Tied();
    const failing = (): unknown => nn.quantize_(model, { type: 'q4_K' });
    expect(codeOf(failing)).toBe('FOVEA_SHAPE');
    expect(failing).toThrow(/layer blocks\.0\.linear1.*256.*filter/);
    expect(model.modules().filter((module) => module instanceof nn.Linear)).toHaveLength(5);
    expect(model.forward(zeros([1, 64])).shape).toEqual([1, 10]);
  });

  it('refuses what it cannot do', () => {
    const type: QuantType = 'q8_0';
    for (const call of [
      () => nn.quantize_(new nn.Linear(32, 2), { type }),
      () => nn.quantize_(new nn.LayerNorm(4), { type }),
      () => nn.quantize_(new Tied(), { type, filter: () => false }),
      () => nn.quantize_(new Tied(), { type: 'q2' as never }),
      () => nn.quantize_(new Tied(), { type, filtre: 1 } as never),
      () => nn.quantize_(new Tied(), { type, filter: 1 as never }),
      () => nn.quantize_(zeros([2]) as never, { type }),
      () => new nn.QuantizedLinear(zeros([2, 32]) as never),
      () => nn.QuantizedLinear.fromLinear(zeros([2, 32]) as never, type),
    ])
      expect(codeOf(call)).toBe('FOVEA_ARGUMENT');
  });
});
