/**
 * layerNorm (Ba et al. 2016, https://arxiv.org/abs/1607.06450) and rmsNorm (Zhang & Sennrich 2019,
 * https://arxiv.org/abs/1910.07467) over the last axes. The same of a sum, as between a transformer's sublayers, is in
 * add-norm.ts.
 */
import { argumentError, numberArg, optionsArg, shapeArg, shapeError } from '../tensor/check.js';
import { sameShape, sizeOf, type Shape } from '../tensor/layout.js';
import { slotOf, type Tensor } from '../tensor/tensor.js';
import { inFloat32 } from './autocast.js';
import { castTo } from './cast.js';
import { defineOp, type DefinedOp } from './define-op.js';
import { add, mul, rsqrt, square, sub } from './elementwise.js';
import { kernels } from './kernels.gen.js';
import { mean } from './reduce.js';
import { reshape } from './shape.js';

const KEEP = { keepdim: true };

/** Internal: of the last axis alone, for add-norm.ts. */
export const layerNormOp: DefinedOp<'layerNorm'> = defineOp({
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
/** Internal: of the last axis alone, for add-norm.ts. */
export const rmsNormOp: DefinedOp<'rmsNorm'> = defineOp({
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

/** Internal: `x` with the normalised axes merged into one, and what belongs to them flat and in the dtype of `x`. */
export function prepare(
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

/** Options of `layerNorm`. */
export interface LayerNormOptions {
  /** Added to the variance; default 1e-5. */
  eps?: number | undefined;
}
/** Options of `rmsNorm`. */
export interface RmsNormOptions {
  /** Added to the mean square; default: the step at 1 of the dtype of `x`, as in PyTorch. */
  eps?: number | undefined;
}
/** Internal: the step at 1 of each floating dtype, by code. */
export const steps: readonly number[] = [2 ** -23, 2 ** -52, 2 ** -10, 2 ** -7];

/** Internal: the option `eps`. */
export function epsOf(op: string, options: LayerNormOptions | undefined, otherwise: number): number {
  const { eps = otherwise } = optionsArg(op, options, ['eps']);
  return numberArg(op, 'eps', eps);
}

/**
 * (x - mean) / sqrt(variance + eps) weight + bias, with mean and (biased) variance over the last axes (Ba et al. 2016,
 * https://arxiv.org/abs/1607.06450).
 *
 * @param x [..., ...normalizedShape], floats
 * @param normalizedShape sizes of the axes to normalise
 * @param weight normalizedShape, converted to the dtype of `x`; no scale without it
 * @param bias normalizedShape, converted to the dtype of `x`; no shift without it
 * @returns the shape and dtype of `x`
 * @throws FOVEA_SHAPE if `x` does not end in normalizedShape or a parameter has another shape, FOVEA_DTYPE for integers
 *   and bool
 */
export function layerNorm(
  x: Tensor,
  normalizedShape: Shape | number,
  weight?: Tensor | null,
  bias?: Tensor | null,
  options?: LayerNormOptions,
): Tensor {
  const eps = epsOf('layerNorm', options, 1e-5);
  const input = inFloat32(x);
  const { rows, flat } = prepare('layerNorm', input, normalizedShape, { weight, bias });
  const { y } = layerNormOp({ x: rows, weight: flat[0], bias: flat[1] }, { eps });
  return rows === input ? y : reshape(y, x.shape);
}

/**
 * x / sqrt(mean x^2 + eps) weight, with the mean over the last axes (Zhang & Sennrich 2019,
 * https://arxiv.org/abs/1910.07467).
 *
 * @param x [..., ...normalizedShape], floats
 * @param normalizedShape sizes of the axes to normalise
 * @param weight normalizedShape, converted to the dtype of `x`; no scale without it
 * @returns the shape and dtype of `x`
 * @throws FOVEA_SHAPE if `x` does not end in normalizedShape or `weight` has another shape, FOVEA_DTYPE for integers
 *   and bool
 */
export function rmsNorm(
  x: Tensor,
  normalizedShape: Shape | number,
  weight?: Tensor | null,
  options?: RmsNormOptions,
): Tensor {
  const eps = epsOf('rmsNorm', options, steps[slotOf(x, 'rmsNorm', 'x').dtype] ?? 1e-5);
  const { rows, flat } = prepare('rmsNorm', x, normalizedShape, { weight });
  const { y } = rmsNormOp({ x: rows, weight: flat[0] }, { eps });
  return rows === x ? y : reshape(y, x.shape);
}
