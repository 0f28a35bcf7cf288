// Times on a GPU what bench/gpu-cases.mjs lists, through the public API. Standard output gets one JSON object per line,
// first the device and then each case as it is done; standard error gets a table to read along.
//
//   node bench/gpu.mjs [--device cuda:0] [--quick] [--filter text] [--tiny] [--list]
//
// --quick: fewer repeats; --tiny: small sizes, to see on an emulated device that every case runs; --list: only prints
// the cases, for peers. Inputs are random and rotate among as many sets as the GPU's cache cannot hold.
import { parseArgs } from 'node:util';
import {
  devices,
  emptyCache,
  generate,
  grad,
  info,
  noGrad,
  optim,
  randint,
  randn,
  strict,
  synchronize,
  tidy,
} from 'fovea';
import { functional as F } from 'fovea';
import { GPT2LMHeadModel } from 'fovea/models';
import { gpuCases } from './gpu-cases.mjs';

const { values: options } = parseArgs({
  options: {
    device: { type: 'string', default: 'cuda:0' },
    quick: { type: 'boolean', default: false },
    tiny: { type: 'boolean', default: false },
    list: { type: 'boolean', default: false },
    filter: { type: 'string', default: '' },
  },
});
const { device } = options;
const rotated = options.tiny ? 1 : 256 * 2 ** 20; // bytes of inputs between two uses of the same
const samples = options.tiny ? 2 : options.quick ? 7 : 15;
const sampleMilliseconds = options.tiny ? 0 : options.quick ? 15 : 40;

const normal = (shape, dtype) => randn(shape, { dtype, device });
const bytes = (x) => x.size * { float32: 4, bfloat16: 2, int64: 8 }[x.dtype];

/** A graph of `forward` that stays, and its gradients by all inputs, over and over. */
function backwardOf(make, forward) {
  return {
    make: (test) => {
      const inputs = make(test).map((x) => x.requiresGrad_());
      const y = forward(test, inputs);
      return [y, normal([...y.shape], y.dtype), ...inputs];
    },
    run: (_, [y, dy, ...inputs]) => grad(y, inputs, { gradOutputs: dy, retainGraph: true }),
  };
}

const large = ({ rows, width, dtype }) => normal([rows, width], dtype);
const pair = (test) => (test.op === 'add' ? [large(test), large(test)] : [large(test)]);
const withWeights = (test) => {
  const weights = { layerNorm: 2, rmsNorm: 1 }[test.op] ?? 0;
  return [large(test), ...Array.from({ length: weights }, () => normal([test.width], test.dtype))];
};
const pointwise = ({ op }, inputs) => F[op](...inputs);
const rowwise = ({ op, width }, [x, w, b]) =>
  op === 'layerNorm' ? F.layerNorm(x, [width], w, b) : op === 'rmsNorm' ? F.rmsNorm(x, [width], w) : F[op](x, -1);

const matrices = ({ m, k, n, layout, dtype }) => [
  normal(layout[0] === 'T' ? [k, m] : [m, k], dtype),
  normal(layout[1] === 'T' ? [n, k] : [k, n], dtype),
];
const product = ({ layout }, [a, b]) =>
  F.matmul(layout[0] === 'T' ? a.transpose(0, 1) : a, layout[1] === 'T' ? b.transpose(0, 1) : b);

const heads = ({ b, h, g, n, m, d, dtype }) => [
  normal([b, h, n, d], dtype),
  normal([b, g, m, d], dtype),
  normal([b, g, m, d], dtype),
];
const attend = ({ causal }, [q, k, v]) => F.attention(q, k, v, { causal: causal ? 'topLeft' : false });

/** How each kind of case makes a set of inputs, and what one call does with it. */
const kinds = {
  copy: { make: (test) => [large(test)], run: (_, [x]) => F.clone(x) },
  elementwise: { make: pair, run: pointwise },
  elementwiseBackward: backwardOf(pair, pointwise),
  rows: { make: withWeights, run: rowwise },
  rowsBackward: backwardOf(withWeights, rowwise),
  matmul: { make: matrices, run: product },
  attention: { make: heads, run: attend },
  attentionBackward: backwardOf(heads, attend),
  crossEntropy: {
    make: (test) => [large(test).requiresGrad_(), randint(0, test.width, [test.rows], { dtype: 'int64', device })],
    run: (_, [x, t]) => grad(F.crossEntropy(x, t), [x]),
  },
  adamw: {
    make: ({ shapes, dtype }) => {
      const parameters = shapes.map((shape) => normal(shape, dtype).requiresGrad_());
      for (const p of parameters) p.grad = normal([...p.shape], dtype);
      return [new optim.AdamW(parameters, { lr: 1e-3 }), ...parameters, ...parameters.map((p) => p.grad)];
    },
    run: (_, [optimizer]) => optimizer.step(),
  },
};

const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];

/** Milliseconds of `count` calls and the wait for them. */
async function elapsed(call, count) {
  const start = performance.now();
  for (let i = 0; i < count; i++) call();
  await synchronize();
  return performance.now() - start;
}

/** The times of a call in milliseconds, one of each sample: enough calls that the wait at its end does not count. */
async function timesOf(call) {
  // An op without a kernel of its own would run as several others, which is not what is to be timed.
  await elapsed(() => strict(call), 2);
  const once = (await elapsed(call, 3)) / 3;
  const count = Math.min(2000, Math.max(1, Math.round(sampleMilliseconds / Math.max(once, 1e-3))));
  const times = [];
  for (let i = 0; i < samples; i++) times.push((await elapsed(call, count)) / count);
  return times;
}

async function timeKind(test) {
  const { make, run } = kinds[test.kind];
  const sets = [make(test)];
  const size = sets[0].reduce((sum, x) => sum + (x.dtype ? bytes(x) : 0), 0);
  while (sets.length * size < rotated) sets.push(make(test));
  let next = 0;
  try {
    return await timesOf(() => {
      const inputs = sets[next++ % sets.length];
      tidy(() => void run(test, inputs));
    });
  } finally {
    for (const x of sets.flat()) x.dispose();
  }
}

function makeModel({ vocabulary, positions, width, layers, heads: nHead, dtype }) {
  const model = new GPT2LMHeadModel({
    vocabSize: vocabulary,
    nPositions: positions,
    nEmbd: width,
    nLayer: layers,
    nHead,
    embdPdrop: 0,
    residPdrop: 0,
    attnPdrop: 0,
  });
  model.to(dtype);
  model.to(device);
  return model;
}
const tokens = ({ vocabulary }, shape) => randint(0, vocabulary, shape, { dtype: 'int64', device });

/** What `body` resolves to; `things` are freed then. */
async function disposing(things, body) {
  try {
    return await body(...things);
  } finally {
    for (const thing of things.flat()) thing.dispose();
  }
}

function timeTraining(test) {
  const model = makeModel(test);
  const batches = Array.from({ length: 4 }, () => tokens(test, [test.batch, test.length]));
  return disposing([model, new optim.AdamW(model.parameters(), { lr: 1e-4 }), batches], async (_, optimizer) => {
    let next = 0;
    return timesOf(() => {
      const inputIds = batches[next++ % batches.length];
      tidy(() => {
        model.forward({ inputIds, labels: inputIds }).loss.backward();
        optimizer.step();
        optimizer.zeroGrad();
      });
    });
  });
}

/** Greedy tokens whose choice stays on the device; a sample is `steps` of them, each one position further. */
function timeDecoding(test) {
  const model = makeModel(test).eval();
  return disposing([model, model.makeCache(1, test.positions)], async (_, cache) => {
    const step = (inputIds) =>
      noGrad(() =>
        tidy(() => {
          const { logits } = model.forward({ inputIds, pastKeyValues: cache, logitsToKeep: 1 });
          return F.argmax(logits.reshape([1, -1]), -1).reshape([1, 1]);
        }),
      );
    const advance = (token) => {
      const after = step(token);
      token.dispose();
      return after;
    };
    let token = strict(() => advance(tokens(test, [1, test.start])));
    const times = [];
    while (cache.length + test.steps <= test.positions) {
      times.push((await elapsed(() => void (token = advance(token)), test.steps)) / test.steps);
    }
    token.dispose();
    return times.slice(1); // the first sample loads kernels
  });
}

/** The whole way to text: every token is read before the next one is computed. */
function timeGeneration(test) {
  const model = makeModel(test).eval();
  return disposing([model, tokens(test, [1, test.start])], async (_, inputIds) => {
    const times = [];
    for (let i = 0; i < 3; i++) {
      const start = performance.now();
      const made = await generate.generate(model, { inputIds, maxNewTokens: test.steps, eosTokenId: null });
      times.push((performance.now() - start) / test.steps);
      made.dispose();
    }
    return times.slice(1);
  });
}

const longer = { train: timeTraining, decode: timeDecoding, generate: timeGeneration };

/** A case's rate in its unit. */
function rateOf({ unit, work }, milliseconds) {
  if (unit === 'ms') return milliseconds;
  const perSecond = work / (milliseconds / 1e3);
  return unit === 'tokens/s' ? perSecond : perSecond / 1e12;
}

async function measure(test) {
  const times = await (longer[test.kind] ?? timeKind)(test);
  const milliseconds = median(times);
  const spread = (Math.max(...times) - Math.min(...times)) / milliseconds;
  return { id: test.id, milliseconds, rate: rateOf(test, milliseconds), unit: test.unit, spread };
}

const cases = gpuCases(options.tiny).filter(({ id }) => id.toLowerCase().includes(options.filter.toLowerCase()));
if (options.list) {
  console.log(JSON.stringify(cases));
  process.exit(0);
}
const known = devices();
const used = known.find(({ name, available }) => name === device && available);
if (!used) {
  const reason = known.find(({ available }) => !available)?.reason;
  console.error(`bench: no ${device} here: ${reason ?? `there are ${known.map(({ name }) => name).join(', ')}`}`);
  process.exit(1);
}
const description = used.description ?? used.name;
const { version } = info();
const date = new Date().toISOString().slice(0, 10);
console.log(JSON.stringify({ library: `fovea ${version}`, device: description, date, node: process.version }));
console.error(`fovea ${version}, Node ${process.version}, ${description}`);
let failed = 0;
for (const test of cases) {
  let row;
  try {
    row = await measure(test);
    const rate = row.rate >= 1000 ? row.rate.toFixed(0) : row.rate.toPrecision(4);
    console.error(
      `${test.id.padEnd(64)} ${row.milliseconds.toFixed(4).padStart(10)} ms ${rate.padStart(8)} ${row.unit}`,
    );
  } catch (error) {
    failed++;
    row = { id: test.id, unit: test.unit, error: `${error.code ?? error.name}: ${error.message}` };
    console.error(`${test.id.padEnd(64)} FAILED ${row.error}`);
  }
  console.log(JSON.stringify(row));
  await synchronize();
  emptyCache();
}
console.error(`${cases.length - failed} of ${cases.length} cases timed`);
process.exit(failed ? 1 : 0);
