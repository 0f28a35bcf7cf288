// TensorFlow.js on its WebAssembly backend, which is the fastest that it has in Node without a binding to TensorFlow.
import { join } from 'node:path';
import { batches } from '../timing.mjs';
import { serve, Unsupported } from './serve.mjs';
import { makeGpt } from './tfjs-gpt.mjs';
import { packages, versionOf } from './versions.mjs';
import { refuseAttention } from './wasm-attention.mjs';

let tf;
let wasm;

/** Threads can be set before the backend starts only: the first case decides. */
async function startBackend(threads) {
  if (tf.getBackend() === 'wasm') return;
  wasm.setWasmPaths(`${join(packages, '@tensorflow/tfjs-backend-wasm/dist')}/`);
  wasm.setThreadsCount(threads);
  await tf.setBackend('wasm');
}

/** `run` on tensors; what it makes is freed. */
function prepareOn(inputs, run) {
  const call = () => tf.tidy(() => void run(...inputs));
  return { batch: batches(call), release: () => tf.dispose(inputs) };
}

/** Tensors that take turns. */
function prepareSets(sets, make, run) {
  const all = Array.from({ length: sets ?? 1 }, make);
  let turn = 0;
  const call = () => tf.tidy(() => void run(...all[turn++ % all.length]));
  return { batch: batches(call), release: () => tf.dispose(all) };
}

function prepareProduct({ kind, m, k, n, layout, sets }) {
  const turned = kind === 'linear' || layout === 'NT';
  const make = () => [tf.randomNormal([m, k]), tf.randomNormal(turned ? [n, k] : [k, n])];
  return prepareSets(sets, make, (a, b) => tf.matMul(a, b, false, turned));
}

function prepareElementwise({ op, inputs, n }) {
  const own = { silu: 'swish' }[op] ?? op;
  if (typeof tf[own] !== 'function') throw new Unsupported(`it has no op for ${op}`);
  const made = Array.from({ length: inputs }, () => tf.randomUniform([n], 0.5, 1.5));
  return prepareOn(made, (...x) => tf[own](...x));
}

function prepareRows({ op, rows, width, dim }) {
  const runs = {
    softmax: (x) => tf.softmax(x, dim),
    logSoftmax: (x) => tf.logSoftmax(x, dim),
    sum: (x) => tf.sum(x, dim),
    mean: (x) => tf.mean(x, dim),
    argmax: (x) => tf.argMax(x, dim),
    transpose: (x) => tf.transpose(x),
  };
  if (!(op in runs)) throw new Unsupported(`it has no op for ${op}`);
  return prepareOn([tf.randomNormal([rows, width])], runs[op]);
}

/** In its own ops: there is no fused attention. */
function prepareAttention(test) {
  const { b, h, n, m, d, causal, sets } = test;
  if (causal) throw new Unsupported('it has no causal attention; the full one is timed');
  refuseAttention(test);
  const make = () => [n, m, m].map((length) => tf.randomNormal([b, h, length, d]));
  return prepareSets(sets, make, (q, k, v) => {
    const scores = tf.mul(tf.matMul(q, k, false, true), 1 / Math.sqrt(d));
    return tf.matMul(tf.softmax(scores), v);
  });
}

function prepareSmall({ op, issue, n }) {
  if (issue || op !== 'add') throw new Unsupported('an op has computed when it returns');
  const [a, b] = [tf.randomNormal([n]), tf.randomNormal([n])];
  return { batch: batches(() => void tf.add(a, b).dispose()), release: () => tf.dispose([a, b]) };
}

function preparePrefill({ model, length }) {
  const gpt = makeGpt(tf, model);
  const ids = tf.randomUniform([1, length], 0, model.vocabulary, 'int32');
  return prepareWith(gpt, [ids], () => gpt.forward(ids, { last: true }).logits.dataSync());
}

function prepareWith(gpt, inputs, run) {
  const call = () => tf.tidy(() => void run());
  return { batch: batches(call), release: () => tf.dispose([...gpt.weights, ...inputs]) };
}

function prepareDecode({ model, start, steps }) {
  const gpt = makeGpt(tf, model);
  const ids = tf.randomUniform([1, start], 0, model.vocabulary, 'int32');
  const next = ({ logits }) => tf.argMax(tf.reshape(logits, [-1])).dataSync()[0];
  const advance = (input, before) => {
    let token;
    const cache = tf.tidy(() => {
      const out = gpt.forward(input(), { cache: before, last: true });
      token = next(out);
      return out.cache;
    });
    tf.dispose(before ?? []);
    return [token, cache];
  };
  const batch = async (count) => {
    let [token, cache] = advance(() => ids, undefined);
    const begin = performance.now();
    for (let i = 0; i < count; i++) [token, cache] = advance(() => tf.tensor2d([[token]], [1, 1], 'int32'), cache);
    const took = performance.now() - begin;
    tf.dispose(cache);
    return took;
  };
  return { batch, count: steps, release: () => tf.dispose([...gpt.weights, ids]) };
}

function prepareTrain({ model, batch, length }) {
  if (model.width > 256) throw new Unsupported('a step of this model takes it minutes');
  const gpt = makeGpt(tf, model);
  const ids = tf.randomUniform([batch, length], 0, model.vocabulary, 'int32');
  const optimizer = tf.train.adam(1e-4);
  return prepareWith(gpt, [ids], () => optimizer.minimize(() => gpt.loss(ids), true, gpt.weights).dataSync());
}

const kinds = {
  matmul: prepareProduct,
  linear: prepareProduct,
  elementwise: prepareElementwise,
  rows: prepareRows,
  attention: prepareAttention,
  small: prepareSmall,
  prefill: preparePrefill,
  decode: prepareDecode,
  train: prepareTrain,
};

async function prepare(test, threads) {
  if (test.dtype !== 'float32') throw new Unsupported('its numbers are float32');
  if (!(test.kind in kinds)) throw new Unsupported(`nothing is written for ${test.kind}`);
  await startBackend(threads);
  return kinds[test.kind](test);
}

await serve(async () => {
  tf = await import('@tensorflow/tfjs');
  wasm = await import('@tensorflow/tfjs-backend-wasm');
  return { name: 'TensorFlow.js (wasm)', version: versionOf('@tensorflow/tfjs'), prepare };
});
