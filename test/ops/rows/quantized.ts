// Quantised weights.
import { functional as F, quantize, type QuantType, tensor, zeros } from 'fovea';
import { tensorErrors } from '../errors.js';
import { activations, product, requantized } from '../quantized-model.js';
import { close, exactButZero, type Row } from '../row.js';
import { FLOATS, type InputSpec, type Layout, type Sample, values } from '../samples.js';

const typeOf = (args: Record<string, unknown>): QuantType => args['type'] as QuantType;

type Plain = 'q8_0' | 'q4_0' | 'int8';
const weightSamples: Sample[] = (['q8_0', 'q4_0', 'int8'] as const).flatMap((type: Plain) =>
  (
    [
      [[1, 32]],
      [[16, 64]],
      [[17, 96], 'transposed'],
      [[3, 352], 'offset'],
      [[33, 32], 'step'],
      [[5, 64], 'expanded'],
      [[7, 160], 'misaligned'],
      [[0, 32]],
      [[4, 0]],
    ] as [number[], Layout?][]
  ).map(([shape, layout]) => ({
    label: `${type} [${shape}] ${layout ?? ''}`,
    inputs: [{ shape, ...(layout ? { layout } : {}) }],
    args: { type },
  })),
);
const quantizeRow: Row = {
  name: 'quantize',
  dtypes: FLOATS,
  samples: [
    ...weightSamples,
    { label: 'int8 of odd width', inputs: [{ shape: [18, 131] }], args: { type: 'int8' } },
    {
      label: 'halves',
      inputs: [{ shape: [2, 32], values: (i) => (i % 32 ? (i % 5) + 0.5 : 127) }],
      args: { type: 'q8_0' },
    },
    { label: 'zeros', inputs: [{ shape: [2, 32], values: () => 0 }], args: { type: 'q4_0' } },
  ],
  run: ([w], args) => quantize(w!, typeOf(args)).dequantize(),
  reference: ([w], args) => requantized(w!, args['type'] as Plain),
  tolerance: exactButZero,
  errors: [
    ...tensorErrors('quantize', quantize, 'q8_0'),
    {
      label: 'a width that is no multiple',
      run: () => quantize(zeros([2, 100]), 'q8_0'),
      code: 'FOVEA_SHAPE',
      mentions: /quantize.*32.*\[2,100\]/,
    },
    {
      label: 'a width that is no multiple of 256',
      run: () => quantize(zeros([2, 96]), 'q4_K'),
      code: 'FOVEA_SHAPE',
      mentions: /q4_K.*256.*\[2,96\]/,
    },
    { label: 'a vector', run: () => quantize(zeros([32]), 'q8_0'), code: 'FOVEA_SHAPE', mentions: /\[n,k\].*\[32\]/ },
    {
      label: 'integers',
      run: () => quantize(zeros([2, 32], { dtype: 'int32' }), 'q8_0'),
      code: 'FOVEA_DTYPE',
      mentions: /quantize.*int32/,
    },
    {
      label: 'an unknown type',
      run: () => quantize(zeros([2, 32]), 'q3_K' as never),
      code: 'FOVEA_ARGUMENT',
      mentions: /q8_0.*q3_K/,
    },
    {
      label: 'int8 beyond 32 bits',
      run: () => quantize(zeros([1, 133_144]), 'int8'),
      code: 'FOVEA_UNSUPPORTED',
      mentions: /133143.*q8_0/,
    },
  ],
};

const productSamples: Sample[] = (
  [
    [[1, 256], 16],
    [[256], 33],
    [[3, 512], 17],
    [[2, 3, 256], 5],
    [[14, 256], 31, 'transposed'],
    [[25, 256], 7, 'offset'],
    [[4, 256], 48, 'step'],
    [[5, 256], 9, 'expanded'],
    [[0, 256], 4],
    [[6, 256], 0],
    [[27, 768], 20, 'misaligned'],
  ] as [number[], number, Layout?][]
).flatMap(([shape, n, layout], i) =>
  (['q8_0', 'q4_0', 'q4_K', 'q6_K', 'int8'] as const).map((type) => ({
    label: `${type} [${shape}] to ${n} ${layout ?? ''}`,
    inputs: [
      { shape, ...(layout ? { layout } : {}) },
      { shape: [n, shape.at(-1)!], dtype: 'float32' },
      ...(i % 2 ? [{ shape: [n] }] : []),
    ] as InputSpec[],
    args: { type },
  })),
);
const bare = zeros([2, 32]);
const weight = quantize(bare, 'q8_0');
const linearRow: Row = {
  name: 'quantizedLinear',
  dtypes: ['float32', 'float16', 'bfloat16'],
  samples: [
    ...productSamples,
    {
      label: 'int8 of odd width',
      inputs: [{ shape: [3, 131] }, { shape: [18, 131], dtype: 'float32' }],
      args: { type: 'int8' },
    },
    {
      label: 'a row that is not finite',
      inputs: [
        {
          shape: [3, 256],
          values: (i) => (i === 300 ? Number.NaN : i === 700 ? Number.POSITIVE_INFINITY : Math.sin(i)),
        },
        { shape: [18, 256], dtype: 'float32' },
      ],
      args: { type: 'q4_K' },
    },
  ],
  run: ([x, w, bias], args) => F.quantizedLinear(x!, quantize(w!, typeOf(args)), bias),
  reference: ([x, w, bias], args) => {
    const floats = tensor(Array.from(w!.data), { shape: w!.shape, dtype: 'float32' });
    return product(activations(x!, typeOf(args)), values(quantize(floats, typeOf(args)).dequantize()), bias);
  },
  tolerance: close(64),
  errors: [
    ...tensorErrors('quantizedLinear', F.quantizedLinear, weight),
    {
      label: 'a weight that is not quantised',
      run: () => F.quantizedLinear(bare, bare as never),
      code: 'FOVEA_ARGUMENT',
      mentions: /quantizedLinear.*QuantizedTensor.*quantize\(\)/,
    },
    {
      label: 'another width',
      run: () => F.quantizedLinear(zeros([2, 64]), weight),
      code: 'FOVEA_SHAPE',
      mentions: /\[2,64\].*\[2,32\]/,
    },
    {
      label: 'a 0-d x',
      run: () => F.quantizedLinear(zeros([]), weight),
      code: 'FOVEA_SHAPE',
      mentions: /quantizedLinear/,
    },
    {
      label: 'another bias',
      run: () => F.quantizedLinear(bare, weight, zeros([3])),
      code: 'FOVEA_SHAPE',
      mentions: /bias \[2\].*\[3\]/,
    },
    {
      label: 'float64',
      run: () => F.quantizedLinear(zeros([2, 32], { dtype: 'float64' }), weight),
      code: 'FOVEA_DTYPE',
      mentions: /float32.*float64/,
    },
    {
      label: 'a weight that was disposed',
      run: () => {
        const gone = quantize(bare, 'q8_0');
        gone.dispose();
        return F.quantizedLinear(bare, gone);
      },
      code: 'FOVEA_DISPOSED',
      mentions: /weight was disposed/,
    },
  ],
};

export const quantizedRows: Row[] = [quantizeRow, linearRow];
