/** `fovea train <config.json>`: a run with checkpoints, which goes on where it was when it is started again. */
import { join } from 'node:path';
import { load } from '../models/auto.js';
import type { CausalLM } from '../models/causal-lm.js';
import { manualSeed } from '../ops/index.js';
import { Adafactor, Adam, AdamW, Lion, lrScheduler, type Optimizer, SGD } from '../optim/index.js';
import { withoutUndefined } from '../tensor/check.js';
import { ByteTokenizer } from '../text/byte-tokenizer.js';
import { type Corpus, readCorpus } from '../train/corpus.js';
import { earlyStopping } from '../train/early-stopping.js';
import { lossCurve } from '../train/loss-curve.js';
import { decayGroups } from '../train/param-groups.js';
import { progressLine } from '../train/progress.js';
import { Trainer } from '../train/trainer.js';
import type { TrainerOptions } from '../train/trainer-options.js';
import { checkTokens, RandomWindows, spreadWindows, type WindowBatch, windowsLoss } from '../train/windows.js';
import { newModel } from './new-model.js';
import { type OptimizerConfig, readTrainConfig, type TrainConfig } from './train-config.js';

const say = (text: string): void => void process.stderr.write(`${text}\n`);
/** Windows that an evaluation reads. */
const evaluationWindows = 64;

async function modelOf({ model, seed, device }: TrainConfig): Promise<CausalLM> {
  manualSeed(seed);
  if (!('load' in model)) return newModel(model).to(device);
  await ByteTokenizer.fromPretrained(model.load); // the text is read as bytes
  return load(model.load, { device });
}

function optimizerOf(model: CausalLM, config: OptimizerConfig): Optimizer<{ lr: number }> {
  const { type, lr, weightDecay, betas, momentum } = config;
  const groups = decayGroups(model, weightDecay);
  if (type === 'SGD') return new SGD(groups, { lr, momentum });
  if (type === 'Adafactor') return new Adafactor(groups, { lr });
  return new { AdamW, Adam, Lion }[type](groups, { lr, betas });
}

type TextOptions = TrainerOptions<WindowBatch, CausalLM>;

/** Windows of the text, and how often to look at those that are held out. */
function dataOf(
  model: CausalLM,
  { train, validation }: Corpus,
  config: TrainConfig,
): Pick<TextOptions, 'trainData' | 'evalData'> {
  const { nPositions } = model.config;
  const { batchSize, seed } = config;
  checkTokens('train', train, nPositions, model);
  checkTokens('train: held-out text', validation, nPositions, model);
  return {
    trainData: new RandomWindows(train, nPositions, batchSize, seed),
    evalData: spreadWindows(validation, nPositions, evaluationWindows, batchSize),
  };
}

function trainerOf(
  model: CausalLM,
  corpus: Corpus,
  config: TrainConfig,
  signal: AbortSignal | undefined,
): Trainer<WindowBatch, CausalLM> {
  const { steps, schedule, folder, earlyStopping: stopping, clipNorm, clipValue } = config;
  const optimizer = optimizerOf(model, config.optimizer);
  const { warmupSteps, minLrRatio } = schedule;
  const cosine = { warmupSteps, totalSteps: steps, minLrRatio };
  const scheduler = schedule.type === 'warmupCosine' ? lrScheduler.warmupCosine(optimizer, cosine) : undefined;
  return new Trainer<WindowBatch, CausalLM>({
    model,
    optimizer,
    loss: (lm, batch) => windowsLoss(lm, batch, model.config.nPositions),
    weight: ({ starts }) => starts.length,
    ...dataOf(model, corpus, config),
    maxSteps: steps,
    accumulate: config.accumulate,
    precision: config.precision,
    evaluateEvery: config.evaluateEvery ?? steps,
    saveEvery: config.saveEvery ?? steps,
    keepLast: config.keepLast,
    folder,
    callbacks: [progressLine(), lossCurve(join(folder, 'loss.svg')), ...(stopping ? [earlyStopping(stopping)] : [])],
    ...withoutUndefined({ scheduler, clipNorm, clipValue, signal }),
  });
}

/** Trains as a config says, and reports on the standard error stream. */
export async function trainRun(path: string, signal?: AbortSignal): Promise<void> {
  const config = await readTrainConfig(path);
  const corpus = await readCorpus(config.text, config.heldOut);
  using model = await modelOf(config);
  const trainer = trainerOf(model, corpus, config, signal);
  const from = config.resume ? await trainer.resume() : 0;
  if (from > 0) say(`resumed from step ${from} in ${config.folder}`);
  const { step, evalLoss } = await trainer.run();
  if (evalLoss !== undefined)
    say(`held-out text: ${(evalLoss / Math.LN2).toFixed(2)} bits per token after ${step} steps`);
  const out = join(config.folder, 'model');
  await model.savePretrained(out, signal ? { signal } : {});
  await new ByteTokenizer().savePretrained(out);
  say(`saved: ${out} (config.json, model.safetensors, tokenizer.json)`);
}
