/**
 * Adagrad (Duchi et al. 2011, "Adaptive subgradient methods for online learning and stochastic optimization"):
 *
 *   sum = sum + g²,  p = p - lr / (1 + (t - 1) lrDecay) · g / (sqrt(sum) + eps)
 *
 * All parameters of a group change in one native call.
 */
import { kernels } from '../ops/kernels.gen.js';
import { optionsArg } from '../tensor/check.js';
import type { Tensor } from '../tensor/tensor.js';
import { Optimizer, type ParamGroup, type Params, rateArg } from './optimizer.js';

/** Options of {@link Adagrad}. */
export interface AdagradOptions {
  /** Default 1e-2. */
  lr: number;
  /** How the rate falls with the steps (default 0). */
  lrDecay: number;
  /** An L2 term: its product with the parameter is added to the gradient (default 0). */
  weightDecay: number;
  /** What the sums of squares start from (default 0). */
  initialAccumulatorValue: number;
  /** Default 1e-10. */
  eps: number;
  /** Whether to ascend (default false). */
  maximize: boolean;
}

/** Rates that fall with the squares of the gradients so far. */
export class Adagrad extends Optimizer<AdagradOptions> {
  constructor(params: Params<AdagradOptions>, options: Partial<AdagradOptions> = {}) {
    const known = ['lr', 'lrDecay', 'weightDecay', 'initialAccumulatorValue', 'eps', 'maximize'] as const;
    const defaults = { lr: 1e-2, lrDecay: 0, weightDecay: 0, initialAccumulatorValue: 0, eps: 1e-10, maximize: false };
    super('Adagrad', params, { ...defaults, ...optionsArg('Adagrad', options, known) });
    for (const group of this.paramGroups)
      for (const key of ['lr', 'lrDecay', 'weightDecay', 'initialAccumulatorValue', 'eps'] as const)
        rateArg('Adagrad', key, group[key]);
  }

  protected override update({ params, lr, lrDecay, ...options }: ParamGroup<AdagradOptions>): void {
    const { weightDecay, initialAccumulatorValue, eps, maximize } = options;
    const initial = (tensor: Tensor) => ({ step: 0, sum: this.zeros(tensor).fill_(initialAccumulatorValue) });
    for (const { step, p, g, states } of this.batches(params, initial)) {
      const attrs = { lr: lr / (1 + (step - 1) * lrDecay), eps, weightDecay, maximize };
      kernels.adagrad_({ p, g, sum: states.map(({ sum }) => sum) }, attrs);
    }
  }
}
