// The safetensors reader against every kind of malformed file, and the writer against crashes.
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import * as fc from 'fast-check';
import { arange, FoveaError, full, memory, tensor, type Dtype } from 'fovea';
import { loadFile, SafetensorsFile, saveFile } from 'fovea/io';
import { afterAll, describe, expect, test } from 'vitest';

const folder = mkdtempSync(join(tmpdir(), 'fovea-io-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** The bytes of a file with this header (JSON text or an object) and this much data. */
function file(header: unknown, dataBytes: number, claim?: bigint): Buffer {
  const text = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(claim ?? BigInt(text.length));
  return Buffer.concat([length, text, Buffer.alloc(dataBytes)]);
}

function errorOf(bytes: Uint8Array): FoveaError {
  const path = join(folder, 'bad.safetensors');
  writeFileSync(path, bytes);
  try {
    loadFile(path);
  } catch (error) {
    expect(error).toBeInstanceOf(FoveaError);
    return error as FoveaError;
  }
  throw new Error('the file was accepted');
}

const f32 = (shape: unknown, begin: unknown, end: unknown): unknown => ({
  dtype: 'F32',
  shape,
  data_offsets: [begin, end],
});
const nested = (depth: number): string => `{"a":${'['.repeat(depth)}${']'.repeat(depth)}}`;

describe('malformed files', () => {
  const cases: [name: string, bytes: Buffer, reason: RegExp][] = [
    ['an empty file', Buffer.alloc(0), /0 bytes/],
    ['less than a length', Buffer.alloc(7), /7 bytes/],
    ['a header longer than the file', file('{}', 0, 3n), /header claims 3 bytes, but the file has 10/],
    ['a header of 2^63 bytes', file('{}', 0, 1n << 63n), /header claims 9223372036854775808 bytes; at most/],
    ['a header of 2^64 - 1 bytes', file('{}', 0, (1n << 64n) - 1n), /header claims/],
    ['a header of 1 GB', file('{}', 0, 1_000_000_000n), /at most 100000000/],
    ['no header', file('', 0), /must begin with "\{"/],
    ['a header that begins with a space', file(' {}', 0), /must begin with "\{"/],
    ['a list as header', file('[]', 0), /must begin with "\{"/],
    ['JSON that ends early', file('{"a":', 0), /malformed: the JSON ends early/],
    ['something after the JSON', file('{} x', 0), /something follows/],
    ['zero bytes after the JSON', file('{}\0\0', 0), /something follows/],
    ['a trailing comma', file('{"a":1,}', 0), /expected a string/],
    ['deep nesting', file(nested(200), 0), /nested deeper than 128/],
    ['very deep nesting', file(nested(100_000), 0), /nested deeper than 128/],
    [
      'a duplicate tensor',
      file(
        '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        4,
      ),
      /"a" occurs twice/,
    ],
    [
      'a duplicate written with an escape',
      file(
        '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"\\u0061":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        4,
      ),
      /"a" occurs twice/,
    ],
    [
      'a duplicate field',
      file('{"a":{"dtype":"F32","dtype":"F64","shape":[1],"data_offsets":[0,4]}}', 4),
      /"dtype" occurs twice/,
    ],
    ['a tensor that is no object', file({ a: 1 }, 0), /a must be an object/],
    [
      'an unknown field',
      file({ a: { dtype: 'F32', shape: [1], data_offsets: [0, 4], strides: [1] } }, 4),
      /unknown field "strides"/,
    ],
    ['no dtype', file({ a: { shape: [1], data_offsets: [0, 4] } }, 4), /unknown dtype/],
    ['an unknown dtype', file({ a: { dtype: 'F33', shape: [1], data_offsets: [0, 4] } }, 4), /unknown dtype "F33"/],
    [
      'a dtype of the prototype',
      file({ a: { dtype: 'constructor', shape: [1], data_offsets: [0, 4] } }, 4),
      /unknown dtype/,
    ],
    ['no shape', file({ a: { dtype: 'F32', data_offsets: [0, 4] } }, 4), /shape must list/],
    ['a negative size', file({ a: f32([-1], 0, 4) }, 4), /shape must list/],
    ['a fractional size', file({ a: f32([1.5], 0, 6) }, 6), /shape must list/],
    [
      'a size beyond 2^53',
      file('{"a":{"dtype":"F32","shape":[9007199254740993],"data_offsets":[0,4]}}', 4),
      /shape must list/,
    ],
    ['a size as text', file({ a: f32(['1'], 0, 4) }, 4), /shape must list/],
    ['too many dimensions', file({ a: f32([1, 1, 1, 1, 1, 1, 1, 1, 1], 0, 4) }, 4), /9 dimensions; at most 8/],
    ['a product that overflows', file({ a: f32([2 ** 40, 2 ** 40], 0, 4) }, 4), /more elements than can be counted/],
    [
      'a product that wraps to 4 bytes',
      file({ a: f32([2 ** 32, 2 ** 32], 0, 4) }, 4),
      /more elements than can be counted/,
    ],
    ['bytes that overflow', file({ a: f32([2 ** 52], 0, 4) }, 4), /more bytes than can be counted/],
    ['no offsets', file({ a: { dtype: 'F32', shape: [1] } }, 4), /data_offsets must be two/],
    ['one offset', file({ a: { dtype: 'F32', shape: [1], data_offsets: [0] } }, 4), /data_offsets must be two/],
    ['a negative offset', file({ a: f32([1], -4, 0) }, 4), /data_offsets must be two/],
    ['an end before the begin', file({ a: f32([1], 4, 0) }, 4), /ends \(0\) before it begins/],
    ["a length that is not the shape's", file({ a: f32([2], 0, 4) }, 4), /takes 8 bytes, but data_offsets span 4/],
    ['a truncated file', file({ a: f32([2], 0, 8) }, 7), /truncated/],
    ['data far beyond the file', file({ a: f32([2 ** 40], 0, 2 ** 42) }, 4), /truncated/],
    ['bytes at the end', file({ a: f32([1], 0, 4) }, 5), /1 bytes at the end belong to no tensor/],
    ['a gap', file({ a: f32([1], 0, 4), b: f32([1], 8, 12) }, 12), /4 bytes before b belong to no tensor/],
    ['a gap at the start', file({ a: f32([1], 4, 8) }, 8), /4 bytes before a/],
    ['tensors that overlap', file({ a: f32([2], 0, 8), b: f32([2], 4, 12) }, 12), /b overlaps/],
    ['the same bytes twice', file({ a: f32([1], 0, 4), b: f32([1], 0, 4) }, 4), /overlaps/],
    ['metadata that is no object', file({ __metadata__: 1 }, 0), /__metadata__ must be an object/],
    ['metadata that is no text', file({ __metadata__: { a: 1 } }, 0), /__metadata__\.a must be a string/],
    ['a number that overflows', file('{"a":1e999}', 0), /too large/],
    ['a control character in a name', file('{"a\u0001":1}', 0), /control character/],
  ];
  test.each(cases)('%s', (_name, bytes, reason) => {
    const error = errorOf(bytes);
    expect(error.code).toBe('FOVEA_FILE_FORMAT');
    expect(error.message).toContain('bad.safetensors');
    expect(error.message).toMatch(reason);
  });

  test('bytes that are not UTF-8 in a name', () => {
    const header = Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]);
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(header.length));
    expect(errorOf(Buffer.concat([length, header])).message).toContain('not valid UTF-8');
  });

  test('a missing file and a folder are errors that name them', () => {
    for (const path of [join(folder, 'none.safetensors'), folder]) {
      expect(() => loadFile(path)).toThrow(FoveaError);
      expect(() => loadFile(path)).toThrow(path);
    }
  });

  test('random damage gives a FoveaError or tensors, and nothing else', async () => {
    const path = join(folder, 'whole.safetensors');
    await saveFile({ a: arange(6).reshape([2, 3]), b: full([3], 1, { dtype: 'int64' }), c: full([0, 2], 0) }, path, {
      metadata: { format: 'pt' },
    });
    const whole = readFileSync(path);
    const damaged = join(folder, 'damaged.safetensors');
    const flip = fc.record({ at: fc.nat(whole.length - 1), bit: fc.nat(7) });
    fc.assert(
      fc.property(fc.array(flip, { maxLength: 4 }), fc.nat(whole.length), (flips, length) => {
        const bytes = Buffer.from(whole);
        for (const { at, bit } of flips) bytes[at]! ^= 1 << bit;
        writeFileSync(damaged, bytes.subarray(0, flips.length > 0 ? whole.length : length));
        try {
          for (const x of Object.values(loadFile(damaged))) x.dispose();
        } catch (error) {
          expect(error).toBeInstanceOf(FoveaError);
          expect((error as FoveaError).message).toContain('damaged.safetensors');
        }
      }),
      { numRuns: 500 },
    );
  });
});

describe('reading', () => {
  test('every dtype, in and out', async () => {
    const path = join(folder, 'dtypes.safetensors');
    const dtypes: Dtype[] = ['float32', 'float64', 'float16', 'bfloat16', 'int32', 'int64', 'uint8', 'int8', 'bool'];
    const values = tensor([
      [0, 1, 2],
      [3, 4, 5],
    ]);
    await saveFile(Object.fromEntries(dtypes.map((dtype) => [dtype, values.to(dtype)])), path);
    for (const mmap of [true, false]) {
      const read = loadFile(path, { mmap });
      for (const dtype of dtypes) {
        expect(read[dtype]!.dtype).toBe(dtype);
        expect([...read[dtype]!.shape]).toEqual([2, 3]);
        expect(await read[dtype]!.data({ as: 'float32' })).toEqual(await values.to(dtype).data({ as: 'float32' }));
      }
    }
  });

  test('scalars, empty tensors, views and odd names', async () => {
    const path = join(folder, 'odd.safetensors');
    const tensors = {
      scalar: tensor(7),
      empty: full([0, 3], 0),
      'ünï "quoted"\n': arange(6).reshape([2, 3]).t(),
      __proto__x: arange(2),
    };
    await saveFile(tensors, path);
    const read = loadFile(path);
    expect(Object.keys(read).sort()).toEqual(Object.keys(tensors).sort());
    expect(await read['scalar']!.item()).toBe(7);
    expect([...read['empty']!.shape]).toEqual([0, 3]);
    expect([...(await read['ünï "quoted"\n']!.data({ as: 'int32' }))]).toEqual([0, 3, 1, 4, 2, 5]);
  });

  test('misaligned data is read right', async () => {
    const path = join(folder, 'odd-offset.safetensors');
    const header = JSON.stringify({ a: { dtype: 'U8', shape: [1], data_offsets: [0, 1] }, b: f32([2], 1, 9) });
    const bytes = file(header, 9);
    bytes.writeFloatLE(1.5, bytes.length - 8);
    bytes.writeFloatLE(-2.5, bytes.length - 4);
    writeFileSync(path, bytes);
    expect([...(await loadFile(path)['b']!.data())]).toEqual([1.5, -2.5]);
  });

  test('dtypes of the format that fovea lacks are named when they are read', () => {
    const path = join(folder, 'f8.safetensors');
    writeFileSync(path, file({ a: { dtype: 'F8_E4M3', shape: [2], data_offsets: [0, 2] } }, 2));
    using opened = SafetensorsFile.open(path);
    expect(opened.keys()).toEqual(['a']);
    expect(() => opened.get('a')).toThrow(/F8_E4M3/);
    expect(() => opened.get('b')).toThrow(/holds no tensor "b"/);
  });

  test('a mapped tensor outlives its file object and its name', async () => {
    const path = join(folder, 'gone.safetensors');
    await saveFile({ a: arange(1000) }, path, { metadata: { format: 'pt' } });
    const opened = SafetensorsFile.open(path);
    expect({ ...opened.metadata }).toEqual({ format: 'pt' });
    const a = opened.get('a');
    opened.close();
    rmSync(path);
    expect(await a.sum().item()).toBe(499500);
    expect(memory().mapped).toBeGreaterThan(0);
    expect(() => opened.get('a')).toThrow(/was closed/);
  });
});

/** The slow tier kills often enough to hit every moment of a save. */
const kills = process.env['FOVEA_TIER'] === 'full' ? 200 : 8;

describe('saving', () => {
  test('replaces a file under a link-free path and leaves no temporary file', async () => {
    const place = join(folder, 'atomic');
    mkdirSync(place);
    const path = join(place, 'x.safetensors');
    await saveFile({ a: full([4], 1) }, path);
    const old = loadFile(path)['a']!;
    await saveFile({ a: full([4], 2) }, path);
    expect([...(await old.data())]).toEqual([1, 1, 1, 1]);
    expect([...(await loadFile(path)['a']!.data())]).toEqual([2, 2, 2, 2]);
    expect(readdirSync(place)).toEqual(['x.safetensors']);
  });

  test('a failure names path and reason and keeps the old file', async () => {
    const path = join(folder, 'kept.safetensors');
    await saveFile({ a: full([4], 1) }, path);
    await expect(saveFile({ a: full([4], 2) }, path, { signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: 'FOVEA_ABORTED',
    });
    expect([...(await loadFile(path)['a']!.data())]).toEqual([1, 1, 1, 1]);
    const nowhere = join(path, 'inside-a-file.safetensors');
    await expect(saveFile({ a: full([1], 1) }, nowhere)).rejects.toMatchObject({
      code: 'FOVEA_IO',
      message: expect.stringContaining(nowhere),
    });
    expect(readdirSync(folder).filter((name) => name.endsWith('.tmp'))).toEqual([]);
  });

  test('a process killed while it saves leaves the old file or the new one', { timeout: 600_000 }, async () => {
    const path = join(folder, 'killed.safetensors');
    await saveFile({ a: full([200_000], 0) }, path);
    const script = `
      import { full } from 'fovea';
      import { saveFile } from 'fovea/io';
      console.log('ready');
      for (let i = 1; ; i++) await saveFile({ a: full([200_000], i) }, ${JSON.stringify(path)});`;
    for (let run = 0; run < kills; run++) {
      const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
        stdio: ['ignore', 'pipe', 'inherit'],
        cwd: join(import.meta.dirname, '../..'),
      });
      await new Promise((resolve) => child.stdout.once('data', resolve));
      await sleep(Math.random() * 60);
      child.kill('SIGKILL');
      await new Promise((resolve) => child.once('exit', resolve));
      const values = await loadFile(path)['a']!.data();
      expect(values.every((value) => value === values[0])).toBe(true);
    }
  });

  test('the name __metadata__ is refused', async () => {
    await expect(saveFile({ __metadata__: full([1], 0) }, join(folder, 'm.safetensors'))).rejects.toMatchObject({
      code: 'FOVEA_ARGUMENT',
    });
  });
});
