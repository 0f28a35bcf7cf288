// What fovea does for each kind of case in bench/cases.mjs: how a set of inputs is made, and what one call does with
// it.
import {
  functional as F,
  backward,
  full,
  grad,
  mask,
  ones,
  optim,
  quantize,
  rand,
  randint,
  randn,
  randperm,
  synchronize,
  tensor,
  tidy,
} from 'fovea';
import { causalMask, composedAttention } from './composed-attention.mjs';
import { modelKinds } from './model-kinds.mjs';
import { batches } from './timing.mjs';

const normal = (shape, dtype, options) => randn(shape, { dtype, ...options });
const indices = (below, shape) => randint(0, below, shape, { dtype: 'int64' });
const heads = ({ b, h, g, n, m, d, dtype }, options) => [
  normal([b, h, n, d], dtype, options),
  normal([b, g, m, d], dtype, options),
  normal([b, g, m, d], dtype, options),
];
const masks = new Map();
/** A mask keeps its program, so each case makes one. */
const maskOf = (test) => {
  if (!masks.has(test.id)) masks.set(test.id, mask.fromJson(test.mask));
  return masks.get(test.id);
};
const attend = ({ causal }, [q, k, v]) => F.attention(q, k, v, { causal: causal ? 'topLeft' : false });
/** Heads whose gradients are wanted, and the gradient of the result. */
const backwardOf = (test) => [
  ...heads(test, { requiresGrad: true }),
  normal([test.b, test.h, test.n, test.d], test.dtype),
];

function rowwise({ op, width, dim }, [x, w, b]) {
  if (op === 'layerNorm') return F.layerNorm(x, [width], w, b);
  if (op === 'rmsNorm') return F.rmsNorm(x, [width], w);
  if (op === 'addLayerNorm') return F.addLayerNorm(x, x, [width], w, b);
  if (op === 'addRmsNorm') return F.addRmsNorm(x, x, [width], w);
  if (op === 'transpose') return F.transpose(x, 0, 1).contiguous();
  return F[op](x, dim);
}

const ops = {
  elementwise: {
    // Above zero, so that logarithms and powers are those of numbers.
    make: ({ inputs, n, dtype }) => Array.from({ length: inputs }, () => tidy(() => rand([n], { dtype }).add(0.5))),
    run: ({ op }, inputs) => F[op](...inputs),
  },
  dropout: { make: ({ n, dtype }) => [normal([n], dtype)], run: (_, [x]) => F.dropout(x, { p: 0.1, training: true }) },
  dropoutAdd: {
    make: ({ n, dtype }) => [normal([n], dtype), normal([n], dtype)],
    run: (_, [x, residual]) => F.dropoutAdd(x, residual, { p: 0.1 }),
  },
  rows: {
    make: ({ rows, width, dtype }) => [normal([rows, width], dtype), ones([width], { dtype }), normal([width], dtype)],
    run: rowwise,
  },
  rope: {
    make: ({ b, h, n, d, dtype }) => [normal([b, h, n, d], dtype), rand([n, d / 2]), rand([n, d / 2])],
    run: (_, [x, cos, sin]) => F.rope(x, cos, sin),
  },
  embedding: {
    make: ({ rows, vocabulary, width, dtype }) => [indices(vocabulary, [rows]), normal([vocabulary, width], dtype)],
    run: (_, [i, w]) => F.embedding(i, w),
  },
  topk: { make: ({ rows, width, dtype }) => [normal([rows, width], dtype)], run: ({ k }, [x]) => F.topk(x, k) },
  matmul: {
    make: ({ m, k, n, layout, dtype }) => [
      normal([m, k], dtype),
      layout === 'NT' ? normal([n, k], dtype).transpose(0, 1) : normal([k, n], dtype),
    ],
    run: (_, [a, b]) => F.matmul(a, b),
  },
  groupedMatmul: {
    make: ({ t, k, n, ends, dtype }) => [
      normal([t, k], dtype),
      normal([ends.length, n, k], dtype).transpose(1, 2),
      tensor(ends, { dtype: 'int32' }),
    ],
    run: (_, [x, weights, offs]) => F.groupedMatmul(x, weights, offs),
  },
  linear: {
    make: ({ m, k, n, dtype }) => [normal([m, k], dtype), normal([n, k], dtype)],
    run: (_, [x, w]) => F.linear(x, w),
  },
  quantized: {
    make: ({ m, k, n, type }) => {
      const weight = normal([n, k], 'float32');
      const quantized = quantize(weight, type);
      weight.dispose();
      return [normal([m, k], 'float32'), quantized];
    },
    run: (_, [x, w]) => F.linear(x, w),
  },
  conv: {
    make: ({ x, weight, y, dtype, backward: requiresGrad }) => [
      normal(x, dtype, { requiresGrad }),
      normal(weight, dtype, { requiresGrad }),
      normal(y, dtype),
    ],
    run: ({ op, options, backward: wanted }, [x, w, dy]) => {
      const y = F[op](x, w, null, options);
      return wanted ? grad(y, [x, w], { gradOutputs: dy }) : y;
    },
  },
  attention: { make: (test) => heads(test), run: attend },
  pagedAttention: {
    // pages in no order, each of one sequence
    make: ({ b, h, g, n, m, d, size, dtype }) => {
      const pages = (b * m) / size;
      return [
        normal([b, h, n, d], dtype),
        normal([pages, g, size, d], dtype),
        normal([pages, g, size, d], dtype),
        randperm(pages).reshape([b, m / size]),
        full([b], m, { dtype: 'int64' }),
      ];
    },
    run: (_, [q, kPages, vPages, pageTable, lengths]) => F.pagedAttention(q, kPages, vPages, { pageTable, lengths }),
  },
  maskedAttention: {
    make: (test) => heads(test),
    run: (test, [q, k, v]) => F.attention(q, k, v, { mask: maskOf(test) }),
  },
  attentionBackward: {
    make: backwardOf,
    run: (test, [q, k, v, dy]) => grad(attend(test, [q, k, v]), [q, k, v], { gradOutputs: dy }),
  },
  composedBackward: {
    make: (test) => [...backwardOf(test), causalMask(test.n)],
    run: (_, [q, k, v, dy, visible]) => grad(composedAttention([q, k, v], visible), [q, k, v], { gradOutputs: dy }),
  },
  crossEntropy: {
    make: ({ rows, width, dtype, backward: requiresGrad }) => [
      normal([rows, width], dtype, { requiresGrad }),
      indices(width, [rows]),
    ],
    run: ({ backward: wanted }, [x, t]) => (wanted ? grad(F.crossEntropy(x, t), [x]) : F.crossEntropy(x, t)),
  },
  linearCrossEntropy: {
    make: ({ rows, width, vocabulary, dtype }) => [
      normal([rows, width], dtype, { requiresGrad: true }),
      tidy(() => normal([vocabulary, width], dtype).mul(0.02)).requiresGrad_(),
      indices(vocabulary, [rows]),
    ],
    run: (_, [hidden, weight, target]) => grad(F.linearCrossEntropy(hidden, weight, target), [hidden, weight]),
  },
  adamw: {
    make: ({ shapes, dtype }) => {
      const parameters = shapes.map((shape) => normal(shape, dtype, { requiresGrad: true }));
      for (const p of parameters) p.grad = normal([...p.shape], dtype);
      return [new optim.AdamW(parameters, { lr: 1e-3 }), ...parameters, ...parameters.map((p) => p.grad)];
    },
    run: (_, [optimizer]) => optimizer.step(),
  },
};

function prepareOp(test) {
  const { make, run } = ops[test.kind];
  const sets = Array.from({ length: test.sets ?? 1 }, () => make(test));
  let turn = 0;
  const call = () => {
    const inputs = sets[turn++ % sets.length];
    tidy(() => void run(test, inputs));
  };
  const release = () => {
    for (const x of sets.flat()) x.dispose?.();
  };
  return { batch: batches(call, synchronize), release };
}

const { add } = F;
const small = {
  add: ([a, b]) => add(a, b),
  'add, freed at once': ([a, b]) => add(a, b).dispose(),
  'add a number': ([a]) => add(a, 1),
  'add, recorded': ([, b, w]) => add(w, b),
  'add, sum, backward': ([, b, w]) => backward(F.sum(add(w, b))),
};

/**
 * What an op costs in JavaScript. With `issue` each batch starts with an empty queue and ends when the last call
 * returns.
 */
function prepareSmall({ op, n, issue, count }) {
  const inputs = [ones([n]), ones([n]), ones([n], { requiresGrad: true })];
  const call = () => small[op](inputs);
  const batch = async (times) => {
    await synchronize();
    const start = performance.now();
    let returned = 0;
    const last = tidy(() => {
      for (let i = 0; i < times; i++) call();
      returned = performance.now();
      return tensor([0]);
    });
    await last.data();
    last.dispose();
    return (issue ? returned : performance.now()) - start;
  };
  const release = () => {
    for (const x of inputs) x.dispose();
  };
  return { batch, count, release };
}

/**
 * Makes a case's inputs.
 *
 * @returns `batch(count)`: milliseconds of `count` calls; `count`, if a batch always is of so many; `release` frees all
 */
export function prepare(test) {
  if (test.kind in ops) return prepareOp(test);
  if (test.kind === 'small') return prepareSmall(test);
  return modelKinds[test.kind](test);
}
