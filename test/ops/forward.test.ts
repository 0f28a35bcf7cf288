// Every op, on every sample, in every dtype it takes, against float64.
import { tidy } from 'fovea';
import { describe, expect, it } from 'vitest';
import { difference } from './compare.js';
import { listOf } from './row.js';
import { build, values } from './samples.js';
import { table } from './table.js';

const seedOf = (text: string): number =>
  [...text].reduce((h, c) => Math.imul(h ^ c.charCodeAt(0), 16777619), 2166136261) >>> 0;

describe.each(table.map((row) => [row.name, row] as const))('%s', (_, row) => {
  it.each(row.dtypes)('%s agrees with float64', (dtype) => {
    for (const sample of row.samples) {
      tidy(() => {
        const built = sample.inputs.map((spec, i) => build(spec, dtype, seedOf(`${row.name} ${sample.label} ${i}`)));
        const nds = built.map((b) => b.nd);
        const results = listOf(
          row.run(
            built.map((b) => b.tensor),
            sample.args ?? {},
          ),
        );
        const expected = listOf(row.reference(nds, sample.args ?? {}, dtype));
        expect(results.length, sample.label).toBe(expected.length);
        results.forEach((result, i) => {
          expect(
            difference(values(result), expected[i]!, result.dtype, sample.tolerance ?? row.tolerance, nds, sample),
            `${row.name} ${dtype} ${sample.label} output ${i}`,
          ).toBeUndefined();
        });
        built.forEach(({ tensor, nd }, i) => {
          expect(
            difference(values(tensor), nd, tensor.dtype, { kind: 'exact' }, [], sample),
            `${row.name} ${sample.label} changed input ${i}`,
          ).toBeUndefined();
        });
      });
    }
  });

  it('is asked enough', () => {
    expect(row.samples.length).toBeGreaterThanOrEqual(12);
    expect(row.errors.length).toBeGreaterThanOrEqual(3);
  });
});
