// The gradient of every differentiable op, against central differences.
import { describe, expect, it } from 'vitest';
import { checkGradients } from './gradients.js';
import { table } from './table.js';

const differentiable = table.filter((row) => row.differentiable);
describe.each(differentiable.map((row) => [row.name, row] as const))('%s', (_, row) => {
  const samples = row.samples.filter((s) => s.gradcheck);
  it('has samples to differentiate', () => {
    expect(samples.length).toBeGreaterThanOrEqual(3);
  });
  it.each(samples.map((s) => [s.label, s] as const))('%s', (__, sample) => {
    checkGradients(row, sample);
  });
});
