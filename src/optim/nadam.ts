/**
 * NAdam (Dozat 2016, "Incorporating Nesterov momentum into Adam"), with the momentum schedule of its paper:
 *
 *   μ = β₁ (1 - 0.96^(t · momentumDecay) / 2),  μ' the same of t + 1,  Π the product of all μ so far
 *   p = p - lr · ((1 - μ) / (1 - Π) · g + μ' / (1 - Π μ') · m) / (sqrt(v / (1 - β₂ᵗ)) + eps)
 *
 * m and v are Adam's. All parameters of a group change in one native call.
 */
import { kernels } from '../ops/kernels.gen.js';
import { eachTime, holdsWhile, varying } from '../tensor/capture.js';
import { optionsArg } from '../tensor/check.js';
import type { Tensor } from '../tensor/tensor.js';
import { betasArg, canReplay, Optimizer, type ParamGroup, type Params, rateArg, StepBatch } from './optimizer.js';

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
  static {
    canReplay(this);
  }
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

  protected override update(group: ParamGroup<NAdamOptions>): void {
    const [beta1] = group.betas;
    const initial = (tensor: Tensor): NAdamState => ({
      step: 0,
      muProduct: 1,
      expAvg: this.buffer(tensor),
      expAvgSq: this.buffer(tensor),
    });
    const momentumAt = (step: number): number => beta1 * (1 - 0.5 * 0.96 ** (step * group.momentumDecay));
    for (const batch of this.batches(group.params, initial)) {
      // Equal counts of steps make equal products, unless the options were changed between.
      const byProduct = new Map<number, StepBatch<NAdamState>>();
      for (const [i, state] of batch.states.entries()) {
        if (!byProduct.has(state.muProduct)) byProduct.set(state.muProduct, new StepBatch());
        byProduct.get(state.muProduct)!.add(batch.p[i]!, batch.g[i]!, state);
      }
      for (const equal of byProduct.values()) this.#change(group, equal, momentumAt);
    }
  }

  #change(group: ParamGroup<NAdamOptions>, batch: StepBatch<NAdamState>, momentumAt: (step: number) => number): void {
    const { betas, eps, weightDecay, decoupledWeightDecay: decoupled, maximize } = group;
    const attrs = { beta1: betas[0], beta2: betas[1], eps, weightDecay, decoupled, maximize };
    const { p, g, states } = batch;
    const averages = { m: states.map(({ expAvg }) => expAvg), v: states.map(({ expAvgSq }) => expAvgSq) };
    holdsWhile(() => states.every(({ muProduct }) => muProduct === states[0]!.muProduct));
    eachTime(() => {
      for (const state of states) state.muProduct *= momentumAt(batch.step);
    });
    varying(
      'nadam_',
      () => {
        const { lr } = group;
        const { step } = batch;
        const [momentum, next, product] = [momentumAt(step), momentumAt(step + 1), states[0]!.muProduct];
        const gradientRate = (lr * (1 - momentum)) / (1 - product);
        return { lr, step, gradientRate, momentRate: (lr * next) / (1 - product * next) };
      },
      (now) => kernels.nadam_({ p, g, ...averages }, { ...attrs, ...now }),
    );
  }
}
