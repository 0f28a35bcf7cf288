/**
 * Factors of the rate for training from scratch, as phases that follow one another. With k the steps into a phase of n:
 *
 *   warmup       (k + 1) / n, at most 1
 *   stable       1
 *   decay        min + (1 - min) · d(k / n), at the end min;  linear: d(x) = 1 - x,  cosine: (1 + cos(π x)) / 2,
 *                1-sqrt: 1 - √x (Hägele et al. 2024, https://arxiv.org/abs/2405.18392)
 *   inverseSqrt  √(n / (n + k + 1)), for ever
 *
 * `phases(warmup({ steps: 100 }), stable({ steps: 800 }), decay({ steps: 100, shape: '1-sqrt' }))` is the factor that
 * LambdaLR takes. The schedules below are such compositions by their usual names.
 */
import { argumentError, countArg, functionArg, optionsArg } from '../tensor/check.js';
import { LambdaLR } from './lr-classes.js';
import { type AnyOptimizer, type LrFactor, shareArg } from './lr-schedule.js';

/** A part of a schedule. */
export interface LrPhase {
  /** How long it lasts, unless it is the last; Infinity for one that does not end. */
  readonly steps: number;
  /** The factor of the rate, by steps into the phase; the last phase is asked beyond its end, too. */
  readonly factor: LrFactor;
}

/**
 * One phase after the other; the last goes on.
 *
 * @returns the factor of a step, for {@link LambdaLR}
 * @throws FOVEA_ARGUMENT for no phases, or what is none
 */
export function phases(...list: readonly LrPhase[]): LrFactor {
  if (list.length === 0) throw argumentError('phases', 'phases', 'at least one phase', list);
  for (const [i, phase] of list.entries()) {
    if (typeof phase !== 'object' || phase === null) throw argumentError('phases', `phases[${i}]`, 'a phase', phase);
    if (phase.steps !== Number.POSITIVE_INFINITY) countArg('phases', `phases[${i}].steps`, phase.steps);
    functionArg('phases', `phases[${i}].factor`, phase.factor);
  }
  const last = list.at(-1)!;
  return (step) => {
    let into = step;
    for (const phase of list.slice(0, -1)) {
      if (into < phase.steps) return phase.factor(into);
      into -= phase.steps;
    }
    return last.factor(into);
  };
}

/** The factor rises linearly, and is 1 in the last of `steps`. */
export function warmup(options: { steps: number }): LrPhase {
  const steps = countArg('warmup', 'steps', optionsArg('warmup', options, ['steps']).steps);
  return { steps, factor: (k) => Math.min(1, (k + 1) / Math.max(1, steps)) };
}

/** The factor stays 1 for `steps`. */
export function stable(options: { steps: number }): LrPhase {
  return { steps: countArg('stable', 'steps', optionsArg('stable', options, ['steps']).steps), factor: () => 1 };
}

/** Options of {@link decay}. */
export interface DecayOptions {
  /** Steps until the end is reached. */
  steps: number;
  /** Default 'cosine'. */
  shape?: DecayShape;
  /** What is left at the end, as a share of the full rate (default 0). */
  minLrRatio?: number;
}
/** How a rate falls: see {@link decay}. */
export type DecayShape = 'linear' | 'cosine' | '1-sqrt';

const shapes: Readonly<Record<DecayShape, (progress: number) => number>> = {
  linear: (x) => 1 - x,
  cosine: (x) => (1 + Math.cos(Math.PI * x)) / 2,
  '1-sqrt': (x) => 1 - Math.sqrt(x),
};

/** The factor falls from 1 to `minLrRatio`, and stays there. */
export function decay(options: DecayOptions): LrPhase {
  const { steps, shape = 'cosine', minLrRatio = 0 } = optionsArg('decay', options, ['steps', 'shape', 'minLrRatio']);
  countArg('decay', 'steps', steps);
  shareArg('decay', 'minLrRatio', minLrRatio);
  if (!Object.hasOwn(shapes, shape)) throw argumentError('decay', 'shape', "'linear', 'cosine' or '1-sqrt'", shape);
  const left = shapes[shape];
  const factor = (k: number): number => minLrRatio + (1 - minLrRatio) * left(Math.min(1, k / Math.max(1, steps)));
  return { steps, factor };
}

/** The factor falls with the square root of the steps, so that it is 1 / 2 after three times `timescale` steps. */
export function inverseSqrt(options: { timescale: number }): LrPhase {
  const { timescale } = optionsArg('inverseSqrt', options, ['timescale']);
  countArg('inverseSqrt', 'timescale', timescale, 1);
  return { steps: Number.POSITIVE_INFINITY, factor: (k) => Math.sqrt(timescale / (timescale + k + 1)) };
}

/** Options of {@link warmupCosine} and {@link warmupLinear}. */
export interface WarmupCosineOptions {
  /** Steps in which the rate rises linearly to its full value. */
  warmupSteps: number;
  /** Steps after which it has reached its end. */
  totalSteps: number;
  /** What is left at the end, as a share of the full rate (default 0). */
  minLrRatio?: number;
}

function warmupThen(op: string, shape: DecayShape, options: WarmupCosineOptions): LrFactor {
  const known = ['warmupSteps', 'totalSteps', 'minLrRatio'] as const;
  const { warmupSteps, totalSteps, minLrRatio = 0 } = optionsArg(op, options, known);
  countArg(op, 'warmupSteps', warmupSteps);
  countArg(op, 'totalSteps', totalSteps, 1);
  shareArg(op, 'minLrRatio', minLrRatio);
  if (warmupSteps > totalSteps)
    throw argumentError(op, 'warmupSteps', `at most totalSteps (${totalSteps})`, warmupSteps);
  return phases(warmup({ steps: warmupSteps }), decay({ steps: totalSteps - warmupSteps, shape, minLrRatio }));
}

/**
 * Linear warm-up, then half a cosine down (Loshchilov & Hutter 2017, https://arxiv.org/abs/1608.03983): factor(n) = (n
 * + 1) / warmupSteps, then min + (1 - min) · (1 + cos(π · progress)) / 2.
 *
 * @returns a schedule that multiplies the rates of the optimizer by the factor
 * @throws FOVEA_ARGUMENT for steps that are no counts, or a warm-up longer than the whole
 */
export function warmupCosine(optimizer: AnyOptimizer, options: WarmupCosineOptions): LambdaLR {
  return new LambdaLR(optimizer, warmupThen('warmupCosine', 'cosine', options));
}

/**
 * Linear warm-up, then linearly down (BERT: Devlin et al. 2019, https://arxiv.org/abs/1810.04805).
 *
 * @returns a schedule that multiplies the rates of the optimizer by the factor
 * @throws FOVEA_ARGUMENT for steps that are no counts, or a warm-up longer than the whole
 */
export function warmupLinear(optimizer: AnyOptimizer, options: WarmupCosineOptions): LambdaLR {
  return new LambdaLR(optimizer, warmupThen('warmupLinear', 'linear', options));
}

/** Options of {@link noam}. */
export interface NoamOptions {
  /** The model's width. */
  dModel: number;
  /** Steps in which the rate rises linearly; at least 1. */
  warmupSteps: number;
}

/**
 * The schedule of "Attention is all you need" (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, equation 3):
 * factor = dModel^-0.5 · min(n^-0.5, n · warmupSteps^-1.5), n counting from 1. It is the rate itself: the optimizer's
 * is 1, or another to scale it.
 *
 * @returns a schedule that multiplies the rates of the optimizer by the factor
 * @throws FOVEA_ARGUMENT for what is no count of at least 1
 */
export function noam(optimizer: AnyOptimizer, options: NoamOptions): LambdaLR {
  const { dModel, warmupSteps } = optionsArg('noam', options, ['dModel', 'warmupSteps']);
  const peak = (countArg('noam', 'dModel', dModel, 1) * countArg('noam', 'warmupSteps', warmupSteps, 1)) ** -0.5;
  const factor = phases(warmup({ steps: warmupSteps }), inverseSqrt({ timescale: warmupSteps }));
  return new LambdaLR(optimizer, (step) => peak * factor(step));
}

/**
 * Noam's schedule with the optimizer's rate at its peak: factor(n) = (n + 1) / warmupSteps, then √(warmupSteps / (n +
 * 1)).
 *
 * @returns a schedule that multiplies the rates of the optimizer by the factor
 * @throws FOVEA_ARGUMENT for a warm-up of no steps
 */
export function warmupInverseSqrt(optimizer: AnyOptimizer, options: { warmupSteps: number }): LambdaLR {
  const { warmupSteps } = optionsArg('warmupInverseSqrt', options, ['warmupSteps']);
  countArg('warmupInverseSqrt', 'warmupSteps', warmupSteps, 1);
  return new LambdaLR(optimizer, phases(warmup({ steps: warmupSteps }), inverseSqrt({ timescale: warmupSteps })));
}

/** Options of {@link warmupStableDecay}. */
export interface WarmupStableDecayOptions {
  /** Steps in which the rate rises linearly to its full value. */
  warmupSteps: number;
  /** Steps with the full rate. */
  stableSteps: number;
  /** Steps in which it falls. */
  decaySteps: number;
  /** Default 'linear'. */
  decayShape?: DecayShape;
  /** What is left at the end, as a share of the full rate (default 0). */
  minLrRatio?: number;
}

/**
 * Warm-up, a long time at the full rate, and a short decay: WSD (MiniCPM: Hu et al. 2024,
 * https://arxiv.org/abs/2404.06395, section 4). Where training stops can be decided late, since any step of the stable
 * phase may start the decay.
 *
 * @returns a schedule that multiplies the rates of the optimizer by the factor
 * @throws FOVEA_ARGUMENT for steps that are no counts, and an unknown shape
 */
export function warmupStableDecay(optimizer: AnyOptimizer, options: WarmupStableDecayOptions): LambdaLR {
  const name = 'warmupStableDecay';
  const known = ['warmupSteps', 'stableSteps', 'decaySteps', 'decayShape', 'minLrRatio'] as const;
  const { decayShape: shape = 'linear', minLrRatio = 0, ...steps } = optionsArg(name, options, known);
  for (const key of ['warmupSteps', 'stableSteps', 'decaySteps'] as const) countArg(name, key, steps[key]);
  return new LambdaLR(
    optimizer,
    phases(
      warmup({ steps: steps.warmupSteps }),
      stable({ steps: steps.stableSteps }),
      decay({ steps: steps.decaySteps, shape, minLrRatio }),
    ),
  );
}
