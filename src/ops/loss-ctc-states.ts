/**
 * What `ctcLoss` makes of its targets: the states of each sequence, as loss-ctc.ts describes them. For labels [n, s]
 * there are 2 s + 3: blanks at even places and labels at odd ones up to 2 u, an end state at 2 u + 1, and states that
 * are never entered behind it.
 */
import { FoveaError } from '../errors.js';
import { argumentError, countArg, shapeError } from '../tensor/check.js';
import { Code, isFloat } from '../tensor/dtype.js';
import { isTensor, slotOf, type Tensor } from '../tensor/tensor.js';
import { castTo } from './cast.js';
import { eq, lt, ne } from './compare.js';
import { arange, filled, tensor } from './creation.js';
import { add, mul } from './elementwise.js';
import { indexSelect } from './indexing.js';
import { pad, stack } from './join.js';
import { where } from './select.js';
import { narrow, reshape, unsqueeze } from './shape.js';

const op = 'ctcLoss';

/** How long each sequence is: int64 [n], the numbers, or one number for one sequence. */
export type Lengths = Tensor | readonly number[] | number;

function integersOf(argument: string, x: Tensor): Tensor {
  const { dtype } = slotOf(x, op, argument);
  if (isFloat(dtype) || dtype === Code.bool)
    throw new FoveaError(
      'FOVEA_DTYPE',
      `${op}: expected integers for ${argument}, received ${x.dtype}; convert it with .to('int64')`,
    );
  return castTo(x, Code.int64);
}

/** The numbers of a list, each of at most `most`. @throws FOVEA_ARGUMENT for what is no list of n such numbers */
function lengthList(argument: string, lengths: readonly number[] | number, n: number, most: number): readonly number[] {
  const list = typeof lengths === 'number' ? [lengths] : lengths;
  if (!Array.isArray(list)) throw argumentError(op, argument, 'a Tensor or numbers', lengths);
  if (list.length !== n) throw argumentError(op, argument, `the lengths of ${n} sequences`, lengths);
  for (const length of list as readonly number[])
    if (countArg(op, argument, length) > most)
      throw argumentError(op, argument, `lengths of at most ${most}`, length, 'no sequence is longer than its row');
  return list as readonly number[];
}

/**
 * Lengths as a tensor. Those of a tensor are not read: where one is more than `most`, reads of what comes of it reject.
 *
 * @returns int64 [n]
 * @throws FOVEA_ARGUMENT for what is no list of n lengths up to `most`, FOVEA_SHAPE or FOVEA_DTYPE for such a tensor
 */
export function lengthsArg(argument: string, lengths: Lengths, n: number, most: number, like: Tensor): Tensor {
  const { device } = like;
  if (!isTensor(lengths)) return tensor([...lengthList(argument, lengths, n, most)], { dtype: 'int64', device });
  const given = integersOf(argument, lengths);
  if (given.size !== n || given.rank > 1)
    throw shapeError(op, `expected ${argument} [${n}], one for each sequence, received [${given.shape.join(',')}]`);
  return indexSelect(arange(most + 1, { device }), 0, reshape(given, [n]));
}

/** Labels in rows, and how many of each row are labels. */
export interface CtcTargets {
  /** int64 [n, s] */
  labels: Tensor;
  /** int64 [n] */
  lengths: Tensor;
}

/**
 * Targets [n, s], or [s] of one sequence, or of all sequences one after the other.
 *
 * @param n sequences; undefined: one, whose inputs have no axis for them
 * @throws FOVEA_SHAPE, FOVEA_DTYPE or FOVEA_ARGUMENT for what does not fit, or for lengths in a tensor that would
 *   have to be read
 */
export function targetsArg(targets: Tensor, lengths: Lengths, n: number | undefined, like: Tensor): CtcTargets {
  const given = integersOf('targets', targets);
  const { shape } = given;
  const count = n ?? 1;
  if (shape.length === 1 && n !== undefined) return joinedTargets(given, lengths, n, like);
  if (shape.length !== (n === undefined ? 1 : 2) || (n !== undefined && shape[0] !== n))
    throw shapeError(
      op,
      `expected targets ${n === undefined ? '[s]' : `[${n},s], or all of them in one row`}, received [${shape.join(',')}]`,
    );
  const most = shape.at(-1)!;
  return { labels: reshape(given, [count, most]), lengths: lengthsArg('targetLengths', lengths, count, most, like) };
}

function joinedTargets(targets: Tensor, lengths: Lengths, n: number, like: Tensor): CtcTargets {
  if (isTensor(lengths))
    throw argumentError(
      op,
      'targetLengths',
      'numbers beside targets in one row',
      lengths,
      'pass the lengths as an array, or the targets as [n,s]',
    );
  const { device } = like;
  const list = lengthList('targetLengths', lengths, n, targets.size);
  const total = list.reduce((a, b) => a + b, 0);
  if (total !== targets.size)
    throw shapeError(op, `targetLengths add up to ${total}, but targets have the shape [${targets.shape.join(',')}]`);
  const most = Math.max(0, ...list);
  const places: number[] = [];
  let start = 0;
  for (const length of list) {
    for (let i = 0; i < most; i++) places.push(i < length ? start + i : 0);
    start += length;
  }
  const rows = most === 0 ? targets : indexSelect(targets, 0, tensor(places, { dtype: 'int64', device }));
  return { labels: reshape(rows, [n, most]), lengths: tensor([...list], { dtype: 'int64', device }) };
}

/** The states of n sequences, p for each. */
export interface CtcStates {
  /** int64 [n, p]: the class that a state stands for; the blank behind the labels. */
  classes: Tensor;
  /** [n, p]: 0 where a state may be entered from two states before, -Infinity where not. */
  skips: Tensor;
  /** int64 [n, 1]: the place of the end state. */
  end: Tensor;
  /** [n, p]: 0 in the end state, -Infinity in all others. */
  atEnd: Tensor;
}

/** What stands between equal values: [n, s] becomes [n, 2 s + 1]. */
function between(x: Tensor, value: number): Tensor {
  const [n, s] = x.shape as [number, number];
  const others = filled(op, [n, s], value, x.slot!.dtype, x.slot!.device);
  return pad(reshape(stack([others, x], 2), [n, 2 * s]), [0, 1], { value });
}

/** 0 where true, -Infinity elsewhere: the logarithm. @param code of the dtype */
const logOf = (condition: Tensor, code: number): Tensor => castTo(where(condition, 0, -Infinity), code);

/** @param code of the dtype of logarithms */
export function ctcStates({ labels, lengths }: CtcTargets, blank: number, code: number): CtcStates {
  const { device } = labels;
  const [, s] = labels.shape as [number, number];
  const within = lt(arange(s, { device }), unsqueeze(lengths, 1));
  const classes = between(pad(where(within, labels, blank), [0, 1], { value: blank }), blank);
  // Behind the labels stands what is no class, so that the end may be entered from the last label.
  const marked = pad(where(within, labels, -1), [0, 1], { value: -1 });
  const differs = castTo(ne(narrow(marked, 1, 1, s), narrow(marked, 1, 0, s)), Code.int64);
  const skips = logOf(eq(between(pad(differs, [1, 0], { value: 1 }), 0), 1), code);
  const end = unsqueeze(add(mul(lengths, 2), 1), 1);
  return { classes, skips, end, atEnd: logOf(eq(arange(2 * s + 3, { device }), end), code) };
}
