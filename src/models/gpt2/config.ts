/** The options of GPT-2 as Hugging Face's `GPT2Config` names and defaults them, in camelCase. */
import { argumentError, countArg, optionsArg } from '../../tensor/check.js';
import { activationOf } from '../../nn/activations.js';
import type { JsonObject } from '../../io/strict-json.js';
import { ConfigReader } from '../config-reader.js';
import { generationKeys } from '../generation-config.js';

/** The sizes and constants of a GPT-2, named as in Hugging Face's config.json but in camelCase. */
export interface GPT2Options {
  /** Tokens (default 50257). */
  vocabSize: number;
  /** Longest sequence (default 1024). */
  nPositions: number;
  /** Width (default 768). */
  nEmbd: number;
  /** Blocks (default 12). */
  nLayer: number;
  /** Heads; divides nEmbd (default 12). */
  nHead: number;
  /** Width within the MLP (default 4 · nEmbd). */
  nInner: number;
  /** Default gelu_new, the tanh approximation. */
  activationFunction: string;
  /** Dropout after attention and MLP, in training (default 0.1). */
  residPdrop: number;
  /** Dropout of the embeddings, in training (default 0.1). */
  embdPdrop: number;
  /** Dropout of the attention probabilities, in training (default 0.1). */
  attnPdrop: number;
  /** Default 1e-5. */
  layerNormEpsilon: number;
  /** Standard deviation of fresh weights (default 0.02). */
  initializerRange: number;
  /** Whether scores are divided by sqrt(nEmbd / nHead) (default true). */
  scaleAttnWeights: boolean;
  /** Whether scores of block i are divided by i + 1 besides (default false). */
  scaleAttnByInverseLayerIdx: boolean;
  /**
   * Whether scores are computed in float32 (default false). fovea's kernels always do, so both values give the same.
   */
  reorderAndUpcastAttn: boolean;
  /** Whether logits come from the token embeddings instead of a matrix of their own (default true). */
  tieWordEmbeddings: boolean;
  /** Whether generation keeps keys and values (default true). */
  useCache: boolean;
  /** Begins a text. */
  bosTokenId: number | undefined;
  /** Tokens that end a sequence; may be empty. */
  eosTokenIds: readonly number[];
  /** Fills sequences that ended before others. */
  padTokenId: number | undefined;
}

const defaults = {
  vocabSize: 50257,
  nPositions: 1024,
  nEmbd: 768,
  nLayer: 12,
  nHead: 12,
  activationFunction: 'gelu_new',
  residPdrop: 0.1,
  embdPdrop: 0.1,
  attnPdrop: 0.1,
  layerNormEpsilon: 1e-5,
  initializerRange: 0.02,
  scaleAttnWeights: true,
  scaleAttnByInverseLayerIdx: false,
  reorderAndUpcastAttn: false,
  tieWordEmbeddings: true,
  useCache: true,
  bosTokenId: undefined,
  eosTokenIds: [],
  padTokenId: undefined,
} as const satisfies Omit<GPT2Options, 'nInner'>;

/** A checked set of options. */
export type GPT2Config = Readonly<GPT2Options>;

/**
 * Completes and checks options.
 *
 * @throws FOVEA_ARGUMENT naming the option that does not fit
 */
export function gpt2Config(options: Partial<GPT2Options> = {}): GPT2Config {
  const known = [...Object.keys(defaults), 'nInner'] as (keyof GPT2Options)[];
  const merged = { ...defaults, ...optionsArg('GPT2Config', options, known) };
  for (const key of ['vocabSize', 'nPositions', 'nEmbd', 'nLayer', 'nHead'] as const)
    countArg('GPT2Config', key, merged[key], 1);
  if (merged.nEmbd % merged.nHead !== 0)
    throw argumentError('GPT2Config', 'nHead', `a divisor of nEmbd (${merged.nEmbd})`, merged.nHead);
  activationOf(merged.activationFunction, 'GPT2Config: activationFunction');
  return { ...merged, nInner: merged.nInner ?? 4 * merged.nEmbd };
}

/** Reads a `config.json`; every key is used, known not to matter, or refused by name. */
export function gpt2ConfigFromJson(values: JsonObject, file: string): GPT2Config {
  const read = new ConfigReader(values, file);
  const nInner = read.optionalCount('n_inner');
  const config = {
    vocabSize: read.count('vocab_size', defaults.vocabSize),
    nPositions: read.count('n_positions', defaults.nPositions),
    nEmbd: read.count('n_embd', defaults.nEmbd),
    nLayer: read.count('n_layer', defaults.nLayer),
    nHead: read.count('n_head', defaults.nHead),
    activationFunction: read.string('activation_function', defaults.activationFunction),
    residPdrop: read.probability('resid_pdrop', defaults.residPdrop),
    embdPdrop: read.probability('embd_pdrop', defaults.embdPdrop),
    attnPdrop: read.probability('attn_pdrop', defaults.attnPdrop),
    layerNormEpsilon: read.real('layer_norm_epsilon', defaults.layerNormEpsilon),
    initializerRange: read.real('initializer_range', defaults.initializerRange),
    scaleAttnWeights: read.boolean('scale_attn_weights', defaults.scaleAttnWeights),
    scaleAttnByInverseLayerIdx: read.boolean('scale_attn_by_inverse_layer_idx', defaults.scaleAttnByInverseLayerIdx),
    reorderAndUpcastAttn: read.boolean('reorder_and_upcast_attn', defaults.reorderAndUpcastAttn),
    tieWordEmbeddings: read.boolean('tie_word_embeddings', defaults.tieWordEmbeddings),
    useCache: read.boolean('use_cache', defaults.useCache),
    bosTokenId: read.tokenIds('bos_token_id')[0],
    eosTokenIds: read.tokenIds('eos_token_id'),
    padTokenId: read.tokenIds('pad_token_id')[0],
  };
  // `load` reads those of generation; the others are the sequence-summary head and the old name of n_positions.
  read.ignore(
    ...generationKeys,
    'summary_type',
    'summary_use_proj',
    'summary_activation',
    'summary_proj_to_labels',
    'summary_first_dropout',
    'n_ctx',
  );
  read.finish();
  return gpt2Config(nInner === undefined ? config : { ...config, nInner });
}

/** The `config.json` of a config. */
export function gpt2ConfigToJson(config: GPT2Config): Record<string, unknown> {
  return {
    activation_function: config.activationFunction,
    architectures: ['GPT2LMHeadModel'],
    attn_pdrop: config.attnPdrop,
    bos_token_id: config.bosTokenId ?? null,
    embd_pdrop: config.embdPdrop,
    eos_token_id: config.eosTokenIds.length > 1 ? config.eosTokenIds : (config.eosTokenIds[0] ?? null),
    initializer_range: config.initializerRange,
    layer_norm_epsilon: config.layerNormEpsilon,
    model_type: 'gpt2',
    n_embd: config.nEmbd,
    n_head: config.nHead,
    n_inner: config.nInner === 4 * config.nEmbd ? null : config.nInner,
    n_layer: config.nLayer,
    n_positions: config.nPositions,
    pad_token_id: config.padTokenId ?? null,
    reorder_and_upcast_attn: config.reorderAndUpcastAttn,
    resid_pdrop: config.residPdrop,
    scale_attn_by_inverse_layer_idx: config.scaleAttnByInverseLayerIdx,
    scale_attn_weights: config.scaleAttnWeights,
    tie_word_embeddings: config.tieWordEmbeddings,
    use_cache: config.useCache,
    vocab_size: config.vocabSize,
  };
}
