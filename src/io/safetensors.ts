/** Reading and writing safetensors files: mapped into memory without copies, written atomically. */
import { native, scratch } from '../addon.js';
import { FoveaError } from '../errors.js';
import { Code, type Dtype, dtypeBytes, type HostArray } from '../tensor/dtype.js';
import { Slot } from '../tensor/slot.js';
import { argumentError, optionsArg } from '../tensor/check.js';
import { slotOf, Tensor } from '../tensor/tensor.js';
import { throwIfAborted, writeFileAtomic } from './files.js';
import { parseSafetensorsHeader, type SafetensorsEntry } from './safetensors-header.js';

const toFoveaDtype: ReadonlyMap<string, Dtype> = new Map([
  ['F32', 'float32'],
  ['F64', 'float64'],
  ['F16', 'float16'],
  ['BF16', 'bfloat16'],
  ['I32', 'int32'],
  ['I64', 'int64'],
  ['U8', 'uint8'],
  ['I8', 'int8'],
  ['BOOL', 'bool'],
]);
const fromFoveaDtype: ReadonlyMap<Dtype, string> = new Map([...toFoveaDtype].map(([name, dtype]) => [dtype, name]));

/** The order in which the format's own writer puts dtypes: larger elements first, so that all are aligned. */
const dtypeOrder: readonly Dtype[] = [
  'int64',
  'float64',
  'float32',
  'int32',
  'bfloat16',
  'float16',
  'int8',
  'uint8',
  'bool',
];

/** Options of {@link SafetensorsFile.open} and {@link loadFile}. */
export interface ReadOptions {
  /**
   * Tensors lie in the mapped file until something writes to them (default true). The file must then not be truncated
   * or overwritten in place while they live; `writeFileAtomic`, and so every save of fovea, replaces it instead. False
   * copies.
   */
  mmap?: boolean;
}

/** A safetensors file, open for reading. Its tensors outlive it. */
export class SafetensorsFile {
  /** As it was opened. */
  readonly path: string;
  /** The strings that the file holds beside its tensors. */
  readonly metadata: Readonly<Record<string, string>>;
  readonly #entries: ReadonlyMap<string, SafetensorsEntry>;
  readonly #mmap: boolean;
  #map: number | undefined;

  private constructor(path: string, mmap: boolean) {
    const [map, bytes] = native.mapFile(path);
    this.#map = map;
    this.path = path;
    this.#mmap = mmap;
    try {
      const header = parseSafetensorsHeader(
        path,
        bytes,
        (offset, length) => new Uint8Array(native.mapRead(map, offset, length)),
      );
      this.metadata = header.metadata;
      this.#entries = header.entries;
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /**
   * Opens a file and checks its whole header.
   *
   * @throws FOVEA_FILE_FORMAT naming the file and what is wrong with it
   */
  static open(path: string, options: ReadOptions = {}): SafetensorsFile {
    if (typeof path !== 'string') throw argumentError('safetensors', 'path', 'the path of a file', path);
    return new SafetensorsFile(path, optionsArg('safetensors', options, ['mmap']).mmap ?? true);
  }

  /** The tensors' names, in the order of their bytes. */
  keys(): string[] {
    return [...this.#entries.keys()];
  }

  /** Whether the file holds a tensor of that name. */
  has(name: string): boolean {
    return this.#entries.has(name);
  }

  /** Bytes of one tensor. */
  byteLength(name: string): number {
    return this.#entry(name).byteLength;
  }

  #entry(name: string): SafetensorsEntry {
    const entry = this.#entries.get(name);
    if (!entry)
      throw new FoveaError('FOVEA_ARGUMENT', `safetensors: ${this.path} holds no tensor ${JSON.stringify(name)}`);
    return entry;
  }

  /**
   * One tensor. A mapped one costs no memory until it is used.
   *
   * @throws FOVEA_ARGUMENT if there is none of that name, FOVEA_UNSUPPORTED for a dtype that fovea does not have
   */
  get(name: string): Tensor {
    const { dtype: stored, shape, offset } = this.#entry(name);
    if (this.#map === undefined) throw new FoveaError('FOVEA_DISPOSED', `safetensors: ${this.path} was closed`);
    const dtype = toFoveaDtype.get(stored);
    if (!dtype) {
      throw new FoveaError(
        'FOVEA_UNSUPPORTED',
        `safetensors: ${this.path}: ${name} has dtype ${stored}; supported are ${[...toFoveaDtype.keys()].join(', ')}`,
      );
    }
    // Kernels rely on a bool being 0 or 1, and a file may hold any byte: what is not 0 is true, as in PyTorch.
    const code = Code[dtype === 'bool' ? 'uint8' : dtype];
    const slot = new Slot(code);
    for (const [i, size] of shape.entries()) scratch[i] = size;
    slot.id = native.mapTensor(slot, this.#map, offset, code, shape.length);
    const mapped = new Tensor(slot);
    if (this.#mmap && dtype !== 'bool') return mapped;
    const copy = dtype === 'bool' ? mapped.to('bool') : mapped.clone();
    mapped.dispose();
    return copy;
  }

  /** Lets go of the file; tensors that were read stay valid. */
  close(): void {
    if (this.#map !== undefined) native.mapClose(this.#map);
    this.#map = undefined;
  }

  /** What `using` calls: `close()`. */
  [Symbol.dispose](): void {
    this.close();
  }
}

/**
 * All tensors of a file by name, each with the shape and dtype that the file says.
 *
 * @returns a record with a null prototype; tensors of a mapped file keep it mapped
 * @throws FOVEA_IO if it cannot be read, FOVEA_FILE_FORMAT if it is malformed
 */
export function loadFile(path: string, options: ReadOptions = {}): Record<string, Tensor> {
  const file = SafetensorsFile.open(path, options);
  try {
    const tensors = Object.create(null) as Record<string, Tensor>;
    for (const name of file.keys()) tensors[name] = file.get(name);
    return tensors;
  } finally {
    file.close();
  }
}

/** Options of {@link saveFile}. */
export interface SaveOptions {
  /** Strings kept beside the tensors; `format: 'pt'` is what Hugging Face's readers ask for. */
  metadata?: Readonly<Record<string, string>>;
  /** Cancels between tensors: nothing is left at the path but what was there. */
  signal?: AbortSignal;
}

function compareNames(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

/** The header as JSON, padded with spaces so that the tensors begin at a multiple of 8 bytes. */
function headerOf(tensors: readonly (readonly [string, Tensor])[], metadata: SaveOptions['metadata']): Buffer {
  let end = 0;
  const entries = tensors.map(([name, { dtype, shape, size }]) => {
    const begin = end;
    end += size * dtypeBytes[Code[dtype]]!;
    return `${JSON.stringify(name)}:${JSON.stringify({ dtype: fromFoveaDtype.get(dtype), shape, data_offsets: [begin, end] })}`;
  });
  if (metadata) entries.unshift(`"__metadata__":${JSON.stringify(metadata)}`);
  const json = Buffer.from(`{${entries.join(',')}}`);
  const padded = Buffer.alloc(Math.ceil(json.length / 8) * 8, ' ');
  json.copy(padded);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(padded.length));
  return Buffer.concat([length, padded]);
}

/**
 * Writes tensors to a file, atomically and one at a time, so that memory holds one copy of the largest. Dtypes and
 * names are ordered as Hugging Face's writer orders them: the same tensors give the same bytes.
 *
 * @throws FOVEA_IO naming the path and the system's error, with the old file intact; FOVEA_ABORTED
 */
export async function saveFile(
  tensors: Readonly<Record<string, Tensor>>,
  path: string,
  options: SaveOptions = {},
): Promise<void> {
  const { metadata, signal } = optionsArg('saveFile', options, ['metadata', 'signal']);
  if (tensors === null || typeof tensors !== 'object') throw argumentError('saveFile', 'tensors', 'an object', tensors);
  if (typeof path !== 'string') throw argumentError('saveFile', 'path', 'the path of a file', path);
  for (const [name, tensor] of Object.entries(tensors)) slotOf(tensor, 'saveFile', name);
  const order = (dtype: Dtype): number => dtypeOrder.indexOf(dtype);
  const sorted = Object.entries(tensors).sort(
    ([nameA, a], [nameB, b]) => order(a.dtype) - order(b.dtype) || compareNames(nameA, nameB),
  );
  if ('__metadata__' in tensors)
    throw new FoveaError(
      'FOVEA_ARGUMENT',
      'saveFile: no tensor can be named __metadata__; pass strings as { metadata }',
    );
  await writeFileAtomic(path, async (file) => {
    await file.writeFile(headerOf(sorted, metadata));
    for (const [, tensor] of sorted) {
      throwIfAborted(signal, 'saveFile');
      const { buffer, byteOffset, byteLength } = await tensor.data<HostArray>();
      await file.writeFile(new Uint8Array(buffer, byteOffset, byteLength));
    }
  });
}
