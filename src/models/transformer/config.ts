/** The sizes and constants of the transformer of Vaswani et al. 2017; the defaults are those of its base model. */
import type { JsonObject } from '../../io/strict-json.js';
import { activationOf } from '../../nn/activations.js';
import { snakeCase } from '../../nn/module.js';
import { argumentError, countArg, numberArg, optionsArg, probabilityArg } from '../../tensor/check.js';
import { ConfigReader } from '../config-reader.js';

/** Options of `Seq2SeqTransformer`. */
export interface TransformerOptions {
  /** Tokens of sources and targets together. */
  vocabSize: number;
  /** Width (default 512). */
  dModel: number;
  /** Heads; divides dModel (default 8). */
  nHead: number;
  /** Layers of the encoder (default 6). */
  numEncoderLayers: number;
  /** Layers of the decoder (default 6). */
  numDecoderLayers: number;
  /** Width within the feed-forward networks (default 2048). */
  dimFeedforward: number;
  /** Default relu. */
  activation: string;
  /** Of the embeddings, and after every sublayer, in training (default 0.1). */
  dropout: number;
  /** Whether norms come before the sublayers (default false, as in the paper). */
  normFirst: boolean;
  /** Whether logits come from the embeddings instead of a matrix of their own (default true; section 3.4). */
  tieWordEmbeddings: boolean;
  /** What training spreads over the other tokens (default 0.1; section 5.4). */
  labelSmoothing: number;
  /** Fills short sequences; neither seen nor learned (default 0). */
  padTokenId: number;
  /** Begins a target (default 1). */
  bosTokenId: number;
  /** Ends a target (default 2). */
  eosTokenId: number;
}

const defaults = {
  dModel: 512,
  nHead: 8,
  numEncoderLayers: 6,
  numDecoderLayers: 6,
  dimFeedforward: 2048,
  activation: 'relu',
  dropout: 0.1,
  normFirst: false,
  tieWordEmbeddings: true,
  labelSmoothing: 0.1,
  padTokenId: 0,
  bosTokenId: 1,
  eosTokenId: 2,
} as const satisfies Omit<TransformerOptions, 'vocabSize'>;

/** A checked set of options. */
export type TransformerConfig = Readonly<TransformerOptions>;

/** The `model_type` of a checkpoint. */
export const transformerModelType = 'transformer';
const architecture = 'Seq2SeqTransformer';

/**
 * Completes and checks options.
 *
 * @param op what errors begin with
 * @throws FOVEA_ARGUMENT naming the option that does not fit
 */
export function transformerConfig(
  options: Partial<TransformerOptions> & Pick<TransformerOptions, 'vocabSize'>,
  op = 'TransformerConfig',
): TransformerConfig {
  if (options === undefined) throw argumentError(op, 'options', 'an object with vocabSize', options);
  const known = ['vocabSize', ...Object.keys(defaults)] as (keyof TransformerOptions)[];
  const config: TransformerConfig = { ...defaults, ...optionsArg(op, options, known) };
  for (const key of ['vocabSize', 'dModel', 'nHead', 'numEncoderLayers', 'numDecoderLayers', 'dimFeedforward'] as const)
    countArg(op, key, config[key], 1);
  if (config.dModel % config.nHead !== 0)
    throw argumentError(op, 'nHead', `a divisor of dModel (${config.dModel})`, config.nHead);
  activationOf(config.activation, `${op}: activation`);
  probabilityArg(op, 'dropout', config.dropout);
  if (!(numberArg(op, 'labelSmoothing', config.labelSmoothing) >= 0 && config.labelSmoothing < 1))
    throw argumentError(op, 'labelSmoothing', 'at least 0 and below 1', config.labelSmoothing);
  const special = [config.padTokenId, config.bosTokenId, config.eosTokenId];
  for (const [i, key] of (['padTokenId', 'bosTokenId', 'eosTokenId'] as const).entries())
    if (countArg(op, key, special[i]) >= config.vocabSize || special.indexOf(special[i]!) !== i)
      throw argumentError(op, key, `a token of its own below vocabSize (${config.vocabSize})`, special[i]);
  return config;
}

/** Whether a `config.json` is that of a {@link TransformerConfig}. */
export function isTransformerConfig({ model_type: type }: JsonObject): boolean {
  return type === transformerModelType;
}

/**
 * Reads a `config.json`; every key is used, known not to matter, or refused by name.
 *
 * @throws FOVEA_UNSUPPORTED, FOVEA_ARGUMENT naming the file and the option
 */
export function transformerConfigFromJson(values: JsonObject, file: string): TransformerConfig {
  const read = new ConfigReader(values, file);
  if (!isTransformerConfig(values))
    throw read.error('model_type', `"${transformerModelType}"; other models are loaded by the function load`);
  const { architectures } = values;
  if (Array.isArray(architectures) && architectures.some((name) => name !== architecture))
    throw read.error('architectures', `["${architecture}"]`);
  read.is('is_encoder_decoder', [true, null]);
  const config = {
    vocabSize: read.count('vocab_size'),
    dModel: read.count('d_model', defaults.dModel),
    nHead: read.count('n_head', defaults.nHead),
    numEncoderLayers: read.count('num_encoder_layers', defaults.numEncoderLayers),
    numDecoderLayers: read.count('num_decoder_layers', defaults.numDecoderLayers),
    dimFeedforward: read.count('dim_feedforward', defaults.dimFeedforward),
    activation: read.string('activation', defaults.activation),
    dropout: read.probability('dropout', defaults.dropout),
    normFirst: read.boolean('norm_first', defaults.normFirst),
    tieWordEmbeddings: read.boolean('tie_word_embeddings', defaults.tieWordEmbeddings),
    labelSmoothing: read.probability('label_smoothing', defaults.labelSmoothing),
    padTokenId: read.wholeNumber('pad_token_id', defaults.padTokenId),
    bosTokenId: read.wholeNumber('bos_token_id', defaults.bosTokenId),
    eosTokenId: read.wholeNumber('eos_token_id', defaults.eosTokenId),
  };
  read.finish();
  return transformerConfig(config, `load: ${file}`);
}

/** The `config.json` of a config: its options in snake case, as they are read above, and what it is. */
export function transformerConfigToJson(config: TransformerConfig): Record<string, unknown> {
  const options = Object.entries(config).map(([name, value]) => [snakeCase(name), value] as const);
  const kind = { architectures: [architecture], is_encoder_decoder: true, model_type: transformerModelType };
  return { ...Object.fromEntries(options), ...kind };
}
