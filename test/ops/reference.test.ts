// Every reference, in place of its kernel: what would run on a device without the kernel, and its gradient.
import { autocast, fallbacks, functional as F, ones, randn, strict, tidy } from 'fovea';
import { describe, expect, it, vi } from 'vitest';
import { definedOps } from '../../dist/ops/define-op.js';
import { difference } from './compare.js';
import { checkGradients } from './gradients.js';
import { close, listOf } from './row.js';
import { build, values } from './samples.js';
import { table } from './table.js';

/** By kernel, the row that runs it. Set before fovea is loaded, since ops look for their kernels once. */
const { rowOf } = vi.hoisted(() => {
  const same = ['relu', 'sigmoid', 'tanh', 'gelu', 'silu', 'softplus', 'softmax', 'logSoftmax'];
  const fused = ['addLayerNorm', 'addRmsNorm', 'swiglu', 'geglu', 'lstmCell', 'gruCell'];
  const attentions = ['attention', 'pagedAttention', 'rope'];
  const more = ['layerNorm', 'rmsNorm', 'crossEntropy', ...attentions, 'groupedMatmul', ...fused];
  const rows: Record<string, string> = Object.fromEntries([...same, ...more].map((name) => [name, name]));
  rows['geluTanh'] = 'gelu';
  rows['groupedOuter'] = 'groupedMatmul';
  rows['conv'] = rows['convWeight'] = 'conv2d';
  rows['convTranspose'] = 'convTranspose2d';
  rows['channelNorm'] = 'groupNorm';
  process.env['FOVEA_REFERENCE'] = Object.keys(rows).join();
  return { rowOf: rows };
});
/** References are right, but add their roundings up; only the kernels promise units in the last place. */
const tolerance = close(64, { floor: 64 });
const rows = table.filter((row) => Object.values(rowOf).includes(row.name));

/** Ops without a row, whose own suites compare them with their references. */
const elsewhere = ['dropoutAdd', 'sampleTokens'];

it('covers every op that has a reference', () => {
  const withReference = [...definedOps]
    .filter(([, op]) => op.spec.reference)
    .map(([name]) => name as string)
    .filter((name) => !elsewhere.includes(name));
  expect(withReference.sort()).toEqual(Object.keys(rowOf).sort());
  expect(new Set(rows.map((row) => row.name))).toEqual(new Set(Object.values(rowOf)));
});

describe.each(rows.map((row) => [row.name, row] as const))('the reference of %s', (_, row) => {
  it.each(['float32', 'float64'] as const)('agrees with float64 in %s', (dtype) => {
    for (const sample of row.samples) {
      tidy(() => {
        const built = sample.inputs.map((spec, i) => build(spec, dtype, 977 * (i + 1)));
        const nds = built.map((b) => b.nd);
        const results = listOf(
          row.run(
            built.map((b) => b.tensor),
            sample.args ?? {},
          ),
        );
        const expected = listOf(row.reference(nds, sample.args ?? {}, dtype));
        results.forEach((result, i) => {
          const off = difference(values(result), expected[i]!, result.dtype, tolerance, nds, sample);
          expect(off, `${sample.label} output ${i}`).toBeUndefined();
        });
      });
    }
  });
  const samples = row.samples.filter((s) => s.gradcheck);
  it.each(samples.map((s) => [s.label, s] as const))('is differentiated by the tape: %s', (__, sample) => {
    checkGradients(row, sample);
  });
});

describe('a missing kernel', () => {
  it('is an error under strict, which names the op and the reason', () => {
    const x = randn([2, 3]);
    const codeOf = (run: () => unknown): unknown => {
      try {
        return run();
      } catch (error) {
        return error;
      }
    };
    const message = expect.stringMatching(/^silu: there is no silu kernel for cpu/) as string;
    expect(codeOf(() => strict(() => F.silu(x)))).toMatchObject({ code: 'FOVEA_UNSUPPORTED', message });
    expect(strict(() => F.add(x, x)).shape).toEqual([2, 3]);
  });
  it('keeps the dtype that autocast gave the op', () => {
    // the reference's own pow and exp would be widened to float32
    const x = randn([2, 3]).bfloat16();
    autocast('bfloat16', () => {
      expect(F.gelu(x, { approximate: 'tanh' }).dtype).toBe('bfloat16');
      expect(F.silu(x).dtype).toBe('bfloat16');
      expect(F.attention(randn([2, 3]), randn([2, 3]), randn([2, 3])).dtype).toBe('bfloat16');
    });
  });
  it('leaves its reason', () => {
    F.rmsNorm(ones([2, 3]), 3);
    expect(fallbacks().get('rmsNorm')).toBe('there is no rmsNorm kernel for cpu');
    expect(fallbacks().has('add')).toBe(false);
  });
});
