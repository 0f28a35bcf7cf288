/**
 * What losses share: how the losses of the elements become one, which targets count, and in which dtype they compute.
 */
import { FoveaError } from '../errors.js';
import { argumentError, shapeError } from '../tensor/check.js';
import { Code, isFloat } from '../tensor/dtype.js';
import { broadcastShapes, sameShape } from '../tensor/layout.js';
import { slotOf, type Tensor } from '../tensor/tensor.js';
import { inFloat32 } from './autocast.js';
import { castTo } from './cast.js';
import { ne } from './compare.js';
import { kernels } from './kernels.gen.js';
import { resultType } from './promote.js';
import { mean, sum } from './reduce.js';

/** How the losses of the elements become one: 'mean' (default), 'sum', or 'none' for all of them. */
export type Reduction = 'mean' | 'sum' | 'none';

/** Options of all losses. */
export interface LossOptions {
  /** Default 'mean'. */
  reduction?: Reduction;
}

/** @returns the reduction, 'mean' if none is given @throws FOVEA_ARGUMENT for another */
export function reductionArg(op: string, reduction: Reduction | undefined): Reduction {
  if (reduction === undefined) return 'mean';
  if (reduction !== 'mean' && reduction !== 'sum' && reduction !== 'none')
    throw argumentError(op, 'reduction', "'mean', 'sum' or 'none'", reduction);
  return reduction;
}

/** The losses, their sum or their mean; of no losses these are 0 and NaN. */
export function reduced(loss: Tensor, reduction: Reduction): Tensor {
  return reduction === 'none' ? loss : reduction === 'sum' ? sum(loss) : mean(loss);
}

/** How many targets count, 0-d, in the dtype of that code. */
export function countTargets(target: Tensor, ignoreIndex: number, code: number): Tensor {
  return castTo(kernels.countNonzero({ x: ne(target, ignoreIndex) }, {}).count, code);
}

/** A number above 0. @returns it @throws FOVEA_ARGUMENT for anything else */
export function positiveArg(op: string, argument: string, value: unknown): number {
  if (typeof value !== 'number' || !(value > 0)) throw argumentError(op, argument, 'a number above 0', value);
  return value;
}

/** Checks that tensors have one shape. @param tensors by the names of the arguments @throws FOVEA_SHAPE if not */
export function sameShapes(op: string, tensors: Readonly<Record<string, Tensor>>): void {
  const shapes = Object.entries(tensors).map(([name, x]) => [name, slotOf(x, op, name).shape] as const);
  const [name, shape] = shapes[0]!;
  for (const [other, found] of shapes)
    if (!sameShape(shape, found))
      throw shapeError(op, `${name} [${shape.join(',')}] and ${other} [${found.join(',')}] differ`);
}

/** Checks a factor of the losses. @throws FOVEA_SHAPE unless it broadcasts to `shape` */
export function factorArg(op: string, argument: string, factor: Tensor, shape: readonly number[]): void {
  const given = slotOf(factor, op, argument).shape;
  const joint = broadcastShapes(given, shape);
  if (joint === null || !sameShape(joint, shape))
    throw shapeError(op, `${argument} [${given.join(',')}] does not broadcast to [${shape.join(',')}]`);
}

const isHalf = (code: number): boolean => code === Code.float16 || code === Code.bfloat16;

/** Operands in the dtype that a loss computes in, and the way back. */
export interface LossOperands {
  /** In the order given. */
  operands: Tensor[];
  /** The reduction of the losses, in the dtype that the operands promote to. */
  finish: (loss: Tensor, reduction: Reduction) => Tensor;
}
/**
 * A loss has the dtype that its operands promote to, as in PyTorch. Of 16-bit floats it is computed in float32 and
 * rounded once, behind the reduction; under `autocast` it stays float32.
 *
 * @throws FOVEA_DTYPE if they promote to no float
 */
export function lossOperands(op: string, ...given: Tensor[]): LossOperands {
  const tensors = given.map(inFloat32);
  const code = resultType(tensors);
  if (!isFloat(code))
    throw new FoveaError(
      'FOVEA_DTYPE',
      `${op}: expected floats, received ${tensors.map((x) => x.dtype).join(' and ')}; convert them with .to('float32')`,
    );
  const inner = isHalf(code) ? Code.float32 : code;
  return {
    operands: tensors.map((x) => castTo(x, inner)),
    finish: (loss, reduction) => castTo(reduced(loss, reduction), code),
  };
}
