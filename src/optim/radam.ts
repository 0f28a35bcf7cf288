/**
 * RAdam (Liu et al. 2020, https://arxiv.org/abs/1908.03265): Adam whose adaptive rate is rectified by how well the
 * variance of the gradients is known, and left out while it is not:
 *
 *   ρ∞ = 2 / (1 - β₂) - 1,  ρ = ρ∞ - 2 t β₂ᵗ / (1 - β₂ᵗ)
 *   p = p - lr · m / (1 - β₁ᵗ) · r · sqrt(1 - β₂ᵗ) / (sqrt(v) + eps)   if ρ > 5, else   p = p - lr · m / (1 - β₁ᵗ)
 *   r = sqrt((ρ - 4) (ρ - 2) ρ∞ / ((ρ∞ - 4) (ρ∞ - 2) ρ))
 *
 * All parameters of a group change in one native call.
 */
import { kernels } from '../ops/kernels.gen.js';
import { varying } from '../tensor/capture.js';
import { optionsArg } from '../tensor/check.js';
import type { Tensor } from '../tensor/tensor.js';
import { betasArg, canReplay, Optimizer, type ParamGroup, type Params, rateArg } from './optimizer.js';

/** Options of {@link RAdam}. */
export interface RAdamOptions {
  /** Default 1e-3. */
  lr: number;
  /** Decay of both averages (default [0.9, 0.999]). */
  betas: readonly [number, number];
  /** Default 1e-8. */
  eps: number;
  /** Default 0. */
  weightDecay: number;
  /** Whether weight decay acts on the parameter, as in AdamW, instead of the gradient (default false). */
  decoupledWeightDecay: boolean;
  /** Whether to ascend (default false). */
  maximize: boolean;
}

/** Adam with a rectified adaptive rate. */
export class RAdam extends Optimizer<RAdamOptions> {
  static {
    canReplay(this);
  }
  constructor(params: Params<RAdamOptions>, options: Partial<RAdamOptions> = {}) {
    const known = ['lr', 'betas', 'eps', 'weightDecay', 'decoupledWeightDecay', 'maximize'] as const;
    const averages = { betas: [0.9, 0.999], eps: 1e-8 } as const;
    const defaults = { lr: 1e-3, ...averages, weightDecay: 0, decoupledWeightDecay: false, maximize: false };
    super('RAdam', params, { ...defaults, ...optionsArg('RAdam', options, known) });
    for (const group of this.paramGroups) {
      for (const key of ['lr', 'eps', 'weightDecay'] as const) rateArg('RAdam', key, group[key]);
      betasArg('RAdam', group.betas);
    }
  }

  protected override update(group: ParamGroup<RAdamOptions>): void {
    const { betas, eps, weightDecay, decoupledWeightDecay: decoupled, maximize } = group;
    const initial = (tensor: Tensor) => ({ step: 0, expAvg: this.buffer(tensor), expAvgSq: this.buffer(tensor) });
    const attrs = { beta1: betas[0], beta2: betas[1], eps, weightDecay, decoupled, maximize };
    for (const batch of this.batches(group.params, initial)) {
      const { p, g, states } = batch;
      const averages = { m: states.map(({ expAvg }) => expAvg), v: states.map(({ expAvgSq }) => expAvgSq) };
      varying(
        'radam_',
        () => ({ lr: group.lr, step: batch.step }),
        (now) => kernels.radam_({ p, g, ...averages }, { ...attrs, ...now }),
      );
    }
  }
}
