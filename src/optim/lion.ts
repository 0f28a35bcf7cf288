/**
 * Lion (Chen et al. 2023, https://arxiv.org/abs/2302.06675), with decoupled weight decay:
 *
 *   p = p - lr · (sign(β₁ m + (1 - β₁) g) + weightDecay · p),  m = β₂ m + (1 - β₂) g
 *
 * All parameters of a group change in one native call.
 */
import { kernels } from '../ops/kernels.gen.js';
import { varying } from '../tensor/capture.js';
import { optionsArg } from '../tensor/check.js';
import type { Tensor } from '../tensor/tensor.js';
import { betasArg, canReplay, Optimizer, type ParamGroup, type Params, rateArg } from './optimizer.js';

/** Options of {@link Lion}. */
export interface LionOptions {
  /** Default 1e-4. */
  lr: number;
  /** Of what the sign is taken of, and of the average (default [0.9, 0.99]). */
  betas: readonly [number, number];
  /** Default 0. */
  weightDecay: number;
  /** Whether to ascend (default false). */
  maximize: boolean;
}

/** Steps of one size, in the direction of the momentum's sign. */
export class Lion extends Optimizer<LionOptions> {
  static {
    canReplay(this);
  }
  constructor(params: Params<LionOptions>, options: Partial<LionOptions> = {}) {
    const known = ['lr', 'betas', 'weightDecay', 'maximize'] as const;
    const defaults = { lr: 1e-4, betas: [0.9, 0.99], weightDecay: 0, maximize: false } as const;
    super('Lion', params, { ...defaults, ...optionsArg('Lion', options, known) });
    for (const group of this.paramGroups) {
      for (const key of ['lr', 'weightDecay'] as const) rateArg('Lion', key, group[key]);
      betasArg('Lion', group.betas);
    }
  }

  protected override update(group: ParamGroup<LionOptions>): void {
    const { betas, weightDecay, maximize } = group;
    const initial = (tensor: Tensor) => ({ step: 0, expAvg: this.buffer(tensor) });
    for (const { p, g, states } of this.batches(group.params, initial)) {
      const m = states.map(({ expAvg }) => expAvg);
      varying(
        'lion_',
        () => ({ lr: group.lr }),
        ({ lr }) => kernels.lion_({ p, g, m }, { lr, beta1: betas[0], beta2: betas[1], weightDecay, maximize }),
      );
    }
  }
}
