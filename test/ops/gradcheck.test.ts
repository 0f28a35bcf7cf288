// Gradients against central differences in float64: eps 1e-6, atol 1e-5, rtol 1e-3.
import { functional as F, type Tensor, tensor, tidy } from 'fovea';
import { describe, expect, it } from 'vitest';
import { listOf, type Row } from './row.js';
import { build, isFloat, type Sample, values } from './samples.js';
import { table } from './table.js';

const EPS = 1e-6;
const weight = (i: number, output: number): number => Math.sin(1.7 * i + output) + 0.3;

/** A number that depends on every element of every float output. */
function objective(row: Row, inputs: Tensor[], sample: Sample): Tensor {
  const outputs = listOf(row.run(inputs, sample.args ?? {})).filter((t) => isFloat(t.dtype));
  return outputs.map((t, o) => F.sum(F.mul(t, tensor(Array.from({ length: t.size }, (_, i) => weight(i, o)), { shape: t.shape, dtype: 'float64' })))).reduce((a, b) => F.add(a, b));
}

function numeric(row: Row, sample: Sample, seeds: number[], at: number): Float64Array {
  const nds = sample.inputs.map((spec, i) => build(spec, 'float64', seeds[i]!).nd);
  const x = nds[at]!;
  const value = (): number =>
    tidy(() => {
      const inputs = nds.map((nd, i) => (sample.inputs[i]!.dtype && i !== at ? build(sample.inputs[i]!, 'float64', seeds[i]!).tensor : tensor(Array.from(nd.data), { shape: nd.shape, dtype: 'float64' })));
      return objective(row, inputs, sample).itemSync() as number;
    });
  return x.data.map((_, i) => {
    const keep = x.data[i]!;
    x.data[i] = keep + EPS;
    const up = value();
    x.data[i] = keep - EPS;
    const down = value();
    x.data[i] = keep;
    return (up - down) / (2 * EPS);
  });
}

const differentiable = table.filter((row) => row.differentiable);
describe.each(differentiable.map((row) => [row.name, row] as const))('%s', (_, row) => {
  const samples = row.samples.filter((s) => s.gradcheck);
  it('has samples to differentiate', () => {
    expect(samples.length).toBeGreaterThanOrEqual(3);
  });
  it.each(samples.map((s) => [s.label, s] as const))('%s', (__, sample) => {
    const seeds = sample.inputs.map((___, i) => 977 * (i + 1));
    const wanted = row.differentiable!.filter((i) => i < sample.inputs.length && (sample.inputs[i]!.dtype === undefined || isFloat(sample.inputs[i]!.dtype!)));
    tidy(() => {
      const inputs = sample.inputs.map((spec, i) => {
        const t = build(spec, 'float64', seeds[i]!).tensor;
        return wanted.includes(i) ? t.detach().requiresGrad_(true) : t;
      });
      objective(row, inputs, sample).backward();
      for (const i of wanted) {
        const grad = inputs[i]!.grad;
        expect(grad, `gradient of input ${i}`).not.toBeNull();
        const analytic = values(grad!).data;
        numeric(row, sample, seeds, i).forEach((want, j) => {
          const got = analytic[j]!;
          expect(Math.abs(got - want), `d input ${i}[${j}]: ${got}, differences give ${want}`).toBeLessThanOrEqual(1e-5 + 1e-3 * Math.abs(want));
        });
      }
    });
  });
});
