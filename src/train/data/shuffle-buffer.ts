/**
 * Random order of a stream in bounded memory: `size` items wait in a buffer, one of which is drawn at random for every
 * item that comes in. An item moves back by at most `size` - 1 places; forward there is no bound.
 */
import { countArg, optionsArg, argumentError } from '../../tensor/check.js';
import { RandomStream } from './random-stream.js';
import { iterableArg, type IterableDataset, type ItemStream, openStream, streamDataset, streamOf } from './stream.js';
import type { StreamStart } from './stream.js';

/** Options of {@link shuffleBuffer}. */
export interface ShuffleBufferOptions {
  /** Which random order of all; it changes with the epoch (default 0). */
  seed?: number;
}

/** Where a shuffled stream stands. */
interface ShufflePosition<T> {
  /** Of the stream below. */
  source: unknown;
  /** What was read and not drawn. */
  waiting: T[];
  /** Items drawn. */
  drawn: number;
}

function positionArg<T>(position: unknown, size: number): ShufflePosition<T> {
  const { source, waiting, drawn } = Object(position) as Partial<ShufflePosition<T>>;
  if (!Array.isArray(waiting) || waiting.length >= size || drawn === undefined)
    throw argumentError('shuffleBuffer', 'position', `a position of a stream with a buffer of ${size}`, position);
  return { source, waiting: [...waiting], drawn: countArg('shuffleBuffer', 'position.drawn', drawn) };
}

/** Fills the buffer, then draws; `state` says what is true at every yield. */
async function* shuffled<T>(
  below: ItemStream<T>,
  state: ShufflePosition<T>,
  size: number,
  random: (draw: number) => RandomStream,
): AsyncGenerator<T, undefined> {
  const { waiting } = state;
  let ended = false;
  try {
    for (;;) {
      while (!ended && waiting.length < size) {
        const result = await below.next();
        if (result.done) ended = true;
        else waiting.push(result.value);
      }
      if (waiting.length === 0) return undefined;
      const slot = random(state.drawn++).below(waiting.length);
      const item = waiting[slot]!;
      waiting[slot] = waiting.at(-1)!;
      waiting.pop();
      yield item;
    }
  } finally {
    await below.return();
  }
}

/**
 * The items of a stream in an order that is random within a buffer, a pure function of (seed, epoch). Its position, and
 * so a DataLoader's `stateDict`, holds the items that wait in the buffer: shuffle what is small, such as lines, and
 * `map` after it.
 *
 * @param size items held at once, from 1; 1 leaves the order as it is
 * @throws FOVEA_ARGUMENT for what is no IterableDataset or no count
 */
export function shuffleBuffer<T>(
  dataset: IterableDataset<T>,
  size: number,
  options?: ShuffleBufferOptions,
): IterableDataset<T> {
  const { seed = 0 } = optionsArg('shuffleBuffer', options, ['seed']);
  iterableArg('shuffleBuffer', dataset);
  countArg('shuffleBuffer', 'size', size, 1);
  countArg('shuffleBuffer', 'seed', seed);
  return streamDataset(({ epoch, position }: StreamStart) => {
    const state: ShufflePosition<T> =
      position === undefined ? { source: undefined, waiting: [], drawn: 0 } : positionArg(position, size);
    const below = openStream(dataset, { epoch, position: state.source });
    const items = shuffled(below, state, size, (draw) => new RandomStream(seed, epoch, draw));
    return streamOf(items, () => ({ source: below.position(), waiting: [...state.waiting], drawn: state.drawn }));
  });
}
