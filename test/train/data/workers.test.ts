// Workers give what one thread gives, in its order; what goes wrong in them is named, and they never outlive an
// iteration.
import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { Mask, Tensor } from 'fovea';
import {
  type Collate,
  DataLoader,
  type Dataset,
  type DataLoaderOptions,
  type IterableDataset,
  type PackedBatch,
} from 'fovea/train';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { list } from '../../helpers.js';
import { runScript } from '../../native-runtime/children.ts';
import { all, errorOf, first, handOver, range } from './collect.ts';

const module = (name: string): URL => new URL(`workers/${name}.mjs`, import.meta.url);
const numbers: Dataset<number> = { length: 40, get: (index) => index };
const inWorkers = (numWorkers: number, data: object = {}): DataLoaderOptions<number, number[]> => ({
  batchSize: 3,
  numWorkers,
  worker: module('numbers'),
  workerData: data,
});

/** Threads of this process, where the system says how many there are. */
const threads = (): number => (existsSync('/proc/self/task') ? readdirSync('/proc/self/task').length : 0);
let before = 0;
beforeAll(async () => {
  // What starts with the first worker, or the first file that is read, and stays: threads of the runtime's own.
  await all(new DataLoader(numbers, inWorkers(3)));
  await stat('.');
  before = threads();
});

describe('order', () => {
  test.each([1, 2, 3])('is that of one thread, with %d workers', async (numWorkers) => {
    const plain = new DataLoader(numbers, { batchSize: 3, shuffle: true, seed: 6 });
    const options = { ...inWorkers(numWorkers, { delays: true }), shuffle: true, seed: 6 };
    const threaded = new DataLoader(numbers, options);
    for (const epoch of [0, 1]) {
      expect(threaded.epoch).toBe(epoch);
      expect(await all(threaded)).toEqual(await all(plain));
    }
  });

  test('all workers work', async () => {
    const dataset: Dataset<{ index: number; worker: number; workers: number }> = {
      length: 40,
      get: (index) => ({ index, worker: 0, workers: 0 }),
    };
    const loader = new DataLoader(dataset, {
      numWorkers: 2,
      worker: module('numbers'),
      workerData: { who: true, busy: 2 },
    });
    const items = (await all(loader)).flat();
    expect(items.map(({ index }) => index)).toEqual(range(40));
    expect(new Set(items.map(({ worker }) => worker))).toEqual(new Set([0, 1]));
    expect(new Set(items.map(({ workers }) => workers))).toEqual(new Set([2]));
  });

  test('goes on from every point, whatever was read ahead', async () => {
    const make = (): DataLoader<number> =>
      new DataLoader(numbers, { ...inWorkers(2), batchSize: 9, shuffle: true, prefetch: 3 });
    const whole = await all(make());
    for (const taken of [0, 2, 4, 5]) {
      const loader = make();
      const before = await first(loader, taken);
      expect([...before, ...(await all(handOver(loader, make())))]).toEqual(whole);
    }
  });

  test('a stream has one worker, and goes on from its position', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'fovea-data-'));
    afterAll(() => rmSync(folder, { recursive: true }));
    const path = join(folder, 'numbers.txt');
    writeFileSync(path, range(50).join('\n'));
    const { lines } = (await import(module('lines').href)) as { lines: (path: string) => IterableDataset<number> };
    const make = (numWorkers: number): DataLoader<number> =>
      new DataLoader(lines(path), { batchSize: 6, numWorkers, worker: module('lines'), workerData: path });
    const whole = await all(make(0));
    expect(whole.flat().sort((a, b) => a - b)).toEqual(range(50));
    expect(await all(make(1))).toEqual(whole);
    for (const [from, to] of [
      [0, 1],
      [1, 0],
      [1, 1],
    ] as const) {
      const loader = make(from);
      const before = await first(loader, 4);
      expect([...before, ...(await all(handOver(loader, make(to))))]).toEqual(whole);
    }
    expect(() => make(2)).toThrow(/at most 1 for an IterableDataset/);
    writeFileSync(path, '1\n2\nbad\n');
    const error = await errorOf(
      all(new DataLoader(lines(path), { numWorkers: 1, worker: module('lines'), workerData: path })),
    );
    expect(error.message).toMatch(/^DataLoader: reading of batch [012] failed: no number$/);
  });
});

describe('what crosses', () => {
  test('batches with tensors, made in the worker', async () => {
    interface Batch {
      x: Tensor;
      same: [Tensor, { again: Tensor }];
      ids: Tensor;
      mask: Tensor;
      half: Tensor;
      empty: Tensor;
      where: object;
    }
    type Made = { dataset: Dataset<Float32Array>; collate: Collate<Float32Array, Batch> };
    const { dataset, collate } = (await import(module('collated').href)) as Made;
    const loader = (numWorkers: number): DataLoader<Float32Array, Batch> =>
      new DataLoader(dataset, { batchSize: 6, collate, numWorkers, worker: module('collated') });
    const [here, there] = [await all(loader(0)), await all(loader(2))];
    expect(there).toHaveLength(3);
    for (const [i, batch] of there.entries()) {
      for (const name of ['x', 'ids', 'mask', 'half', 'empty'] as const) {
        expect(batch[name].dtype).toBe(here[i]![name].dtype);
        expect(batch[name].shape).toEqual(here[i]![name].shape);
        expect(list(batch[name])).toEqual(list(here[i]![name]));
      }
      expect(batch.same[0]).toBe(batch.x);
      expect(batch.same[1].again).toBe(batch.x);
      expect(batch.where).toEqual({ epoch: 0, batch: i });
    }
  });

  test('packed batches with their masks', async () => {
    type Batch = PackedBatch & { joined: Mask };
    type Made = { dataset: Dataset<number[]>; collate: Collate<number[], Batch> };
    const { dataset, collate } = (await import(module('packed').href)) as Made;
    const loader = (numWorkers: number): DataLoader<number[], Batch> =>
      new DataLoader(dataset, { batchSize: 4, collate, numWorkers, worker: module('packed') });
    const [here, there] = [await all(loader(0)), await all(loader(2))];
    expect(there).toHaveLength(2);
    for (const [i, batch] of there.entries()) {
      for (const name of ['inputIds', 'labels', 'positionIds'] as const)
        expect(list(batch[name])).toEqual(list(here[i]![name]));
      for (const name of ['mask', 'joined'] as const) {
        expect(batch[name].constructor).toBe(here[i]![name].constructor);
        expect(batch[name].toJSON()).toEqual(here[i]![name].toJSON());
      }
    }
    expect(there[0]!.mask.toJSON()).toMatchObject({ type: 'documents' });
  });

  test('typed arrays, views without what they are views of, and clones of the rest', async () => {
    const dataset: Dataset<unknown> = { length: 8, get: () => undefined };
    // Every item twice, so that what was moved once is still there.
    const sampler = { indices: () => [...range(8), ...range(8)] };
    const loader = new DataLoader(dataset, { numWorkers: 1, worker: module('values'), sampler });
    const items = (await all(loader)).flat();
    for (const half of [items.slice(0, 8), items.slice(8)]) {
      const [stored, view, shared, buffer, mixed, aliased, named, dataView] = half as [
        Float64Array,
        Float64Array,
        Int32Array,
        Uint8Array,
        { list: unknown; map: Map<number, unknown>; at: Date },
        { twice: [object, object]; big: BigInt64Array },
        { y: unknown[] },
        DataView,
      ];
      expect(stored).toEqual(Float64Array.from(range(1000)));
      expect(view).toEqual(Float64Array.of(10, 11));
      expect(view.buffer.byteLength).toBe(16);
      expect(shared.buffer).toBeInstanceOf(SharedArrayBuffer);
      expect([buffer.constructor, new TextDecoder().decode(buffer)]).toEqual([Uint8Array, 'héllo']);
      expect(mixed).toEqual({
        list: [1, 'two', [3n, null]],
        map: new Map([[1, { view: Float64Array.of(10, 11) }]]),
        at: new Date(0),
      });
      expect(aliased.twice[0]).toBe(aliased.twice[1]);
      expect(aliased.big).toEqual(BigInt64Array.of(-1n));
      expect(Object.getPrototypeOf(named)).toBe(Object.prototype);
      expect(Object.getOwnPropertyDescriptor(named, '__proto__')?.value).toEqual({ x: [1] });
      expect(dataView.byteLength).toBe(2);
    }
  });

  test('items of a module without collate are put together here', async () => {
    const collate = (items: number[], { batch }: { batch: number }): string => `${batch}: ${items.join('+')}`;
    const loader = new DataLoader(numbers, {
      batchSize: 20,
      numWorkers: 2,
      worker: module('numbers'),
      workerData: {},
      collate,
    });
    expect(await all(loader)).toEqual([
      `0: ${range(20).join('+')}`,
      `1: ${range(20)
        .map((i) => i + 20)
        .join('+')}`,
    ]);
  });
});

describe('what goes wrong', () => {
  const failing = (thirteen: string): DataLoader<number> => new DataLoader(numbers, inWorkers(2, { thirteen }));

  test.each([
    ['throw', /^DataLoader: item 13 failed: unlucky$/],
    ['exit', /the worker of batch 4 \(items 12, 13, 14\) ended by itself with code 3/],
    ['crash', /the worker of batch 4 \(items 12, 13, 14\) failed: out of the blue/],
    ['function', /sending batch 4 \(items 12, 13, 14\) from its worker failed: .*could not be cloned/],
  ])('%s', async (thirteen, message) => {
    const loader = failing(thirteen);
    const seen: number[][] = [];
    const error = await errorOf(
      (async () => {
        for await (const batch of loader) seen.push(batch);
      })(),
    );
    expect(error.code).toBe('FOVEA_DATA');
    expect(error.message).toMatch(message);
    expect(seen.flat()).toEqual(range(12));
    expect(loader.stateDict().batches).toBe(4);
    if (thirteen === 'throw') expect((error.cause as Error).stack).toMatch(/^RangeError: unlucky\n.*numbers\.mjs/);
    expect(threads()).toBeLessThanOrEqual(before);
  });

  test.each([
    ['missing', {}, 'FOVEA_DATA', /the worker module .*missing\.mjs failed: Cannot find module/],
    ['nothing', {}, 'FOVEA_ARGUMENT', /a function that makes a dataset for the default export of .*, received 5/],
    ['not-a-dataset', {}, 'FOVEA_ARGUMENT', /a dataset or \{ dataset, collate \}/],
    [
      'numbers',
      { length: 39 },
      'FOVEA_ARGUMENT',
      /a dataset of 40 items, as the loader has, of .*received a dataset of 39 items/,
    ],
    ['lines', 'x', 'FOVEA_ARGUMENT', /received a stream/],
    ['numbers', { f: () => 1 }, 'FOVEA_DATA', /starting a worker .* failed: .*could not be cloned/],
  ])('%s %j', async (name, workerData, code, message) => {
    const error = await errorOf(all(new DataLoader(numbers, { numWorkers: 2, worker: module(name), workerData })));
    expect(error.code).toBe(code);
    expect(error.message).toMatch(message);
    expect(threads()).toBeLessThanOrEqual(before);
  });
});

describe('nothing outlives an iteration', () => {
  test('workers end at the end, when the loop is left, and with a read that never ends', async () => {
    await all(new DataLoader(numbers, inWorkers(2)));
    expect(threads()).toBeLessThanOrEqual(before);
    const loader = new DataLoader(numbers, inWorkers(2));
    const iterator = loader[Symbol.asyncIterator]();
    await iterator.next();
    if (before > 0) expect(threads()).toBeGreaterThanOrEqual(before + 2);
    await iterator.return();
    expect(threads()).toBeLessThanOrEqual(before);
    for (const thirteen of ['hang', 'spin']) {
      const iterator = new DataLoader(numbers, inWorkers(2, { thirteen }))[Symbol.asyncIterator]();
      for (const _ of range(4)) await iterator.next();
      const pending = iterator.next();
      await sleep(20);
      await iterator.return();
      expect(await pending).toEqual({ done: true, value: undefined });
      expect(threads()).toBeLessThanOrEqual(before);
    }
  });

  test.each([
    [['all'], 0, '8\n'],
    [['break'], 0, '2\n'],
    [['throw'], 0, 'the loop itself\n'],
    [['exit'], 7, ''],
    [['abandon'], 0, 'abandoned\n'],
    [['abandon', 'spin'], 0, 'abandoned\n'],
    [['leave', 'hang'], 0, '{"done":true}\n'],
    [['leave', 'spin'], 0, '{"done":true}\n'],
    [['all', 'throw'], 0, 'DataLoader: item 13 failed: unlucky\n'],
  ])('a program ends: %j', async (args, status, stdout) => {
    const start = performance.now();
    const ended = await runScript(import.meta.url, 'workers/ends.mjs', args);
    expect(ended).toEqual({ status, signal: null, stdout, stderr: '' });
    // Generous, since it only has to tell an end from a hang.
    expect(performance.now() - start).toBeLessThan(60_000);
  });
});

test('a program that is its own worker module ends with an error', async () => {
  const ended = await runScript(import.meta.url, 'workers/self.mjs');
  expect(ended).toMatchObject({ status: 1, signal: null, stdout: '' });
  expect(ended.stderr).toMatch(
    /self\.mjs failed: .*expected 0 within a worker for numWorkers, received 2; make the dataset/,
  );
});

test('a program given with --eval has workers, too', async () => {
  const code = `
    import { DataLoader } from 'fovea/train';
    const worker = new URL(${JSON.stringify(module('numbers').href)});
    const options = { batchSize: 4, numWorkers: 1, worker, workerData: { length: 4 } };
    for await (const batch of new DataLoader({ length: 4, get: (i) => i }, options)) console.log(String(batch));`;
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '--eval', code]);
  expect(stdout).toBe('0,1,2,3\n');
});

test('the event loop is free while workers work', async () => {
  let ticks = 0;
  const timer = setInterval(() => ticks++, 2);
  const start = performance.now();
  await all(new DataLoader(numbers, inWorkers(2, { busy: 20 })));
  const elapsed = performance.now() - start;
  clearInterval(timer);
  // 800 ms of work in two threads; a blocked loop would tick some 14 times, once for each batch.
  expect(elapsed).toBeGreaterThan(350);
  expect(ticks).toBeGreaterThan(50);
});
