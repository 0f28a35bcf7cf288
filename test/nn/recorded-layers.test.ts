// Layers of vectors against what PyTorch gave (test/golden/nn/layers.py): results, shapes, all gradients.
import { type nn, type Tensor, tensor } from 'fovea';
import { describe, expect, it } from 'vitest';
import { expectGradients, expectNear, fill, numbers, precisions, readJson, tolerances } from '../golden.js';
import { device } from '../helpers.js';
import { makeLayer, type RecordedLayer, titleOf, weighted } from './recorded.js';

type Recorded = RecordedLayer & {
  shape: number[];
  output: number[];
  gradients: Record<string, number[]>;
  /** Of mixtures of experts, added to the loss. */
  extra?: { balanceLoss: number; zLoss: number };
} & ({ ids: number[][] } | { input: number[]; dx: number[] });
const { cases } = readJson('nn', 'layers.json') as { cases: Recorded[] };
type Layer = nn.Module & { forward(x: Tensor): Tensor | nn.MixtureOfExpertsOutput };

describe.each(precisions)('what PyTorch gives, in %s', (dtype) => {
  const tolerance = tolerances[dtype];
  it.each(cases.map((one) => [titleOf(one), one] as const))('%s', (_, recorded) => {
    const layer = fill(makeLayer(recorded, dtype) as Layer, 2);
    const x =
      'ids' in recorded
        ? tensor(recorded.ids, { dtype: 'int64', device })
        : numbers(101, recorded.input, dtype, 2).requiresGrad_();
    const result = layer.forward(x);
    const [output, losses] = 'balanceLoss' in result ? [result.output, result] : [result, undefined];
    expect(output.shape).toEqual(recorded.shape);
    expectNear('output', output, recorded.output, tolerance);
    const loss = weighted(output, numbers(201, output.shape, dtype, 2));
    expect(losses === undefined).toBe(recorded.extra === undefined);
    if (losses && recorded.extra) {
      expectNear('balance loss', losses.balanceLoss, [recorded.extra.balanceLoss], tolerance);
      expectNear('z loss', losses.zLoss, [recorded.extra.zLoss], tolerance);
    }
    (losses ? loss.add(losses.balanceLoss).add(losses.zLoss) : loss).backward();
    if ('dx' in recorded) expectNear('dx', x.grad, recorded.dx, tolerance);
    expectGradients(layer, recorded.gradients, tolerance);
  });
});
