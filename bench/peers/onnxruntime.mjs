// ONNX Runtime through onnxruntime-node: weights are constants of the graph, so that it packs them once, and results go
// to arrays that are there already.
import { batches } from '../timing.mjs';
import { OnnxGraph } from './onnx.mjs';
import { prepareAttention, prepareMaskedAttention } from './onnx-attention.mjs';
import { encoderGraph, gpt2Graph, int8Product } from './onnx-models.mjs';
import { int32, int64, loadRuntime, numbers, prepareGraphs, prepareNode, session } from './onnx-sessions.mjs';
import { randomIndices } from './random.mjs';
import { serve, Unsupported } from './serve.mjs';

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
  maskedAttention: prepareMaskedAttention,
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

await serve(async () => ({ name: 'onnxruntime-node', version: await loadRuntime(), prepare }));
