/**
 * o = dropout(softmax(scale q k^T + bias, where mask)) v in one kernel, with memory linear in the lengths
 * (FlashAttention-2, Dao 2023, https://arxiv.org/abs/2307.08691); h / g query heads share a key head (Ainslie et al.
 * 2023, https://arxiv.org/abs/2305.13245). A row that may see no key gives zeros, lse = -inf and zero gradients.
 */
import { refuseWindow } from '../tensor/capture.js';
import { argumentError, optionsArg, probabilityArg, shapeError } from '../tensor/check.js';
import { CPU, deviceName } from '../tensor/device.js';
import { accumulatorOf, Code } from '../tensor/dtype.js';
import { slotOf, type Tensor } from '../tensor/tensor.js';
import { asFour, checkOperands, maskFor, termsFor } from './attention-inputs.js';
import { attentionReference, type ScoreAttrs } from './attention-reference.js';
import { attentionByMaskRows, attentionByRows } from './attention-rows.js';
import { watched } from './attention-watch.js';
import { lowered, toLowered } from './autocast.js';
import { sumTo } from './broadcast.js';
import { castTo } from './cast.js';
import { filled } from './creation.js';
import { defineOp, insteadOf } from './define-op.js';
import { mul } from './elementwise.js';
import { kernels, type Kernels } from './kernels.gen.js';
import { Mask, maskArg } from './mask.js';
import type { PositionBias } from './position-bias.js';
import { resultType } from './promote.js';
import { defaultGenerator, Generator } from './random.js';
import { sum } from './reduce.js';
import type { Score } from './score.js';
import { reshape } from './shape.js';

type AttentionInputs = Kernels['attention']['in'];
type AttentionAttrs = Kernels['attention']['attrs'];

const attentionOp = defineOp({
  kernel: 'attention',
  backwardKernels: ['attentionBackward', 'attentionBiasBackward'],
  saves: ['q', 'k', 'v', 'bias', 'mask', 'pattern', 'distance', 'vector', 'o', 'lse'],
  auxiliary: ['lse'],
  shapes: true,
  reference: attentionReference,
  gradient({ q, k, v, bias, mask, pattern, distance, vector, o, lse }, { o: dO }, attrs, shapes, wants) {
    const all = { q, k, v, bias, mask, pattern, distance, vector, o, lse, dO };
    const { dq, dk, dv } = kernels.attentionBackward(all, attrs);
    return {
      q: dq,
      k: dk,
      v: dv,
      bias: wants.bias ? sumTo(kernels.attentionBiasBackward(all, attrs).dbias, shapes.bias) : undefined,
      distance: wants.distance
        ? sumTo(sum(kernels.attentionDistanceBackward(all, attrs).ddistance, 0), shapes.distance)
        : undefined,
      vector: wants.vector
        ? sumTo(sum(kernels.attentionVectorBackward(all, attrs).dvector, 0), shapes.vector)
        : undefined,
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
  /** How scores are made of q and k; default `score.scaledDot()`. Others may take a q and k of different widths. */
  score?: Score;
  /** Factor of the scores; default that of `score`: 1 / sqrt(d) of scaled products, else 1. */
  scale?: number;
  /** c > 0: scores become c tanh(score / c), before biases (Gemma 2). */
  softcap?: number;
  /** Added by distance of key and query: `positionBias.alibi(heads)`, `.relative(table)` or `.t5(weight)`. */
  positionBias?: PositionBias;
  /**
   * Divides scores and biases; default 1. Towards 0 attention becomes a lookup, which 0 is: the mean of the values
   * whose keys have the highest score, without dropout; gradients go to v alone, and strict mode refuses it.
   */
  temperature?: number;
  /** Probability of a weight to be dropped; default 0. */
  dropoutP?: number;
  /** Where the numbers of dropout come from; default: the one that `manualSeed` seeds. */
  generator?: Generator;
  /** Give { output, lse } instead of the output; no gradient goes through lse. */
  returnLse?: boolean;
}
const optionNames = [
  'mask',
  'bias',
  'causal',
  'score',
  'scale',
  'softcap',
  'positionBias',
  'temperature',
  'dropoutP',
  'generator',
  'returnLse',
] as const;

/** The output, and the logarithm of the sum of the exponentials of each row of scores. */
export interface AttentionOutput {
  /** [b, h, n, e] */
  output: Tensor;
  /** [b, h, n], float32 (float64 for float64); by temperature 0 the highest score of each row */
  lse: Tensor;
}

/** Why the kernel of a device cannot, null where it can. */
function missingTerm({ q, vector }: AttentionInputs, { lookup, softcap }: ScoreAttrs): string | null {
  if (lookup) return 'no kernel looks up values';
  const { device } = q.slot!;
  if (device === CPU || !(softcap || vector)) return null;
  return `there is no attention kernel for ${deviceName(device)} ${vector ? 'with additive scores' : 'that caps scores'}`;
}

/** By the kernel, which on a GPU takes no patterns. */
function fused(inputs: AttentionInputs, attrs: AttentionAttrs): { o: Tensor; lse: Tensor } {
  const { device } = inputs.q.slot!;
  if (device === CPU || !inputs.pattern) return attentionOp(inputs, attrs);
  const reason = `there is no attention kernel for ${deviceName(device)} that asks masks about blocks`;
  return insteadOf('attention', reason, () => attentionByMaskRows(inputs, attrs, attentionOp));
}

/** By the kernel, or by other ops where it cannot. */
function attend(inputs: AttentionInputs, attrs: AttentionAttrs & ScoreAttrs): { o: Tensor; lse: Tensor } {
  const { q, k, v, bias, vector } = inputs;
  const code = v.slot!.dtype;
  const missing = missingTerm(inputs, attrs);
  const products = missing === null && !vector && (!bias || bias.slot!.dtype === code);
  if (products) return fused(inputs, attrs);
  if (missing !== null) checkOperands(inputs);
  // rows of their own would draw other random numbers
  const composed = attrs.dropoutP ? attentionReference : attentionByRows;
  const run = (x: AttentionInputs): { o: Tensor; lse: Tensor } =>
    missing === null ? fused(x, attrs) : insteadOf('attention', missing, () => composed(x, attrs));
  const accumulator = accumulatorOf(code);
  if (accumulator === code) return run(inputs);
  // 16 bits make products faster, but what is composed would round between its ops
  const wide = (x: Tensor): Tensor => castTo(x, accumulator);
  const { o, lse } = run({ ...inputs, q: wide(q), k: wide(k), v: wide(v), bias: bias && wide(bias) });
  return { o: castTo(o, code), lse };
}

function run(op: string, q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions): AttentionOutput {
  const { causal = false, dropoutP = 0 } = options;
  const lead = slotOf(q, op, 'q').shape.slice(0, -2);
  const four = [asFour(op, 'q', q), asFour(op, 'k', k), asFour(op, 'v', v)] as const;
  const code = lowered(resultType(four));
  const [x, y, z] = four.map((t) => toLowered(t, code)) as [Tensor, Tensor, Tensor];
  if (causal !== false && causal !== 'topLeft' && causal !== 'bottomRight')
    throw argumentError(op, 'causal', "'topLeft', 'bottomRight' or false", causal);
  const seen = maskFor(op, options, [x, y], lead);
  const terms = termsFor(op, options, [x, y], lead);
  probabilityArg(op, 'dropoutP', dropoutP);
  if (options.generator !== undefined && !(options.generator instanceof Generator))
    throw argumentError(op, 'generator', 'a Generator', options.generator);
  if (dropoutP > 0)
    refuseWindow(op, y.slot!, 'dropout over a cache needs more random numbers at each call; call eval()');
  const scores = x.shape[0]! * x.shape[1]! * x.shape[2]! * y.shape[2]!;
  const counters = dropoutP > 0 ? (options.generator ?? defaultGenerator()).reserve(scores) : undefined;
  // With p = 1 nothing is left to divide by 1 - p.
  const attrs: AttentionAttrs & ScoreAttrs = terms.attrs;
  attrs.causal = seen.causal;
  if (seen.maskInPattern) attrs.maskInPattern = true;
  attrs.dropoutP = dropoutP === 1 ? 0 : dropoutP;
  if (counters) Object.assign(attrs, counters);
  const inputs = { v: z, ...terms.inputs, mask: seen.mask, pattern: seen.pattern };
  const result = attend(inputs, attrs);
  const { lse } = result;
  const kept = dropoutP === 1 ? mul(result.o, filled(op, [], 0, code, x.slot!.device)) : result.o;
  const o = watched(inputs, attrs, kept);
  if (lead.length === 2) return { output: o, lse };
  const n = x.shape[2]!;
  return { output: reshape(o, [...lead, n, z.shape[3]!]), lse: reshape(lse, [...lead, n]) };
}

/**
 * softmax(cap(scale score(q, k)) + biases, where mask) v, fused, forward and backward (Dao 2023,
 * https://arxiv.org/abs/2307.08691).
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
    const { shape } = slotOf(keyPaddingMask, op, 'keyPaddingMask');
    if (shape.length !== 2) throw shapeError(op, `expected keyPaddingMask [b,m], received [${shape.join(',')}]`);
    const [b, m] = shape as [number, number];
    const padding = maskArg(op, 'keyPaddingMask', reshape(keyPaddingMask, [b, 1, 1, m]));
    asked.mask = asked.mask ? padding.and(asked.mask) : padding;
  }
  return run(op, q, k, v, asked).output;
}
