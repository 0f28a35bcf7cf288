// Encoder and decoder stacks: PyTorch's results, keys, copies, masks, LayerDrop, training.
import { functional as F, Generator, manualSeed, mask, nn, optim, randn, record, tensor, type Tensor } from 'fovea';
import { describe, expect, test } from 'vitest';
import {
  compare,
  expectGradients,
  expectNear,
  expectTraining,
  fill,
  numbers,
  precisions,
  type Precision,
  readJson,
  type RecordedTraining,
  tolerances,
} from '../golden.js';
import { codeOf, device } from '../helpers.js';
import { weighted } from './recorded.js';

/** A module with PyTorch's results in float64 (test/golden/transformer). */
interface Recorded {
  name: string;
  output: number[];
  /** Gradients of the inputs. */
  inputs: Record<string, number[]>;
  /** Gradients of the parameters. */
  gradients: Record<string, number[]>;
}
const { stacks } = readJson('transformer', 'stacks.json') as { stacks: Recorded[] };
const training = readJson('transformer', 'training.json') as Record<Precision, RecordedTraining>;

const [width, batch, targets, sources] = [6, 2, 5, 7];
const layerOptions = (normFirst: boolean, activation: string, dtype: Precision) =>
  ({ dModel: width, nHead: 2, dimFeedforward: 8, dropout: 0, normFirst, activation, dtype }) as const;

const real = (lengths: number[], size: number): Tensor =>
  tensor(
    lengths.map((length) => Array.from({ length: size }, (_, i) => i < length)),
    { device },
  );
const sourcePadding = real([7, 4], sources);
const targetPadding = real([5, 3], targets);
const memoryMask = tensor(
  Array.from({ length: targets }, (_, i) => Array.from({ length: sources }, (_unused, j) => j !== i + 1)),
  { device },
);

type Run = (inputs: Tensor[]) => Tensor;
function encoder(normFirst: boolean, activation: string, options: nn.TransformerEncoderForwardOptions) {
  return (dtype: Precision): [nn.Module, Run] => {
    const layer = new nn.TransformerEncoderLayer(layerOptions(normFirst, activation, dtype));
    const norm = normFirst ? new nn.LayerNorm(width, { dtype }) : undefined;
    const stack = fill(new nn.TransformerEncoder(layer, { numLayers: 2, norm }));
    return [stack, ([src]) => stack.forward(src!, options)];
  };
}
function decoder(normFirst: boolean, activation: string, options: nn.TransformerDecoderForwardOptions) {
  return (dtype: Precision): [nn.Module, Run] => {
    const layer = new nn.TransformerDecoderLayer(layerOptions(normFirst, activation, dtype));
    const norm = normFirst ? new nn.LayerNorm(width, { dtype }) : undefined;
    const stack = fill(new nn.TransformerDecoder(layer, { numLayers: 2, norm }));
    return [stack, ([tgt, memory]) => stack.forward(tgt!, memory!, options)];
  };
}
const models: Record<string, (dtype: Precision) => [nn.Module, Run]> = {
  'encoder post relu': encoder(false, 'relu', { srcKeyPaddingMask: sourcePadding }),
  'encoder post gelu': encoder(false, 'gelu', { isCausal: true }),
  'encoder pre relu': encoder(true, 'relu', { mask: mask.causal(), srcKeyPaddingMask: sourcePadding }),
  'encoder pre gelu': encoder(true, 'gelu', {}),
  'decoder post relu': decoder(false, 'relu', { tgtIsCausal: true }),
  'decoder post gelu': decoder(false, 'gelu', {
    tgtMask: mask.causal(),
    tgtKeyPaddingMask: targetPadding,
    memoryKeyPaddingMask: sourcePadding,
  }),
  'decoder pre relu': decoder(true, 'relu', { tgtIsCausal: true, memoryKeyPaddingMask: sourcePadding }),
  'decoder pre gelu': decoder(true, 'gelu', { tgtIsCausal: true, memoryMask }),
  transformer: (dtype) => {
    const options = { ...layerOptions(false, 'relu', dtype), numEncoderLayers: 1, numDecoderLayers: 1 };
    const model = fill(new nn.Transformer(options));
    const masks = { tgtIsCausal: true, srcKeyPaddingMask: sourcePadding, memoryKeyPaddingMask: sourcePadding };
    return [model, ([src, tgt]) => model.forward(src!, tgt!, masks)];
  },
};
const seeds = { src: 101, tgt: 102, memory: 103 } as const;

describe('what PyTorch gives', () => {
  const cases = stacks.flatMap((one) => precisions.map((dtype) => ({ ...one, dtype })));
  test.each(cases)('$name in $dtype: output and all gradients', ({ name, output, inputs, gradients, dtype }) => {
    const [model, run] = models[name]!(dtype);
    const given = Object.keys(inputs).map((key) => {
      const length = key === 'tgt' ? targets : sources;
      return numbers(seeds[key as keyof typeof seeds], [length, batch, width], dtype).requiresGrad_(true);
    });
    const tolerance = tolerances[dtype];
    const y = run(given);
    expectNear('output', y, output, tolerance);
    weighted(y, numbers(99, y.shape, dtype)).backward();
    for (const [i, [key, gradient]] of Object.entries(inputs).entries())
      expectNear(key, given[i]!.grad, gradient, tolerance);
    expectGradients(model, gradients, tolerance);
  });

  test.each(precisions)('20 steps of AdamW in %s', (dtype) => {
    class Classifier extends nn.Module {
      encoder: nn.TransformerEncoder = new nn.TransformerEncoder(
        new nn.TransformerEncoderLayer(layerOptions(true, 'gelu', dtype)),
        { numLayers: 2, norm: new nn.LayerNorm(width, { dtype }) },
      );
      head: nn.Linear = new nn.Linear(width, 4, { dtype });
      override forward(x: Tensor): Tensor {
        return this.head.forward(this.encoder.forward(x));
      }
    }
    const model = fill(new Classifier());
    const optimizer = new optim.AdamW(model.parameters(), { lr: 1e-2, weightDecay: 0.1 });
    const loss = (step: number): Tensor => {
      const labels = Array.from({ length: sources * batch }, (_, k) => (step + 3 * k) % 4);
      const logits = model.forward(numbers(200 + step, [sources, batch, width], dtype));
      return F.crossEntropy(logits.reshape([-1, 4]), tensor(labels, { dtype: 'int64', device }));
    };
    expectTraining(model, optimizer, loss, training[dtype], dtype);
  });
});

const small = { dModel: 8, nHead: 2, dimFeedforward: 12, dropout: 0, batchFirst: true } as const;

describe('copies of a layer', () => {
  test('have its values, and weights of their own', async () => {
    manualSeed(1);
    const layer = new nn.TransformerEncoderLayer(small);
    layer.linear2.weight.requiresGrad_(false);
    layer.norm1.eval();
    const stack = new nn.TransformerEncoder(layer, { numLayers: 3 });
    const own = layer.namedParameters();
    expect(stack.parameters()).toHaveLength(3 * own.length);
    for (const [key, x] of own)
      for (const i of [0, 1, 2]) {
        const copy = stack.stateDict()[`layers.${i}.${key}`]!;
        expect(copy).not.toBe(x);
        expect(await copy.data()).toEqual(await x.data());
        expect(copy.requiresGrad).toBe(x.requiresGrad);
      }
    expect(stack.layers.map((one) => (one as nn.TransformerEncoderLayer).norm1.training)).toEqual([
      false,
      false,
      false,
    ]);
    layer.linear1.weight.detach().zero_();
    const x = randn([1, 3, 8]);
    expect(await stack.layers[0]!.forward(x, {}).data()).toEqual(await stack.layers[1]!.forward(x, {}).data());
    expect(await stack.layers[0]!.forward(x, {}).data()).not.toEqual(await layer.forward(x).data());
  });

  test('keep its dtype, and draw no random numbers', () => {
    const layer = new nn.TransformerDecoderLayer(small).to('float64');
    const generator = manualSeed(5);
    const stack = new nn.TransformerDecoder(layer, { numLayers: 2, norm: new nn.LayerNorm(8, { dtype: 'float64' }) });
    expect(generator.offset).toBe(0);
    expect(new Set(stack.parameters().map(({ dtype }) => dtype))).toEqual(new Set(['float64']));
    layer.residualScale = 3;
    expect(layer.clone().residualScale).toBe(3);
  });

  test('a function makes unlike layers; what cannot be copied says so', () => {
    const stack = new nn.TransformerEncoder(
      (i) => new nn.TransformerEncoderLayer({ ...small, dimFeedforward: 4 * (i + 1) }),
      {
        numLayers: 2,
      },
    );
    expect(stack.stateDict()['layers.1.linear1.weight']!.shape).toEqual([8, 8]);
    class Odd extends nn.TransformerEncoderLayer {}
    expect(() => new nn.TransformerEncoder(new Odd(small), { numLayers: 2 })).toThrow(
      /Odd is a subclass.*define clone/s,
    );
    const layer = new nn.TransformerEncoderLayer(small);
    const wrong: (() => unknown)[] = [
      () => new nn.TransformerEncoder(layer, { numLayers: 0 }),
      () => new nn.TransformerEncoder(layer, undefined as never),
      () => new nn.TransformerEncoder(layer, { numLayers: 1, layerDrop: 2 }),
      () => new nn.TransformerEncoder(layer, { numLayers: 1, norm: 3 as never }),
      () => new nn.TransformerEncoder(layer, { numLayers: 1, depth: 2 } as never),
      () => new nn.TransformerEncoder(new nn.Linear(2, 2) as never, { numLayers: 1 }),
      () => new nn.TransformerEncoder((() => 7) as never, { numLayers: 1 }),
      () => new nn.TransformerDecoderLayer(undefined as never),
      () => new nn.TransformerDecoderLayer({ ...small, nHead: 3 }),
      () => new nn.TransformerDecoderLayer({ ...small, residualScale: Number.NaN }),
      () => new nn.TransformerDecoderLayer({ ...small, heads: 3 } as never),
      () => new nn.TransformerDecoderLayer(small).forward(randn([1, 2, 8]), randn([1, 2, 8]), { mask: 1 } as never),
      () => stack.forward(randn([1, 2, 8]), { srcMask: mask.causal() } as never),
      () => new nn.Transformer({ ...small, numEncoderLayers: 0 }),
      () => new nn.Transformer({ ...small, layers: 2 } as never),
    ];
    for (const run of wrong) expect(codeOf(run)).toBe('FOVEA_ARGUMENT');
    expect(codeOf(() => stack.forward(randn([1, 2, 9])))).toBe('FOVEA_SHAPE');
  });
});

describe('stacks', () => {
  test('have the keys of PyTorch', () => {
    const decoderLayer = [
      ...['self_attn', 'multihead_attn'].flatMap((name) =>
        ['in_proj_weight', 'in_proj_bias', 'out_proj.weight', 'out_proj.bias'].map((key) => `${name}.${key}`),
      ),
      ...['linear1', 'linear2', 'norm1', 'norm2', 'norm3'].flatMap((name) => [`${name}.weight`, `${name}.bias`]),
    ];
    const stack = new nn.TransformerDecoder(new nn.TransformerDecoderLayer(small), {
      numLayers: 2,
      norm: new nn.LayerNorm(8),
    });
    expect(Object.keys(stack.stateDict())).toEqual([
      ...[0, 1].flatMap((i) => decoderLayer.map((key) => `layers.${i}.${key}`)),
      'norm.weight',
      'norm.bias',
    ]);
    const model = new nn.Transformer({ ...small, numEncoderLayers: 1, numDecoderLayers: 1 });
    const keys = Object.keys(model.stateDict());
    expect(keys[0]).toBe('encoder.layers.0.self_attn.in_proj_weight');
    expect(keys).toContain('encoder.norm.weight');
    expect(keys).toContain('decoder.layers.0.multihead_attn.out_proj.bias');
    expect(keys.at(-1)).toBe('decoder.norm.bias');
  });

  test('a mask as a value, as bools and as numbers', async () => {
    const stack = new nn.TransformerEncoder(new nn.TransformerEncoderLayer(small), { numLayers: 2 });
    const x = randn([2, 5, 8]);
    const seen = mask.slidingWindow(1, 0);
    const bools = tensor(
      Array.from({ length: 5 }, (_, i) => Array.from({ length: 5 }, (_u, j) => j <= i && j >= i - 1)),
    );
    const byValue = await stack.forward(x, { mask: seen }).data();
    const byBools = await stack.forward(x, { mask: bools }).data();
    const byNumbers = await stack.forward(x, { mask: F.where(bools, 0, -1e9) }).data();
    expect(compare(byValue, byBools).difference).toBeLessThan(1e-6);
    expect(compare(byNumbers, byBools).difference).toBeLessThan(1e-6);
  });

  test('causal decoding: a later target changes nothing before it, whatever the memory', async () => {
    const stack = new nn.TransformerDecoder(new nn.TransformerDecoderLayer(small), { numLayers: 2 }).eval();
    const [tgt, memory] = [randn([1, 6, 8]), randn([1, 9, 8])];
    const changed = tgt.clone();
    changed.select(1, 5).fill_(9);
    const before = (x: Tensor): Promise<Float32Array> =>
      stack.forward(x, memory, { tgtIsCausal: true }).narrow(1, 0, 5).data();
    expect(await before(tgt)).toEqual(await before(changed));
  });

  test('residualScale multiplies what goes past a sublayer', async () => {
    const x = randn([1, 3, 8]);
    const layer = new nn.TransformerEncoderLayer({ ...small, residualScale: 2.5 });
    const [attended] = layer.selfAttn.forward(x, x, x);
    const middle = layer.norm1.forward(x.mul(2.5).add(attended));
    const expected = layer.norm2.forward(
      middle.mul(2.5).add(layer.linear2.forward(F.relu(layer.linear1.forward(middle)))),
    );
    expect(compare(await layer.forward(x).data(), await expected.data()).difference).toBeLessThan(1e-6);
    const pre = new nn.TransformerEncoderLayer({ ...small, residualScale: 0.5, normFirst: true });
    const y = pre.norm1.forward(x);
    const sum = x.mul(0.5).add(pre.selfAttn.forward(y, y, y)[0]);
    const total = sum.mul(0.5).add(pre.linear2.forward(F.relu(pre.linear1.forward(pre.norm2.forward(sum)))));
    expect(compare(await pre.forward(x).data(), await total.data()).difference).toBeLessThan(1e-6);
  });

  test('position biases reach the attention, with gradients, whether weights are wanted or not', async () => {
    const bias = new nn.RelativePositionBias(2, 3);
    const layer = new nn.TransformerEncoderLayer(small);
    const x = randn([2, 6, 8]);
    const dense = Array.from({ length: 6 }, (_, i) =>
      Array.from({ length: 6 }, (_u, j) => 3 + Math.max(-3, Math.min(3, j - i))),
    );
    const asTensor = bias.weight.indexSelect(1, tensor(dense.flat(), { dtype: 'int64' })).reshape([1, 2, 6, 6]);
    const positionBias = bias.forward();
    const [expected] = layer.selfAttn.forward(x, x, x, { attnMask: asTensor });
    for (const needWeights of [true, false]) {
      const [output] = layer.selfAttn.forward(x, x, x, { positionBias, needWeights });
      expect(compare(await output.data(), await expected.data()).difference).toBeLessThan(1e-6);
    }
    const stack = new nn.TransformerEncoder(layer, { numLayers: 2 });
    stack.forward(x, { positionBias }).square().sum().backward();
    expect((await bias.weight.grad!.data()).some((value) => value !== 0)).toBe(true);
  });
});

describe('LayerDrop', () => {
  const dropping = (layerDrop: number): nn.TransformerEncoder =>
    new nn.TransformerEncoder(new nn.TransformerEncoderLayer(small), { numLayers: 8, layerDrop });
  const ranOf = (stack: nn.TransformerEncoder, x: Tensor): number[] => {
    const ran: number[] = [];
    const hooks = stack.layers.map((layer, i) => layer.registerForwardHook(() => void ran.push(i)));
    stack.forward(x);
    for (const hook of hooks) hook.remove();
    return ran;
  };

  test('skips layers by the numbers of the generator, which rand would give', async () => {
    const stack = dropping(0.4);
    const x = randn([1, 2, 8]);
    for (const seed of [1, 2, 2 ** 40 + 3]) {
      const drawn = [...(await F.rand([8], { generator: new Generator(seed) }).data())];
      manualSeed(seed);
      expect(ranOf(stack, x)).toEqual(drawn.flatMap((u, i) => (u < 0.4 ? [] : [i])));
    }
  });

  test('drops a share of p in training, none in evaluation, and all of them for p = 1', async () => {
    manualSeed(3);
    const x = randn([1, 2, 8]);
    const stack = dropping(0.25);
    let ran = 0;
    for (let i = 0; i < 100; i++) ran += ranOf(stack, x).length;
    expect(ran / 800).toBeCloseTo(0.75, 1);
    expect(ranOf(stack.eval(), x)).toHaveLength(8);
    const none = dropping(1);
    expect(await none.forward(x).data()).toEqual(await x.data());
    // What is left out gets no gradient.
    none.train().forward(x.clone().requiresGrad_(true)).sum().backward();
    expect(none.parameters().every(({ grad }) => grad === null)).toBe(true);
  });

  test('is refused in a recorded step, and not in evaluation', () => {
    const stack = dropping(0.5);
    using step = record((x: Tensor) => stack.forward(x));
    expect(() => step(randn([1, 2, 8]))).toThrow(/TransformerEncoder.*eval\(\)/s);
    stack.eval();
    step(randn([1, 2, 8]));
    expect(step.recordings).toBe(1);
  });

  test('a decoder drops layers, too', () => {
    manualSeed(4);
    const stack = new nn.TransformerDecoder(new nn.TransformerDecoderLayer(small), { numLayers: 1, layerDrop: 1 });
    const tgt = randn([1, 2, 8]);
    expect(stack.forward(tgt, randn([1, 3, 8]))).toBe(tgt);
  });
});
