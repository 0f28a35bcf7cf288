/**
 * Estimates of the diagonal of a loss's Hessian, each in about the time of one or two steps' gradients (Liu et al.
 * 2023, https://arxiv.org/abs/2305.14342, section 2.3). Their means over many draws are the diagonal itself:
 *
 *   hutchinson             u ⊙ (H u), the elements of u independent with E u = 0 and E u² = 1 (Hutchinson 1990)
 *   gaussNewtonBartlett    n ĝ ⊙ ĝ, ĝ the gradient of the mean cross entropy of n rows of logits with classes drawn
 *                          from their own softmax: the diagonal of the Gauss-Newton matrix, of which no element is
 *                          negative
 */
import { grad } from '../autograd/backward.js';
import { freeGraph } from '../autograd/engine.js';
import {
  bernoulli,
  crossEntropy,
  fullLike,
  type Generator,
  multinomial,
  randn,
  softmax,
  zerosLike,
} from '../ops/index.js';
import { argumentError, optionsArg, shapeError } from '../tensor/check.js';
import { slotOf, type Tensor } from '../tensor/tensor.js';
import { tidy } from '../tensor/tidy.js';
import { wideOf } from './optimizer.js';

/** Options of {@link hutchinson}. */
export interface HutchinsonOptions {
  /**
   * What u is drawn from: 'rademacher', -1 or 1 (default; exact where the Hessian is diagonal, and of the least
   * variance), or 'normal', as in the paper.
   */
  distribution?: 'rademacher' | 'normal';
  /** Keep what the graph of the loss saved, for a `backward()` of the same loss behind this (default false). */
  retainGraph?: boolean;
  /** Where the random numbers come from. */
  generator?: Generator;
}

function paramsArg(op: string, params: Iterable<Tensor>): Tensor[] {
  if (typeof params !== 'object' || params === null || !(Symbol.iterator in params))
    throw argumentError(op, 'params', 'a list of tensors', params);
  const list = [...params];
  if (list.length === 0) throw argumentError(op, 'params', 'at least one tensor', list);
  return list;
}

/** Independent numbers of mean 0 and variance 1 in the shape of `x`. */
function draw(x: Tensor, { distribution = 'rademacher', generator }: HutchinsonOptions): Tensor {
  const from = generator === undefined ? {} : { generator };
  if (distribution === 'normal') return randn(x.shape, { dtype: x.dtype, device: x.device, ...from });
  return bernoulli(fullLike(x, 0.5), from).mul(2).sub(1);
}

/**
 * Hutchinson's estimate of the diagonal of the Hessian of `loss`, by a product of the Hessian and a random vector.
 *
 * @param loss one element, with the graph that it was computed by, which is freed unless `retainGraph`
 * @param params tensors of that graph that require gradients
 * @returns as many tensors of their shapes, float64 for parameters of that dtype and else float32; zeros where the
 *   loss is linear, or does not depend on a parameter
 * @throws FOVEA_ARGUMENT for options that it does not know, FOVEA_AUTOGRAD like `grad`
 */
export function hutchinson(loss: Tensor, params: Iterable<Tensor>, options: HutchinsonOptions = {}): Tensor[] {
  const given = optionsArg('hutchinson', options, ['distribution', 'retainGraph', 'generator']);
  const { distribution = 'rademacher', retainGraph = false } = given;
  if (distribution !== 'rademacher' && distribution !== 'normal')
    throw argumentError('hutchinson', 'distribution', "'rademacher' or 'normal'", distribution);
  return alongVectors(loss, paramsArg('hutchinson', params), (g) => draw(g, given), retainGraph);
}

/**
 * The estimate of {@link hutchinson} for one u, whatever it is drawn from.
 *
 * @param vectorOf gives what u has for a parameter, by its gradient and its place in `params`
 * @returns u ⊙ (H u)
 */
export function alongVectors(
  loss: Tensor,
  params: readonly Tensor[],
  vectorOf: (gradient: Tensor, place: number) => Tensor,
  retainGraph: boolean,
): Tensor[] {
  return tidy(() => {
    const gradients = grad(loss, params, { createGraph: true, allowUnused: true });
    try {
      // A gradient that depends on no parameter has no second derivative.
      const drawn = gradients.map((g, i) => (g?.requiresGrad ? vectorOf(g, i) : null));
      return timesHessian(gradients, params, drawn);
    } finally {
      // The second walk goes through the gradients' graph, which need not lead through all of the loss's.
      if (!retainGraph) freeGraph([loss, ...gradients.filter((g) => g !== null)]);
    }
  });
}

/** u ⊙ (H u) from gradients that can be differentiated. */
function timesHessian(
  gradients: readonly (Tensor | null)[],
  params: readonly Tensor[],
  drawn: readonly (Tensor | null)[],
): Tensor[] {
  const bent = gradients.flatMap((g, i) => (drawn[i] ? [{ g: g!, u: drawn[i] }] : []));
  if (bent.length === 0) return params.map((p) => zerosLike(p).to(wideOf(p)));
  const outputs = bent.map(({ g }) => g);
  const gradOutputs = bent.map(({ u }) => u);
  const products = grad(outputs, params, { gradOutputs, retainGraph: true, allowUnused: true });
  return params.map((p, i) => {
    const [u, product] = [drawn[i], products[i]];
    return u && product ? u.to(wideOf(p)).mul(product) : zerosLike(p).to(wideOf(p));
  });
}

/** Options of {@link gaussNewtonBartlett}. */
export interface GaussNewtonBartlettOptions {
  /** Keep what the graph of the logits saved, for a `backward()` through them behind this (default false). */
  retainGraph?: boolean;
  /** Where the random numbers come from. */
  generator?: Generator;
}

/**
 * The Gauss-Newton-Bartlett estimate of the diagonal of the Hessian of the mean cross entropy, which needs no second
 * derivatives and no labels.
 *
 * @param logits [..., classes], every row of which counts: leave out those of padding. Its graph is freed unless
 *   `retainGraph`
 * @param params tensors of that graph that require gradients
 * @returns as many tensors of their shapes, float64 for parameters of that dtype and else float32, at least 0
 * @throws FOVEA_SHAPE for logits without rows or classes, FOVEA_ARGUMENT for options that it does not know,
 *   FOVEA_AUTOGRAD like `grad`
 */
export function gaussNewtonBartlett(
  logits: Tensor,
  params: Iterable<Tensor>,
  options: GaussNewtonBartlettOptions = {},
): Tensor[] {
  const { retainGraph = false, generator } = optionsArg('gaussNewtonBartlett', options, ['retainGraph', 'generator']);
  const { shape } = slotOf(logits, 'gaussNewtonBartlett', 'logits');
  const classes = shape.at(-1) ?? 0;
  if (logits.size === 0 || classes === 0)
    throw shapeError('gaussNewtonBartlett', `expected logits [..., classes] of at least one row, received [${shape}]`);
  const list = paramsArg('gaussNewtonBartlett', params);
  const rows = logits.size / classes;
  return tidy(() => {
    const flat = logits.reshape([rows, classes]);
    const drawn = multinomial(softmax(flat.detach(), -1), 1, generator === undefined ? {} : { generator });
    return squaredSlopes(flat, drawn.reshape([rows]), list, retainGraph);
  });
}

/**
 * The estimate of {@link gaussNewtonBartlett} for one draw of classes, whatever they are drawn from.
 *
 * @param logits [n, classes]
 * @param drawn [n], int64
 * @returns n ĝ ⊙ ĝ
 */
export function squaredSlopes(
  logits: Tensor,
  drawn: Tensor,
  params: readonly Tensor[],
  retainGraph: boolean,
): Tensor[] {
  return tidy(() => {
    const gradients = grad(crossEntropy(logits, drawn), params, { retainGraph, allowUnused: true });
    const [rows] = logits.shape as [number];
    // In float16, squares of small gradients would be 0 and those of large ones infinite.
    return params.map((p, i) => gradients[i]?.to(wideOf(p)).square().mul(rows) ?? zerosLike(p).to(wideOf(p)));
  });
}
