/** `load(folder)`: a Hugging Face checkpoint directory becomes a model of the class that its `config.json` names. */
import { FoveaError } from '../errors.js';
import type { JsonObject } from '../io/strict-json.js';
import type { CausalLM } from './causal-lm.js';
import { readGenerationConfig } from './generation-config.js';
import { gpt2ConfigFromJson } from './gpt2/config.js';
import { GPT2LMHeadModel } from './gpt2/model.js';
import { type LoadOptions, loadPretrained } from './pretrained.js';
import { isTransformerConfig } from './transformer/config.js';

interface ModelType {
  /** Architectures of this type whose head is built. */
  architectures: readonly string[];
  make(config: JsonObject, file: string): CausalLM;
}

const modelTypes: ReadonlyMap<string, ModelType> = new Map<string, ModelType>([
  [
    'gpt2',
    {
      architectures: ['GPT2LMHeadModel', 'GPT2Model'],
      make: (config, file) => new GPT2LMHeadModel(gpt2ConfigFromJson(config, file)),
    },
  ],
]);

function supportedType(config: JsonObject, file: string): ModelType {
  const { model_type: type, architectures } = config;
  const found = typeof type === 'string' ? modelTypes.get(type) : undefined;
  if (!found) {
    if (isTransformerConfig(config))
      throw new FoveaError(
        'FOVEA_UNSUPPORTED',
        `load: ${file}: this is an encoder and a decoder; use Seq2SeqTransformer.fromPretrained`,
      );
    throw new FoveaError(
      'FOVEA_UNSUPPORTED',
      `load: ${file}: model_type is ${JSON.stringify(type)}; supported: ${[...modelTypes.keys()].join(', ')}`,
    );
  }
  const named = Array.isArray(architectures) ? architectures : [];
  const unknown = named.find((name) => typeof name !== 'string' || !found.architectures.includes(name));
  if (unknown === undefined) return found;
  throw new FoveaError(
    'FOVEA_UNSUPPORTED',
    `load: ${file}: architecture ${JSON.stringify(unknown)} is not supported; supported: ${found.architectures.join(', ')}`,
  );
}

/**
 * Loads a model from a Hugging Face checkpoint directory (`config.json`, `model.safetensors` or shards with an index),
 * in evaluation mode. Weights are mapped, so that loading takes no time and no memory until they are used.
 *
 * `generation_config.json`, or without it the same options in `config.json`, gives `generate` its defaults: do_sample,
 * temperature, top_k, top_p, min_p, max_new_tokens, and the tokens of end and padding. Its other options must have no
 * effect.
 *
 * @throws FOVEA_UNSUPPORTED naming the model type, architecture or option that is not supported; FOVEA_FILE_FORMAT;
 *   FOVEA_IO; FOVEA_ABORTED
 */
export async function load(folder: string, options: LoadOptions = {}): Promise<CausalLM> {
  return loadPretrained('load', folder, options, async (config, file) => {
    const type = supportedType(config, file);
    const generationConfig = await readGenerationConfig(folder, config, file);
    return {
      make: () => Object.assign(type.make(config, file), { generationConfig }),
      key: (model, key) => model.checkpointKey(key),
    };
  });
}
