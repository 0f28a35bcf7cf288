/**
 * Trains a language model on a sequence of tokens: random windows, AdamW with warm-up and a cosine, clipped gradients,
 * in float32 or in mixed precision.
 */
import { noGrad } from '../autograd/backward.js';
import type { CausalLM } from '../models/causal-lm.js';
import { AdamW } from '../optim/adam.js';
import { warmupCosine } from '../optim/lr-scheduler.js';
import { countArg, optionsArg, withoutUndefined } from '../tensor/check.js';
import { tidy } from '../tensor/tidy.js';
import { inEvaluation, meanLoss } from './evaluation.js';
import { decayGroups } from './param-groups.js';
import { type Precision, precisionArg } from './precision.js';
import { Trainer } from './trainer.js';
import type { TrainerCallback } from './trainer-events.js';
import { checkTokens, RandomWindows, spreadWindows, type WindowBatch, windowsLoss } from './windows.js';

/** What is known after a step. */
export interface TrainProgress {
  /** Steps done, from 1. */
  step: number;
  /** Steps in all. */
  steps: number;
  /** Mean cross entropy of the step's batch, in nats per token. */
  loss: number;
  /** The rate of the step. */
  lr: number;
  /** Mean so far. */
  tokensPerSecond: number;
  /** Seconds, at that pace. */
  secondsLeft: number;
  /** The most bytes of tensors that the model's device held during the step. */
  peakMemory: number;
}

/** Options of {@link trainCausalLM}. */
export interface TrainOptions {
  /** Updates of the weights. */
  steps: number;
  /** Windows per step (default 16). */
  batchSize?: number;
  /** Tokens per window (default: as many as the model takes). */
  contextLength?: number;
  /** The highest rate (default 1e-3). */
  lr?: number;
  /** Default: a twentieth of the steps. */
  warmupSteps?: number;
  /** Acts on matrices alone, not on biases and norms (default 0.1). */
  weightDecay?: number;
  /** Default 1. */
  maxGradNorm?: number;
  /** Default 'float32'. 'float16' waits for each step's gradients before the next. */
  precision?: Precision;
  /** Chooses the windows (default 0). */
  seed?: number;
  /** Cancels between steps: training then rejects with FOVEA_ABORTED. */
  signal?: AbortSignal;
  /** Called after each step. */
  onProgress?: (progress: TrainProgress) => void;
}

const optionNames = [
  'steps',
  'batchSize',
  'contextLength',
  'lr',
  'warmupSteps',
  'weightDecay',
  'maxGradNorm',
  'precision',
  'seed',
  'signal',
  'onProgress',
] as const;

type Plan = Required<Omit<TrainOptions, 'signal' | 'onProgress'>> & Pick<TrainOptions, 'signal' | 'onProgress'>;

/** Checks options and tokens, and fills in defaults. */
function planOf(model: CausalLM, tokens: Uint16Array, given: TrainOptions): Plan {
  const options = optionsArg('train', given, optionNames);
  const plan = {
    batchSize: 16,
    contextLength: model.config.nPositions,
    lr: 1e-3,
    warmupSteps: Math.ceil(countArg('train', 'steps', options.steps, 1) / 20),
    weightDecay: 0.1,
    maxGradNorm: 1,
    precision: 'float32' as const,
    seed: 0,
    ...withoutUndefined(options),
    steps: options.steps,
  };
  countArg('train', 'batchSize', plan.batchSize, 1);
  countArg('train', 'contextLength', plan.contextLength, 2);
  precisionArg('train', plan.precision);
  checkTokens('train', tokens, plan.contextLength, model);
  return plan;
}

/** Tells of each step. */
function telling({ steps, batchSize, contextLength, onProgress }: Plan): TrainerCallback {
  const start = performance.now();
  return {
    onStep({ step, loss, lr, peakMemory }) {
      const seconds = (performance.now() - start) / 1000;
      const tokensPerSecond = (step * batchSize * contextLength) / seconds;
      const secondsLeft = (seconds / step) * (steps - step);
      onProgress?.({ step, steps, loss, lr, tokensPerSecond, secondsLeft, peakMemory });
    },
  };
}

/**
 * Trains in place; the model is left in evaluation mode.
 *
 * @param tokens the text; at least one window
 * @returns the last step's loss
 * @throws FOVEA_NAN naming the step at which loss or gradients stopped being finite, and FOVEA_ABORTED; the weights are
 *   then those of the last whole step
 */
export async function trainCausalLM(model: CausalLM, tokens: Uint16Array, given: TrainOptions): Promise<number> {
  const plan = planOf(model, tokens, given);
  const { steps, batchSize, contextLength, lr, precision, signal } = plan;
  const optimizer = new AdamW(decayGroups(model, plan.weightDecay), { lr, betas: [0.9, 0.95] });
  const trainer = new Trainer<WindowBatch, CausalLM>({
    model,
    optimizer,
    scheduler: warmupCosine(optimizer, { warmupSteps: plan.warmupSteps, totalSteps: steps, minLrRatio: 0.1 }),
    loss: (lm, batch) => windowsLoss(lm, batch, contextLength),
    trainData: new RandomWindows(tokens, contextLength, batchSize, plan.seed),
    maxSteps: steps,
    precision,
    clipNorm: plan.maxGradNorm,
    callbacks: [telling(plan)],
    ...(signal ? { signal } : {}),
  });
  try {
    return (await trainer.run()).loss!;
  } finally {
    optimizer.dispose();
  }
}

/** Options of {@link bitsPerToken}. */
export interface EvaluateOptions {
  /** Windows, evenly spread over the tokens (default 64). */
  windows?: number;
  /** Windows at once (default 16). */
  batchSize?: number;
  /** Tokens of a window; default: the longest that the model takes. */
  contextLength?: number;
  /** Cancels between batches. */
  signal?: AbortSignal;
}

/**
 * Mean cross entropy of a model on `tokens`, in bits per token; for byte tokens, in bits per byte.
 *
 * @param tokens at least one window of `contextLength` (default: the model's longest)
 * @throws rejects with FOVEA_ARGUMENT for too few tokens or an unknown option, FOVEA_INDEX for a token beyond the
 *   vocabulary, FOVEA_ABORTED once the signal is aborted
 */
export async function bitsPerToken(
  model: CausalLM,
  tokens: Uint16Array,
  options: EvaluateOptions = {},
): Promise<number> {
  const known = ['windows', 'batchSize', 'contextLength', 'signal'] as const;
  const {
    contextLength = model.config.nPositions,
    windows = 64,
    batchSize = 16,
    signal,
  } = optionsArg('evaluate', options, known);
  checkTokens('evaluate', tokens, contextLength, model);
  const loss = async (batch: WindowBatch): Promise<number> => {
    using mean = noGrad(() => tidy(() => windowsLoss(model, batch, contextLength)));
    return await mean.item();
  };
  const weight = ({ starts }: WindowBatch): number => starts.length;
  const batches = spreadWindows(tokens, contextLength, windows, batchSize);
  const nats = await inEvaluation(model, () => meanLoss(batches, { loss, weight, disposes: false, signal }));
  return nats / Math.LN2;
}
