/**
 * Adam (Kingma & Ba 2015, https://arxiv.org/abs/1412.6980) and AdamW (Loshchilov & Hutter 2019,
 * https://arxiv.org/abs/1711.05101), with AMSGrad (Reddi et al. 2018, https://arxiv.org/abs/1904.09237) on request:
 *
 *   m = β₁ m + (1 - β₁) g,  v = β₂ v + (1 - β₂) g²
 *   p = p - lr · (m / (1 - β₁ᵗ)) / (sqrt(v / (1 - β₂ᵗ)) + eps),  amsgrad: of the largest v so far
 *
 * Weight decay: Adam adds weightDecay · p to the gradient g (an L2 term); AdamW subtracts lr · weightDecay · p from p.
 * All parameters of a group change in one native call.
 */
import { kernels } from '../ops/kernels.gen.js';
import { varying } from '../tensor/capture.js';
import { optionsArg } from '../tensor/check.js';
import type { Tensor } from '../tensor/tensor.js';
import { betasArg, canReplay, Optimizer, type ParamGroup, type Params, rateArg } from './optimizer.js';

/** Options of {@link Adam} and {@link AdamW}. */
export interface AdamOptions {
  /** Default 1e-3. */
  lr: number;
  /** Decay of both averages (default [0.9, 0.999]). */
  betas: readonly [number, number];
  /** Default 1e-8. */
  eps: number;
  /** Default 0.01 for AdamW, 0 for Adam. */
  weightDecay: number;
  /** Whether to divide by the largest average of squares so far (default false). */
  amsgrad: boolean;
  /** Whether to ascend (default false). */
  maximize: boolean;
}

interface AdamState {
  step: number;
  expAvg: Tensor;
  expAvgSq: Tensor;
  maxExpAvgSq?: Tensor;
}

/** Adam, with weight decay as an L2 term. */
export class Adam extends Optimizer<AdamOptions> {
  static {
    canReplay(this);
  }
  /** Whether weight decay acts on the parameter instead of the gradient. */
  protected readonly decoupled: boolean;

  constructor(params: Params<AdamOptions>, options: Partial<AdamOptions> = {}, decoupled = false) {
    const name = decoupled ? 'AdamW' : 'Adam';
    const known = ['lr', 'betas', 'eps', 'weightDecay', 'amsgrad', 'maximize'] as const;
    const averages = { betas: [0.9, 0.999], eps: 1e-8 } as const;
    const defaults = { lr: 1e-3, ...averages, weightDecay: decoupled ? 0.01 : 0, amsgrad: false, maximize: false };
    super(name, params, { ...defaults, ...optionsArg(name, options, known) });
    for (const group of this.paramGroups) {
      for (const key of ['lr', 'eps', 'weightDecay'] as const) rateArg(name, key, group[key]);
      betasArg(name, group.betas);
    }
    this.decoupled = decoupled;
  }

  protected override update(group: ParamGroup<AdamOptions>): void {
    const { betas, eps, weightDecay, amsgrad, maximize } = group;
    const initial = (tensor: Tensor): AdamState => ({
      step: 0,
      expAvg: this.buffer(tensor),
      expAvgSq: this.buffer(tensor),
    });
    const [beta1, beta2] = betas;
    const { decoupled } = this;
    const attrs = { beta1, beta2, eps, weightDecay, decoupled, amsgrad, maximize };
    for (const batch of this.batches(group.params, initial)) {
      const { p, g, states } = batch;
      const largest = amsgrad ? states.map((state, i) => (state.maxExpAvgSq ??= this.buffer(p[i]!))) : undefined;
      const averages = { m: states.map(({ expAvg }) => expAvg), v: states.map(({ expAvgSq }) => expAvgSq) };
      varying(
        'adamw_',
        () => ({ lr: group.lr, step: batch.step }),
        (now) => kernels.adamw_({ p, g, ...averages, ...(largest ? { vMax: largest } : {}) }, { ...attrs, ...now }),
      );
    }
  }
}

/** Adam with decoupled weight decay. */
export class AdamW extends Adam {
  static {
    canReplay(this);
  }
  constructor(params: Params<AdamOptions>, options: Partial<AdamOptions> = {}) {
    super(params, options, true);
  }
}
