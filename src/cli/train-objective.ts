/**
 * What a language model learns besides its text: the predictions of a teacher, and a normaliser near 1. Evaluations
 * measure the text alone.
 */
import type { JsonObject } from '../io/strict-json.js';
import { load } from '../models/auto.js';
import type { CausalLM } from '../models/causal-lm.js';
import { noGrad } from '../autograd/backward.js';
import { crossEntropy, zeros } from '../ops/index.js';
import { FoveaError } from '../errors.js';
import type { Tensor } from '../tensor/tensor.js';
import { distillationLoss } from '../train/objectives/distillation.js';
import { zLoss } from '../train/objectives/z-loss.js';
import { predictions, type WindowBatch, windowsLogits, windowsLoss } from '../train/windows.js';
import type { ConfigFields } from './config-fields.js';

/** What a config says of it. */
export interface LanguageObjective {
  distillation: { teacher: string; options: JsonObject } | undefined;
  /** Weight of the squared logarithm of the normaliser; undefined: none. */
  zLoss: number | undefined;
}

function distillationOf(fields: ConfigFields, at: (path: string) => string): LanguageObjective['distillation'] {
  const teacher = at(fields.string('teacher'));
  for (const name of ['labels', 'ignoreIndex', 'reduction'])
    if (fields.has(name)) throw fields.error(name, 'nothing: every token counts, and the loss is their mean;');
  const options = fields.rest();
  using logits = zeros([1, 2]);
  using labels = zeros([1], { dtype: 'int64' });
  fields.checked(() => distillationLoss(logits, logits, { ...Object(options), labels })).dispose();
  return { teacher, options };
}

/** Reads and checks it. @throws FOVEA_ARGUMENT naming the place in the config */
export function languageObjective(fields: ConfigFields, at: (path: string) => string): LanguageObjective {
  return {
    distillation: fields.has('distillation') ? distillationOf(fields.object('distillation'), at) : undefined,
    zLoss: fields.has('zLoss') ? fields.real('zLoss', {}) : undefined,
  };
}

/** A loss of windows of `length` tokens, and the teacher, which has to be freed. */
export interface WindowsObjective extends Disposable {
  loss(model: CausalLM, batch: WindowBatch): Tensor;
}

async function teacherOf(folder: string, student: CausalLM, length: number): Promise<CausalLM> {
  const teacher = await load(folder, { device: student.device });
  const { vocabSize, nPositions } = teacher.config;
  if (vocabSize === student.config.vocabSize && nPositions >= length) return teacher;
  teacher.dispose();
  throw new FoveaError(
    'FOVEA_ARGUMENT',
    `train: the teacher ${folder} has ${vocabSize} tokens and ${nPositions} positions, expected the student's ${student.config.vocabSize} and at least ${length}`,
  );
}

/** @throws FOVEA_IO, FOVEA_FILE_FORMAT, FOVEA_UNSUPPORTED, FOVEA_ARGUMENT for a teacher that does not fit */
export async function windowsObjective(
  { distillation, zLoss: weight }: LanguageObjective,
  student: CausalLM,
  length: number,
): Promise<WindowsObjective> {
  const teacher = distillation && (await teacherOf(distillation.teacher, student, length));
  const plain = !distillation && weight === undefined;
  return {
    loss(model, batch) {
      if (plain || !model.training) return windowsLoss(model, batch, length);
      const { inputIds, logits, labels } = windowsLogits(model, batch, length);
      const taught = teacher && noGrad(() => predictions(teacher.forward({ inputIds }).logits));
      const loss = taught
        ? distillationLoss(logits, taught, { ...Object(distillation.options), labels })
        : crossEntropy(logits, labels);
      return weight === undefined ? loss : loss.add(zLoss(logits, { weight }));
    },
    [Symbol.dispose]: () => teacher?.dispose(),
  };
}
