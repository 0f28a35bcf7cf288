/**
 * Trains a language model on a sequence of tokens: random windows, AdamW with warm-up and a cosine, clipped gradients,
 * in float32 or in mixed precision.
 *
 * The loop is asynchronous and stays one step ahead of what it reads, so that the kernels never wait for JavaScript and
 * JavaScript never waits for a kernel.
 */
import { noGrad } from '../autograd/backward.js';
import { FoveaError } from '../errors.js';
import { throwIfAborted } from '../io/files.js';
import type { CausalLM } from '../models/causal-lm.js';
import { clipGradNorm_ } from '../nn/utils.js';
import { Generator, randint, tensor } from '../ops/index.js';
import { AdamW } from '../optim/adam.js';
import { GradScaler } from '../optim/grad-scaler.js';
import { type LambdaLR, warmupCosine } from '../optim/lr-scheduler.js';
import { argumentError, countArg, optionsArg, withoutUndefined } from '../tensor/check.js';
import type { Device } from '../tensor/device.js';
import { autocast, type AutocastDtype } from '../tensor/modes.js';
import type { Tensor } from '../tensor/tensor.js';
import { tidy } from '../tensor/tidy.js';

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
  /**
   * 'bfloat16' and 'float16' run forward under `autocast`, and backward in the same dtypes; weights and gradients stay
   * float32. 'float16' scales the loss, and waits for each step's gradients before the next (default 'float32').
   */
  precision?: 'float32' | AutocastDtype;
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

/** Windows of `length` tokens as int64 [windows, length]. */
function windowsAt(tokens: Uint16Array, starts: readonly number[], length: number, device: Device): Tensor {
  const ids = new BigInt64Array(starts.length * length);
  for (const [row, start] of starts.entries()) {
    for (let i = 0; i < length; i++) ids[row * length + i] = BigInt(tokens[start + i]!);
  }
  return tensor(ids, { shape: [starts.length, length], dtype: 'int64', device });
}

/** A token that the model lacks would fail in the middle of a step, and the step would pass the failure to the weights. */
function checkTokens(op: string, tokens: Uint16Array, length: number, { config: { vocabSize } }: CausalLM): void {
  if (!(tokens instanceof Uint16Array)) throw argumentError(op, 'tokens', 'a Uint16Array of token numbers', tokens);
  if (tokens.length < length) {
    const expected = `at least ${length} tokens, one window`;
    throw argumentError(op, 'tokens', expected, tokens.length, 'use more text or a shorter context');
  }
  const unknown = tokens.find((token) => token >= vocabSize);
  if (unknown === undefined) return;
  throw new FoveaError('FOVEA_INDEX', `${op}: token ${unknown} is not in the model's vocabulary of ${vocabSize}`);
}

/** Starts of random windows, `count` at a time; drawn for many steps at once, since drawing waits for the stream. */
async function* randomStarts(
  tokens: Uint16Array,
  length: number,
  count: number,
  seed: number,
): AsyncGenerator<number[], never> {
  const generator = new Generator(seed);
  const ahead = 64;
  for (;;) {
    const drawn = tidy(() => randint(0, tokens.length - length + 1, [ahead * count], { generator }));
    const starts = Array.from(await drawn.data<BigInt64Array>(), Number);
    drawn.dispose();
    for (let i = 0; i < ahead; i++) yield starts.slice(i * count, (i + 1) * count);
  }
}

function makeOptimizer(model: CausalLM, lr: number, weightDecay: number): AdamW {
  const trained = model.parameters().filter(({ requiresGrad }) => requiresGrad);
  const groups = [
    { params: trained.filter(({ rank }) => rank >= 2), weightDecay },
    { params: trained.filter(({ rank }) => rank < 2), weightDecay: 0 },
  ];
  return new AdamW(
    groups.filter(({ params }) => params.length > 0),
    { lr, betas: [0.9, 0.95] },
  );
}

/** What a step changes. */
interface Training {
  model: CausalLM;
  optimizer: AdamW;
  scheduler: LambdaLR;
  /** Enabled for float16 alone. */
  scaler: GradScaler;
}

/** Queues one step, which waits for the stream only if the loss is scaled, and gives its loss. */
async function trainStep(training: Training, ids: () => Tensor, { maxGradNorm, precision }: Plan): Promise<Tensor> {
  const { model, optimizer, scheduler, scaler } = training;
  return tidy(async () => {
    const inputIds = ids();
    const forward = (): Tensor => model.forward({ inputIds, labels: inputIds, outputLogits: false }).loss!;
    const loss = autocast(precision === 'float32' ? false : precision, forward);
    scaler.scale(loss).backward();
    scaler.unscale_(optimizer);
    clipGradNorm_(model.parameters(), maxGradNorm);
    await scaler.step(optimizer);
    await scaler.update();
    scheduler.step();
    optimizer.zeroGrad();
    return loss.detach();
  });
}

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
  if (!['float32', 'bfloat16', 'float16'].includes(plan.precision))
    throw argumentError('train', 'precision', "'float32', 'bfloat16' or 'float16'", plan.precision);
  checkTokens('train', tokens, plan.contextLength, model);
  return plan;
}

/** A step that was queued, and whose loss has not been read. */
interface QueuedStep {
  step: number;
  loss: Tensor;
  lr: number;
}

/** Reads losses one step late, so that a step computes while the one before it is read. */
class LossReader {
  readonly #plan: Plan;
  readonly #start = performance.now();
  #queued: QueuedStep | undefined;

  constructor(plan: Plan) {
    this.#plan = plan;
  }

  /** Takes a step, and reads the one before. */
  async push(next: QueuedStep): Promise<void> {
    const before = this.#queued;
    this.#queued = next;
    if (before) await this.#read(before);
  }

  /** Reads the last step, and gives its loss. */
  async finish(): Promise<number> {
    const last = this.#queued!;
    this.#queued = undefined;
    return this.#read(last);
  }

  /** Frees a loss that was not read. */
  dispose(): void {
    this.#queued?.loss.dispose();
  }

  async #read({ step, loss, lr }: QueuedStep): Promise<number> {
    const value = await loss.item();
    loss.dispose();
    if (!Number.isFinite(value))
      throw new FoveaError('FOVEA_NAN', `train: the loss of step ${step} is ${value}; lower the learning rate`);
    const { steps, batchSize, contextLength, onProgress } = this.#plan;
    const seconds = (performance.now() - this.#start) / 1000;
    const tokensPerSecond = (step * batchSize * contextLength) / seconds;
    onProgress?.({ step, steps, loss: value, lr, tokensPerSecond, secondsLeft: (seconds / step) * (steps - step) });
    return value;
  }
}

/**
 * Trains in place; the model is left in evaluation mode.
 *
 * @param tokens the text; at least one window
 * @returns the last step's loss
 * @throws FOVEA_NAN naming the step at which the loss stopped being finite: since losses are read one step late, the
 *   weights then hold that step's update and are of no use, so go back to a saved model; FOVEA_ABORTED, after which the
 *   weights are those of the last whole step
 */
export async function trainCausalLM(model: CausalLM, tokens: Uint16Array, given: TrainOptions): Promise<number> {
  const plan = planOf(model, tokens, given);
  const { steps, batchSize, contextLength, signal } = plan;
  const { device } = model;
  const optimizer = makeOptimizer(model, plan.lr, plan.weightDecay);
  const scheduler = warmupCosine(optimizer, { warmupSteps: plan.warmupSteps, totalSteps: steps, minLrRatio: 0.1 });
  const windows = randomStarts(tokens, contextLength, batchSize, plan.seed);
  const losses = new LossReader(plan);
  const scaler = new GradScaler({ enabled: plan.precision === 'float16' });
  const training = { model, optimizer, scheduler, scaler };
  model.train();
  try {
    for (let step = 1; step <= steps; step++) {
      throwIfAborted(signal, 'train');
      const { value: starts } = await windows.next();
      const lr = scheduler.getLastLr()[0]!;
      const batch = (): Tensor => windowsAt(tokens, starts, contextLength, device);
      const loss = await trainStep(training, batch, plan);
      await losses.push({ step, loss, lr });
    }
    return await losses.finish();
  } finally {
    losses.dispose();
    optimizer.dispose();
    model.zeroGrad();
    model.eval();
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
  const room = tokens.length - contextLength;
  const count = Math.min(windows, room + 1);
  const starts = Array.from({ length: count }, (_, i) => Math.floor((i * room) / Math.max(1, count - 1)));
  const wasTraining = model.training;
  model.eval();
  try {
    let sum = 0;
    for (let i = 0; i < count; i += batchSize) {
      throwIfAborted(signal, 'evaluate');
      const part = starts.slice(i, i + batchSize);
      const loss = noGrad(() =>
        tidy(() => {
          const inputIds = windowsAt(tokens, part, contextLength, model.device);
          return model.forward({ inputIds, labels: inputIds, outputLogits: false }).loss!;
        }),
      );
      sum += (await loss.item()) * part.length;
      loss.dispose();
    }
    return sum / count / Math.LN2;
  } finally {
    model.train(wasTraining);
  }
}
