// The kinds of cases that are whole models, with random weights: what fovea does for each.
import { autocast, generate, nn, noGrad, optim, randint, randn, synchronize, tidy } from 'fovea';
import { GPT2LMHeadModel } from 'fovea/models';
import { causalMask, composeAttention } from './composed-attention.mjs';
import { batches } from './timing.mjs';

function makeGpt2({ model, dtype }) {
  const made = new GPT2LMHeadModel({
    vocabSize: model.vocabulary,
    nPositions: model.positions,
    nEmbd: model.width,
    nLayer: model.layers,
    nHead: model.heads,
    embdPdrop: 0,
    residPdrop: 0,
    attnPdrop: 0,
  });
  return made.to(dtype);
}
const tokens = ({ model }, shape) => randint(0, model.vocabulary, shape, { dtype: 'int64' });

/** Keys and values are kept, and logits are those of the last position, as the first step of generation has it. */
function prefill(test) {
  const model = makeGpt2(test).eval();
  const inputIds = tokens(test, [1, test.length]);
  const call = () => {
    const cache = model.makeCache(1, test.length);
    noGrad(() => tidy(() => void model.forward({ inputIds, pastKeyValues: cache, logitsToKeep: 1 })));
    cache.dispose();
  };
  return {
    batch: batches(call, synchronize),
    release: () => [model, inputIds].forEach((x) => x.dispose()),
  };
}

/** Greedy tokens as a user gets them: each is read before the next one is computed. The prompt is not timed. */
function decode(test) {
  const model = makeGpt2(test).eval();
  const inputIds = tokens(test, [1, test.start]);
  const batch = async (count) => {
    const made = generate.stream(model, { inputIds, maxNewTokens: count + 1, eosTokenId: null });
    let start;
    for await (const _ of made) start ??= performance.now();
    return performance.now() - start;
  };
  return { batch, count: test.steps, release: () => [model, inputIds].forEach((x) => x.dispose()) };
}

/** With a `type`, all its matrices are quantised. */
function encoder({ b, n, width: dModel, heads: nHead, hidden: dimFeedforward, layers, dtype, type }) {
  const options = { dModel, nHead, dimFeedforward, activation: 'gelu', batchFirst: true, dtype };
  const stack = Array.from({ length: layers }, () => new nn.TransformerEncoderLayer(options).eval());
  if (type) for (const layer of stack) nn.quantize_(layer, { type });
  const input = randn([b, n, dModel], { dtype });
  const call = () => noGrad(() => tidy(() => void stack.reduce((x, layer) => layer.forward(x), input)));
  return { batch: batches(call, synchronize), release: () => [...stack, input].forEach((x) => x.dispose()) };
}

/** In bfloat16: float32 parameters, products under autocast. `composedTrain` has attention out of public ops. */
function train(test) {
  const model = makeGpt2({ ...test, dtype: 'float32' });
  const under = test.dtype === 'float32' ? (fn) => fn() : (fn) => autocast(test.dtype, fn);
  const optimizer = new optim.AdamW(model.parameters(), { lr: 1e-4 });
  const inputIds = tokens(test, [test.batch, test.length]);
  const masks = [];
  if (test.kind === 'composedTrain') {
    masks.push(causalMask(test.length));
    composeAttention(model, masks[0]);
  }
  const call = () =>
    tidy(() => {
      under(() => model.forward({ inputIds, labels: inputIds, outputLogits: false }).loss).backward();
      optimizer.step();
      optimizer.zeroGrad();
    });
  return {
    batch: batches(call, synchronize),
    release: () => [model, optimizer, inputIds, ...masks].forEach((x) => x.dispose()),
  };
}

function recurrent({ layer, length, batch, width, backward }) {
  const model = new nn[layer](width, width);
  const x = randn([length, batch, width], { requiresGrad: backward });
  const forward = () => noGrad(() => tidy(() => void model.forward(x)));
  const both = () => {
    tidy(() => model.forward(x)[0].sum().backward());
    model.zeroGrad();
    x.grad.dispose();
    x.grad = null;
  };
  return {
    batch: batches(backward ? both : forward, synchronize),
    release: () => [model, x].forEach((t) => t.dispose()),
  };
}

export const modelKinds = {
  prefill,
  decode,
  encoder,
  quantizedEncoder: encoder,
  train,
  composedTrain: train,
  recurrent,
};
