/** What counts as a list of numbers or items: arrays and typed arrays. */
import { argumentError } from '../../tensor/check.js';

/** Whether a value is an array or a typed array. */
export function isList(value: unknown): value is ArrayLike<unknown> {
  return Array.isArray(value) || (ArrayBuffer.isView(value) && !(value instanceof DataView));
}

/**
 * Checks a list.
 *
 * @param expected what it holds, as it goes on from "expected"
 * @throws FOVEA_ARGUMENT for anything else
 */
export function listArg(op: string, argument: string, value: unknown, expected: string): ArrayLike<unknown> {
  if (isList(value)) return value;
  throw argumentError(op, argument, expected, value);
}
