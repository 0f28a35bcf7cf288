/** An epoch's batches in order, of which a bounded number is read ahead. */
import { AsyncResource } from 'node:async_hooks';
import type { BatchReader, BatchRequest, LoadedBatch } from './batch-reader.js';

/** What an iteration needs to know. */
export interface Iteration<B> {
  /** Opens the reader, once the first batch is asked for. */
  open(): BatchReader<B>;
  /** What to ask for as a batch, or undefined behind the last one. */
  request(batch: number): BatchRequest | undefined;
  /** The first batch. */
  start: number;
  /** Batches that are read while the one before them is in use. */
  prefetch: number;
  /** Called when a batch is given out. */
  taken(batch: number, position: unknown): void;
  /** Called at the end of the epoch. */
  ended(): void;
}

type Result<B> = IteratorResult<B, undefined>;
const done: IteratorReturnResult<undefined> = { done: true, value: undefined };

/** Batches as they are asked for; leaving the loop, an error and the end of the epoch close what reads them. */
export class BatchIterator<B> implements AsyncIterableIterator<B, undefined> {
  readonly #iteration: Iteration<B>;
  /** Batches belong to the `tidy` in which the iteration began, not to one in which some later batch is asked for. */
  readonly #origin: AsyncResource = new AsyncResource('DataLoader');
  #reader: BatchReader<B> | undefined;
  /** Next batch to ask the reader for. */
  #asked: number;
  readonly #queue: Promise<LoadedBatch<B> | undefined>[] = [];
  /** Settles when the batches asked for before have been given out. */
  #turn: Promise<unknown> = Promise.resolve();
  #closing: Promise<void> | undefined;
  /** What the pending `next` does when the iteration is left. */
  #leave: (() => void) | undefined;

  constructor(iteration: Iteration<B>) {
    this.#iteration = iteration;
    this.#asked = iteration.start;
  }

  /** The next batch; rejects with what a dataset, a collate function or a worker failed with, and then ends. */
  next(): Promise<Result<B>> {
    const result = this.#turn.then(() => (this.#closing ? done : this.#take()));
    this.#turn = result.catch(() => undefined);
    return result;
  }

  /** Ends the iteration and its workers. */
  async return(): Promise<Result<B>> {
    await this.#close();
    return done;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** Ends the iteration, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#close();
  }

  /** Runs behind `next`, so that a synchronous `tidy` around that is over. */
  async #take(): Promise<Result<B>> {
    try {
      this.#fill(1);
      const number = this.#asked - this.#queue.length;
      const head = this.#queue.shift();
      if (!head) return await this.#end();
      this.#fill(this.#iteration.prefetch);
      const loaded = await this.#unlessLeft(head);
      if (this.#closing) return done;
      if (!loaded) return await this.#end();
      this.#iteration.taken(number, loaded.position);
      return { done: false, value: loaded.batch };
    } catch (error) {
      await this.#close();
      throw error;
    }
  }

  /** Asks for batches until `count` are waited for. */
  #fill(count: number): void {
    while (this.#queue.length < count) {
      const request = this.#iteration.request(this.#asked);
      if (!request) return;
      const batch = this.#origin.runInAsyncScope(() => this.#read(request));
      // It is reported when its turn comes.
      batch.catch(() => undefined);
      this.#asked++;
      this.#queue.push(batch);
    }
  }

  #read(request: BatchRequest): Promise<LoadedBatch<B> | undefined> {
    this.#reader ??= this.#iteration.open();
    return this.#reader.read(request);
  }

  /** Waits for a batch as long as the iteration is not left. */
  async #unlessLeft(head: Promise<LoadedBatch<B> | undefined>): Promise<LoadedBatch<B> | undefined> {
    const left = new Promise<undefined>((resolve) => {
      this.#leave = () => resolve(undefined);
    });
    this.#reader?.hold?.(true);
    try {
      return await Promise.race([head, left]);
    } finally {
      this.#leave = undefined;
      this.#reader?.hold?.(false);
    }
  }

  async #end(): Promise<Result<B>> {
    await this.#close();
    this.#iteration.ended();
    return done;
  }

  #close(): Promise<void> {
    this.#closing ??= this.#reader?.close() ?? Promise.resolve();
    this.#leave?.();
    return this.#closing;
  }
}
