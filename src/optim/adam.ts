/**
 * Adam (Kingma & Ba 2015, https://arxiv.org/abs/1412.6980) and AdamW (Loshchilov & Hutter 2019,
 * https://arxiv.org/abs/1711.05101):
 *
 *   m = β₁ m + (1 - β₁) g,  v = β₂ v + (1 - β₂) g²
 *   p = p - lr · (m / (1 - β₁ᵗ)) / (sqrt(v / (1 - β₂ᵗ)) + eps)
 *
 * Weight decay: Adam adds weightDecay · p to the gradient g (an L2 term); AdamW subtracts lr · weightDecay · p from p.
 * All parameters of a group change in one native call.
 */
import { kernels } from '../ops/kernels.gen.js';
import { argumentError, optionsArg } from '../tensor/check.js';
import type { Tensor } from '../tensor/tensor.js';
import { Optimizer, type ParamGroup, type Params, rateArg } from './optimizer.js';

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
}

interface AdamState {
  step: number;
  expAvg: Tensor;
  expAvgSq: Tensor;
}

/** Parameters whose step counts agree: the bias corrections are one pair of numbers per call. */
interface Batch {
  p: Tensor[];
  g: Tensor[];
  m: Tensor[];
  v: Tensor[];
}

/** Adam, with weight decay as an L2 term. */
export class Adam extends Optimizer<AdamOptions> {
  /** Whether weight decay acts on the parameter instead of the gradient. */
  protected readonly decoupled: boolean;

  constructor(params: Params<AdamOptions>, options: Partial<AdamOptions> = {}, decoupled = false) {
    const name = decoupled ? 'AdamW' : 'Adam';
    const known = ['lr', 'betas', 'eps', 'weightDecay'] as const;
    const defaults = { lr: 1e-3, betas: [0.9, 0.999], eps: 1e-8, weightDecay: decoupled ? 0.01 : 0 } as const;
    const checked = { ...defaults, ...optionsArg(name, options, known) };
    super(name, params, checked);
    for (const group of this.paramGroups) {
      for (const key of ['lr', 'eps', 'weightDecay'] as const) rateArg(name, key, group[key]);
      const { betas } = group;
      if (!Array.isArray(betas) || betas.length !== 2 || betas.some((beta) => !(beta >= 0 && beta < 1)))
        throw argumentError(name, 'betas', 'two numbers of at least 0 and below 1', betas);
    }
    this.decoupled = decoupled;
  }

  #stateOf(tensor: Tensor): AdamState {
    let state = this.state.get(tensor);
    if (!state) this.state.set(tensor, (state = { step: 0, expAvg: this.zeros(tensor), expAvgSq: this.zeros(tensor) }));
    return state as unknown as AdamState;
  }

  protected override update({ params, lr, betas, eps, weightDecay }: ParamGroup<AdamOptions>): void {
    const batches = new Map<number, Batch>();
    for (const tensor of params) {
      if (!tensor.grad) continue;
      const state = this.#stateOf(tensor);
      const step = ++state.step;
      let batch = batches.get(step);
      if (!batch) batches.set(step, (batch = { p: [], g: [], m: [], v: [] }));
      batch.p.push(tensor);
      batch.g.push(tensor.grad);
      batch.m.push(state.expAvg);
      batch.v.push(state.expAvgSq);
    }
    const [beta1, beta2] = betas;
    const { decoupled } = this;
    for (const [step, batch] of batches) kernels.adamw_(batch, { lr, beta1, beta2, eps, weightDecay, step, decoupled });
  }
}

/** Adam with decoupled weight decay. */
export class AdamW extends Adam {
  constructor(params: Params<AdamOptions>, options: Partial<AdamOptions> = {}) {
    super(params, options, true);
  }
}
