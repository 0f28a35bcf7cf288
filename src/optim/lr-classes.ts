/**
 * PyTorch's schedules. With t the step and lr₀ the initial rate of a group:
 *
 *   LambdaLR                     lr₀ · lambda(t)
 *   ConstantLR                   lr₀ · factor                                       for t < totalIters, then lr₀
 *   LinearLR                     lr₀ · (start + (end - start) · min(t, totalIters) / totalIters)
 *   StepLR                       lr₀ · gamma^⌊t / stepSize⌋
 *   MultiStepLR                  lr₀ · gamma^(milestones ≤ t)
 *   ExponentialLR                lr₀ · gammaᵗ
 *   PolynomialLR                 lr₀ · (1 - min(t, totalIters) / totalIters)^power
 *   CosineAnnealingLR            etaMin + (lr₀ - etaMin) · (1 + cos(π t / tMax)) / 2
 *   CosineAnnealingWarmRestarts  the same of t since the last restart; periods of t0, t0 tMult, t0 tMult², …
 *                                (Loshchilov & Hutter 2017, https://arxiv.org/abs/1608.03983)
 */
import { argumentError, countArg, functionArg, numberArg, optionsArg } from '../tensor/check.js';
import { type AnyOptimizer, type LrFactor, type LrRule, LRScheduler, multiplying, shareArg } from './lr-schedule.js';
import { rateArg } from './optimizer.js';

/** Multiplies every group's initial rate by a factor of the step. */
export class LambdaLR extends LRScheduler {
  /**
   * @param lrLambda the factor of step n, or one such function for each group
   * @throws FOVEA_ARGUMENT for what is no function, and for a group that has none
   */
  constructor(optimizer: AnyOptimizer, lrLambda: LrFactor | readonly LrFactor[]) {
    super(optimizer, lambdaRule(lrLambda));
  }
}

function lambdaRule(given: LrFactor | readonly LrFactor[]): LrRule {
  if (typeof given === 'function') return multiplying(given);
  if (!Array.isArray(given)) throw argumentError('LambdaLR', 'lrLambda', 'a function, or one for each group', given);
  const factors: readonly LrFactor[] = given;
  for (const [i, factor] of factors.entries()) functionArg('LambdaLR', `lrLambda[${i}]`, factor);
  return (step, initialLr, group) => {
    const factor = factors[group];
    if (factor) return initialLr * factor(step);
    throw argumentError('LambdaLR', 'lrLambda', 'one function for each group', `${factors.length} functions`);
  };
}

/** Options of {@link ConstantLR}. */
export interface ConstantLROptions {
  /** From 0 to 1 (default 1/3). */
  factor?: number;
  /** Steps with the factor; at least 1 (default 5). */
  totalIters?: number;
}

/** A factor for the first steps. */
export class ConstantLR extends LRScheduler {
  /** @throws FOVEA_ARGUMENT for options out of range */
  constructor(optimizer: AnyOptimizer, options: ConstantLROptions = {}) {
    const { factor = 1 / 3, totalIters = 5 } = optionsArg('ConstantLR', options, ['factor', 'totalIters']);
    shareArg('ConstantLR', 'factor', factor);
    countArg('ConstantLR', 'totalIters', totalIters, 1);
    super(
      optimizer,
      multiplying((t) => (t < totalIters ? factor : 1)),
    );
  }
}

/** Options of {@link LinearLR}. */
export interface LinearLROptions {
  /** Above 0, at most 1 (default 1/3). */
  startFactor?: number;
  /** From 0 to 1 (default 1). */
  endFactor?: number;
  /** Steps from one to the other; at least 1 (default 5). */
  totalIters?: number;
}

/** A factor that moves on a line. */
export class LinearLR extends LRScheduler {
  /** @throws FOVEA_ARGUMENT for options out of range */
  constructor(optimizer: AnyOptimizer, options: LinearLROptions = {}) {
    const known = ['startFactor', 'endFactor', 'totalIters'] as const;
    const { startFactor = 1 / 3, endFactor = 1, totalIters = 5 } = optionsArg('LinearLR', options, known);
    if (shareArg('LinearLR', 'startFactor', startFactor) === 0)
      throw argumentError('LinearLR', 'startFactor', 'a number above 0', startFactor);
    shareArg('LinearLR', 'endFactor', endFactor);
    countArg('LinearLR', 'totalIters', totalIters, 1);
    const slope = (endFactor - startFactor) / totalIters;
    super(
      optimizer,
      multiplying((t) => (t < totalIters ? startFactor + slope * t : endFactor)),
    );
  }
}

/** Options of {@link StepLR}. */
export interface StepLROptions {
  /** Steps between two changes. */
  stepSize: number;
  /** Default 0.1. */
  gamma?: number;
}

/** A factor every so many steps. */
export class StepLR extends LRScheduler {
  /** @throws FOVEA_ARGUMENT for options out of range */
  constructor(optimizer: AnyOptimizer, options: StepLROptions) {
    const { stepSize, gamma = 0.1 } = optionsArg('StepLR', options, ['stepSize', 'gamma']);
    countArg('StepLR', 'stepSize', stepSize, 1);
    rateArg('StepLR', 'gamma', gamma);
    super(
      optimizer,
      multiplying((t) => gamma ** Math.floor(t / stepSize)),
    );
  }
}

/** Options of {@link MultiStepLR}. */
export interface MultiStepLROptions {
  /** Steps at which the rate changes, in any order; twice the same: two factors. */
  milestones: readonly number[];
  /** Default 0.1. */
  gamma?: number;
}

/** A factor at each of some steps. */
export class MultiStepLR extends LRScheduler {
  /** @throws FOVEA_ARGUMENT for options out of range */
  constructor(optimizer: AnyOptimizer, options: MultiStepLROptions) {
    const { milestones: given, gamma = 0.1 } = optionsArg('MultiStepLR', options, ['milestones', 'gamma']);
    if (!Array.isArray(given)) throw argumentError('MultiStepLR', 'milestones', 'a list of steps', given);
    const milestones = given.map((step: unknown, i) => countArg('MultiStepLR', `milestones[${i}]`, step));
    rateArg('MultiStepLR', 'gamma', gamma);
    super(
      optimizer,
      multiplying((t) => gamma ** milestones.filter((step) => step <= t).length),
    );
  }
}

/** A factor every step. */
export class ExponentialLR extends LRScheduler {
  /** @throws FOVEA_ARGUMENT for a gamma below 0 */
  constructor(optimizer: AnyOptimizer, options: { gamma: number }) {
    const { gamma } = optionsArg('ExponentialLR', options, ['gamma']);
    rateArg('ExponentialLR', 'gamma', gamma);
    super(
      optimizer,
      multiplying((t) => gamma ** t),
    );
  }
}

/** Options of {@link PolynomialLR}. */
export interface PolynomialLROptions {
  /** Steps until the rate is 0; at least 1 (default 5). */
  totalIters?: number;
  /** At least 0 (default 1). */
  power?: number;
}

/** A power of the share of steps that is left. */
export class PolynomialLR extends LRScheduler {
  /** @throws FOVEA_ARGUMENT for options out of range */
  constructor(optimizer: AnyOptimizer, options: PolynomialLROptions = {}) {
    const { totalIters = 5, power = 1 } = optionsArg('PolynomialLR', options, ['totalIters', 'power']);
    countArg('PolynomialLR', 'totalIters', totalIters, 1);
    rateArg('PolynomialLR', 'power', power);
    super(
      optimizer,
      multiplying((t) => (1 - Math.min(t, totalIters) / totalIters) ** power),
    );
  }
}

/** Options of {@link CosineAnnealingLR}. */
export interface CosineAnnealingLROptions {
  /** Steps down to `etaMin`; as many lead up again. */
  tMax: number;
  /** The least rate (default 0). */
  etaMin?: number;
}

const cosine = (lr: number, etaMin: number, progress: number): number =>
  etaMin + ((lr - etaMin) * (1 + Math.cos(Math.PI * progress))) / 2;

/** Half a cosine between the initial rate and the least one, down and up. */
export class CosineAnnealingLR extends LRScheduler {
  /** @throws FOVEA_ARGUMENT for options out of range */
  constructor(optimizer: AnyOptimizer, options: CosineAnnealingLROptions) {
    const { tMax, etaMin = 0 } = optionsArg('CosineAnnealingLR', options, ['tMax', 'etaMin']);
    countArg('CosineAnnealingLR', 'tMax', tMax, 1);
    numberArg('CosineAnnealingLR', 'etaMin', etaMin);
    super(optimizer, (t, lr) => cosine(lr, etaMin, t / tMax));
  }
}

/** Options of {@link CosineAnnealingWarmRestarts}. */
export interface CosineAnnealingWarmRestartsOptions {
  /** Steps until the first restart. */
  t0: number;
  /** How many times longer each period is than the one before; whole (default 1). */
  tMult?: number;
  /** The least rate (default 0). */
  etaMin?: number;
}

/** Steps since the last restart, and from that to the next. */
function period(t: number, t0: number, tMult: number): [number, number] {
  if (tMult === 1) return [t % t0, t0];
  let [since, length] = [t, t0];
  while (since >= length) {
    since -= length;
    length *= tMult;
  }
  return [since, length];
}

/** Half a cosine down, again and again. */
export class CosineAnnealingWarmRestarts extends LRScheduler {
  /** @throws FOVEA_ARGUMENT for options out of range */
  constructor(optimizer: AnyOptimizer, options: CosineAnnealingWarmRestartsOptions) {
    const known = ['t0', 'tMult', 'etaMin'] as const;
    const { t0, tMult = 1, etaMin = 0 } = optionsArg('CosineAnnealingWarmRestarts', options, known);
    countArg('CosineAnnealingWarmRestarts', 't0', t0, 1);
    countArg('CosineAnnealingWarmRestarts', 'tMult', tMult, 1);
    numberArg('CosineAnnealingWarmRestarts', 'etaMin', etaMin);
    super(optimizer, (t, lr) => {
      const [since, length] = period(t, t0, tMult);
      return cosine(lr, etaMin, since / length);
    });
  }
}
