/** The biases by position there are: what `positionBias` offers. See position-bias.ts for what one is. */
import { holdsWhile, once, refuseWindow } from '../tensor/capture.js';
import { countArg, optionsArg, shapeError } from '../tensor/check.js';
import { accumulatorOf } from '../tensor/dtype.js';
import type { Device } from '../tensor/device.js';
import { isTensor, type Tensor } from '../tensor/tensor.js';
import { keep } from '../tensor/tidy.js';
import { castTo } from './cast.js';
import { arange, tensor, type TensorData } from './creation.js';
import { abs, mul, neg } from './elementwise.js';
import { floatsArg } from './floats-arg.js';
import { indexSelect } from './indexing.js';
import { PositionBias } from './position-bias.js';
import { t, unsqueeze } from './shape.js';

/**
 * Host data as a tensor, made once for each device and kept with what uses it: a bias, and the steps recorded with it.
 */
function constant(data: TensorData): (device: Device) => Tensor {
  const made = new Map<Device, Tensor>();
  return (device) => {
    let there = made.get(device);
    if (there === undefined || there.isDisposed) {
      there = keep(once(() => tensor(data, { device })));
      made.set(device, there);
    }
    const held = there;
    holdsWhile(() => !held.isDisposed);
    return held;
  };
}

function slopesOf(heads: number): number[] {
  const power = 2 ** Math.floor(Math.log2(heads));
  const geometric = (count: number): number[] => Array.from({ length: count }, (_, i) => 2 ** ((-8 * (i + 1)) / count));
  // heads beyond a power of two take every other slope of the next one
  const more = geometric(2 * power).filter((_, i) => i % 2 === 0);
  return [...geometric(power), ...more].slice(0, heads);
}

/**
 * ALiBi: -slope |distance| (Press et al. 2022, https://arxiv.org/abs/2108.12409).
 *
 * @param slopes how many heads there are, which then have the paper's slopes 2^(-8 (i + 1) / heads), or slopes [h] of
 *   floats, to which gradients go
 * @throws FOVEA_ARGUMENT for anything else, FOVEA_SHAPE for slopes that are no vector
 */
export function alibi(slopes: number | Tensor): PositionBias {
  const op = 'positionBias.alibi';
  if (isTensor(slopes)) floatsArg(op, 'slopes', slopes, [1]);
  const slopesOn = isTensor(slopes)
    ? (): Tensor => castTo(slopes, accumulatorOf(slopes.slot!.dtype))
    : constant(slopesOf(countArg(op, 'slopes', slopes, 1)));
  return new PositionBias(`alibi(${String(slopes)})`, (attends, { h, n, m, device, keys }) => {
    if (keys?.slot) refuseWindow(attends, keys.slot, 'ALiBi has a place for each distance; let the step see all keys');
    const each = slopesOn(device);
    if (each.shape[0] !== h)
      throw shapeError(attends, `alibi has ${each.shape[0]} slopes, but the queries have ${h} heads`);
    // a table has a place at least, also where there is no score
    const first = Math.min(0, 1 - m);
    const distance = abs(arange(first, Math.max(n, first + 1), 1, { device, dtype: each.dtype }));
    return { table: neg(mul(unsqueeze(each, 1), distance)), zero: -first };
  });
}

/**
 * A learned bias of each distance up to r, and of r for all beyond (Shaw et al. 2018, https://arxiv.org/abs/1803.02155,
 * as scalars).
 *
 * @param table [h or 1, 2 r + 1] floats: distance 0 is in the middle
 * @throws FOVEA_SHAPE for any other shape, FOVEA_DTYPE for what are no floats
 */
export function relative(table: Tensor): PositionBias {
  const op = 'positionBias.relative';
  floatsArg(op, 'table', table, [2]);
  const [, size] = table.shape as [number, number];
  if (size % 2 === 0)
    throw shapeError(op, `expected table [h,2r+1] with distance 0 in the middle, received [${table.shape}]`);
  return new PositionBias(`relative(${String(table)})`, () => ({ table, zero: (size - 1) / 2 }));
}

/** Options of {@link t5}. */
export interface T5BiasOptions {
  /** Whether keys behind the query have buckets of their own, as in encoders (default true). */
  bidirectional?: boolean;
  /** The distance from which on all are in the last bucket (default 128). */
  maxDistance?: number;
}

/** The bucket of a distance, in the float32 arithmetic in which checkpoints were trained. */
function t5Bucket(distance: number, buckets: number, bidirectional: boolean, maxDistance: number): number {
  const each = bidirectional ? buckets / 2 : buckets;
  const first = bidirectional && distance > 0 ? each : 0;
  const far = bidirectional ? Math.abs(distance) : Math.max(-distance, 0);
  const exact = Math.floor(each / 2);
  if (far < exact) return first + far;
  const { fround } = Math;
  const share = fround(fround(Math.log(fround(far / exact))) / fround(Math.log(maxDistance / exact)));
  return first + Math.min(each - 1, exact + Math.trunc(fround(share * fround(each - exact))));
}

/**
 * T5's buckets of distances, exact near 0 and wider the farther apart (Raffel et al. 2020,
 * https://arxiv.org/abs/1910.10683, section 2.1). T5 attends with `scale: 1`.
 *
 * @param weight [buckets, h] floats, as `relative_attention_bias.weight`
 * @throws FOVEA_SHAPE for any other shape, FOVEA_ARGUMENT for options out of range, FOVEA_DTYPE for what are no floats
 */
export function t5(weight: Tensor, options?: T5BiasOptions): PositionBias {
  const op = 'positionBias.t5';
  floatsArg(op, 'weight', weight, [2]);
  const { bidirectional = true, maxDistance = 128 } = optionsArg(op, options, ['bidirectional', 'maxDistance']);
  const [buckets] = weight.shape as [number, number];
  if (buckets < 4 || buckets % 2)
    throw shapeError(op, `expected an even number of at least 4 buckets, received ${buckets}`);
  const exact = Math.floor((bidirectional ? buckets / 2 : buckets) / 2);
  countArg(op, 'maxDistance', maxDistance, exact + 1);
  const places = constant(
    BigInt64Array.from({ length: 2 * maxDistance + 1 }, (_, i) =>
      BigInt(t5Bucket(i - maxDistance, buckets, bidirectional, maxDistance)),
    ),
  );
  return new PositionBias(`t5(${String(weight)})`, (_, { device }) => ({
    table: t(indexSelect(weight, 0, places(device))),
    zero: maxDistance,
  }));
}
