/** Batches of a dataset: in an order that is a function of (seed, epoch), read ahead, in worker threads on request. */
import { FoveaError } from '../../errors.js';
import { argumentError, countArg, functionArg, optionsArg } from '../../tensor/check.js';
import { BatchIterator, type Iteration } from './batch-iterator.js';
import { type BatchReader, type Collate, indexedReader, type StreamBatches, streamReader } from './batch-reader.js';
import { type Dataset, isDataset } from './dataset.js';
import { type BatchSampler, type EpochPlan, planEpoch, type Sampler } from './sampler.js';
import { isIterableDataset, type IterableDataset, openStream, type StreamStart } from './stream.js';
import { workerReader } from './worker-pool.js';

/** Options of {@link DataLoader}. */
export interface DataLoaderOptions<T, B> {
  /** Items of a batch (default 1). */
  batchSize?: number;
  /** Whether the items of each epoch come in a random order of its own (default false). */
  shuffle?: boolean;
  /** Which random order of all (default 0). */
  seed?: number;
  /** Whether a last batch with fewer items is left out (default false). */
  dropLast?: boolean;
  /** Chooses the items and their order, instead of `shuffle`. */
  sampler?: Sampler;
  /** Chooses whole batches, instead of `batchSize`, `shuffle`, `sampler` and `dropLast`. */
  batchSampler?: BatchSampler;
  /** Makes a batch of items (default: a list of them). Random numbers it draws should depend on its second argument. */
  collate?: Collate<T, B>;
  /** Threads that read items (default 0: this one); of a stream, 0 or 1. They end with each iteration. */
  numWorkers?: number;
  /**
   * The module that a thread runs: its default export is a {@link WorkerDataset}, which makes the same dataset as the
   * loader has, and may bring the collate function that runs there instead of this one.
   */
  worker?: URL;
  /** Given to the default export of `worker`: what can be cloned. */
  workerData?: unknown;
  /** Batches that are read while one is in use (default: 2 for each worker, 0 without). */
  prefetch?: number;
}

/** What a worker's default export is called with. */
export interface WorkerInfo {
  /** Number of the worker, from 0. */
  worker: number;
  /** How many there are. */
  workers: number;
  /** The loader's `workerData`. */
  data: unknown;
}

type AnyDataset<T> = Dataset<T> | IterableDataset<T>;
type Made<T, B> = AnyDataset<T> | { dataset: AnyDataset<T>; collate?: Collate<T, B> };

/** The default export of a `worker` module. */
export type WorkerDataset<T, B = T[]> = (info: WorkerInfo) => Made<T, B> | Promise<Made<T, B>>;

/** Where a loader stands; JSON can hold it if it can hold the positions of the dataset. */
export interface DataLoaderState {
  seed: number;
  epoch: number;
  /** Batches of the epoch that were given out. */
  batches: number;
  /** Of a dataset with an index: a digest of the epoch's order, which must be the same where the run goes on. */
  order?: string | undefined;
  /** Of a stream: where the next batch begins. */
  position?: unknown;
}

const optionNames = [
  'batchSize',
  'shuffle',
  'seed',
  'dropLast',
  'sampler',
  'batchSampler',
  'collate',
  'numWorkers',
  'worker',
  'workerData',
  'prefetch',
] as const;

const op = 'DataLoader';
type Settings<T, B> = DataLoaderOptions<T, B> &
  Required<Pick<DataLoaderOptions<T, B>, 'batchSize' | 'numWorkers' | 'prefetch'>>;

/** Options that cannot be given together. */
function checkConflicts<T, B>(given: DataLoaderOptions<T, B>, isStream: boolean): void {
  const refuse = (name: keyof DataLoaderOptions<T, B>, other: string, remedy: string): void => {
    if (given[name] !== undefined && given[name] !== false)
      throw argumentError(op, name, `nothing beside ${other}`, given[name], remedy);
  };
  if (isStream) {
    refuse('shuffle', 'an IterableDataset', 'wrap the dataset in shuffleBuffer');
    refuse('sampler', 'an IterableDataset', 'a stream has no index');
    refuse('batchSampler', 'an IterableDataset', 'a stream has no index');
  }
  if (given.sampler) refuse('shuffle', 'sampler', 'the sampler decides the order');
  if (!given.batchSampler) return;
  for (const name of ['batchSize', 'shuffle', 'sampler', 'dropLast'] as const)
    refuse(name, 'batchSampler', 'the batch sampler decides all of it');
}

function checkTypes<T, B>(given: DataLoaderOptions<T, B>): void {
  const { sampler, batchSampler, collate, worker } = given;
  for (const name of ['shuffle', 'dropLast'] as const)
    if (given[name] !== undefined && typeof given[name] !== 'boolean')
      throw argumentError(op, name, 'true or false', given[name]);
  if (sampler !== undefined && typeof sampler?.indices !== 'function')
    throw argumentError(op, 'sampler', 'an object with indices(epoch)', sampler);
  if (batchSampler !== undefined && typeof batchSampler?.batches !== 'function')
    throw argumentError(op, 'batchSampler', 'an object with batches(epoch)', batchSampler);
  if (collate !== undefined) functionArg(op, 'collate', collate);
  if (worker !== undefined && !(worker instanceof URL))
    throw argumentError(op, 'worker', "a URL such as new URL('./dataset.js', import.meta.url)", worker);
}

function settingsOf<T, B>(options: DataLoaderOptions<T, B> | undefined, isStream: boolean): Settings<T, B> {
  const given = optionsArg(op, options, optionNames);
  checkTypes(given);
  checkConflicts(given, isStream);
  countArg(op, 'seed', given.seed ?? 0);
  const numWorkers = countArg(op, 'numWorkers', given.numWorkers ?? 0);
  if (numWorkers > 0 && !given.worker)
    throw argumentError(
      op,
      'worker',
      'a module that makes the dataset, since functions cannot cross threads',
      given.worker,
    );
  if (isStream && numWorkers > 1)
    throw argumentError(
      op,
      'numWorkers',
      'at most 1 for an IterableDataset, which one thread reads in order',
      numWorkers,
    );
  return {
    ...given,
    batchSize: countArg(op, 'batchSize', given.batchSize ?? 1, 1),
    numWorkers,
    prefetch: countArg(op, 'prefetch', given.prefetch ?? 2 * numWorkers),
  };
}

/**
 * Iterates over a dataset in batches.
 *
 *   const loader = new DataLoader(dataset, { batchSize: 32, shuffle: true, seed: 1, collate });
 *   while (loader.epoch < 3) for await (const batch of loader) …
 *
 * An iteration that comes to its end moves on to the next epoch; one that is left early does not, so that the next
 * begins the same epoch anew. After `loadStateDict` the next iteration gives exactly the batches of the epoch that had
 * not been given out, whether or not others were read ahead by then.
 *
 * Tensors of a batch belong to the `tidy` in which the iteration began; outside of one, dispose of them or leave them
 * to the garbage collector.
 */
export class DataLoader<T, B = T[]> implements AsyncIterable<B> {
  readonly #dataset: AnyDataset<T>;
  readonly #settings: Settings<T, B>;
  readonly #collate: Collate<T, B>;
  #seed: number;
  #epoch = 0;
  /** Batches given out by the iteration that began last. */
  #batches = 0;
  #position: unknown;
  /** Whether the next iteration begins where `loadStateDict` said. */
  #resuming = false;
  #plan: EpochPlan | undefined;
  /** Only the iteration that began last says where the loader stands. */
  #current: object | undefined;

  /**
   * @param dataset items by index, or a stream of items
   * @throws FOVEA_ARGUMENT for options out of range or that exclude each other
   */
  constructor(dataset: Dataset<T> | IterableDataset<T>, options?: DataLoaderOptions<T, B>) {
    if (!isDataset(dataset) && !isIterableDataset(dataset))
      throw argumentError(op, 'dataset', 'a Dataset or an IterableDataset', dataset);
    this.#dataset = dataset;
    this.#settings = settingsOf(options, !isDataset(dataset));
    this.#seed = this.#settings.seed ?? 0;
    // Without a collate function there is nothing to infer B from, and it is its default, T[].
    this.#collate = this.#settings.collate ?? ((items) => items as B);
  }

  /**
   * Batches of the epoch.
   *
   * @throws FOVEA_UNSUPPORTED for a stream, FOVEA_INDEX or FOVEA_ARGUMENT for a sampler that gives no indices
   */
  get length(): number {
    const plan = this.#planned();
    if (!plan)
      throw new FoveaError('FOVEA_UNSUPPORTED', 'DataLoader.length: a stream is as long as it turns out to be');
    return plan.length;
  }

  /** The epoch that the next iteration gives, or that one in progress is giving; from 0. */
  get epoch(): number {
    return this.#epoch;
  }

  /** Goes to the beginning of an epoch. @throws FOVEA_ARGUMENT for what is no whole number from 0 */
  setEpoch(epoch: number): void {
    this.#moveTo(this.#seed, countArg('DataLoader.setEpoch', 'epoch', epoch));
  }

  /** Where the loader stands: what a checkpoint keeps. */
  stateDict(): DataLoaderState {
    const plan = this.#planned();
    const where = plan ? { order: plan.digest() } : { position: this.#position };
    return { seed: this.#seed, epoch: this.#epoch, batches: this.#batches, ...where };
  }

  /**
   * Goes to where another loader stood, so that the next iteration gives the rest of its epoch.
   *
   * @throws FOVEA_ARGUMENT for what is no state, and for the state of another order: of other options, another sampler
   *   or a dataset of another length
   */
  loadStateDict(state: DataLoaderState): void {
    const name = 'DataLoader.loadStateDict';
    const { seed, epoch, batches, order, position } = Object(state) as DataLoaderState;
    const before = { seed: this.#seed, epoch: this.#epoch };
    countArg(name, 'batches', batches);
    this.#moveTo(countArg(name, 'seed', seed), countArg(name, 'epoch', epoch));
    const plan = this.#planned();
    if (plan && (plan.digest() !== order || batches > plan.length)) {
      this.#moveTo(before.seed, before.epoch);
      const expected = 'the state of a loader with the same dataset and options';
      throw argumentError(name, 'state', expected, state, 'its batches come in another order, so the run cannot go on');
    }
    if (!plan && batches > 0 && position === undefined)
      throw argumentError(name, 'position', 'where the next batch of the stream begins', position);
    this.#batches = batches;
    this.#position = position;
    this.#resuming = true;
  }

  /** The rest of the epoch; see the class. */
  [Symbol.asyncIterator](): BatchIterator<B> {
    if (!this.#resuming) this.#moveTo(this.#seed, this.#epoch);
    this.#resuming = false;
    const plan = this.#planned();
    const epoch = this.#epoch;
    const start = this.#batches;
    const from = { epoch, position: this.#position };
    const current = {};
    this.#current = current;
    const iteration: Iteration<B> = {
      start,
      prefetch: this.#settings.prefetch,
      open: () => this.#open(from),
      request: (batch) => (plan && batch >= plan.length ? undefined : { epoch, batch, indices: plan?.batch(batch) }),
      taken: (batch, position) => {
        if (this.#current !== current) return;
        this.#batches = batch + 1;
        this.#position = position;
      },
      ended: () => {
        if (this.#current === current) this.#moveTo(this.#seed, epoch + 1);
      },
    };
    return new BatchIterator(iteration);
  }

  #moveTo(seed: number, epoch: number): void {
    if (seed !== this.#seed || epoch !== this.#epoch) this.#plan = undefined;
    this.#seed = seed;
    this.#epoch = epoch;
    this.#batches = 0;
    this.#position = undefined;
    this.#resuming = false;
    this.#current = undefined;
  }

  /** The epoch's plan, made once; undefined for a stream. */
  #planned(): EpochPlan | undefined {
    if (!isDataset(this.#dataset)) return undefined;
    const { batchSize, shuffle = false, dropLast = false, sampler, batchSampler } = this.#settings;
    const items = this.#dataset.length;
    const options = { items, seed: this.#seed, batchSize, shuffle, dropLast, sampler, batchSampler };
    this.#plan ??= planEpoch(options, this.#epoch);
    return this.#plan;
  }

  #open(from: StreamStart): BatchReader<B> {
    const { batchSize, dropLast = false, numWorkers, worker, workerData } = this.#settings;
    const batches: StreamBatches = { batchSize, dropLast };
    const dataset = this.#dataset;
    const isStream = !isDataset(dataset);
    if (numWorkers > 0)
      return workerReader({
        module: worker!.href,
        workers: numWorkers,
        data: workerData,
        stream: isStream ? { ...from, ...batches } : undefined,
        length: isStream ? undefined : dataset.length,
        collate: this.#collate,
      });
    return isStream
      ? streamReader(openStream(dataset, from), batches, this.#collate)
      : indexedReader(dataset, this.#collate);
  }
}
