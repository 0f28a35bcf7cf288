/**
 * What a DataLoader and its workers say to each other. Items and batches cross as structured clones; typed arrays are
 * copied once and moved, tensors cross as their values, masks as what they are made of. Both sides see the same, but
 * for classes of the user's own, of which the fields alone arrive, and Buffers, which arrive as Uint8Array.
 */
import { errorCodes, FoveaError, type FoveaErrorCode } from '../../errors.js';
import { tensor } from '../../ops/index.js';
import { Mask } from '../../ops/mask.js';
import type { MaskNode } from '../../ops/mask-node.js';
import type { Device } from '../../tensor/device.js';
import type { Dtype } from '../../tensor/dtype.js';
import { isTensor, type Tensor } from '../../tensor/tensor.js';
import type { BatchRequest, StreamBatches } from './batch-reader.js';
import type { StreamStart } from './stream.js';

/** Whether this thread is a worker of a DataLoader. */
export const thisThread: { isWorker: boolean } = { isWorker: false };

/** What a worker starts with. */
export interface WorkerStart {
  /** URL of the user's module. */
  module: string;
  /** Number of the worker, from 0, and how many there are. */
  worker: number;
  workers: number;
  /** The user's. */
  data: unknown;
  /** Set if the dataset is a stream. */
  stream: (StreamStart & StreamBatches) | undefined;
}

/** A batch to read; `id` comes back. */
export interface WorkerRequest extends BatchRequest {
  id: number;
}

/** An error as it crosses. */
export interface ErrorMessage {
  code: FoveaErrorCode;
  message: string;
  cause: string | undefined;
}

/** What a worker says. */
export type WorkerReply =
  | { type: 'ready'; length: number | undefined; collates: boolean }
  | { type: 'failed'; error: ErrorMessage }
  | { type: 'batch'; id: number; end: boolean; batch: Packed; position: unknown }
  | { type: 'error'; id: number; error: ErrorMessage };

/** A value that can be cloned. */
export interface Packed {
  value: unknown;
  /** Whether tensors or masks have to be made again. */
  made: boolean;
}

/** Stand for tensors and masks; the names are such that no data has by chance. */
const tensorKey = 'fovea:tensor';
const maskKey = 'fovea:mask';
interface PackedTensor {
  data: ArrayBufferView;
  shape: readonly number[];
  dtype: Dtype;
  device: Device;
}

function isPlain(value: object): value is Record<string, unknown> {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

const isObject = (value: unknown): value is object => typeof value === 'object' && value !== null;

/** A copy with memory of its own, which can be moved: the original is the user's, and may be a view of more. */
function copyOf(array: ArrayBufferView): ArrayBufferView {
  if (array instanceof DataView || array.buffer instanceof SharedArrayBuffer) return array;
  // The slice of a Buffer is a view.
  return Buffer.isBuffer(array) ? Uint8Array.from(array) : (array as Float32Array).slice();
}

/** Copies a value with what is inside of arrays and plain objects, so that it can be posted. */
class Packer {
  readonly transfer: ArrayBuffer[] = [];
  readonly reads: Promise<void>[] = [];
  /** Whether there is a mask. */
  masks = false;
  readonly #seen = new Map<object, unknown>();

  pack(value: unknown): unknown {
    if (!isObject(value)) return value;
    if (this.#seen.has(value)) return this.#seen.get(value);
    if (isTensor(value)) return this.#tensor(value);
    if (value instanceof Mask) return this.#mask(value);
    if (ArrayBuffer.isView(value)) return this.#remember(value, this.#moved(copyOf(value)));
    if (Array.isArray(value)) {
      if (!value.some(isObject)) return value;
      const copy: unknown[] = [];
      this.#seen.set(value, copy);
      for (const element of value as unknown[]) copy.push(this.pack(element));
      return copy;
    }
    if (!isPlain(value)) return value;
    // Without a prototype, '__proto__' is a key like any other.
    const copy = Object.create(null) as Record<string, unknown>;
    this.#seen.set(value, copy);
    for (const [key, element] of Object.entries(value)) copy[key] = this.pack(element);
    return copy;
  }

  #remember<T>(value: object, copy: T): T {
    this.#seen.set(value, copy);
    return copy;
  }

  #moved(array: ArrayBufferView): ArrayBufferView {
    if (array.buffer instanceof ArrayBuffer && !(array instanceof DataView)) this.transfer.push(array.buffer);
    return array;
  }

  #mask(mask: Mask): object {
    this.masks = true;
    return this.#remember(mask, { [maskKey]: this.pack(mask.node) });
  }

  #tensor(x: Tensor): object {
    const { shape, dtype, device } = x;
    const copy: { [tensorKey]?: PackedTensor } = {};
    const read = async (): Promise<void> => {
      copy[tensorKey] = { data: this.#moved(await x.data()), shape: [...shape], dtype, device };
    };
    this.reads.push(read());
    return this.#remember(x, copy);
  }
}

/** Makes a value ready for `postMessage`. */
export async function packValue(value: unknown): Promise<{ packed: Packed; transfer: ArrayBuffer[] }> {
  const packer = new Packer();
  const copy = packer.pack(value);
  await Promise.all(packer.reads);
  return { packed: { value: copy, made: packer.masks || packer.reads.length > 0 }, transfer: packer.transfer };
}

/** The value that was packed. */
export function unpackValue({ value, made }: Packed): unknown {
  return made ? remade(value, new Map()) : value;
}

function remade(value: unknown, seen: Map<object, unknown>): unknown {
  if (!isObject(value) || !(Array.isArray(value) || isPlain(value))) return value;
  if (seen.has(value)) return seen.get(value);
  if (Object.hasOwn(value, tensorKey)) {
    const { data, shape, dtype, device } = (value as { [tensorKey]: PackedTensor })[tensorKey];
    const x = tensor(data, { shape, dtype, device });
    seen.set(value, x);
    return x;
  }
  if (Object.hasOwn(value, maskKey)) {
    const mask = new Mask(remade((value as { [maskKey]: unknown })[maskKey], seen) as MaskNode);
    seen.set(value, mask);
    return mask;
  }
  seen.set(value, value);
  const fields = value as Record<string, unknown>;
  for (const [key, element] of Object.entries(fields)) {
    if (isObject(element)) fields[key] = remade(element, seen);
  }
  return value;
}

/** An error as a message. */
export function packError(error: unknown): ErrorMessage {
  const code = error instanceof FoveaError ? error.code : 'FOVEA_DATA';
  const cause = error instanceof Error ? (error.cause ?? error) : undefined;
  const trace = cause instanceof Error ? (cause.stack ?? cause.message) : undefined;
  return { code, message: error instanceof Error ? error.message : String(error), cause: trace };
}

/** The error that was packed; its cause is an Error with the stack of the worker. */
export function unpackError({ code, message, cause }: ErrorMessage): FoveaError {
  const known = Object.hasOwn(errorCodes, code) ? code : 'FOVEA_DATA';
  return new FoveaError(known, message, cause === undefined ? {} : { cause: inWorker(cause) });
}

function inWorker(stack: string): Error {
  const error = new Error(stack.split('\n')[0]);
  error.stack = stack;
  return error;
}
