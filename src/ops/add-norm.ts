/**
 * layerNorm and rmsNorm of x + residual, with the sum itself, in one pass: what lies between the sublayers of a
 * transformer. Both results have gradients, which backward adds up in its one pass, too:
 *
 *   dx = dresidual = dsum + (gradient of the norm at the sum)
 */
import { shapeError } from '../tensor/check.js';
import { sameShape, type Shape } from '../tensor/layout.js';
import { slotOf, type Tensor } from '../tensor/tensor.js';
import { defineOp } from './define-op.js';
import { add, mul, rsqrt, square, sub } from './elementwise.js';
import { kernels } from './kernels.gen.js';
import { epsOf, type LayerNormOptions, layerNormOp, prepare, type RmsNormOptions, rmsNormOp, steps } from './norm.js';
import { mean, sum as sumOf } from './reduce.js';
import { reshape } from './shape.js';

const KEEP = { keepdim: true };

/** The gradients in differentiable ops, for second derivatives; `s` is the sum, `dy` the gradient of the norm. */
function composedGradient(
  { sum: s, weight }: { sum: Tensor; weight?: Tensor | undefined },
  d: { sum?: Tensor | undefined; y?: Tensor | undefined },
  eps: number,
  centred: boolean,
): { dx: Tensor | undefined; dweight: Tensor | undefined; dbias: Tensor | undefined } {
  const { sum: dsum, y: dy } = d;
  if (!dy) return { dx: dsum, dweight: undefined, dbias: undefined };
  const deviation = centred ? sub(s, mean(s, -1, KEEP)) : s;
  const rstd = rsqrt(add(mean(square(deviation), -1, KEEP), eps));
  const normal = mul(deviation, rstd);
  const g = weight ? mul(dy, weight) : dy;
  let change = sub(g, mul(normal, mean(mul(g, normal), -1, KEEP)));
  if (centred) change = sub(change, mean(g, -1, KEEP));
  const dx = mul(change, rstd);
  const leading = s.shape.slice(0, -1).map((_, i) => i);
  const overRows = (x: Tensor): Tensor => (leading.length ? sumOf(x, leading) : x);
  return { dx: dsum ? add(dx, dsum) : dx, dweight: overRows(mul(dy, normal)), dbias: overRows(dy) };
}

const addLayerNormOp = defineOp({
  kernel: 'addLayerNorm',
  backwardKernels: ['layerNormBackward', 'addLayerNormBackward'],
  saves: ['sum', 'weight', 'mean', 'rstd'],
  auxiliary: ['mean', 'rstd'],
  reference({ x, residual, weight, bias }, attrs) {
    const sum = add(x, residual);
    return { sum, y: layerNormOp({ x: sum, weight, bias }, attrs).y };
  },
  gradient({ sum, weight, mean: m, rstd }, { sum: dsum, y: dy }) {
    if (!dy) return { x: dsum, residual: dsum };
    const { dx, dweight, dbias } = dsum
      ? kernels.addLayerNormBackward({ sum, weight, mean: m, rstd, dy, dsum }, {})
      : kernels.layerNormBackward({ x: sum, weight, mean: m, rstd, dy }, {});
    return { x: dx, residual: dx, weight: dweight, bias: dbias };
  },
  composed(saved, d, { eps = 1e-5 }) {
    const { dx, dweight, dbias } = composedGradient(saved, d, eps, true);
    return { x: dx, residual: dx, weight: dweight, bias: dbias };
  },
});
const addRmsNormOp = defineOp({
  kernel: 'addRmsNorm',
  backwardKernels: ['rmsNormBackward', 'addRmsNormBackward'],
  saves: ['sum', 'weight', 'rstd'],
  auxiliary: ['rstd'],
  reference({ x, residual, weight }, attrs) {
    const sum = add(x, residual);
    return { sum, y: rmsNormOp({ x: sum, weight }, attrs).y };
  },
  gradient({ sum, weight, rstd }, { sum: dsum, y: dy }) {
    if (!dy) return { x: dsum, residual: dsum };
    const { dx, dweight } = dsum
      ? kernels.addRmsNormBackward({ sum, weight, rstd, dy, dsum }, {})
      : kernels.rmsNormBackward({ x: sum, weight, rstd, dy }, {});
    return { x: dx, residual: dx, weight: dweight };
  },
  composed(saved, d, { eps = 1e-5 }) {
    const { dx, dweight } = composedGradient(saved, d, eps, false);
    return { x: dx, residual: dx, weight: dweight };
  },
});

/** What `addLayerNorm` and `addRmsNorm` give. */
export interface AddNormOutput {
  /** x + residual. */
  sum: Tensor;
  /** The norm of the sum. */
  y: Tensor;
}

/** The residual as rows like those of x. */
function residualRows(op: string, residual: Tensor, x: Tensor, rows: Tensor): Tensor {
  const { shape } = slotOf(residual, op, 'residual');
  if (!sameShape(shape, x.shape))
    throw shapeError(op, `expected residual of the shape of x [${x.shape.join(',')}], received [${shape.join(',')}]`);
  return rows === x ? residual : reshape(residual, rows.shape);
}
function shaped({ sum, y }: AddNormOutput, x: Tensor, rows: Tensor): AddNormOutput {
  return rows === x ? { sum, y } : { sum: reshape(sum, x.shape), y: reshape(y, x.shape) };
}

/**
 * sum = x + residual and y = layerNorm(sum), in one pass (see `layerNorm`).
 *
 * @param x [..., ...normalizedShape], floats
 * @param residual the shape and dtype of `x`
 * @param normalizedShape sizes of the axes to normalise
 * @param weight normalizedShape, converted to the dtype of `x`; no scale without it
 * @param bias normalizedShape, converted to the dtype of `x`; no shift without it
 * @returns `sum` and `y`, both of the shape and dtype of `x`
 * @throws FOVEA_SHAPE if `x` does not end in normalizedShape, `residual` has not its shape or a parameter has another
 *   one, FOVEA_DTYPE for integers and bool or a `residual` of another dtype
 */
export function addLayerNorm(
  x: Tensor,
  residual: Tensor,
  normalizedShape: Shape | number,
  weight?: Tensor | null,
  bias?: Tensor | null,
  options?: LayerNormOptions,
): AddNormOutput {
  const eps = epsOf('addLayerNorm', options, 1e-5);
  const { rows, flat } = prepare('addLayerNorm', x, normalizedShape, { weight, bias });
  const other = residualRows('addLayerNorm', residual, x, rows);
  return shaped(addLayerNormOp({ x: rows, residual: other, weight: flat[0], bias: flat[1] }, { eps }), x, rows);
}

/**
 * sum = x + residual and y = rmsNorm(sum), in one pass (see `rmsNorm`).
 *
 * @param x [..., ...normalizedShape], floats
 * @param residual the shape and dtype of `x`
 * @param normalizedShape sizes of the axes to normalise
 * @param weight normalizedShape, converted to the dtype of `x`; no scale without it
 * @returns `sum` and `y`, both of the shape and dtype of `x`
 * @throws FOVEA_SHAPE if `x` does not end in normalizedShape, `residual` has not its shape or `weight` has another one,
 *   FOVEA_DTYPE for integers and bool or a `residual` of another dtype
 */
export function addRmsNorm(
  x: Tensor,
  residual: Tensor,
  normalizedShape: Shape | number,
  weight?: Tensor | null,
  options?: RmsNormOptions,
): AddNormOutput {
  const eps = epsOf('addRmsNorm', options, steps[slotOf(x, 'addRmsNorm', 'x').dtype] ?? 1e-5);
  const { rows, flat } = prepare('addRmsNorm', x, normalizedShape, { weight });
  const other = residualRows('addRmsNorm', residual, x, rows);
  return shaped(addRmsNormOp({ x: rows, residual: other, weight: flat[0] }, { eps }), x, rows);
}
