/**
 * A learning rate as a closed form of the count of steps: `lr = lrAt(step, initial rate, group)`. No schedule remembers
 * more than the count, so resuming needs nothing else, and schedules compose as functions do.
 */
import { eachTime } from '../tensor/capture.js';
import { argumentError, countArg, functionArg, show } from '../tensor/check.js';
import { Optimizer } from './optimizer.js';

/** Any optimizer. */
export type AnyOptimizer = Optimizer<{ lr: number }>;
/** The rate of a group at a step, from its initial rate; steps count from 0. */
export type LrRule = (step: number, initialLr: number, group: number) => number;
/** What the initial rate is multiplied by at a step; steps count from 0. */
export type LrFactor = (step: number) => number;

/** What `loadStateDict` of a schedule takes. */
export interface LRSchedulerState {
  /** Steps taken. */
  lastEpoch: number;
}

/** A number in [0, 1]. */
export function shareArg(op: string, name: string, value: unknown): number {
  if (typeof value === 'number' && value >= 0 && value <= 1) return value;
  throw argumentError(op, name, 'a number from 0 to 1', value);
}

/**
 * Sets the rates of an optimizer's groups by a rule; the base of all schedules. A group's initial rate is `initialLr`
 * of the group, which the first schedule of an optimizer sets to the rate that it finds, as in PyTorch.
 *
 * Call `step()` once after every step of the optimizer, or inside of a recorded step.
 */
export class LRScheduler {
  /** Whose rates it sets. */
  readonly optimizer: AnyOptimizer;
  /** Steps taken. */
  lastEpoch: number = 0;
  readonly #rule: LrRule;

  /**
   * @param rule applied for step 0 at once
   * @throws FOVEA_ARGUMENT for what is no optimizer or function, and where the rule gives no finite number
   */
  constructor(optimizer: AnyOptimizer, rule: LrRule) {
    const name = new.target.name;
    if (!(optimizer instanceof Optimizer)) throw argumentError(name, 'optimizer', 'an Optimizer', optimizer);
    functionArg(name, 'rule', rule);
    this.optimizer = optimizer;
    this.#rule = rule;
    this.#apply();
  }

  /** The rate at a step, from the initial rate of a group; changes nothing. */
  lrAt(step: number, initialLr: number, group = 0): number {
    return this.#rule(step, initialLr, group);
  }

  #apply(): void {
    for (const [i, group] of this.optimizer.paramGroups.entries()) {
      const lr = this.#rule(this.lastEpoch, (group.initialLr ??= group.lr), i);
      if (typeof lr !== 'number' || !Number.isFinite(lr)) {
        const place = `the rate of group ${i} at step ${this.lastEpoch}`;
        throw argumentError(this.constructor.name, place, 'a finite number', lr, `its schedule gave ${show(lr)}`);
      }
      group.lr = lr;
    }
  }

  /** Sets the rates of the next step; called once after every step of the optimizer. */
  step(): void {
    eachTime(() => {
      this.lastEpoch++;
      this.#apply();
    });
  }

  /** The rates in force, by group. */
  getLastLr(): number[] {
    return this.optimizer.paramGroups.map(({ lr }) => lr);
  }

  /** What `loadStateDict` takes to go on from here. */
  stateDict(): LRSchedulerState {
    return { lastEpoch: this.lastEpoch };
  }

  /** Goes on from a state; FOVEA_ARGUMENT for what is none. */
  loadStateDict(state: LRSchedulerState): void {
    const name = this.constructor.name;
    if (typeof state !== 'object' || state === null) throw argumentError(name, 'state', 'a state dict', state);
    this.lastEpoch = countArg(name, 'lastEpoch', state.lastEpoch);
    this.#apply();
  }
}

/** A schedule that multiplies every group's initial rate by one factor. */
export function multiplying(factor: LrFactor): LrRule {
  return (step, initialLr) => initialLr * factor(step);
}
