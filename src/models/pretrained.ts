/** What all models share that are saved as Hugging Face checkpoint directories and loaded from them. */
import { join } from 'node:path';
import { FoveaError } from '../errors.js';
import { readJsonFile, throwIfAborted, writeJsonFile } from '../io/files.js';
import { saveFile } from '../io/safetensors.js';
import type { JsonObject } from '../io/strict-json.js';
import { skipInit } from '../nn/init.js';
import { adapterSettings } from '../nn/lora-places.js';
import type { Module, StateDict } from '../nn/module.js';
import { argumentError, optionsArg } from '../tensor/check.js';
import { deviceArg, deviceName, type Device } from '../tensor/device.js';
import type { Dtype } from '../tensor/dtype.js';
import type { Tensor } from '../tensor/tensor.js';
import { loadCheckpoint, type LoadProgress } from './checkpoint.js';

/** Options of `load` and `Seq2SeqTransformer.fromPretrained`. */
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

/** How a model comes from a checkpoint. */
export interface Recipe<M extends Module> {
  /** Called once the weights are there; initialisers do nothing while it runs. */
  make(): M;
  /** The model's key for a key of the checkpoint, or undefined for one that holds no parameter. */
  key(model: M, key: string): string | undefined;
}

/** The checkpoint's tensors under the model's keys. */
function renameKeys<M extends Module>(model: M, recipe: Recipe<M>, tensors: ReadonlyMap<string, Tensor>): StateDict {
  const dict = Object.create(null) as StateDict;
  for (const [key, tensor] of tensors) {
    const name = recipe.key(model, key);
    if (name === undefined) tensor.dispose();
    else dict[name] = tensor;
  }
  return dict;
}

/**
 * Loads a model from a checkpoint directory, in evaluation mode.
 *
 * @param op what errors of the arguments begin with
 * @param recipeOf reads the `config.json`, which lies at `file`
 * @throws what `recipeOf` and `make` throw; FOVEA_FILE_FORMAT, FOVEA_IO, FOVEA_ABORTED
 */
export async function loadPretrained<M extends Module>(
  op: string,
  folder: string,
  options: LoadOptions,
  recipeOf: (config: JsonObject, file: string) => Recipe<M> | Promise<Recipe<M>>,
): Promise<M> {
  const known = ['dtype', 'device', 'mmap', 'signal', 'onProgress'] as const;
  const { dtype, device, mmap, signal, onProgress } = optionsArg(op, options, known);
  const target = deviceName(deviceArg(op, device));
  if (typeof folder !== 'string') throw argumentError(op, 'folder', 'the path of a checkpoint directory', folder);
  throwIfAborted(signal, op);
  const file = join(folder, 'config.json');
  const recipe = await recipeOf(await readJsonFile(file), file);
  const tensors = await loadCheckpoint(folder, { mmap, signal, onProgress });
  const model = skipInit(() => recipe.make());
  try {
    model.loadStateDict(renameKeys(model, recipe, tensors), { assign: true });
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
  if (dtype) model.to(dtype);
  return model.to(target).eval();
}

/**
 * Writes a checkpoint directory. Each file is replaced atomically; the weights come last, so a directory without them
 * is an unfinished save.
 *
 * @param configs JSON files by name; `config.json` gets the dtype of the weights besides
 * @throws FOVEA_UNSUPPORTED for a model with adapters; FOVEA_IO, FOVEA_ABORTED
 */
export async function savePretrained(
  model: Module,
  folder: string,
  configs: { 'config.json': Record<string, unknown> } & Record<string, Record<string, unknown>>,
  options: { signal?: AbortSignal },
): Promise<void> {
  const { signal } = optionsArg('savePretrained', options, ['signal']);
  if (adapterSettings(model).size > 0)
    throw new FoveaError(
      'FOVEA_UNSUPPORTED',
      'savePretrained: the model has adapters, for which a checkpoint has no place; save them by saveAdapter, or call unloadAdapters(model, { merge: true }) first',
    );
  const seen = new Set<Tensor>();
  // Tied weights are stored once, under their first key.
  const unique = Object.entries(model.stateDict()).filter(([, tensor]) => !seen.has(tensor) && seen.add(tensor));
  const [first] = unique;
  if (!first) throw new FoveaError('FOVEA_ARGUMENT', 'savePretrained: the model has no parameters');
  const { 'config.json': config, ...others } = configs;
  await writeJsonFile(join(folder, 'config.json'), { ...config, dtype: first[1].dtype });
  for (const [name, json] of Object.entries(others)) await writeJsonFile(join(folder, name), json);
  const save = { metadata: { format: 'pt' }, ...(signal ? { signal } : {}) };
  await saveFile(Object.fromEntries(unique), join(folder, 'model.safetensors'), save);
}
