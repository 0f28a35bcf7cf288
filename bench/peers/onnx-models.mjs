// The models of bench/cases.mjs as ONNX graphs, out of ONNX Runtime's own fused ops where it has them.
import { OnnxGraph } from './onnx.mjs';

const epsilon = 1e-5;
const linear = (g, x, inputs, outputs) =>
  g.node('Add', [g.node('MatMul', [x, g.weight(inputs, outputs)]), g.weight(outputs)]);
const norm = (g, x, width) =>
  g.node('LayerNormalization', [x, g.weight(width), g.weight(width)], { axis: -1, epsilon });
/**
 * x by a random int8 matrix each of whose columns has a scale of its own; x is quantised as a whole, when it is there.
 */
export const int8Product = (g, x, inputs, outputs, options = {}) =>
  g.contrib('DynamicQuantizeMatMul', [x, g.bytes('int8', inputs, outputs), g.weight(outputs)], options);
/** x + residual, and the norm of it. */
const sumNorm = (g, x, residual, width, options = {}) =>
  g.contrib('SkipLayerNormalization', [x, residual, g.weight(width), g.weight(width), g.weight(width)], {
    epsilon,
    ...options,
  });

/**
 * GPT-2: takes tokens, positions and the keys and values so far, in buffers of `capacity` positions that it writes in
 * place; gives the likeliest next token.
 */
export function gpt2Graph({ vocabulary, positions, width, layers, heads }, capacity) {
  const g = new OnnxGraph();
  const dims = [1, heads, capacity, width / heads];
  for (const [name, shape, type] of [
    ['ids', [1, 'n'], 'int64'],
    ['positions', [1, 'n'], 'int64'],
    ['last', [1], 'int32'],
    ['total', [], 'int32'],
  ])
    g.input(name, shape, type);
  let x = g.node('Add', [
    g.node('Gather', [g.weight(vocabulary, width), 'ids']),
    g.node('Gather', [g.weight(positions, width), 'positions']),
  ]);
  for (let layer = 0; layer < layers; layer++) {
    const past = ['k', 'v'].map((name) => g.input(`${name}${layer}`, dims));
    const present = ['k', 'v'].map((name) => `${name}Out${layer}`);
    for (const name of present) g.output(name, dims);
    const qkv = linear(g, norm(g, x, width), width, 3 * width);
    const attended = g.contrib('GroupQueryAttention', [qkv, '', '', ...past, 'last', 'total'], {
      outputs: [`attended${layer}`, ...present],
      num_heads: heads,
      kv_num_heads: heads,
    });
    x = g.node('Add', [x, linear(g, attended, width, width)]);
    const up = g.node('MatMul', [norm(g, x, width), g.weight(width, 4 * width)]);
    const hidden = g.contrib('FastGelu', [up, g.weight(4 * width)]);
    x = g.node('Add', [x, linear(g, hidden, 4 * width, width)]);
  }
  const end = g.node('Gather', [norm(g, x, width), g.constant(BigInt64Array.of(-1n), [1])], { axis: 1 });
  // A copy of the embedding, transposed, which ONNX Runtime packs; exporters do the same.
  const logits = g.node('MatMul', [end, g.weight(width, vocabulary)]);
  g.node('ArgMax', [logits], { outputs: ['next'], axis: -1, keepdims: 0 });
  g.output('next', [1, 1], 'int64');
  return g.file();
}

/** Attention of x with its weights in int8, as ONNX Runtime's own quantisation of models writes it. */
function int8Attention(g, x, width, heads) {
  const [quantized, scale, zero] = ['quantized', 'scale', 'zero'].map((name) => `${x}.${name}`);
  g.node('DynamicQuantizeLinear', [x], { outputs: [quantized, scale, zero] });
  const weights = [g.bytes('int8', width, 3 * width), g.weight(3 * width)];
  const none = g.constant(Int8Array.of(0), [], OnnxGraph.types.int8);
  const each = g.constant(Float32Array.of(0.01), [], OnnxGraph.types.float32);
  return g.contrib('QAttention', [quantized, ...weights, scale, each, '', zero, none], { num_heads: heads });
}

/** Post-norm layers with gelu, as BERT has them; with a `type`, weights are int8. */
export function encoderGraph({ b, n, width, heads, hidden, layers, type }) {
  const g = new OnnxGraph();
  const product = type
    ? (from, inputs, outputs) => int8Product(g, from, inputs, outputs)
    : (from, inputs, outputs) => g.node('MatMul', [from, g.weight(inputs, outputs)]);
  const attention = (from) =>
    type
      ? int8Attention(g, from, width, heads)
      : g.contrib('Attention', [from, g.weight(width, 3 * width), g.weight(3 * width)], { num_heads: heads });
  let x = g.input('x', [b, n, width]);
  for (let layer = 0; layer < layers; layer++) {
    x = sumNorm(g, product(attention(x), width, width), x, width);
    const up = g.contrib('BiasGelu', [product(x, width, hidden), g.weight(hidden)]);
    const outputs = layer === layers - 1 ? { outputs: ['y'] } : {};
    x = sumNorm(g, product(up, hidden, width), x, width, outputs);
  }
  g.output('y', [b, n, width]);
  return g.file();
}

/**
 * Attention of q [b, n, h d], k and v [b, m, h d]; `biased`: with numbers [1, 1, n, m] that are added to the scores.
 */
export function multiHeadGraph({ b, h, n, m, d, causal }, biased = false) {
  const g = new OnnxGraph();
  const inputs = [
    ['q', n],
    ['k', m],
    ['v', m],
  ].map(([name, length]) => g.input(name, [b, length, h * d]));
  if (biased) inputs.push('', '', g.input('bias', [1, 1, n, m]));
  g.contrib('MultiHeadAttention', inputs, { outputs: ['y'], num_heads: h, ...(causal && { unidirectional: 1 }) });
  g.output('y', [b, n, h * d]);
  return g.file();
}

/**
 * Causal attention of q [b, n, h d], and k and v [b, n, g d] that are put behind those of the past [b, g, m, d], in
 * place; `last` is the position of the last key of each sequence, `total` how many keys there then are.
 */
export function groupedQueryGraph({ b, h, g: heads, n, m, d }) {
  const g = new OnnxGraph();
  const inputs = [
    ['q', h],
    ['k', heads],
    ['v', heads],
  ].map(([name, count]) => g.input(name, [b, n, count * d]));
  const past = ['pastK', 'pastV'].map((name) => g.input(name, [b, heads, m, d]));
  const lengths = [g.input('last', [b], 'int32'), g.input('total', [], 'int32')];
  const options = { outputs: ['y', 'k1', 'v1'], num_heads: h, kv_num_heads: heads };
  g.contrib('GroupQueryAttention', [...inputs, ...past, ...lengths], options);
  g.output('y', [b, n, h * d]);
  for (const name of ['k1', 'v1']) g.output(name, [b, heads, m, d]);
  return g.file();
}
