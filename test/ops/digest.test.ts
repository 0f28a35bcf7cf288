// A digest of every op's results, written to the file that FOVEA_DIGEST names: agreement.test.ts runs this file in
// processes with other numbers of threads and compares.
import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { functional as F, manualSeed, rand, randint, randn, randperm, type Tensor, tidy } from 'fovea';
import { expect, it } from 'vitest';
import { listOf } from './row.js';
import { build, values } from './samples.js';
import { table } from './table.js';

const hash = (tensors: readonly Tensor[]): string => {
  const h = createHash('sha256');
  for (const t of tensors) h.update(new Uint8Array(values(t).data.buffer));
  return h.digest('hex');
};

const random: Record<string, () => Tensor> = {
  rand: () => rand([10_007]),
  randn: () => randn([10_007]),
  'randn float64': () => randn([1001], { dtype: 'float64' }),
  'randn bfloat16': () => randn([1001], { dtype: 'bfloat16' }),
  randint: () => randint(0, 1000, [10_007]),
  randperm: () => randperm(1000),
  dropout: () => F.dropout(randn([20_001]), { p: 0.3, training: true }),
  multinomial: () => F.multinomial(rand([16, 100]), 8),
};

it('digests every op', () => {
  const digests: Record<string, string> = {};
  for (const row of table) {
    for (const dtype of row.dtypes.filter((d) => ['float32', 'bfloat16', 'int32'].includes(d))) {
      for (const sample of row.samples) {
        tidy(() => {
          const inputs = sample.inputs.map((spec, i) => build(spec, dtype, 131 * (i + 1)).tensor);
          digests[`${row.name} ${dtype} ${sample.label}`] = hash(listOf(row.run(inputs, sample.args ?? {})));
        });
      }
    }
  }
  for (const [name, make] of Object.entries(random)) {
    manualSeed(42);
    tidy(() => {
      digests[`random ${name}`] = hash([make()]);
    });
  }
  expect(Object.keys(digests).length).toBeGreaterThan(1000);
  if (process.env['FOVEA_DIGEST']) writeFileSync(process.env['FOVEA_DIGEST'], JSON.stringify(digests));
});
