/** How what users give `attention` becomes inputs and attributes of its kernel. */
import { FoveaError } from '../errors.js';
import { argumentError, numberArg, shapeError } from '../tensor/check.js';
import { CPU, deviceName, type Device } from '../tensor/device.js';
import { accumulatorOf, isFloat } from '../tensor/dtype.js';
import { sizeOf } from '../tensor/layout.js';
import { slotOf, type Tensor } from '../tensor/tensor.js';
import type { AttentionOptions } from './attention.js';
import { biasByDistance, causalCodes, type ScoreAttrs, type ScoreInputs } from './attention-reference.js';
import { expand } from './broadcast.js';
import { castTo } from './cast.js';
import { insteadOf } from './define-op.js';
import { add, mul } from './elementwise.js';
import { Mask, maskArg } from './mask.js';
import { type LoweredMask, lowerMask } from './mask-lowering.js';
import { positionBiasArg } from './position-bias.js';
import { defaultScale, type ScoredOperands, scoreArg } from './score.js';
import { reshape, unsqueeze } from './shape.js';

/**
 * Leading axes merged to b, and heads to h, so that the kernel sees four axes.
 *
 * @returns it; a missing head or batch is 1
 */
export function asFour(op: string, name: string, x: Tensor): Tensor {
  const { shape } = slotOf(x, op, name);
  if (shape.length < 2) throw shapeError(op, `expected ${name} [b,h,length,d], received [${shape.join(',')}]`);
  if (shape.length === 4) return x;
  const tail = shape.slice(-3);
  return reshape(x, shape.length === 2 ? [1, 1, ...tail] : [sizeOf(shape.slice(0, -3)), ...tail]);
}

/** A mask or bias with axes in front until it has four, merged like those of the queries. */
function scoresLike(op: string, name: string, x: Tensor, lead: readonly number[]): Tensor {
  const { shape } = slotOf(x, op, name);
  if (shape.length > lead.length + 2)
    throw shapeError(op, `${name} [${shape.join(',')}] has more axes than the scores`);
  let grown = x;
  while (grown.rank < lead.length + 2) grown = unsqueeze(grown, 0);
  if (grown.rank === 4) return grown;
  if (grown.rank < 4) return reshape(grown, [...new Array<number>(4 - grown.rank).fill(1), ...grown.shape]);
  const batch = grown.shape.slice(0, -3);
  if (batch.every((n) => n === 1)) return reshape(grown, [1, ...grown.shape.slice(-3)]);
  return reshape(expand(grown, [...lead.slice(0, -1), ...grown.shape.slice(-3)]), [
    sizeOf(lead.slice(0, -1)),
    ...grown.shape.slice(-3),
  ]);
}

/**
 * What the options let queries q [b, h, n, d] see of keys k [b, g, m, d].
 *
 * @param lead the shape of the queries that the user gave, but for the last two axes
 * @returns inputs and attributes of the kernel
 * @throws as `attention` does for a mask
 */
export function maskFor(
  op: string,
  { mask, causal }: Pick<AttentionOptions, 'mask' | 'causal'>,
  [q, k]: readonly [q: Tensor, k: Tensor],
  lead: readonly number[],
): LoweredMask {
  if (mask === undefined) return { causal: causal ? causalCodes[causal] : causalCodes.none, maskInPattern: false };
  const given = maskArg(op, 'mask', mask);
  const whole = causal ? new Mask({ type: 'causal', align: causal }).and(given) : given;
  const [[b, h, n], m] = [q.shape as [number, number, number], k.shape[2]!];
  const toScores = (t: Tensor): Tensor => scoresLike(op, 'mask', t, lead);
  return lowerMask(op, whole.node, { b, h, n, m, device: q.slot!.device, keys: k, toScores });
}

/** What scores are made of beside masks, and what is done to them. */
export interface AttentionTerms {
  inputs: Pick<ScoreInputs, 'q' | 'k' | 'bias' | 'distance' | 'vector'>;
  attrs: Pick<ScoreAttrs, 'scale' | 'softcap' | 'distanceZero' | 'distanceAligned' | 'lookup'>;
}

/** A bias that is divided may leave the range of 16 bits, so it is as wide as sums then. */
function biasFor(op: string, options: AttentionOptions, code: number, lead: readonly number[]): Tensor | undefined {
  const { bias } = options;
  if (!bias) return undefined;
  if (!isFloat(slotOf(bias, op, 'bias').dtype))
    throw new FoveaError(
      'FOVEA_DTYPE',
      `${op}: expected floats for bias, received ${bias.dtype}; a mask of integers needs .to('bool')`,
    );
  const divided = options.temperature !== undefined && options.temperature !== 1;
  return castTo(scoresLike(op, 'bias', bias, lead), divided ? accumulatorOf(code) : code);
}

/** Whether float32 holds a number, as 0 if it is 0 and as none if it is none. */
const inRange = (x: number): boolean => Number.isFinite(Math.fround(x)) && (x === 0) === (Math.fround(x) === 0);

/** A soft cap. @returns 0 for none @throws FOVEA_ARGUMENT unless it is above 0 and float32 holds it */
export function softcapArg(op: string, softcap: number | undefined): number {
  if (softcap === undefined) return 0;
  if (!(numberArg(op, 'softcap', softcap) > 0 && inRange(softcap)))
    throw argumentError(op, 'softcap', 'a number above 0 in the range of float32', softcap, 'leave it out for none');
  return softcap;
}

function checkedNumbers(
  op: string,
  options: AttentionOptions,
  otherwise: number,
): { scale: number; softcap: number; t: number } {
  const { temperature = 1 } = options;
  const scale = options.scale === undefined ? otherwise : numberArg(op, 'scale', options.scale);
  const softcap = softcapArg(op, options.softcap);
  if (!(numberArg(op, 'temperature', temperature) >= 0 && temperature < Infinity))
    throw argumentError(op, 'temperature', 'a number of at least 0', temperature);
  if (temperature === 0 && (options.dropoutP ?? 0) > 0)
    throw argumentError(op, 'dropoutP', '0 beside the temperature 0', options.dropoutP);
  // a lookup does not depend on what all scores are divided by
  const t = temperature || 1;
  if (!inRange(scale / t) || !inRange(softcap / t))
    throw argumentError(
      op,
      'temperature',
      'numbers by which scale and softcap stay in the range of float32',
      temperature,
    );
  return { scale, softcap, t };
}

/** What a scoring function made of q and k, in their dtype. */
function operandsOf(
  op: string,
  { q, k, vector }: ScoredOperands,
  code: number,
  heads: number,
): Pick<ScoreInputs, 'q' | 'k' | 'vector'> {
  if (vector && vector.shape[0] !== 1 && vector.shape[0] !== heads)
    throw shapeError(op, `score has vectors for ${vector.shape[0]} heads, but the queries have ${heads}`);
  return { q: castTo(q, code), k: castTo(k, code), vector: vector && castTo(vector, accumulatorOf(code)) };
}

/**
 * The terms of scores, divided by the temperature: t c tanh(s / (t c)) is (c tanh(s / c)) / t with s and c divided.
 *
 * @param lead the shape of the queries that the user gave, but for the last two axes
 * @returns inputs and attributes of the kernel
 * @throws FOVEA_DTYPE, FOVEA_SHAPE, FOVEA_ARGUMENT for terms that do not fit
 */
export function termsFor(
  op: string,
  options: AttentionOptions,
  [q, k]: readonly [q: Tensor, k: Tensor],
  lead: readonly number[],
): AttentionTerms {
  const { dtype: code, device } = q.slot!;
  const { score, softcap: cap, temperature, positionBias } = options;
  // what most calls are, with nothing of the rest to look at
  if (score === undefined && cap === undefined && temperature === undefined && positionBias === undefined)
    return {
      inputs: { q, k, bias: biasFor(op, options, code, lead) },
      attrs: { scale: options.scale === undefined ? defaultScale(q) : numberArg(op, 'scale', options.scale) },
    };
  const [, h, n] = q.shape as [number, number, number];
  const scored = score === undefined ? { q, k, scale: defaultScale(q) } : scoreArg(op, score).prepare(op, q, k);
  const operands = operandsOf(op, scored, code, h);
  const { scale, softcap, t } = checkedNumbers(op, options, scored.scale);
  const divided = (x: Tensor): Tensor => (t === 1 ? x : mul(x, 1 / t));
  const lookup = temperature === 0;
  const attrs = { scale: scale / t, softcap: softcap / t, distanceZero: 0, distanceAligned: true, lookup };
  const given = biasFor(op, options, code, lead);
  const bias = given && divided(given);
  if (positionBias === undefined) return { inputs: { ...operands, bias }, attrs };
  const m = k.shape[2]!;
  const place = { h, n, m, device: deviceName(device) as Device, keys: k };
  const { table, zero } = positionBiasArg(op, positionBias).make(op, place);
  if (table.shape[0] !== 1 && table.shape[0] !== h)
    throw shapeError(op, `positionBias has ${table.shape[0]} heads, but the queries have ${h}`);
  const distance = divided(castTo(table, accumulatorOf(code)));
  attrs.distanceZero = zero;
  if (device === CPU) return { inputs: { ...operands, bias, distance }, attrs };
  const reason = `there is no attention kernel for ${deviceName(device)} that adds biases by distance`;
  const all = insteadOf('attention', reason, () => biasByDistance(distance, attrs, n, m, { first: 0, queries: n }));
  // as wide as the table: 16 bits would round distances
  const dense = unsqueeze(all, 0);
  return { inputs: { ...operands, bias: bias ? add(bias, dense) : dense }, attrs };
}

/** The checks of the kernel, for ways around it. @throws FOVEA_DTYPE, FOVEA_SHAPE as the kernel does */
export function checkOperands({ q, k, v, bias, mask }: ScoreInputs & { v: Tensor }): void {
  const op = 'attention';
  const [b, h, n] = q.shape as [number, number, number];
  const [g, m] = [k.shape[1]!, k.shape[2]!];
  if (!isFloat(v.slot!.dtype))
    throw new FoveaError('FOVEA_DTYPE', `${op}: expected floats for q, k and v, received ${v.dtype}; convert them`);
  const sizes = `q [${q.shape}], k [${k.shape}], v [${v.shape}]`;
  if (k.shape[0] !== b || v.shape[0] !== b || v.shape[1] !== g || v.shape[2] !== m)
    throw shapeError(op, `expected q [b,h,n,d], k [b,g,m,d] and v [b,g,m,e], received ${sizes}`);
  if (q.shape[3] !== k.shape[3]) throw shapeError(op, `k has d=${k.shape[3]} but q has d=${q.shape[3]} (${sizes})`);
  if (g === 0 ? h !== 0 : h % g !== 0) throw shapeError(op, `h=${h} must be a multiple of g=${g} (${sizes})`);
  const scores = [b, h, n, m];
  for (const [name, x] of Object.entries({ bias, mask }))
    if (x && x.shape.some((size, axis) => size !== 1 && size !== scores[axis]))
      throw shapeError(op, `${name} [${x.shape}] does not broadcast to the scores [${scores}]`);
}
