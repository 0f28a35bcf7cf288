/**
 * A mixture of experts in the place of a feed-forward network (Shazeer et al. 2017, https://arxiv.org/abs/1701.06538):
 * for each token x, with E experts of which k are asked,
 *
 *   p = softmax(x W_rᵀ);  y = Σ over the k largest of p:  g_e · expert_e(x),  expert_e(x) = down_e(activation(up_e(x)))
 *
 * g is p, or p divided by its sum over the k (`normTopkProb`). Tokens are sorted by expert, and all experts are one
 * product (`groupedMatmul`). With a capacity, an expert takes ⌈capacityFactor · k T / E⌉ of T tokens: first choices
 * before second ones, and those in front before those behind. What it does not take it adds nothing to (Fedus et al.
 * 2022, https://arxiv.org/abs/2101.03961): past the layer, the residual goes on.
 *
 *   balanceLoss  E Σ_e f_e P_e: f the share of all choices that fell on e, P the mean of p_e; 1 in balance
 *                (Lepikhin et al. 2021, https://arxiv.org/abs/2006.16668; Fedus et al. 2022, eq. 4)
 *   zLoss        mean over tokens of (ln Σ exp(x W_rᵀ))²
 *                (Zoph et al. 2022, https://arxiv.org/abs/2202.08906, eq. 5)
 */
import {
  arange,
  argsort,
  cumsum,
  empty,
  groupedMatmul,
  indexSelect,
  logsumexp,
  lt,
  oneHot,
  remainder,
  reshape,
  softmax,
  sub,
  sum,
  topk,
  transpose,
  unsqueeze,
  where,
} from '../ops/index.js';
import { argumentError, countArg, numberArg, optionsArg, shapeError } from '../tensor/check.js';
import { accumulatorOf, type Dtype, dtypeNames } from '../tensor/dtype.js';
import { slotOf, type Tensor } from '../tensor/tensor.js';
import { type Activation, activationOf } from './activations.js';
import { uniform_ } from './init.js';
import { Linear } from './linear.js';
import { Module } from './module.js';
import { parameter } from './parameter.js';

/** Options of {@link MixtureOfExperts}. */
export interface MixtureOfExpertsOptions {
  /** How many experts there are. */
  numExperts: number;
  /** How many of them each token asks (default 2; Switch: 1). */
  topK?: number;
  /** A name or a function (default relu). */
  activation?: string | Activation;
  /** Whether experts are gated: down(activation(gate(x)) · up(x)) (default false). */
  gated?: boolean;
  /** Whether the weights of the experts asked add up to 1 (default: where there are several). */
  normTopkProb?: boolean;
  /** How many times its share of the tokens an expert takes (default: all that come). */
  capacityFactor?: number;
  /** Of the parameters; default float32. */
  dtype?: Dtype;
}

/** What {@link MixtureOfExperts} gives. */
export interface MixtureOfExpertsOutput {
  /** [..., dModel] */
  output: Tensor;
  /** A scalar to add to the loss, times 0.01 or so: 1 in balance, up to numExperts. */
  balanceLoss: Tensor;
  /** A scalar to add to the loss, times 0.001 or so. */
  zLoss: Tensor;
  /** [numExperts] int64: how many tokens chose each expert, those beyond its capacity included. */
  load: Tensor;
}

/** Who goes where. All of [k T] are in the order of experts. */
interface Routes {
  /** Which token each is. */
  readonly tokens: Tensor;
  /** Where choice c of token t is, at c T + t. */
  readonly places: Tensor;
  /** [E]: where each expert's end. */
  readonly ends: Tensor;
  /** What each counts, 0 beyond the capacity. */
  readonly weights: Tensor;
}

/**
 * Experts and their router. Keys: `router.weight` [E, dModel], `up_proj` and, where gated, `gate_proj` [E,
 * dimFeedforward, dModel], `down_proj` [E, dModel, dimFeedforward].
 */
export class MixtureOfExperts extends Module {
  /** How many experts there are. */
  readonly numExperts: number;
  /** How many of them each token asks. */
  readonly topK: number;
  /** Within experts. */
  readonly activation: Activation;
  /** Whether the weights of the experts asked add up to 1. */
  readonly normTopkProb: boolean;
  /** How many times its share of the tokens an expert takes. */
  readonly capacityFactor: number | undefined;
  /** dModel to a score for each expert. */
  router: Linear;
  /** [E, dimFeedforward, dModel], where gated. */
  gateProj: Tensor | undefined;
  /** [E, dimFeedforward, dModel] */
  upProj: Tensor;
  /** [E, dModel, dimFeedforward] */
  downProj: Tensor;

  /** Each matrix initialised as that of a Linear. */
  constructor(dModel: number, dimFeedforward: number, options: MixtureOfExpertsOptions) {
    super();
    const op = 'MixtureOfExperts';
    if (options === undefined) throw argumentError(op, 'options', 'an object with numExperts', options);
    const known = ['numExperts', 'topK', 'activation', 'gated', 'normTopkProb', 'capacityFactor', 'dtype'] as const;
    const { numExperts, topK = 2, activation = 'relu', ...rest } = optionsArg(op, options, known);
    const { gated = false, normTopkProb = topK > 1, capacityFactor, dtype = 'float32' } = rest;
    countArg(op, 'dModel', dModel, 1);
    countArg(op, 'dimFeedforward', dimFeedforward, 1);
    this.numExperts = countArg(op, 'numExperts', numExperts, 1);
    this.topK = countArg(op, 'topK', topK, 1);
    if (topK > numExperts) throw argumentError(op, 'topK', `at most numExperts (${numExperts})`, topK);
    if (capacityFactor !== undefined && !(numberArg(op, 'capacityFactor', capacityFactor) > 0))
      throw argumentError(op, 'capacityFactor', 'a number above 0', capacityFactor);
    this.activation = activationOf(activation, `${op}: activation`);
    this.normTopkProb = normTopkProb;
    this.capacityFactor = capacityFactor;
    const weights = (n: number, k: number): Tensor =>
      parameter(uniform_(empty([numExperts, n, k], { dtype }), -1 / Math.sqrt(k), 1 / Math.sqrt(k)));
    this.router = new Linear(dModel, numExperts, { bias: false, dtype });
    if (gated) this.gateProj = weights(dimFeedforward, dModel);
    this.upProj = weights(dimFeedforward, dModel);
    this.downProj = weights(dModel, dimFeedforward);
  }

  /**
   * @param x [..., dModel], at least one token
   * @returns the output of the shape of `x`, losses for the router, and the load of the experts
   * @throws FOVEA_SHAPE for another width, or no token
   */
  override forward(x: Tensor): MixtureOfExpertsOutput {
    const { shape } = slotOf(x, 'MixtureOfExperts', 'x');
    const d = this.router.inFeatures;
    if (shape.at(-1) !== d || x.size === 0)
      throw shapeError('MixtureOfExperts', `expected x [...,${d}] with a token at least, received [${shape}]`);
    const rows = x.reshape([-1, d]);
    const scores = this.router.forward(rows);
    // Sums of exponentials need more than 16 bits.
    const logits = scores.to(dtypeNames[accumulatorOf(scores.slot!.dtype)]!);
    const p = softmax(logits, -1);
    const { values, indices } = topk(p, this.topK, -1);
    const chosen = this.normTopkProb ? values.div(values.sum(-1, { keepdim: true })) : values;
    const load = sum(oneHot(indices, this.numExperts), [0, 1]);
    const share = load.to(p.dtype).div(indices.size);
    return {
      output: this.#mixed(rows, this.#routes(indices, chosen, load)).reshape(shape),
      balanceLoss: sum(share.mul(p.mean(0))).mul(this.numExperts),
      zLoss: logsumexp(logits, -1).square().mean(),
      load,
    };
  }

  /** @param experts [T, k] @param weights [T, k] @param load [E] */
  #routes(experts: Tensor, weights: Tensor, load: Tensor): Routes {
    const { device } = experts;
    const tokens = experts.shape[0]!;
    const all = experts.size;
    // Choice by choice, so that a stable sort leaves first choices in front of second ones.
    const byChoice = (x: Tensor): Tensor => reshape(transpose(x, 0, 1), [all]);
    const chosen = byChoice(experts);
    const order = argsort(chosen, 0);
    const ends = cumsum(load, 0);
    const sorted = indexSelect(byChoice(weights), 0, order);
    const routes = { tokens: remainder(order, tokens), places: argsort(order, 0), ends };
    if (this.capacityFactor === undefined) return { ...routes, weights: sorted };
    const begins = indexSelect(sub(ends, load), 0, indexSelect(chosen, 0, order));
    const place = sub(arange(all, { device, dtype: 'int64' }), begins);
    const capacity = Math.ceil((this.capacityFactor * all) / this.numExperts);
    return { ...routes, weights: where(lt(place, capacity), sorted, 0) };
  }

  /** @returns [T, dModel] */
  #mixed(rows: Tensor, { tokens, places, ends, weights }: Routes): Tensor {
    const [count, d] = rows.shape as [number, number];
    const sorted = indexSelect(rows, 0, tokens);
    const product = (x: Tensor, weight: Tensor): Tensor => groupedMatmul(x, transpose(weight, 1, 2), ends);
    const up = product(sorted, this.upProj);
    const hidden = this.gateProj ? this.activation(product(sorted, this.gateProj)).mul(up) : this.activation(up);
    const out = product(hidden, this.downProj);
    const weighted = out.mul(unsqueeze(weights, 1).to(out.dtype));
    return sum(reshape(indexSelect(weighted, 0, places), [this.topK, count, d]), 0);
  }
}
