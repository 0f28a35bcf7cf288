// The small network whose steps the tests of record() record, and its inputs.
import { functional as F, Generator, manualSeed, nn, randn, type Tensor } from 'fovea';
import { device } from '../helpers.js';

/** The same numbers at each call. */
export const normal = (shape: number[], seed: number): Tensor =>
  randn(shape, { generator: new Generator(seed), device });

/** Two layers with gelu and dropout between them. */
export class Mlp extends nn.Module {
  readonly a = new nn.Linear(7, 13);
  readonly b = new nn.Linear(13, 5);
  readonly drop: nn.Dropout;
  constructor(p = 0) {
    super();
    this.drop = new nn.Dropout(p);
  }
  override forward(x: Tensor): Tensor {
    return this.b.forward(this.drop.forward(F.gelu(this.a.forward(x))));
  }
}
/** With the same parameters at each call. */
export function mlp(p = 0): Mlp {
  manualSeed(3);
  return new Mlp(p).to(device);
}
