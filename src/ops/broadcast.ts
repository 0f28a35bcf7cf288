/** Repeating along axes of size 1, and its gradient: summing along them. */
import { argumentError, shapeError } from '../tensor/check.js';
import { broadcastShapes, range, sameShape, sizeOf, type Shape } from '../tensor/layout.js';
import { slotOf, viewOf, type Tensor } from '../tensor/tensor.js';
import { record } from '../autograd/node.js';
import { defineOp } from './define-op.js';
import { permute, reshape } from './shape.js';

/**
 * A view with axes of size 1 repeated to the sizes of `shape` (stride 0, no copy), and new axes in front.
 *
 * @param shape sizes; -1 keeps the axis as it is
 * @returns a view of that shape; ops in place refuse one whose elements repeat
 * @throws FOVEA_SHAPE if an axis is neither 1 nor of the size asked for, FOVEA_ARGUMENT for what is no list of sizes
 */
export function expand(x: Tensor, shape: Shape): Tensor {
  const { shape: before, strides } = slotOf(x, 'expand', 'x');
  if (!Array.isArray(shape)) throw argumentError('expand', 'shape', 'a list of sizes', shape);
  const pad = shape.length - before.length;
  const after = (shape as readonly number[]).map((n, i) => {
    if (typeof n !== 'number' || !Number.isSafeInteger(n) || n < -1)
      throw argumentError('expand', 'shape', 'sizes of at least 0, or -1', shape);
    return n === -1 && i >= pad ? before[i - pad]! : n;
  });
  if (pad < 0 || !before.every((n, i) => n === 1 || n === after[pad + i]))
    throw shapeError(
      'expand',
      `[${before.join(',')}] cannot be repeated to [${shape.join(',')}]; only axes of size 1 repeat`,
    );
  if (sameShape(before, after)) return x;
  const steps = after.map((n, i) => (i < pad || before[i - pad] !== n ? 0 : strides[i - pad]!));
  return record('expand', [x], viewOf(x, after, steps), (dy) => [sumTo(dy, before)]);
}

/**
 * A view of `x` expanded to the shape of `other`; see `expand`.
 *
 * @returns a view of the shape of `other`
 * @throws FOVEA_SHAPE if an axis of `x` is neither 1 nor of the size of the other's
 */
export function expandAs(x: Tensor, other: Tensor): Tensor {
  slotOf(x, 'expandAs', 'x');
  return expand(x, slotOf(other, 'expandAs', 'other').shape);
}

/**
 * Checks, for an op composed of others, that the shapes of its operands broadcast; numbers fit everything.
 *
 * @throws FOVEA_SHAPE if they do not
 */
export function broadcastArgs(op: string, operands: Readonly<Record<string, Tensor | number>>): void {
  let shape: Shape = [];
  for (const [name, operand] of Object.entries(operands)) {
    if (typeof operand === 'number') continue;
    const next = broadcastShapes(shape, slotOf(operand, op, name).shape);
    if (next === null) {
      const all = Object.entries(operands).flatMap(([n, t]) =>
        typeof t === 'number' ? [] : [`${n} [${t.shape.join(',')}]`],
      );
      throw shapeError(op, `the operands do not broadcast: ${all.join(', ')}; sizes must be equal or 1`);
    }
    shape = next;
  }
}

/** y[...] = sum over r of x[..., r] */
const sumLast = defineOp({
  kernel: 'sum',
  saves: [],
  shapes: true,
  gradient: (_, { y: dy }, __, { x }) => ({ x: expand(reshape(dy, [...dy.shape, 1]), x) }),
});

/**
 * `x` with the given axes moved to the end and merged into one, as the kernels of reductions want them.
 *
 * @param axes counted from the front
 * @returns [...kept, product of the sizes of `axes`]; a copy where the layout allows no view
 */
export function reducedLast(x: Tensor, axes: readonly number[]): Tensor {
  const { shape } = x;
  const kept = range(shape.length).filter((a) => !axes.includes(a));
  if (axes.length === 0) return reshape(x, [...shape, 1]);
  const sorted = [...axes].sort((a, b) => a - b);
  const inPlace = sorted.every((a, i) => a === kept.length + i);
  const moved = inPlace ? x : permute(x, [...kept, ...sorted]);
  return axes.length === 1
    ? moved
    : reshape(moved, [...kept.map((a) => shape[a]!), sizeOf(sorted.map((a) => shape[a]!))]);
}

/**
 * The sum over the given axes (counted from the front), which go away.
 *
 * @returns the kept axes
 */
export function sumOver(x: Tensor, axes: readonly number[]): Tensor {
  return axes.length === 0 ? x : sumLast({ x: reducedLast(x, axes) }).y;
}

/**
 * The gradient of broadcasting: sums the axes along which `shape` was repeated.
 *
 * @param x of a shape that `shape` broadcasts to
 * @returns a tensor of `shape`
 */
export function sumTo(x: Tensor, shape: Shape): Tensor {
  const from = x.shape;
  if (sameShape(from, shape)) return x;
  const pad = from.length - shape.length;
  const axes: number[] = [];
  for (let i = 0; i < from.length; i++) if (i < pad || (shape[i - pad] === 1 && from[i] !== 1)) axes.push(i);
  return reshape(sumOver(x, axes), shape);
}
