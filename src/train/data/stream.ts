/**
 * Datasets that are read from one end to the other, such as files larger than memory. An epoch of one is a stream of
 * items that knows where it stands, so that reading can go on there in another process.
 */
import { argumentError, countArg } from '../../tensor/check.js';

/** Where a stream begins. */
export interface StreamStart {
  /** Which epoch, from 0: what a shuffled stream depends on besides its seed. */
  epoch: number;
  /** What `position()` of a stream of that epoch gave; without it, the epoch's first item is the first. */
  position?: unknown;
}

/** The items of an epoch from some position on. */
export interface ItemStream<T> {
  /** The next item. */
  next(): Promise<IteratorResult<T, undefined>>;
  /** Ends reading and closes what is open. */
  return(): Promise<IteratorResult<T, undefined>>;
  /** Where the item that `next` gives next begins, as JSON can hold it if the items can. */
  position(): unknown;
}

/**
 * Items one after the other: any async iterable that can be iterated again. One with `stream` goes on from a position
 * at once; of any other, the items before are read and dropped.
 */
export interface IterableDataset<T> extends AsyncIterable<T> {
  /** The items of an epoch, from a position on. */
  stream?(start: StreamStart): ItemStream<T>;
}

/** Whether a value can be iterated asynchronously. */
export function isIterableDataset(value: unknown): value is IterableDataset<unknown>;
export function isIterableDataset<T>(value: object | IterableDataset<T>): value is IterableDataset<T>;
export function isIterableDataset(value: unknown): boolean {
  if (value === null || typeof value !== 'object') return false;
  return typeof (value as Partial<AsyncIterable<unknown>>)[Symbol.asyncIterator] === 'function';
}

/** Checks a dataset without an index. @throws FOVEA_ARGUMENT for anything else */
export function iterableArg(op: string, value: unknown): void {
  if (!isIterableDataset(value))
    throw argumentError(op, 'dataset', 'an IterableDataset, which has [Symbol.asyncIterator]()', value);
}

/** An IterableDataset of a function that opens streams; iterated by itself, it gives epoch 0. */
export function streamDataset<T>(open: (start: StreamStart) => ItemStream<T>): IterableDataset<T> {
  return { stream: open, [Symbol.asyncIterator]: () => open({ epoch: 0 }) };
}

/** The stream of a generator that keeps `position` up to date before it yields. */
export function streamOf<T>(items: AsyncGenerator<T, undefined>, position: () => unknown): ItemStream<T> {
  return { next: () => items.next(), return: () => items.return(undefined), position };
}

/** Reads an iterable without positions of its own: they are counts of items, which are dropped to get there. */
async function* withoutFirst<T>(
  dataset: IterableDataset<T>,
  drop: number,
  count: { items: number },
): AsyncGenerator<T, undefined> {
  const iterator = dataset[Symbol.asyncIterator]();
  if (Object.is(iterator, dataset))
    throw argumentError(
      'DataLoader',
      'dataset',
      'an async iterable that can be iterated again',
      dataset,
      'pass { [Symbol.asyncIterator]: () => read() } instead of read()',
    );
  for await (const item of { [Symbol.asyncIterator]: () => iterator }) {
    if (++count.items > drop) yield item;
  }
  return undefined;
}

/** Opens any IterableDataset. @throws FOVEA_ARGUMENT for a position that is none */
export function openStream<T>(dataset: IterableDataset<T>, start: StreamStart): ItemStream<T> {
  if (dataset.stream) return dataset.stream(start);
  const { items } = start.position === undefined ? { items: 0 } : Object(start.position);
  const count = { items: 0 };
  const drop = countArg('DataLoader', 'position.items', items);
  return streamOf(withoutFirst(dataset, drop, count), () => ({ items: Math.max(drop, count.items) }));
}

/** A stream whose items go through a function; its positions are those of the stream below. */
export function mapStream<T, U>(dataset: IterableDataset<T>, fn: (item: T) => U | Promise<U>): IterableDataset<U> {
  return streamDataset((start) => {
    const below = openStream(dataset, start);
    return {
      async next() {
        const result = await below.next();
        return result.done ? result : { done: false, value: await fn(result.value) };
      },
      return: async () => {
        await below.return();
        return { done: true, value: undefined };
      },
      position: () => below.position(),
    };
  });
}
