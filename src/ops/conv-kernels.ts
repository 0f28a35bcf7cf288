/**
 * Convolution and its partners. Tap (i, j) of window (y, x) is at (y strideY + i dilationY - paddingY,
 * x strideX + j dilationX - paddingX) of the image, and 0 outside of it; groups of channels are apart.
 *
 *   conv           y[o] = Σ_(c,i,j) weight[o, c, i, j] x[c at tap (i, j)] + bias[o]
 *   convTranspose  y[c at tap (i, j)] += weight[o, c, i, j] x[o], + bias[c]
 *   convWeight     dweight[o, c, i, j] = Σ dy[o] x[c at tap (i, j)], over images and windows
 *
 * conv is linear in both operands, and so are the others: each has the other two as gradients, of any order. So are
 * unfold, which gives the taps of every window, and fold, which adds them up where they came from.
 */
import { accumulatorOf } from '../tensor/dtype.js';
import { sizeOf } from '../tensor/layout.js';
import type { Tensor } from '../tensor/tensor.js';
import { sumOver } from './broadcast.js';
import { defineOp, type DefinedOp } from './define-op.js';
import { castTo } from './cast.js';
import { add } from './elementwise.js';
import type { Kernels } from './kernels.gen.js';
import { matmulOp, swapped } from './matmul.js';
import { permute, reshape } from './shape.js';

type Attrs = Kernels['conv']['attrs'];
type Sizes = readonly number[];

/** What says where taps are: the same for an op and its gradients. */
function stepsOf(attrs: Attrs): Attrs {
  const { groups, strideY, strideX, dilationY, dilationX, paddingY, paddingX } = attrs;
  return { groups, strideY, strideX, dilationY, dilationX, paddingY, paddingX };
}
/** What the result of each needs, from the shape that it must have. */
const forWindows = (attrs: Attrs, [, , height, width]: Sizes): Attrs => ({ ...stepsOf(attrs), height, width });
const forImage = (attrs: Attrs, [, channels, height, width]: Sizes): Attrs => ({
  ...stepsOf(attrs),
  channels,
  height,
  width,
});
const forWeight = (attrs: Attrs, [, channels, kernelY, kernelX]: Sizes): Attrs => ({
  ...stepsOf(attrs),
  channels,
  kernelY,
  kernelX,
});

/** [b, c, h, w] -> [b, c, kernelY, kernelX, height, width] */
export const unfoldOp: DefinedOp<'unfold'> = defineOp({
  kernel: 'unfold',
  saves: [],
  shapes: true,
  gradient: (_, { columns }, attrs, { x }) => ({ x: foldOp({ columns }, forImage(attrs, x)).x }),
});
/** [b, c, i, j, p, q] -> [b, c, height, width] */
export const foldOp: DefinedOp<'fold'> = defineOp({
  kernel: 'fold',
  saves: [],
  shapes: true,
  gradient(_, { x }, attrs, { columns: [, , kernelY, kernelX, height, width] }) {
    return { columns: unfoldOp({ x }, { ...stepsOf(attrs), kernelY, kernelX, height, width }).columns };
  },
});

/** The taps of every window of a group as columns: [b, groups, channels · taps, windows]. */
function columnsOf(x: Tensor, attrs: Attrs, [kernelY, kernelX]: Sizes, [height, width]: Sizes): Tensor {
  const { groups = 1 } = attrs;
  const [b, c] = x.shape as [number, number];
  const { columns } = unfoldOp({ x }, { ...stepsOf(attrs), kernelY, kernelX, height, width });
  return reshape(columns, [b, groups, (c / groups) * kernelY! * kernelX!, height! * width!]);
}
/** A weight as one matrix for each group: [groups, outs, channels · taps]. */
const matricesOf = (weight: Tensor, groups: number): Tensor =>
  reshape(weight, [groups, weight.shape[0]! / groups, sizeOf(weight.shape.slice(1))]);
/** [b, o, p, q] -> [b, groups, o / groups, p · q] */
function windowsOf(x: Tensor, groups: number): Tensor {
  const [b, o, p, q] = x.shape as [number, number, number, number];
  return reshape(x, [b, groups, o / groups, p * q]);
}
/** [b, groups, rows, windows] -> [groups, rows, b · windows], so that one product sums over images, too. */
function besides(x: Tensor): Tensor {
  const [b, groups, rows, windows] = x.shape as [number, number, number, number];
  return reshape(permute(x, [1, 2, 0, 3]), [groups, rows, b * windows]);
}

/** Of two factors x and y, by their names, those that the gradient of the other needs. */
function saved<A extends string, B extends string>(a: A, b: B, x: Tensor, y: Tensor): readonly (A | B)[] {
  return [...(y.tracked ? [a] : []), ...(x.tracked ? [b] : [])];
}

/** y[b, o, height, width] */
export const convOp: DefinedOp<'conv'> = defineOp({
  kernel: 'conv',
  saves: ({ x, weight }) => saved('x', 'weight', x, weight),
  shapes: true,
  reference({ x, weight, bias }, attrs) {
    const { groups = 1, height = 0, width = 0 } = attrs;
    const outs = weight.shape[0]!;
    const columns = columnsOf(x, attrs, weight.shape.slice(2), [height, width]);
    // The product adds the bias before it rounds.
    const added = bias && reshape(bias, [groups, outs / groups, 1]);
    const { c } = matmulOp({ a: matricesOf(weight, groups), b: columns, bias: added });
    return { y: reshape(c, [x.shape[0]!, outs, height, width]) };
  },
  gradient({ x, weight }, { y: dy }, attrs, s, wants) {
    return {
      x: wants.x ? convTransposeOp({ x: dy, weight }, forImage(attrs, s.x)).y : undefined,
      weight: wants.weight ? convWeightOp({ x, dy }, forWeight(attrs, s.weight)).dweight : undefined,
      bias: wants.bias ? sumOver(dy, [0, 2, 3]) : undefined,
    };
  },
});

/** y[b, channels, height, width] */
export const convTransposeOp: DefinedOp<'convTranspose'> = defineOp({
  kernel: 'convTranspose',
  saves: ({ x, weight }) => saved('x', 'weight', x, weight),
  shapes: true,
  reference({ x, weight, bias }, attrs) {
    const { groups = 1 } = attrs;
    const [b, , p, q] = x.shape as [number, number, number, number];
    const [, each, i, j] = weight.shape as [number, number, number, number];
    // Products that fold adds up are not rounded to 16 bits one by one.
    const wide = accumulatorOf(x.slot!.dtype);
    const a = swapped(matricesOf(castTo(weight, wide), groups));
    const { c } = matmulOp({ a, b: windowsOf(castTo(x, wide), groups) });
    const folded = foldOp({ columns: reshape(c, [b, groups * each, i, j, p, q]) }, attrs).x;
    const y = bias ? add(folded, reshape(castTo(bias, wide), [bias.size, 1, 1])) : folded;
    return { y: castTo(y, x.slot!.dtype) };
  },
  gradient({ x, weight }, { y: dy }, attrs, s, wants) {
    return {
      x: wants.x ? convOp({ x: dy, weight }, forWindows(attrs, s.x)).y : undefined,
      weight: wants.weight ? convWeightOp({ x: dy, dy: x }, forWeight(attrs, s.weight)).dweight : undefined,
      bias: wants.bias ? sumOver(dy, [0, 2, 3]) : undefined,
    };
  },
});

/** dweight[o, channels, kernelY, kernelX] */
export const convWeightOp: DefinedOp<'convWeight'> = defineOp({
  kernel: 'convWeight',
  saves: ({ x, dy }) => saved('x', 'dy', x, dy),
  shapes: true,
  reference({ x, dy }, attrs) {
    const { groups = 1, channels = 0, kernelY = 1, kernelX = 1 } = attrs;
    const columns = columnsOf(x, attrs, [kernelY, kernelX], dy.shape.slice(2));
    const { c } = matmulOp({ a: besides(windowsOf(dy, groups)), b: swapped(besides(columns)) });
    return { dweight: reshape(c, [dy.shape[1]!, channels, kernelY, kernelX]) };
  },
  gradient({ x, dy }, { dweight: weight }, attrs, s, wants) {
    return {
      x: wants.x ? convTransposeOp({ x: dy, weight }, forImage(attrs, s.x)).y : undefined,
      dy: wants.dy ? convOp({ x, weight }, forWindows(attrs, s.dy)).y : undefined,
    };
  },
});
