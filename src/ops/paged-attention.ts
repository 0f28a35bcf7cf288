/**
 * Decoding over keys and values in pages (PagedAttention, Kwon et al. 2023, https://arxiv.org/abs/2309.06180): those of
 * many sequences lie in one pool, so that none has to be moved or copied as it grows, and sequences may share pages. A
 * table says in which page positions [t s, (t + 1) s) of a sequence are, and a length how many of them there are.
 *
 *   o_bi = sum over j <= lengths_b - n + i of softmax_j(scale q_bi k_bj) v_bj,
 *   k_bj = kPages[table[b, j / s], :, j mod s]
 *
 * The kernel reads pages where they lie, each once for up to 32 rows of queries that share its head.
 */
import { FoveaError } from '../errors.js';
import { wantsGradient } from '../autograd/node.js';
import { numberArg, optionsArg, shapeError } from '../tensor/check.js';
import { deviceName } from '../tensor/device.js';
import { Code, isFloat } from '../tensor/dtype.js';
import { activeMode } from '../tensor/modes.js';
import { slotOf, type Tensor } from '../tensor/tensor.js';
import { attention, type AttentionOutput } from './attention.js';
import { softcapArg } from './attention-inputs.js';
import { castTo } from './cast.js';
import { le, lt } from './compare.js';
import { arange } from './creation.js';
import { defineOp, insteadOf } from './define-op.js';
import { add, mul, sub } from './elementwise.js';
import { indexSelect } from './indexing.js';
import type { Kernels } from './kernels.gen.js';
import { defaultScale } from './score.js';
import { where } from './select.js';
import { narrow, permute, reshape } from './shape.js';

type Inputs = Kernels['pagedAttention']['in'];
type Attrs = Kernels['pagedAttention']['attrs'];
type Outputs = Kernels['pagedAttention']['out'];

/**
 * The positions of each sequence one after the other, 0 where `held` [b, 1, m, 1] is false.
 *
 * @returns [b, g, m, width]
 */
function gathered(pages: Tensor, table: Tensor, held: Tensor): Tensor {
  const [b, t] = table.shape as [number, number];
  const [, g, s, width] = pages.shape as [number, number, number, number];
  const own = reshape(indexSelect(pages, 0, reshape(table, [b * t])), [b, t, g, s, width]);
  return where(held, reshape(permute(own, [0, 2, 1, 3, 4]), [b, g, t * s, width]), 0);
}

/** The same by ops that have gradients, and kernels on every device: all positions that the tables reach are copied. */
function composed({ q, kPages, vPages, pageTable, lengths }: Inputs, { scale = 1, softcap = 0 }: Attrs): Outputs {
  const { device } = q;
  const [b, , n] = q.shape as [number, number, number];
  const [pages, , s] = kPages.shape as [number, number, number];
  const t = pages === 0 ? 0 : pageTable.shape[1]!;
  const m = t * s;
  // itself, but rejects a length that the table does not reach
  const counts = reshape(indexSelect(arange(m + 1, { device }), 0, lengths), [b, 1]);
  // entries that no length reaches may hold anything
  const reached = lt(mul(arange(t, { device }), s), counts);
  const table = where(reached, narrow(pageTable, 1, 0, t), 0);
  const ends = reshape(counts, [b, 1, 1, 1]);
  const held = lt(reshape(arange(m, { device }), [1, 1, m, 1]), ends);
  const positions = add(sub(ends, n), reshape(arange(n, { device }), [1, 1, n, 1]));
  const { output, lse } = attention(q, gathered(kPages, table, held), gathered(vPages, table, held), {
    mask: le(arange(m, { device }), positions),
    scale,
    ...(softcap ? { softcap } : {}),
    returnLse: true,
  });
  return { o: output, lse };
}

const pagedOp = defineOp({ kernel: 'pagedAttention', saves: [], reference: composed, gradient: null });

/** Options of `pagedAttention`. */
export interface PagedAttentionOptions {
  /** Integers [b, t]: the page of positions [i s, (i + 1) s) of a sequence. What no length reaches is not read. */
  pageTable: Tensor;
  /** Integers [b]: how many positions each sequence has, those of the queries included. */
  lengths: Tensor;
  /** Factor of the products; default 1 / sqrt(d). */
  scale?: number;
  /** c > 0: scores become c tanh(score / c) (Gemma 2). */
  softcap?: number;
  /** Give { output, lse } instead of the output; no gradient goes through lse. */
  returnLse?: boolean;
}
const optionNames = ['pageTable', 'lengths', 'scale', 'softcap', 'returnLse'] as const;

const ranks = [
  ['q', 4],
  ['kPages', 4],
  ['vPages', 4],
  ['pageTable', 2],
  ['lengths', 1],
] as const;

/** @throws FOVEA_DTYPE, FOVEA_DEVICE, FOVEA_SHAPE for what the kernel, or what stands for it, could not take */
function checkInputs(op: string, inputs: Inputs): void {
  const floats = slotOf(inputs.kPages, op, 'kPages').dtype;
  const device = inputs.q.slot!.device;
  for (const [name, rank] of ranks) {
    const given = slotOf(inputs[name], op, name);
    const integers = rank < 4;
    if (integers ? isFloat(given.dtype) || given.dtype === Code.bool : !isFloat(given.dtype))
      throw new FoveaError(
        'FOVEA_DTYPE',
        `${op}: expected ${integers ? 'integers' : 'floats'} for ${name}, received ${inputs[name].dtype}; convert it with .to('${integers ? 'int64' : 'float32'}')`,
      );
    if (!integers && given.dtype !== floats)
      throw new FoveaError(
        'FOVEA_DTYPE',
        `${op}: ${name} is ${inputs[name].dtype} but kPages is ${inputs.kPages.dtype}; convert one of them with .to(dtype)`,
      );
    if (given.device !== device)
      throw new FoveaError(
        'FOVEA_DEVICE',
        `${op}: ${name} is on ${deviceName(given.device)} but q is on ${deviceName(device)}; move one of them with to()`,
      );
  }
  const { q, kPages: k, vPages: v, pageTable, lengths } = inputs;
  const alike = (a: Tensor, i: number, c: Tensor, j: number): boolean => a.shape[i] === c.shape[j];
  const shaped = ranks.every(([name, rank]) => inputs[name].rank === rank);
  const paired = [0, 1, 2].every((axis) => alike(k, axis, v, axis)) && alike(q, 3, k, 3);
  if (!shaped || !paired || !alike(q, 0, pageTable, 0) || !alike(q, 0, lengths, 0))
    throw shapeError(
      op,
      `expected q [b,h,n,d], kPages [p,g,s,d], vPages [p,g,s,e], pageTable [b,t] and lengths [b], received ${ranks.map(([name]) => `${name} [${inputs[name].shape}]`).join(', ')}`,
    );
  const [h, g] = [q.shape[1]!, k.shape[1]!];
  if (g === 0 ? h !== 0 : h % g !== 0)
    throw shapeError(op, `h=${h} must be a multiple of g=${g} (q [${q.shape}], kPages [${k.shape}])`);
}

/**
 * Attention of the last n positions of each sequence over keys and values in pages (Kwon et al. 2023,
 * https://arxiv.org/abs/2309.06180). Query i of a sequence is at position lengths - n + i and sees the keys up to
 * there; one at a negative position sees none, as if every key were masked. Lengths and table are read when the op
 * runs, so a recorded step takes others at each call. On a GPU, which has no kernel for it, and where gradients are
 * wanted, pages are gathered, and `attention` runs over all that the tables reach (`fallbacks()` says so).
 *
 * @param q [b, h, n, d], floats; under `autocast` it takes the dtype of the pages, which are never converted
 * @param kPages [p, g, s, d]: p pages of s positions, g dividing h. Strides may be any whose last is 1, such as those
 *   of a pool [p, s, g, d] that is permuted
 * @param vPages [p, g, s, e]
 * @returns [b, h, n, e] in the dtype of `q`, rows that see no key being zeros; with `returnLse` also the lse [b, h, n].
 *   A sequence's results have the same bits whatever others are in the batch
 * @throws FOVEA_SHAPE if sizes do not fit, FOVEA_DTYPE unless q and pages are floats of one dtype, and table and
 *   lengths integers, FOVEA_ARGUMENT for options out of range; rejects with FOVEA_INDEX for a length beyond what the
 *   table reaches or a page that is not there
 */
export function pagedAttention(
  q: Tensor,
  kPages: Tensor,
  vPages: Tensor,
  options: PagedAttentionOptions & { returnLse?: false },
): Tensor;
export function pagedAttention(
  q: Tensor,
  kPages: Tensor,
  vPages: Tensor,
  options: PagedAttentionOptions & { returnLse: true },
): AttentionOutput;
export function pagedAttention(
  q: Tensor,
  kPages: Tensor,
  vPages: Tensor,
  options: PagedAttentionOptions,
): Tensor | AttentionOutput {
  const op = 'pagedAttention';
  const from = slotOf(q, op, 'q').dtype;
  const to = slotOf(kPages, op, 'kPages').dtype;
  const { pageTable, lengths, scale, softcap, returnLse } = optionsArg(op, options, optionNames);
  const converts = activeMode().autocast !== null && isFloat(from) && from !== Code.float64 && isFloat(to);
  const query = converts ? castTo(q, to) : q;
  const inputs: Inputs = { q: query, kPages, vPages, pageTable, lengths };
  checkInputs(op, inputs);
  const attrs = {
    scale: scale === undefined ? defaultScale(q) : numberArg(op, 'scale', scale),
    softcap: softcapArg(op, softcap),
  };
  const { o, lse } = [query, kPages, vPages].some(wantsGradient)
    ? insteadOf(op, 'its kernel has no gradient', () => composed(inputs, attrs))
    : pagedOp(inputs, attrs);
  return returnLse ? { output: o, lse } : o;
}
