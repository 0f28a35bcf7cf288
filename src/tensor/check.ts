/** Checks of arguments, and the one form that their errors have: op, argument, expected, received, remedy. */
import { FoveaError } from '../errors.js';
import { Code, isDtype, type Dtype } from './dtype.js';

/** How a value appears in an error message: short, and never its contents at length. @returns one line */
export function show(value: unknown): string {
  if (value === null) return 'null';
  if (typeof value === 'string')
    return `string ${JSON.stringify(value.length > 40 ? `${value.slice(0, 40)}…` : value)}`;
  if (typeof value === 'number' || typeof value === 'bigint' || typeof value === 'boolean') return String(value);
  if (Array.isArray(value)) {
    const flat = value.length <= 8 && value.every((v) => typeof v === 'number');
    return flat ? `[${value.join(',')}]` : `an array of ${value.length}`;
  }
  if (typeof value === 'object') {
    const name = (value as { constructor?: { name?: unknown } }).constructor?.name;
    return typeof name === 'string' && name ? `object ${name}` : 'object';
  }
  return typeof value;
}

/**
 * The error of an argument that has a wrong type or value.
 *
 * @param op the op that was called
 * @param expected what the argument must be, as it goes on from "expected"
 * @param remedy what to do, where that is not plain
 * @returns FOVEA_ARGUMENT
 */
export function argumentError(
  op: string,
  argument: string,
  expected: string,
  received: unknown,
  remedy = '',
): FoveaError {
  return new FoveaError(
    'FOVEA_ARGUMENT',
    `${op}: expected ${expected} for ${argument}, received ${show(received)}${remedy && `; ${remedy}`}`,
  );
}

/** The error of shapes that do not fit. @returns FOVEA_SHAPE */
export function shapeError(op: string, message: string): FoveaError {
  return new FoveaError('FOVEA_SHAPE', `${op}: ${message}`);
}

/** A whole number that is exact as a double. @returns it @throws FOVEA_ARGUMENT for anything else */
export function integerArg(op: string, argument: string, value: unknown): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value)) throw argumentError(op, argument, 'an integer', value);
  return value;
}

/** A whole number of at least `least`. @returns it @throws FOVEA_ARGUMENT for anything else */
export function countArg(op: string, argument: string, value: unknown, least = 0): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < least)
    throw argumentError(op, argument, `an integer of at least ${least}`, value);
  return value;
}

/** A number; NaN and infinities pass. @returns it @throws FOVEA_ARGUMENT for anything else */
export function numberArg(op: string, argument: string, value: unknown): number {
  if (typeof value !== 'number') throw argumentError(op, argument, 'a number', value);
  return value;
}

/** A probability in [0, 1]. @returns it @throws FOVEA_ARGUMENT for anything else */
export function probabilityArg(op: string, argument: string, value: unknown): number {
  if (typeof value !== 'number' || !(value >= 0 && value <= 1))
    throw argumentError(op, argument, 'a probability between 0 and 1', value);
  return value;
}

/** A dtype as its code. @returns the code @throws FOVEA_ARGUMENT for what is no dtype */
export function dtypeArg(op: string, value: unknown, argument = 'dtype'): number {
  if (!isDtype(value)) throw argumentError(op, argument, `one of ${Object.keys(Code).join(', ')}`, value);
  return Code[value];
}

/** A dtype option as its code, or what stands for it when left out. @throws FOVEA_ARGUMENT for what is no dtype */
export function dtypeOr(op: string, value: Dtype | undefined, otherwise: number): number {
  return value === undefined ? otherwise : dtypeArg(op, value);
}

/**
 * A dimension counted from the front: negative ones count from the end, as in PyTorch; a 0-d tensor has 0 and -1.
 *
 * @returns 0 to rank - 1
 * @throws FOVEA_ARGUMENT for a dimension that is not there
 */
export function dimArg(op: string, dim: unknown, rank: number, argument = 'dim'): number {
  const size = Math.max(rank, 1);
  if (typeof dim !== 'number' || !Number.isInteger(dim) || dim < -size || dim >= size)
    throw argumentError(op, argument, `a dimension from ${-size} to ${size - 1} of a tensor of rank ${rank}`, dim);
  return dim < 0 ? dim + size : dim;
}

/**
 * Several distinct dimensions, counted from the front; a single number stands for a list of one.
 *
 * @returns each from 0 to rank - 1
 * @throws FOVEA_ARGUMENT for dimensions that are not there or repeat
 */
export function dimsArg(op: string, dims: unknown, rank: number, argument = 'dim'): number[] {
  if (!Array.isArray(dims)) return [dimArg(op, dims, rank, argument)];
  const list = dims.map((dim: unknown) => dimArg(op, dim, rank, argument));
  if (new Set(list).size !== list.length) throw argumentError(op, argument, 'dimensions that do not repeat', dims);
  return list;
}

/** A shape: a list of at most 8 sizes. @returns it @throws FOVEA_ARGUMENT for anything else */
export function shapeArg(op: string, value: unknown, argument = 'shape'): readonly number[] {
  if (!Array.isArray(value)) throw argumentError(op, argument, 'a list of sizes such as [2, 3]', value);
  if (value.length > 8) throw argumentError(op, argument, 'at most 8 sizes', value);
  for (const size of value as unknown[])
    if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0)
      throw argumentError(op, argument, 'sizes that are whole numbers of at least 0', value);
  return value as number[];
}

/**
 * The options of an op: an object without keys that the op does not know, so that a misspelt option is no silent
 * default.
 *
 * @returns the options, or none as {}
 * @throws FOVEA_ARGUMENT for what is no object, or a key that is not known
 */
export function optionsArg<T extends object>(
  op: string,
  options: T | undefined,
  known: readonly (keyof T & string)[],
): T {
  if (options === undefined) return {} as T;
  if (options === null || typeof options !== 'object' || Array.isArray(options))
    throw argumentError(op, 'options', `an object with ${known.join(', ')}`, options);
  for (const key in options)
    if (!known.includes(key)) throw argumentError(op, 'options', `only ${known.join(', ')}`, key, 'check the spelling');
  return options;
}

/** Options to spread over defaults: one that is there but undefined is one that was left out. */
export function withoutUndefined<T extends object>(options: T): Partial<T> {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as Partial<T>;
}

/** Checks a function. @throws FOVEA_ARGUMENT for anything else */
export function functionArg(op: string, argument: string, value: unknown): void {
  if (typeof value !== 'function') throw argumentError(op, argument, 'a function', value);
}
