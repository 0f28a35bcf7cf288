/**
 * layerNorm (Ba et al. 2016, https://arxiv.org/abs/1607.06450) and rmsNorm (Zhang & Sennrich 2019,
 * https://arxiv.org/abs/1910.07467) over the last axes.
 */
import { argumentError, numberArg, shapeArg, shapeError } from '../tensor/check.js';
import { sameShape, sizeOf, type Shape } from '../tensor/layout.js';
import { slotOf, type Tensor } from '../tensor/tensor.js';
import { castTo } from './cast.js';
import { defineOp } from './define-op.js';
import { add, mul, rsqrt, square, sub } from './elementwise.js';
import { kernels } from './kernels.gen.js';
import { mean } from './reduce.js';
import { reshape } from './shape.js';

const KEEP = { keepdim: true };

const layerNormOp = defineOp({
  kernel: 'layerNorm',
  backwardKernels: ['layerNormBackward'],
  saves: ['x', 'weight', 'bias', 'mean', 'rstd'],
  auxiliary: ['mean', 'rstd'],
  // y = (x - mean) / sqrt(variance + eps) weight + bias
  reference({ x, weight, bias }, { eps = 1e-5 }) {
    const centred = sub(x, mean(x, -1, KEEP));
    let y = mul(centred, rsqrt(add(mean(square(centred), -1, KEEP), eps)));
    if (weight) y = mul(y, weight);
    return { y: bias ? add(y, bias) : y };
  },
  gradient({ x, weight, mean: m, rstd }, { y: dy }) {
    const { dx, dweight, dbias } = kernels.layerNormBackward({ x, weight, mean: m, rstd, dy }, {});
    return { x: dx, weight: dweight, bias: dbias };
  },
});
const rmsNormOp = defineOp({
  kernel: 'rmsNorm',
  backwardKernels: ['rmsNormBackward'],
  saves: ['x', 'weight', 'rstd'],
  auxiliary: ['rstd'],
  // y = x / sqrt(mean x^2 + eps) weight
  reference({ x, weight }, { eps = 1e-5 }) {
    const y = mul(x, rsqrt(add(mean(square(x), -1, KEEP), eps)));
    return { y: weight ? mul(y, weight) : y };
  },
  gradient({ x, weight, rstd }, { y: dy }) {
    const { dx, dweight } = kernels.rmsNormBackward({ x, weight, rstd, dy }, {});
    return { x: dx, weight: dweight };
  },
});

/** `x` with the normalised axes merged into one, and what belongs to them flat and in the dtype of `x`. */
function prepare(
  op: string,
  x: Tensor,
  normalizedShape: Shape | number,
  parameters: Record<string, Tensor | null | undefined>,
): { rows: Tensor; flat: (Tensor | undefined)[] } {
  const { shape, dtype } = slotOf(x, op, 'x');
  const last =
    typeof normalizedShape === 'number' ? [normalizedShape] : shapeArg(op, normalizedShape, 'normalizedShape');
  if (last.length === 0) throw argumentError(op, 'normalizedShape', 'at least one size', normalizedShape);
  if (!sameShape(shape.slice(shape.length - last.length), last) || last.length > shape.length)
    throw shapeError(op, `x [${shape.join(',')}] does not end in normalizedShape [${last.join(',')}]`);
  const d = sizeOf(last);
  const flat = Object.entries(parameters).map(([name, p]) => {
    if (p === undefined || p === null) return undefined;
    if (!sameShape(slotOf(p, op, name).shape, last))
      throw shapeError(op, `expected ${name} [${last.join(',')}], received [${p.shape.join(',')}]`);
    return castTo(last.length === 1 ? p : reshape(p, [d]), dtype);
  });
  return { rows: last.length === 1 ? x : reshape(x, [...shape.slice(0, shape.length - last.length), d]), flat };
}

/**
 * (x - mean) / sqrt(variance + eps) weight + bias, with mean and variance over the last axes.
 *
 * @param x [..., ...normalizedShape]
 * @param normalizedShape sizes of the axes to normalise
 * @param weight normalizedShape; no scale without it
 * @param bias normalizedShape; no shift without it
 */
export function layerNorm(
  x: Tensor,
  normalizedShape: Shape | number,
  weight?: Tensor | null,
  bias?: Tensor | null,
  eps = 1e-5,
): Tensor {
  numberArg('layerNorm', 'eps', eps);
  const { rows, flat } = prepare('layerNorm', x, normalizedShape, { weight, bias });
  const { y } = layerNormOp({ x: rows, weight: flat[0], bias: flat[1] }, { eps });
  return rows === x ? y : reshape(y, x.shape);
}

/**
 * x / sqrt(mean x^2 + eps) weight, with the mean over the last axes.
 *
 * @param x [..., ...normalizedShape]
 * @param normalizedShape sizes of the axes to normalise
 * @param weight normalizedShape; no scale without it
 */
export function rmsNorm(x: Tensor, normalizedShape: Shape | number, weight?: Tensor | null, eps = 1e-6): Tensor {
  numberArg('rmsNorm', 'eps', eps);
  const { rows, flat } = prepare('rmsNorm', x, normalizedShape, { weight });
  const { y } = rmsNormOp({ x: rows, weight: flat[0] }, { eps });
  return rows === x ? y : reshape(y, x.shape);
}
