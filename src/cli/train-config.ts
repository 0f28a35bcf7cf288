/** The config of `fovea train <config.json>`, checked. Paths are relative to the file's folder. */
import { dirname, resolve } from 'node:path';
import { readJsonFile } from '../io/files.js';
import { isDeviceName, type Device } from '../tensor/device.js';
import type { Precision } from '../train/training-step.js';
import { ConfigFields } from './config-fields.js';
import { defaultTrainOptions } from './train-options.js';

/** Sizes of a new model. */
export interface NewModel {
  layers: number;
  width: number;
  heads: number;
  context: number;
  dropout: number;
}

const optimizerTypes = ['AdamW', 'Adam', 'Lion', 'SGD', 'Adafactor'] as const;

/** An optimizer's options; `betas` and `momentum` where the type has them. */
export interface OptimizerConfig {
  type: (typeof optimizerTypes)[number];
  lr: number;
  weightDecay: number;
  betas: [number, number];
  momentum: number;
}

/** A schedule of the rate. */
export interface ScheduleConfig {
  type: 'constant' | 'warmupCosine';
  warmupSteps: number;
  minLrRatio: number;
}

/** All of a run. */
export interface TrainConfig {
  text: string[];
  heldOut: number;
  /** A Hugging Face checkpoint directory to start from, or sizes. */
  model: { load: string } | NewModel;
  optimizer: OptimizerConfig;
  schedule: ScheduleConfig;
  steps: number;
  batchSize: number;
  accumulate: number;
  precision: Precision;
  clipNorm: number | undefined;
  clipValue: number | undefined;
  evaluateEvery: number | undefined;
  earlyStopping: { patience: number; minDelta: number } | undefined;
  saveEvery: number | undefined;
  keepLast: number;
  folder: string;
  resume: boolean;
  seed: number;
  device: Device;
}

const defaults = defaultTrainOptions;

function modelOf(fields: ConfigFields, at: (path: string) => string): TrainConfig['model'] {
  const model: TrainConfig['model'] = fields.has('load')
    ? { load: at(fields.string('load')) }
    : {
        layers: fields.count('layers', 1, defaults.layers),
        width: fields.count('width', 1, defaults.width),
        heads: fields.count('heads', 1, defaults.heads),
        context: fields.count('context', 2, defaults.context),
        dropout: fields.real('dropout', { most: 1 }, 0),
      };
  if ('width' in model && model.width % model.heads !== 0)
    throw fields.error('heads', `a divisor of the width, which is ${model.width},`);
  fields.finish();
  return model;
}

function optimizerOf(fields: ConfigFields): OptimizerConfig {
  const type = fields.oneOf('type', optimizerTypes, 'AdamW');
  const adaptive = type === 'AdamW' || type === 'Adam' || type === 'Lion';
  const optimizer = {
    type,
    lr: fields.real('lr', {}, defaults.lr),
    weightDecay: fields.real('weightDecay', {}, 0.1),
    betas: adaptive ? fields.betas('betas', type === 'Lion' ? [0.9, 0.99] : [0.9, 0.95]) : ([0, 0] as [number, number]),
    momentum: type === 'SGD' ? fields.real('momentum', { most: 1 }, 0) : 0,
  };
  fields.finish();
  return optimizer;
}

function scheduleOf(fields: ConfigFields, steps: number): ScheduleConfig {
  const type = fields.oneOf('type', ['warmupCosine', 'constant'], 'warmupCosine');
  const cosine = type === 'warmupCosine';
  const schedule = {
    type,
    warmupSteps: cosine ? fields.count('warmupSteps', 0, Math.ceil(steps / 20)) : 0,
    minLrRatio: cosine ? fields.real('minLrRatio', { most: 1 }, 0.1) : 1,
  };
  if (schedule.warmupSteps > steps) throw fields.error('warmupSteps', `at most the steps, which are ${steps},`);
  fields.finish();
  return schedule;
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

/**
 * Reads and checks a config.
 *
 * @throws FOVEA_IO, FOVEA_FILE_FORMAT; FOVEA_ARGUMENT naming the file, the field, what was expected and what is there
 */
export async function readTrainConfig(path: string): Promise<TrainConfig> {
  const fields = new ConfigFields(await readJsonFile(path), path);
  const at = (inner: string): string => resolve(dirname(path), inner);
  const some = (name: string): number | undefined => (fields.has(name) ? fields.count(name, 1) : undefined);
  const limit = (name: string, otherwise?: number): number | undefined => {
    if (!fields.has(name)) return otherwise;
    return fields.real(name, { least: Number.MIN_VALUE });
  };
  const steps = fields.count('steps', 1);
  const config: TrainConfig = {
    text: fields.strings('text').map(at),
    heldOut: fields.real('heldOut', { most: 0.9 }, 0.05),
    model: modelOf(fields.object('model'), at),
    optimizer: optimizerOf(fields.object('optimizer')),
    schedule: scheduleOf(fields.object('schedule'), steps),
    steps,
    batchSize: fields.count('batchSize', 1, defaults.batch),
    accumulate: fields.count('accumulate', 1, 1),
    precision: fields.oneOf('precision', ['float32', 'bfloat16', 'float16'], 'float32'),
    clipNorm: limit('clipNorm', 1),
    clipValue: limit('clipValue'),
    evaluateEvery: some('evaluateEvery'),
    earlyStopping: fields.has('earlyStopping') ? stoppingOf(fields.object('earlyStopping')) : undefined,
    saveEvery: some('saveEvery'),
    keepLast: fields.count('keepLast', 1, 2),
    folder: at(fields.string('folder')),
    resume: fields.boolean('resume', true),
    seed: fields.count('seed', 0, 0),
    device: deviceOf(fields),
  };
  fields.finish();
  return config;
}
