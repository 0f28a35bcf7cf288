/** Batches of a run, epoch after epoch, from a position that a checkpoint can keep. */
import { FoveaError } from '../errors.js';
import { argumentError, countArg, optionsArg } from '../tensor/check.js';
import { tensorsIn } from '../tensor/tidy.js';
import type { Stateful } from './trainer-events.js';

/**
 * Batches to iterate over, once for each epoch. `setEpoch` is called before an epoch begins. `stateDict` says during an
 * iteration which batches were given out; after `loadStateDict` the next iteration begins behind these.
 */
export type Batches<B> = (AsyncIterable<B> | Iterable<B>) & Partial<Stateful> & { setEpoch?(epoch: number): void };

/** Where a run stands in its data. */
export interface BatchPosition {
  /** Whole passes. */
  epoch: number;
  /** Batches of the pass that is under way. */
  batches: number;
  /** What the data says of itself; null where it says nothing. */
  data: unknown;
}

/** Checks batches. @throws FOVEA_ARGUMENT for what cannot be iterated over */
export function batchesArg(op: string, argument: string, value: unknown): void {
  if (typeof value === 'object' && value !== null && (Symbol.asyncIterator in value || Symbol.iterator in value))
    return;
  throw argumentError(op, argument, 'an iterable of batches, such as a DataLoader', value);
}

/** An iterator of either kind: both are awaited. */
export function iterate<B>(data: Batches<B>): AsyncIterator<B> | Iterator<B> {
  return Symbol.asyncIterator in data ? data[Symbol.asyncIterator]() : data[Symbol.iterator]();
}

/** Frees the tensors of a batch, except those given to `keep`. */
export function freeBatch(batch: unknown): void {
  for (const t of tensorsIn(batch)) if (!t.kept) t.dispose();
}

/** Goes through the data again and again. */
export class BatchStream<B> {
  readonly #data: Batches<B>;
  #iterator: AsyncIterator<B> | Iterator<B> | undefined;
  #position: BatchPosition = { epoch: 0, batches: 0, data: null };
  /** Whether the iteration begins at a position that was loaded. */
  #loaded = false;

  constructor(data: Batches<B>) {
    this.#data = data;
  }

  /** Whole passes so far. */
  get epoch(): number {
    return this.#position.epoch;
  }

  /**
   * The next batches of this epoch, at most `count`; fewer where it ends, which counts up the epoch.
   *
   * @throws FOVEA_ARGUMENT if a whole epoch has no batch, and what the data throws
   */
  async next(count: number): Promise<B[]> {
    const batches: B[] = [];
    const iterator = (this.#iterator ??= await this.#begin());
    while (batches.length < count) {
      const result = await iterator.next();
      if (result.done) {
        this.#end();
        break;
      }
      this.#position.batches++;
      batches.push(result.value);
    }
    return batches;
  }

  async #begin(): Promise<AsyncIterator<B> | Iterator<B>> {
    const { epoch, batches, data } = this.#position;
    const source = this.#data;
    const loads = this.#loaded && data !== null && source.loadStateDict !== undefined;
    // The state of the data may name its epoch or not; at the beginning of one, the epoch to come has the last word.
    if (loads && batches === 0) source.loadStateDict!(data);
    source.setEpoch?.(epoch);
    if (loads && batches > 0) source.loadStateDict!(data);
    const iterator = iterate(source);
    if (this.#loaded && !loads) await this.#passOver(iterator, batches);
    this.#loaded = false;
    return iterator;
  }

  /** Data that cannot go to a position is read up to there. */
  async #passOver(iterator: AsyncIterator<B> | Iterator<B>, count: number): Promise<void> {
    for (let i = 0; i < count; i++) {
      const result = await iterator.next();
      if (result.done)
        throw new FoveaError(
          'FOVEA_ARGUMENT',
          `Trainer: the run was ${count} batches into epoch ${this.epoch}, but the data has ${i}; resume with the same data`,
        );
      freeBatch(result.value);
    }
  }

  #end(): void {
    const { epoch, batches } = this.#position;
    if (batches === 0)
      throw new FoveaError(
        'FOVEA_ARGUMENT',
        `Trainer: trainData has no batch in epoch ${epoch}; give data that can be iterated over anew for each epoch`,
      );
    this.#iterator = undefined;
    this.#position = { epoch: epoch + 1, batches: 0, data: null };
  }

  /** Where the run stands, between two calls of `next`. */
  stateDict(): BatchPosition {
    if (this.#loaded) return this.#position;
    return { ...this.#position, data: this.#data.stateDict?.() ?? null };
  }

  /** Goes there with the next call of `next`. @throws FOVEA_ARGUMENT for what is no position */
  loadStateDict(state: unknown): void {
    const op = 'Trainer.resume';
    const { epoch, batches, data } = optionsArg<Partial<BatchPosition>>(op, Object(state), [
      'epoch',
      'batches',
      'data',
    ]);
    this.#position = { epoch: countArg(op, 'epoch', epoch), batches: countArg(op, 'batches', batches), data };
    this.#loaded = true;
  }

  /** Ends the iteration; the next call of `next` goes on where it was. */
  async close(): Promise<void> {
    const iterator = this.#iterator;
    if (iterator === undefined) return;
    this.loadStateDict(this.stateDict());
    this.#iterator = undefined;
    await iterator.return?.();
  }
}
