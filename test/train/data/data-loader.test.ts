// Batches in order, by seed and epoch, from any point on; see workers.test.ts for the same in threads.
import { setTimeout as sleep } from 'node:timers/promises';
import { FoveaError, type Tensor, tensor, tidy } from 'fovea';
import { arrayDataset, DataLoader, type Dataset, map } from 'fovea/train';
import { describe, expect, expectTypeOf, test } from 'vitest';
import { codeOf, list } from '../../helpers.js';
import { all, errorOf, first, handOver, range } from './collect.ts';

const numbers = arrayDataset(range(10));

describe('batches', () => {
  test('in order, the last one shorter or left out', async () => {
    const loader = new DataLoader(numbers, { batchSize: 4 });
    expectTypeOf(loader).toEqualTypeOf<DataLoader<number>>();
    expect(loader.length).toBe(3);
    expect(await all(loader)).toEqual([
      [0, 1, 2, 3],
      [4, 5, 6, 7],
      [8, 9],
    ]);
    const dropping = new DataLoader(numbers, { batchSize: 4, dropLast: true });
    expect(dropping.length).toBe(2);
    expect(await all(dropping)).toEqual([
      [0, 1, 2, 3],
      [4, 5, 6, 7],
    ]);
    expect(await all(new DataLoader(arrayDataset<number>([])))).toEqual([]);
    expect(await all(new DataLoader(numbers))).toEqual(range(10).map((i) => [i]));
  });

  test('collate makes them, and knows which batch it makes', async () => {
    const seen: string[] = [];
    const loader = new DataLoader(numbers, {
      batchSize: 5,
      collate: (items, { epoch, batch }) => {
        seen.push(`${epoch}/${batch}`);
        return tensor(items, { dtype: 'int64' });
      },
    });
    expectTypeOf(loader).toEqualTypeOf<DataLoader<number, Tensor>>();
    expect((await all(loader)).map(list)).toEqual([range(5), [5, 6, 7, 8, 9]]);
    await all(loader);
    expect(seen).toEqual(['0/0', '0/1', '1/0', '1/1']);
  });

  test('a sampler chooses items, a batch sampler batches', async () => {
    const sampler = { indices: (epoch: number) => [3, 1, epoch, 3] };
    const loader = new DataLoader(numbers, { sampler, batchSize: 3 });
    expect(loader.length).toBe(2);
    expect(await all(loader)).toEqual([[3, 1, 0], [3]]);
    expect(await all(loader)).toEqual([[3, 1, 1], [3]]);
    const batchSampler = { batches: (epoch: number) => (epoch === 0 ? [[1], Uint8Array.of(2, 3)] : [[9]]) };
    const batches = new DataLoader(numbers, { batchSampler });
    expect([batches.length, await all(batches)]).toEqual([2, [[1], [2, 3]]]);
    expect([batches.length, await all(batches)]).toEqual([1, [[9]]]);
  });

  test.each([
    [{ sampler: { indices: () => [0, 10] } }, /sampler.indices\(\) has 10 at 1.*dataset of 10/, 'FOVEA_INDEX'],
    [{ sampler: { indices: () => [0.5] } }, /has 0.5 at 0/, 'FOVEA_INDEX'],
    [{ sampler: { indices: () => 'x' as unknown as number[] } }, /a list of indices/, 'FOVEA_ARGUMENT'],
    [{ batchSampler: { batches: () => [[0], [-1]] } }, /batch 1 of batchSampler has -1/, 'FOVEA_INDEX'],
    [{ batchSampler: { batches: () => [[0], []] } }, /at least one index/, 'FOVEA_ARGUMENT'],
    [{ batchSampler: { batches: () => 1 as unknown as number[][] } }, /a list of batches/, 'FOVEA_ARGUMENT'],
  ])('a sampler that gives no indices: %#', (options, message, code) => {
    const loader = new DataLoader(numbers, options);
    for (const use of [() => loader.length, () => loader[Symbol.asyncIterator](), () => loader.stateDict()]) {
      expect(use).toThrow(message);
      expect(use).toThrow(expect.objectContaining({ code }) as FoveaError);
    }
  });
});

describe('the order', () => {
  const shuffled = (seed?: number): DataLoader<number> =>
    new DataLoader(arrayDataset(range(100)), { batchSize: 7, shuffle: true, ...(seed !== undefined && { seed }) });

  test('is a pure function of seed and epoch', async () => {
    const loader = shuffled(3);
    const epochs = [await all(loader), await all(loader), await all(loader)];
    for (const epoch of epochs) expect(epoch.flat().sort((a, b) => a - b)).toEqual(range(100));
    expect(new Set(epochs.map(String)).size).toBe(3);
    const other = shuffled(3);
    other.setEpoch(2);
    expect(await all(other)).toEqual(epochs[2]);
    other.setEpoch(0);
    expect(await all(other)).toEqual(epochs[0]);
    expect(await all(shuffled(4))).not.toEqual(epochs[0]);
    expect(await all(shuffled())).toEqual(await all(shuffled(0)));
  });

  test('moves on at the end of an epoch, and stays when the loop is left', async () => {
    const loader = shuffled();
    const start = await first(loader, 4);
    expect([loader.epoch, loader.stateDict().batches]).toEqual([0, 4]);
    const epoch = await all(loader);
    expect(epoch.slice(0, 4)).toEqual(start);
    expect(loader.epoch).toBe(1);
    expect(loader.stateDict()).toMatchObject({ seed: 0, epoch: 1, batches: 0 });
  });

  test.each([0, 1, 3, 20])('goes on from every point, with %d batches read ahead', async (prefetch) => {
    const make = (): DataLoader<number> =>
      new DataLoader(arrayDataset(range(23)), { batchSize: 4, shuffle: true, seed: 9, prefetch });
    const reference = make();
    reference.setEpoch(1);
    const epoch1 = await all(reference);
    const epoch2 = await all(reference);
    for (let taken = 0; taken <= 6; taken++) {
      const loader = make();
      loader.setEpoch(1);
      const before = await first(loader, taken);
      const resumed = handOver(loader, make());
      expect(resumed.stateDict()).toEqual(loader.stateDict());
      const after = await all(resumed);
      expect([...before, ...after], `after ${taken}`).toEqual(epoch1);
      expect(await all(resumed)).toEqual(epoch2);
    }
  });

  test('the seed of a state is taken over, the state of another order refused', async () => {
    const loader = shuffled(5);
    await first(loader, 3);
    const state = loader.stateDict();
    expect((await all(handOver(loader, shuffled(8)))).flat()).toHaveLength(79);
    const data = arrayDataset(range(100));
    const others: DataLoader<number>[] = [
      new DataLoader(data, { batchSize: 8, shuffle: true, seed: 5 }),
      new DataLoader(data, { batchSize: 7, shuffle: true, dropLast: true, seed: 5 }),
      new DataLoader(data, { batchSize: 7, seed: 5 }),
      new DataLoader(arrayDataset(range(101)), { batchSize: 7, shuffle: true, seed: 5 }),
    ];
    for (const other of others) {
      expect(() => other.loadStateDict(state)).toThrow(/batches come in another order/);
      expect(other.stateDict()).toMatchObject({ seed: 5, epoch: 0, batches: 0 });
    }
    for (const bad of [
      undefined,
      null,
      1,
      {},
      { ...state, batches: -1 },
      { ...state, batches: 16 },
      { ...state, epoch: 'x' },
    ])
      expect(() => shuffled(5).loadStateDict(bad as typeof state)).toThrow(FoveaError);
  });

  test('an iteration that another has replaced says no more where the loader stands', async () => {
    const loader = shuffled();
    const old = loader[Symbol.asyncIterator]();
    await old.next();
    await first(loader, 2);
    await all(old);
    expect(loader.stateDict()).toMatchObject({ epoch: 0, batches: 2 });
  });
});

describe('reading ahead', () => {
  /** Counts what was asked for and not yet given. */
  function counted(): { dataset: Dataset<number>; asked: () => number } {
    let asked = 0;
    const get = async (index: number): Promise<number> => {
      asked++;
      await sleep(1);
      return index;
    };
    return { dataset: { length: 50, get }, asked: () => asked };
  }

  test.each([0, 1, 4])('%d batches, and no more', async (prefetch) => {
    const { dataset, asked } = counted();
    let taken = 0;
    for await (const batch of new DataLoader(dataset, { batchSize: 2, prefetch })) {
      expect(batch).toEqual([2 * taken, 2 * taken + 1]);
      taken++;
      await sleep(10);
      expect(asked()).toBe(Math.min(50, 2 * (taken + prefetch)));
    }
    expect(taken).toBe(25);
  });

  test('items of a batch are read at the same time, and arrive in order', async () => {
    const get = async (index: number): Promise<number> => {
      await sleep(20 - 2 * index);
      return index;
    };
    const start = performance.now();
    expect(await all(new DataLoader({ length: 10, get }, { batchSize: 10 }))).toEqual([range(10)]);
    expect(performance.now() - start).toBeLessThan(80);
  });

  test('batches asked for at once come in order', async () => {
    const iterator = new DataLoader(counted().dataset, { batchSize: 20, prefetch: 1 })[Symbol.asyncIterator]();
    const results = await Promise.all([1, 2, 3, 4, 5].map(() => iterator.next()));
    expect(results.map(({ value }) => value?.[0])).toEqual([0, 20, 40, undefined, undefined]);
    expect(results.map(({ done }) => done ?? false)).toEqual([false, false, false, true, true]);
  });

  test('leaving ends a read that would never end', async () => {
    const never = new Promise<number>(() => undefined);
    const iterator = new DataLoader({ length: 3, get: () => never })[Symbol.asyncIterator]();
    const pending = iterator.next();
    await sleep(1);
    expect(await iterator.return()).toEqual({ done: true, value: undefined });
    expect(await pending).toEqual({ done: true, value: undefined });
    expect(await iterator.next()).toEqual({ done: true, value: undefined });
  });

  test.each([0, 2])('tensors outlive the tidy in which a batch was asked for (%d ahead)', async (prefetch) => {
    const collate = (items: number[]): Tensor => tensor(items);
    const iterator = new DataLoader(numbers, { batchSize: 2, prefetch, collate })[Symbol.asyncIterator]();
    const batches = [
      await tidy(() => iterator.next()),
      await tidy(async () => iterator.next()),
      await tidy(() => iterator.next()),
    ];
    expect(batches.map(({ value }) => list(value!))).toEqual([
      [0, 1],
      [2, 3],
      [4, 5],
    ]);
    await iterator.return();
    let inside: Tensor[] = [];
    await tidy(async () => {
      inside = await all(new DataLoader(numbers, { batchSize: 5, prefetch, collate }));
    });
    expect(inside.map((x) => codeOf(() => x.dataSync()))).toEqual(['FOVEA_DISPOSED', 'FOVEA_DISPOSED']);
  });
});

describe('what goes wrong', () => {
  test.each([0, 3])('an item names itself and ends the iteration (%d ahead)', async (prefetch) => {
    const faulty = map(numbers, (x) => {
      if (x === 6) throw new RangeError('no six');
      return x;
    });
    const loader = new DataLoader(faulty, { batchSize: 2, prefetch });
    const seen: number[][] = [];
    const iterator = loader[Symbol.asyncIterator]();
    const error = await errorOf(
      (async () => {
        for await (const batch of iterator) seen.push(batch);
      })(),
    );
    expect(error).toMatchObject({ code: 'FOVEA_DATA', message: 'DataLoader: item 6 failed: no six' });
    expect(error.cause).toBeInstanceOf(RangeError);
    expect(seen).toEqual([
      [0, 1],
      [2, 3],
      [4, 5],
    ]);
    expect(await iterator.next()).toMatchObject({ done: true });
    // The batch was not taken: once the item is there, the run goes on with it.
    expect(await all(handOver(loader as DataLoader<number>, new DataLoader(numbers, { batchSize: 2 })))).toEqual([
      [6, 7],
      [8, 9],
    ]);
  });

  test('synchronous errors, codes of fovea, and collate', async () => {
    const get = (): number => {
      throw new FoveaError('FOVEA_IO', 'read: gone');
    };
    expect(await errorOf(all(new DataLoader({ length: 1, get })))).toMatchObject({
      code: 'FOVEA_IO',
      message: 'DataLoader: item 0 failed: read: gone',
    });
    const collate = (items: number[]): number => {
      if (items.includes(4)) throw new Error('odd one');
      return items.length;
    };
    expect(await errorOf(all(new DataLoader(numbers, { batchSize: 3, collate })))).toMatchObject({
      code: 'FOVEA_DATA',
      message: 'DataLoader: collate of batch 1 failed: odd one',
    });
  });

  test('an error that is never asked for is no unhandled rejection', async () => {
    const get = (index: number): number => {
      if (index > 0) throw new Error('later');
      return index;
    };
    expect(await first(new DataLoader({ length: 5, get }, { prefetch: 4 }), 1)).toEqual([[0]]);
    await sleep(5);
  });

  test.each([
    [{ batchSize: 0 }, /batchSize/],
    [{ seed: -1 }, /seed/],
    [{ prefetch: 0.5 }, /prefetch/],
    [{ shuffle: 'yes' }, /true or false for shuffle/],
    [{ collate: 1 }, /a function for collate/],
    [{ sampler: [1, 2] }, /indices\(epoch\) for sampler/],
    [{ batchSampler: {} }, /batches\(epoch\) for batchSampler/],
    [{ numWorkers: 1 }, /a module that makes the dataset/],
    [{ numWorkers: 1, worker: './x.js' }, /a URL such as/],
    [{ sampler: { indices: () => [] }, shuffle: true }, /nothing beside sampler for shuffle/],
    [{ batchSampler: { batches: () => [] }, batchSize: 2 }, /nothing beside batchSampler for batchSize/],
    [{ batchsize: 2 }, /only batchSize, shuffle.*"batchsize"/],
  ])('options %o', (options, message) => {
    expect(() => new DataLoader(numbers, options as object)).toThrow(message);
  });

  test.each([undefined, null, 5, 'x', {}, [1, 2], { length: 3 }, { length: -1, get: () => 1 }])(
    'dataset %o',
    (dataset) => {
      expect(() => new DataLoader(dataset as Dataset<number>)).toThrow(/a Dataset or an IterableDataset for dataset/);
    },
  );
});
