/** Makes batches of items, in this thread or as what a worker runs. */
import { FoveaError } from '../../errors.js';
import type { Dataset } from './dataset.js';
import type { ItemStream } from './stream.js';

/** Which batch a collate function makes: what its random numbers may depend on, so that workers change nothing. */
export interface BatchContext {
  /** Counts from 0. */
  epoch: number;
  /** Number of the batch within its epoch, from 0. */
  batch: number;
}

/** Makes a batch of items. */
export type Collate<T, B> = (items: T[], context: BatchContext) => B | Promise<B>;

/** A collate function that needs no waiting; called by hand, without a context, it makes batch 0 of epoch 0. */
export type Collator<T, B> = (items: readonly T[], context?: BatchContext) => B;

/** A batch to be read. */
export interface BatchRequest extends BatchContext {
  /** Of its items; none of a stream, whose next items it has. */
  indices?: readonly number[] | undefined;
}

/** A batch that was read. */
export interface LoadedBatch<B> {
  batch: B;
  /** Of a stream: where the next batch begins. */
  position?: unknown;
}

/** Reads batches. */
export interface BatchReader<B> {
  /** A batch, or undefined behind the end of a stream. Requests of a stream come in order. */
  read(request: BatchRequest): Promise<LoadedBatch<B> | undefined>;
  /** Frees what the reader holds; what was not read by then may never be. */
  close(): Promise<void>;
  /** Says whether a batch is waited for, which keeps the process alive. */
  hold?(waiting: boolean): void;
}

/** What a function of the user threw, with what it was called for; a FoveaError keeps its code. */
export function dataError(what: string, error: unknown): FoveaError {
  const code = error instanceof FoveaError ? error.code : 'FOVEA_DATA';
  const reason = error instanceof Error ? error.message : String(error);
  return new FoveaError(code, `DataLoader: ${what} failed: ${reason}`, { cause: error });
}

async function itemAt<T>(dataset: Dataset<T>, index: number): Promise<T> {
  try {
    return await dataset.get(index);
  } catch (error) {
    throw dataError(`item ${index}`, error);
  }
}

/** A batch of items; what the collate function throws names the batch. */
export async function collated<T, B>(collate: Collate<T, B>, items: T[], { epoch, batch }: BatchContext): Promise<B> {
  try {
    return await collate(items, { epoch, batch });
  } catch (error) {
    throw dataError(`collate of batch ${batch}`, error);
  }
}

/** Reads items by index, those of a batch at the same time. */
export function indexedReader<T, B>(dataset: Dataset<T>, collate: Collate<T, B>): BatchReader<B> {
  return {
    async read(request) {
      const items = await Promise.all(request.indices!.map((index) => itemAt(dataset, index)));
      return { batch: await collated(collate, items, request) };
    },
    close: () => Promise.resolve(),
  };
}

/** How many items of a stream a batch has. */
export interface StreamBatches {
  batchSize: number;
  /** Whether a last batch with fewer items is left out. */
  dropLast: boolean;
}

/** Reads a stream, one batch after the other. */
export function streamReader<T, B>(
  stream: ItemStream<T>,
  { batchSize, dropLast }: StreamBatches,
  collate: Collate<T, B>,
): BatchReader<B> {
  let turn: Promise<unknown> = Promise.resolve();
  let reading = 0;
  const read = async (request: BatchRequest): Promise<LoadedBatch<B> | undefined> => {
    const items: T[] = [];
    try {
      while (items.length < batchSize) {
        const result = await stream.next();
        if (result.done) break;
        items.push(result.value);
      }
    } catch (error) {
      throw dataError(`reading of batch ${request.batch}`, error);
    }
    if (items.length === 0 || (dropLast && items.length < batchSize)) return undefined;
    const position = stream.position();
    return { batch: await collated(collate, items, request), position };
  };
  return {
    read(request) {
      reading++;
      const result = turn.then(() => read(request)).finally(() => reading--);
      turn = result.catch(() => undefined);
      return result;
    },
    async close() {
      // A generator ends once what it waits for is there, which may be never.
      const ended = stream.return();
      if (reading === 0) await ended;
      else ended.catch(() => undefined);
    },
  };
}
