// ONNX Runtime through onnxruntime-node: weights are constants of the graph, so that it packs them once, and results go
// to arrays that are there already.
import { batches } from '../timing.mjs';
import { OnnxGraph } from './onnx.mjs';
import { encoderGraph, gpt2Graph, int8Product } from './onnx-models.mjs';
import { randomIndices, randomNumbers } from './random.mjs';
import { serve, Unsupported } from './serve.mjs';

let ort;
const product = (dims) => dims.reduce((a, b) => a * b, 1);
/** Uniform between `least` and least + 2. */
function numbers(dims, least = -1) {
  const data = randomNumbers(product(dims));
  return new ort.Tensor('float32', least === -1 ? data : data.map((x) => x + least + 1), dims);
}
const int64 = (values, dims) => new ort.Tensor('int64', BigInt64Array.from(values, BigInt), dims);
const int32 = (values, dims) => new ort.Tensor('int32', Int32Array.from(values), dims);

const session = (bytes, threads) =>
  ort.InferenceSession.create(bytes, {
    executionProviders: ['cpu'],
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    graphOptimizationLevel: 'all',
  });

/** Runs one graph, or as many as take turns, on inputs that take turns. */
async function prepareGraphs(graphs, feeds, fetches, threads) {
  const sessions = await Promise.all(graphs.map((bytes) => session(bytes, threads)));
  let turn = 0;
  const call = () => {
    const at = turn++;
    return sessions[at % sessions.length].run(feeds[at % feeds.length], fetches);
  };
  return { batch: batches(call), release: () => Promise.all(sessions.map((one) => one.release())) };
}

/** A graph of one node whose inputs are fed. */
function prepareNode(op, dims, threads, options = {}) {
  const { add = 'node', outDims = dims[0], outType = 'float32', least = -1, ...attributes } = options;
  const g = new OnnxGraph();
  const names = dims.map((shape, i) => g.input(`x${i}`, shape));
  g[add](op, names, { outputs: ['y'], ...attributes });
  g.output('y', outDims, outType);
  const feed = Object.fromEntries(names.map((name, i) => [name, numbers(dims[i], least)]));
  const made = outType === 'float32' ? { y: numbers(outDims) } : ['y'];
  return prepareGraphs([g.file()], [feed], made, threads);
}

/** [m, k] by a constant [k, n]. */
function prepareProduct({ m, k, n, sets = 1 }, threads) {
  const graphs = Array.from({ length: sets }, () => {
    const g = new OnnxGraph();
    g.node('MatMul', [g.input('x', [m, k]), g.weight(k, n)], { outputs: ['y'] });
    g.output('y', [m, n]);
    return g.file();
  });
  return prepareGraphs(graphs, [{ x: numbers([m, k]) }], { y: numbers([m, n]) }, threads);
}

/** Blocks of 32 weights with a scale each, which it multiplies as integers; or a scale for a column. */
function prepareQuantized({ m, k, n, type, sets }, threads) {
  const bits = { q8_0: 8, q4_0: 4 }[type];
  if (!bits && type !== 'int8') throw new Unsupported(`it has no weights like ${type}`);
  const graphs = Array.from({ length: sets }, () => {
    const g = new OnnxGraph();
    const x = g.input('x', [m, k]);
    if (bits) {
      const blocks = [g.bytes('uint8', n, k / 32, 4 * bits), g.weight((n * k) / 32)];
      const options = { K: k, N: n, bits, block_size: 32, accuracy_level: 4 };
      g.contrib('MatMulNBits', [x, ...blocks], { outputs: ['y'], ...options });
    } else int8Product(g, x, k, n, { outputs: ['y'] });
    g.output('y', [m, n]);
    return g.file();
  });
  return prepareGraphs(graphs, [{ x: numbers([m, k]) }], { y: numbers([m, n]) }, threads);
}

const pointwise = {
  neg: 'Neg',
  abs: 'Abs',
  sign: 'Sign',
  relu: 'Relu',
  floor: 'Floor',
  ceil: 'Ceil',
  round: 'Round',
  exp: 'Exp',
  log: 'Log',
  sqrt: 'Sqrt',
  sin: 'Sin',
  cos: 'Cos',
  tanh: 'Tanh',
  sigmoid: 'Sigmoid',
  erf: 'Erf',
  gelu: 'Gelu',
  softplus: 'Softplus',
  add: 'Add',
  sub: 'Sub',
  mul: 'Mul',
  div: 'Div',
  maximum: 'Max',
  minimum: 'Min',
  pow: 'Pow',
};

function prepareElementwise({ op, inputs, n }, threads) {
  if (!(op in pointwise)) throw new Unsupported(`it has no op for ${op}`);
  const dims = Array.from({ length: inputs }, () => [n]);
  return prepareNode(pointwise[op], dims, threads, { least: 0.1 }); // logarithms and powers are to be numbers
}

function prepareRows({ op, rows, width, dim }, threads) {
  const x = [rows, width];
  if (op === 'softmax') return prepareNode('Softmax', [x], threads, { axis: dim });
  if (op === 'logSoftmax') return prepareNode('LogSoftmax', [x], threads, { axis: dim });
  if (op === 'layerNorm') return prepareNode('LayerNormalization', [x, [width], [width]], threads, { axis: -1 });
  if (op === 'rmsNorm') return prepareNode('SimplifiedLayerNormalization', [x, [width]], threads, { axis: -1 });
  if (op === 'argmax')
    return prepareNode('ArgMax', [x], threads, { axis: dim, keepdims: 0, outDims: [rows], outType: 'int64' });
  if (op === 'transpose') return prepareNode('Transpose', [x], threads, { outDims: [width, rows] });
  throw new Unsupported(`no graph is written for ${op}`);
}

/** MultiHeadAttention, or GroupQueryAttention where it is causal or has one query: then the keys are the past. */
function prepareAttention({ b, h, g, n, m, d, causal, sets = 1 }, threads) {
  const [width, keyWidth] = [h * d, g * d];
  if (!causal && n > 1) {
    const dims = [[b, n, width], ...[1, 2].map(() => [b, m, width])];
    return prepareNode('MultiHeadAttention', dims, threads, { add: 'contrib', num_heads: h });
  }
  const graph = new OnnxGraph();
  const given = { q: [b, n, width], k: [b, n, keyWidth], v: [b, n, keyWidth] };
  const inputs = Object.entries(given).map(([name, dims]) => graph.input(name, dims));
  const past = ['pastK', 'pastV'].map((name) => graph.input(name, [b, g, m, d]));
  const lengths = [graph.input('last', [b], 'int32'), graph.input('total', [], 'int32')];
  graph.contrib('GroupQueryAttention', [...inputs, ...past, ...lengths], {
    outputs: ['y', 'k1', 'v1'],
    num_heads: h,
    kv_num_heads: g,
  });
  graph.output('y', [b, n, width]);
  for (const name of ['k1', 'v1']) graph.output(name, [b, g, m, d]);
  const [pastK, pastV] = [1, 2].map(() => Array.from({ length: sets }, () => numbers([b, g, m, d])));
  const shared = Object.fromEntries(Object.entries(given).map(([name, dims]) => [name, numbers(dims)]));
  const last = int32(Array(b).fill(m - 1), [b]);
  const feeds = pastK.map((k, i) => ({ ...shared, pastK: k, pastV: pastV[i], last, total: int32([m], []) }));
  const y = numbers([b, n, width]);
  return prepareTurns(graph.file(), feeds, (feed) => ({ y, k1: feed.pastK, v1: feed.pastV }), threads);
}

/** Like prepareGraphs, with results that go where the inputs of the same turn are. */
async function prepareTurns(bytes, feeds, fetchesOf, threads) {
  const made = await session(bytes, threads);
  let turn = 0;
  const call = () => {
    const feed = feeds[turn++ % feeds.length];
    return made.run(feed, fetchesOf(feed));
  };
  return { batch: batches(call), release: () => made.release() };
}

/** GPT-2 on a cache that stays; `step` gives the next token. */
async function gpt2(model, capacity, threads) {
  const made = await session(gpt2Graph(model, capacity), threads);
  const dims = [1, model.heads, capacity, model.width / model.heads];
  const caches = {};
  const presents = {};
  for (let layer = 0; layer < model.layers; layer++)
    for (const name of ['k', 'v']) {
      caches[`${name}${layer}`] = numbers(dims);
      presents[`${name}Out${layer}`] = caches[`${name}${layer}`];
    }
  const step = async (ids, start) => {
    const n = ids.length;
    const positions = Array.from({ length: n }, (_, i) => start + i);
    const tokens = { ids: int64(ids, [1, n]), positions: int64(positions, [1, n]) };
    const lengths = { last: int32([start + n - 1], [1]), total: int32([start + n], []) };
    const { next } = await made.run({ ...tokens, ...lengths, ...caches }, { ...presents, next: null });
    return Number(next.data[0]);
  };
  return { step, release: () => made.release() };
}

async function preparePrefill({ model, length }, threads) {
  const { step, release } = await gpt2(model, length, threads);
  const ids = randomIndices(length, model.vocabulary);
  return { batch: batches(() => step(ids, 0)), release };
}

async function prepareDecode({ model, start, steps }, threads) {
  const { step, release } = await gpt2(model, start + steps + 1, threads);
  const ids = randomIndices(start, model.vocabulary);
  const batch = async (count) => {
    let token = await step(ids, 0);
    const begin = performance.now();
    for (let i = 0; i < count; i++) token = await step([token], start + i);
    return performance.now() - begin;
  };
  return { batch, count: steps, release };
}

function prepareEncoder(test, threads) {
  const dims = [test.b, test.n, test.width];
  return prepareGraphs([encoderGraph(test)], [{ x: numbers(dims) }], { y: numbers(dims) }, threads);
}

function prepareSmall({ op, issue, n }) {
  if (issue || op !== 'add') throw new Unsupported('a run of a graph is what it has');
  return prepareNode('Add', [[n], [n]], 1);
}

const kinds = {
  matmul: prepareProduct,
  linear: prepareProduct,
  quantized: prepareQuantized,
  elementwise: prepareElementwise,
  rows: prepareRows,
  attention: prepareAttention,
  prefill: preparePrefill,
  decode: prepareDecode,
  encoder: prepareEncoder,
  quantizedEncoder: prepareEncoder,
  small: prepareSmall,
};

function prepare(test, threads) {
  if (test.dtype !== 'float32') throw new Unsupported('its kernels for the CPU are float32');
  if (!(test.kind in kinds)) throw new Unsupported(`it does not train, or no graph is written for ${test.kind}`);
  return kinds[test.kind](test, threads);
}

await serve(async () => {
  ({ default: ort } = await import('onnxruntime-node'));
  return { name: 'onnxruntime-node', version: ort.env.versions.common, prepare };
});
