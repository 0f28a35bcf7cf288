/** Reads batches in worker threads, each of which has a dataset of its own. */
import { Worker } from 'node:worker_threads';
import { FoveaError } from '../../errors.js';
import { argumentError } from '../../tensor/check.js';
import {
  type BatchReader,
  type BatchRequest,
  type Collate,
  collated,
  dataError,
  type LoadedBatch,
} from './batch-reader.js';
import { thisThread, unpackError, unpackValue, type WorkerReply, type WorkerStart } from './worker-messages.js';

/** What a pool is made of. */
export interface PoolOptions<T, B> extends Omit<WorkerStart, 'worker'> {
  /** Items of the dataset on this side; undefined of a stream. */
  length: number | undefined;
  /** Where the worker's module has no collate function. */
  collate: Collate<T, B>;
}

/** A batch that a worker reads. */
interface Pending<B> {
  request: BatchRequest;
  resolve: (batch: LoadedBatch<B> | undefined) => void;
  reject: (error: unknown) => void;
}

const named = ({ batch, indices }: BatchRequest): string =>
  indices
    ? `batch ${batch} (items ${indices.slice(0, 16).join(', ')}${indices.length > 16 ? ', …' : ''})`
    : `batch ${batch}`;

/** Workers take over the options of the process; a program given with `--eval` has one that no file can have. */
const ofEval = process.execArgv.some((option) => option.startsWith('--input-type'));

/** One worker, with what was asked of it. */
class DataWorker<T, B> {
  readonly #worker: Worker;
  readonly #options: PoolOptions<T, B>;
  readonly #pending = new Map<number, Pending<B>>();
  #collates = false;
  #failure: FoveaError | undefined;
  #id = 0;

  constructor(options: PoolOptions<T, B>, worker: number) {
    const { module, workers, data, stream } = options;
    const workerData: WorkerStart = { module, worker, workers, data, stream };
    this.#options = options;
    try {
      this.#worker = new Worker(new URL('worker-main.js', import.meta.url), {
        workerData,
        ...(ofEval && { execArgv: [] }),
      });
    } catch (error) {
      throw dataError('starting a worker (workerData has to be cloneable)', error);
    }
    this.#worker.unref();
    this.#worker.on('message', (reply: WorkerReply) => this.#receive(reply));
    this.#worker.on('messageerror', (error) => this.#fail(dataError('reading what a worker sent', error)));
    this.#worker.on('error', (error) => this.#fail(dataError(`the worker of ${this.#inHand()}`, error)));
    this.#worker.on('exit', (code) => this.#fail(this.#exited(code)));
  }

  /** Batches asked for and not there. */
  get load(): number {
    return this.#pending.size;
  }

  read(request: BatchRequest): Promise<LoadedBatch<B> | undefined> {
    return new Promise((resolve, reject) => {
      if (this.#failure) {
        reject(this.#failure);
        return;
      }
      const id = this.#id++;
      this.#pending.set(id, { request, resolve, reject });
      this.#worker.postMessage({ ...request, id }, []);
    });
  }

  /** A worker that is waited for keeps the process alive. */
  hold(waiting: boolean): void {
    if (waiting) this.#worker.ref();
    else this.#worker.unref();
  }

  async close(): Promise<void> {
    this.#failure ??= new FoveaError('FOVEA_ABORTED', 'DataLoader: the iteration has ended');
    await this.#worker.terminate();
  }

  #inHand(): string {
    const [first] = this.#pending.values();
    return first ? named(first.request) : 'no batch';
  }

  #exited(code: number): FoveaError {
    return new FoveaError(
      'FOVEA_DATA',
      `DataLoader: the worker of ${this.#inHand()} ended by itself with code ${code}`,
    );
  }

  #fail(error: FoveaError): void {
    this.#failure ??= error;
    for (const { reject } of this.#pending.values()) reject(this.#failure);
    this.#pending.clear();
  }

  #receive(reply: WorkerReply): void {
    if (reply.type === 'failed') this.#fail(unpackError(reply.error));
    else if (reply.type === 'ready') this.#start(reply);
    else this.#settle(reply);
  }

  #start({ length, collates }: WorkerReply & { type: 'ready' }): void {
    this.#collates = collates;
    if (length === this.#options.length) return;
    const { module, length: expected } = this.#options;
    const items = (n: number | undefined): string => (n === undefined ? 'a stream' : `a dataset of ${n} items`);
    const message = `expected ${items(expected)}, as the loader has, of ${module}, received ${items(length)}`;
    this.#fail(new FoveaError('FOVEA_ARGUMENT', `DataLoader: ${message}`));
  }

  #settle(reply: WorkerReply & { type: 'batch' | 'error' }): void {
    const pending = this.#pending.get(reply.id);
    if (!pending) return;
    this.#pending.delete(reply.id);
    if (reply.type === 'error') pending.reject(unpackError(reply.error));
    else if (reply.end) pending.resolve(undefined);
    else this.#finish(reply, pending).then(pending.resolve, pending.reject);
  }

  /** A module without a collate function sends items, which are put together here. */
  async #finish(
    { batch, position }: WorkerReply & { type: 'batch' },
    { request }: Pending<B>,
  ): Promise<LoadedBatch<B>> {
    const value = unpackValue(batch);
    if (this.#collates) return { batch: value as B, position };
    return { batch: await collated(this.#options.collate, value as T[], request), position };
  }
}

/** Starts workers; each batch goes to the one with the least to do. */
export function workerReader<T, B>(options: PoolOptions<T, B>): BatchReader<B> {
  // A program that is its own worker module would start itself again and again.
  if (thisThread.isWorker)
    throw argumentError(
      'DataLoader',
      'numWorkers',
      '0 within a worker',
      options.workers,
      'make the dataset in a module of its own, which iterates over no loader',
    );
  const workers = Array.from({ length: options.workers }, (_, i) => new DataWorker(options, i));
  return {
    read: (request) => workers.reduce((a, b) => (b.load < a.load ? b : a)).read(request),
    close: async () => {
      await Promise.all(workers.map((worker) => worker.close()));
    },
    hold: (waiting) => {
      for (const worker of workers) worker.hold(waiting);
    },
  };
}
