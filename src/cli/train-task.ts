import type { Module } from '../nn/module.js';
import type { TrainerOptions } from '../train/trainer-options.js';

/** What a run trains, on what, and what it leaves. */
export interface TrainTask<B, M extends Module> {
  model: M;
  /** Of the model's hidden states. */
  width: number;
  data: Pick<TrainerOptions<B, M>, 'trainData' | 'evalData' | 'loss' | 'weight'>;
  /** Saves what was trained. @returns the names of its files */
  save(folder: string, cancel: { signal?: AbortSignal }): Promise<string>;
}
