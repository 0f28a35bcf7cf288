/**
 * What a config trains on what: a language model on text or token numbers, or an encoder and a decoder on pairs of
 * text.
 */
import { type TransformerConfig, transformerConfig } from '../models/transformer/config.js';
import { addAdapter } from '../nn/lora.js';
import type { Module } from '../nn/module.js';
import type { TokenKind } from '../train/token-files.js';
import type { ConfigFields } from './config-fields.js';
import { type LanguageObjective, languageObjective } from './train-objective.js';
import { denoisingContext, denoisingTokens, type PairTokens, pairTokens } from './pair-tokens.js';
import { defaultTrainOptions as defaults } from './train-options.js';

/** Sizes of a new model. */
export interface NewModel {
  layers: number;
  width: number;
  heads: number;
  context: number;
  dropout: number;
  /** Of token numbers; undefined: bytes and the end of a text. */
  vocabSize?: number | undefined;
}

/** A Hugging Face checkpoint directory to start from. */
export interface LoadedModel {
  load: string;
  /** Tokens that the model sees at once, where they are fewer than it takes. */
  context: number | undefined;
}

/** What is read: files and folders of text, which is read as bytes, or files of token numbers. */
export interface DataConfig {
  kind: TokenKind;
  paths: string[];
  /** The share at the end that is not trained on. */
  heldOut: number;
  /** Whether windows are read when their turn comes, and no more is in memory. */
  stream: boolean;
}

/** A language model. */
export interface LanguageSubject {
  data: DataConfig;
  model: LoadedModel | NewModel;
  /** Whether activations are computed again in backward. */
  checkpoint: boolean;
  /** What is learnt besides the text. */
  objective: LanguageObjective;
  /** Puts a LoRA adapter into the model, which alone is trained. */
  lora: ((model: Module) => void) | undefined;
}

/** An encoder and a decoder. */
export interface TranslationSubject {
  /** Files of a source, a tab and a target in each line. */
  pairs: string[];
  /** The share at the end that is not trained on. */
  heldOut: number;
  /** The most tokens of a batch's sources, and of its targets, padding included; undefined: batches of pairs. */
  maxTokens: number | undefined;
  transformer: TransformerConfig;
}

/** An encoder and a decoder that restore spans of text. */
export interface DenoisingSubject {
  data: DataConfig;
  /** Bytes of a window. */
  context: number;
  transformer: TransformerConfig;
}

/** One of them. */
export type Subject = LanguageSubject | TranslationSubject | DenoisingSubject;

function dataOf(fields: ConfigFields, at: (path: string) => string): DataConfig {
  const kind = fields.has('tokens') ? 'tokens' : 'text';
  if (kind === 'tokens' && fields.has('text')) throw fields.error('text', 'nothing beside tokens');
  const paths = fields.strings(kind).map(at);
  const heldOut = fields.real('heldOut', { most: 0.9 }, 0.05);
  return { kind, paths, heldOut, stream: fields.boolean('stream', false) };
}

function modelOf(
  fields: ConfigFields,
  kind: DataConfig['kind'],
  at: (path: string) => string,
): LanguageSubject['model'] {
  if (fields.has('load')) {
    const load = at(fields.string('load'));
    const loaded = { load, context: fields.has('context') ? fields.count('context', 2) : undefined };
    fields.finish();
    return loaded;
  }
  const model = {
    layers: fields.count('layers', 1, defaults.layers),
    width: fields.count('width', 1, defaults.width),
    heads: fields.count('heads', 1, defaults.heads),
    context: fields.count('context', 2, defaults.context),
    dropout: fields.real('dropout', { most: 1 }, 0),
    vocabSize: kind === 'tokens' ? fields.count('vocabSize', 1) : undefined,
  };
  if (model.width % model.heads !== 0) throw fields.error('heads', `a divisor of the width, which is ${model.width},`);
  fields.finish();
  return model;
}

function loraOf(fields: ConfigFields): LanguageSubject['lora'] {
  const options = fields.rest();
  return (model) => void fields.checked(() => addAdapter(model, Object(options)));
}

function transformerOf(fields: ConfigFields, tokens: PairTokens): TransformerConfig {
  const taken = Object.keys(tokens).find((name) => fields.has(name));
  if (taken !== undefined) throw fields.error(taken, 'nothing, since tokens are bytes,');
  const options = fields.rest();
  return fields.checked(() => transformerConfig({ ...Object(options), ...tokens }));
}

function maxTokensOf(fields: ConfigFields): number | undefined {
  if (!fields.has('maxTokens')) return undefined;
  if (fields.has('batchSize')) throw fields.error('batchSize', 'nothing beside maxTokens');
  return fields.count('maxTokens', 1);
}

function denoisingOf(fields: ConfigFields, data: DataConfig): DenoisingSubject {
  if (data.kind === 'tokens') throw fields.error('objective', 'causal beside tokens');
  const { least, most } = denoisingContext;
  const context = fields.count('context', least, 128);
  if (context > most) throw fields.error('context', `at most ${most}`);
  return { data, context, transformer: transformerOf(fields.object('model'), denoisingTokens) };
}

/**
 * Reads and checks what is trained.
 *
 * @param at where a path of the config leads
 * @throws FOVEA_ARGUMENT naming the place in the config
 */
export function subjectOf(fields: ConfigFields, at: (path: string) => string): Subject {
  if (fields.has('pairs')) {
    const pairs = fields.strings('pairs').map(at);
    const heldOut = fields.real('heldOut', { most: 0.9 }, 0.05);
    return {
      pairs,
      heldOut,
      maxTokens: maxTokensOf(fields),
      transformer: transformerOf(fields.object('model'), pairTokens),
    };
  }
  const data = dataOf(fields, at);
  if (fields.oneOf('objective', ['causal', 'span-corruption'], 'causal') !== 'causal') return denoisingOf(fields, data);
  const model = modelOf(fields.object('model'), data.kind, at);
  const lora = fields.has('lora') ? loraOf(fields.object('lora')) : undefined;
  if (lora && !('load' in model))
    throw fields.error('lora', 'nothing beside a new model, which has learnt nothing yet,');
  const objective = languageObjective(fields, at);
  return { data, model, checkpoint: fields.boolean('checkpoint', false), objective, lora };
}
