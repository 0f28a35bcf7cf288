// What is timed. Each case names the exported op it calls, the work it stands for, and the limit that bounds it:
// `flops` against the multiply-add peak, `int8` against that of products of bytes, `bytes` (read + written once) against the copy bandwidth, or `read` bytes.
import { functional as F, ones, optim, quantize, rand, randint, randn } from 'fovea';

const MB64 = 16 * 2 ** 20; // elements of a 64 MB float32 tensor
const mib = (n) => n * 2 ** 20;

const unaryOps = [
  'neg',
  'abs',
  'sign',
  'square',
  'relu',
  'floor',
  'ceil',
  'round',
  'exp',
  'log',
  'sqrt',
  'rsqrt',
  'sin',
  'cos',
  'tanh',
  'sigmoid',
  'erf',
  'gelu',
  'silu',
  'softplus',
];
const unary = unaryOps.map((op) => ({
  op,
  label: '64 MB',
  make: () => [rand([MB64]).add(0.5)],
  run: ([x]) => F[op](x),
  bytes: mib(128),
}));
const binary = ['add', 'sub', 'mul', 'div', 'maximum', 'minimum', 'pow'].map((op) => ({
  op,
  label: '64 MB',
  make: () => [rand([MB64]).add(0.5), rand([MB64]).add(0.5)],
  run: ([a, b]) => F[op](a, b),
  bytes: mib(192),
}));

const rows = (op, run, bytes = mib(128)) => ({
  op,
  label: '16384 x 1024',
  make: () => [randn([16384, 1024]), ones([1024]), randn([1024])],
  run,
  bytes,
});
const rowOps = [
  rows('softmax', ([x]) => F.softmax(x, -1)),
  rows('logSoftmax', ([x]) => F.logSoftmax(x, -1)),
  rows('layerNorm', ([x, w, b]) => F.layerNorm(x, [1024], w, b)),
  rows('rmsNorm', ([x, w]) => F.rmsNorm(x, [1024], w)),
  rows('sum', ([x]) => F.sum(x, -1), mib(64)),
  rows('mean', ([x]) => F.mean(x, 0), mib(64)),
  rows('argmax', ([x]) => F.argmax(x, -1), mib(64)),
  rows('transpose', ([x]) => F.transpose(x, 0, 1).contiguous()),
  {
    op: 'crossEntropy',
    label: '2048 x 8192',
    make: () => [randn([2048, 8192]), randint(0, 8192, [2048])],
    run: ([x, t]) => F.crossEntropy(x, t),
    bytes: mib(64),
  },
  {
    op: 'embedding',
    label: '16384 of 50257 x 1024',
    make: () => [randint(0, 50257, [16384]), randn([50257, 1024])],
    run: ([i, w]) => F.embedding(i, w),
    bytes: mib(128),
  },
  {
    op: 'topk',
    label: '64 x 50257, k 50',
    make: () => [randn([64, 50257])],
    run: ([x]) => F.topk(x, 50),
    bytes: 64 * 50257 * 4,
  },
  {
    op: 'dropout',
    label: '64 MB',
    make: () => [randn([MB64])],
    run: ([x]) => F.dropout(x, { p: 0.1, training: true }),
    bytes: mib(128),
  },
];

const product = (m, k, n, transposed = false) => ({
  op: 'matmul',
  label: `${m} x ${k} x ${n}${transposed ? ', b transposed' : ''}`,
  make: () => [randn([m, k]), transposed ? randn([n, k]).transpose(0, 1) : randn([k, n])],
  run: ([a, b]) => F.matmul(a, b),
  flops: 2 * m * k * n,
});
const products = [
  product(256, 256, 256),
  product(512, 512, 512),
  product(1024, 1024, 1024),
  product(2048, 2048, 2048),
  product(128, 768, 3072),
  product(512, 4096, 4096),
  product(1024, 1024, 1024, true),
];
const vector = {
  op: 'linear',
  label: '1 x 4096 x 4096',
  make: () => [randn([1, 4096]), randn([4096, 4096])],
  run: ([x, w]) => F.linear(x, w),
  read: 4096 * 4096 * 4,
};

// As many weights as no cache holds, one after the other, as the layers of a model are.
const quantizedWeight = (type, m, limit) => ({
  op: 'linear',
  label: `${m} x 4096 x 4096, ${type}`,
  make: () => {
    const first = quantize(randn([4096, 4096]), type);
    const more = Math.ceil(2 ** 28 / first.byteLength) - 1;
    return [randn([m, 4096]), first, ...Array.from({ length: more }, () => quantize(randn([4096, 4096]), type))];
  },
  run: (inputs) => {
    inputs.turn = ((inputs.turn ?? 0) + 1) % (inputs.length - 1);
    F.linear(inputs[0], inputs[1 + inputs.turn]);
  },
  ...limit(type),
});
const weightBits = { q8_0: 8.5, q4_0: 4.5, q4_K: 4.625, q6_K: 6.5625, int8: 8 };
const quantizedWeights = [1, 4, 256].flatMap((m) =>
  Object.keys(weightBits).map((type) =>
    quantizedWeight(type, m, () =>
      m < 256 ? { read: (4096 ** 2 * weightBits[type]) / 8 } : { int8: 2 * m * 4096 ** 2 },
    ),
  ),
);

const attention = (label, [b, h, g, n, m, d], causal, flops) => ({
  op: 'attention',
  label,
  make: () => [randn([b, h, n, d]), randn([b, g, m, d]), randn([b, g, m, d])],
  run: ([q, k, v]) => F.attention(q, k, v, { causal }),
  ...flops,
});
const pairs = (b, h, n, m, d) => 4 * b * h * n * m * d;
const attentions = [
  attention('S 1024, H 12, D 64', [1, 12, 12, 1024, 1024, 64], false, { flops: pairs(1, 12, 1024, 1024, 64) }),
  attention('S 2048, H 12, D 64', [1, 12, 12, 2048, 2048, 64], false, { flops: pairs(1, 12, 2048, 2048, 64) }),
  attention('S 2048, H 12, D 64, causal', [1, 12, 12, 2048, 2048, 64], 'topLeft', {
    flops: pairs(1, 12, 2048, 2048, 64) / 2,
  }),
  attention('one query, 4096 keys, H 12, D 64', [4, 12, 12, 1, 4096, 64], false, { read: 2 * 4 * 12 * 4096 * 64 * 4 }),
];
const attentionBackward = {
  op: 'attention',
  label: 'S 1024, H 12, D 64, forward and backward',
  make: () => [1, 2, 3].map(() => randn([1, 12, 1024, 64], { requiresGrad: true })),
  run: (qkv) => {
    F.attention(...qkv)
      .sum()
      .backward();
    for (const t of qkv) t.grad = null;
  },
  flops: 3.5 * pairs(1, 12, 1024, 1024, 64),
};
const adamw = {
  op: 'AdamW',
  label: '32 M parameters',
  make: () => {
    const parameters = Array.from({ length: 32 }, () => {
      const p = randn([1024, 1024], { requiresGrad: true });
      p.grad = randn([1024, 1024]);
      return p;
    });
    return [...parameters, new optim.AdamW(parameters, { lr: 1e-3 })];
  },
  run: (made) => made.at(-1).step(),
  bytes: 7 * 32 * 2 ** 20 * 4,
};

export const cases = [
  ...unary,
  ...binary,
  ...rowOps,
  ...products,
  vector,
  ...quantizedWeights,
  ...attentions,
  attentionBackward,
  adamw,
];
