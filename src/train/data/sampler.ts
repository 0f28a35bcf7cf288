/** The order of an epoch: which items, and which of them together. */
import { createHash } from 'node:crypto';
import { FoveaError } from '../../errors.js';
import { argumentError } from '../../tensor/check.js';
import { listArg } from './list.js';
import { permutation, RandomStream } from './random-stream.js';

/** Chooses the items of an epoch and their order: a pure function of the epoch, so that a run can go on elsewhere. */
export interface Sampler {
  /** Indices of the dataset's items, in order. */
  indices(epoch: number): ArrayLike<number>;
}

/** Chooses the batches of an epoch: a pure function of the epoch. */
export interface BatchSampler {
  /** The indices of each batch's items. */
  batches(epoch: number): readonly ArrayLike<number>[];
}

/** The batches of one epoch. */
export interface EpochPlan {
  /** How many batches. */
  readonly length: number;
  /** The indices of a batch's items. */
  batch(number: number): number[];
  /** Equal for equal plans, and for no others. */
  digest(): string;
}

/** How the batches of an epoch come about, all of it checked. */
export interface PlanOptions {
  items: number;
  seed: number;
  batchSize: number;
  shuffle: boolean;
  dropLast: boolean;
  sampler: Sampler | undefined;
  batchSampler: BatchSampler | undefined;
}

/** A sampler's choice, if every index is that of an item. */
function checkedIndices(argument: string, list: unknown, items: number): ArrayLike<number> {
  const indices = listArg('DataLoader', argument, list, 'a list of indices');
  for (let i = 0; i < indices.length; i++) {
    const index = indices[i];
    if (typeof index === 'number' && Number.isInteger(index) && index >= 0 && index < items) continue;
    const given = `${argument} has ${String(index)} at ${i}`;
    throw new FoveaError('FOVEA_INDEX', `DataLoader: ${given}, which is no index of a dataset of ${items} items`);
  }
  return indices as ArrayLike<number>;
}

/** Digests lists part by part, so that no copy of a long one is made; the last call gives what the first did. */
function digestOf(lists: Iterable<ArrayLike<number>>): () => string {
  const part = 2 ** 16;
  let digest: string | undefined;
  return () => {
    if (digest !== undefined) return digest;
    const hash = createHash('sha256');
    for (const list of lists) {
      hash.update(Float64Array.of(list.length));
      for (let begin = 0; begin < list.length; begin += part) {
        const length = Math.min(part, list.length - begin);
        hash.update(Float64Array.from({ length }, (_, i) => list[begin + i]!));
      }
    }
    digest = hash.digest('hex').slice(0, 32);
    return digest;
  };
}

function planOfBatches(sampler: BatchSampler, epoch: number, items: number): EpochPlan {
  const batches: unknown = sampler.batches(epoch);
  if (!Array.isArray(batches))
    throw argumentError('DataLoader', 'batchSampler.batches()', 'a list of batches', batches);
  const checked = batches.map((batch: unknown, i) => {
    const list = checkedIndices(`batch ${i} of batchSampler`, batch, items);
    if (list.length === 0) throw argumentError('DataLoader', `batch ${i} of batchSampler`, 'at least one index', batch);
    return list;
  });
  return {
    length: checked.length,
    batch: (number) => Array.from(checked[number]!),
    digest: digestOf(checked),
  };
}

/**
 * The batches of an epoch, a pure function of the options and the epoch.
 *
 * @throws FOVEA_INDEX, FOVEA_ARGUMENT if a sampler gives what are no indices
 */
export function planEpoch(options: PlanOptions, epoch: number): EpochPlan {
  const { items, seed, batchSize, shuffle, dropLast, sampler, batchSampler } = options;
  if (batchSampler) return planOfBatches(batchSampler, epoch, items);
  let order: ArrayLike<number> | undefined;
  if (sampler) order = checkedIndices('sampler.indices()', sampler.indices(epoch), items);
  else if (shuffle) order = permutation(items, new RandomStream(seed, epoch));
  // In the order of the dataset, no list is needed.
  const indexAt = (i: number): number => (order ? order[i]! : i);
  const count = order?.length ?? items;
  return {
    length: dropLast ? Math.floor(count / batchSize) : Math.ceil(count / batchSize),
    batch(number) {
      const begin = number * batchSize;
      return Array.from({ length: Math.min(batchSize, count - begin) }, (_, i) => indexAt(begin + i));
    },
    digest: digestOf([[count, batchSize, Number(dropLast)], order ?? []]),
  };
}
