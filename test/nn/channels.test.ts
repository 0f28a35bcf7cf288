// Layers of channels against what PyTorch gave (test/golden/nn/channels.py): results, gradients, keys, running statistics
// after several steps. And what they refuse, and how they start.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Dtype, manualSeed, nn, noGrad, randn, record, tensor, type Tensor, zeros } from 'fovea';
import { describe, expect, it, test } from 'vitest';
import { codeOf, list } from '../helpers.js';

interface Step {
  shape: number[];
  y: number[];
  dx: number[];
  gradients: number[][];
  runningMean?: number[];
  runningVar?: number[];
  tracked?: number;
}
interface Recorded {
  name: keyof typeof makers;
  arguments: unknown[];
  options: Record<string, unknown> | null;
  state: [string, number[]][];
}
type Layer = Recorded & { input: number[]; step: Step };
type Norm = Recorded & { inputs: number[][]; steps: Step[]; evaluation: Step };
const golden = JSON.parse(readFileSync(join(import.meta.dirname, '..', 'golden', 'nn', 'channels.json'), 'utf8')) as {
  layers: Layer[];
  norms: Norm[];
};

const makers = {
  Conv1d: nn.Conv1d,
  Conv2d: nn.Conv2d,
  ConvTranspose1d: nn.ConvTranspose1d,
  ConvTranspose2d: nn.ConvTranspose2d,
  GroupNorm: nn.GroupNorm,
  BatchNorm1d: nn.BatchNorm1d,
  BatchNorm2d: nn.BatchNorm2d,
  AvgPool1d: nn.AvgPool1d,
  AvgPool2d: nn.AvgPool2d,
  MaxPool1d: nn.MaxPool1d,
  MaxPool2d: nn.MaxPool2d,
  AdaptiveAvgPool1d: nn.AdaptiveAvgPool1d,
  AdaptiveAvgPool2d: nn.AdaptiveAvgPool2d,
};
type AnyLayer = nn.Module & { forward(x: Tensor): Tensor };

/** The same numbers, exact in float32, as `numbers` of channels.py. */
function numbers(shape: readonly number[], seed: number, dtype: Dtype): Tensor {
  const count = shape.reduce((a, b) => a * b, 1);
  const values = Array.from({ length: count }, (_, i) => (((i * 37 + seed * 101 + ((i * i) % 59)) % 127) - 63) / 32);
  return tensor(values, { shape, dtype });
}
function make({ name, arguments: given, options }: Recorded, dtype: Dtype): AnyLayer {
  const Maker = makers[name] as unknown as new (...args: unknown[]) => AnyLayer;
  const layer = new Maker(...given, ...(options ? [options] : [])).to(dtype);
  layer.loadStateDict(
    Object.fromEntries(layer.namedParameters().map(([key, { shape }], i) => [key, numbers(shape, i + 1, dtype)])),
    { strict: false },
  );
  return layer;
}
function near(actual: Tensor, expected: number[], dtype: Dtype): void {
  const values = list(actual);
  expect(values.length).toBe(expected.length);
  const largest = expected.reduce((most, v) => Math.max(most, Math.abs(v)), 1);
  const allowed = (dtype === 'float64' ? 1e-10 : 2e-5) * largest;
  values.forEach((v, i) => expect(Math.abs(v - expected[i]!), `element ${i}: ${v}`).toBeLessThanOrEqual(allowed));
}
function check(layer: AnyLayer, shape: number[], seed: number, expected: Step, dtype: Dtype): void {
  layer.zeroGrad();
  const x = numbers(shape, seed, dtype).requiresGrad_();
  const y = layer.forward(x);
  expect([...y.shape]).toEqual(expected.shape);
  y.mul(numbers(y.shape, seed + 7, dtype))
    .sum()
    .backward();
  near(y, expected.y, dtype);
  near(x.grad!, expected.dx, dtype);
  layer.parameters().forEach((p, i) => near(p.grad!, expected.gradients[i]!, dtype));
}

describe.each(['float32', 'float64'] as const)('PyTorch, in %s', (dtype) => {
  it.each(golden.layers.map((layer) => [`${layer.name} ${JSON.stringify(layer.options)}`, layer] as const))(
    '%s',
    (_, recorded) => {
      const layer = make(recorded, dtype);
      expect(Object.entries(layer.stateDict()).map(([key, { shape }]) => [key, [...shape]])).toEqual(recorded.state);
      check(layer, recorded.input, 3, recorded.step, dtype);
    },
  );
  it.each(golden.norms.map((norm) => [`${norm.name} ${JSON.stringify(norm.options)}`, norm] as const))(
    '%s',
    (_, recorded) => {
      const layer = make(recorded, dtype) as nn.BatchNorm2d;
      expect(Object.entries(layer.stateDict()).map(([key, { shape }]) => [key, [...shape]])).toEqual(recorded.state);
      recorded.steps.forEach((step, i) => {
        check(layer, recorded.inputs[i]!, 3 + i, step, dtype);
        expect(layer.numBatchesTracked?.itemSync()).toBe(step.tracked);
        if (step.runningMean) near(layer.runningMean!, step.runningMean, dtype);
        if (step.runningVar) near(layer.runningVar!, step.runningVar, dtype);
      });
      layer.eval();
      check(layer, recorded.inputs[0]!, 19, recorded.evaluation, dtype);
      expect(layer.numBatchesTracked?.itemSync()).toBe(recorded.steps.at(-1)!.tracked);
    },
  );
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
