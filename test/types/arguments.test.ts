// Whatever a layer, an optimizer, a file or a model is given, it works or says why in a FoveaError: no TypeError from
// within. The functions of tensors have such a test beside the op table.
import {
  checkpoint,
  functional as F,
  FoveaError,
  inspect,
  io,
  load,
  nn,
  optim,
  randn,
  strict,
  tensor,
  tidy,
  train,
} from 'fovea';
import { GPT2LMHeadModel } from 'fovea/models';
import { expect, it } from 'vitest';

const odd: unknown[] = [
  undefined,
  null,
  true,
  -1,
  Number.NaN,
  1.5,
  2n,
  '',
  'x',
  {},
  [],
  [1],
  [{}],
  () => 1,
  new Date(0),
];
const model = new GPT2LMHeadModel({ vocabSize: 8, nPositions: 8, nEmbd: 8, nLayer: 1, nHead: 2 }).eval();
const inputIds = tensor([[1, 2, 3]], { dtype: 'int64' });
const weight = (): ReturnType<typeof randn> => randn([2, 2], { requiresGrad: true });
const layer = new nn.Linear(1, 1);
const trainer = (options: object): train.Trainer<unknown, nn.Linear> =>
  new train.Trainer<unknown, nn.Linear>({
    model: layer,
    optimizer: new optim.SGD(layer.parameters(), { lr: 0 }),
    loss: (linear) => linear.forward(tensor([[1]])).sum(),
    trainData: [1],
    maxSteps: 1,
    ...options,
  });
const sgd = (): optim.SGD => new optim.SGD([weight()]);

const calls: Record<string, (value: never) => unknown> = {
  'Linear()': (v) => new nn.Linear(v, v),
  'Linear.forward': (v) => new nn.Linear(2, 2).forward(v),
  'Linear.loadStateDict': (v) => new nn.Linear(2, 2).loadStateDict(v),
  'Linear.loadStateDict, a tensor': (v) => new nn.Linear(2, 2).loadStateDict({ weight: v, bias: v }),
  'Linear.registerForwardHook': (v) => new nn.Linear(2, 2).registerForwardHook(v),
  'Linear.to': (v) => new nn.Linear(2, 2).to(v),
  'Linear.registerBuffer': (v) => new nn.Linear(2, 2).registerBuffer('more', v),
  'init.kaimingUniform_': (v) => nn.init.kaimingUniform_(randn([2, 2]), v),
  'init.truncNormal_': (v) => nn.init.truncNormal_(randn([2, 2]), v),
  'data, as': (v) => inputIds.data({ as: v }),
  'to, target': (v) => inputIds.to(v),
  'TransformerEncoderLayer()': (v) => new nn.TransformerEncoderLayer(v),
  'MultiheadAttention.forward': (v) => new nn.MultiheadAttention(2, 1).forward(v, v, v),
  'LSTM()': (v) => new nn.LSTM(v, v, v),
  'LSTM.forward': (v) => new nn.LSTM(2, 2).forward(v, v, v),
  'LSTM.forward, state': (v) => new nn.LSTM(2, 2).forward(weight(), v),
  'LSTM.forward, lengths': (v) => new nn.LSTM(2, 2).forward(randn([2, 2, 2]), null, { lengths: v }),
  'GRU()': (v) => new nn.GRU(2, 2, { numLayers: v, dropout: v }),
  'GRU.forward': (v) => new nn.GRU(2, 2).forward(weight(), v),
  'RNN()': (v) => new nn.RNN(2, 2, { nonlinearity: v }),
  'LSTMCell.forward': (v) => new nn.LSTMCell(2, 2).forward(weight(), v),
  'GRUCell.forward': (v) => new nn.GRUCell(2, 2).forward(v, v),
  'RNNCell()': (v) => new nn.RNNCell(v, 2, v),
  packPaddedSequence: (v) => nn.utils.rnn.packPaddedSequence(randn([2, 2, 2]), v, v),
  'packPaddedSequence, input': (v) => nn.utils.rnn.packPaddedSequence(v, [1, 1]),
  packSequence: (v) => nn.utils.rnn.packSequence(v),
  padSequence: (v) => nn.utils.rnn.padSequence(v, v),
  padPackedSequence: (v) => nn.utils.rnn.padPackedSequence(v, v),
  unpadSequence: (v) => nn.utils.rnn.unpadSequence(weight(), v),
  'PackedSequence()': (v) => new nn.utils.rnn.PackedSequence(weight(), v, v),
  clipGradNorm_: (v) => nn.utils.clipGradNorm_(v, 1),
  'clipGradNorm_, maxNorm': (v) => nn.utils.clipGradNorm_([weight()], v),
  clipGradValue_: (v) => nn.utils.clipGradValue_(v, 1),
  'clipGradValue_, clipValue': (v) => nn.utils.clipGradValue_([weight()], v),
  'AdamW()': (v) => new optim.AdamW(v),
  'SGD()': (v) => new optim.SGD(v),
  'Sophia.updateHessian': (v) => new optim.Sophia([weight()]).updateHessian(v),
  'Sophia.updateHessian, estimates': (v) => new optim.Sophia([weight()]).updateHessian(() => v),
  hutchinson: (v) => optim.hutchinson(v, v),
  'hutchinson, options': (v) => optim.hutchinson(weight().sum(), [weight()], v),
  gaussNewtonBartlett: (v) => optim.gaussNewtonBartlett(v, v),
  'ExponentialMovingAverage()': (v) => new optim.ExponentialMovingAverage(v),
  'ExponentialMovingAverage.copyTo': (v) => new optim.ExponentialMovingAverage([weight()]).copyTo(v),
  'ExponentialMovingAverage.loadStateDict': (v) => new optim.ExponentialMovingAverage([weight()]).loadStateDict(v),
  'StepLR()': (v) => new optim.lrScheduler.StepLR(v, v),
  'StepLR.loadStateDict': (v) => new optim.lrScheduler.StepLR(sgd(), { stepSize: 1 }).loadStateDict(v),
  'LambdaLR()': (v) => new optim.lrScheduler.LambdaLR(sgd(), v),
  'LinearLR()': (v) => new optim.lrScheduler.LinearLR(sgd(), v),
  'SequentialLR()': (v) => new optim.lrScheduler.SequentialLR(sgd(), v, v),
  'ChainedScheduler()': (v) => new optim.lrScheduler.ChainedScheduler(v),
  warmupStableDecay: (v) => optim.lrScheduler.warmupStableDecay(sgd(), v),
  phases: (v) => optim.lrScheduler.phases(v),
  saveFile: (v) => io.saveFile(v, v),
  loadFile: (v) => io.loadFile(v),
  load: (v) => load(v),
  'GPT2LMHeadModel()': (v) => new GPT2LMHeadModel(v),
  'forward, input': (v) => model.forward(v),
  'forward, inputIds': (v) => model.forward({ inputIds: v }),
  generate: (v) => model.generate(v),
  'generate, inputIds': (v) => model.generate({ inputIds: v, maxNewTokens: 1 }),
  'generate, attentionMask': (v) => model.generate({ inputIds, attentionMask: v, maxNewTokens: 1 }),
  'generate, stop': (v) => model.generate({ inputIds, stop: v, maxNewTokens: 1 }),
  'generate, eosTokenId': (v) => model.generate({ inputIds, eosTokenId: v, maxNewTokens: 1 }),
  'generate, topK': (v) => model.generate({ inputIds, topK: v, maxNewTokens: 1 }),
  trainCausalLM: (v) => train.trainCausalLM(model, v, { steps: 1, batchSize: 1 }),
  checkpoint: (v) => checkpoint(v),
  'checkpoint, inputs': (v) => checkpoint((x: ReturnType<typeof randn>) => x, v),
  'Trainer()': (v) => new train.Trainer(v),
  'Trainer, loss': (v) => trainer({ loss: v }).run(),
  'Trainer, trainData': (v) => trainer({ trainData: v }).run(),
  'Trainer, guards': (v) => trainer({ guards: v }),
  'Trainer, callbacks': (v) => trainer({ callbacks: v }).run(),
  'Trainer, extra': (v) => trainer({ extra: v }),
  'Trainer.resume': (v) => trainer({}).resume(v),
  'train.earlyStopping': (v) => train.earlyStopping(v),
  'train.nonFinite': (v) => train.nonFinite(v),
  'train.lossSpike': (v) => train.lossSpike(v),
  'train.gradientNorm': (v) => train.gradientNorm(v),
  'train.attentionCollapse': (v) => train.attentionCollapse(v),
  'train.overfitting': (v) => train.overfitting(v),
  'train.lossCurve': (v) => train.lossCurve(v),
  'train.lossCurveSvg': (v) => train.lossCurveSvg({ train: v }),
  'train.listCheckpoints': (v) => train.listCheckpoints(v),
  'train.verifyCheckpoint': (v) => train.verifyCheckpoint(v),
  'inspect.observe': (v) => inspect.observe(v),
  'inspect.observe, modules': (v) => inspect.observe(model, { modules: v }).dispose(),
  'inspect.entropy': (v) => inspect.entropy(v, v),
  'inspect.alignment': (v) => inspect.alignment(v),
  'inspect.compareHeads': (v) => inspect.compareHeads(randn([1, 2, 2]), v),
  'inspect.rollout': (v) => inspect.rollout(v),
  'inspect.rollout, layers': (v) => inspect.rollout([v], v),
  'inspect.classifyHeads': (v) => inspect.classifyHeads(v),
  'inspect.classifyHeads, tokenIds': (v) => inspect.classifyHeads(randn([2, 2]), { tokenIds: v, segments: v }),
  'inspect.heatmapSvg': (v) => inspect.heatmapSvg(v),
  'inspect.heatmapSvg, queries': (v) => inspect.heatmapSvg(randn([1, 1]).abs(), { queries: v }),
  'inspect.htmlReport': (v) => inspect.htmlReport(v),
  'inspect.htmlReport, sections': (v) => inspect.htmlReport([v], v),
  'inspect.ablate': (v) => inspect.ablate(v, v, () => 1),
  'inspect.ablate, ablations': (v) => inspect.ablate(model, v, () => 1),
  'inspect.ablate, fn': (v) => inspect.ablate(model, [{ module: 'transformer' }], v),
  tidy: (v) => tidy(v),
  strict: (v) => strict(v),
};

it.each(Object.entries(calls))('%s', async (name, call) => {
  for (const value of odd) {
    try {
      await call(value as never);
    } catch (error) {
      expect(error, `${name} of ${String(value)}`).toBeInstanceOf(FoveaError);
    }
  }
});

it.each([-1, Number.NaN, Number.POSITIVE_INFINITY])('a rate of %d is refused', (lr) => {
  expect(() => new optim.AdamW([weight()], { lr })).toThrow(/AdamW: expected a finite number of at least 0 for lr/);
  expect(() => new optim.SGD([{ params: [weight()], lr }])).toThrow(/SGD: expected a finite number/);
});

it('misspelt options are no silent defaults', () => {
  const misspelt = (value: object): never => value as never;
  expect(() => model.forward(misspelt({ inputIds, attentionMaks: inputIds }))).toThrow(/attentionMaks/);
  expect(() => new nn.Linear(2, 2).loadStateDict({}, misspelt({ strct: false }))).toThrow(/strct/);
  expect(() => io.loadFile('x', misspelt({ nmap: false }))).toThrow(/nmap/);
  expect(() => inputIds.dataSync(misspelt({ ass: 'int32' }))).toThrow(/dataSync: .*"ass"/);
  expect(() => inputIds.to(misspelt({ dtyp: 'int32' }))).toThrow(/dtyp/);
  expect(() => nn.init.xavierNormal_(randn([2, 2]), misspelt({ gian: 2 }))).toThrow(/xavierNormal_: .*gian/);
  expect(() => nn.init.normal_(randn([2]), 0, 1, misspelt({ seed: 2 }))).toThrow(/normal_: .*seed/);
  expect(() => new nn.Linear(2, 2).registerBuffer('b', inputIds, misspelt({ persist: true }))).toThrow(/persist/);
});

it('errors name the argument as the caller knows it', () => {
  expect(() => randn([2]).uniform_('a' as never)).toThrow(/uniform_: expected a number for low/);
  expect(() => randn([2]).normal_(0, 'b' as never)).toThrow(/normal_: expected a number for std/);
  expect(() => inputIds.dataSync({ as: 'foo' as never })).toThrow(/dataSync: expected one of float32.* for as/);
  expect(() => F.to(inputIds, 'foo' as never)).toThrow(/to: expected a dtype, a device/);
  expect(() => new nn.Linear(2, 2).to('foo' as never)).toThrow(
    /Module.to: expected a floating-point dtype or a device/,
  );
  expect(() => new nn.Linear(2, 2).to('int32')).toThrow(/Module.to: .*received int32/);
  expect(() => new nn.Linear(2, 2).to('cuda:99')).toThrow(/Module.to: device "cuda:99" is not available/);
});

it('tokens beyond the vocabulary are refused before they reach the weights', async () => {
  const tokens = new Uint16Array(16).fill(8);
  await expect(train.trainCausalLM(model, tokens, { steps: 1 })).rejects.toMatchObject({ code: 'FOVEA_INDEX' });
  expect(await model.forward({ inputIds }).logits.data()).toHaveLength(24);
});
