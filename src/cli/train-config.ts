/** The config of `fovea train <config.json>`, checked. Paths are relative to the file's folder. */
import { dirname, join, resolve } from 'node:path';
import { readJsonFile } from '../io/files.js';
import type { JsonObject } from '../io/strict-json.js';
import { parameter } from '../nn/parameter.js';
import { zeros } from '../ops/index.js';
import { ExponentialMovingAverage } from '../optim/index.js';
import { isDeviceName, type Device } from '../tensor/device.js';
import { type Precision, precisionNames } from '../train/precision.js';
import { ConfigFields } from './config-fields.js';
import { type GuardsConfig, guardsConfig } from './train-guards.js';
import { type OptimizerConfig, optimizerConfig } from './train-optimizers.js';
import { defaultTrainOptions } from './train-options.js';
import { type ScheduleConfig, scheduleConfig } from './train-schedules.js';
import { type Subject, subjectOf } from './train-subject.js';

/** All of a run. */
export interface TrainConfig {
  subject: Subject;
  optimizer: OptimizerConfig;
  schedule: ScheduleConfig;
  guards: GuardsConfig;
  ema: JsonObject | undefined;
  steps: number;
  batchSize: number;
  accumulate: number;
  precision: Precision;
  clipNorm: number | undefined;
  clipValue: number | undefined;
  evaluateEvery: number;
  earlyStopping: { patience: number; minDelta: number } | undefined;
  saveEvery: number;
  keepLast: number;
  /** Of checkpoints, log and curve. */
  folder: string;
  /** Where the model, or its adapter, goes. */
  out: string;
  resume: boolean;
  seed: number;
  device: Device;
}

const defaults = defaultTrainOptions;

function emaOf(fields: ConfigFields): JsonObject {
  const options = fields.rest();
  using tried = parameter(zeros([1]));
  fields.checked(() => new ExponentialMovingAverage([tried], options)).dispose();
  return options;
}

function stoppingOf(fields: ConfigFields): TrainConfig['earlyStopping'] {
  const stopping = { patience: fields.count('patience', 1), minDelta: fields.real('minDelta', {}, 0) };
  fields.finish();
  return stopping;
}

function deviceOf(fields: ConfigFields): Device {
  const name = fields.string('device', defaults.device);
  if (isDeviceName(name)) return name;
  throw fields.error('device', 'cpu, cuda or cuda:<n>');
}

/** How it is learnt. */
function methodOf(
  fields: ConfigFields,
  steps: number,
  adapts: boolean,
): Pick<TrainConfig, 'optimizer' | 'schedule' | 'guards' | 'ema' | 'clipNorm' | 'clipValue' | 'precision'> {
  const limit = (name: string, otherwise?: number): number | undefined =>
    fields.has(name) ? fields.real(name, { least: Number.MIN_VALUE }) : otherwise;
  const schedule = scheduleConfig(fields.object('schedule'), steps);
  const otherwise = {
    // Noam's factor is the rate itself.
    ...(schedule.type === 'noam' ? { lr: 1 } : {}),
    // An adapter's terms start at zero, and are what training has found: there is nothing to pull back.
    ...(adapts ? { weightDecay: 0 } : {}),
  };
  return {
    optimizer: optimizerConfig(fields.object('optimizer'), otherwise),
    schedule,
    guards: guardsConfig(fields.object('guards')),
    ema: fields.has('ema') ? emaOf(fields.object('ema')) : undefined,
    clipNorm: limit('clipNorm', 1),
    clipValue: limit('clipValue'),
    precision: fields.oneOf('precision', precisionNames, 'float32'),
  };
}

/**
 * Checks a config.
 *
 * @param source what errors begin with
 * @param at where a path of it leads
 * @throws FOVEA_ARGUMENT naming the field, what was expected and what is there
 */
export function trainConfig(values: JsonObject, source: string, at: (path: string) => string): TrainConfig {
  const fields = new ConfigFields(values, source);
  const steps = fields.count('steps', 1);
  const subject = subjectOf(fields, at);
  const adapts = 'lora' in subject && subject.lora !== undefined;
  const folder = at(fields.string('folder'));
  const config: TrainConfig = {
    subject,
    ...methodOf(fields, steps, adapts),
    steps,
    batchSize: fields.count('batchSize', 1, defaults.batch),
    accumulate: fields.count('accumulate', 1, 1),
    evaluateEvery: fields.count('evaluateEvery', 1, steps),
    earlyStopping: fields.has('earlyStopping') ? stoppingOf(fields.object('earlyStopping')) : undefined,
    saveEvery: fields.count('saveEvery', 1, steps),
    keepLast: fields.count('keepLast', 1, 2),
    folder,
    out: join(folder, adapts ? 'adapter' : 'model'),
    resume: fields.boolean('resume', true),
    seed: fields.count('seed', 0, 0),
    device: deviceOf(fields),
  };
  fields.finish();
  return config;
}

/** Reads and checks a config. @throws FOVEA_IO, FOVEA_FILE_FORMAT; FOVEA_ARGUMENT naming the file and the field */
export async function readTrainConfig(path: string): Promise<TrainConfig> {
  return trainConfig(await readJsonFile(path), `train: ${path}`, (inner) => resolve(dirname(path), inner));
}
