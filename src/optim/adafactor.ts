/**
 * Adafactor (Shazeer & Stern 2018, https://arxiv.org/abs/1804.04235): the averages of squares of a matrix are kept as
 * one number per row and one per column. As PyTorch has it, with r = t^beta2Decay:
 *
 *   R = R + r (row means of g² - R),  C = C + r (column means of g² - C),  V = R C / max(mean R, eps₁)
 *   U = g / sqrt(max(V, eps₁²)),  α = max(eps₂, rms p) · min(lr, 1 / sqrt(t))
 *   p = p (1 - lr · weightDecay) - α U / max(1, rms U / d)
 *
 * For parameters of fewer than two axes, V = V + r (g² - V) itself is kept. All parameters of a group change in one
 * native call, in place.
 */
import { zeros } from '../ops/index.js';
import { kernels } from '../ops/kernels.gen.js';
import { once, varying } from '../tensor/capture.js';
import { argumentError, optionsArg } from '../tensor/check.js';
import type { Tensor } from '../tensor/tensor.js';
import { keep } from '../tensor/tidy.js';
import { canReplay, Optimizer, type ParamGroup, type Params, rateArg, wideOf } from './optimizer.js';

/** Options of {@link Adafactor}. */
export interface AdafactorOptions {
  /** The largest relative step; default 1e-2. */
  lr: number;
  /** Exponent of the steps, at most 0, by which the averages' rate falls (default -0.8). */
  beta2Decay: number;
  /**
   * Least root of an average (null: the step at 1 of the parameter's dtype) and least scale of a parameter (default
   * [null, 1e-3]).
   */
  eps: readonly [number | null, number];
  /** Where the root mean square of an update is cut (default 1). */
  d: number;
  /** Decoupled; default 0. */
  weightDecay: number;
  /** Whether to ascend (default false). */
  maximize: boolean;
}

interface AdafactorState {
  step: number;
  rowVar?: Tensor;
  colVar?: Tensor;
  variance?: Tensor;
}

/** Adam's rates in the memory of a row and a column. */
export class Adafactor extends Optimizer<AdafactorOptions> {
  static {
    canReplay(this);
  }
  constructor(params: Params<AdafactorOptions>, options: Partial<AdafactorOptions> = {}) {
    const known = ['lr', 'beta2Decay', 'eps', 'd', 'weightDecay', 'maximize'] as const;
    const defaults = { lr: 1e-2, beta2Decay: -0.8, eps: [null, 1e-3], d: 1, weightDecay: 0, maximize: false } as const;
    super('Adafactor', params, { ...defaults, ...optionsArg('Adafactor', options, known) });
    for (const { lr, weightDecay, beta2Decay, eps, d } of this.paramGroups) {
      rateArg('Adafactor', 'lr', lr);
      rateArg('Adafactor', 'weightDecay', weightDecay);
      if (!(beta2Decay <= 0)) throw argumentError('Adafactor', 'beta2Decay', 'a number of at most 0', beta2Decay);
      if (!(d >= 1)) throw argumentError('Adafactor', 'd', 'a number of at least 1', d);
      if (!Array.isArray(eps) || eps.length !== 2)
        throw argumentError('Adafactor', 'eps', 'two numbers, of which the first may be null', eps);
      if (eps[0] !== null) rateArg('Adafactor', 'eps[0]', eps[0]);
      rateArg('Adafactor', 'eps[1]', eps[1]);
    }
  }

  protected override stateShape(name: string, tensor: Tensor): readonly number[] {
    if (name === 'rowVar') return [...tensor.shape.slice(0, -1), 1];
    if (name === 'colVar') return [...tensor.shape.slice(0, -2), 1, tensor.shape.at(-1)!];
    return tensor.shape;
  }

  protected override update(group: ParamGroup<AdafactorOptions>): void {
    const { beta2Decay, d, weightDecay, maximize } = group;
    const [eps1, eps2] = group.eps;
    const attrs = { beta2Decay, d, weightDecay, maximize, eps2, ...(eps1 === null ? {} : { eps1 }) };
    for (const batch of this.batches(group.params, (tensor) => this.#initial(tensor))) {
      const { p, g, states } = batch;
      const average = (name: 'rowVar' | 'colVar' | 'variance'): (Tensor | undefined)[] =>
        states.map((state) => state[name]);
      const averages = { row: average('rowVar'), col: average('colVar'), v: average('variance') };
      varying(
        'adafactor_',
        () => ({ lr: group.lr, step: batch.step }),
        (now) => kernels.adafactor_({ p, g, ...averages }, { ...attrs, ...now }),
      );
    }
  }

  #initial(tensor: Tensor): AdafactorState {
    const make = (name: string): Tensor =>
      once(() => keep(zeros(this.stateShape(name, tensor), { dtype: wideOf(tensor), device: tensor.device })));
    if (tensor.rank < 2) return { step: 0, variance: make('variance') };
    return { step: 0, rowVar: make('rowVar'), colVar: make('colVar') };
  }
}
