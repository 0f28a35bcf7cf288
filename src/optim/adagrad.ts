/**
 * Adagrad (Duchi et al. 2011, "Adaptive subgradient methods for online learning and stochastic optimization"):
 *
 *   sum = sum + g²,  p = p - lr / (1 + (t - 1) lrDecay) · g / (sqrt(sum) + eps)
 *
 * All parameters of a group change in one native call.
 */
import { kernels } from '../ops/kernels.gen.js';
import { varying } from '../tensor/capture.js';
import { optionsArg } from '../tensor/check.js';
import type { Tensor } from '../tensor/tensor.js';
import { canReplay, Optimizer, type ParamGroup, type Params, rateArg } from './optimizer.js';

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
  static {
    canReplay(this);
  }
  constructor(params: Params<AdagradOptions>, options: Partial<AdagradOptions> = {}) {
    const known = ['lr', 'lrDecay', 'weightDecay', 'initialAccumulatorValue', 'eps', 'maximize'] as const;
    const defaults = { lr: 1e-2, lrDecay: 0, weightDecay: 0, initialAccumulatorValue: 0, eps: 1e-10, maximize: false };
    super('Adagrad', params, { ...defaults, ...optionsArg('Adagrad', options, known) });
    for (const group of this.paramGroups)
      for (const key of ['lr', 'lrDecay', 'weightDecay', 'initialAccumulatorValue', 'eps'] as const)
        rateArg('Adagrad', key, group[key]);
  }

  protected override update(group: ParamGroup<AdagradOptions>): void {
    const { lrDecay, weightDecay, initialAccumulatorValue, eps, maximize } = group;
    const initial = (tensor: Tensor) => ({ step: 0, sum: this.buffer(tensor, initialAccumulatorValue) });
    for (const batch of this.batches(group.params, initial)) {
      const { p, g, states } = batch;
      const sum = states.map((state) => state.sum);
      varying(
        'adagrad_',
        () => ({ lr: group.lr / (1 + (batch.step - 1) * lrDecay) }),
        ({ lr }) => kernels.adagrad_({ p, g, sum }, { lr, eps, weightDecay, maximize }),
      );
    }
  }
}
