/**
 * The state of a run as JSON and tensors: objects nest as they are, tensors go to a safetensors file under the path at
 * which they were found, and `{ "$tensor": path }` stands for them. Numbers that JSON lacks are `{ "$number": "NaN" }`
 * and the like, so that what is loaded is what was saved, to the bit.
 */
import { FoveaError } from '../errors.js';
import { isJsonObject, type JsonObject, type JsonValue } from '../io/strict-json.js';
import { argumentError } from '../tensor/check.js';
import { isTensor, type Tensor } from '../tensor/tensor.js';

/** A state in two parts. */
export interface PackedState {
  /** With references to the tensors. */
  json: JsonValue;
  /** By path; a tensor that is there several times is kept once. */
  tensors: Record<string, Tensor>;
}

class Packer {
  readonly tensors = new Map<Tensor, string>();

  pack(value: unknown, path: string): JsonValue {
    if (value === null || typeof value === 'string' || typeof value === 'boolean') return value;
    if (typeof value === 'number') return packNumber(value);
    if (typeof value === 'bigint') return { $bigint: String(value) };
    if (isTensor(value)) return { $tensor: this.#keyOf(value, path) };
    if (Array.isArray(value)) return value.map((item: unknown, i) => this.pack(item, `${path}.${i}`));
    if (typeof value === 'object' && isPlain(value)) return this.#packObject(value, path);
    const expected = 'plain data and tensors';
    throw argumentError('Trainer.save', path, expected, value, 'what stateDict() gives must fit into a file');
  }

  #packObject(value: object, path: string): JsonObject {
    const packed: JsonObject = {};
    for (const [key, item] of Object.entries(value) as [string, unknown][]) {
      if (key.startsWith('$'))
        throw argumentError('Trainer.save', `a key of ${path}`, 'one that does not begin with $', key);
      if (item !== undefined) packed[key] = this.pack(item, `${path}.${key}`);
    }
    return packed;
  }

  #keyOf(tensor: Tensor, path: string): string {
    const known = this.tensors.get(tensor);
    if (known !== undefined) return known;
    this.tensors.set(tensor, path);
    return path;
  }
}

function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

function packNumber(value: number): JsonValue {
  if (Number.isFinite(value) && !Object.is(value, -0)) return value;
  return { $number: Object.is(value, -0) ? '-0' : String(value) };
}

/**
 * Takes a state apart.
 *
 * @param name begins the paths of tensors
 * @throws FOVEA_ARGUMENT naming the place of what is neither plain data nor a tensor
 */
export function packState(state: unknown, name: string): PackedState {
  const packer = new Packer();
  const json = packer.pack(state, name);
  return { json, tensors: Object.fromEntries([...packer.tensors].map(([tensor, path]) => [path, tensor])) };
}

/**
 * Puts a state together again.
 *
 * @param tensors by path
 * @throws FOVEA_FILE_FORMAT for a tensor that is not there
 */
export function unpackState(json: JsonValue, tensors: Readonly<Record<string, Tensor>>): unknown {
  if (Array.isArray(json)) return json.map((item) => unpackState(item, tensors));
  if (!isJsonObject(json)) return json;
  const { $tensor: path, $number: number, $bigint: integer } = json;
  if (typeof path === 'string') {
    const tensor = tensors[path];
    if (tensor === undefined)
      throw new FoveaError('FOVEA_FILE_FORMAT', `Trainer.resume: the checkpoint lacks the tensor ${path}`);
    return tensor;
  }
  if (typeof number === 'string') return Number(number);
  if (typeof integer === 'string') return BigInt(integer);
  return Object.fromEntries(Object.entries(json).map(([key, item]) => [key, unpackState(item, tensors)]));
}
