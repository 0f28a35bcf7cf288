/** Learning rates that follow a schedule. */
import { eachTime } from '../tensor/capture.js';
import { argumentError, countArg, optionsArg } from '../tensor/check.js';
import type { Optimizer } from './optimizer.js';

/** Multiplies every group's initial rate by a factor of the step. Call `step()` after the optimizer's. */
export class LambdaLR {
  readonly #optimizer: Optimizer<{ lr: number }>;
  readonly #baseLrs: readonly number[];
  readonly #lambda: (step: number) => number;
  /** Steps taken. */
  lastEpoch: number = 0;

  /** @param lrLambda the factor of step n; applied for step 0 at once */
  constructor(optimizer: Optimizer<{ lr: number }>, lrLambda: (step: number) => number) {
    this.#optimizer = optimizer;
    this.#baseLrs = optimizer.paramGroups.map(({ lr }) => lr);
    this.#lambda = lrLambda;
    this.#apply();
  }

  #apply(): void {
    const factor = this.#lambda(this.lastEpoch);
    for (const [i, group] of this.#optimizer.paramGroups.entries()) group.lr = this.#baseLrs[i]! * factor;
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
    return this.#optimizer.paramGroups.map(({ lr }) => lr);
  }

  /** What `loadStateDict` takes to go on from here. */
  stateDict(): { lastEpoch: number } {
    return { lastEpoch: this.lastEpoch };
  }

  /** Goes on from a state; FOVEA_ARGUMENT for what is none. */
  loadStateDict({ lastEpoch }: { lastEpoch: number }): void {
    this.lastEpoch = countArg('LambdaLR', 'lastEpoch', lastEpoch);
    this.#apply();
  }
}

/** Options of {@link warmupCosine}. */
export interface WarmupCosineOptions {
  /** Steps in which the rate rises linearly to its full value. */
  warmupSteps: number;
  /** Steps after which it has reached its end. */
  totalSteps: number;
  /** What is left at the end, as a share of the full rate (default 0). */
  minLrRatio?: number;
}

/**
 * Linear warm-up, then half a cosine down (Loshchilov & Hutter 2017, https://arxiv.org/abs/1608.03983): factor(n) = (n
 * + 1) / warmupSteps, then min + (1 - min) · (1 + cos(π · progress)) / 2.
 *
 * @returns a schedule that multiplies the rates of the optimizer by the factor
 * @throws FOVEA_ARGUMENT for steps that are no counts, or a warm-up longer than the whole
 */
export function warmupCosine(optimizer: Optimizer<{ lr: number }>, options: WarmupCosineOptions): LambdaLR {
  const {
    warmupSteps,
    totalSteps,
    minLrRatio = 0,
  } = optionsArg('warmupCosine', options, ['warmupSteps', 'totalSteps', 'minLrRatio']);
  countArg('warmupCosine', 'warmupSteps', warmupSteps);
  countArg('warmupCosine', 'totalSteps', totalSteps, 1);
  if (warmupSteps > totalSteps)
    throw argumentError('warmupCosine', 'warmupSteps', `at most totalSteps (${totalSteps})`, warmupSteps);
  return new LambdaLR(optimizer, (step) => {
    if (step < warmupSteps) return (step + 1) / warmupSteps;
    const progress = Math.min(1, (step - warmupSteps) / Math.max(1, totalSteps - warmupSteps));
    return minLrRatio + ((1 - minLrRatio) * (1 + Math.cos(Math.PI * progress))) / 2;
  });
}
