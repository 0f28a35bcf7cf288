// Initialisers by depth, and orthogonal matrices.
import { type Dtype, Generator, manualSeed, nn, ones, randn, type Tensor, zeros } from 'fovea';
import { describe, expect, test } from 'vitest';
import { compare } from '../golden.js';
import { codeOf } from '../helpers.js';

const deviation = (x: Tensor): number => Math.sqrt(x.square().mean().itemSync() as number);
const xavier = (out: number, inputs: number): number => Math.sqrt(2 / (out + inputs));
const [width, inner] = [64, 96];
const layerOptions = { dModel: width, nHead: 4, dimFeedforward: inner } as const;
const encoderOf = (numLayers: number): nn.TransformerEncoder =>
  new nn.TransformerEncoder(new nn.TransformerEncoderLayer(layerOptions), { numLayers });
/** Within 5 %, of some thousand numbers. */
const expectDeviation = (x: Tensor, expected: number): void => expect(deviation(x) / expected).toBeCloseTo(1, 1);

function expectLayer(layer: nn.TransformerEncoderLayer | nn.TransformerDecoderLayer, gain: number): void {
  const attentions = 'multiheadAttn' in layer ? [layer.selfAttn, layer.multiheadAttn] : [layer.selfAttn];
  for (const { inProjWeight, outProj } of attentions) {
    const [q, k, v] = (inProjWeight as Tensor).chunk(3, 0);
    for (const x of [q!, k!]) expectDeviation(x, xavier(width, width));
    for (const x of [v!, outProj.weight]) expectDeviation(x, gain * xavier(width, width));
  }
  for (const { weight } of [layer.linear1, layer.linear2]) expectDeviation(weight, gain * xavier(width, inner));
}
const layersOf = <L>(stack: { layers: unknown[] }): L[] => stack.layers as L[];

describe('orthogonal_', () => {
  test.each<[number[], Dtype]>([
    [[1, 1], 'float32'],
    [[5, 5], 'float32'],
    [[7, 130], 'float32'],
    [[130, 7], 'float32'],
    [[64, 64], 'float64'],
    [[3, 4, 5], 'float32'],
    [[129, 129], 'float32'],
    [[6, 9], 'bfloat16'],
  ])('[%s] of %s: rows or columns are orthonormal, times the gain', (shape, dtype) => {
    const x = zeros(shape, { dtype });
    expect(nn.init.orthogonal_(x, { gain: 3, generator: new Generator(4) })).toBe(x);
    const rows = x.to('float64').reshape([shape[0]!, -1]).div(3);
    const square = rows.shape[0]! <= rows.shape[1]! ? rows.matmul(rows.t()) : rows.t().matmul(rows);
    const n = square.shape[0]!;
    const identity = Array.from({ length: n * n }, (_, i) => (i % (n + 1) === 0 ? 1 : 0));
    const tolerance = { float32: 2e-6, float64: 1e-14, bfloat16: 2e-2 }[dtype as 'float32'];
    expect(compare(square.dataSync(), identity).difference).toBeLessThan(tolerance);
  });

  test('is the Q of the normal matrix that the same seed gives, whose R has a positive diagonal', () => {
    const x = nn.init.orthogonal_(zeros([6, 9]), { generator: new Generator(8) });
    const a = randn([6, 9], { generator: new Generator(8) });
    const r = a.matmul(x.t()).toArraySync() as number[][];
    for (const [i, row] of r.entries())
      for (const [j, value] of row.entries()) {
        if (j > i) expect(Math.abs(value)).toBeLessThan(1e-5);
        else if (j === i) expect(value).toBeGreaterThan(0);
      }
  });

  test('errors, and nothing to fill', () => {
    expect(codeOf(() => nn.init.orthogonal_(zeros([3])))).toBe('FOVEA_SHAPE');
    expect(codeOf(() => nn.init.orthogonal_(zeros([3, 3], { dtype: 'int64' })))).toBe('FOVEA_DTYPE');
    expect(codeOf(() => nn.init.orthogonal_(zeros([3, 3]), { scale: 1 } as never))).toBe('FOVEA_ARGUMENT');
    expect(nn.init.orthogonal_(zeros([0, 3])).shape).toEqual([0, 3]);
  });
});

describe('gpt2_', () => {
  test('all matrices N(0, 0.02²), those that end a branch divided by the root of twice the layers', () => {
    manualSeed(1);
    class Model extends nn.Module {
      wte: nn.Embedding = new nn.Embedding(100, width, { paddingIdx: 3 });
      blocks: nn.TransformerEncoder = encoderOf(8);
      head: nn.Linear = new nn.Linear(width, 100);
    }
    const model = new Model();
    expect(nn.init.gpt2_(model)).toBe(model);
    const residual = 0.02 / Math.sqrt(2 * 8);
    for (const [key, x] of model.namedParameters()) {
      if (x.rank > 1) expectDeviation(x, /out_proj|linear2/.test(key) ? residual : 0.02);
      else expect(new Set(x.dataSync()), key).toEqual(new Set([/norm/.test(key) && key.endsWith('weight') ? 1 : 0]));
    }
    expect(deviation(model.wte.weight.select(0, 3))).toBe(0);
  });

  test('options', () => {
    const model = new nn.GatedFeedForward(width, inner);
    nn.init.gpt2_(model, { std: 0.1, branches: 4, generator: new Generator(2) });
    expectDeviation(model.gateProj.weight, 0.1);
    expectDeviation(model.downProj.weight, 0.05);
    const again = nn.init.gpt2_(new nn.GatedFeedForward(width, inner), {
      std: 0.1,
      branches: 4,
      generator: new Generator(2),
    });
    expect(again.downProj.weight.dataSync()).toEqual(model.downProj.weight.dataSync());
    for (const wrong of [{ std: -1 }, { branches: 0 }, { layers: 2 }] as object[])
      expect(codeOf(() => nn.init.gpt2_(model, wrong))).toBe('FOVEA_ARGUMENT');
    expect(codeOf(() => nn.init.gpt2_(ones([2]) as never))).toBe('FOVEA_ARGUMENT');
  });
});

describe('DeepNorm and T-Fixup', () => {
  const transformer = (): nn.Transformer =>
    new nn.Transformer({ ...layerOptions, numEncoderLayers: 3, numDecoderLayers: 2 });

  test('the numbers of the paper', () => {
    // Of figure 2: 18 layers alone, 6 and 6, and of the text's 100 and 100.
    expect(nn.init.deepNormScales(18, 0).encoder.alpha).toBeCloseTo(36 ** 0.25, 12);
    expect(nn.init.deepNormScales(0, 18).decoder.beta).toBeCloseTo(144 ** -0.25, 12);
    const { encoder, decoder } = nn.init.deepNormScales(6, 6);
    expect(encoder.alpha).toBeCloseTo(0.81 * 6 ** (5 / 16), 12);
    expect(encoder.beta).toBeCloseTo(0.87 * 6 ** (-5 / 16), 12);
    expect(decoder.alpha).toBeCloseTo(18 ** 0.25, 12);
    expect(decoder.beta).toBeCloseTo(72 ** -0.25, 12);
    expect(codeOf(() => nn.init.deepNormScales(-1, 2))).toBe('FOVEA_ARGUMENT');
  });

  test('deepNorm_ sets gains and residual scales', () => {
    manualSeed(2);
    const encoder = encoderOf(4);
    nn.init.deepNorm_(encoder);
    for (const layer of layersOf<nn.TransformerEncoderLayer>(encoder)) {
      expect(layer.residualScale).toBeCloseTo(8 ** 0.25, 12);
      expectLayer(layer, 32 ** -0.25);
    }
    const both = transformer();
    const { encoder: e, decoder: d } = nn.init.deepNorm_(both);
    expect([e, d]).toEqual(Object.values(nn.init.deepNormScales(3, 2)));
    for (const layer of layersOf<nn.TransformerEncoderLayer>(both.encoder)) {
      expect(layer.residualScale).toBe(e.alpha);
      expectLayer(layer, e.beta);
    }
    for (const layer of layersOf<nn.TransformerDecoderLayer>(both.decoder)) {
      expect(layer.residualScale).toBe(d.alpha);
      expectLayer(layer, d.beta);
    }
  });

  test('tFixup_ scales matrices and embeddings', () => {
    manualSeed(3);
    class Model extends nn.Module {
      tokens: nn.Embedding = new nn.Embedding(200, width);
      body: nn.Transformer = transformer();
    }
    const model = new Model();
    const scales = nn.init.tFixup_(model);
    expect(scales.encoder).toBeCloseTo(0.67 * 3 ** -0.25, 12);
    expect(scales.decoder).toBeCloseTo(18 ** -0.25, 12);
    expect(scales.embedding).toBe(scales.decoder);
    for (const layer of layersOf<nn.TransformerEncoderLayer>(model.body.encoder)) expectLayer(layer, scales.encoder);
    for (const layer of layersOf<nn.TransformerDecoderLayer>(model.body.decoder)) expectLayer(layer, scales.decoder);
    expectDeviation(model.tokens.weight, scales.embedding / Math.sqrt(width));
  });

  test('errors', () => {
    const pre = new nn.TransformerEncoderLayer({ ...layerOptions, normFirst: true });
    expect(() => nn.init.deepNorm_(pre)).toThrow(/post-norm/);
    expect(codeOf(() => nn.init.deepNorm_(new nn.Linear(2, 2)))).toBe('FOVEA_ARGUMENT');
    expect(codeOf(() => nn.init.tFixup_(new nn.Linear(2, 2)))).toBe('FOVEA_ARGUMENT');
    expect(codeOf(() => nn.init.tFixup_(pre, { seed: 1 } as never))).toBe('FOVEA_ARGUMENT');
    const quantized = encoderOf(1);
    nn.quantize_(quantized, { type: 'q8_0' });
    expect(codeOf(() => nn.init.tFixup_(quantized))).toBe('FOVEA_UNSUPPORTED');
  });
});
