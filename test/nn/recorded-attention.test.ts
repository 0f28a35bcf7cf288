// Attention by itself against what PyTorch and transformers gave (test/golden/nn/attention.py): results, weights, all
// gradients.
import { functional as F, nn, type Tensor, tensor } from 'fovea';
import { describe, expect, it, test } from 'vitest';
import {
  expectGradients,
  expectNear,
  fill,
  numbers,
  precisions,
  type Precision,
  readJson,
  tolerances,
} from '../golden.js';
import { device } from '../helpers.js';
import { weighted } from './recorded.js';

interface Multihead {
  name: string;
  inputs: number[][];
  output: number[];
  weights: number[] | null;
  weightsShape: number[] | null;
  dinputs: number[][];
  gradients: Record<string, number[]>;
}
interface Buckets {
  numBuckets: number;
  maxDistance: number;
  bidirectional: boolean;
}
const recorded = readJson('nn', 'attention.json') as {
  multihead: Multihead[];
  relative: {
    heads: number;
    maxDistance: number;
    lengths: [number, number];
    output: number[];
    gradients: Record<'q' | 'k' | 'v' | 'weight', number[]>;
  }[];
  t5: (Buckets & { length: number; output: number[]; dx: number[]; gradients: Record<string, number[]> })[];
  buckets: (Buckets & { buckets: number[] })[];
};

const bools = (rows: number, columns: number, seen: (i: number, j: number) => boolean): boolean[][] =>
  Array.from({ length: rows }, (_, i) => Array.from({ length: columns }, (_unused, j) => seen(i, j)));
const onDevice = (values: boolean[][] | boolean[][][]): Tensor => tensor(values, { device });
const padding = (): Tensor => onDevice([bools(1, 5, () => true)[0]!, [true, true, false, true, false]]);
const seen = (shift = 0): boolean[][] => bools(3, 5, (i, j) => (2 * i + ((j - shift + 5) % 5)) % 3 !== 1);

/** What attention.py calls so, with PyTorch's masks the other way round. */
const ways: Record<
  string,
  [options: nn.MultiheadAttentionOptions, given: (dtype: Precision) => nn.MultiheadAttentionForwardOptions]
> = {
  self: [{ batchFirst: true }, () => ({})],
  'self, length first, causal': [{}, () => ({ isCausal: true })],
  'self, averaged': [{ batchFirst: true }, () => ({ keyPaddingMask: padding() })],
  cross: [{ batchFirst: true }, () => ({ attnMask: onDevice(seen()), keyPaddingMask: padding() })],
  'cross, numbers added': [
    { batchFirst: true, bias: false },
    (dtype) => ({ attnMask: numbers(301, [3, 5], dtype, 2) }),
  ],
  'cross, a mask for each head': [{ batchFirst: true }, () => ({ attnMask: onDevice([0, 1, 2, 3].map(seen)) })],
  'kdim and vdim': [{ kdim: 4, vdim: 3 }, () => ({ keyPaddingMask: padding() })],
};

describe.each(precisions)('what PyTorch gives, in %s', (dtype) => {
  const tolerance = tolerances[dtype];
  it.each(recorded.multihead.map((one) => [one.name, one] as const))('MultiheadAttention: %s', (name, golden) => {
    const [options, given] = ways[name]!;
    const layer = fill(new nn.MultiheadAttention(6, 2, { ...options, dtype }), 2);
    const inputs = golden.inputs.map((shape, i) => numbers(101 + i, shape, dtype, 2).requiresGrad_());
    const [query, key = query, value = query] = inputs as [Tensor, ...Tensor[]];
    const [output, weights] = layer.forward(query, key, value, {
      ...given(dtype),
      needWeights: golden.weights !== null,
      averageAttnWeights: golden.weightsShape?.length === 3,
    });
    expectNear('output', output, golden.output, tolerance);
    let loss = weighted(output, numbers(201, output.shape, dtype, 2));
    expect(weights ? [...weights.shape] : null).toEqual(golden.weightsShape);
    if (weights) {
      expectNear('weights', weights, golden.weights!, tolerance);
      loss = loss.add(weighted(weights, numbers(202, weights.shape, dtype, 2)));
    }
    loss.backward();
    for (const [i, x] of inputs.entries()) expectNear(`input ${i}`, x.grad, golden.dinputs[i]!, tolerance);
    expectGradients(layer, golden.gradients, tolerance);
  });

  it.each(recorded.relative.map((one) => [one.maxDistance, one] as const))(
    'RelativePositionBias up to distance %i',
    (maxDistance, { heads, lengths: [n, m], output, gradients }) => {
      const layer = fill(new nn.RelativePositionBias(heads, maxDistance, { dtype }), 2);
      const [q, k, v] = [n, m, m].map((length, i) =>
        numbers(101 + i, [2, heads, length, 4], dtype, 2).requiresGrad_(),
      ) as [Tensor, Tensor, Tensor];
      const y = F.attention(q, k, v, { positionBias: layer.forward() });
      expectNear('output', y, output, tolerance);
      weighted(y, numbers(201, y.shape, dtype, 2)).backward();
      for (const [key, x] of Object.entries({ q, k, v, weight: layer.weight }))
        expectNear(key, x.grad, gradients[key as keyof typeof gradients], tolerance);
    },
  );

  it.each(recorded.t5.map((one) => [one.bidirectional, one] as const))(
    "T5's attention, bidirectional: %s",
    (_, { length, output, dx, gradients, ...options }) => {
      const layer = fill(new T5Attention(options, dtype), 2);
      const x = numbers(101, [1, length, 6], dtype, 2).requiresGrad_();
      const y = layer.forward(x);
      expectNear('output', y, output, tolerance);
      weighted(y, numbers(201, y.shape, dtype, 2)).backward();
      expectNear('dx', x.grad, dx, tolerance);
      expectGradients(layer, gradients, tolerance);
    },
  );
});

/** Self-attention of T5: two heads of width 4, without scale. */
class T5Attention extends nn.Module {
  q: nn.Linear;
  k: nn.Linear;
  v: nn.Linear;
  o: nn.Linear;
  relativeAttentionBias: nn.T5RelativePositionBias;
  constructor(options: Buckets, dtype: Precision) {
    super();
    const linear = (from: number, to: number): nn.Linear => new nn.Linear(from, to, { bias: false, dtype });
    [this.q, this.k, this.v, this.o] = [linear(6, 8), linear(6, 8), linear(6, 8), linear(8, 6)];
    this.relativeAttentionBias = new nn.T5RelativePositionBias(2, { ...options, dtype });
  }
  override forward(x: Tensor): Tensor {
    const [b, n] = x.shape as [number, number];
    const heads = (layer: nn.Linear): Tensor => layer.forward(x).reshape([b, n, 2, 4]).transpose(1, 2);
    const positionBias = this.relativeAttentionBias.forward();
    const y = F.attention(heads(this.q), heads(this.k), heads(this.v), { positionBias, scale: 1 });
    return this.o.forward(y.transpose(1, 2).reshape([b, n, 8]));
  }
}

test.each(recorded.buckets)(
  'T5 buckets: $numBuckets up to $maxDistance, bidirectional: $bidirectional',
  ({ buckets, ...options }) => {
    const layer = new nn.T5RelativePositionBias(1, { ...options, dtype: 'float64' }).to(device);
    const count = options.numBuckets;
    const far = options.maxDistance + 2;
    // Of one query in the middle, the logarithm of the weight of each key is its bias and a number for all of them.
    const biases = Array.from({ length: count }, (_, bucket) => [bucket]);
    layer.loadStateDict({ weight: tensor(biases, { dtype: 'float64', device }) });
    const zeros = F.zeros([1, 1, 2 * far + 1, 1], { dtype: 'float64', device });
    const v = F.eye(2 * far + 1, undefined, { dtype: 'float64', device }).reshape([1, 1, 2 * far + 1, 2 * far + 1]);
    const weights = F.attention(zeros, zeros, v, { positionBias: layer.forward(), scale: 1 }).select(2, far);
    const found = weights
      .log()
      .sub(weights.log().max())
      .add(Math.max(...buckets));
    expectNear('buckets', found, buckets, 1e-12);
  },
);
