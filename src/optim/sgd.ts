/**
 * Stochastic gradient descent with momentum, as PyTorch defines it:
 *
 *   g = g + weightDecay · p,  u = momentum · u + (1 - dampening) · g  (the first u is g)
 *   p = p - lr · (nesterov ? g + momentum · u : u)
 *
 * All parameters of a group change in one native call.
 */
import { kernels } from '../ops/kernels.gen.js';
import { argumentError, numberArg, optionsArg } from '../tensor/check.js';
import type { Tensor } from '../tensor/tensor.js';
import { Optimizer, type ParamGroup, type Params, rateArg } from './optimizer.js';

/** Options of {@link SGD}. */
export interface SGDOptions {
  /** Default 1e-3. */
  lr: number;
  /** Default 0. */
  momentum: number;
  /** Default 0. */
  dampening: number;
  /** An L2 term: its product with the parameter is added to the gradient (default 0). */
  weightDecay: number;
  /** Needs momentum and no dampening (default false). */
  nesterov: boolean;
  /** Whether to ascend (default false). */
  maximize: boolean;
}

/** Stochastic gradient descent. */
export class SGD extends Optimizer<SGDOptions> {
  constructor(params: Params<SGDOptions>, options: Partial<SGDOptions> = {}) {
    const known = ['lr', 'momentum', 'dampening', 'weightDecay', 'nesterov', 'maximize'] as const;
    const defaults = { lr: 1e-3, momentum: 0, dampening: 0, weightDecay: 0, nesterov: false, maximize: false };
    const checked = { ...defaults, ...optionsArg('SGD', options, known) };
    super('SGD', params, checked);
    for (const group of this.paramGroups) {
      for (const key of ['lr', 'momentum', 'weightDecay'] as const) rateArg('SGD', key, group[key]);
      numberArg('SGD', 'dampening', group.dampening);
      if (group.nesterov && (group.momentum === 0 || group.dampening !== 0))
        throw argumentError('SGD', 'nesterov', 'false, or momentum above 0 and dampening 0 beside it', true);
    }
  }

  protected override update({ params, ...options }: ParamGroup<SGDOptions>): void {
    const { lr, momentum, dampening, weightDecay, nesterov, maximize } = options;
    const attrs = { lr, momentum, dampening, weightDecay, nesterov, maximize };
    const withGradient = params.filter((tensor) => tensor.grad);
    if (momentum === 0) {
      if (withGradient.length) kernels.sgd_({ p: withGradient, g: withGradient.map((tensor) => tensor.grad!) }, attrs);
      return;
    }
    // A parameter that had no gradient before starts its average now, beside others that go on.
    const firstTime = withGradient.filter((tensor) => !this.state.has(tensor));
    const later = withGradient.filter((tensor) => this.state.has(tensor));
    for (const tensor of firstTime) this.state.set(tensor, { momentumBuffer: this.zeros(tensor) });
    for (const [p, first] of [
      [firstTime, true],
      [later, false],
    ] as const) {
      if (p.length === 0) continue;
      const u = p.map((tensor) => this.state.get(tensor)!['momentumBuffer'] as Tensor);
      kernels.sgd_({ p, g: p.map((tensor) => tensor.grad!), u }, { ...attrs, first });
    }
  }
}
