/**
 * Defaults of generation that a checkpoint brings: `generation_config.json`, or where there is none, the same options
 * in `config.json`, in which older checkpoints keep them. Options that `generate` has become its defaults. All others
 * are accepted only at the value with which Hugging Face does nothing, and refused by name otherwise: a checkpoint that
 * asks for beam search must not quietly get something else.
 */
import { join } from 'node:path';
import type { GenerationConfig, LanguageModel } from '../generate/language-model.js';
import { fileExists, readJsonFile } from '../io/files.js';
import type { JsonObject } from '../io/strict-json.js';
import { ConfigReader } from './config-reader.js';

const fileName = 'generation_config.json';

/** Options that `generate` does not have, with the values besides null at which they do nothing. */
const unsupported: Readonly<Record<string, readonly (number | boolean)[]>> = {
  // The default, which counts prompt and new tokens together.
  max_length: [20],
  min_length: [0],
  min_new_tokens: [0],
  max_time: [],
  stop_strings: [],
  early_stopping: [false],
  num_beams: [1],
  num_beam_groups: [1],
  num_return_sequences: [1],
  diversity_penalty: [0],
  length_penalty: [1],
  penalty_alpha: [0],
  dola_layers: [],
  top_h: [],
  typical_p: [1],
  epsilon_cutoff: [0],
  eta_cutoff: [0],
  repetition_penalty: [1],
  encoder_repetition_penalty: [1],
  no_repeat_ngram_size: [0],
  encoder_no_repeat_ngram_size: [0],
  exponential_decay_length_penalty: [],
  bad_words_ids: [],
  force_words_ids: [],
  constraints: [],
  sequence_bias: [],
  suppress_tokens: [],
  begin_suppress_tokens: [],
  forced_bos_token_id: [],
  forced_eos_token_id: [],
  forced_decoder_ids: [],
  decoder_start_token_id: [],
  renormalize_logits: [false],
  remove_invalid_values: [false],
  token_healing: [false],
  guidance_scale: [1],
  watermarking_config: [],
  prompt_lookup_num_tokens: [],
  cache_implementation: [],
  cache_config: [],
};

/** Keys that say where the file comes from, how Python returns things, or how fast a helper model goes. */
const neutral = [
  'transformers_version',
  '_from_model_config',
  '_commit_hash',
  'bos_token_id',
  'output_attentions',
  'output_hidden_states',
  'output_scores',
  'output_logits',
  'return_dict',
  'return_dict_in_generate',
  'return_legacy_cache',
  'low_memory',
  'disable_compile',
  'compile_config',
  'is_assistant',
  'num_assistant_tokens',
  'num_assistant_tokens_schedule',
  'assistant_confidence_threshold',
  'assistant_early_exit',
  'assistant_lookbehind',
  'target_lookbehind',
  'max_matching_ngram_size',
];

const sampling = ['do_sample', 'temperature', 'top_k', 'top_p', 'min_p', 'max_new_tokens'];

/** Keys of a `config.json` that belong to generation and are read here. */
export const generationKeys: ReadonlySet<string> = new Set([...sampling, ...Object.keys(unsupported)]);

function readSampling(values: JsonObject, read: ConfigReader): GenerationConfig {
  const given = (key: string): boolean => (values[key] ?? null) !== null;
  return {
    ...(given('do_sample') ? { doSample: read.boolean('do_sample', false) } : {}),
    ...(given('temperature') ? { temperature: read.real('temperature', 1) } : {}),
    ...(given('top_k') ? { topK: read.wholeNumber('top_k', 0) } : {}),
    ...(given('top_p') ? { topP: read.probability('top_p', 1) } : {}),
    ...(given('min_p') ? { minP: read.probability('min_p', 0) } : {}),
    ...(given('max_new_tokens') ? { maxNewTokens: read.wholeNumber('max_new_tokens', 0) } : {}),
  };
}

function refuseUnsupported(read: ConfigReader): void {
  for (const [key, accepted] of Object.entries(unsupported))
    read.only(key, accepted, `${['null', ...accepted].join(' or ')}, since generation has nothing like it`);
}

function fromFile(values: JsonObject, file: string): GenerationConfig {
  const read = new ConfigReader(values, file);
  refuseUnsupported(read);
  read.ignore(...neutral, ...sampling);
  const config = readSampling(values, read);
  const eosTokenIds = read.tokenIds('eos_token_id');
  const padTokenId = read.tokenIds('pad_token_id')[0];
  const useCache = read.boolean('use_cache', true);
  read.finish();
  return {
    ...config,
    ...(eosTokenIds.length > 0 ? { eosTokenIds } : {}),
    ...(padTokenId === undefined ? {} : { padTokenId }),
    ...(useCache ? {} : { useCache }),
  };
}

/**
 * The defaults of generation of a checkpoint directory.
 *
 * @param folder the directory
 * @param config its `config.json`, already parsed
 * @param file the path of that, for errors
 * @throws FOVEA_UNSUPPORTED naming an option and its value; FOVEA_FILE_FORMAT; FOVEA_IO
 */
export async function readGenerationConfig(
  folder: string,
  config: JsonObject,
  file: string,
): Promise<GenerationConfig> {
  const path = join(folder, fileName);
  if (await fileExists(path)) return fromFile(await readJsonFile(path), path);
  const read = new ConfigReader(config, file);
  refuseUnsupported(read);
  return readSampling(config, read);
}

/**
 * The `generation_config.json` of a model. Tokens are named although `config.json` has them as well, since Hugging Face
 * does not look there once this file exists.
 */
export function generationConfigToJson({ config, generationConfig = {} }: LanguageModel): Record<string, unknown> {
  const { doSample, temperature, topK, topP, minP, maxNewTokens, useCache } = generationConfig;
  const eosTokenIds = generationConfig.eosTokenIds ?? config.eosTokenIds;
  const json = {
    do_sample: doSample,
    temperature,
    top_k: topK,
    top_p: topP,
    min_p: minP,
    max_new_tokens: maxNewTokens,
    eos_token_id: eosTokenIds.length > 1 ? eosTokenIds : eosTokenIds[0],
    pad_token_id: generationConfig.padTokenId ?? config.padTokenId,
    use_cache: useCache,
  };
  return Object.fromEntries(Object.entries(json).filter(([, value]) => value !== undefined));
}
