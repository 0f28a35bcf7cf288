/** Joining tensors, and repeating, padding and rolling them. */
import {
  argumentError,
  countArg,
  dimArg,
  dimsArg,
  integerArg,
  numberArg,
  optionsArg,
  shapeError,
} from '../tensor/check.js';
import { sizeOf, type Shape } from '../tensor/layout.js';
import { allocate } from '../tensor/storage.js';
import { slotOf, type Tensor } from '../tensor/tensor.js';
import { record } from '../autograd/node.js';
import { expand } from './broadcast.js';
import { castTo, clone } from './cast.js';
import { filled } from './creation.js';
import { kernels } from './kernels.gen.js';
import { resultType } from './promote.js';
import { narrow, reshape, slice, unsqueeze } from './shape.js';

function listArg(op: string, tensors: readonly Tensor[]): readonly Tensor[] {
  if (!Array.isArray(tensors) || tensors.length === 0)
    throw argumentError(op, 'tensors', 'a list of at least one Tensor', tensors);
  (tensors as readonly Tensor[]).forEach((x, i) => slotOf(x, op, `tensors[${i}]`));
  return tensors;
}

/**
 * The tensors one after the other along `dim`, as a copy in the dtype that all promote to.
 *
 * @param tensors at least one, of equal shapes but for `dim`
 * @returns the sum of their sizes along `dim`
 * @throws FOVEA_SHAPE unless all other axes agree, FOVEA_ARGUMENT for an empty list or a `dim` that is not there
 */
export function concat(tensors: readonly Tensor[], dim = 0): Tensor {
  const list = listArg('concat', tensors);
  const first = list[0]!.shape;
  const d = dimArg('concat', dim, first.length);
  if (first.length === 0) throw shapeError('concat', '0-d tensors have no axis to join along; use stack()');
  list.forEach((x, i) => {
    if (x.rank !== first.length || x.shape.some((n, a) => a !== d && n !== first[a]))
      throw shapeError(
        'concat',
        `tensors[${i}] [${x.shape.join(',')}] does not fit tensors[0] [${first.join(',')}] outside of axis ${d}`,
      );
  });
  const code = resultType(list);
  const parts = list.map((x) => castTo(x, code));
  const sizes = list.map((x) => x.shape[d]!);
  const shape = [...first];
  shape[d] = sizes.reduce((a, b) => a + b, 0);
  const out = allocate(shape, code, parts[0]!.slot!.device);
  let at = 0;
  parts.forEach((x, i) => {
    if (x.size > 0) {
      const window = slice(out, d, at, at + sizes[i]!);
      kernels.copy_({ y: window, x }, {});
      window.dispose();
    }
    at += sizes[i]!;
  });
  return record('concat', parts, out, (dy) => {
    let from = 0;
    return sizes.map((n) => slice(dy, d, from, (from += n)));
  });
}

/**
 * The tensors along a new axis `dim`, as a copy in the dtype that all promote to.
 *
 * @param tensors n of one shape, at least one
 * @returns [...before, n, ...behind]
 * @throws FOVEA_SHAPE if the shapes differ, FOVEA_ARGUMENT for an empty list or a `dim` beyond the rank
 */
export function stack(tensors: readonly Tensor[], dim = 0): Tensor {
  const list = listArg('stack', tensors);
  const { shape } = list[0]!;
  const d = dimArg('stack', dim, shape.length + 1);
  list.forEach((x, i) => {
    if (x.rank !== shape.length || x.shape.some((n, a) => n !== shape[a]))
      throw shapeError('stack', `tensors[${i}] [${x.shape.join(',')}] differs from tensors[0] [${shape.join(',')}]`);
  });
  return concat(
    list.map((x) => unsqueeze(x, d)),
    d,
  );
}

/** Options of `pad`. */
export interface PadOptions {
  /** What fills the margin; default 0. */
  value?: number;
}
/**
 * A copy with margins: [before, after] of the last axis, then of the one before it, and so on. Negative margins cut.
 *
 * @param padding an even number of whole numbers, at most two per axis
 * @returns each axis longer by its margins, the dtype of `x`
 * @throws FOVEA_ARGUMENT for an odd number of margins or too many, FOVEA_SHAPE for margins that cut more than there is
 */
export function pad(x: Tensor, padding: readonly number[], options?: PadOptions): Tensor {
  const { value = 0 } = optionsArg('pad', options, ['value']);
  const { shape, dtype } = slotOf(x, 'pad', 'x');
  if (!Array.isArray(padding) || padding.length % 2 || padding.length > 2 * shape.length)
    throw argumentError('pad', 'padding', `up to ${shape.length} pairs [before, after], last axis first`, padding);
  let inner = x;
  const after = [...shape];
  const start = shape.map(() => 0);
  for (let i = 0; i < padding.length; i += 2) {
    const d = shape.length - 1 - i / 2;
    const [before, behind] = [0, 1].map((side) => integerArg('pad', 'padding', padding[i + side])) as [number, number];
    after[d] = shape[d]! + before + behind;
    if (shape[d]! + before + behind < 0)
      throw shapeError('pad', `axis ${d} of [${shape.join(',')}] is too small to cut [${before},${behind}]`);
    inner = slice(inner, d, Math.max(0, -before), shape[d]! + Math.min(0, behind));
    start[d] = Math.max(0, before);
  }
  return placed(inner, after, start, numberArg('pad', 'value', value), dtype);
}
function placed(x: Tensor, shape: Shape, start: readonly number[], value: number, dtype: number): Tensor {
  const out = filled('pad', shape, value, dtype, x.slot!.device);
  const lengths = x.shape;
  const window = (whole: Tensor): Tensor => start.reduce((w, from, d) => narrow(w, d, from, lengths[d]!), whole);
  if (sizeOf(lengths) > 0) kernels.copy_({ y: window(out), x }, {});
  return record('pad', [x], out, (dy) => [window(dy)]);
}

/**
 * A copy with the elements moved on by `shifts` along `dims`; what falls off the end comes back at the start. Without
 * `dims`: flat.
 *
 * @returns the shape and dtype of `x`
 * @throws FOVEA_ARGUMENT unless there are as many shifts as dims, and the dims are there
 */
export function roll(x: Tensor, shifts: number | readonly number[], dims?: number | readonly number[]): Tensor {
  const { shape } = slotOf(x, 'roll', 'x');
  if (dims === undefined) {
    if (typeof shifts !== 'number') throw argumentError('roll', 'shifts', 'one number, or dims as well', shifts);
    return reshape(roll(reshape(x, [sizeOf(shape)]), shifts, 0), shape);
  }
  const along = dimsArg('roll', dims, shape.length, 'dims');
  const by = typeof shifts === 'number' ? [shifts] : shifts;
  if (!Array.isArray(by) || by.length !== along.length)
    throw argumentError('roll', 'shifts', `${along.length} numbers, as many as dims`, shifts);
  let y = x;
  along.forEach((d, i) => {
    const n = shape[d]!;
    const shift = n ? ((integerArg('roll', 'shifts', by[i]) % n) + n) % n : 0;
    if (shift) y = concat([slice(y, d, n - shift), slice(y, d, 0, n - shift)], d);
  });
  return y === x ? clone(x) : y;
}

/**
 * Copies of `x` beside each other: repeats[i] times along axis i; more repeats than axes add axes in front.
 *
 * @returns repeats[i] times the size of each axis
 * @throws FOVEA_ARGUMENT for fewer repeats than axes, or a negative one
 */
export function repeat(x: Tensor, repeats: readonly number[]): Tensor {
  const { shape } = slotOf(x, 'repeat', 'x');
  if (!Array.isArray(repeats) || repeats.length < shape.length)
    throw argumentError('repeat', 'repeats', `at least ${shape.length} counts`, repeats);
  repeats.forEach((n) => countArg('repeat', 'repeats', n));
  const padded = [...new Array<number>(repeats.length - shape.length).fill(1), ...shape];
  let y = reshape(x, padded);
  (repeats as readonly number[]).forEach((times, d) => {
    if (times === 1) return;
    const now = y.shape;
    const grown = expand(unsqueeze(y, d), [...now.slice(0, d), times, ...now.slice(d)]);
    y = reshape(grown, [...now.slice(0, d), times * now[d]!, ...now.slice(d + 1)]);
  });
  return y === x ? clone(x) : y;
}

/**
 * Every slice along `dim` `repeats` times, one after the other.
 *
 * @returns `repeats` times the size of axis `dim`
 * @throws FOVEA_ARGUMENT for a `dim` that is not there or a negative count
 */
export function repeatInterleave(x: Tensor, repeats: number, dim: number): Tensor {
  const { shape } = slotOf(x, 'repeatInterleave', 'x');
  const d = dimArg('repeatInterleave', dim, shape.length);
  countArg('repeatInterleave', 'repeats', repeats);
  const grown = expand(unsqueeze(x, d + 1), [...shape.slice(0, d + 1), repeats, ...shape.slice(d + 1)]);
  return reshape(grown, [...shape.slice(0, d), shape[d]! * repeats, ...shape.slice(d + 1)]);
}
