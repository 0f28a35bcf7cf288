/**
 * RMSprop (Tieleman & Hinton 2012, lecture 6.5), centred on request (Graves 2013, https://arxiv.org/abs/1308.0850):
 *
 *   v = α v + (1 - α) g²,  m = α m + (1 - α) g
 *   u = momentum · u + g / (sqrt(v) + eps),  centered: sqrt(v - m²)
 *   p = p - lr · u
 *
 * All parameters of a group change in one native call.
 */
import { kernels } from '../ops/kernels.gen.js';
import { varying } from '../tensor/capture.js';
import { optionsArg } from '../tensor/check.js';
import type { Tensor } from '../tensor/tensor.js';
import { canReplay, Optimizer, type ParamGroup, type Params, rateArg } from './optimizer.js';

/** Options of {@link RMSprop}. */
export interface RMSpropOptions {
  /** Default 1e-2. */
  lr: number;
  /** Decay of the averages (default 0.99). */
  alpha: number;
  /** Default 1e-8. */
  eps: number;
  /** An L2 term: its product with the parameter is added to the gradient (default 0). */
  weightDecay: number;
  /** Default 0. */
  momentum: number;
  /** Whether the gradient is divided by its deviation instead of its root mean square (default false). */
  centered: boolean;
  /** Whether to ascend (default false). */
  maximize: boolean;
}

interface RMSpropState {
  step: number;
  squareAvg: Tensor;
  momentumBuffer?: Tensor;
  gradAvg?: Tensor;
}

/** Gradients divided by their root mean square. */
export class RMSprop extends Optimizer<RMSpropOptions> {
  static {
    canReplay(this);
  }
  constructor(params: Params<RMSpropOptions>, options: Partial<RMSpropOptions> = {}) {
    const known = ['lr', 'alpha', 'eps', 'weightDecay', 'momentum', 'centered', 'maximize'] as const;
    const defaults = {
      lr: 1e-2,
      alpha: 0.99,
      eps: 1e-8,
      weightDecay: 0,
      momentum: 0,
      centered: false,
      maximize: false,
    };
    super('RMSprop', params, { ...defaults, ...optionsArg('RMSprop', options, known) });
    for (const group of this.paramGroups)
      for (const key of ['lr', 'alpha', 'eps', 'weightDecay', 'momentum'] as const) rateArg('RMSprop', key, group[key]);
  }

  protected override update(group: ParamGroup<RMSpropOptions>): void {
    const { alpha, eps, weightDecay, momentum, centered, maximize } = group;
    const initial = (tensor: Tensor): RMSpropState => ({ step: 0, squareAvg: this.buffer(tensor) });
    for (const { p, g, states } of this.batches(group.params, initial)) {
      const v = states.map(({ squareAvg }) => squareAvg);
      const u = states.map((state, i) => (momentum > 0 ? (state.momentumBuffer ??= this.buffer(p[i]!)) : null));
      const m = states.map((state, i) => (centered ? (state.gradAvg ??= this.buffer(p[i]!)) : null));
      const optional = { ...(momentum > 0 ? { u: u as Tensor[] } : {}), ...(centered ? { m: m as Tensor[] } : {}) };
      const attrs = { alpha, eps, weightDecay, momentum, centered, maximize };
      varying(
        'rmsprop_',
        () => ({ lr: group.lr }),
        ({ lr }) => kernels.rmsprop_({ p, g, v, ...optional }, { lr, ...attrs }),
      );
    }
  }
}
