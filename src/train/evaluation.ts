/** Measuring a model on held-out batches: Σ wᵢ · lossᵢ / Σ wᵢ, in evaluation mode. */
import { throwIfAborted } from '../io/files.js';
import type { Module } from '../nn/module.js';
import { argumentError } from '../tensor/check.js';
import { type Batches, freeBatch, iterate } from './batches.js';

/** Calls `fn` with the model in evaluation mode; afterwards each module is in the mode that it was in. */
export async function inEvaluation<T>(model: Module, fn: () => Promise<T>): Promise<T> {
  const training = new Set(model.modules().filter((module) => module.training));
  model.eval();
  try {
    return await fn();
  } finally {
    // One by one, since parts may have been in evaluation mode all along; first those that take others with them.
    for (const module of model.modules()) module.train(training.has(module));
  }
}

/** What a mean is made of. */
export interface MeanLossParts<B> {
  /** The mean loss of a batch. */
  loss: (batch: B) => Promise<number>;
  /** What that mean is over; a batch of weight 0 is passed over. */
  weight: (batch: B) => number;
  /** Whether a batch is freed once it was used. */
  disposes: boolean;
  signal: AbortSignal | undefined;
}

/** @returns the mean by weight @throws FOVEA_ARGUMENT without a batch of weight, FOVEA_ABORTED between batches */
export async function meanLoss<B>(data: Batches<B>, parts: MeanLossParts<B>): Promise<number> {
  let [sum, weights] = [0, 0];
  data.setEpoch?.(0);
  const iterator = iterate(data);
  try {
    for (let result = await iterator.next(); !result.done; result = await iterator.next()) {
      throwIfAborted(parts.signal, 'evaluate');
      const weight = parts.weight(result.value);
      if (weight > 0) sum += weight * (await parts.loss(result.value));
      weights += weight;
      if (parts.disposes) freeBatch(result.value);
    }
  } finally {
    await iterator.return?.();
  }
  if (weights > 0) return sum / weights;
  throw argumentError('evaluate', 'evalData', 'batches of a weight above 0', weights);
}
