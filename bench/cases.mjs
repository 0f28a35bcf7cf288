// What is timed, as plain data, so that fovea (bench/kinds.mjs) and its peers (bench/peers/) read the same sizes.
//
// A case has a `kind`, which says what one call does, and that kind's sizes. `work` is what a call stands for:
// arithmetic operations (`limit` fma, bf16 or int8), or the fewest bytes that must be moved, each read and written once
// (copy) or only read (read). `sets`: as many inputs take turns, so that no cache serves what is only read, such as
// weights, or keys and values.
import { totalmem } from 'node:os';
import { attentions } from './attention-cases.mjs';
import { convCases } from './conv-cases.mjs';
import { bytesOf, define, dtypes, floats, flopLimit, MIB, setsFor } from './define-case.mjs';
import { fusedCases } from './fused-cases.mjs';
import { gpt2, gpt2Flops, parameters, trainings } from './gpt2-cases.mjs';
import { gpt2Shapes } from './gpu-cases.mjs';

export { bytesOf, dtypes } from './define-case.mjs';

export const groups = [
  'matmul',
  'gemv',
  'elementwise',
  'rows',
  'loss',
  'attention',
  'conv',
  'optimiser',
  'model',
  'training',
  'fused',
  'js',
];

function matmuls(tiny) {
  const shapes = tiny
    ? [[8, 16, 24]]
    : [
        [256, 256, 256],
        [512, 512, 512],
        [1024, 1024, 1024],
        [2048, 2048, 2048],
        [128, 768, 3072],
        [128, 3072, 768],
        [512, 4096, 4096],
      ];
  const one = ([m, k, n], dtype, layout = 'NN') =>
    define('matmul', 'matmul', `${m} x ${k} x ${n}${layout === 'NT' ? ', b transposed' : ''}`, dtype, {
      m,
      k,
      n,
      layout,
      work: 2 * m * k * n,
      limit: flopLimit(dtype),
    });
  const square = tiny ? [16, 16, 16] : [1024, 1024, 1024];
  return [...dtypes.flatMap((dtype) => shapes.map((shape) => one(shape, dtype))), one(square, 'float32', 'NT')];
}

/** A layer of experts that have unequal numbers of rows. */
function groupedMatmuls(tiny) {
  const [groups, t, k, n] = tiny ? [4, 10, 16, 24] : [8, 2048, 768, 3072];
  const ends = Array.from({ length: groups }, (_, g) => Math.round((t * (g + 1) * (g + 2)) / (groups * (groups + 1))));
  const sizes = { t, k, n, ends, work: 2 * t * k * n };
  const label = `${t} rows in ${groups} groups x ${k} x ${n}`;
  return dtypes.map((dtype) => define('matmul', 'groupedMatmul', label, dtype, { ...sizes, limit: flopLimit(dtype) }));
}

/** As many weights as no cache holds take turns, as the layers of a model do. */
const weightBits = { q8_0: 8.5, q4_0: 4.5, q4_K: 4.625, q6_K: 6.5625, int8: 8 };
function quantizedWeights(tiny) {
  const width = tiny ? 256 : 4096;
  const bytes = (type) => (width * width * weightBits[type]) / 8;
  return Object.keys(weightBits).flatMap((type) =>
    [1, 4, 256].map((m) =>
      define(m < 256 ? 'gemv' : 'matmul', 'quantized', `${m} x ${width} x ${width}, ${type}`, 'float32', {
        op: 'linear',
        type,
        m,
        k: width,
        n: width,
        sets: setsFor(bytes(type), tiny),
        ...(m < 256 ? { work: bytes(type), limit: 'read' } : { work: 2 * m * width * width, limit: 'int8' }),
      }),
    ),
  );
}

function gemvs(tiny) {
  const width = tiny ? 64 : 4096;
  return dtypes.flatMap((dtype) =>
    [1, 2, 4].map((m) => {
      const work = width * width * bytesOf[dtype];
      const sizes = { op: 'linear', m, k: width, n: width, sets: setsFor(work, tiny), work, limit: 'read' };
      return define('gemv', 'linear', `${m} x ${width} x ${width}`, dtype, sizes);
    }),
  );
}

// biome-ignore format: a list of names, not one a line
const unary = [
  'neg', 'abs', 'sign', 'square', 'relu', 'floor', 'ceil', 'round', 'exp', 'log', 'sqrt', 'rsqrt', 'sin', 'cos', 'tanh',
  'sigmoid', 'erf', 'gelu', 'silu', 'softplus',
];
const binary = ['add', 'sub', 'mul', 'div', 'maximum', 'minimum', 'pow'];

/** 64 MB tensors, which no cache holds. */
function elementwise(tiny) {
  const megabytes = (dtype) => (tiny ? 100 : (64 * MIB) / bytesOf[dtype]);
  const one = (op, inputs, dtype, kind = 'elementwise') => {
    const n = megabytes(dtype);
    const work = (inputs + 1) * n * bytesOf[dtype];
    return define('elementwise', kind, tiny ? `${n} numbers` : '64 MB', dtype, { op, inputs, n, work, limit: 'copy' });
  };
  return [
    ...unary.map((op) => one(op, 1, 'float32')),
    ...['exp', 'gelu', 'silu'].map((op) => one(op, 1, 'bfloat16')),
    ...binary.map((op) => one(op, 2, 'float32')),
    ...['add', 'mul'].map((op) => one(op, 2, 'bfloat16')),
    ...floats.flatMap((dtype) => ['swiglu', 'geglu'].map((op) => one(op, 2, dtype))),
    one('dropout', 1, 'float32', 'dropout'),
    one('dropoutAdd', 2, 'float32', 'dropoutAdd'),
  ];
}

/** `passes`: how often the large tensor is read or written. */
function rows(tiny) {
  const width = tiny ? 32 : 1024;
  const one = (op, dtype, passes = 2, dim = -1) => {
    const rows = tiny ? 8 : (64 * MIB) / bytesOf[dtype] / width;
    const work = passes * rows * width * bytesOf[dtype];
    const reads = passes === 1;
    const shares = reads ? { limit: 'read', sets: setsFor(work, tiny) } : { limit: 'copy' };
    return define('rows', 'rows', `${rows} x ${width}`, dtype, { op, rows, width, dim, work, ...shares });
  };
  const turned = (dtype) => {
    const [h, n, d] = tiny ? [2, 8, 16] : [16, 1024, 128];
    const b = tiny ? 1 : (64 * MIB) / bytesOf[dtype] / (h * n * d);
    const work = 2 * b * h * n * d * bytesOf[dtype];
    return define('rows', 'rope', `${b} x ${h} x ${n} x ${d}`, dtype, { b, h, n, d, work, limit: 'copy' });
  };
  const normalised = ['softmax', 'logSoftmax', 'layerNorm', 'rmsNorm'];
  return [
    ...floats.flatMap((dtype) => normalised.map((op) => one(op, dtype))),
    ...floats.flatMap((dtype) => ['addLayerNorm', 'addRmsNorm'].map((op) => one(op, dtype, 4))),
    ...floats.map(turned),
    one('sum', 'float32', 1),
    one('mean', 'float32', 1, 0),
    one('argmax', 'float32', 1),
    one('transpose', 'float32'),
    ...lookups(tiny),
  ];
}

function lookups(tiny) {
  const [taken, vocabulary, width] = tiny ? [8, 50, 16] : [16384, 50257, 1024];
  const [row, wide, k] = tiny ? [4, 100, 5] : [64, 50257, 50];
  return [
    define('rows', 'embedding', `${taken} of ${vocabulary} x ${width}`, 'float32', {
      rows: taken,
      vocabulary,
      width,
      work: 2 * taken * width * 4,
      limit: 'copy',
    }),
    define('rows', 'topk', `${row} x ${wide}, k ${k}`, 'float32', {
      rows: row,
      width: wide,
      k,
      sets: setsFor(row * wide * 4, tiny),
      work: row * wide * 4,
      limit: 'read',
    }),
  ];
}

/** Logits of 8192 tokens take 1.6 GB, their gradient as much, and a peer's as much again. */
function losses(tiny, memory) {
  const [rows, width] = tiny ? [8, 100] : [memory < 20 * 1024 * MIB ? 2048 : 8192, 50257];
  const one = (dtype, backward) =>
    define('loss', 'crossEntropy', `${rows} x ${width}${backward ? ', forward and backward' : ''}`, dtype, {
      rows,
      width,
      backward,
      work: (backward ? 3 : 1) * rows * width * bytesOf[dtype],
      limit: backward ? 'copy' : 'read',
    });
  return [
    ...floats.flatMap((dtype) => [one(dtype, false), one(dtype, true)]),
    ...floats.map((d) => hiddenLoss(tiny, d)),
  ];
}

/**
 * The loss of a language model from what its last layer gives, with gradients: three products as large as the logits.
 */
function hiddenLoss(tiny, dtype) {
  const [rows, width, vocabulary] = tiny ? [8, 16, 100] : [8192, 768, 50257];
  const label = `${rows} x ${vocabulary} from ${width}, forward and backward`;
  const sizes = { op: 'linearCrossEntropy', rows, width, vocabulary };
  return define('loss', 'linearCrossEntropy', label, dtype, {
    ...sizes,
    work: 3 * 2 * rows * width * vocabulary,
    limit: flopLimit(dtype),
  });
}

function optimisers(tiny) {
  const model = gpt2(tiny);
  const shapes = gpt2Shapes(model);
  const count = parameters(model);
  const label = tiny ? `${count} parameters` : `GPT-2, ${(count / 1e6).toFixed(0)} M parameters`;
  // The parameter, its gradient and two moments are read, all but the gradient written.
  return [define('optimiser', 'adamw', label, 'float32', { op: 'AdamW', shapes, work: 7 * count * 4, limit: 'copy' })];
}

/** Logits are those of the last position only, as generation wants them. */
function models(tiny) {
  const model = gpt2(tiny);
  const [length, start, steps] = tiny ? [16, 4, 4] : [512, 32, 64];
  const name = tiny ? 'tiny GPT' : 'GPT-2 124M';
  const { width, layers } = model;
  const prefill = (dtype) =>
    define('model', 'prefill', `${name}, ${length} tokens`, dtype, {
      model,
      length,
      work: gpt2Flops(model, 1, length, 1),
      limit: flopLimit(dtype),
    });
  const decode = (dtype) =>
    define('model', 'decode', `${name}, a token from ${start} on`, dtype, {
      model,
      start,
      steps,
      work: (parameters(model) - model.positions * width + 2 * layers * width * (start + steps / 2)) * bytesOf[dtype],
      limit: 'read',
    });
  const encoders = [...floats.map((dtype) => encoder(tiny, dtype)), encoder(tiny, 'float32', 'int8')];
  return [...floats.map(prefill), ...dtypes.map(decode), ...encoders];
}

/** BERT-base without its embeddings: post-norm layers, gelu. With a `type` its weights are quantised. */
function encoder(tiny, dtype, type) {
  const [b, n, width, heads, hidden, layers] = tiny ? [2, 8, 32, 2, 64, 2] : [8, 128, 768, 12, 3072, 12];
  const token = 2 * (4 * width * width + 2 * width * hidden) + 4 * width * n;
  const name = tiny ? 'tiny encoder' : 'BERT-base';
  const label = `${name}, ${b} x ${n}${type ? `, ${type}` : ''}`;
  const sizes = { b, n, width, heads, hidden, layers, ...(type && { type }) };
  const work = b * n * layers * token;
  const limit = type ? 'int8' : flopLimit(dtype);
  return define('model', type ? 'quantizedEncoder' : 'encoder', label, dtype, { ...sizes, work, limit });
}

/** Recurrent layers over whole sequences, without and with the gradients of input and parameters. */
function recurrents(tiny) {
  const [length, batch, width] = tiny ? [3, 2, 8] : [128, 32, 256];
  const one = (op, gates, backward) =>
    define(backward ? 'training' : 'model', 'recurrent', `${length} x ${batch} x ${width}`, 'float32', {
      op: backward ? `${op}, forward and backward` : op,
      layer: op,
      length,
      batch,
      width,
      backward,
      work: (backward ? 3 : 1) * length * batch * 4 * gates * width * width,
      limit: 'fma',
    });
  return [one('LSTM', 4, false), one('GRU', 3, false), one('LSTM', 4, true), one('GRU', 3, true)];
}

/**
 * Ops on 16 numbers: from call to return (`issue`), that is checks, allocation and enqueueing; or with the work itself.
 */
function javascript(tiny) {
  const one = (op, issue, count) =>
    define('js', 'small', issue ? '16 numbers, call to return' : '16 numbers, computed', 'float32', {
      op,
      issue,
      count: tiny ? 3 : count,
      n: 16,
    });
  return [
    one('add', true, 2000),
    one('add, freed at once', true, 2000),
    one('add a number', true, 2000),
    one('add, recorded', true, 2000),
    one('add, sum, backward', true, 200),
    one('add', false, 2000),
    one('add, sum, backward', false, 200),
  ];
}

/** All cases, group by group. @param tiny sizes at which only running matters @param memory bytes of this machine */
export function benchCases({ tiny = false, memory = totalmem() } = {}) {
  const cases = [
    matmuls(tiny),
    groupedMatmuls(tiny),
    gemvs(tiny),
    quantizedWeights(tiny),
    elementwise(tiny),
    rows(tiny),
    losses(tiny, memory),
    attentions(tiny),
    convCases(tiny),
    optimisers(tiny),
    models(tiny),
    trainings(tiny),
    recurrents(tiny),
    fusedCases(tiny),
    javascript(tiny),
  ].flat();
  return cases.toSorted((a, b) => groups.indexOf(a.group) - groups.indexOf(b.group));
}

/** The options by which both benches choose cases, for `parseArgs`. */
export const caseOptions = {
  group: { type: 'string', default: '' },
  dtype: { type: 'string', default: '' },
  filter: { type: 'string', default: '' },
  tiny: { type: 'boolean', default: false },
};

/**
 * The cases that options choose: `group` and `dtype` are names with commas between them, `filter` a part of the case's
 * name.
 *
 * @throws Error naming a group or dtype that is none
 */
export function chosenCases({ group = '', dtype = '', filter = '', tiny = false }) {
  const names = (option, given, known) => {
    const asked = given.split(',').filter(Boolean);
    const odd = asked.find((name) => !known.includes(name));
    if (odd) throw new Error(`--${option}: expected some of ${known.join(', ')}, received ${odd}`);
    return asked.length > 0 ? asked : known;
  };
  const [inGroups, inDtypes] = [names('group', group, groups), names('dtype', dtype, dtypes)];
  const chosen = benchCases({ tiny }).filter(
    (test) =>
      inGroups.includes(test.group) &&
      inDtypes.includes(test.dtype) &&
      `${test.group} ${test.id}`.toLowerCase().includes(filter.toLowerCase()),
  );
  if (chosen.length === 0) throw new Error(`no case is left by --filter ${filter}, --group and --dtype`);
  return chosen;
}
