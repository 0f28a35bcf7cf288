// Cross entropy from hidden states: what crossEntropy gives for the logits of linear.
import { functional as F, tensor, zeros } from 'fovea';
import { tensorErrors } from '../errors.js';
import { matmul, type Nd, zip } from '../nd.js';
import { type Args, close, type ErrorCase, type Row } from '../row.js';
import type { InputSpec, Layout, Sample } from '../samples.js';
import { crossEntropy, targets } from './losses.js';

const sample = (
  [n, k, v]: readonly [number, number, number],
  args: Args,
  more: { bias?: boolean; layout?: Layout; gradcheck?: boolean } = {},
): Sample => {
  const { bias = false, layout = 'dense', gradcheck = false } = more;
  const values = targets(v, args['ignoreIndex'] as number | undefined) as (i: number) => number;
  const inputs: InputSpec[] = [
    { shape: [n, k], layout },
    { shape: [v, k], layout },
    { shape: [n], dtype: 'int64', values },
  ];
  if (bias) inputs.push({ shape: [v], layout: layout === 'transposed' ? 'step' : layout });
  return { label: `[${n},${k},${v}] ${bias} ${layout} ${JSON.stringify(args)}`, inputs, args, gradcheck };
};
const small = [4, 3, 5] as const;
const samples: Sample[] = [
  sample(small, {}, { gradcheck: true }),
  sample(small, { chunkSize: 3 }, { bias: true, gradcheck: true }),
  sample(small, { chunkSize: 1, reduction: 'sum', ignoreIndex: 1 }, { gradcheck: true }),
  sample(small, { chunkSize: 2, labelSmoothing: 0.2, ignoreIndex: 1 }, { bias: true, gradcheck: true }),
  sample(small, { chunkSize: 3, reduction: 'none', ignoreIndex: 1 }, { bias: true, gradcheck: true }),
  sample(small, { chunkSize: 4, reduction: 'none' }, { layout: 'transposed', gradcheck: true }),
  sample([1, 1, 1], {}),
  sample([9, 17, 131], { chunkSize: 4 }, { bias: true, layout: 'transposed' }),
  sample([9, 16, 33], { chunkSize: 9 }, { bias: true, layout: 'offset' }),
  sample([7, 15, 31], { chunkSize: 5, reduction: 'none' }, { layout: 'step' }),
  sample([6, 8, 12], { chunkSize: 100 }, { bias: true, layout: 'misaligned' }),
  sample([6, 5, 9], { chunkSize: 4, reduction: 'sum' }, { layout: 'expanded' }),
  sample([0, 3, 5], { reduction: 'none' }),
  sample([0, 3, 5], { reduction: 'sum' }),
  sample([3, 8, 50_257], { chunkSize: 2 }),
  sample([3, 700, 2000], { chunkSize: 2, labelSmoothing: 0.1 }, { bias: true }),
];

const F64 = { dtype: 'int64' } as const;
const call = F.linearCrossEntropy as (...args: unknown[]) => unknown;
const good = (): [unknown, unknown, unknown] => [zeros([2, 3]), zeros([5, 3]), tensor([0, 1], F64)];
const refuses = (label: string, run: () => unknown, mentions: RegExp, code = 'FOVEA_ARGUMENT'): ErrorCase => ({
  label,
  run,
  code,
  mentions,
});
const errors: ErrorCase[] = [
  ...tensorErrors('linearCrossEntropy', F.linearCrossEntropy, zeros([5, 3]), tensor([0, 1], F64)),
  refuses(
    'a weight of another width',
    () => call(zeros([2, 3]), zeros([5, 4]), tensor([0, 1], F64)),
    /\[5,4\]/,
    'FOVEA_SHAPE',
  ),
  refuses(
    'a target of another length',
    () => call(zeros([2, 3]), zeros([5, 3]), tensor([0], F64)),
    /\[1\]/,
    'FOVEA_SHAPE',
  ),
  refuses('a bias of another length', () => call(...good(), { bias: zeros([4]) }), /bias.*\[4\]/, 'FOVEA_SHAPE'),
  refuses('no classes', () => call(zeros([2, 3]), zeros([0, 3]), tensor([0, 1], F64)), /class/),
  refuses('probabilities', () => call(zeros([2, 3]), zeros([5, 3]), zeros([2])), /class numbers/, 'FOVEA_DTYPE'),
  refuses('integers', () => call(zeros([2, 3], F64), zeros([5, 3], F64), tensor([0, 1], F64)), /floats/, 'FOVEA_DTYPE'),
  refuses('a chunk of no rows', () => call(...good(), { chunkSize: 0 }), /chunkSize/),
  refuses('a smoothing above 1', () => call(...good(), { labelSmoothing: 2 }), /labelSmoothing/),
  refuses('an unknown reduction', () => call(...good(), { reduction: 'max' }), /reduction/),
  refuses('a misspelt option', () => call(...good(), { chunk: 1 }), /chunk/),
  {
    label: 'a class that does not exist',
    run: () => F.linearCrossEntropy(zeros([1, 2]), zeros([3, 2]), tensor([3], F64)).dataSync(),
    code: 'FOVEA_INDEX',
    mentions: /3/,
  },
];

export const linearCrossEntropy: Row = {
  name: 'linearCrossEntropy',
  // what 16 bits give is compared with the composition, which rounds its logits, too
  dtypes: ['float32', 'float64'],
  samples,
  run: ([h, w, t, b], args) => F.linearCrossEntropy(h!, w!, t!, { ...args, ...(b ? { bias: b } : {}) }),
  reference: ([h, w, t, b], args, dtype) => {
    const product = matmul(h!, w!.transpose());
    const logits: Nd = b ? zip((x, y) => x + y, product, b) : product;
    return crossEntropy.reference([logits, t!], args, dtype);
  },
  tolerance: close(16, { floor: 16 }),
  differentiable: [0, 1, 3],
  errors,
};
