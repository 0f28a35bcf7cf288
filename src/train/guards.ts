/**
 * Guards of a Trainer: what they notice between backward and the update can still be left out, so the weights stay
 * those of the last sound step.
 */
import { FoveaError } from '../errors.js';
import { argumentError, countArg, functionArg, optionsArg } from '../tensor/check.js';
import type { Awaitable, Guard, GuardAction, GuardVerdict } from './trainer-events.js';

/** A guard with a state. */
type StatefulGuard = Required<Pick<Guard, 'name' | 'stateDict' | 'loadStateDict'>> & Guard;

function actionArg(op: string, action: GuardAction): GuardAction {
  if (action === 'warn' || action === 'skip' || action === 'stop') return action;
  throw argumentError(op, 'action', "'warn', 'skip' or 'stop'", action);
}

function positiveArg(op: string, name: string, value: unknown): number {
  if (typeof value === 'number' && value > 0) return value;
  throw argumentError(op, name, 'a number above 0', value);
}

function numbersArg(op: string, name: string, value: unknown): number[] {
  if (Array.isArray(value) && value.every((item): item is number => typeof item === 'number')) return [...value];
  throw argumentError(op, name, 'a list of numbers', value);
}

/** Options of {@link nonFinite}. */
export interface NonFiniteOptions {
  /** 'stop' (default) fails the run; 'skip' leaves the update out. */
  action?: 'skip' | 'stop';
  /** So many steps in a row may be left out, then the run fails (default 20). */
  maxSkips?: number;
}

/**
 * NaN and infinities in the loss or in the gradients. Gradients that overflow while a scale for float16 is looked for
 * are left out anyway, and count as left out.
 *
 * @returns a guard that throws FOVEA_NAN, naming the step
 * @throws FOVEA_ARGUMENT for options out of range
 */
export function nonFinite(options?: NonFiniteOptions): StatefulGuard {
  const op = 'nonFinite';
  const { action = 'stop', maxSkips = 20 } = optionsArg(op, options, ['action', 'maxSkips']);
  if (action !== 'stop' && action !== 'skip') throw argumentError(op, 'action', "'skip' or 'stop'", action);
  countArg(op, 'maxSkips', maxSkips, 1);
  let skipped = 0;
  return {
    name: op,
    beforeUpdate({ step, loss, gradNorm, scaled }) {
      if (Number.isFinite(loss) && Number.isFinite(gradNorm)) {
        skipped = 0;
        return undefined;
      }
      const what = Number.isFinite(loss)
        ? `norm of the gradients of step ${step} is ${gradNorm}`
        : `loss of step ${step} is ${loss}`;
      const overflowed = scaled && Number.isFinite(loss);
      skipped++;
      if (skipped > maxSkips)
        throw new FoveaError(
          'FOVEA_NAN',
          `train: the ${what}, and so it was in ${maxSkips} steps before; lower the learning rate`,
        );
      if (action === 'stop' && !overflowed)
        throw new FoveaError('FOVEA_NAN', `train: the ${what}; lower the learning rate`);
      return overflowed ? undefined : { action, reason: `the ${what}` };
    },
    stateDict: () => ({ skipped }),
    loadStateDict(state) {
      skipped = countArg(op, 'skipped', optionsArg<{ skipped?: number }>(op, Object(state), ['skipped']).skipped);
    },
  };
}

/** Options of {@link lossSpike}. */
export interface LossSpikeOptions {
  /** Losses that the median is taken of (default 64). */
  window?: number;
  /** Deviations above the median at which a loss is a spike (default 6). */
  deviations?: number;
  /** Steps before anything counts as one (default 16). */
  minSteps?: number;
  /** Default 'skip'. */
  action?: GuardAction;
}

/** @returns the median of at least one number */
function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2;
}

/**
 * A loss far above the last ones: beyond median + k · σ, where σ is 1.4826 · the median distance from the median (that
 * of the normal distribution), and at least a hundredth of the median, so that a loss that stands still is not alarmed
 * by little. Spikes are remembered, too: a loss that stays high becomes the median.
 *
 * @throws FOVEA_ARGUMENT for options out of range
 */
export function lossSpike(options?: LossSpikeOptions): StatefulGuard {
  const op = 'lossSpike';
  const known = ['window', 'deviations', 'minSteps', 'action'] as const;
  const { window = 64, deviations = 6, minSteps = 16, action = 'skip' } = optionsArg(op, options, known);
  countArg(op, 'window', window, 2);
  countArg(op, 'minSteps', minSteps, 2);
  positiveArg(op, 'deviations', deviations);
  actionArg(op, action);
  let losses: number[] = [];
  return {
    name: op,
    beforeUpdate({ loss }) {
      const before = losses;
      if (Number.isFinite(loss)) losses = [...before, loss].slice(-window);
      if (before.length < Math.min(minSteps, window)) return undefined;
      const middle = median(before);
      const spread = 1.4826 * median(before.map((value) => Math.abs(value - middle)));
      const sigma = Math.max(spread, Math.abs(middle) / 100);
      if (!(loss > middle + deviations * sigma)) return undefined;
      const reason = `the loss is ${loss}, ${((loss - middle) / sigma).toFixed(1)} deviations above the median ${middle}`;
      return { action, reason };
    },
    stateDict: () => ({ losses }),
    loadStateDict(state) {
      losses = numbersArg(op, 'losses', optionsArg<{ losses?: number[] }>(op, Object(state), ['losses']).losses);
    },
  };
}

/** Options of {@link gradientNorm}. */
export interface GradientNormOptions {
  /** The largest norm that is let through. */
  max: number;
  /** Default 'skip'. */
  action?: GuardAction;
}

/**
 * Gradients, as they are before clipping, whose norm is too large.
 *
 * @throws FOVEA_ARGUMENT for options out of range
 */
export function gradientNorm(options: GradientNormOptions): Guard {
  const op = 'gradientNorm';
  const { max, action = 'skip' } = optionsArg(op, options, ['max', 'action']);
  positiveArg(op, 'max', max);
  actionArg(op, action);
  return {
    name: op,
    beforeUpdate({ gradNorm, scaled }) {
      if (!(gradNorm > max) || (scaled && !Number.isFinite(gradNorm))) return undefined;
      return { action, reason: `the norm of the gradients is ${gradNorm}, above ${max}` };
    },
  };
}

/** Options of {@link attentionCollapse}. */
export interface AttentionCollapseOptions {
  /**
   * Mean entropy of the attention weights by layer, in nats, of what was observed last; `inspect.entropy` computes it.
   */
  entropies: () => Awaitable<Readonly<Record<string, number>>>;
  /** Below this, a layer's attention counts as collapsed (default 0.05). */
  threshold?: number;
  /** Steps from one look to the next (default 100). */
  every?: number;
  /** Default 'stop'. */
  action?: GuardAction;
}

/**
 * Attention that looks at one key only, whose softmax passes on no gradient ("entropy collapse", Zhai et al. 2023,
 * https://arxiv.org/abs/2303.06296).
 *
 * @example
 * using observer = inspect.observe(model, { maxCalls: 1 });
 * const entropyOf = async (layer: inspect.AttentionCapture) => {
 *   using weights = layer.weights();
 *   using entropy = inspect.entropy(weights).mean();
 *   return [layer.module, await entropy.item()] as const;
 * };
 * const entropies = async () => Object.fromEntries(await Promise.all(observer.captures.map(entropyOf)));
 * const guards = [train.nonFinite(), train.attentionCollapse({ entropies })];
 * @throws FOVEA_ARGUMENT for options out of range, and during the run where `entropies` gives no numbers
 */
export function attentionCollapse(options: AttentionCollapseOptions): Guard {
  const op = 'attentionCollapse';
  const known = ['entropies', 'threshold', 'every', 'action'] as const;
  const { entropies, threshold = 0.05, every = 100, action = 'stop' } = optionsArg(op, options, known);
  functionArg(op, 'entropies', entropies);
  positiveArg(op, 'threshold', threshold);
  countArg(op, 'every', every, 1);
  actionArg(op, action);
  return {
    name: op,
    async beforeUpdate({ step }): Promise<GuardVerdict | undefined> {
      if (step % every !== 0) return undefined;
      const layers = Object.entries(Object(await entropies()) as Record<string, unknown>);
      if (layers.length === 0)
        throw argumentError(op, 'what entropies() gives', 'the entropy of a layer', {}, 'observe the model first');
      for (const [layer, value] of layers)
        if (typeof value !== 'number') throw argumentError(op, `the entropy of ${layer}`, 'a number', value);
      const low = layers.filter(([, value]) => Number(value) < threshold);
      if (low.length === 0) return undefined;
      const list = low.map(([layer, value]) => `${layer} (${Number(value).toPrecision(3)})`).join(', ');
      return { action, reason: `the entropy of attention is below ${threshold} nats in ${list}` };
    },
  };
}

/** Options of {@link overfitting}. */
export interface OverfittingOptions {
  /** Evaluations in a row (default 3). */
  evaluations?: number;
  /** Default 'stop'. */
  action?: 'warn' | 'stop';
}

/**
 * Held-out data is predicted worse from evaluation to evaluation while training data is predicted better.
 *
 * @throws FOVEA_ARGUMENT for options out of range
 */
export function overfitting(options?: OverfittingOptions): StatefulGuard {
  const op = 'overfitting';
  const { evaluations = 3, action = 'stop' } = optionsArg(op, options, ['evaluations', 'action']);
  countArg(op, 'evaluations', evaluations, 1);
  if (action !== 'warn' && action !== 'stop') throw argumentError(op, 'action', "'warn' or 'stop'", action);
  const fresh = { loss: Number.NaN, trainLoss: Number.NaN, count: 0 };
  let last = fresh;
  return {
    name: op,
    afterEvaluation({ loss, trainLoss }) {
      if (trainLoss === undefined) return undefined;
      const apart = loss > last.loss && trainLoss < last.trainLoss;
      last = { loss, trainLoss, count: apart ? last.count + 1 : 0 };
      if (last.count < evaluations) return undefined;
      const reason = `in ${last.count} evaluations in a row the held-out loss has risen, to ${loss}, while the training loss fell`;
      return { action, reason };
    },
    stateDict: () => ({ ...last }),
    loadStateDict(state) {
      const given = optionsArg<Partial<typeof last>>(op, Object(state), ['loss', 'trainLoss', 'count']);
      const [loss, trainLoss] = numbersArg(op, 'state', [given.loss, given.trainLoss]) as [number, number];
      last = { loss, trainLoss, count: countArg(op, 'count', given.count) };
    },
  };
}
