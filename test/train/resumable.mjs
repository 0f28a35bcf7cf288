// A run with everything that has a state: dropout, shuffled data, accumulation, a schedule, early stopping, float16's scale.
// Prints losses and digests of the weights as a line of JSON.
//
//   node resumable.mjs <folder> whole|killed|resumed <precision> [data without a state]
import { createHash } from 'node:crypto';
import { functional as F, Generator, manualSeed, nn, optim, randn, tensor, train } from 'fovea';

const [folder, mode, precision, stateless] = process.argv.slice(2);
const steps = 14;
const savedAt = 7;

class Net extends nn.Module {
  layer = new nn.TransformerEncoderLayer({ dModel: 16, nHead: 2, dimFeedforward: 32, dropout: 0.2, batchFirst: true });
  head = new nn.Linear(16, 1);
  forward(x) {
    return this.head.forward(this.layer.forward(x));
  }
}

/** 11 batches in an order that depends on the epoch. */
class Shuffled {
  #epoch = 0;
  #given = 0;
  setEpoch(epoch) {
    this.#epoch = epoch;
    this.#given = 0;
  }
  *[Symbol.iterator]() {
    for (let i = stateless ? 0 : this.#given; i < 11; i++) {
      this.#given = i + 1;
      const seed = ((i * 7 + this.#epoch * 5) % 11) + 1;
      const x = randn([3, 5, 16], { generator: new Generator(seed) });
      yield { x, y: tensor([seed / 11]) };
    }
  }
  stateDict() {
    return { epoch: this.#epoch, given: this.#given };
  }
  loadStateDict({ epoch, given }) {
    this.#epoch = epoch;
    this.#given = given;
  }
}

function dataset() {
  const data = new Shuffled();
  // what has neither is read up to where the run was
  return stateless ? { [Symbol.iterator]: () => data[Symbol.iterator](), setEpoch: (n) => data.setEpoch(n) } : data;
}

manualSeed(mode === 'resumed' ? 99 : 1); // what is loaded has the last word
const model = new Net();
const optimizer = new optim.AdamW(model.parameters(), { lr: 1e-2 });
const losses = [];
const trainer = new train.Trainer({
  model,
  optimizer,
  scheduler: optim.lrScheduler.warmupCosine(optimizer, { warmupSteps: 4, totalSteps: steps }),
  loss: (net, { x, y }) => F.mseLoss(net.forward(x).mean([1, 2]), y.expand([3])),
  trainData: dataset(),
  evalData: dataset(),
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
const digests = [];
for (const [name, tensor] of Object.entries(model.stateDict()))
  digests.push(
    `${name} ${createHash('sha256')
      .update(await tensor.data())
      .digest('hex')}`,
  );
for (const states of optimizer.state.values())
  for (const value of Object.values(states))
    digests.push(
      typeof value === 'number'
        ? value
        : createHash('sha256')
            .update(await value.data())
            .digest('hex'),
    );
console.log(JSON.stringify({ losses, digests, best, evalLoss }));
