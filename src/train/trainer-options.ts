/** What a Trainer is given, checked. */
import { isAbsolute, join } from 'node:path';
import { FoveaError } from '../errors.js';
import { Module } from '../nn/module.js';
import { ExponentialMovingAverage } from '../optim/moving-average.js';
import { Optimizer } from '../optim/optimizer.js';
import { Sophia } from '../optim/sophia.js';
import { argumentError, countArg, functionArg, optionsArg } from '../tensor/check.js';
import { type Batches, batchesArg } from './batches.js';
import { nonFinite } from './guards.js';
import { type Precision, precisionArg } from './precision.js';
import type { Guard, Stateful, TrainerCallback } from './trainer-events.js';
import type { HessianPart, StepParts } from './training-step.js';

/** A schedule of the rate, such as those of `optim.lrScheduler`. */
export interface Scheduler extends Stateful {
  /** Sets the rates of what comes next. */
  step(): void;
}

/** Options of {@link Trainer}. */
export interface TrainerOptions<B, M extends Module = Module>
  extends Pick<StepParts<B, M>, 'model' | 'optimizer' | 'loss'>,
    Partial<Pick<StepParts<B, M>, 'weight' | 'clipNorm' | 'clipValue'>> {
  /** Default 'float32'. */
  precision?: Precision;
  /** Where Sophia's estimates of the curvature come from; that optimizer needs it, and no other takes it. */
  hessian?: HessianPart<B, M>;
  /** Averages of weights: follow each update, are in checkpoints, and stand in for the weights in evaluations. */
  ema?: ExponentialMovingAverage;
  /** What is learnt from. */
  trainData: Batches<B>;
  /** What is measured with, by the same loss. */
  evalData?: Batches<B>;
  /** Steps once after each update, or after each epoch. */
  scheduler?: Scheduler;
  /** Default 'step'. */
  scheduleEvery?: 'step' | 'epoch';
  /** Passes over the data. This or `maxSteps` says when the run ends; with both, whichever comes first. */
  epochs?: number;
  /** Updates. */
  maxSteps?: number;
  /** Batches of an update (default 1); the last of an epoch may have fewer. */
  accumulate?: number;
  /** Steps from one evaluation to the next; default: after each epoch. There is always one at the end. */
  evaluateEvery?: number;
  /** Steps from one checkpoint to the next; default: one at the end. */
  saveEvery?: number;
  /** Checkpoints that stay (default: all). */
  keepLast?: number;
  /** Of checkpoints and the log; without it nothing is written. */
  folder?: string;
  /** Are called in this order. */
  callbacks?: readonly TrainerCallback[];
  /** Default: `[nonFinite()]`. */
  guards?: readonly Guard[];
  /** More that checkpoints keep, by name: generators of your own, for example. */
  extra?: Readonly<Record<string, Stateful>>;
  /** Seeds the default generator when a run begins anew. */
  seed?: number;
  /** A file that gets each report as a line of JSON, relative to `folder` (default 'log.jsonl' there); false: none. */
  log?: string | false;
  /** Ends the run behind the step that is being done: it is saved, and `run` rejects with FOVEA_ABORTED. */
  signal?: AbortSignal;
  /**
   * Whether the tensors of a batch are freed once it was used, except those given to `keep`; default: unless
   * `trainData` is an array, whose batches come again. The same holds of `evalData`.
   */
  disposeBatches?: boolean;
}

/** With defaults. */
export type CheckedOptions<B, M extends Module> = Omit<TrainerOptions<B, M>, 'hessian'> &
  StepParts<B, M> &
  Required<Pick<TrainerOptions<B, M>, 'accumulate' | 'callbacks' | 'guards' | 'extra' | 'scheduleEvery'>> & {
    logPath: string | undefined;
  };

const optionNames = [
  'model',
  'optimizer',
  'loss',
  'weight',
  'precision',
  'clipNorm',
  'clipValue',
  'hessian',
  'ema',
  'trainData',
  'evalData',
  'scheduler',
  'scheduleEvery',
  'epochs',
  'maxSteps',
  'accumulate',
  'evaluateEvery',
  'saveEvery',
  'keepLast',
  'folder',
  'callbacks',
  'guards',
  'extra',
  'seed',
  'log',
  'signal',
  'disposeBatches',
] as const;
const op = 'Trainer';

function limitArg(name: string, value: unknown): void {
  if (value === undefined || (typeof value === 'number' && value > 0)) return;
  throw argumentError(op, name, 'a number above 0', value);
}

/** What has both `stateDict` and `loadStateDict`, or neither. */
function isStateful(value: unknown): value is Stateful {
  const { stateDict, loadStateDict } = Object(value) as Partial<Stateful>;
  return typeof stateDict === 'function' && typeof loadStateDict === 'function';
}

const hooks = {
  callbacks: ['onStart', 'onStep', 'onEvaluate', 'onSave', 'onGuard', 'onEnd', 'stateDict', 'loadStateDict'],
  guards: ['beforeUpdate', 'afterEvaluation', 'stateDict', 'loadStateDict'],
} as const;

function watchersArg(name: keyof typeof hooks, value: unknown): void {
  if (!Array.isArray(value) || !value.every((item) => typeof item === 'object' && item !== null))
    throw argumentError(op, name, 'a list of objects', value);
  for (const [i, watcher] of (value as Record<string, unknown>[]).entries())
    for (const hook of hooks[name])
      if (watcher[hook] !== undefined) functionArg(op, `${name}[${i}].${hook}`, watcher[hook]);
}

function checkParts<B, M extends Module>({ model, optimizer, loss, ...rest }: TrainerOptions<B, M>): void {
  if (!(model instanceof Module)) throw argumentError(op, 'model', 'a Module', model);
  if (!(optimizer instanceof Optimizer)) throw argumentError(op, 'optimizer', 'an Optimizer', optimizer);
  functionArg(op, 'loss', loss);
  const { weight, scheduler, scheduleEvery = 'step', extra = {}, signal } = rest;
  if (weight !== undefined) functionArg(op, 'weight', weight);
  if (scheduler !== undefined && !(isStateful(scheduler) && typeof scheduler.step === 'function'))
    throw argumentError(op, 'scheduler', 'an object with step, stateDict and loadStateDict', scheduler);
  if (scheduleEvery !== 'step' && scheduleEvery !== 'epoch')
    throw argumentError(op, 'scheduleEvery', "'step' or 'epoch'", scheduleEvery);
  if (typeof extra !== 'object' || extra === null) throw argumentError(op, 'extra', 'an object', extra);
  for (const [name, part] of Object.entries(extra))
    if (!isStateful(part)) throw argumentError(op, `extra.${name}`, 'an object with stateDict and loadStateDict', part);
  if (rest.ema !== undefined && !(rest.ema instanceof ExponentialMovingAverage))
    throw argumentError(op, 'ema', 'an ExponentialMovingAverage', rest.ema);
  if (signal !== undefined && !(signal instanceof AbortSignal))
    throw argumentError(op, 'signal', 'an AbortSignal', signal);
}

/** Sophia has estimates of the curvature, and no other optimizer does. */
function hessianArg<B, M extends Module>({ optimizer, hessian }: TrainerOptions<B, M>): StepParts<B, M>['hessian'] {
  if (!(optimizer instanceof Sophia)) {
    if (hessian === undefined) return undefined;
    throw argumentError(op, 'hessian', 'nothing beside an optimizer other than Sophia', hessian);
  }
  if (hessian === undefined)
    throw argumentError(op, 'hessian', '{ estimate }, since the optimizer is Sophia', undefined);
  const { estimate, every = 10 } = optionsArg(op, hessian, ['estimate', 'every']);
  functionArg(op, 'hessian.estimate', estimate);
  return { estimate, every: countArg(op, 'hessian.every', every, 1), follower: optimizer };
}

function checkNumbers<B, M extends Module>(options: TrainerOptions<B, M>): void {
  const { epochs, maxSteps, folder } = options;
  if (epochs === undefined && maxSteps === undefined)
    throw argumentError(op, 'epochs', 'a number of epochs or of maxSteps', undefined, 'a run needs an end');
  for (const name of ['epochs', 'maxSteps', 'accumulate', 'evaluateEvery', 'saveEvery', 'keepLast'] as const)
    if (options[name] !== undefined) countArg(op, name, options[name], 1);
  if (options.seed !== undefined) countArg(op, 'seed', options.seed);
  limitArg('clipNorm', options.clipNorm);
  limitArg('clipValue', options.clipValue);
  if (folder !== undefined && typeof folder !== 'string') throw argumentError(op, 'folder', 'a path', folder);
  for (const name of ['saveEvery', 'keepLast'] as const)
    if (options[name] !== undefined && folder === undefined)
      throw argumentError(op, 'folder', `a path, since ${name} is given`, folder);
  if (options.evaluateEvery !== undefined && options.evalData === undefined)
    throw argumentError(op, 'evalData', 'batches, since evaluateEvery is given', undefined);
}

/** States are kept by name. */
function checkNames(callbacks: readonly TrainerCallback[], guards: readonly Guard[]): void {
  const seen = new Set<string>();
  for (const { name, stateDict } of [...callbacks, ...guards]) {
    if (name === undefined && stateDict === undefined) continue;
    if (typeof name !== 'string') throw argumentError(op, 'name', 'a string for a callback with a state', name);
    if (stateDict !== undefined && seen.has(name))
      throw new FoveaError(
        'FOVEA_ARGUMENT',
        `${op}: two callbacks or guards with a state are named ${name}; rename one`,
      );
    seen.add(name);
  }
}

/** Checks options and fills in defaults. @throws FOVEA_ARGUMENT naming the first that does not fit */
export function checkedOptions<B, M extends Module>(given: TrainerOptions<B, M>): CheckedOptions<B, M> {
  const options = optionsArg(op, given, optionNames);
  checkParts(options);
  batchesArg(op, 'trainData', options.trainData);
  if (options.evalData !== undefined) batchesArg(op, 'evalData', options.evalData);
  checkNumbers(options);
  const { callbacks = [], guards = [nonFinite()], log, folder } = options;
  watchersArg('callbacks', callbacks);
  watchersArg('guards', guards);
  checkNames(callbacks, guards);
  if (log !== undefined && log !== false && typeof log !== 'string')
    throw argumentError(op, 'log', 'a path or false', log);
  const file = log ?? (folder === undefined ? false : 'log.jsonl');
  return {
    ...options,
    weight: options.weight,
    precision: precisionArg(op, options.precision ?? 'float32'),
    clipNorm: options.clipNorm,
    clipValue: options.clipValue,
    hessian: hessianArg(options),
    scheduleEvery: options.scheduleEvery ?? 'step',
    accumulate: options.accumulate ?? 1,
    extra: options.extra ?? {},
    callbacks,
    guards,
    logPath: file === false ? undefined : folder === undefined || isAbsolute(file) ? file : join(folder, file),
  };
}
