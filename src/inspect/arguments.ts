/** Checks of arguments that several functions of this room have. */
import { FoveaError } from '../errors.js';
import { Module } from '../nn/module.js';
import { argumentError, countArg, shapeError, show } from '../tensor/check.js';
import { isFloat } from '../tensor/dtype.js';
import { slotOf, type Tensor } from '../tensor/tensor.js';

function indexError(op: string, message: string): FoveaError {
  return new FoveaError('FOVEA_INDEX', `${op}: ${message}`);
}

/** An index of `size` things. @returns it @throws FOVEA_ARGUMENT for no whole number, FOVEA_INDEX outside */
export function indexArg(op: string, argument: string, value: unknown, size: number): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value)) throw argumentError(op, argument, 'an index', value);
  if (value < 0 || value >= size) throw indexError(op, `expected ${argument} from 0 to ${size - 1}, received ${value}`);
  return value;
}

/**
 * Numbers of heads.
 *
 * @param heads how many there are, where that is known
 * @returns them
 * @throws FOVEA_ARGUMENT for no list of whole numbers from 0, FOVEA_INDEX for heads that are not there
 */
export function headsArg(op: string, value: unknown, heads?: number): readonly number[] {
  if (!Array.isArray(value) || value.length === 0) throw argumentError(op, 'heads', 'a list such as [0, 2]', value);
  return value.map((head: unknown) =>
    heads === undefined ? countArg(op, 'heads', head) : indexArg(op, 'heads', head, heads),
  );
}

/** A range of rows, all by default. @returns [from, to] @throws FOVEA_ARGUMENT for no pair, FOVEA_INDEX outside */
export function rowsArg(op: string, value: unknown, rows: number): readonly [number, number] {
  if (value === undefined) return [0, rows];
  if (!Array.isArray(value) || value.length !== 2 || !value.every(Number.isSafeInteger))
    throw argumentError(op, 'rows', 'a pair [from, to]', value);
  const [from, to] = value as [number, number];
  if (from < 0 || to > rows || from >= to)
    throw indexError(op, `expected rows [from, to] with 0 <= from < to <= ${rows}, received ${show(value)}`);
  return [from, to];
}

/**
 * Attention weights: floats with at least `least` axes.
 *
 * @returns their shape
 * @throws FOVEA_ARGUMENT for what is no tensor, FOVEA_DTYPE for integers and bool, FOVEA_SHAPE for fewer axes
 */
export function weightsArg(op: string, weights: Tensor, least: number, argument = 'weights'): readonly number[] {
  const { dtype, shape } = slotOf(weights, op, argument);
  if (!isFloat(dtype))
    throw new FoveaError(
      'FOVEA_DTYPE',
      `${op}: expected floats for ${argument}, received ${weights.dtype}; pass the probabilities of attention`,
    );
  const axes = ['h', 'n', 'm'].slice(-least).join(',');
  if (shape.length < least) throw shapeError(op, `expected ${argument} [...,${axes}], received [${shape.join(',')}]`);
  return shape;
}

/** A module. @returns it @throws FOVEA_ARGUMENT for anything else */
export function moduleArg(op: string, value: unknown): Module {
  if (!(value instanceof Module)) throw argumentError(op, 'model', 'a Module', value);
  return value;
}

/**
 * The name of a module of `model`.
 *
 * @returns it
 * @throws FOVEA_ARGUMENT for a name that no module has, with those that end alike, else all that there are
 */
export function moduleNameArg(op: string, argument: string, value: unknown, names: readonly string[]): string {
  if (typeof value === 'string' && names.includes(value)) return value;
  const last = typeof value === 'string' ? value.split('.').at(-1)! : '';
  const alike = names.filter((name) => name.split('.').at(-1) === last);
  const list = (alike.length ? alike : names).filter(Boolean);
  const shown = list.length > 8 ? `${list.slice(0, 8).join(', ')}, …` : list.join(', ');
  throw argumentError(op, argument, 'the name of a module of the model', value, `there are ${shown}`);
}

/** Whether a module is another one, or lies below it. */
export function isWithin(name: string, outer: string): boolean {
  return outer === '' || name === outer || name.startsWith(`${outer}.`);
}
