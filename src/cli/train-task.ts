import type { Module } from '../nn/module.js';
import type { Tensor } from '../tensor/tensor.js';
import type { TrainerOptions } from '../train/trainer-options.js';

/** What a run trains, on what, and what it leaves; all of it is freed with it. */
export interface TrainTask<B, M extends Module> extends Disposable {
  model: M;
  /** Of the model's hidden states. */
  width: number;
  data: Pick<TrainerOptions<B, M>, 'trainData' | 'evalData' | 'weight'> & { loss: (model: M, batch: B) => Tensor };
  /** What the model makes of a batch: [n, classes], a row for each token that it is to predict. */
  logits: (model: M, batch: B) => Tensor;
  /** Saves what was trained. @returns the names of its files */
  save(folder: string, cancel: { signal?: AbortSignal }): Promise<string>;
}
