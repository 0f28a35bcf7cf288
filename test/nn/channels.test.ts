// Layers of channels against what PyTorch gave (channels.py in test/golden/nn): results, gradients, keys, running
// statistics after several steps. And what they refuse, and how they start.
import { manualSeed, nn, noGrad, randn, record, type Tensor, zeros } from 'fovea';
import { describe, expect, it, test } from 'vitest';
import { expectNear, fill, numbers, precisions, type Precision, readJson, tolerances } from '../golden.js';
import { codeOf, list } from '../helpers.js';
import { makeLayer, type RecordedLayer, titleOf, weighted } from './recorded.js';

interface Step {
  shape: number[];
  y: number[];
  dx: number[];
  gradients: number[][];
  /** Where maxima were, if that was asked for. */
  indices?: number[];
  runningMean?: number[];
  runningVar?: number[];
  tracked?: number;
}
type Recorded = RecordedLayer & { state: [string, number[]][] };
type Layer = Recorded & { input: number[]; step: Step };
type Norm = Recorded & { inputs: number[][]; steps: Step[]; evaluation: Step };
const { layers, norms } = readJson('nn', 'channels.json') as { layers: Layer[]; norms: Norm[] };
const { layers: pools } = readJson('nn', 'pools.json') as { layers: Layer[] };
type AnyLayer = nn.Module & { forward(x: Tensor): Tensor | ReturnType<nn.MaxPool2d<true>['forward']> };

function make(recorded: Recorded, dtype: Precision): AnyLayer {
  const layer = fill(makeLayer(recorded, dtype) as AnyLayer, 2);
  expect(Object.entries(layer.stateDict()).map(([key, { shape }]) => [key, [...shape]])).toEqual(recorded.state);
  return layer;
}
function check(layer: AnyLayer, shape: number[], seed: number, expected: Step, dtype: Precision): void {
  layer.zeroGrad();
  const x = numbers(101 + seed, shape, dtype, 2).requiresGrad_();
  const found = layer.forward(x);
  const [y, indices] = 'values' in found ? [found.values, found.indices] : [found, undefined];
  expect([...y.shape]).toEqual(expected.shape);
  expect(indices && list(indices)).toEqual(expected.indices);
  weighted(y, numbers(201 + seed, y.shape, dtype, 2)).backward();
  const tolerance = tolerances[dtype];
  expectNear('y', y, expected.y, tolerance);
  expectNear('dx', x.grad, expected.dx, tolerance);
  for (const [i, [key, { grad }]] of layer.namedParameters().entries())
    expectNear(key, grad, expected.gradients[i]!, tolerance);
}

describe.each(precisions)('PyTorch, in %s', (dtype) => {
  it.each([...layers, ...pools].map((layer) => [titleOf(layer), layer] as const))('%s', (_, recorded) =>
    check(make(recorded, dtype), recorded.input, 0, recorded.step, dtype),
  );
  it.each(norms.map((norm) => [titleOf(norm), norm] as const))('%s', (_, recorded) => {
    const layer = make(recorded, dtype) as nn.BatchNorm2d;
    recorded.steps.forEach((step, i) => {
      check(layer, recorded.inputs[i]!, i, step, dtype);
      expect(layer.numBatchesTracked?.itemSync()).toBe(step.tracked);
      if (step.runningMean) expectNear('running mean', layer.runningMean, step.runningMean, tolerances[dtype]);
      if (step.runningVar) expectNear('running variance', layer.runningVar, step.runningVar, tolerances[dtype]);
    });
    layer.eval();
    check(layer, recorded.inputs[0]!, 9, recorded.evaluation, dtype);
    expect(layer.numBatchesTracked?.itemSync()).toBe(recorded.steps.at(-1)!.tracked);
  });
});

describe('layers of channels', () => {
  test('start as those of PyTorch: uniform within one by the root of the fan in', () => {
    manualSeed(0);
    for (const [layer, fan] of [
      [new nn.Conv1d(8, 40, 5), 40],
      [new nn.Conv2d(6, 60, 3, { groups: 2 }), 27],
      [new nn.ConvTranspose2d(8, 60, 3), 540],
    ] as const) {
      for (const values of [list(layer.weight), list(layer.bias!)]) {
        expect(Math.max(...values.map(Math.abs))).toBeLessThanOrEqual(1 / Math.sqrt(fan));
        const spread = Math.sqrt(values.reduce((sum, v) => sum + v * v, 0) / values.length);
        expect(Math.abs(spread * Math.sqrt(3 * fan) - 1)).toBeLessThan(values.length > 100 ? 0.1 : 0.35);
      }
    }
    const norm = new nn.BatchNorm2d(3);
    expect([norm.weight, norm.bias, norm.runningMean, norm.runningVar].map((t) => list(t!))).toEqual([
      [1, 1, 1],
      [0, 0, 0],
      [0, 0, 0],
      [1, 1, 1],
    ]);
  });

  test('follow dtypes and keep the count', () => {
    const norm = new nn.BatchNorm1d(3, { dtype: 'float64' }).to('bfloat16');
    norm.forward(randn([4, 3]).to('bfloat16'));
    expect(norm.runningMean!.dtype).toBe('bfloat16');
    expect(norm.numBatchesTracked!.dtype).toBe('int64');
    expect(norm.numBatchesTracked!.itemSync()).toBe(1);
    // 16-bit images with float32 parameters, as in mixed precision
    expect(new nn.BatchNorm2d(2).forward(randn([2, 2, 3, 3]).to('bfloat16')).dtype).toBe('bfloat16');
  });

  test('batch normalisation goes on in recorded steps', () => {
    const [norm, plain] = [new nn.BatchNorm1d(4, { momentum: null }), new nn.BatchNorm1d(4, { momentum: null })];
    const step = record((x: Tensor) => noGrad(() => norm.forward(x)));
    for (let i = 0; i < 3; i++) {
      const x = randn([5, 4]);
      expect(list(step(x))).toEqual(list(plain.forward(x)));
    }
    expect(list(norm.runningMean!)).toEqual(list(plain.runningMean!));
    expect(list(norm.runningVar!)).toEqual(list(plain.runningVar!));
    expect(norm.numBatchesTracked!.itemSync()).toBe(3);
    step.dispose();
  });

  test('maxima with their places are those of the image', () => {
    const x = randn([2, 3, 7, 6]);
    for (const pool of [
      new nn.MaxPool2d(3, { stride: 2, returnIndices: true }),
      new nn.AdaptiveMaxPool2d([3, 2], { returnIndices: true }),
    ]) {
      const { values, indices } = pool.forward(x);
      expect(indices.dtype).toBe('int64');
      const rows = (t: Tensor): Tensor => t.reshape([6, -1]);
      expect(list(rows(x).gather(1, rows(indices)))).toEqual(list(values));
    }
    const alone: Tensor = new nn.MaxPool2d(3, { stride: 2 }).forward(x);
    expect(alone.shape).toEqual([2, 3, 3, 2]);
  });

  it.each<[string, () => unknown, string, RegExp]>([
    [
      'groups that do not divide',
      () => new nn.Conv2d(4, 6, 3, { groups: 4 }),
      'FOVEA_ARGUMENT',
      /Conv2d: expected a divisor of 4 and 6 for groups, received 4/,
    ],
    [
      'another padding mode',
      () => new nn.Conv2d(1, 1, 3, { paddingMode: 'reflect' as never }),
      'FOVEA_UNSUPPORTED',
      /Conv2d.*'zeros'.*reflect/,
    ],
    ['a kernel of three sizes', () => new nn.Conv2d(1, 1, [3, 3, 3]), 'FOVEA_ARGUMENT', /Conv2d.*kernelSize/],
    ['a misspelt option', () => new nn.Conv1d(1, 1, 3, { strides: 2 } as never), 'FOVEA_ARGUMENT', /Conv1d.*strides/],
    ['no channels', () => new nn.ConvTranspose1d(0, 1, 3), 'FOVEA_ARGUMENT', /ConvTranspose1d.*inChannels/],
    [
      'other channels',
      () => new nn.Conv2d(2, 1, 3).forward(zeros([1, 3, 5, 5])),
      'FOVEA_SHAPE',
      /conv2d.*3 channels.*2/,
    ],
    [
      'a kernel beyond the padded input',
      () => new nn.Conv2d(1, 1, 5).forward(zeros([1, 1, 4, 4])),
      'FOVEA_SHAPE',
      /conv2d: the kernel spans \[5,5\].*\[4,4\]/,
    ],
    ['no features', () => new nn.BatchNorm1d(0), 'FOVEA_ARGUMENT', /BatchNorm1d.*numFeatures/],
    [
      'images for BatchNorm1d',
      () => new nn.BatchNorm1d(2).forward(zeros([2, 2, 3, 3])),
      'FOVEA_SHAPE',
      /BatchNorm1d.*\[b,c\]/,
    ],
    [
      'vectors for BatchNorm2d',
      () => new nn.BatchNorm2d(2).forward(zeros([2, 2])),
      'FOVEA_SHAPE',
      /BatchNorm2d.*\[b,c,h,w\]/,
    ],
    [
      'other features',
      () => new nn.BatchNorm1d(2).forward(zeros([2, 3])),
      'FOVEA_SHAPE',
      /batchNorm.*\[3\], received \[2\]/,
    ],
    ['groups that do not divide channels', () => new nn.GroupNorm(4, 6), 'FOVEA_ARGUMENT', /GroupNorm.*divisor.*6/],
    [
      'channels of another number',
      () => new nn.GroupNorm(2, 4).forward(zeros([1, 6])),
      'FOVEA_SHAPE',
      /GroupNorm.*\[b,4/,
    ],
    [
      'an unknown option of an adaptive pool',
      () => new nn.AdaptiveMaxPool1d(2, { stride: 1 } as never),
      'FOVEA_ARGUMENT',
      /AdaptiveMaxPool1d.*stride/,
    ],
    [
      'an unknown option of a pool',
      () => new nn.MaxPool2d(2, { step: 1 } as never),
      'FOVEA_ARGUMENT',
      /MaxPool2d.*step/,
    ],
  ])('refuse %s', (_, run, code, mentions) => {
    expect(run).toThrow(mentions);
    expect(codeOf(run)).toBe(code);
  });
});
