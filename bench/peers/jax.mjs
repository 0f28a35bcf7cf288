// jax-js on its WebAssembly backend. An op consumes its arguments: `x.ref` keeps an array for further use.
import { batches } from '../timing.mjs';
import { makeTraining } from './jax-gpt.mjs';
import { randomNumbers } from './random.mjs';
import { serve, Unsupported } from './serve.mjs';
import { versionOf } from './versions.mjs';
import { refuseAttention } from './wasm-attention.mjs';

/** It uses methods of iterators that Node has from version 22 on. */
function addIteratorMethods() {
  const prototype = Object.getPrototypeOf(Object.getPrototypeOf([][Symbol.iterator]()));
  const add = (name, method) => {
    if (name in prototype) return;
    Object.defineProperty(prototype, name, { value: method, configurable: true, writable: true });
  };
  for (const name of ['map', 'filter', 'flatMap'])
    add(name, function (...given) {
      return [...this][name](...given).values();
    });
  for (const name of ['forEach', 'reduce', 'some', 'every', 'find'])
    add(name, function (...given) {
      return [...this][name](...given);
    });
  add('toArray', function () {
    return [...this];
  });
}

let jax;
const product = (dims) => dims.reduce((a, b) => a * b, 1);
const numbers = (...dims) => jax.numpy.array(randomNumbers(product(dims))).reshape(dims);

/** `run` on arrays that take turns; each result is waited for, since work is lazy. */
async function prepareSets(sets, make, run) {
  const all = Array.from({ length: sets ?? 1 }, make);
  for (const array of all.flat()) await array.blockUntilReady();
  let turn = 0;
  const call = async () => {
    const made = run(...all[turn++ % all.length].map((x) => x.ref));
    await made.blockUntilReady();
    made.dispose();
  };
  const release = () => {
    for (const array of all.flat()) array.dispose();
  };
  return { batch: batches(call), release };
}

function prepareProduct({ kind, m, k, n, layout, sets }) {
  const turned = kind === 'linear' || layout === 'NT';
  const { matmul } = jax.numpy;
  const make = () => [numbers(m, k), turned ? numbers(n, k) : numbers(k, n)];
  return prepareSets(sets, make, turned ? (a, b) => matmul(a, b.transpose()) : matmul);
}

const pointwise = {
  add: (np, a, b) => np.add(a, b),
  mul: (np, a, b) => np.multiply(a, b),
  exp: (np, a) => np.exp(a),
  tanh: (np, a) => np.tanh(a),
};

function prepareElementwise({ op, inputs, n }) {
  if (!(op in pointwise)) throw new Unsupported(`nothing is written for ${op}`);
  const run = jax.jit((...x) => pointwise[op](jax.numpy, ...x));
  return prepareSets(1, () => Array.from({ length: inputs }, () => numbers(n)), run);
}

function prepareRows({ op, rows, width, dim }) {
  const runs = {
    softmax: (x) => jax.nn.softmax(x, dim),
    logSoftmax: (x) => jax.nn.logSoftmax(x, dim),
    sum: (x) => x.sum(dim),
    mean: (x) => x.mean(dim),
  };
  if (!(op in runs)) throw new Unsupported(`nothing is written for ${op}`);
  return prepareSets(1, () => [numbers(rows, width)], jax.jit(runs[op]));
}

/** Its layout is [b, n, h, d]. */
function prepareAttention(test) {
  const { b, h, n, m, d, causal, sets } = test;
  refuseAttention(test);
  const run = jax.jit((q, k, v) => jax.nn.dotProductAttention(q, k, v, { isCausal: causal }));
  return prepareSets(sets, () => [n, m, m].map((length) => numbers(b, length, h, d)), run);
}

function prepareSmall({ op, issue, n }) {
  if (issue || op !== 'add') throw new Unsupported('only an addition that is waited for is written');
  return prepareSets(1, () => [numbers(n), numbers(n)], jax.numpy.add);
}

function prepareTrain(test) {
  if (test.model.width > 256) throw new Unsupported('a step of this model takes it minutes');
  const { step, release } = makeTraining(jax, test);
  return { batch: batches(step), release };
}

const kinds = {
  matmul: prepareProduct,
  linear: prepareProduct,
  elementwise: prepareElementwise,
  rows: prepareRows,
  attention: prepareAttention,
  small: prepareSmall,
  train: prepareTrain,
};

function prepare(test) {
  if (test.dtype !== 'float32') throw new Unsupported('its numbers are float32 on this backend');
  if (!(test.kind in kinds)) throw new Unsupported(`nothing is written for ${test.kind}`);
  return kinds[test.kind](test);
}

await serve(async () => {
  addIteratorMethods();
  jax = await import('@jax-js/jax');
  await jax.init('wasm');
  jax.defaultDevice('wasm');
  return { name: 'jax-js (wasm)', version: versionOf('@jax-js/jax'), prepare };
});
