/**
 * Adapters on disk, as PEFT keeps them (https://huggingface.co/docs/peft/developer_guides/checkpoint): a folder with
 *
 *   adapter_config.json         the options: peft_type LORA, r, lora_alpha, target_modules, …
 *   adapter_model.safetensors   base_model.model.<module>.lora_A.weight [r, in] and .lora_B.weight [out, r], and biases
 *                               that were trained, base_model.model.<module>.bias
 *
 * Names within a MultiheadAttention that has terms itself, and biases of layers that have some, have a `base_layer`
 * more.
 *
 * PEFT adds the term of a MultiheadAttention's output projection twice: it merges it by itself, and lets the layer
 * merge it, too (`peft/tuners/lora/layer.py`, 0.12 to 0.21). What such a file means is what PEFT computes with it, so
 * that B is doubled where it is read and halved where it is written.
 */
import { join } from 'node:path';
import { FoveaError } from '../errors.js';
import { fileExists, readJsonFile, throwIfAborted, writeJsonFile } from '../io/files.js';
import { SafetensorsFile, saveFile } from '../io/safetensors.js';
import { noGrad } from '../autograd/backward.js';
import { AffineLayer } from '../nn/linear.js';
import { skipInit } from '../nn/init.js';
import { attach, isBias, newAdapterName, settingsOf, sizesOf } from '../nn/lora.js';
import { type AdapterSettings, LoraLinear, type LoraTerm } from '../nn/lora-layer.js';
import { type AdapterPlace, adapterTerms, endsWith, placesNamed, plainModules } from '../nn/lora-places.js';
import { Module } from '../nn/module.js';
import { argumentError, optionsArg } from '../tensor/check.js';
import type { Tensor } from '../tensor/tensor.js';
import { TensorScope, tidy } from '../tensor/tidy.js';
import { adapterConfigToJson, readAdapterConfig, type StoredConfig } from './adapter-config.js';
import { CausalLM } from './causal-lm.js';

const configName = 'adapter_config.json';
const weightsName = 'adapter_model.safetensors';
const prefix = 'base_model.model.';
const inner = 'base_layer';
const outProj = '.out_proj';

// ---- names

/** A name of ours as PEFT has it: what lies within a module with terms is one step further down there. */
function storedName(name: string, withTerms: ReadonlySet<string>): string {
  const parts = name.split('.');
  return parts
    .flatMap((part, i) => (i > 0 && withTerms.has(parts.slice(0, i).join('.')) ? [inner, part] : [part]))
    .join('.');
}

/** Whether a term is that of the output projection of attention that has terms itself. */
const isDoubled = (name: string, terms: { has(name: string): boolean }): boolean =>
  name.endsWith(outProj) && terms.has(name.slice(0, -outProj.length));

const plainName = (name: string): string =>
  name
    .split('.')
    .filter((part) => part !== inner)
    .join('.');

/** Biases by the names that they have in a model without adapters. */
function biasesOf(model: Module): Map<string, Tensor> {
  const named = model.namedParameters().filter(([key]) => isBias(key));
  return new Map(named.map(([key, tensor]) => [plainName(key), tensor]));
}

// ---- writing

/** Options of {@link saveAdapter}. */
export interface SaveAdapterOptions {
  /** Which adapter (default 'default'). */
  adapterName?: string;
  /** The checkpoint that it is for, which PEFT loads with it; kept in the file. */
  baseModelNameOrPath?: string;
  /** Cancels between tensors. */
  signal?: AbortSignal;
}

function tensorsOf(
  model: Module,
  terms: ReadonlyMap<string, LoraTerm>,
  settings: AdapterSettings,
): Map<string, Tensor> {
  const withTerms = new Set(terms.keys());
  const tensors = new Map<string, Tensor>();
  for (const [name, { loraA, loraB }] of terms) {
    const stored = prefix + storedName(name, withTerms);
    tensors.set(`${stored}.lora_A.weight`, loraA);
    tensors.set(`${stored}.lora_B.weight`, isDoubled(name, terms) ? loraB.detach().mul(0.5) : loraB);
  }
  if (settings.bias === 'none') return tensors;
  for (const [name, bias] of biasesOf(model)) {
    const owner = name.slice(0, name.lastIndexOf('.'));
    if (settings.bias === 'all' || withTerms.has(owner)) tensors.set(prefix + storedName(name, withTerms), bias);
  }
  return tensors;
}

/** Whether a layer of the adapter has its weight as [in, out]. */
function liesTransposed(model: Module, terms: ReadonlyMap<string, LoraTerm>): boolean {
  const modules = plainModules(model);
  return [...terms.keys()].some((name) => {
    const module = modules.get(name);
    const layer = module instanceof LoraLinear ? module.baseLayer : undefined;
    return layer instanceof AffineLayer && tidy(() => layer.matrix !== layer.weight);
  });
}

/**
 * Writes an adapter as PEFT does, so that it loads there: `adapter_config.json` and `adapter_model.safetensors`. Each
 * file is replaced atomically; the weights come last, so a folder without them is an unfinished save.
 *
 * @param folder made if it is missing
 * @throws FOVEA_ARGUMENT where the model has no such adapter; FOVEA_IO, FOVEA_ABORTED
 */
export async function saveAdapter(model: Module, folder: string, options: SaveAdapterOptions = {}): Promise<void> {
  const known = ['adapterName', 'baseModelNameOrPath', 'signal'] as const;
  const { adapterName = 'default', baseModelNameOrPath, signal } = optionsArg('saveAdapter', options, known);
  const settings = settingsOf('saveAdapter', model, adapterName);
  if (typeof folder !== 'string') throw argumentError('saveAdapter', 'folder', 'the path of a folder', folder);
  throwIfAborted(signal, 'saveAdapter');
  const terms = adapterTerms(model, adapterName);
  using made = new TensorScope();
  const tensors = made.run(() => tensorsOf(model, terms, settings));
  const config = adapterConfigToJson(settings, {
    baseModelNameOrPath: baseModelNameOrPath ?? null,
    taskType: model instanceof CausalLM ? 'CAUSAL_LM' : null,
    fanInFanOut: liesTransposed(model, terms),
  });
  await writeJsonFile(join(folder, configName), config);
  const save = { metadata: { format: 'pt' }, ...(signal ? { signal } : {}) };
  await saveFile(Object.fromEntries(tensors), join(folder, weightsName), save);
}

// ---- reading

/** Options of {@link loadAdapter}. */
export interface LoadAdapterOptions {
  /** What the adapter is called in this model (default 'default'). */
  adapterName?: string;
  /** Whether it is to be trained further (default false: nothing of the model requires gradients). */
  isTrainable?: boolean;
}

/** The keys of a file, sorted by what they are for. */
interface StoredKeys {
  /** By module. */
  readonly terms: Map<string, { a?: string; b?: string }>;
  /** By name of the parameter. */
  readonly biases: Map<string, string>;
}

type Fail = (reason: string) => FoveaError;

function sortKeys(keys: readonly string[], fail: Fail): StoredKeys {
  const sorted: StoredKeys = { terms: new Map(), biases: new Map() };
  for (const key of keys) {
    if (!key.startsWith(prefix)) throw fail(`the key ${JSON.stringify(key)} must begin with ${prefix}`);
    const name = plainName(key.slice(prefix.length));
    const [, module, part] = /^(.+)\.lora_([AB])\.weight$/.exec(name) ?? [];
    if (module !== undefined) {
      const term = sorted.terms.get(module) ?? {};
      sorted.terms.set(module, { ...term, [part === 'A' ? 'a' : 'b']: key });
    } else if (isBias(name) && !name.includes('lora_')) sorted.biases.set(name, key);
    else throw fail(`the key ${JSON.stringify(key)} is of no term of a linear layer, which alone are supported`);
  }
  return sorted;
}

/** Names as the model has them: an adapter of a model without its head lacks a part. */
function nameIn(model: Module, there: { has(name: string): boolean }, name: string): string {
  if (there.has(name) || !(model instanceof CausalLM)) return name;
  const other = model.checkpointKey(name);
  return other !== undefined && there.has(other) ? other : name;
}

/** Everything of a file that goes into a model, checked. */
interface Plan {
  readonly config: StoredConfig;
  readonly places: readonly AdapterPlace[];
  /** Keys of A and B, by name of the module. */
  readonly terms: ReadonlyMap<string, readonly [a: string, b: string]>;
  /** Keys and the tensors that they go to. */
  readonly biases: readonly (readonly [key: string, to: Tensor])[];
}

function planOf(model: Module, file: SafetensorsFile, config: StoredConfig, fail: Fail): Plan {
  const op = 'loadAdapter';
  const keys = sortKeys(file.keys(), fail);
  const modules = plainModules(model);
  const stored = new Map([...keys.terms].map(([name, term]) => [nameIn(model, modules, name), term]));
  if (stored.size === 0) throw fail('it holds no term');
  for (const name of stored.keys()) if (!modules.has(name)) throw fail(`${name} is no module of the model`);
  const places = placesNamed(op, modules, [...stored.keys()]);
  const terms = new Map<string, readonly [string, string]>();
  for (const { name, module } of places) {
    const { a, b } = stored.get(name) ?? {};
    if (a === undefined || b === undefined) throw fail(`lora_${a === undefined ? 'A' : 'B'} of ${name} is missing`);
    const [out, width] = sizesOf(module).shape;
    checkTensor(file, a, [config.r, width], config, fail);
    checkTensor(file, b, [out, config.r], config, fail);
    terms.set(name, [a, b]);
  }
  checkTargets(modules, terms, config, fail);
  const doubled = [...terms.keys()].find((name) => isDoubled(name, terms));
  if (doubled !== undefined && config.isLater) throw laterVersion(doubled);
  return { config, places, terms, biases: biasPlan(model, file, keys.biases, config, fail) };
}

function laterVersion(name: string): FoveaError {
  return new FoveaError(
    'FOVEA_UNSUPPORTED',
    `loadAdapter: the term of ${name} was written by a later PEFT than 0.21, which may add it once or twice; save it with PEFT 0.21`,
  );
}

function checkTensor(
  file: SafetensorsFile,
  key: string,
  expected: readonly number[],
  { r }: Pick<StoredConfig, 'r'>,
  fail: Fail,
): void {
  tidy(() => {
    const { shape, dtype } = file.get(key);
    if (!dtype.includes('float')) throw fail(`${key} has dtype ${dtype}; expected floats`);
    if (String(shape) !== String(expected))
      throw fail(`${key} has shape [${shape}]; the model and r = ${r} of ${configName} need [${expected}]`);
  });
}

/** Every module that the options name has to have a term. */
function checkTargets(
  modules: ReadonlyMap<string, Module>,
  terms: ReadonlyMap<string, unknown>,
  { targetModules }: StoredConfig,
  fail: Fail,
): void {
  if (targetModules === undefined) return;
  for (const name of modules.keys())
    if (targetModules.some((target) => endsWith(name, target)) && !terms.has(name))
      throw fail(`there is no term for ${name}, which target_modules of ${configName} names`);
}

function biasPlan(
  model: Module,
  file: SafetensorsFile,
  keys: ReadonlyMap<string, string>,
  config: StoredConfig,
  fail: Fail,
): (readonly [string, Tensor])[] {
  if (keys.size > 0 && config.bias === 'none') throw fail(`it holds biases, but bias of ${configName} is none`);
  const biases = biasesOf(model);
  return [...keys].map(([name, key]) => {
    const bias = biases.get(nameIn(model, biases, name));
    if (!bias) throw fail(`${name} is no bias of the model`);
    checkTensor(file, key, bias.shape, config, fail);
    return [key, bias] as const;
  });
}

function apply(model: Module, file: SafetensorsFile, plan: Plan, name: string): void {
  const { places, terms, biases, config } = plan;
  const { targetModules, isLater: _, ...rest } = config;
  const targets = targetModules ?? [...terms.keys()].filter((key) => !isDoubled(key, terms));
  const settings: AdapterSettings = { ...rest, name, targets };
  skipInit(() => attach('loadAdapter', model, places, settings));
  noGrad(() =>
    tidy(() => {
      for (const [module, { loraA, loraB }] of adapterTerms(model, name)) {
        const [a, b] = terms.get(module)!;
        loraA.copy_(file.get(a));
        loraB.copy_(file.get(b));
        if (isDoubled(module, terms)) loraB.mul_(2);
      }
      for (const [key, bias] of biases) bias.copy_(file.get(key));
    }),
  );
}

/**
 * Adds an adapter that PEFT or `saveAdapter` has written to a model, and activates it. Its modules are those that the
 * file has terms for.
 *
 * @param folder with `adapter_config.json` and `adapter_model.safetensors`
 * @returns the names of the modules that have terms
 * @throws rejects with FOVEA_IO, FOVEA_FILE_FORMAT naming a key that is missing, unknown or of another shape,
 *   FOVEA_UNSUPPORTED naming an option that is not supported, or while adapters are merged, FOVEA_ARGUMENT for a name
 *   that is taken. The model is then unchanged
 */
export async function loadAdapter(model: Module, folder: string, options: LoadAdapterOptions = {}): Promise<string[]> {
  const op = 'loadAdapter';
  const { adapterName, isTrainable = false } = optionsArg(op, options, ['adapterName', 'isTrainable']);
  if (!(model instanceof Module)) throw argumentError(op, 'model', 'a Module', model);
  if (typeof folder !== 'string') throw argumentError(op, 'folder', 'the path of a folder', folder);
  const configFile = join(folder, configName);
  const config = readAdapterConfig(await readJsonFile(configFile), configFile);
  const path = join(folder, weightsName);
  if (!(await fileExists(path)))
    throw new FoveaError('FOVEA_IO', `${op}: ${folder} holds no ${weightsName}; other formats are not read`);
  using file = SafetensorsFile.open(path);
  const fail: Fail = (reason) => new FoveaError('FOVEA_FILE_FORMAT', `${op}: ${path}: ${reason}`);
  // From here on nothing else can happen to the model meanwhile.
  const name = newAdapterName(op, model, adapterName);
  const plan = planOf(model, file, config, fail);
  apply(model, file, plan, name);
  if (!isTrainable) model.requiresGrad_(false);
  return plan.places.map((place) => place.name);
}
