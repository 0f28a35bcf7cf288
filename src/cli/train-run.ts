/**
 * A run with checkpoints, which goes on where it was when it is started again: `fovea train <config.json>` and
 * `fovea finetune`.
 */
import { join } from 'node:path';
import type { Module } from '../nn/module.js';
import { manualSeed } from '../ops/index.js';
import { ExponentialMovingAverage, gaussNewtonBartlett, hutchinson } from '../optim/index.js';
import { withoutUndefined } from '../tensor/check.js';
import { earlyStopping } from '../train/early-stopping.js';
import { lossCurve } from '../train/loss-curve.js';
import { progressLine } from '../train/progress.js';
import { Trainer } from '../train/trainer.js';
import type { Guard, TrainerCallback } from '../train/trainer-events.js';
import type { HessianPart } from '../train/training-step.js';
import { say } from './say.js';
import type { TrainConfig } from './train-config.js';
import { makeGuards } from './train-guards.js';
import { languageTask } from './train-language.js';
import { denoisingTask } from './train-denoising.js';
import { type HessianConfig, makeOptimizer } from './train-optimizers.js';
import { makeSchedule } from './train-schedules.js';
import type { TrainTask } from './train-task.js';
import { translationTask } from './train-translation.js';

type Average = ExponentialMovingAverage | undefined;

function callbacksOf({ folder, earlyStopping: stopping }: TrainConfig): TrainerCallback[] {
  const early = stopping ? [earlyStopping(stopping)] : [];
  return [progressLine(), lossCurve(join(folder, 'loss.svg')), ...early];
}

/** Where Sophia learns of the curvature. */
function hessianOf<B, M extends Module>(
  { data, logits }: TrainTask<B, M>,
  { estimator, every }: HessianConfig,
): HessianPart<B, M> {
  return {
    every,
    estimate: (model, batch, params) =>
      estimator === 'hutchinson'
        ? hutchinson(data.loss(model, batch), params)
        : gaussNewtonBartlett(logits(model, batch), params),
  };
}

function trainerOf<B, M extends Module>(
  task: TrainTask<B, M>,
  config: TrainConfig,
  { ema, guards, signal }: { ema: Average; guards: readonly Guard[]; signal: AbortSignal | undefined },
): Trainer<B, M> {
  const { steps, accumulate, precision, evaluateEvery, saveEvery, keepLast, folder } = config;
  const { clipNorm, clipValue } = config;
  const { model, width, data } = task;
  const { hessian: curvature } = config.optimizer;
  const hessian = curvature && hessianOf(task, curvature);
  const optimizer = makeOptimizer(model, config.optimizer);
  return new Trainer<B, M>({
    model,
    optimizer,
    scheduler: makeSchedule(optimizer, config.schedule, { steps, width }),
    ...data,
    maxSteps: steps,
    accumulate,
    precision,
    evaluateEvery,
    saveEvery,
    keepLast,
    folder,
    guards,
    callbacks: callbacksOf(config),
    ...withoutUndefined({ clipNorm, clipValue, hessian, ema, signal }),
  });
}

/** Runs to the end, the averages of weights in their place then, and says what that did. */
async function run<B, M extends Module>(
  trainer: Trainer<B, M>,
  ema: Average,
  before: number | undefined,
): Promise<void> {
  const { step, evalLoss } = await trainer.run();
  ema?.copyTo();
  if (evalLoss === undefined) return;
  const bits = (loss: number): string => (loss / Math.LN2).toFixed(2);
  const averaged = ema ? ', of averaged weights' : '';
  const earlier = before === undefined ? '' : `, ${bits(before)} before`;
  say(`held-out text: ${bits(evalLoss)} bits per token after ${step} steps${averaged}${earlier}`);
}

async function runTask<B, M extends Module>(
  task: TrainTask<B, M>,
  config: TrainConfig,
  signal: AbortSignal | undefined,
): Promise<void> {
  using owned = task;
  const trained = owned.model.parameters().filter(({ requiresGrad }) => requiresGrad);
  using ema = config.ema && new ExponentialMovingAverage(trained, config.ema);
  using watch = makeGuards(owned.model, config.guards);
  const trainer = trainerOf(task, config, { ema, guards: watch.guards, signal });
  const from = config.resume ? await trainer.resume() : 0;
  if (from > 0) say(`resumed from step ${from} in ${config.folder}`);
  if (from >= config.steps) say(`all ${config.steps} steps are done; for more, raise steps or choose another folder`);
  await run(trainer, ema, from === 0 ? await trainer.evaluate() : undefined);
  const files = await task.save(config.out, signal ? { signal } : {});
  say(`saved: ${config.out} (${files})`);
}

/** Trains as a config says, and reports on the standard error stream. */
export async function trainRun(config: TrainConfig, signal?: AbortSignal): Promise<void> {
  const { subject, seed } = config;
  manualSeed(seed);
  if ('pairs' in subject) await runTask(await translationTask(subject, config), config, signal);
  else if ('transformer' in subject) await runTask(await denoisingTask(subject, config), config, signal);
  else await runTask(await languageTask(subject, config), config, signal);
}
