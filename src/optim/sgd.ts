/**
 * Stochastic gradient descent with momentum, as PyTorch defines it:
 *
 *   g = g + weightDecay · p,  u = momentum · u + (1 - dampening) · g  (the first u is g)
 *   p = p - lr · (nesterov ? g + momentum · u : u)
 *
 * All parameters of a group change in one native call.
 */
import { kernels } from '../ops/kernels.gen.js';
import { holdsWhile, varying } from '../tensor/capture.js';
import { argumentError, numberArg, optionsArg } from '../tensor/check.js';
import type { Tensor } from '../tensor/tensor.js';
import { canReplay, Optimizer, type ParamGroup, type Params, rateArg } from './optimizer.js';

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
  static {
    canReplay(this);
  }
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

  protected override update(group: ParamGroup<SGDOptions>): void {
    const withGradient = group.params.filter((tensor) => tensor.grad);
    if (group.momentum === 0) return this.#change(group, withGradient, false);
    // A parameter that had no gradient before starts its average now, beside others that go on.
    const firstTime = withGradient.filter((tensor) => !this.state.has(tensor));
    const later = withGradient.filter((tensor) => this.state.has(tensor));
    for (const tensor of firstTime) this.state.set(tensor, { momentumBuffer: this.buffer(tensor) });
    this.#change(group, firstTime, true);
    this.#change(group, later, false);
  }

  /** @param first whether the buffers start now; they do not in a replay */
  #change(group: ParamGroup<SGDOptions>, p: readonly Tensor[], first: boolean): void {
    if (p.length === 0) return;
    const { momentum, dampening, weightDecay, nesterov, maximize } = group;
    const attrs = { momentum, dampening, weightDecay, nesterov, maximize };
    const g = p.map((tensor) => tensor.grad!);
    const states = p.map((tensor) => this.state.get(tensor));
    const u = momentum === 0 ? {} : { u: states.map((state) => state!['momentumBuffer'] as Tensor) };
    holdsWhile(() => momentum === 0 || p.every((tensor, i) => this.state.get(tensor) === states[i]));
    let starts = first;
    varying(
      'sgd_',
      () => ({ lr: group.lr, first: starts }),
      (now) => kernels.sgd_({ p, g, ...u }, { ...attrs, ...now }),
    );
    starts = false;
  }
}
