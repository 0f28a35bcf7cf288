// The samples of ops.mjs: small inputs that reach every kind of kernel, odd sizes and views besides. `make` gives
// inputs on the CPU, `run` takes them where they are to be used and gives a list of tensors.
import {
  functional as F,
  Generator,
  mask,
  ones,
  optim,
  quantize,
  QuantizedTensor,
  rand,
  randint,
  randn,
  tensor,
} from 'fovea';
import { sampleTokens } from '../../dist/generate/sampler.js';
import { images } from './image-samples.mjs';
import { floats, halves, normal, sample, tolerances, withGradients } from './sample.mjs';

function product(m, k, n, dtype, { batch = [], transposeA = false, transposeB = false } = {}) {
  const label = `${[...batch, m].join('x')} x ${k} x ${n}${transposeA ? ', a transposed' : ''}${transposeB ? ', b transposed' : ''}`;
  const make = () => {
    if (dtype.startsWith('int')) return [randint(-9, 9, [m, k], { dtype }), randint(-9, 9, [k, n], { dtype })];
    return [
      normal(transposeA ? [...batch, k, m] : [...batch, m, k], dtype),
      normal(transposeB ? [n, k] : [...batch, k, n], dtype),
    ];
  };
  const run = ([a, b]) => F.matmul(transposeA ? a.transpose(-2, -1) : a, transposeB ? b.transpose(-2, -1) : b);
  return sample(label, dtype, make, run);
}
const matmul = [
  ...['float32', 'float64', 'int32', 'int64'].flatMap((dtype) => [
    product(33, 65, 129, dtype),
    product(256, 128, 192, dtype),
  ]),
  ...halves.flatMap((dtype) => [
    product(512, 512, 512, dtype),
    product(512, 512, 512, dtype, { transposeB: true }),
    product(512, 512, 512, dtype, { transposeA: true }),
    product(200, 136, 264, dtype, { transposeA: true, transposeB: true }),
    product(33, 65, 129, dtype),
    product(300, 72, 520, dtype, { batch: [3] }),
  ]),
  ...floats.flatMap((dtype) => [
    product(1, 1000, 777, dtype, { transposeB: true }),
    product(1, 1024, 520, dtype),
    product(5, 264, 300, dtype, { transposeB: true }),
  ]),
  ...['float32', 'bfloat16'].map((dtype) =>
    sample(
      'linear with bias, and its gradients',
      dtype,
      () => [normal([2, 96, 128], dtype), normal([256, 128], dtype), normal([256], dtype)],
      withGradients(([x, w, b]) => F.linear(x, w, b)),
    ),
  ),
  ...floats.flatMap((dtype) =>
    [
      [1, 512, 264],
      [40, 4096, 72],
      [300, 136, 520],
    ].flatMap(([m, k, n]) =>
      ['gelu', 'geluTanh', 'relu', 'silu'].map((activation) =>
        sample(
          `linear ${m} x ${k} x ${n} with ${activation}`,
          dtype,
          () => [normal([m, k], dtype), normal([n, k], dtype), normal([n], dtype)],
          ([x, w, b]) => F.linear(x, w, b, { activation }),
        ),
      ),
    ),
  ),
];

function attends(label, dtype, [b, h, g, n, m, d], options = {}, extra = () => []) {
  const qkv = () => [normal([b, h, n, d], dtype), normal([b, g, m, d], dtype), normal([b, g, m, d], dtype)];
  const make = () => [...qkv(), ...extra()];
  const run = (x, device) => {
    const [q, k, v, other] = x;
    const { masked, biased, ...rest } = options;
    if (masked) return withGradients((y) => F.attention(...y, { ...rest, mask: F.gt(other, 0) }))([q, k, v], device);
    const leaves = biased ? [q, k, v, other] : [q, k, v];
    return withGradients((y) => F.attention(y[0], y[1], y[2], { ...rest, ...(biased ? { bias: y[3] } : {}) }))(
      leaves,
      device,
    );
  };
  return sample(`${label} ${[b, h, g, n, m, d].join('x')}`, dtype, make, run, 2 * tolerances[dtype]);
}
function decodes(label, dtype, [b, h, g, m, d]) {
  const make = () => [normal([b, h, 1, d], dtype), normal([b, g, m, d], dtype), normal([b, g, m, d], dtype)];
  return sample(`${label} ${[b, h, g, m, d].join('x')}`, dtype, make, (qkv) =>
    F.attention(...qkv, { causal: 'bottomRight' }),
  );
}
const shown = (_, device) => pattern.toTensor(130, 330, { batch: 2, heads: 4, device }).to('float32');
const pattern = mask.padding([330, 200]).and(mask.slidingWindow(40, 99).or(mask.globalTokens([0, 7])));
const attention = [
  ...halves.flatMap((dtype) => [
    attends('full', dtype, [1, 2, 2, 256, 256, 64]),
    attends('causal', dtype, [1, 2, 2, 256, 256, 64], { causal: 'topLeft' }),
    attends('full', dtype, [1, 2, 1, 200, 330, 128]),
    attends('causal', dtype, [2, 4, 2, 130, 330, 128], { causal: 'bottomRight' }),
    attends('width', dtype, [1, 2, 2, 100, 100, 80]),
    // More blocks of queries than multiprocessors.
    attends('many heads', dtype, [2, 70, 35, 420, 300, 64], { causal: 'bottomRight' }),
    attends('many heads', dtype, [2, 80, 20, 260, 390, 128], { causal: 'bottomRight' }),
    attends('mask', dtype, [1, 2, 2, 70, 90, 64], { masked: true }, () => [randn([1, 2, 70, 90])]),
    attends('bias', dtype, [1, 2, 2, 70, 90, 64], { biased: true }, () => [normal([1, 2, 70, 90], dtype)]),
    attends('dropout', dtype, [1, 2, 2, 128, 128, 64], { dropoutP: 0.2 }),
    decodes('one query', dtype, [2, 4, 4, 1000, 64]),
    decodes('one query', dtype, [2, 8, 2, 2000, 128]),
  ]),
  sample('what a mask shows', 'float32', () => [], shown),
  ...['float32', 'float64'].flatMap((dtype) => [
    attends('causal', dtype, [1, 2, 1, 70, 90, 40], { causal: 'bottomRight' }),
    attends('dropout', dtype, [1, 2, 2, 64, 64, 64], { dropoutP: 0.2 }),
    decodes('one query', dtype, [2, 4, 2, 500, 64]),
  ]),
];

const rows = (run, ...shapes) =>
  floats.flatMap((dtype) =>
    shapes.map((shape) =>
      sample(
        `${run.name} ${shape.join('x')}`,
        dtype,
        () => [normal(shape, dtype), normal([shape.at(-1)], dtype), normal([shape.at(-1)], dtype)],
        withGradients(run),
      ),
    ),
  );
const norm = [
  ...rows(
    function layerNorm([x, w, b]) {
      return F.layerNorm(x, [x.shape.at(-1)], w, b);
    },
    [70, 768],
    [9, 1001],
  ),
  ...rows(
    function rmsNorm([x, w, b]) {
      return F.add(F.rmsNorm(x, [x.shape.at(-1)], w), b);
    },
    [70, 768],
    [9, 1001],
  ),
  ...rows(
    function addLayerNorm([x, w, b]) {
      const { sum, y } = F.addLayerNorm(x, F.mul(x, 0.5), [x.shape.at(-1)], w, b);
      return F.add(sum, y);
    },
    [70, 768],
    [9, 1001],
  ),
  ...rows(
    function addRmsNorm([x, w, b]) {
      return F.add(F.addRmsNorm(x, F.mul(x, 0.5), [x.shape.at(-1)], w).y, b);
    },
    [70, 768],
    [9, 1001],
  ),
  ...rows(
    function swiglu([x, w, b]) {
      return F.swiglu(F.add(F.mul(x, w), b), x);
    },
    [70, 768],
    [9, 1001],
  ),
];
const softmax = [
  ...rows(
    function softmax([x, w, b]) {
      return F.softmax(F.add(F.mul(x, w), b), -1);
    },
    [33, 515],
    [4, 9000],
  ),
  ...rows(
    function logSoftmax([x, w, b]) {
      return F.logSoftmax(F.add(F.mul(x, w), b), -1);
    },
    [33, 515],
  ),
];
const loss = floats.map((dtype) =>
  sample(
    'crossEntropy 40x5003',
    dtype,
    () => [normal([40, 5003], dtype), randint(0, 5003, [40], { dtype: 'int64' })],
    ([x, t], device) => withGradients(([logits]) => F.crossEntropy(logits, t, { reduction: 'none' }))([x], device),
  ),
);

const points = (op, dtype, run) =>
  sample(op, dtype, () => [rand([7, 1003]).add(0.5).to(dtype), rand([1003]).add(0.5).to(dtype)], run);
const elementwise = ['float32', 'bfloat16'].flatMap((dtype) => [
  points(
    'gelu, silu, exp',
    dtype,
    withGradients(([x, y]) => F.add(F.add(F.gelu(x), F.silu(y)), F.exp(x))),
  ),
  points(
    'add, mul, div broadcast',
    dtype,
    withGradients(([x, y]) => F.div(F.mul(F.add(x, y), x), y)),
  ),
  points('transposed copy', dtype, ([x]) => x.transpose(0, 1).contiguous()),
  points('where, clamp, cast', dtype, ([x, y]) => [
    F.where(F.gt(x, y), x, y),
    F.clamp(x, { min: 0.7, max: 1.2 }),
    x.to('float16').to('int32'),
  ]),
]);
const reduce = ['float32', 'bfloat16'].flatMap((dtype) => [
  points('sum, mean, amax', dtype, ([x]) => [F.sum(x), F.sum(x, 0), F.mean(x, 1), F.amax(x, 1), F.std(x, 1)]),
  points('argmax, cumsum', dtype, ([x]) => [F.argmax(x, 1), F.cumsum(x, 1), F.logsumexp(x, -1)]),
]);
const indexing = ['float32', 'bfloat16'].map((dtype) =>
  sample(
    'embedding, gather, scatterAdd, concat',
    dtype,
    () => [normal([300, 65], dtype), randint(0, 300, [2, 71], { dtype: 'int64' })],
    ([x, i], device) => [
      ...withGradients(([w]) => F.embedding(i, w))([x], device),
      F.gather(x, 0, i.narrow(1, 0, 65)),
      F.scatterAdd(x, 0, i.narrow(1, 0, 65), x.narrow(0, 0, 2)),
      F.concat([x, x.narrow(0, 3, 9)], 0),
      F.flip(x, [0]),
    ],
  ),
);
const sorting = ['float32', 'bfloat16'].map((dtype) =>
  sample(
    'sort, argsort, topk',
    dtype,
    () => [normal([5, 3001], dtype)],
    ([x]) => [F.sort(x).values, F.argsort(x, -1), F.topk(x, 50).values],
    0,
  ),
);
const rope = ['float32', 'bfloat16'].map((dtype) =>
  sample(
    'rope',
    dtype,
    () => [normal([2, 3, 50, 64], dtype), rand([50, 32]).to(dtype), rand([50, 32]).to(dtype)],
    ([x, cos, sin], device) => withGradients(([y]) => F.rope(y, cos, sin))([x], device),
  ),
);
const random = [
  sample(
    'rand, randn, randint, dropout',
    'float32',
    () => [ones([3001])],
    ([x], device) => [
      rand([1003], { device }),
      randn([1003], { device }),
      randint(0, 9, [1003], { device }),
      F.dropout(x, { p: 0.3 }),
      F.dropoutAdd(x, rand([3001], { device }), { p: 0.3 }),
    ],
  ),
];
const sampled = { doSample: true, temperature: 1, topK: 0, topP: 1, minP: 0 };
const sampling = floats.map((dtype) =>
  sample(
    'sampleTokens 7x5003',
    dtype,
    () => [normal([7, 5003], dtype)],
    ([x]) => [
      sampleTokens(x, { ...sampled, temperature: 0.8, topK: 40, generator: new Generator(1) }),
      sampleTokens(x, { ...sampled, topP: 0.9, minP: 0.01, generator: new Generator(2) }),
    ],
    0,
  ),
);
const optimizers = {
  AdamW: (leaves) => new optim.AdamW(leaves, { lr: 0.1 }),
  AMSGrad: (leaves) => new optim.Adam(leaves, { lr: 0.1, amsgrad: true }),
  SGD: (leaves) => new optim.SGD(leaves, { lr: 0.1, momentum: 0.9, nesterov: true }),
  RAdam: (leaves) => new optim.RAdam(leaves, { lr: 0.1 }),
  NAdam: (leaves) => new optim.NAdam(leaves, { lr: 0.1 }),
  Adagrad: (leaves) => new optim.Adagrad(leaves, { lr: 0.1 }),
  RMSprop: (leaves) => new optim.RMSprop(leaves, { lr: 0.01, momentum: 0.9, centered: true }),
  Lion: (leaves) => new optim.Lion(leaves, { lr: 0.01 }),
  Adafactor: (leaves) => new optim.Adafactor(leaves, { lr: 0.1, weightDecay: 0.1 }),
  Sophia: (leaves) => new optim.Sophia(leaves, { lr: 0.1, eps: 0.5 }),
  'AdamW in bfloat16': (leaves) => new optim.AdamW(leaves, { lr: 0.1, stateDtype: 'bfloat16' }),
  'AMSGrad in bytes': (leaves) => new optim.Adam(leaves, { lr: 0.1, amsgrad: true, stateDtype: 'int8' }),
  'Lion in bytes': (leaves) => new optim.Lion(leaves, { lr: 0.01, stateDtype: 'int8' }),
};
const optimizer = Object.entries(optimizers).flatMap(([name, make]) =>
  ['float32', 'bfloat16'].map((dtype) =>
    sample(
      `${name}, three steps`,
      dtype,
      () => [[70, 129], [33]].flatMap((shape) => [1, 2, 3, 4].map(() => normal(shape, dtype))),
      (made) => {
        const parameters = [made[0], made[4]];
        const leaves = parameters.map((p) => p.clone().detach().requiresGrad_());
        const optimizer = make(leaves);
        for (let step = 0; step < 3; step++) {
          for (const [i, p] of leaves.entries()) p.grad = made[4 * i + step + 1];
          optimizer.step();
        }
        return leaves;
      },
    ),
  ),
);
const quantTypes = ['q8_0', 'q4_0', 'q4_K', 'q6_K', 'int8'];
const quantized = quantTypes.flatMap((type) => [
  ...floats.map((dtype) =>
    sample(
      `quantize to ${type} and back`,
      dtype,
      () => [normal([35, 512], dtype)],
      ([w]) => quantize(w, type).dequantize(dtype),
      0,
    ),
  ),
  ...['float32', ...halves].flatMap((dtype) =>
    [1, 9, 300].map((rows) =>
      sample(
        `${rows} rows by ${type}`,
        dtype,
        () => [normal([rows, 512], dtype), randn([133, 512]), normal([133], dtype)],
        ([x, w, bias]) => F.linear(x, quantize(w, type), bias),
      ),
    ),
  ),
  ...(type === 'int8'
    ? []
    : [
        sample(
          `${type} in a file`,
          'float32',
          () => [randn([35, 512])],
          ([w]) => {
            const bytes = quantize(w, type).toGgufSync();
            const file = tensor(bytes, { dtype: 'uint8', device: w.device });
            return [tensor(bytes, { dtype: 'uint8' }), QuantizedTensor.fromGguf(file, type, [35, 512]).dequantize()];
          },
          0,
        ),
      ]),
]);
const transfers = [
  sample(
    'there and back, int64',
    'int64',
    () => [tensor([1, 2, 3], { dtype: 'int64' }), randint(0, 9, [700_001], { dtype: 'int64' })],
    (x) => x,
  ),
  sample(
    'there and back',
    'float32',
    () => [randn([3_000_001])],
    (x) => x,
    0,
  ),
];

export const groups = {
  transfers,
  elementwise,
  reduce,
  matmul,
  attention,
  norm,
  softmax,
  loss,
  indexing,
  sorting,
  rope,
  images,
  random,
  sampling,
  optimizer,
  quantized,
};
