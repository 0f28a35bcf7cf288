/**
 * The header of a safetensors file (https://github.com/huggingface/safetensors), checked before anything trusts it:
 *
 *   8 bytes   n, little-endian unsigned
 *   n bytes   JSON: { "__metadata__"?: { string: string },
 *             "<name>": { "dtype", "shape", "data_offsets": [begin, end] }, … }
 *   the rest  the tensors' bytes; offsets count from here, leave no gap, do not overlap and end where the file ends
 */
import { FoveaError } from '../errors.js';
import { parseJsonBytes } from './files.js';
import { isJsonObject, type JsonValue } from './strict-json.js';

/** Bits per element of every dtype of the format; fovea reads those of {@link toFoveaDtype}. */
const bitsOf: ReadonlyMap<string, number> = new Map([
  ['F64', 64],
  ['F32', 32],
  ['F16', 16],
  ['BF16', 16],
  ['F8_E4M3', 8],
  ['F8_E5M2', 8],
  ['F8_E8M0', 8],
  ['I64', 64],
  ['I32', 32],
  ['I16', 16],
  ['I8', 8],
  ['U64', 64],
  ['U32', 32],
  ['U16', 16],
  ['U8', 8],
  ['BOOL', 8],
]);

const maxHeaderBytes = 100_000_000;
const maxRank = 8;
const lengthBytes = 8;

/** One tensor of a file. */
export interface SafetensorsEntry {
  /** The format's own name, such as `F32`. */
  dtype: string;
  /** Outermost first. */
  shape: number[];
  /** Bytes from the start of the file. */
  offset: number;
  /** Bytes of all its elements. */
  byteLength: number;
}

/** What the header of a safetensors file says (https://github.com/huggingface/safetensors). */
export interface SafetensorsHeader {
  /** The strings under `__metadata__`. */
  metadata: Record<string, string>;
  /** In the order of their bytes. */
  entries: Map<string, SafetensorsEntry>;
}

type Fail = (reason: string) => FoveaError;

function isCount(value: JsonValue | undefined): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 && !Object.is(value, -0);
}

function readMetadata(value: JsonValue, fail: Fail): Record<string, string> {
  if (!isJsonObject(value)) throw fail('__metadata__ must be an object of strings');
  for (const key in value) {
    if (typeof value[key] !== 'string') throw fail(`__metadata__.${key} must be a string`);
  }
  return value as Record<string, string>;
}

/** The product of a shape, refusing one that numbers cannot hold exactly. */
function countElements(name: string, shape: readonly number[], fail: Fail): number {
  // A zero makes the tensor empty whatever the other sizes are, also where their product would overflow.
  if (shape.includes(0)) return 0;
  let count = 1;
  for (const size of shape) {
    count *= size;
    if (!Number.isSafeInteger(count)) throw fail(`${name}: the shape [${shape}] has more elements than can be counted`);
  }
  return count;
}

function readEntry(name: string, value: JsonValue, dataStart: number, fail: Fail): SafetensorsEntry {
  if (!isJsonObject(value)) throw fail(`${name} must be an object`);
  const unknown = Object.keys(value).find((key) => !['dtype', 'shape', 'data_offsets'].includes(key));
  if (unknown !== undefined) throw fail(`${name} has the unknown field ${JSON.stringify(unknown)}`);
  const { dtype, shape, data_offsets: offsets } = value;
  const bits = typeof dtype === 'string' ? bitsOf.get(dtype) : undefined;
  if (typeof dtype !== 'string' || bits === undefined)
    throw fail(`${name} has the unknown dtype ${JSON.stringify(dtype)}`);
  if (!Array.isArray(shape) || !shape.every(isCount))
    throw fail(`${name}: shape must list whole numbers from 0 to 2^53`);
  if (shape.length > maxRank) throw fail(`${name} has ${shape.length} dimensions; at most ${maxRank} are supported`);
  if (!Array.isArray(offsets) || offsets.length !== 2) throw fail(`${name}: data_offsets must be two whole numbers`);
  const [begin, end] = offsets;
  if (!isCount(begin) || !isCount(end)) throw fail(`${name}: data_offsets must be two whole numbers from 0 to 2^53`);
  if (end < begin) throw fail(`${name} ends (${end}) before it begins (${begin})`);
  const bytes = (countElements(name, shape, fail) * bits) / 8;
  if (!Number.isSafeInteger(bytes)) throw fail(`${name}: the shape [${shape}] has more bytes than can be counted`);
  if (end - begin !== bytes)
    throw fail(`${name}: [${shape}] of ${dtype} takes ${bytes} bytes, but data_offsets span ${end - begin}`);
  return { dtype, shape, offset: dataStart + begin, byteLength: bytes };
}

/** Every byte after the header must belong to exactly one tensor. */
function checkCover(
  entries: readonly [string, SafetensorsEntry][],
  dataStart: number,
  fileBytes: number,
  fail: Fail,
): void {
  let next = dataStart;
  for (const [name, { offset, byteLength }] of entries) {
    if (offset < next) throw fail(`${name} overlaps the tensor before it`);
    if (offset > next) throw fail(`${offset - next} bytes before ${name} belong to no tensor`);
    next += byteLength;
  }
  if (next > fileBytes) throw fail(`the file is truncated: its tensors need ${next} bytes, but it has ${fileBytes}`);
  if (next < fileBytes) throw fail(`${fileBytes - next} bytes at the end belong to no tensor`);
}

/**
 * Reads and checks a header.
 *
 * @param path the file's name, for errors
 * @param fileBytes its length
 * @param read gives `length` bytes from `offset`; it is asked only for bytes that the file has
 * @throws FOVEA_FILE_FORMAT naming the file and what is wrong
 */
export function parseSafetensorsHeader(
  path: string,
  fileBytes: number,
  read: (offset: number, length: number) => Uint8Array,
): SafetensorsHeader {
  const fail: Fail = (reason) => new FoveaError('FOVEA_FILE_FORMAT', `safetensors: ${path}: ${reason}`);
  if (fileBytes < lengthBytes) throw fail(`the file has ${fileBytes} bytes, less than the length of its header takes`);
  const prefix = read(0, lengthBytes);
  const declared = new DataView(prefix.buffer, prefix.byteOffset, lengthBytes).getBigUint64(0, true);
  if (declared > BigInt(maxHeaderBytes))
    throw fail(`the header claims ${declared} bytes; at most ${maxHeaderBytes} are accepted`);
  const headerBytes = Number(declared);
  const dataStart = lengthBytes + headerBytes;
  if (dataStart > fileBytes) throw fail(`the header claims ${headerBytes} bytes, but the file has ${fileBytes}`);
  const text = read(lengthBytes, headerBytes);
  if (text[0] !== 0x7b) throw fail('the header must begin with "{"');
  const header = parseJsonBytes(text, `the header of ${path}`);
  if (!isJsonObject(header)) throw fail('the header must be a JSON object');

  let metadata: Record<string, string> = Object.create(null) as Record<string, string>;
  const entries: [string, SafetensorsEntry][] = [];
  for (const name in header) {
    const value = header[name] as JsonValue;
    if (name === '__metadata__') metadata = readMetadata(value, fail);
    else entries.push([name, readEntry(name, value, dataStart, fail)]);
  }
  // Empty tensors share an offset with their successor and come first.
  entries.sort(([, a], [, b]) => a.offset - b.offset || a.byteLength - b.byteLength);
  checkCover(entries, dataStart, fileBytes, fail);
  return { metadata, entries: new Map(entries) };
}
