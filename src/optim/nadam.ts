/**
 * NAdam (Dozat 2016, "Incorporating Nesterov momentum into Adam"), with the momentum schedule of its paper:
 *
 *   μ = β₁ (1 - 0.96^(t · momentumDecay) / 2),  μ' the same of t + 1,  Π the product of all μ so far
 *   p = p - lr · ((1 - μ) / (1 - Π) · g + μ' / (1 - Π μ') · m) / (sqrt(v / (1 - β₂ᵗ)) + eps)
 *
 * m and v are Adam's. All parameters of a group change in one native call.
 */
import { kernels } from '../ops/kernels.gen.js';
import { optionsArg } from '../tensor/check.js';
import type { Tensor } from '../tensor/tensor.js';
import { betasArg, Optimizer, type ParamGroup, type Params, rateArg } from './optimizer.js';

/** Options of {@link NAdam}. */
export interface NAdamOptions {
  /** Default 2e-3. */
  lr: number;
  /** Decay of both averages (default [0.9, 0.999]). */
  betas: readonly [number, number];
  /** Default 1e-8. */
  eps: number;
  /** Default 0. */
  weightDecay: number;
  /** How fast the momentum approaches its limit (default 4e-3). */
  momentumDecay: number;
  /** Whether weight decay acts on the parameter, as in AdamW, instead of the gradient (default false). */
  decoupledWeightDecay: boolean;
  /** Whether to ascend (default false). */
  maximize: boolean;
}

interface NAdamState {
  step: number;
  muProduct: number;
  expAvg: Tensor;
  expAvgSq: Tensor;
}

/** Adam with Nesterov momentum. */
export class NAdam extends Optimizer<NAdamOptions> {
  constructor(params: Params<NAdamOptions>, options: Partial<NAdamOptions> = {}) {
    const known = ['lr', 'betas', 'eps', 'weightDecay', 'momentumDecay', 'decoupledWeightDecay', 'maximize'] as const;
    const averages = { betas: [0.9, 0.999], eps: 1e-8 } as const;
    const decays = { weightDecay: 0, momentumDecay: 4e-3, decoupledWeightDecay: false };
    super('NAdam', params, {
      lr: 2e-3,
      ...averages,
      ...decays,
      maximize: false,
      ...optionsArg('NAdam', options, known),
    });
    for (const group of this.paramGroups) {
      for (const key of ['lr', 'eps', 'weightDecay', 'momentumDecay'] as const) rateArg('NAdam', key, group[key]);
      betasArg('NAdam', group.betas);
    }
  }

  protected override update({ params, lr, betas, momentumDecay, ...options }: ParamGroup<NAdamOptions>): void {
    const { eps, weightDecay, decoupledWeightDecay: decoupled, maximize } = options;
    const [beta1, beta2] = betas;
    const initial = (tensor: Tensor): NAdamState => ({
      step: 0,
      muProduct: 1,
      expAvg: this.zeros(tensor),
      expAvgSq: this.zeros(tensor),
    });
    const momentumAt = (step: number): number => beta1 * (1 - 0.5 * 0.96 ** (step * momentumDecay));
    const attrs = { lr, beta1, beta2, eps, weightDecay, decoupled, maximize };
    for (const { step, p, g, states } of this.batches(params, initial)) {
      const [momentum, next] = [momentumAt(step), momentumAt(step + 1)];
      for (const state of states) state.muProduct *= momentum;
      // Equal counts of steps make equal products, unless the options were changed between.
      for (const product of new Set(states.map(({ muProduct }) => muProduct))) {
        const mine = states.flatMap(({ muProduct }, i) => (muProduct === product ? [i] : []));
        const pick = <T>(of: (i: number) => T): T[] => mine.map(of);
        kernels.nadam_(
          {
            p: pick((i) => p[i]!),
            g: pick((i) => g[i]!),
            m: pick((i) => states[i]!.expAvg),
            v: pick((i) => states[i]!.expAvgSq),
          },
          {
            ...attrs,
            step,
            gradientRate: (lr * (1 - momentum)) / (1 - product),
            momentRate: (lr * next) / (1 - product * next),
          },
        );
      }
    }
  }
}
