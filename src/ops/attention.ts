/**
 * o = dropout(softmax(scale q k^T + bias, where mask)) v in one kernel, with memory linear in the lengths
 * (FlashAttention-2, Dao 2023, https://arxiv.org/abs/2307.08691); h / g query heads share a key head (Ainslie et al.
 * 2023, https://arxiv.org/abs/2305.13245). A row that may see no key gives zeros, lse = -inf and zero gradients.
 */
import { FoveaError } from '../errors.js';
import { refuseWindow } from '../tensor/capture.js';
import { argumentError, numberArg, optionsArg, probabilityArg, shapeError } from '../tensor/check.js';
import { Code, isFloat } from '../tensor/dtype.js';
import { sizeOf } from '../tensor/layout.js';
import { slotOf, type Tensor } from '../tensor/tensor.js';
import { attentionReference, causalCodes } from './attention-reference.js';
import { watched } from './attention-watch.js';
import { lowered, toLowered } from './autocast.js';
import { expand, sumTo } from './broadcast.js';
import { castTo } from './cast.js';
import { filled } from './creation.js';
import { defineOp } from './define-op.js';
import { mul } from './elementwise.js';
import { kernels } from './kernels.gen.js';
import { Mask, maskArg } from './mask.js';
import { type LoweredMask, lowerMask } from './mask-lowering.js';
import { resultType } from './promote.js';
import { defaultGenerator, Generator } from './random.js';
import { reshape, unsqueeze } from './shape.js';

const attentionOp = defineOp({
  kernel: 'attention',
  backwardKernels: ['attentionBackward', 'attentionBiasBackward'],
  saves: ['q', 'k', 'v', 'bias', 'mask', 'pattern', 'o', 'lse'],
  auxiliary: ['lse'],
  shapes: true,
  reference: attentionReference,
  gradient({ q, k, v, bias, mask, pattern, o, lse }, { o: dO }, attrs, shapes, wants) {
    const common = { q, k, v, mask, pattern, o, lse, dO };
    const { dq, dk, dv } = kernels.attentionBackward({ ...common, bias }, attrs);
    if (!wants.bias) return { q: dq, k: dk, v: dv };
    return {
      q: dq,
      k: dk,
      v: dv,
      bias: sumTo(kernels.attentionBiasBackward({ ...common, bias }, attrs).dbias, shapes.bias),
    };
  },
});

/** Options of `attention`. */
export interface AttentionOptions {
  /** What each query may see: a mask (`mask.causal()`, …), or bool, broadcast to [b, h, n, m], true where it may. */
  mask?: Mask | Tensor;
  /** Added to the scaled scores, broadcast to [b, h, n, m]. */
  bias?: Tensor;
  /** 'topLeft': query i sees keys j <= i. 'bottomRight': j <= i + m - n, which decoding with a cache needs. */
  causal?: 'topLeft' | 'bottomRight' | false;
  /** Factor of the scores; default 1 / sqrt(d). */
  scale?: number;
  /** Probability of a weight to be dropped; default 0. */
  dropoutP?: number;
  /** Where the numbers of dropout come from; default: the one that `manualSeed` seeds. */
  generator?: Generator;
  /** Give { output, lse } instead of the output; no gradient goes through lse. */
  returnLse?: boolean;
}
const optionNames = ['mask', 'bias', 'causal', 'scale', 'dropoutP', 'generator', 'returnLse'] as const;

/** The output, and the logarithm of the sum of the exponentials of each row of scores. */
export interface AttentionOutput {
  /** [b, h, n, e] */
  output: Tensor;
  /** [b, h, n], float32 (float64 for float64) */
  lse: Tensor;
}

/** Leading axes merged to b, and heads to h, so that the kernel sees four axes; a missing head or batch is 1. */
function asFour(op: string, name: string, x: Tensor): Tensor {
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

function run(op: string, q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions): AttentionOutput {
  const { causal = false, dropoutP = 0 } = options;
  const lead = slotOf(q, op, 'q').shape.slice(0, -2);
  const four = [asFour(op, 'q', q), asFour(op, 'k', k), asFour(op, 'v', v)] as const;
  const code = lowered(resultType(four));
  const [x, y, z] = four.map((t) => toLowered(t, code)) as [Tensor, Tensor, Tensor];
  if (options.bias && !isFloat(slotOf(options.bias, op, 'bias').dtype))
    throw new FoveaError(
      'FOVEA_DTYPE',
      `${op}: expected floats for bias, received ${options.bias.dtype}; a mask of integers needs .to('bool')`,
    );
  const bias = options.bias && castTo(scoresLike(op, 'bias', options.bias, lead), code);
  if (causal !== false && causal !== 'topLeft' && causal !== 'bottomRight')
    throw argumentError(op, 'causal', "'topLeft', 'bottomRight' or false", causal);
  const seen = maskFor(op, options, [x, y], lead);
  const scale = options.scale === undefined ? 1 / Math.sqrt(x.shape[3]!) : numberArg(op, 'scale', options.scale);
  probabilityArg(op, 'dropoutP', dropoutP);
  if (options.generator !== undefined && !(options.generator instanceof Generator))
    throw argumentError(op, 'generator', 'a Generator', options.generator);
  if (dropoutP > 0)
    refuseWindow(op, y.slot!, 'dropout over a cache needs more random numbers at each call; call eval()');
  const scores = x.shape[0]! * x.shape[1]! * x.shape[2]! * y.shape[2]!;
  const counters = dropoutP > 0 ? (options.generator ?? defaultGenerator()).reserve(scores) : undefined;
  // With p = 1 nothing is left to divide by 1 - p.
  const attrs = {
    scale,
    causal: seen.causal,
    maskInPattern: seen.maskInPattern,
    dropoutP: dropoutP === 1 ? 0 : dropoutP,
    ...counters,
  };
  const inputs = { q: x, k: y, v: z, bias, mask: seen.mask, pattern: seen.pattern };
  const result = attentionOp(inputs, attrs);
  const { lse } = result;
  const kept = dropoutP === 1 ? mul(result.o, filled(op, [], 0, code, x.slot!.device)) : result.o;
  const o = watched(inputs, attrs, kept);
  if (lead.length === 2) return { output: o, lse };
  const n = x.shape[2]!;
  return { output: reshape(o, [...lead, n, z.shape[3]!]), lse: reshape(lse, [...lead, n]) };
}

/**
 * softmax(scale q k^T + bias, where mask) v, fused, forward and backward (Dao 2023, https://arxiv.org/abs/2307.08691).
 *
 * @param q [b, h, n, d], floats; axes in front of h count as batch, and b and h may be missing
 * @param k [b, g, m, d], g dividing h
 * @param v [b, g, m, e]
 * @returns [b, h, n, e] in the promoted dtype, rows that see no key being zeros; with `returnLse` also the lse [b, h,
 *   n]
 * @throws FOVEA_SHAPE if sizes do not fit, FOVEA_DTYPE for a mask that is not bool, a bias that is no float, or
 *   integers, FOVEA_ARGUMENT for options out of range
 */
export function attention(q: Tensor, k: Tensor, v: Tensor, options?: AttentionOptions & { returnLse?: false }): Tensor;
export function attention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  options: AttentionOptions & { returnLse: true },
): AttentionOutput;
export function attention(q: Tensor, k: Tensor, v: Tensor, options?: AttentionOptions): Tensor | AttentionOutput {
  const given = optionsArg('attention', options, optionNames);
  const result = run('attention', q, k, v, given);
  return given.returnLse ? result : result.output;
}

/** Options of `scaledDotProductAttention`, named as in PyTorch. */
export interface ScaledDotProductAttentionOptions {
  /** A mask, or bool (true: may be seen), or floats that are added to the scores; broadcast to [..., h, n, m]. */
  attnMask?: Mask | Tensor | null;
  /** Query i sees keys j <= i (aligned at the top left). */
  isCausal?: boolean;
  /** Probability of a weight to be dropped; default 0. */
  dropoutP?: number;
  /** Default 1 / sqrt(d). */
  scale?: number;
  /** Allow fewer key heads than query heads. */
  enableGqa?: boolean;
  /** bool [b, m]: true for keys that may be seen. */
  keyPaddingMask?: Tensor | null;
  /** Where the numbers of dropout come from; default: the one that `manualSeed` seeds. */
  generator?: Generator;
}
const sdpaNames = ['attnMask', 'isCausal', 'dropoutP', 'scale', 'enableGqa', 'keyPaddingMask', 'generator'] as const;

/**
 * PyTorch's `scaled_dot_product_attention`, on the fused kernel.
 *
 * @param q [..., h, n, d], floats
 * @param k [..., h, m, d]; with `enableGqa` the number of heads may divide h
 * @param v [..., h, m, e]
 * @returns [..., h, n, e] in the promoted dtype; rows that see no key are zeros
 * @throws FOVEA_SHAPE if sizes do not fit, FOVEA_DTYPE for integers, also as a mask, FOVEA_ARGUMENT for options out of
 *   range
 */
export function scaledDotProductAttention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  options?: ScaledDotProductAttentionOptions,
): Tensor {
  const op = 'scaledDotProductAttention';
  const given = optionsArg(op, options, sdpaNames);
  const { attnMask, isCausal = false, keyPaddingMask, enableGqa = false } = given;
  const heads = [slotOf(q, op, 'q').shape, slotOf(k, op, 'k').shape].map((s) => (s.length > 2 ? s.at(-3) : 1));
  if (!enableGqa && heads[0] !== heads[1])
    throw shapeError(op, `k has ${heads[1]} heads but q has ${heads[0]}; pass { enableGqa: true } to share key heads`);
  const asked: AttentionOptions = { causal: isCausal ? 'topLeft' : false };
  if (given.scale !== undefined) asked.scale = given.scale;
  if (given.dropoutP !== undefined) asked.dropoutP = given.dropoutP;
  if (given.generator !== undefined) asked.generator = given.generator;
  if (attnMask instanceof Mask) asked.mask = attnMask;
  else if (attnMask) {
    if (slotOf(attnMask, op, 'attnMask').dtype === Code.bool) asked.mask = attnMask;
    else asked.bias = attnMask;
  }
  if (keyPaddingMask) {
    const [b, m] = slotOf(keyPaddingMask, op, 'keyPaddingMask').shape as [number, number];
    const padding = maskArg(op, 'keyPaddingMask', reshape(keyPaddingMask, [b, 1, 1, m]));
    asked.mask = asked.mask ? padding.and(asked.mask) : padding;
  }
  return run(op, q, k, v, asked).output;
}
