/** A language model that learns from windows of text, or of token numbers. */
import { saveAdapter } from '../models/adapter-files.js';
import { load } from '../models/auto.js';
import type { CausalLM } from '../models/causal-lm.js';
import { Embedding } from '../nn/embedding.js';
import { trainableParameters } from '../nn/lora.js';
import { ByteTokenizer } from '../text/byte-tokenizer.js';
import { readCorpus, readTokens } from '../train/corpus.js';
import { TokenFiles } from '../train/token-files.js';
import {
  checkLength,
  checkTokens,
  type HasVocabulary,
  RandomWindows,
  readWindows,
  spreadWindows,
  type Tokens,
  type WindowBatch,
  windowsLogits,
} from '../train/windows.js';
import { byteTokens } from './byte-tokens.js';
import { newModel } from './new-model.js';
import { say } from './say.js';
import type { TrainConfig } from './train-config.js';
import { sayCorpus } from './train-shown.js';
import type { DataConfig, LanguageSubject } from './train-subject.js';
import { windowsObjective } from './train-objective.js';
import type { TrainTask } from './train-task.js';

/** Windows that an evaluation reads. */
const evaluationWindows = 64;

/** Tokens to learn from and to measure by, in memory or, where they know a vocabulary's size, not. */
export interface ConfigTokens {
  /** That hold some. */
  files: number;
  train: { readonly length: number };
  validation: { readonly length: number };
  /** Tokens of a model, checked. */
  of(model: HasVocabulary, length: number): { train: Tokens; validation: Tokens };
}

async function inFiles({ paths, kind, heldOut }: DataConfig): Promise<ConfigTokens> {
  const all = await TokenFiles.open(paths, kind);
  const { length, files } = all;
  const split = Math.floor(length * (1 - heldOut));
  const parts = ({ config: { vocabSize } }: HasVocabulary): { train: Tokens; validation: Tokens } => ({
    train: all.range(0, split, vocabSize),
    validation: all.range(split, length, vocabSize),
  });
  return { files, train: { length: split }, validation: { length: length - split }, of: parts };
}

async function inMemory({ paths, kind, heldOut }: DataConfig): Promise<ConfigTokens> {
  const corpus = await (kind === 'tokens' ? readTokens : readCorpus)(paths, heldOut);
  return {
    ...corpus,
    of(model, length) {
      checkTokens('train', corpus.train, length, model);
      checkTokens('train: held-out text', corpus.validation, length, model);
      return corpus;
    },
  };
}

/**
 * Finds the tokens.
 *
 * @throws FOVEA_IO, FOVEA_FILE_FORMAT, FOVEA_ARGUMENT for none
 */
export async function tokensOf(data: DataConfig): Promise<ConfigTokens> {
  const tokens = await (data.stream ? inFiles : inMemory)(data);
  sayCorpus(tokens, data.kind);
  return tokens;
}

/** Random windows of `length` tokens to learn from, and those that are measured. */
export function windowsOf(
  model: HasVocabulary,
  tokens: ConfigTokens,
  { batchSize, seed }: Pick<TrainConfig, 'batchSize' | 'seed'>,
  length: number,
): { trainData: RandomWindows; evalData: AsyncIterable<WindowBatch>; weight: (batch: WindowBatch) => number } {
  checkLength('train', tokens.train, length);
  checkLength('train: held-out text', tokens.validation, length);
  const { train, validation } = tokens.of(model, length);
  const measured = spreadWindows(validation, length, evaluationWindows, batchSize);
  return {
    trainData: new RandomWindows(train, length, batchSize, seed),
    evalData: {
      async *[Symbol.asyncIterator]() {
        for (const batch of measured) yield await readWindows(batch, length);
      },
    },
    weight: ({ starts }) => starts.length,
  };
}

/** Loads or makes the model. */
async function modelOf(
  { model: given, checkpoint, lora }: LanguageSubject,
  { device }: Pick<TrainConfig, 'device'>,
): Promise<CausalLM> {
  const model = 'load' in given ? await load(given.load, { device }) : newModel(given).to(device);
  model.gradientCheckpointing = checkpoint;
  lora?.(model);
  if (lora) say(String(trainableParameters(model)));
  return model;
}

/** Of the embeddings. */
function widthOf(model: CausalLM): number {
  return model.modules().find((part) => part instanceof Embedding)!.embeddingDim;
}

/** Saves the model, with the tokenizer of text, or its adapter. */
async function save(
  model: CausalLM,
  { model: given, data, lora }: LanguageSubject,
  out: string,
  cancel: { signal?: AbortSignal },
): Promise<string> {
  if (lora) {
    await saveAdapter(model, out, { ...('load' in given ? { baseModelNameOrPath: given.load } : {}), ...cancel });
    return 'adapter_config.json, adapter_model.safetensors';
  }
  await model.savePretrained(out, cancel);
  if (data.kind === 'tokens') return 'config.json, model.safetensors';
  await new ByteTokenizer().savePretrained(out);
  return 'config.json, model.safetensors, tokenizer.json';
}

/**
 * What a language model learns, and from what.
 *
 * @throws FOVEA_IO, FOVEA_FILE_FORMAT, FOVEA_ARGUMENT for no tokens, FOVEA_UNSUPPORTED for other tokenizers
 */
export async function languageTask(
  subject: LanguageSubject,
  config: TrainConfig,
): Promise<TrainTask<WindowBatch, CausalLM>> {
  if (subject.data.kind === 'text' && 'load' in subject.model) await byteTokens(subject.model.load);
  const tokens = await tokensOf(subject.data);
  const model = await modelOf(subject, config);
  const context = 'load' in subject.model ? subject.model.context : undefined;
  const length = context ?? model.config.nPositions;
  const data = windowsOf(model, tokens, config, length);
  const objective = await windowsObjective(subject.objective, model, length);
  return {
    model,
    width: widthOf(model),
    data: { ...data, loss: (lm, batch) => objective.loss(lm, batch) },
    logits: (lm, batch) => windowsLogits(lm, batch, length).logits,
    save: (out, cancel) => save(model, subject, out, cancel),
    [Symbol.dispose]() {
      objective[Symbol.dispose]();
      model.dispose();
    },
  };
}
