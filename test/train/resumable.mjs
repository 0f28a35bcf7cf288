// A run with everything that has a state: dropout, shuffled data, accumulation, a schedule, early stopping, float16's
// scale. Prints losses and digests of the weights and all states as a line of JSON.
//
//   node resumable.mjs <folder> whole|killed|resumed <precision> <data> <what is learnt with>
import { createHash } from 'node:crypto';
import { functional as F, manualSeed, nn, optim, train } from 'fovea';
import { dataOf } from './resumable-data.mjs';

const [folder, mode, precision, data, method] = process.argv.slice(2);
const steps = 14;
const savedAt = 7;

class Net extends nn.Module {
  layer = new nn.TransformerEncoderLayer({ dModel: 16, nHead: 2, dimFeedforward: 32, dropout: 0.2, batchFirst: true });
  norm = method === 'batch norm' ? new nn.BatchNorm1d(16, { momentum: null }) : undefined;
  head = new nn.Linear(16, 1);
  forward(x) {
    const h = this.layer.forward(x);
    return this.head.forward(this.norm ? this.norm.forward(h.transpose(1, 2)).transpose(1, 2) : h);
  }
}

manualSeed(mode === 'resumed' ? 99 : 1); // what is loaded has the last word
const model = new Net();
const lossOf = (net, { x, y }) => F.mseLoss(net.forward(x).mean([1, 2]), y);

/** Optimizer, and what else the run is made of. */
const methods = {
  AdamW: () => ({ optimizer: new optim.AdamW(model.parameters(), { lr: 1e-2 }) }),
  Muon: () => ({
    optimizer: new optim.Muon(
      model.parameters().filter(({ rank }) => rank === 2),
      { lr: 1e-2 },
    ),
  }),
  Adafactor: () => ({ optimizer: new optim.Adafactor(model.parameters(), { lr: 1e-2 }) }),
  Sophia() {
    const estimate = (net, batch, params) => optim.hutchinson(lossOf(net, batch), params);
    return { optimizer: new optim.Sophia(model.parameters(), { lr: 1e-2 }), hessian: { estimate, every: 3 } };
  },
  'int8 and averages'() {
    const optimizer = new optim.AdamW(model.parameters(), { lr: 1e-2, stateDtype: 'int8' });
    const ema = new optim.ExponentialMovingAverage(model.parameters(), { decay: 0.9, useWarmup: true });
    return { optimizer, ema };
  },
  LoRA() {
    nn.addAdapter(model, { r: 3, loraDropout: 0.2, targetModules: 'all-linear' });
    return {
      optimizer: new optim.AdamW(
        model.parameters().filter((p) => p.requiresGrad),
        { lr: 1e-2 },
      ),
    };
  },
  'batch norm': () => methods.AdamW(),
};
const parts = methods[method]();
const { optimizer, ema } = parts;

const losses = [];
const trainer = new train.Trainer({
  model,
  ...parts,
  scheduler: optim.lrScheduler.warmupCosine(optimizer, { warmupSteps: 4, totalSteps: steps }),
  loss: lossOf,
  trainData: dataOf(data, `${folder}-train`),
  evalData: dataOf(data === 'workers' ? 'stateful' : data, `${folder}-eval`), // threads for each evaluation take their time
  evaluateEvery: 3,
  maxSteps: steps,
  accumulate: 4,
  precision,
  clipNorm: 1,
  folder,
  saveEvery: savedAt,
  guards: [train.nonFinite(), train.lossSpike()],
  callbacks: [
    train.earlyStopping({ patience: 50 }),
    {
      onStep({ step, loss, lr, lossScale }) {
        losses.push([step, loss, lr, lossScale]);
        if (mode === 'killed' && step === savedAt + 2) process.kill(process.pid, 'SIGKILL');
      },
    },
  ],
});
if (mode === 'resumed') await trainer.resume();
const { best, evalLoss } = await trainer.run();

const digestOf = async (tensor) =>
  createHash('sha256')
    .update(await tensor.data())
    .digest('hex');
const digests = [];
for (const [name, tensor] of Object.entries(model.stateDict())) digests.push(`${name} ${await digestOf(tensor)}`);
for (const states of optimizer.state.values())
  for (const [name, value] of Object.entries(states))
    digests.push(`${name} ${typeof value === 'number' ? value : await digestOf(value)}`);
for (const average of ema?.averages ?? []) digests.push(`average ${await digestOf(average)}`);
console.log(JSON.stringify({ losses, digests, best, evalLoss }));
