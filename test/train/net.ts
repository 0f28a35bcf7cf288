// A small network, batches for it, and a trainer of both.
import { functional as F, manualSeed, nn, optim, randn, type Tensor, train } from 'fovea';

export interface Pair {
  x: Tensor;
  y: Tensor;
}

export class Net extends nn.Module {
  a = new nn.Linear(5, 8);
  drop = new nn.Dropout(0.5);
  b = new nn.Linear(8, 1);
  override forward(x: Tensor): Tensor {
    return this.b.forward(this.drop.forward(this.a.forward(x).tanh()));
  }
}

export const mse = (net: Net, { x, y }: Pair): Tensor => F.mseLoss(net.forward(x), y);

/** A net without dropout, and a trainer of it. */
export function setUp(options: Partial<train.TrainerOptions<Pair, Net>>, lr = 0.05) {
  manualSeed(4);
  const model = new Net();
  if (options.seed === undefined) model.drop = new nn.Dropout(0);
  const optimizer = new optim.AdamW(model.parameters(), { lr });
  const trainer = new train.Trainer<Pair, Net>({
    model,
    optimizer,
    loss: mse,
    trainData: [],
    epochs: 1,
    ...options,
  });
  return { model, optimizer, trainer };
}

/** Batches with so many rows each, cut from the same rows. */
export function cut(...rows: number[]): Pair[] {
  manualSeed(6);
  const total = rows.reduce((a, b) => a + b, 0);
  const [x, y] = [randn([total, 5]), randn([total, 1])];
  let at = 0;
  return rows.map((count) => {
    at += count;
    return { x: x.narrow(0, at - count, count), y: y.narrow(0, at - count, count) };
  });
}
