// Files as streams of lines, in bounded memory, and from any line on; the order of a buffer.
import { closeSync, mkdirSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import * as fc from 'fast-check';
import {
  DataLoader,
  type DataLoaderState,
  type IterableDataset,
  map,
  shuffleBuffer,
  textLines,
  type TextLinesOptions,
} from 'fovea/train';
import { afterAll, describe, expect, expectTypeOf, test } from 'vitest';
import { codeOf } from '../../helpers.js';
import { all, errorOf, first, handOver, range } from './collect.ts';

const folder = mkdtempSync(join(tmpdir(), 'fovea-lines-'));
afterAll(() => rmSync(folder, { recursive: true }));
let count = 0;
function file(content: string | Uint8Array): string {
  const path = join(folder, `${count++}.txt`);
  writeFileSync(path, content);
  return path;
}
const linesOf = (content: string | Uint8Array, options?: TextLinesOptions): Promise<string[]> =>
  all(textLines(file(content), options));

describe('lines', () => {
  test.each([
    ['', []],
    ['\n', ['']],
    ['a', ['a']],
    ['a\n', ['a']],
    ['a\n\nb', ['a', '', 'b']],
    ['a\r\nb\r\n', ['a', 'b']],
    ['a\r\nb\r', ['a', 'b']],
    ['a\rb\n', ['a\rb']],
    ['\r\n\r\n', ['', '']],
    ['\ufeffa\n\ufeffb', ['a', '\ufeffb']],
    ['\ufeff', ['']],
    ['línea ☃ 😀\nzweite', ['línea ☃ 😀', 'zweite']],
  ])('%j', async (content, expected) => {
    expect(await linesOf(content)).toEqual(expected);
    for (const chunkBytes of [1, 2, 3]) expect(await linesOf(content, { chunkBytes })).toEqual(expected);
  });

  test('any text, cut into chunks anywhere', async () => {
    const texts = fc.array(fc.string({ unit: fc.constantFrom('a', 'é', '☃', '😀', '\n', '\r\n', ' ') }));
    await fc.assert(
      fc.asyncProperty(texts, fc.integer({ min: 1, max: 9 }), async (parts, chunkBytes) => {
        const text = parts.join('');
        const expected = text
          .replace(/\n$/, '')
          .split('\n')
          .map((line) => line.replace(/\r$/, ''));
        expect(await linesOf(text, { chunkBytes })).toEqual(text === '' ? [] : expected);
      }),
      { numRuns: 100 },
    );
  });

  test('of several files, by path and URL', async () => {
    const paths = [file('a\nb'), pathToFileURL(file('')), file('c\n')];
    const lines = textLines(paths);
    expectTypeOf(lines).toEqualTypeOf<IterableDataset<string>>();
    expect(await all(lines)).toEqual(['a', 'b', 'c']);
    expect(await all(lines)).toEqual(['a', 'b', 'c']);
  });

  test('Latin-1, and bytes that are no UTF-8', async () => {
    const bytes = Buffer.from('un\ncaf\xe9\n', 'latin1');
    expect(await linesOf(bytes, { encoding: 'latin1' })).toEqual(['un', 'café']);
    expect(await linesOf(bytes, { malformed: 'replace' })).toEqual(['un', 'caf\ufffd']);
    const error = await errorOf(linesOf(bytes));
    expect(error).toMatchObject({ code: 'FOVEA_FILE_FORMAT' });
    expect(error.message).toMatch(
      /^textLines: the line at byte 3 of .*\.txt is not valid utf-8; pass the right encoding/,
    );
  });
});

describe('what goes wrong', () => {
  test('a missing file is named before any line is read', async () => {
    const missing = join(folder, 'missing.txt');
    const seen: string[] = [];
    const read = async (): Promise<void> => {
      for await (const line of textLines([file('a\n'), missing])) seen.push(line);
    };
    const error = await errorOf(read());
    expect(error).toMatchObject({ code: 'FOVEA_IO' });
    expect(error.message).toContain(`textLines: ${missing}: ENOENT`);
    expect(seen).toEqual([]);
    const sub = join(folder, 'sub');
    mkdirSync(sub);
    expect(await errorOf(all(textLines(sub)))).toMatchObject({
      code: 'FOVEA_IO',
      message: `textLines: ${sub}: it is no file`,
    });
  });

  test('a line that is too long is named before it is held', async () => {
    const content = `short\n${'x'.repeat(1000)}`;
    expect(await linesOf(content, { maxLineBytes: 1000 })).toHaveLength(2);
    const error = await errorOf(linesOf(content, { maxLineBytes: 999, chunkBytes: 64 }));
    expect(error.message).toMatch(/the line at byte 6 of .* has more than maxLineBytes = 999 bytes/);
  });

  test.each([
    [undefined, {}],
    ['', {}],
    [[], {}],
    [new URL('http://localhost/x'), {}],
    ['x', { encoding: 'utf-16' }],
    ['x', { malformed: 'ignore' }],
    ['x', { chunkBytes: 0 }],
    ['x', { encodng: 'latin1' }],
  ])('refuses %j %j', (paths, options) => {
    expect(codeOf(() => textLines(paths as string, options as TextLinesOptions))).toBe('FOVEA_ARGUMENT');
  });
});

describe('going on', () => {
  const paths = [
    file('0\r\n1\n2'),
    file(''),
    file(
      range(20)
        .map((i) => `é${i}`)
        .join('\n'),
    ),
    file('last\n'),
  ];
  const plain = (): IterableDataset<string> => ({
    async *[Symbol.asyncIterator]() {
      yield* range(24).map(String);
    },
  });
  const datasets: [name: string, make: () => IterableDataset<string>][] = [
    ['textLines', () => textLines(paths, { chunkBytes: 5 })],
    ['map', () => map(textLines(paths), async (line) => `<${line}>`)],
    ['shuffleBuffer', () => shuffleBuffer(textLines(paths), 7, { seed: 3 })],
    ['a buffer as large as all', () => shuffleBuffer(textLines(paths), 100)],
    ['a buffer of a buffer', () => shuffleBuffer(shuffleBuffer(textLines(paths), 5), 3)],
    ['an async iterable', plain],
    ['a shuffled async iterable', () => shuffleBuffer(plain(), 5)],
  ];

  test.each(datasets)('%s: from every batch on, through JSON', async (_, make) => {
    for (const prefetch of [0, 2]) {
      const loader = (): DataLoader<string> => new DataLoader(make(), { batchSize: 5, prefetch });
      const reference = loader();
      const epochs = [await all(reference), await all(reference)];
      expect(epochs[0]!.flat()).toHaveLength(24);
      for (const epoch of [0, 1]) {
        for (const taken of range(6)) {
          const interrupted = loader();
          interrupted.setEpoch(epoch);
          const before = await first(interrupted, taken);
          const after = await all(handOver(interrupted, loader()));
          expect([...before, ...after], `epoch ${epoch}, ${taken} taken`).toEqual(epochs[epoch]);
        }
      }
    }
  });

  test('does not read what is before', async () => {
    const path = file(range(1000).join('\n'));
    const loader = new DataLoader(textLines(path), { batchSize: 100 });
    await first(loader, 9);
    expect(loader.stateDict()).toEqual({ seed: 0, epoch: 0, batches: 9, position: { file: 0, byte: 3490 } });
    writeFileSync(
      path,
      `${'?'.repeat(3489)}\n${range(100)
        .map((i) => 900 + i)
        .join('\n')}`,
    );
    expect(await all(handOver(loader, new DataLoader(textLines(path), { batchSize: 100 })))).toEqual([
      range(100).map((i) => String(900 + i)),
    ]);
  });

  test('a file that has changed is an error, as is a position that is none', async () => {
    const path = file('one\ntwo\nthree\n');
    const from = (position: unknown): Promise<unknown> => {
      const loader = new DataLoader(textLines(path));
      loader.loadStateDict({ seed: 0, epoch: 0, batches: 1, position });
      return all(loader);
    };
    expect(await from({ file: 0, byte: 4 })).toEqual([['two'], ['three']]);
    expect(await from({ file: 1, byte: 0 })).toEqual([]);
    for (const byte of [5, 15, 1e6])
      expect((await errorOf(from({ file: 0, byte }))).message).toMatch(
        /no line begins at byte \d+ of .* has the file changed\?/,
      );
    for (const position of [{}, 3, { file: 2, byte: 0 }, { file: 0, byte: -1 }, null])
      expect(await errorOf(from(position))).toMatchObject({ code: 'FOVEA_ARGUMENT' });
    const loader = new DataLoader(textLines(path));
    const nowhere: DataLoaderState = { seed: 0, epoch: 0, batches: 1 };
    expect(() => loader.loadStateDict(nowhere)).toThrow(/where the next batch of the stream begins for position/);
  });

  test('an iterator in place of an iterable is refused, since its second epoch would be empty', async () => {
    const once = plain()[Symbol.asyncIterator]() as AsyncGenerator<string>;
    const error = await errorOf(all(new DataLoader(once)));
    expect(error.message).toMatch(/an async iterable that can be iterated again/);
  });
});

describe('streams in a DataLoader', () => {
  test('batches, the last one shorter or left out; the length is not known', async () => {
    const lines = textLines(file(range(7).join('\n')));
    expect(await all(new DataLoader(lines, { batchSize: 3 }))).toEqual([['0', '1', '2'], ['3', '4', '5'], ['6']]);
    expect(await all(new DataLoader(lines, { batchSize: 3, dropLast: true }))).toHaveLength(2);
    expect(codeOf(() => new DataLoader(lines).length)).toBe('FOVEA_UNSUPPORTED');
    expect(() => new DataLoader(lines, { shuffle: true })).toThrow(/wrap the dataset in shuffleBuffer/);
    expect(() => new DataLoader(lines, { sampler: { indices: () => [0] } })).toThrow(/a stream has no index/);
  });

  test('leaving the loop closes the file', async () => {
    const open = (): number => process.getActiveResourcesInfo().filter((name) => /File/.test(name)).length;
    const before = open();
    let closed = false;
    const stream = {
      async *[Symbol.asyncIterator]() {
        try {
          for (const i of range(100)) yield i;
        } finally {
          closed = true;
        }
      },
    };
    await first(new DataLoader(shuffleBuffer(stream, 4), { batchSize: 2 }), 2);
    expect(closed).toBe(true);
    for (let i = 0; i < 20; i++) await first(new DataLoader(textLines(file('a\nb\nc\n'))), 1);
    expect(open()).toBe(before);
  });

  test('an error names the batch', async () => {
    const numbers = map(textLines(file('1\n2\nx\n4\n')), (line) => {
      if (line === 'x') throw new TypeError('no number');
      return Number(line);
    });
    expect(await errorOf(all(new DataLoader(numbers)))).toMatchObject({
      code: 'FOVEA_DATA',
      message: 'DataLoader: reading of batch 2 failed: no number',
    });
  });
});

describe('shuffleBuffer', () => {
  const lines = textLines(file(range(500).join('\n')));
  const order = async (size: number, seed = 0, epoch = 0): Promise<number[]> => {
    const loader = new DataLoader(map(shuffleBuffer(lines, size, { seed }), Number), { batchSize: 500 });
    loader.setEpoch(epoch);
    return (await all(loader)).flat();
  };

  test('gives every item once, by seed and epoch', async () => {
    const base = await order(50);
    expect([...base].sort((a, b) => a - b)).toEqual(range(500));
    expect(await order(50)).toEqual(base);
    expect(await order(50, 1)).not.toEqual(base);
    expect(await order(50, 0, 1)).not.toEqual(base);
    expect(await order(1)).toEqual(range(500));
  });

  test('moves items within the buffer, and all over where it holds all', async () => {
    const [small, large] = [await order(20), await order(500)];
    // Item i cannot come before the buffer has reached it.
    small.forEach((item, place) => expect(item).toBeLessThan(place + 20));
    const moved = (list: number[]): number =>
      list.reduce((sum, item, place) => sum + Math.abs(item - place), 0) / list.length;
    expect(moved(small)).toBeGreaterThan(8);
    expect(moved(small)).toBeLessThan(30);
    // A third of the length is what a uniform permutation moves on average.
    expect(Math.abs(moved(large) - 500 / 3)).toBeLessThan(20);
  });

  test('refuses what is no stream, and a state of another buffer', async () => {
    expect(codeOf(() => shuffleBuffer([1] as never, 2))).toBe('FOVEA_ARGUMENT');
    expect(codeOf(() => shuffleBuffer(lines, 0))).toBe('FOVEA_ARGUMENT');
    expect(codeOf(() => shuffleBuffer(lines, 2, { seed: -1 }))).toBe('FOVEA_ARGUMENT');
    const loader = new DataLoader(shuffleBuffer(lines, 50));
    await first(loader, 3);
    const other = handOver(loader, new DataLoader(shuffleBuffer(lines, 40)));
    expect((await errorOf(all(other))).message).toMatch(/a position of a stream with a buffer of 40/);
  });
});

test('a file of 64 MB takes no more memory than a small one', async () => {
  const path = join(folder, 'large.txt');
  const block = Buffer.from(
    range(8192)
      .map((i) => `${i} ${'lorem ipsum '.repeat(10)}\n`)
      .join(''),
  );
  const blocks = Math.ceil(2 ** 26 / block.length);
  const handle = openSync(path, 'w');
  for (let i = 0; i < blocks; i++) writeSync(handle, block);
  closeSync(handle);
  const held = (): number => {
    globalThis.gc!();
    const { heapUsed, external } = process.memoryUsage();
    return heapUsed + external;
  };
  let [lines, characters, most] = [0, 0, 0];
  const before = held();
  const loader = new DataLoader(shuffleBuffer(textLines(path), 1000), { batchSize: 64, prefetch: 2 });
  for await (const batch of loader) {
    if (lines % 2 ** 16 === 0) most = Math.max(most, held() - before);
    lines += batch.length;
    for (const line of batch) characters += line.length;
  }
  expect(lines).toBe(8192 * blocks);
  expect(characters).toBe(block.length * blocks - lines);
  expect(most).toBeLessThan(4e6);
});
