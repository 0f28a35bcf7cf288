// Attention whose projections quantize_ has replaced, against products by the same rows and against dense layers.
import {
  type Dtype,
  functional as F,
  memory,
  nn,
  noGrad,
  quantize,
  type QuantType,
  randn,
  synchronizeSync,
  type Tensor,
  tidy,
  zeros,
} from 'fovea';
import { describe, expect, it } from 'vitest';
import { codeOf, device, list } from '../helpers.js';

const [batch, length, source, width, heads] = [2, 5, 7, 64, 4];
const types = ['q8_0', 'q4_0', 'int8'] as const;

const nmse = (actual: number[], expected: number[]): number =>
  expected.reduce((sum, v, i) => sum + (v - actual[i]!) ** 2, 0) / expected.reduce((sum, v) => sum + v * v, 0);

/** With biases that are not zero, as a trained layer has them. */
function attentionOf(options: nn.MultiheadAttentionOptions = {}, e = width): nn.MultiheadAttention {
  const layer = new nn.MultiheadAttention(e, heads, { batchFirst: true, ...options }).eval();
  for (const tensor of layer.parameters()) if (tensor.rank === 1) nn.init.normal_(tensor, 0, 0.5);
  return layer;
}
/** Puts the numbers that quantised weights stand for into a layer. */
function rounded<T extends nn.Module>(layer: T, type: QuantType): T {
  const dict = layer.stateDict();
  for (const [key, tensor] of Object.entries(dict))
    if (tensor.rank === 2) dict[key] = quantize(tensor, type).dequantize();
  layer.loadStateDict(dict);
  return layer;
}
const input = (n: number, e = width, dtype: Dtype = 'float32'): Tensor => randn([batch, n, e], { dtype });
const outputOf = (layer: nn.MultiheadAttention, q: Tensor, k: Tensor, v: Tensor): number[] =>
  noGrad(() => tidy(() => list(layer.forward(q, k, v, { needWeights: false })[0])));

/** The layer by hand: a product for each part of the weight, quantised by itself. */
function expectedOf(layer: nn.MultiheadAttention, inputs: Tensor[], type: QuantType): number[] {
  const dict = layer.stateDict();
  const e = layer.embedDim;
  const parts = inputs.map((x, i) => {
    const weight = dict['in_proj_weight']?.narrow(0, i * e, e) ?? dict[`${'qkv'[i]}_proj_weight`]!;
    const y = F.linear(x, quantize(weight.detach().clone(), type), dict['in_proj_bias']!.narrow(0, i * e, e));
    return y.reshape([batch, -1, heads, e / heads]).transpose(1, 2);
  });
  const attended = F.attention(parts[0]!, parts[1]!, parts[2]!).transpose(1, 2).reshape([batch, -1, e]);
  return list(F.linear(attended, quantize(dict['out_proj.weight']!, type), dict['out_proj.bias']));
}

describe.each(types)('MultiheadAttention in %s', (type) => {
  it('is near the layer of the weights that the blocks stand for', () => {
    const layer = attentionOf();
    const dense = attentionOf();
    dense.loadStateDict(layer.stateDict());
    rounded(dense, type);
    expect(nn.quantize_(layer, { type })).toEqual(['in_proj', 'out_proj']);
    const [x, y] = [input(length), input(source)];
    for (const given of [
      [x, x, x],
      [x, y, y],
    ] as const) {
      const error = nmse(outputOf(layer, ...given), outputOf(dense, ...given));
      expect(error).toBeGreaterThan(0);
      expect(error).toBeLessThan(1e-3);
    }
  });

  it.each([
    ['self', width],
    ['cross', width],
    ['cross, of a width that tiles do not divide', 24],
  ])('multiplies by the rows of each projection: %s', (name, e) => {
    // Blocks of 32 suit no such width, int8 any.
    const used = e % 32 === 0 ? type : 'int8';
    const layer = attentionOf({}, e);
    const x = input(length, e);
    const inputs = name === 'self' ? [x, x, x] : [x, input(source, e), input(source, e)];
    const expected = expectedOf(layer, inputs, used);
    nn.quantize_(layer, { type: used });
    expect(outputOf(layer, inputs[0]!, inputs[1]!, inputs[2]!)).toEqual(expected);
  });

  it('has three weights where keys and values have other widths', () => {
    const layer = attentionOf({ kdim: 96, vdim: 32 });
    const inputs = [input(length), input(source, 96), input(source, 32)];
    const expected = expectedOf(layer, inputs, type);
    expect(nn.quantize_(layer, { type })).toEqual(['q_proj', 'k_proj', 'v_proj', 'out_proj']);
    expect(outputOf(layer, inputs[0]!, inputs[1]!, inputs[2]!)).toEqual(expected);
  });

  it('keeps the keys; its blocks load into another one', () => {
    const [layer, other, third] = [attentionOf(), attentionOf(), attentionOf()];
    const dense = layer.stateDict();
    const keys = Object.keys(dense);
    for (const one of [layer, other, third]) nn.quantize_(one, { type });
    const dict = layer.stateDict();
    expect(Object.keys(dict)).toEqual(keys);
    expect([dict['in_proj_weight']!.dtype, dict['in_proj_weight']!.rank]).toEqual(['uint8', 1]);
    expect(layer.namedParameters().map(([key]) => key)).toEqual(['in_proj_bias', 'out_proj.bias']);
    const x = input(length);
    const expected = outputOf(layer, x, x, x);
    other.loadStateDict(dict);
    expect(outputOf(other, x, x, x)).toEqual(expected);
    expect(codeOf(() => layer.loadStateDict(attentionOf().stateDict()))).toBe('FOVEA_SHAPE');
    // What is assigned belongs to the one that it is assigned to.
    third.loadStateDict(dict, { assign: true });
    expect(outputOf(third, x, x, x)).toEqual(expected);
  });
});

describe('quantize_ of attention', () => {
  it('reaches all weights of a TransformerEncoderLayer, each by its name', () => {
    class Encoder extends nn.Module {
      layers = [0, 1].map(() =>
        new nn.TransformerEncoderLayer({ dModel: width, nHead: heads, dimFeedforward: 96, batchFirst: true }).eval(),
      );
      override forward(x: Tensor): Tensor {
        return this.layers.reduce((h, layer) => layer.forward(h), x);
      }
    }
    const [model, dense] = [new Encoder(), new Encoder()];
    dense.loadStateDict(model.stateDict());
    rounded(dense, 'q8_0');
    const weights = model.parameters().filter(({ rank }) => rank === 2);
    const names = nn.quantize_(model, { type: 'q8_0' });
    const parts = ['self_attn.in_proj', 'self_attn.out_proj', 'linear1', 'linear2'];
    expect(names).toEqual([0, 1].flatMap((i) => parts.map((part) => `layers.${i}.${part}`)));
    expect(model.parameters().some(({ rank }) => rank === 2)).toBe(false);
    expect(weights.map(({ isDisposed }) => isDisposed)).toEqual(weights.map(() => true));
    const x = input(length);
    const run = (encoder: Encoder): number[] => noGrad(() => list(encoder.forward(x)));
    expect(nmse(run(model), run(dense))).toBeLessThan(1e-3);
  });

  it('asks the filter by those names, and can be called again for what it left', () => {
    const layer = attentionOf({ kdim: 96, vdim: 32 });
    const asked: [string, nn.Module][] = [];
    const filter = (name: string, module: nn.Module): boolean => asked.push([name, module]) > 0 && name === 'k_proj';
    expect(nn.quantize_(layer, { type: 'q8_0', filter })).toEqual(['k_proj']);
    expect(asked.map(([name]) => name)).toEqual(['q_proj', 'k_proj', 'v_proj', 'out_proj']);
    expect(asked.map(([, module]) => module)).toEqual([layer, layer, layer, layer.outProj]);
    expect(layer.namedParameters().map(([key]) => key)).toContain('q_proj_weight');
    expect(nn.quantize_(layer, { type: 'int8' })).toEqual(['q_proj', 'v_proj', 'out_proj']);
    const [output] = layer.forward(input(length), input(source, 96), input(source, 32));
    expect(output.shape).toEqual([batch, length, width]);
    expect(codeOf(() => nn.quantize_(layer, { type: 'int8' }))).toBe('FOVEA_ARGUMENT');
  });

  it('changes nothing where a projection does not suit', () => {
    const layer = attentionOf({ kdim: 40 });
    const inputs = [input(length), input(source, 40), input(source)] as const;
    const before = outputOf(layer, ...inputs);
    synchronizeSync();
    const { live } = memory();
    const failing = (): unknown => nn.quantize_(layer, { type: 'q8_0' });
    expect(failing).toThrow(/layer k_proj: .*multiple of 32.*filter/);
    expect(codeOf(failing)).toBe('FOVEA_SHAPE');
    synchronizeSync();
    expect(memory().live).toBe(live);
    expect(layer.namedParameters().map(([key]) => key)).toContain('q_proj_weight');
    expect(outputOf(layer, ...inputs)).toEqual(before);
  });

  it('frees no weight that something else uses', () => {
    class Pair extends nn.Module {
      first = attentionOf();
      second = attentionOf();
      constructor() {
        super();
        this.second.inProjWeight?.dispose();
        this.second.inProjWeight = this.first.inProjWeight;
      }
    }
    const pair = new Pair();
    const weight = pair.first.inProjWeight;
    const x = input(length);
    const before = outputOf(pair.second, x, x, x);
    expect(nn.quantize_(pair, { type: 'q8_0', filter: (name) => name === 'first.in_proj' })).toHaveLength(1);
    expect(outputOf(pair.second, x, x, x)).toEqual(before);
    expect(weight?.isDisposed).toBe(false);
    nn.quantize_(pair, { type: 'q8_0', filter: (name) => name.endsWith('in_proj') });
    expect(weight?.isDisposed).toBe(true);
  });

  it('outlives a tidy that it is called in, and is freed with the module', () => {
    const layer = attentionOf();
    const x = input(length);
    tidy(() => void nn.quantize_(layer, { type: 'q8_0' }));
    expect(outputOf(layer, x, x, x).every(Number.isFinite)).toBe(true);
    layer.dispose();
    expect(codeOf(() => layer.forward(x, x, x))).toBe('FOVEA_DISPOSED');
  });

  it('gives gradients to the input and to biases, and weights of attention to whoever asks', () => {
    const layer = attentionOf();
    nn.quantize_(layer, { type: 'q8_0' });
    const x = input(length).requiresGrad_();
    const [output, weights] = layer.forward(x, x, input(length));
    expect(weights?.shape).toEqual([batch, heads, length, length]);
    output.square().mean().backward();
    for (const tensor of [x, layer.inProjBias!]) expect(list(tensor.grad!).some((v) => v !== 0)).toBe(true);
  });

  it.each(['bfloat16', 'float16'] as const)('gives %s for %s', (dtype) => {
    const layer = attentionOf({ dtype });
    const x = input(length, width, dtype);
    const before = outputOf(layer, x, x, x);
    nn.quantize_(layer, { type: 'q8_0' });
    const [output] = noGrad(() => layer.forward(x, x, x));
    expect(output.dtype).toBe(dtype);
    expect(nmse(list(output), before)).toBeLessThan(1e-3);
  });

  it('moves with its module', () => {
    const layer = attentionOf();
    nn.quantize_(layer, { type: 'q8_0' });
    const [x, y] = [input(length), input(source)];
    const before = outputOf(layer, x, y, y);
    layer.to(device);
    expect(layer.inProjWeight?.device).toBe(zeros([1], { device }).device);
    const there = y.to(device);
    expect(nmse(outputOf(layer, x.to(device), there, there), before)).toBeLessThan(1e-9);
  });
});
