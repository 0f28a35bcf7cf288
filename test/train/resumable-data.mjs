// Data of a run that is resumed, by name; what a worker of a DataLoader runs, too. Batches are { x: [b, n, 16], y: [b]
// }.
import { Generator, randn, tensor } from 'fovea';
import { DataLoader, LengthBatchSampler, map, shuffleBuffer, textLines } from 'fovea/train';
import { writeFileSync } from 'node:fs';

const count = 44;
const lengthOf = (i) => 3 + ((i * 5) % 7);
const itemOf = (i) => ({
  x: Float32Array.from({ length: 16 * lengthOf(i) }, (_, j) => Math.sin(i + j * j)),
  y: Math.cos(i),
});
const dataset = { length: count, get: itemOf };

/** Pads with zeros. */
function collate(items) {
  const n = Math.max(...items.map(({ x }) => x.length / 16));
  const x = new Float32Array(items.length * n * 16);
  for (const [i, item] of items.entries()) x.set(item.x, i * n * 16);
  return { x: tensor(x, { shape: [items.length, n, 16] }), y: tensor(items.map(({ y }) => y)) };
}

/** What a worker makes. */
export default () => ({ dataset, collate });

/** 11 batches in an order that depends on the epoch. */
class Shuffled {
  #epoch = 0;
  #given = 0;
  setEpoch(epoch) {
    this.#epoch = epoch;
    this.#given = 0;
  }
  *[Symbol.iterator]() {
    const from = this.#given;
    for (let i = from; i < 11; i++) {
      this.#given = i + 1;
      const seed = ((i * 7 + this.#epoch * 5) % 11) + 1;
      yield {
        x: randn([3, 5, 16], { generator: new Generator(seed) }),
        y: tensor([seed / 11])
          .expand([3])
          .clone(),
      };
    }
  }
  stateDict() {
    return { epoch: this.#epoch, given: this.#given };
  }
  loadStateDict({ epoch, given }) {
    this.#epoch = epoch;
    this.#given = given;
  }
}

/** The lines of two files, each the number of an item, mixed in a buffer. */
function lines(folder) {
  const paths = [0, 1].map((part) => {
    const path = `${folder}-${part}.txt`;
    const numbers = Array.from({ length: count / 2 }, (_, i) => part * (count / 2) + i);
    writeFileSync(path, numbers.join('\n'));
    return path;
  });
  return map(shuffleBuffer(textLines(paths), 10, { seed: 3 }), (line) => itemOf(Number(line)));
}

const lengthBatches = () =>
  new LengthBatchSampler(
    Array.from({ length: count }, (_, i) => lengthOf(i)),
    { tokensPerBatch: 30, poolSize: 20, seed: 4 },
  );

const makers = {
  stateful: () => new Shuffled(),
  /** What has no state is read up to where the run was. */
  stateless: () => ({
    setEpoch(epoch) {
      this.epoch = epoch;
    },
    [Symbol.iterator]() {
      const data = new Shuffled();
      data.setEpoch(this.epoch);
      return data[Symbol.iterator]();
    },
  }),
  workers: () =>
    new DataLoader(dataset, {
      batchSize: 4,
      shuffle: true,
      seed: 2,
      numWorkers: 2,
      prefetch: 5,
      worker: new URL(import.meta.url),
    }),
  lines: (folder) => new DataLoader(lines(folder), { batchSize: 4, collate, prefetch: 3 }),
  lengths: () => new DataLoader(dataset, { batchSampler: lengthBatches(), collate }),
};

/** Batches to learn from, and to measure with. */
export const dataOf = (name, folder) => makers[name](folder);
