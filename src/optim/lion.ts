/**
 * Lion (Chen et al. 2023, https://arxiv.org/abs/2302.06675), with decoupled weight decay:
 *
 *   p = p - lr · (sign(β₁ m + (1 - β₁) g) + weightDecay · p),  m = β₂ m + (1 - β₂) g
 *
 * All parameters of a group change in one native call, whatever its averages are kept in.
 */
import { kernels } from '../ops/kernels.gen.js';
import { varying } from '../tensor/capture.js';
import { optionsArg } from '../tensor/check.js';
import type { Tensor } from '../tensor/tensor.js';
import { betasArg, canReplay, Optimizer, type ParamGroup, type Params, rateArg } from './optimizer.js';
import { scalesShape, type StateDtype, stateDtypeArg, zeroState } from './state-dtype.js';

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
  /** What the averages are kept in (default 'float32'). */
  stateDtype: StateDtype;
}

interface LionState {
  step: number;
  expAvg: Tensor;
  expAvgScales?: Tensor;
}

function initialState(tensor: Tensor, stateDtype: StateDtype): LionState {
  const { values, scales } = zeroState(tensor, stateDtype);
  return { step: 0, expAvg: values, ...(scales ? { expAvgScales: scales } : {}) };
}

/** Steps of one size, in the direction of the momentum's sign. */
export class Lion extends Optimizer<LionOptions> {
  static {
    canReplay(this);
  }
  constructor(params: Params<LionOptions>, options: Partial<LionOptions> = {}) {
    const known = ['lr', 'betas', 'weightDecay', 'maximize', 'stateDtype'] as const;
    const rates = { lr: 1e-4, betas: [0.9, 0.99], weightDecay: 0 } as const;
    const defaults = { ...rates, maximize: false, stateDtype: 'float32' } as const;
    super('Lion', params, { ...defaults, ...optionsArg('Lion', options, known) });
    for (const group of this.paramGroups) {
      for (const key of ['lr', 'weightDecay'] as const) rateArg('Lion', key, group[key]);
      betasArg('Lion', group.betas);
      stateDtypeArg('Lion', group.stateDtype);
    }
  }

  protected override stateShape(name: string, tensor: Tensor): readonly number[] {
    return name.endsWith('Scales') ? scalesShape(tensor) : tensor.shape;
  }

  protected override update(group: ParamGroup<LionOptions>): void {
    const { betas, weightDecay, maximize, stateDtype } = group;
    const attrs = { beta1: betas[0], beta2: betas[1], weightDecay, maximize };
    for (const batch of this.batches(group.params, (tensor) => initialState(tensor, stateDtype))) {
      const { p, g, states } = batch;
      const inputs = { p, g, m: states.map(({ expAvg }) => expAvg) };
      if (stateDtype === 'float32') {
        varying(
          'lion_',
          () => ({ lr: group.lr }),
          (now) => kernels.lion_(inputs, { ...attrs, ...now }),
        );
        continue;
      }
      const scales = stateDtype === 'int8' ? { mScale: states.map(({ expAvgScales }) => expAvgScales!) } : {};
      varying(
        'lionCompact_',
        () => ({ lr: group.lr, step: batch.step }),
        (now) => kernels.lionCompact_({ ...inputs, ...scales }, { ...attrs, ...now }),
      );
    }
  }
}
