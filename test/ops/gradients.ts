// Gradients against central differences in float64: eps 1e-6, atol 1e-5, rtol 1e-3.
import { functional as F, type Tensor, tensor, tidy } from 'fovea';
import { expect } from 'vitest';
import { device } from '../helpers.js';
import { listOf, type Row } from './row.js';
import { build, isFloat, type Sample, values } from './samples.js';

const EPS = 1e-6;
const weight = (i: number, output: number): number => Math.sin(1.7 * i + output) + 0.3;
const seedOf = (input: number): number => 977 * (input + 1);

/** A number that depends on every element of every float output. */
function objective(row: Row, inputs: Tensor[], sample: Sample): Tensor {
  const outputs = listOf(row.run(inputs, sample.args ?? {})).filter((t) => isFloat(t.dtype));
  const weighted = outputs.map((t, o) => {
    const weights = Array.from({ length: t.size }, (_, i) => weight(i, o));
    return F.sum(F.mul(t, tensor(weights, { shape: t.shape, dtype: 'float64', device })));
  });
  return weighted.reduce((a, b) => F.add(a, b));
}

function numeric(row: Row, sample: Sample, at: number): Float64Array {
  const nds = sample.inputs.map((spec, i) => build(spec, 'float64', seedOf(i)).nd);
  const x = nds[at]!;
  const value = (): number =>
    tidy(() => {
      const inputs = nds.map((nd, i) =>
        sample.inputs[i]!.dtype && i !== at
          ? build(sample.inputs[i]!, 'float64', seedOf(i)).tensor
          : tensor(Array.from(nd.data), { shape: nd.shape, dtype: 'float64', device }),
      );
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

/** Expects the gradients of all differentiable inputs of a sample to be those that differences give. */
export function checkGradients(row: Row, sample: Sample): void {
  const wanted = row.differentiable!.filter((i) => {
    const spec = sample.inputs[i];
    return spec !== undefined && (spec.dtype === undefined || isFloat(spec.dtype));
  });
  tidy(() => {
    const inputs = sample.inputs.map((spec, i) => {
      const t = build(spec, 'float64', seedOf(i)).tensor;
      return wanted.includes(i) ? t.detach().requiresGrad_(true) : t;
    });
    objective(row, inputs, sample).backward();
    for (const i of wanted) {
      const grad = inputs[i]!.grad;
      expect(grad, `gradient of input ${i}`).not.toBeNull();
      const analytic = values(grad!).data;
      numeric(row, sample, i).forEach((want, j) => {
        const got = analytic[j]!;
        const message = `d input ${i}[${j}]: ${got}, differences give ${want}`;
        expect(Math.abs(got - want), message).toBeLessThanOrEqual(1e-5 + 1e-3 * Math.abs(want));
      });
    }
  });
}
