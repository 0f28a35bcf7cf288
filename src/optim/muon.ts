/**
 * Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/): momentum, made nearly orthogonal by Newton and
 * Schulz's iteration before it is subtracted from a matrix. As PyTorch has it:
 *
 *   u = u + (1 - momentum) (g - u),  nesterov: u' = g + momentum (u - g), else u
 *   X = u' / max(|u'|, eps), transposed where it is tall;  nsSteps times  A = X Xᵀ,  X = a X + (b A + c A²) X
 *   p = p (1 - lr · weightDecay) - lr · s · X,  s = sqrt(max(1, rows / columns)), or 0.2 sqrt(max(rows, columns))
 *
 * The iteration runs in float32 (float64 for float64 parameters), where PyTorch's runs in bfloat16. It is for the
 * matrices of hidden layers; embeddings, heads, norms and biases want another optimizer, such as AdamW, beside it.
 *
 * A step is composed of ops, parameter by parameter, and not one native call as those of the other optimizers: its time
 * is that of the iteration's products, 15 for each matrix, which are matmuls of the sizes of the layers' own and fill
 * the machine one at a time. Stacked, matrices of equal shape would need a copy of all of them at once besides.
 */
import { holdsWhile } from '../tensor/capture.js';
import { argumentError, countArg, numberArg, optionsArg } from '../tensor/check.js';
import type { Tensor } from '../tensor/tensor.js';
import { canReplay, Optimizer, type ParamGroup, type Params, rateArg, scaled, wideOf } from './optimizer.js';

/** Options of {@link Muon}. */
export interface MuonOptions {
  /** Default 1e-3. */
  lr: number;
  /** Decoupled; default 0.1. */
  weightDecay: number;
  /** Default 0.95. */
  momentum: number;
  /** Default true. */
  nesterov: boolean;
  /** a, b and c of the iteration (default [3.4445, -4.775, 2.0315]). */
  nsCoefficients: readonly [number, number, number];
  /** The least norm to divide by (default 1e-7). */
  eps: number;
  /** Iterations; default 5. */
  nsSteps: number;
  /** How the rate depends on the shape: Jordan's way (default), or so that AdamW's rates fit (Moonshot 2025). */
  adjustLrFn: 'original' | 'match_rms_adamw';
}

/** The factor of the rate for a matrix. */
function rateOf(shape: readonly number[], adjustLrFn: MuonOptions['adjustLrFn']): number {
  const [rows, columns] = shape as [number, number];
  if (adjustLrFn === 'original') return Math.sqrt(Math.max(1, rows / columns));
  return 0.2 * Math.sqrt(Math.max(rows, columns));
}

/** `x` [m, n] with singular values near 1. */
function orthogonal(x: Tensor, { nsCoefficients, nsSteps, eps }: MuonOptions): Tensor {
  const [a, b, c] = nsCoefficients;
  const [rows, columns] = x.shape as [number, number];
  const tall = rows > columns;
  let y = (tall ? x.t() : x).div(x.square().sum().sqrt().clamp({ min: eps }));
  for (let i = 0; i < nsSteps; i++) {
    const gram = y.matmul(y.t());
    y = y.mul(a).add(gram.mul(b).add(gram.matmul(gram).mul(c)).matmul(y));
  }
  return tall ? y.t() : y;
}

/** Momentum made orthogonal, for matrices. */
export class Muon extends Optimizer<MuonOptions> {
  static {
    canReplay(this);
  }
  constructor(params: Params<MuonOptions>, options: Partial<MuonOptions> = {}) {
    const rates = ['lr', 'weightDecay', 'momentum', 'eps'] as const;
    const known = [...rates, 'nesterov', 'nsCoefficients', 'nsSteps', 'adjustLrFn'] as const;
    const iteration = { nsCoefficients: [3.4445, -4.775, 2.0315], eps: 1e-7, nsSteps: 5 } as const;
    const defaults = { lr: 1e-3, weightDecay: 0.1, momentum: 0.95, nesterov: true, ...iteration } as const;
    super('Muon', params, { ...defaults, adjustLrFn: 'original', ...optionsArg('Muon', options, known) });
    for (const group of this.paramGroups) {
      for (const key of rates) rateArg('Muon', key, group[key]);
      countArg('Muon', 'nsSteps', group.nsSteps);
      const { nsCoefficients, adjustLrFn } = group;
      if (!Array.isArray(nsCoefficients) || nsCoefficients.length !== 3)
        throw argumentError('Muon', 'nsCoefficients', 'three numbers', nsCoefficients);
      for (const coefficient of nsCoefficients) numberArg('Muon', 'nsCoefficients', coefficient);
      if (adjustLrFn !== 'original' && adjustLrFn !== 'match_rms_adamw')
        throw argumentError('Muon', 'adjustLrFn', "'original' or 'match_rms_adamw'", adjustLrFn);
      const other = group.params.find((tensor) => tensor.rank !== 2);
      if (other !== undefined)
        throw argumentError('Muon', 'params', 'matrices', [...other.shape], 'give the others to AdamW');
    }
  }

  protected override update(group: ParamGroup<MuonOptions>): void {
    const { weightDecay, momentum, nesterov, adjustLrFn } = group;
    for (const p of group.params) {
      if (!p.grad) continue;
      const g = p.grad.to(wideOf(p));
      if (!this.state.has(p)) this.state.set(p, { momentumBuffer: this.buffer(p) });
      const state = this.state.get(p)!;
      holdsWhile(() => this.state.get(p) === state);
      const u = state['momentumBuffer'] as Tensor;
      u.add_(g.sub(u).mul(1 - momentum));
      const direction = orthogonal(nesterov ? g.add(u.sub(g).mul(momentum)) : u, group);
      const kept = scaled(p.to(g.dtype), () => 1 - group.lr * weightDecay);
      p.copy_(kept.sub(scaled(direction, () => group.lr * rateOf(p.shape, adjustLrFn))));
    }
  }
}
