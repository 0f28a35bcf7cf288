/** `load(folder)`: a Hugging Face checkpoint directory becomes a model of the class that its `config.json` names. */
import { join } from 'node:path';
import { FoveaError } from '../errors.js';
import { readJsonFile, throwIfAborted } from '../io/files.js';
import type { JsonObject } from '../io/strict-json.js';
import { skipInit } from '../nn/init.js';
import type { StateDict } from '../nn/module.js';
import { argumentError, optionsArg } from '../tensor/check.js';
import { deviceArg, deviceName, type Device } from '../tensor/device.js';
import type { Dtype } from '../tensor/dtype.js';
import type { Tensor } from '../tensor/tensor.js';
import type { CausalLM } from './causal-lm.js';
import { readGenerationConfig } from './generation-config.js';
import { loadCheckpoint, type LoadProgress } from './checkpoint.js';
import { gpt2ConfigFromJson } from './gpt2/config.js';
import { GPT2LMHeadModel } from './gpt2/model.js';

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

/** Options of {@link load}. */
export interface LoadOptions {
  /** Convert the weights (default: as they are stored). */
  dtype?: Dtype;
  /** Where the weights go; default: 'cpu'. */
  device?: Device;
  /** Keep weights in the mapped files until something writes to them (default true); false copies them. */
  mmap?: boolean;
  /** Cancels between tensors: loading then rejects with FOVEA_ABORTED. */
  signal?: AbortSignal;
  /** Called after each tensor. */
  onProgress?: (progress: LoadProgress) => void;
}

function supportedType(config: JsonObject, file: string): ModelType {
  const { model_type: type, architectures } = config;
  const found = typeof type === 'string' ? modelTypes.get(type) : undefined;
  if (!found) {
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

/** The checkpoint's tensors under the model's keys. */
function renameKeys(model: CausalLM, tensors: ReadonlyMap<string, Tensor>): StateDict {
  const dict = Object.create(null) as StateDict;
  for (const [key, tensor] of tensors) {
    const name = model.checkpointKey(key);
    if (name === undefined) tensor.dispose();
    else dict[name] = tensor;
  }
  return dict;
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
  const known = ['dtype', 'device', 'mmap', 'signal', 'onProgress'] as const;
  const { dtype, device, mmap, signal, onProgress } = optionsArg('load', options, known);
  const target = deviceName(deviceArg('load', device));
  if (typeof folder !== 'string') throw argumentError('load', 'folder', 'the path of a checkpoint directory', folder);
  throwIfAborted(signal, 'load');
  const file = join(folder, 'config.json');
  const config = await readJsonFile(file);
  const type = supportedType(config, file);
  const generationConfig = await readGenerationConfig(folder, config, file);
  const tensors = await loadCheckpoint(folder, { mmap, signal, onProgress });
  const model = skipInit(() => type.make(config, file));
  try {
    model.loadStateDict(renameKeys(model, tensors), { assign: true });
  } catch (error) {
    for (const tensor of tensors.values()) tensor.dispose();
    model.dispose();
    if (!(error instanceof FoveaError)) throw error;
    throw new FoveaError(
      'FOVEA_FILE_FORMAT',
      `load: the weights in ${folder} do not fit its config.json: ${error.message}`,
      { cause: error },
    );
  }
  model.generationConfig = generationConfig;
  if (dtype) model.to(dtype);
  return model.to(target).eval();
}
