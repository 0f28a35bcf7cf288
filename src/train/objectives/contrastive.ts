/**
 * Contrastive objectives: of many candidates, the one that belongs to a query is to be the most similar,
 *
 *   -log(e^{z_i} / Σ_j e^{z_j}),  z = scale · cos(query, candidate)
 *
 * Embeddings are brought to unit length here; similarities are float32 (float64 for float64), also under `autocast`,
 * since a scale of 100 leaves 16-bit floats no fractions.
 */
import {
  add,
  arange,
  clamp,
  concat,
  crossEntropy,
  div,
  matmul,
  mul,
  norm,
  type Reduction,
  reshape,
  squeeze,
  sum,
  transpose,
  unsqueeze,
  zeros,
} from '../../ops/index.js';
import { castTo } from '../../ops/cast.js';
import { floatsArg } from '../../ops/floats-arg.js';
import { positiveArg, reduced, reductionArg, sameShapes } from '../../ops/loss-common.js';
import { resultType } from '../../ops/promote.js';
import { numberArg, optionsArg, probabilityArg, shapeError } from '../../tensor/check.js';
import { accumulatorOf } from '../../tensor/dtype.js';
import { autocast } from '../../tensor/modes.js';
import { isTensor, slotOf, type Tensor } from '../../tensor/tensor.js';

const KEEP = { keepdim: true };
/** x / |x| along the last axis, in one dtype for all; a vector of zeros stays zero. */
function units(...embeddings: Tensor[]): Tensor[] {
  const code = accumulatorOf(resultType(embeddings));
  return embeddings.map((x) => {
    const wide = castTo(x, code);
    return div(wide, clamp(norm(wide, -1, KEEP), { min: 1e-12 }));
  });
}

/** A number, or a tensor of one, which may be learned. @returns one that broadcasts with everything */
function scaleArg(op: string, argument: string, scale: Tensor | number): Tensor | number {
  if (!isTensor(scale)) return numberArg(op, argument, scale);
  const { shape } = slotOf(scale, op, argument);
  if (scale.size !== 1) throw shapeError(op, `expected one number for ${argument}, received [${shape.join(',')}]`);
  return reshape(scale, []);
}

/** Options of {@link clipLoss}. */
export interface ClipLossOptions {
  /** The share of the target that is spread over all pairs; default 0. */
  labelSmoothing?: number;
  /** Default 'mean'. */
  reduction?: Reduction;
}
/**
 * The symmetric loss of CLIP (Radford et al. 2021, https://arxiv.org/abs/2103.00020, figure 3): each image is to find
 * its text among those of the batch, and each text its image; the loss of a pair is the mean of both cross entropies.
 *
 * @param imageEmbeddings [n, d], floats of any length
 * @param textEmbeddings [n, d]: row i belongs to row i of the images
 * @param logitScale what the cosines are multiplied by, a number or a tensor of one: e to the power of CLIP's parameter
 *   `logit_scale`, so `model.logitScale.exp()`
 * @returns 0-d, or with reduction 'none' the losses [n]; float32 (float64 for float64). The mean over no pairs is NaN
 * @throws FOVEA_SHAPE or FOVEA_DTYPE for embeddings that do not fit, FOVEA_ARGUMENT for options out of range
 */
export function clipLoss(
  imageEmbeddings: Tensor,
  textEmbeddings: Tensor,
  logitScale: Tensor | number,
  options?: ClipLossOptions,
): Tensor {
  const op = 'clipLoss';
  const given = optionsArg(op, options, ['labelSmoothing', 'reduction']);
  const reduction = reductionArg(op, given.reduction);
  const labelSmoothing = probabilityArg(op, 'labelSmoothing', given.labelSmoothing ?? 0);
  floatsArg(op, 'imageEmbeddings', imageEmbeddings, [2]);
  floatsArg(op, 'textEmbeddings', textEmbeddings, [2]);
  sameShapes(op, { imageEmbeddings, textEmbeddings });
  const scale = scaleArg(op, 'logitScale', logitScale);
  return autocast(false, () => {
    const [images, texts] = units(imageEmbeddings, textEmbeddings) as [Tensor, Tensor];
    const logits = mul(matmul(images, transpose(texts, 0, 1)), scale);
    const own = arange(logits.shape[0]!, { device: logits.device });
    const search = (x: Tensor): Tensor => crossEntropy(x, own, { labelSmoothing, reduction: 'none' });
    return reduced(div(add(search(logits), search(transpose(logits, 0, 1))), 2), reduction);
  });
}

/** Options of {@link infoNCE}. */
export interface InfoNceOptions {
  /** What the cosines are divided by, a number above 0 or a tensor of one; default 0.1. */
  temperature?: Tensor | number;
  /** Default 'mean'. */
  reduction?: Reduction;
}

/** The cosines of each query with its negatives, [n, m]. */
function withNegatives(query: Tensor, negatives: Tensor): Tensor {
  if (negatives.rank === 2) return matmul(query, transpose(negatives, 0, 1));
  return squeeze(matmul(unsqueeze(query, 1), transpose(negatives, 1, 2)), 1);
}

function checkNegatives(op: string, query: Tensor, negatives: Tensor): void {
  const shape = floatsArg(op, 'negatives', negatives, [2, 3]);
  const [n, d] = query.shape;
  if (shape.at(-1) !== d || (shape.length === 3 && shape[0] !== n))
    throw shapeError(op, `query [${n},${d}] needs negatives [m,${d}] or [${n},m,${d}], received [${shape.join(',')}]`);
}

/**
 * InfoNCE (van den Oord et al. 2018, https://arxiv.org/abs/1807.03748): the cross entropy of finding the positive among
 * the negatives by their cosines, divided by a temperature. Without negatives the other positives of the batch are
 * those (SimCLR, Chen et al. 2020).
 *
 * @param query [n, d], floats of any length
 * @param positive [n, d]: row i belongs to row i of the queries
 * @param negatives [m, d] for all queries, or [n, m, d] for each its own
 * @returns 0-d, or with reduction 'none' the losses [n]; float32 (float64 for float64). The mean over no queries is NaN
 * @throws FOVEA_SHAPE or FOVEA_DTYPE for embeddings that do not fit, FOVEA_ARGUMENT for options out of range
 */
export function infoNCE(query: Tensor, positive: Tensor, negatives?: Tensor | null, options?: InfoNceOptions): Tensor {
  const op = 'infoNCE';
  const { temperature = 0.1, reduction } = optionsArg(op, options, ['temperature', 'reduction']);
  const how = reductionArg(op, reduction);
  floatsArg(op, 'query', query, [2]);
  floatsArg(op, 'positive', positive, [2]);
  sameShapes(op, { query, positive });
  if (negatives) checkNegatives(op, query, negatives);
  if (!isTensor(temperature)) positiveArg(op, 'temperature', temperature);
  const scale = scaleArg(op, 'temperature', temperature);
  return autocast(false, () => {
    const [q, p, others] = units(query, positive, ...(negatives ? [negatives] : [])) as [Tensor, Tensor, Tensor?];
    const { device } = q;
    const cosines = others
      ? concat([sum(mul(q, p), -1, KEEP), withNegatives(q, others)], 1)
      : matmul(q, transpose(p, 0, 1));
    const n = q.shape[0]!;
    const own = others ? zeros([n], { dtype: 'int64', device }) : arange(n, { device });
    return reduced(crossEntropy(div(cosines, scale), own, { reduction: 'none' }), how);
  });
}
