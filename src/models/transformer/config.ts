/** The sizes and constants of the transformer of Vaswani et al. 2017; the defaults are those of its base model. */
import { activationOf } from '../../nn/activations.js';
import { argumentError, countArg, numberArg, optionsArg, probabilityArg } from '../../tensor/check.js';

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

/**
 * Completes and checks options.
 *
 * @throws FOVEA_ARGUMENT naming the option that does not fit
 */
export function transformerConfig(
  options: Partial<TransformerOptions> & Pick<TransformerOptions, 'vocabSize'>,
): TransformerConfig {
  const op = 'TransformerConfig';
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
