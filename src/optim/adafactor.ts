/**
 * Adafactor (Shazeer & Stern 2018, https://arxiv.org/abs/1804.04235): the averages of squares of a matrix are kept as one
 * number per row and one per column. As PyTorch has it, with r = t^beta2Decay:
 *
 *   R = R + r (row means of g² - R),  C = C + r (column means of g² - C),  V = R C / max(mean R, eps₁)
 *   U = g / sqrt(max(V, eps₁²)),  α = max(eps₂, rms p) · min(lr, 1 / sqrt(t))
 *   p = p (1 - lr · weightDecay) - α U / max(1, rms U / d)
 *
 * For parameters of fewer than two axes, V = V + r (g² - V) itself is kept.
 */
import { once } from '../tensor/capture.js';
import { argumentError, optionsArg } from '../tensor/check.js';
import type { Dtype } from '../tensor/dtype.js';
import type { Tensor } from '../tensor/tensor.js';
import { keep } from '../tensor/tidy.js';
import { zeros } from '../ops/index.js';
import { canReplay, Optimizer, type ParamGroup, type Params, rateArg, scaled, wideOf } from './optimizer.js';

/** Options of {@link Adafactor}. */
export interface AdafactorOptions {
  /** The largest relative step; default 1e-2. */
  lr: number;
  /** Exponent of the steps, at most 0, by which the averages' rate falls (default -0.8). */
  beta2Decay: number;
  /** Least root of an average (null: the step at 1 of the parameter's dtype) and least scale of a parameter (default [null, 1e-3]). */
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

const steps: Partial<Record<Dtype, number>> = {
  float64: 2 ** -52,
  float32: 2 ** -23,
  float16: 2 ** -10,
  bfloat16: 2 ** -7,
};
const KEEP = { keepdim: true };
const rms = (x: Tensor): Tensor => x.square().mean().sqrt();

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
    for (const batch of this.batches(group.params, (): AdafactorState => ({ step: 0 })))
      for (const [i, p] of batch.p.entries()) this.#change(p, batch.g[i]!, batch.states[i]!, group);
  }

  #change(p: Tensor, grad: Tensor, state: AdafactorState, group: ParamGroup<AdafactorOptions>): void {
    const { beta2Decay, d, weightDecay, maximize } = group;
    const wide = wideOf(p);
    const [least, leastScale] = group.eps;
    const eps = least ?? steps[p.dtype]!;
    const given = grad.to(wide);
    const g = maximize ? given.neg() : given;
    const weights = p.to(wide);
    const scale = rms(weights).clamp({ min: leastScale });
    const rate = scaled(scale, () => Math.min(group.lr, 1 / Math.sqrt(state.step)));
    const squares = this.#average(p, g.square(), state, () => state.step ** beta2Decay, eps);
    const update = g.mul(squares.clamp({ min: eps * eps }).rsqrt());
    const change = update.mul(rate.div(rms(update).div(d).clamp({ min: 1 })));
    p.copy_(scaled(weights, () => 1 - group.lr * weightDecay).sub(change));
  }

  /** The average of squares, with `rate` of the newest in it. */
  #average(p: Tensor, squares: Tensor, state: AdafactorState, rate: () => number, eps: number): Tensor {
    const follow = (name: 'rowVar' | 'colVar' | 'variance', target: Tensor): Tensor => {
      const layout = { dtype: target.dtype, device: p.device };
      const average = (state[name] ??= once(() => keep(zeros(this.stateShape(name, p), layout))));
      return average.add_(scaled(target.sub(average), rate));
    };
    if (p.rank < 2) return follow('variance', squares);
    const rows = follow('rowVar', squares.mean(-1, KEEP));
    const columns = follow('colVar', squares.mean(-2, KEEP));
    return rows.matmul(columns).div(rows.mean(-2, KEEP).clamp({ min: eps }));
  }
}
