// Every op of the table under autocast: those on a list change their dtype, and no other does.
import { autocast, type Dtype, type Tensor, tidy } from 'fovea';
import { expect, it } from 'vitest';
import { listOf, type Row } from './row.js';
import { build } from './samples.js';
import { table } from './table.js';

const rows = table.filter(({ dtypes }) => dtypes.includes('float32'));

/** The dtypes of the results of a row's first sample, whose floats are given in `dtype`. */
function resultsOf(row: Row, dtype: Dtype): Dtype[] {
  return tidy(() => {
    const [sample] = row.samples;
    const inputs: Tensor[] = sample!.inputs.map((spec, i) => build(spec, dtype, 7 * i + 1).tensor);
    return listOf(row.run(inputs, sample!.args ?? {})).map((t) => t.dtype);
  });
}
/** Names of the ops whose results are of dtype `to` under autocast alone, for floats given in `from`. */
const changed = (from: Dtype, to: Dtype): string[] =>
  rows
    .filter((row) => {
      const plain = resultsOf(row, from);
      const under = autocast('bfloat16', () => resultsOf(row, from));
      expect(under.length, row.name).toBe(plain.length);
      for (const [i, dtype] of under.entries()) if (dtype !== plain[i]) expect(dtype, row.name).toBe(to);
      return String(under) !== String(plain);
    })
    .map(({ name }) => name)
    .sort();

it('products are lowered', () => {
  const products = ['addmm', 'einsum', 'gatedLinear', 'groupedMatmul', 'linear', 'matmul'];
  const convolutions = ['conv1d', 'conv2d', 'convTranspose1d', 'convTranspose2d'];
  const attention = ['attention', 'scaledDotProductAttention'];
  expect(changed('float32', 'bfloat16')).toEqual([...products, ...convolutions, ...attention].sort());
});

it('steep functions, sums and losses are widened', () => {
  const functions = ['exp', 'expm1', 'log', 'log1p', 'log2', 'pow', 'reciprocal', 'rsqrt', 'softplus', 'square'];
  const sums = ['cumsum', 'groupNorm', 'layerNorm', 'logSoftmax', 'logsumexp', 'norm', 'prod', 'softmax', 'sum'];
  const ofPairs = ['binaryCrossEntropyWithLogits', 'huberLoss', 'klDiv', 'l1Loss', 'mseLoss', 'sigmoidFocalLoss'];
  const losses = [...ofPairs, 'cosineEmbeddingLoss', 'nllLoss', 'smoothL1Loss', 'tripletMarginLoss'];
  expect(changed('bfloat16', 'float32')).toEqual([...functions, ...sums, ...losses].sort());
});
