/**
 * Sophia (Liu et al. 2023, https://arxiv.org/abs/2305.14342, algorithm 3): momentum divided by an average of estimates
 * of the Hessian's diagonal, each element cut to [-1, 1], with decoupled weight decay:
 *
 *   m = β₁ m + (1 - β₁) g,  every k steps  h = β₂ h + (1 - β₂) ĥ
 *   p = p - lr · (clip(m / max(γ h, eps), 1) + weightDecay · p)
 *
 * `updateHessian` takes the estimates ĥ, of `hutchinson` or `gaussNewtonBartlett` (hessian.ts). Where h is small or
 * negative, and before the first estimate, an element moves by lr in the direction of the momentum's sign. All
 * parameters of a group change in one native call; so do the averages of estimates.
 */
import { noGrad } from '../autograd/backward.js';
import { kernels } from '../ops/kernels.gen.js';
import { holdsWhile, varying } from '../tensor/capture.js';
import { argumentError, functionArg, optionsArg, shapeError } from '../tensor/check.js';
import { sameShape } from '../tensor/layout.js';
import { isTensor, type Tensor } from '../tensor/tensor.js';
import { tidy } from '../tensor/tidy.js';
import { betasArg, canReplay, follow, Optimizer, type ParamGroup, type Params, rateArg } from './optimizer.js';

/** Options of {@link Sophia}. */
export interface SophiaOptions {
  /** Default 1e-4. */
  lr: number;
  /** Decay of the averages of gradients and of estimates (default [0.965, 0.99]). */
  betas: readonly [number, number];
  /**
   * The scale of the Hessian, by which few or many elements are cut (default 0.05; the paper: 0.01 with Hutchinson's
   * estimates).
   */
  gamma: number;
  /** The least divisor; above 0 (default 1e-12). */
  eps: number;
  /** Default 0.1. */
  weightDecay: number;
}

interface SophiaState {
  step: number;
  expAvg: Tensor;
  hessian: Tensor;
}

/** Gives estimates of the Hessian's diagonal for parameters, in their order and shapes. */
export type HessianEstimator = (params: readonly Tensor[]) => readonly Tensor[];

/** Momentum in units of the curvature, cut. */
export class Sophia extends Optimizer<SophiaOptions> {
  static {
    canReplay(this);
  }
  constructor(params: Params<SophiaOptions>, options: Partial<SophiaOptions> = {}) {
    const known = ['lr', 'betas', 'gamma', 'eps', 'weightDecay'] as const;
    const defaults = { lr: 1e-4, betas: [0.965, 0.99], gamma: 0.05, eps: 1e-12, weightDecay: 0.1 } as const;
    super('Sophia', params, { ...defaults, ...optionsArg('Sophia', options, known) });
    for (const group of this.paramGroups) {
      for (const key of ['lr', 'gamma', 'eps', 'weightDecay'] as const) rateArg('Sophia', key, group[key]);
      if (group.eps === 0) throw argumentError('Sophia', 'eps', 'a number above 0', group.eps);
      betasArg('Sophia', group.betas);
    }
  }

  #initial(tensor: Tensor): SophiaState {
    return { step: 0, expAvg: this.buffer(tensor), hessian: this.buffer(tensor) };
  }

  /**
   * Takes estimates of the Hessian's diagonal into their average; every ten steps or so.
   *
   * @example
   * if (step % 10 === 0)
   *   optimizer.updateHessian((params) => optim.gaussNewtonBartlett(model.forward(batch), params));
   * @param estimator called at once with the parameters that require gradients; what it makes is freed
   * @throws FOVEA_ARGUMENT for what gives no list of as many estimates, FOVEA_SHAPE for one of another shape
   */
  updateHessian(estimator: HessianEstimator): void {
    functionArg('Sophia.updateHessian', 'estimator', estimator);
    tidy(() => {
      const params = this.paramGroups.flatMap((group) => group.params.filter(({ requiresGrad }) => requiresGrad));
      const estimates = estimatesArg(estimator(params), params);
      noGrad(() => this.paramGroups.forEach((group) => this.#follow(group, estimates)));
    });
  }

  #follow(group: ParamGroup<SophiaOptions>, estimates: ReadonlyMap<Tensor, Tensor>): void {
    const averages: Tensor[] = [];
    const values: Tensor[] = [];
    for (const p of group.params) {
      const estimate = estimates.get(p);
      if (!estimate) continue;
      if (!this.state.has(p)) this.state.set(p, { ...this.#initial(p) });
      const state = this.state.get(p)!;
      holdsWhile(() => this.state.get(p) === state);
      const average = state['hessian'] as Tensor;
      averages.push(average);
      values.push(estimate.detach().to(average.dtype));
    }
    follow(averages, values, () => 1 - group.betas[1]);
  }

  protected override update(group: ParamGroup<SophiaOptions>): void {
    const { betas, gamma, eps, weightDecay } = group;
    for (const { p, g, states } of this.batches(group.params, (tensor) => this.#initial(tensor))) {
      const averages = { m: states.map(({ expAvg }) => expAvg), h: states.map(({ hessian }) => hessian) };
      varying(
        'sophia_',
        () => ({ lr: group.lr }),
        ({ lr }) => kernels.sophia_({ p, g, ...averages }, { lr, beta1: betas[0], gamma, eps, weightDecay }),
      );
    }
  }
}

/** The estimates by parameter. */
function estimatesArg(estimates: unknown, params: readonly Tensor[]): Map<Tensor, Tensor> {
  const op = 'Sophia.updateHessian';
  if (!Array.isArray(estimates) || estimates.length !== params.length)
    throw argumentError(op, 'the result of estimator', `a list of ${params.length} tensors`, estimates);
  const found = new Map<Tensor, Tensor>();
  for (const [i, p] of params.entries()) {
    const estimate: unknown = estimates[i];
    if (!isTensor(estimate)) throw argumentError(op, `estimate ${i}`, 'a Tensor', estimate);
    if (!sameShape(estimate.shape, p.shape))
      throw shapeError(op, `estimate ${i} is [${estimate.shape}], its parameter [${p.shape}]`);
    found.set(p, estimate);
  }
  return found;
}
