/**
 * Adam (Kingma & Ba 2015, https://arxiv.org/abs/1412.6980) and AdamW (Loshchilov & Hutter 2019,
 * https://arxiv.org/abs/1711.05101), with AMSGrad (Reddi et al. 2018, https://arxiv.org/abs/1904.09237) on request:
 *
 *   m = β₁ m + (1 - β₁) g,  v = β₂ v + (1 - β₂) g²
 *   p = p - lr · (m / (1 - β₁ᵗ)) / (sqrt(v / (1 - β₂ᵗ)) + eps),  amsgrad: of the largest v so far
 *
 * Weight decay: Adam adds weightDecay · p to the gradient g (an L2 term); AdamW subtracts lr · weightDecay · p from p.
 * All parameters of a group change in one native call, whatever its averages are kept in.
 */
import { kernels } from '../ops/kernels.gen.js';
import { varying } from '../tensor/capture.js';
import { optionsArg } from '../tensor/check.js';
import type { Tensor } from '../tensor/tensor.js';
import { betasArg, canReplay, Optimizer, type ParamGroup, type Params, rateArg, type StepBatch } from './optimizer.js';
import { scalesShape, type StateDtype, stateDtypeArg, zeroState } from './state-dtype.js';

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
  /** Whether to divide by the largest average of squares so far (default false). */
  amsgrad: boolean;
  /** Whether to ascend (default false). */
  maximize: boolean;
  /** What the averages are kept in (default 'float32'). */
  stateDtype: StateDtype;
}

interface AdamState {
  step: number;
  expAvg: Tensor;
  expAvgSq: Tensor;
  maxExpAvgSq?: Tensor;
  expAvgScales?: Tensor;
  expAvgSqScales?: Tensor;
  maxExpAvgSqScales?: Tensor;
}

function initialState(tensor: Tensor, stateDtype: StateDtype): AdamState {
  const [m, v] = [zeroState(tensor, stateDtype), zeroState(tensor, stateDtype)];
  const state: AdamState = { step: 0, expAvg: m.values, expAvgSq: v.values };
  if (m.scales && v.scales) Object.assign(state, { expAvgScales: m.scales, expAvgSqScales: v.scales });
  return state;
}
/** Of amsgrad, which may be switched on later. */
function addLargest(state: AdamState, tensor: Tensor, stateDtype: StateDtype): void {
  if (state.maxExpAvgSq) return;
  const { values, scales } = zeroState(tensor, stateDtype);
  state.maxExpAvgSq = values;
  if (scales) state.maxExpAvgSqScales = scales;
}

/** Adam, with weight decay as an L2 term. */
export class Adam extends Optimizer<AdamOptions> {
  static {
    canReplay(this);
  }
  /** Whether weight decay acts on the parameter instead of the gradient. */
  protected readonly decoupled: boolean;

  constructor(params: Params<AdamOptions>, options: Partial<AdamOptions> = {}, decoupled = false) {
    const name = decoupled ? 'AdamW' : 'Adam';
    const known = ['lr', 'betas', 'eps', 'weightDecay', 'amsgrad', 'maximize', 'stateDtype'] as const;
    const averages = { betas: [0.9, 0.999], eps: 1e-8 } as const;
    const others = { amsgrad: false, maximize: false, stateDtype: 'float32' } as const;
    const defaults = { lr: 1e-3, ...averages, weightDecay: decoupled ? 0.01 : 0, ...others };
    super(name, params, { ...defaults, ...optionsArg(name, options, known) });
    for (const group of this.paramGroups) {
      for (const key of ['lr', 'eps', 'weightDecay'] as const) rateArg(name, key, group[key]);
      betasArg(name, group.betas);
      stateDtypeArg(name, group.stateDtype);
    }
    this.decoupled = decoupled;
  }

  protected override stateShape(name: string, tensor: Tensor): readonly number[] {
    return name.endsWith('Scales') ? scalesShape(tensor) : tensor.shape;
  }

  protected override update(group: ParamGroup<AdamOptions>): void {
    for (const batch of this.batches(group.params, (tensor) => initialState(tensor, group.stateDtype))) {
      if (group.amsgrad) batch.states.forEach((state, i) => addLargest(state, batch.p[i]!, group.stateDtype));
      this.#change(group, batch);
    }
  }

  #change(group: ParamGroup<AdamOptions>, batch: StepBatch<AdamState>): void {
    const { betas, eps, weightDecay, amsgrad, maximize, stateDtype } = group;
    const attrs = { beta1: betas[0], beta2: betas[1], eps, weightDecay, decoupled: this.decoupled, amsgrad, maximize };
    const { p, g, states } = batch;
    const all = <K extends keyof AdamState>(key: K): NonNullable<AdamState[K]>[] => states.map((state) => state[key]!);
    const inputs = { p, g, m: all('expAvg'), v: all('expAvgSq'), ...(amsgrad ? { vMax: all('maxExpAvgSq') } : {}) };
    const now = (): { lr: number; step: number } => ({ lr: group.lr, step: batch.step });
    if (stateDtype === 'float32') {
      varying('adamw_', now, (then) => kernels.adamw_(inputs, { ...attrs, ...then }));
      return;
    }
    const scales = { mScale: all('expAvgScales'), vScale: all('expAvgSqScales') };
    const largest = amsgrad ? { vMaxScale: all('maxExpAvgSqScales') } : {};
    const compact = stateDtype === 'int8' ? { ...inputs, ...scales, ...largest } : inputs;
    varying('adamwCompact_', now, (then) => kernels.adamwCompact_(compact, { ...attrs, ...then }));
  }
}

/** Adam with decoupled weight decay. */
export class AdamW extends Adam {
  static {
    canReplay(this);
  }
  constructor(params: Params<AdamOptions>, options: Partial<AdamOptions> = {}) {
    super(params, options, true);
  }
}
