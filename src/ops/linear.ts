/** y = activation(x weightᵀ + bias) + residual, for weights of floats and for quantised ones. */
import { record, wantsGradient } from '../autograd/node.js';
import { optionsArg, shapeError } from '../tensor/check.js';
import { sameShape, sizeOf } from '../tensor/layout.js';
import { slotOf, viewOf, type Tensor } from '../tensor/tensor.js';
import { lowered, toLowered } from './autocast.js';
import { sumOver } from './broadcast.js';
import { add } from './elementwise.js';
import { kernels } from './kernels.gen.js';
import { fusedArg, matmulOp, swapped, type ActivationOptions, type Fused } from './matmul.js';
import { packedWeight } from './packed-weights.js';
import { resultType } from './promote.js';
import { quantizedLinear, QuantizedTensor } from './quantized.js';
import { reshape } from './shape.js';

/** Options of `linear`. */
export interface LinearOptions extends ActivationOptions {
  /** Added to the result, behind the activation: of the result's shape. Default none. */
  residual?: Tensor | null;
}

/** Rows of x, and what belongs to them, in one dtype. */
interface Operands {
  readonly x: Tensor;
  readonly weight: Tensor;
  readonly bias: Tensor | undefined;
  readonly residual: Tensor | undefined;
}

/**
 * y = activation(x weight^T + bias) + residual, over the last axis of `x`, in one kernel. Where a gradient through an
 * activation will be wanted it and the residual are ops of their own, since backward needs what it was applied to;
 * 16-bit results are then rounded between them, too. With a quantised weight it is `quantizedLinear`, and they always
 * are.
 *
 * @param x [..., k]; floats, int32 or int64
 * @param weight [n, k]
 * @param bias [n]
 * @returns [..., n], in the dtype that all four promote to, under `autocast` in its; of a quantised weight, without a
 *   residual, in that of `x`
 * @throws FOVEA_SHAPE if the sizes do not fit, FOVEA_DTYPE for bool, int8 and uint8, FOVEA_ARGUMENT for an activation
 *   that is not known, or of integers
 */
export function linear(
  x: Tensor,
  weight: Tensor | QuantizedTensor,
  bias?: Tensor | null,
  options?: LinearOptions,
): Tensor {
  const { shape, dtype } = slotOf(x, 'linear', 'x');
  const { activation, residual } = optionsArg('linear', options, ['activation', 'residual']);
  if (residual) slotOf(residual, 'linear', 'residual');
  if (weight instanceof QuantizedTensor) {
    const after = fusedArg('linear', activation, dtype);
    const y = quantizedLinear(x, weight, bias);
    if (residual) checkResidual(residual, y.shape);
    const activated = after ? after.apply(y) : y;
    return residual ? add(activated, residual) : activated;
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
  const result = [...shape.slice(0, -1), w[0]!];
  if (residual) checkResidual(residual, result);
  const code = lowered(resultType([x, weight, bias, residual].filter((t) => t !== undefined && t !== null)));
  const fused = fusedArg('linear', activation, code);
  const rows = sizeOf(shape.slice(0, -1));
  const operands = {
    x: reshape(toLowered(x, code), [rows, w[1]!]),
    weight: toLowered(weight, code),
    bias: bias ? toLowered(bias, code) : undefined,
    residual: residual ? reshape(toLowered(residual, code), [rows, w[0]!]) : undefined,
  };
  const y = linearRows(operands, fused);
  return shape.length === 2 ? y : reshape(y, result);
}

function checkResidual(residual: Tensor, shape: readonly number[]): void {
  if (sameShape(residual.shape, shape)) return;
  throw shapeError(
    'linear',
    `the result [${shape.join(',')}] needs a residual of its shape, received [${residual.shape.join(',')}]; expand() it`,
  );
}

/** dW comes out as [n, k], as the weight lies in memory: through a transposed view it would need a copy. */
function linearRows(operands: Operands, fused: Fused | undefined): Tensor {
  const { x, weight, bias } = operands;
  const [n, k] = weight.shape as [number, number];
  const [sn, sk] = weight.strides as [number, number];
  const b = viewOf(weight, [k, n], [sk, sn]);
  const row = bias && viewOf(bias, [1, n], [0, bias.strides[0]!]);
  const composed = fused !== undefined && [x, weight, bias].some(wantsGradient);
  const packed = [x, weight].some(wantsGradient) ? undefined : packedWeight(weight, b, x.shape[0]!);
  const residual = composed ? undefined : operands.residual;
  const activation = composed ? undefined : fused?.code;
  const { c } = kernels.matmul({ a: x, b, bias: row, packed, residual }, { activation });
  b.dispose();
  row?.dispose();
  const y = recorded(c, { x, weight, bias, residual });
  if (!composed) return y;
  const activated = fused.apply(y);
  return operands.residual ? add(activated, operands.residual) : activated;
}

/** Records y = x weight^T + bias + residual; an activation before the residual is one that no gradient passes. */
function recorded(y: Tensor, { x, weight, bias, residual }: Operands): Tensor {
  const wanted = [x, weight, bias, residual].map((t) => t?.tracked === true);
  const gradient = (dy: Tensor, [sx, sw]: readonly (Tensor | undefined)[]): (Tensor | undefined)[] => [
    wanted[0] ? matmulOp({ a: dy, b: sw! }).c : undefined,
    wanted[1] ? matmulOp({ a: swapped(dy), b: sx! }).c : undefined,
    wanted[2] ? sumOver(dy, [0]) : undefined,
    wanted[3] ? dy : undefined,
  ];
  const saved = [wanted[1] ? x : undefined, wanted[0] ? weight : undefined];
  return record('linear', [x, weight, bias, residual], y, gradient, saved);
}
