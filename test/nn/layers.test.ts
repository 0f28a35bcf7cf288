// Layers against float64 formulas written out, with weights set by hand.
import { gelu, grad, linear, manualSeed, nn, noGrad, randn, tensor, type Tensor } from 'fovea';
import { describe, expect, test } from 'vitest';
import { compare } from '../golden.js';
import { addRows, affine, layerNorm, type Matrix, matrix, multiHead, rmsNorm } from './reference.js';

async function expectNear(actual: Tensor, expected: Matrix | number[], tolerance = 2e-6): Promise<void> {
  const values = expected.flat();
  expect(compare(await actual.data(), values).difference).toBeLessThanOrEqual(tolerance);
}

/** Fills a module with known weights and gives them by key. */
function setWeights(module: nn.Module): Map<string, Matrix> {
  const weights = new Map<string, Matrix>();
  const dict: Record<string, Tensor> = {};
  for (const [i, [key, parameter]] of module.namedParameters().entries()) {
    const rows = parameter.rank === 2 ? parameter.shape[0]! : 1;
    const values = matrix(rows, parameter.shape.at(-1)!, i + 1);
    weights.set(key, values);
    dict[key] = tensor(values).reshape(parameter.shape);
  }
  module.loadStateDict(dict);
  return weights;
}

describe('linear, embedding, norms', () => {
  test('Linear', async () => {
    const layer = new nn.Linear(3, 4);
    const weights = setWeights(layer);
    const x = matrix(5, 3, 0.3);
    await expectNear(layer.forward(tensor(x)), affine(x, weights.get('weight')!, weights.get('bias')![0]));
    const bare = new nn.Linear(3, 4, { bias: false });
    expect(Object.keys(bare.stateDict())).toEqual(['weight']);
  });

  test('Embedding', async () => {
    const layer = new nn.Embedding(5, 3, { paddingIdx: 1 });
    await expectNear(layer.forward(tensor([[1]], { dtype: 'int64' })), [0, 0, 0]);
    const table = setWeights(layer).get('weight')!;
    const out = layer.forward(
      tensor(
        [
          [4, 1],
          [0, 4],
        ],
        { dtype: 'int64' },
      ),
    );
    expect([...out.shape]).toEqual([2, 2, 3]);
    await expectNear(out, [table[4]!, table[1]!, table[0]!, table[4]!]);
    out.sum().backward();
    const grad = await layer.weight.grad!.toArray();
    expect(grad).toEqual([
      [1, 1, 1],
      [0, 0, 0],
      [0, 0, 0],
      [0, 0, 0],
      [2, 2, 2],
    ]);
  });

  test('LayerNorm and RMSNorm', async () => {
    const x = matrix(4, 6, 0.7);
    const norm = new nn.LayerNorm(6, { eps: 1e-3 });
    const weights = setWeights(norm);
    await expectNear(norm.forward(tensor(x)), layerNorm(x, weights.get('weight')![0]!, weights.get('bias')![0]!, 1e-3));
    const rms = new nn.RMSNorm([6]);
    const scale = setWeights(rms).get('weight')![0]!;
    await expectNear(rms.forward(tensor(x)), rmsNorm(x, scale, 2 ** -23));
    expect(new nn.LayerNorm(6, { elementwiseAffine: false }).parameters()).toEqual([]);
    expect(Object.keys(new nn.LayerNorm(6, { bias: false }).stateDict())).toEqual(['weight']);
  });

  test('Dropout drops in training alone and keeps the mean', async () => {
    manualSeed(3);
    const layer = new nn.Dropout(0.25);
    const x = tensor(new Float32Array(20_000).fill(1));
    const values = await layer.forward(x).data();
    const zeros = values.filter((value) => value === 0).length;
    expect(zeros / values.length).toBeCloseTo(0.25, 1);
    expect(values.every((value) => value === 0 || Math.abs(value - 4 / 3) < 1e-6)).toBe(true);
    expect(layer.eval().forward(x)).toBe(x);
    expect(() => new nn.Dropout(1.5)).toThrow(/p/);
  });

  test('FeedForward', async () => {
    const layer = new nn.FeedForward(4, 6, { activation: 'relu' });
    const weights = setWeights(layer);
    const x = matrix(3, 4, 2);
    const hidden = affine(x, weights.get('linear1.weight')!, weights.get('linear1.bias')![0]).map((row) =>
      row.map((value) => Math.max(0, value)),
    );
    await expectNear(
      layer.forward(tensor(x)),
      affine(hidden, weights.get('linear2.weight')!, weights.get('linear2.bias')![0]),
    );
    expect(() => new nn.FeedForward(4, 6, { activation: 'nope' })).toThrow(/"nope" is not one of relu, gelu/);
  });

  test.each(['gelu', 'gelu_new', 'relu', 'silu'])(
    'FeedForward with %s: the same with and without a tape',
    async (activation) => {
      const layer = new nn.FeedForward(4, 6, { activation });
      const x = randn([3, 4]);
      const hidden = nn.activationOf(activation)(layer.linear1.forward(x));
      const expected = await layer.linear2.forward(hidden).data();
      await expectNear(layer.forward(x), [...expected]);
      await expectNear(
        noGrad(() => layer.forward(x)),
        [...expected],
      );
    },
  );

  test('FeedForward: hooks, subclasses and what is assigned to forward come to their turn', async () => {
    class Doubled extends nn.Linear {
      override forward(x: Tensor): Tensor {
        return super.forward(x).mul(2);
      }
    }
    const x = randn([3, 4]);
    const double = (output: unknown): Tensor => (output as Tensor).mul(2);
    const alter: ((layer: nn.FeedForward) => void)[] = [
      (layer) => void layer.linear1.registerForwardHook((_module, _args, output) => double(output)),
      (layer) => void layer.linear1.registerForwardPreHook((_module, args) => [double(args[0])]),
      (layer) => {
        const { weight, bias } = layer.linear1;
        layer.linear1 = Object.assign(new Doubled(4, 6), { weight, bias });
      },
      (layer) => {
        const { linear1 } = layer;
        const forward = linear1.forward.bind(linear1);
        linear1.forward = (input) => double(forward(input));
      },
    ];
    for (const change of alter) {
      const layer = new nn.FeedForward(4, 6, { activation: 'gelu', bias: false });
      const expected = layer.linear2.forward(gelu(double(layer.linear1.forward(x))));
      change(layer);
      await expectNear(
        noGrad(() => layer.forward(x)),
        [...(await expected.data())],
      );
    }
  });

  test('linear rounds once where no gradient is wanted, and keeps the gradient of its activation where one is', async () => {
    manualSeed(3);
    const x = randn([64, 32]).mul(0.3).to('bfloat16');
    const weight = randn([48, 32], { dtype: 'bfloat16', requiresGrad: true });
    for (const activation of ['gelu', 'geluTanh'] as const) {
      const act = (y: Tensor): Tensor => gelu(y, { approximate: activation === 'gelu' ? 'none' : 'tanh' });
      const exact = act(linear(x.to('float64'), weight.detach().to('float64')));
      const off = (y: Tensor): number => y.to('float64').div(exact).sub(1).abs().max().itemSync() as number;
      const composed = linear(x, weight, null, { activation });
      const fused = noGrad(() => linear(x, weight, null, { activation }));
      expect(await composed.data()).toEqual(await act(linear(x, weight)).data());
      expect(off(fused)).toBeLessThan(2 ** -7);
      expect(off(composed)).toBeGreaterThan(2 ** -6);
      const [gradient] = grad(composed.sum(), [weight]);
      const [expected] = grad(act(linear(x, weight)).sum(), [weight]);
      expect(await gradient!.data()).toEqual(await expected!.data());
    }
  });
});

describe('MultiheadAttention', () => {
  const [length, source, width, heads] = [3, 4, 8, 2];
  const thirds = (w: Matrix): [Matrix, Matrix, Matrix] => [
    w.slice(0, width),
    w.slice(width, 2 * width),
    w.slice(2 * width),
  ];

  interface Expected {
    output: Matrix;
    weights: Matrix[];
  }
  function expectedOf(
    weights: Map<string, Matrix>,
    x: Matrix,
    y: Matrix,
    visible: (i: number, j: number) => boolean,
  ): Expected {
    const [wq, wk, wv] = thirds(weights.get('in_proj_weight')!);
    const bias = weights.get('in_proj_bias')![0]!;
    const project = (rows: Matrix, w: Matrix, part: number): Matrix =>
      affine(rows, w, bias.slice(part * width, (part + 1) * width));
    const attended = multiHead(project(x, wq, 0), project(y, wk, 1), project(y, wv, 2), heads, visible);
    return {
      ...attended,
      output: affine(attended.output, weights.get('out_proj.weight')!, weights.get('out_proj.bias')![0]),
    };
  }

  test.each([true, false])('cross attention with masks, weights asked for: %s', async (needWeights) => {
    const layer = new nn.MultiheadAttention(width, heads, { batchFirst: true });
    const weights = setWeights(layer);
    const [x, y] = [matrix(length, width, 5), matrix(source, width, 6)];
    const allowed = [
      [true, true, false, true],
      [true, false, true, true],
      [false, true, true, false],
    ];
    const real = [true, true, true, false];
    const expected = expectedOf(weights, x, y, (i, j) => allowed[i]![j]! && real[j]!);
    const [output, probs] = layer.forward(tensor([x]), tensor([y]), tensor([y]), {
      attnMask: tensor(allowed),
      keyPaddingMask: tensor([real]),
      needWeights,
    });
    expect([...output.shape]).toEqual([1, length, width]);
    await expectNear(output, expected.output);
    if (needWeights) await expectNear(probs!, expected.weights.flat());
    else expect(probs).toBeUndefined();
  });

  test('self attention, causal, length first, averaged weights', async () => {
    const layer = new nn.MultiheadAttention(width, heads);
    const weights = setWeights(layer);
    const x = matrix(length, width, 7);
    const expected = expectedOf(weights, x, x, (i, j) => j <= i);
    const input = tensor(x).reshape([length, 1, width]);
    const [output, probs] = layer.forward(input, input, input, { isCausal: true, averageAttnWeights: true });
    expect([...output.shape]).toEqual([length, 1, width]);
    await expectNear(output, expected.output);
    await expectNear(
      probs!,
      expected.weights[0]!.map((row, i) => row.map((value, j) => (value + expected.weights[1]![i]![j]!) / 2)),
    );
  });

  test('numbers in a mask are added; a query that sees no key attends to nothing', async () => {
    const layer = new nn.MultiheadAttention(width, heads, { batchFirst: true });
    const weights = setWeights(layer);
    const x = matrix(length, width, 8);
    const input = tensor([x]);
    const free = expectedOf(weights, x, x, () => true);
    const [same] = layer.forward(input, input, input, {
      attnMask: tensor(matrix(length, length, 1).map((row) => row.map(() => 2.5))),
    });
    await expectNear(same, free.output);
    const blind = tensor([
      [true, true, true],
      [false, false, false],
      [true, true, true],
    ]);
    for (const needWeights of [true, false]) {
      const [output] = layer.forward(input, input, input, { attnMask: blind, needWeights });
      await expectNear(output.select(1, 1), weights.get('out_proj.bias')![0]!);
    }
  });

  test('other widths of keys and values have matrices of their own', async () => {
    const layer = new nn.MultiheadAttention(width, heads, { kdim: 5, vdim: 6, batchFirst: true });
    expect(Object.entries(layer.stateDict()).map(([key, { shape }]) => [key, [...shape]])).toEqual([
      ['q_proj_weight', [8, 8]],
      ['k_proj_weight', [8, 5]],
      ['v_proj_weight', [8, 6]],
      ['in_proj_bias', [24]],
      ['out_proj.weight', [8, 8]],
      ['out_proj.bias', [8]],
    ]);
    const [output] = layer.forward(randn([2, 3, 8]), randn([2, 4, 5]), randn([2, 4, 6]));
    expect([...output.shape]).toEqual([2, 3, 8]);
  });

  test('has 4 d² + 4 d parameters', () => {
    expect(new nn.MultiheadAttention(768, 12).numParameters()).toBe(2_359_296 + 3_072);
    expect(() => new nn.MultiheadAttention(10, 3)).toThrow(/a divisor of embedDim \(10\)/);
  });
});

describe('TransformerEncoderLayer', () => {
  const [length, width, heads] = [4, 8, 2];
  test.each([true, false])('norm first: %s', async (normFirst) => {
    const layer = new nn.TransformerEncoderLayer({
      dModel: width,
      nHead: heads,
      dimFeedforward: 12,
      normFirst,
      batchFirst: true,
    }).eval();
    const weights = setWeights(layer);
    const one = (key: string): number[] => weights.get(key)![0]!;
    const attend = (rows: Matrix): Matrix => {
      const w = weights.get('self_attn.in_proj_weight')!;
      const b = one('self_attn.in_proj_bias');
      const [q, k, v] = [0, 1, 2].map((i) =>
        affine(rows, w.slice(i * width, (i + 1) * width), b.slice(i * width, (i + 1) * width)),
      );
      return affine(
        multiHead(q!, k!, v!, heads, () => true).output,
        weights.get('self_attn.out_proj.weight')!,
        one('self_attn.out_proj.bias'),
      );
    };
    const feed = (rows: Matrix): Matrix => {
      const hidden = affine(rows, weights.get('linear1.weight')!, one('linear1.bias')).map((row) =>
        row.map((value) => Math.max(0, value)),
      );
      return affine(hidden, weights.get('linear2.weight')!, one('linear2.bias'));
    };
    const norm = (rows: Matrix, i: 1 | 2): Matrix => layerNorm(rows, one(`norm${i}.weight`), one(`norm${i}.bias`));
    const x = matrix(length, width, 9);
    let expected: Matrix;
    if (normFirst) {
      const middle = addRows(x, attend(norm(x, 1)));
      expected = addRows(middle, feed(norm(middle, 2)));
    } else {
      const middle = norm(addRows(x, attend(x)), 1);
      expected = norm(addRows(middle, feed(middle)), 2);
    }
    await expectNear(layer.forward(tensor([x])), expected, 2e-5);
  });

  test('has the keys of PyTorch, in its order', () => {
    const layer = new nn.TransformerEncoderLayer({ dModel: 8, nHead: 2, dimFeedforward: 16 });
    expect(Object.keys(layer.stateDict())).toEqual([
      'self_attn.in_proj_weight',
      'self_attn.in_proj_bias',
      'self_attn.out_proj.weight',
      'self_attn.out_proj.bias',
      'linear1.weight',
      'linear1.bias',
      'linear2.weight',
      'linear2.bias',
      'norm1.weight',
      'norm1.bias',
      'norm2.weight',
      'norm2.bias',
    ]);
  });

  test('causal: a later position changes nothing before it', async () => {
    const layer = new nn.TransformerEncoderLayer({ dModel: 8, nHead: 2, dimFeedforward: 16, batchFirst: true }).eval();
    const x = randn([1, 4, 8]);
    const y = x.clone();
    y.select(1, 3).fill_(9);
    const first = (input: Tensor): Promise<Float32Array> =>
      layer.forward(input, { isCausal: true }).narrow(1, 0, 3).data();
    expect(await first(x)).toEqual(await first(y));
  });

  test('every parameter gets a gradient', () => {
    const layer = new nn.TransformerEncoderLayer({ dModel: 8, nHead: 2, dimFeedforward: 16, activation: 'gelu' });
    layer
      .forward(randn([5, 2, 8]))
      .square()
      .mean()
      .backward();
    expect(layer.namedParameters().filter(([, { grad }]) => grad === null)).toEqual([]);
  });
});
