/** y = activation(x weightᵀ + bias), for weights of floats and for quantised ones. */
import { record, wantsGradient } from '../autograd/node.js';
import { optionsArg, shapeError } from '../tensor/check.js';
import { sizeOf } from '../tensor/layout.js';
import { slotOf, viewOf, type Tensor } from '../tensor/tensor.js';
import { lowered, toLowered } from './autocast.js';
import { sumOver } from './broadcast.js';
import { kernels } from './kernels.gen.js';
import { fusedArg, matmulOp, swapped, type ActivationOptions, type Fused } from './matmul.js';
import { packedWeight } from './packed-weights.js';
import { resultType } from './promote.js';
import { quantizedLinear, QuantizedTensor } from './quantized.js';
import { reshape } from './shape.js';

/**
 * y = activation(x weight^T + bias), over the last axis of `x`, in one kernel. Where a gradient will be wanted the
 * activation is an op of its own, since backward needs what it was applied to; 16-bit results are then rounded before
 * it, too. With a quantised weight it is `quantizedLinear`, and the activation always an op of its own.
 *
 * @param x [..., k]; floats, int32 or int64
 * @param weight [n, k]
 * @param bias [n]
 * @returns [..., n], in the dtype that all three promote to; of a quantised weight, in that of `x`
 * @throws FOVEA_SHAPE if the sizes do not fit, FOVEA_DTYPE for bool, int8 and uint8, FOVEA_ARGUMENT for an activation
 *   that is not known, or of integers
 */
export function linear(
  x: Tensor,
  weight: Tensor | QuantizedTensor,
  bias?: Tensor | null,
  options?: ActivationOptions,
): Tensor {
  const { shape, dtype } = slotOf(x, 'linear', 'x');
  if (weight instanceof QuantizedTensor) {
    const after = fusedArg('linear', optionsArg('linear', options, ['activation']).activation, dtype);
    const y = quantizedLinear(x, weight, bias);
    return after ? after.apply(y) : y;
  }
  const w = slotOf(weight, 'linear', 'weight').shape;
  if (bias) slotOf(bias, 'linear', 'bias');
  if (shape.length === 0 || w.length !== 2 || shape.at(-1) !== w[1])
    throw shapeError(
      'linear',
      `x [${shape.join(',')}] needs a weight [n,${shape.at(-1) ?? 1}], received [${w.join(',')}]`,
    );
  if (bias && (bias.rank !== 1 || bias.shape[0] !== w[0]))
    throw shapeError(
      'linear',
      `the weight [${w.join(',')}] needs a bias [${w[0]}], received [${bias.shape.join(',')}]`,
    );
  const code = lowered(resultType(bias ? [x, weight, bias] : [x, weight]));
  const { activation } = optionsArg('linear', options, ['activation']);
  const fused = fusedArg('linear', activation, code);
  const rows = reshape(toLowered(x, code), [sizeOf(shape.slice(0, -1)), w[1]!]);
  const y = linearRows(rows, toLowered(weight, code), bias ? toLowered(bias, code) : undefined, fused);
  return shape.length === 2 ? y : reshape(y, [...shape.slice(0, -1), w[0]!]);
}

/** dW comes out as [n, k], as the weight lies in memory: through a transposed view it would need a copy. */
function linearRows(x: Tensor, weight: Tensor, bias: Tensor | undefined, fused: Fused | undefined): Tensor {
  const [n, k] = weight.shape as [number, number];
  const [sn, sk] = weight.strides as [number, number];
  const b = viewOf(weight, [k, n], [sk, sn]);
  const row = bias && viewOf(bias, [1, n], [0, bias.strides[0]!]);
  const composed = fused !== undefined && [x, weight, bias].some(wantsGradient);
  const packed = [x, weight].some(wantsGradient) ? undefined : packedWeight(weight, b, x.shape[0]!);
  const { c } = kernels.matmul({ a: x, b, bias: row, packed }, { activation: composed ? undefined : fused?.code });
  b.dispose();
  row?.dispose();
  const wanted = [x, weight, bias].map((t) => t?.tracked === true);
  const gradient = (dy: Tensor, [sx, sw]: readonly (Tensor | undefined)[]): (Tensor | undefined)[] => [
    wanted[0] ? matmulOp({ a: dy, b: sw! }).c : undefined,
    wanted[1] ? matmulOp({ a: swapped(dy), b: sx! }).c : undefined,
    wanted[2] ? sumOver(dy, [0]) : undefined,
  ];
  const saved = [wanted[1] ? x : undefined, wanted[0] ? weight : undefined];
  const y = record('linear', [x, weight, bias], c, gradient, saved);
  return composed ? fused.apply(y) : y;
}
