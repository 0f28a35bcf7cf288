// Twenty steps of training against PyTorch's (test/golden/nn/training.json): convolutions with norms of batches and of
// groups, post-norm stacks, a plain RNN.
import { functional as F, nn, optim, type Tensor, tensor } from 'fovea';
import { describe, expect, it } from 'vitest';
import {
  expectTraining,
  fill,
  numbers,
  precisions,
  type Precision,
  readJson,
  type RecordedTraining,
} from '../golden.js';
import { device } from '../helpers.js';

const { runs } = readJson('nn', 'training.json') as { runs: (RecordedTraining & { name: string; input: number[] })[] };

type Model = nn.Module & { forward(x: Tensor): Tensor };
const stack = { dModel: 6, nHead: 2, dimFeedforward: 8, dropout: 0, batchFirst: true } as const;

class Images extends nn.Module {
  conv: nn.Conv2d;
  norm: nn.BatchNorm2d | nn.GroupNorm;
  pool: nn.MaxPool2d = new nn.MaxPool2d(2);
  head: nn.Linear;
  constructor(norm: nn.BatchNorm2d | nn.GroupNorm, dtype: Precision) {
    super();
    this.conv = new nn.Conv2d(2, 4, 3, { padding: 1, bias: false, dtype });
    this.norm = norm;
    this.head = new nn.Linear(4, 3, { dtype });
  }
  override forward(x: Tensor): Tensor {
    const features = this.pool.forward(F.relu(this.norm.forward(this.conv.forward(x))));
    return this.head.forward(features.mean([2, 3]));
  }
}
class Encoder extends nn.Module {
  encoder: nn.TransformerEncoder;
  head: nn.Linear;
  constructor(dtype: Precision) {
    super();
    this.encoder = new nn.TransformerEncoder(new nn.TransformerEncoderLayer({ ...stack, dtype }), { numLayers: 2 });
    this.head = new nn.Linear(6, 3, { dtype });
  }
  override forward(x: Tensor): Tensor {
    return this.head.forward(this.encoder.forward(x).mean(1));
  }
}
class Translator extends nn.Module {
  model: nn.Transformer;
  head: nn.Linear;
  constructor(dtype: Precision) {
    super();
    this.model = new nn.Transformer({ ...stack, numEncoderLayers: 1, numDecoderLayers: 1, dtype });
    this.head = new nn.Linear(6, 3, { dtype });
  }
  override forward(x: Tensor): Tensor {
    const target = numbers(102, [x.shape[0]!, 4, 6], x.dtype, 2);
    return this.head.forward(this.model.forward(x, target, { tgtIsCausal: true })).reshape([-1, 3]);
  }
}
class Recurrent extends nn.Module {
  rnn: nn.RNN;
  head: nn.Linear;
  constructor(dtype: Precision) {
    super();
    this.rnn = new nn.RNN(6, 5, { batchFirst: true, dtype });
    this.head = new nn.Linear(5, 3, { dtype });
  }
  override forward(x: Tensor): Tensor {
    return this.head.forward(this.rnn.forward(x)[0].select(1, -1));
  }
}
const models: Record<string, (dtype: Precision) => [model: Model, kind: 'sgd' | 'adam']> = {
  'convolution and BatchNorm2d': (dtype) => [new Images(new nn.BatchNorm2d(4, { dtype }), dtype), 'sgd'],
  'convolution and GroupNorm': (dtype) => [new Images(new nn.GroupNorm(2, 4, { dtype }), dtype), 'adam'],
  'post-norm encoder': (dtype) => [new Encoder(dtype), 'adam'],
  'encoder and decoder': (dtype) => [new Translator(dtype), 'adam'],
  RNN: (dtype) => [new Recurrent(dtype), 'sgd'],
};
const optimizers = {
  sgd: (model: Model) => new optim.SGD(model.parameters(), { lr: 0.1, momentum: 0.9, nesterov: true }),
  adam: (model: Model) => new optim.Adam(model.parameters(), { lr: 0.02 }),
};

describe.each(runs.map((one) => [one.name, one] as const))('%s', (name, recorded) => {
  it.each(precisions)("goes PyTorch's way in %s", (dtype) => {
    const [made, kind] = models[name]!(dtype);
    const model = fill(made);
    const x = numbers(101, recorded.input, dtype, 2);
    const loss = (): Tensor => {
      const logits = model.forward(x);
      const labels = Array.from({ length: logits.shape[0]! }, (_, i) => i % 3);
      return F.crossEntropy(logits, tensor(labels, { dtype: 'int64', device }));
    };
    expectTraining(model, optimizers[kind](model), loss, recorded, dtype);
    expect(recorded.losses.at(-1)!).toBeLessThan(0.8 * recorded.losses[0]!);
  });
});
