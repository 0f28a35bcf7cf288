/**
 * Adapters: low-rank terms (lora-layer.ts) beside the linear layers of a model, which alone are trained (LoRA, Hu et
 * al. 2021, https://arxiv.org/abs/2106.09685). Options, rules of names and what is counted are PEFT's; the functions
 * are called as the methods of Hugging Face's models.
 */
import { FoveaError } from '../errors.js';
import { QuantizedTensor } from '../ops/index.js';
import { argumentError, countArg, numberArg, optionsArg, probabilityArg } from '../tensor/check.js';
import { sizeOf } from '../tensor/layout.js';
import type { Tensor } from '../tensor/tensor.js';
import { tidy } from '../tensor/tidy.js';
import { AffineLayer } from './linear.js';
import { type AdapterSettings, type LoraConfig, LoraLinear, LoraTerm, LoraTerms } from './lora-layer.js';
import {
  type AdapterPlace,
  adapterSettings,
  type Layer,
  matchTargets,
  placesNamed,
  plainModules,
  termsIn,
  type TermsPlace,
} from './lora-places.js';
import { Module } from './module.js';
import { MultiheadAttention } from './multihead-attention.js';
import { replaceModules } from './replace.js';

/** Options of {@link addAdapter}. */
export interface AddAdapterOptions extends LoraConfig {
  /** What the adapter is called in this model: letters, digits, `_` and `-` (default 'default'). */
  adapterName?: string;
}

function modelArg(op: string, model: unknown): Module {
  if (!(model instanceof Module)) throw argumentError(op, 'model', 'a Module', model);
  return model;
}

/** The name of a new adapter. @throws FOVEA_ARGUMENT for what is no name, or is taken */
export function newAdapterName(op: string, model: Module, name: unknown = 'default'): string {
  // It becomes a part of keys, whose parts are separated by dots.
  if (typeof name !== 'string' || !/^[\w-]+$/.test(name))
    throw argumentError(op, 'adapterName', 'a name of letters, digits, _ and -', name);
  if (adapterSettings(model).has(name))
    throw argumentError(op, 'adapterName', 'a name that no adapter of the model has', name, 'deleteAdapter it first');
  return name;
}

/** Refuses what would change weights that hold terms. */
function refuseMerged(op: string, model: Module): void {
  if (termsIn(model).some(({ terms }) => terms.isMerged))
    throw new FoveaError(
      'FOVEA_UNSUPPORTED',
      `${op}: adapters are merged into the weights; call unmergeAdapters first`,
    );
}

// ---- adding

/** Checks all options but `targetModules`, and fills in defaults. */
function completeConfig(
  op: string,
  options: Omit<LoraConfig, 'targetModules'>,
): Omit<AdapterSettings, 'name' | 'targets'> {
  const { r = 8, loraAlpha = 8, loraDropout = 0, useRslora = false, bias = 'none' } = options;
  if (!Number.isFinite(numberArg(op, 'loraAlpha', loraAlpha)))
    throw argumentError(op, 'loraAlpha', 'a finite number', loraAlpha);
  if (typeof useRslora !== 'boolean') throw argumentError(op, 'useRslora', 'true or false', useRslora);
  if (!['none', 'all', 'loraOnly'].includes(bias)) throw argumentError(op, 'bias', "'none', 'all' or 'loraOnly'", bias);
  countArg(op, 'r', r, 1);
  probabilityArg(op, 'loraDropout', loraDropout);
  return { r, loraAlpha, loraDropout, useRslora, bias };
}

/** [out, in] of the weight of a place, and a tensor that is where the weight is. */
export function sizesOf(module: Layer | MultiheadAttention): { shape: readonly [number, number]; like: Tensor } {
  const layer = module instanceof LoraLinear ? module.baseLayer : module;
  const weight = layer instanceof MultiheadAttention ? layer.inProjWeight! : layer.weight;
  if (weight instanceof QuantizedTensor) return { shape: weight.shape, like: weight.packed };
  if (!(layer instanceof AffineLayer)) return { shape: weight.shape as [number, number], like: weight };
  return { shape: tidy(() => layer.matrix.shape) as [number, number], like: weight };
}

/** Puts zero terms in all places, which make no difference yet. */
function addTerms(model: Module, places: readonly AdapterPlace[], settings: AdapterSettings): void {
  const layers = new Map<Module, LoraLinear>();
  for (const { module } of places) {
    const { shape, like } = sizesOf(module);
    let terms: LoraTerms;
    if (module instanceof MultiheadAttention) terms = module.inProjLora ??= new LoraTerms();
    else if (module instanceof LoraLinear) terms = module.lora;
    else {
      const layer = new LoraLinear(module);
      layers.set(module, layer);
      terms = layer.lora;
    }
    terms.terms.push(new LoraTerm(settings, shape[1], shape[0], like));
    terms.train(module.training);
  }
  replaceModules(model, layers);
}

/**
 * Whether a key of a state dict is that of a bias, as PEFT sees it: those of attention's projections are called
 * otherwise.
 */
export const isBias = (key: string): boolean => /(^|\.)bias$/.test(key);

/** Trains nothing but the biases that an adapter's settings name. */
function freeze(model: Module, { bias }: Pick<AdapterSettings, 'bias'>): void {
  model.requiresGrad_(false);
  if (bias === 'all') for (const [key, tensor] of model.namedParameters()) if (isBias(key)) tensor.requiresGrad_();
  if (bias === 'loraOnly')
    for (const { module } of termsIn(model)) if (module instanceof LoraLinear) module.baseLayer.bias?.requiresGrad_();
}

/**
 * Adds an adapter to a model, in place, and activates it: chosen linear layers become `LoraLinear`s, which hold them as
 * `baseLayer`, and a `MultiheadAttention` has terms beside the projections of its inputs, too. Nothing but the
 * adapter's A and B, and the biases that `bias` names, requires gradients afterwards. Until it is trained the model
 * computes what it did. Quantised weights stay as they are.
 *
 * @returns the names of the modules that have terms
 * @throws FOVEA_ARGUMENT for options out of range, names that no module has, a name that is taken or a second adapter
 *   with biases, FOVEA_UNSUPPORTED for modules that cannot have terms, or while adapters are merged. The model is then
 *   unchanged
 */
export function addAdapter(model: Module, options: AddAdapterOptions): string[] {
  const op = 'addAdapter';
  modelArg(op, model);
  const known = ['r', 'loraAlpha', 'loraDropout', 'targetModules', 'useRslora', 'bias', 'adapterName'] as const;
  const { adapterName, targetModules, ...config } = optionsArg(op, options, known);
  const name = newAdapterName(op, model, adapterName);
  const complete = completeConfig(op, config);
  const modules = plainModules(model);
  const targets = matchTargets(op, modules, targetModules);
  if (targets.length === 0)
    throw argumentError(op, 'targetModules', 'names of modules of the model', targetModules, 'it matches none');
  const places = placesNamed(op, modules, targets);
  attach(op, model, places, { ...complete, name, targets });
  return places.map((place) => place.name);
}

/** Adds and activates an adapter whose places are checked. @throws before anything changes */
export function attach(op: string, model: Module, places: readonly AdapterPlace[], settings: AdapterSettings): void {
  refuseMerged(op, model);
  checkBias(op, model, settings.bias);
  addTerms(model, places, settings);
  freeze(model, settings);
  setAdapter(model, settings.name);
}

/** Biases have one value for all adapters. */
function checkBias(op: string, model: Module, bias: AdapterSettings['bias']): void {
  const others = [...adapterSettings(model).values()];
  if (others.length > 0 && (bias !== 'none' || others.some((other) => other.bias !== 'none')))
    throw argumentError(op, 'bias', "'none' where a model has several adapters", bias, 'biases belong to all of them');
}

// ---- using

/**
 * Chooses the adapters whose terms are added, and trained.
 *
 * @param names one, several, whose terms then add up, or none: []
 * @throws FOVEA_ARGUMENT for a name that no adapter has, FOVEA_UNSUPPORTED while adapters are merged
 */
export function setAdapter(model: Module, names: string | readonly string[]): void {
  const list = typeof names === 'string' ? [names] : names;
  const there = adapterSettings(modelArg('setAdapter', model));
  if (!Array.isArray(list)) throw argumentError('setAdapter', 'names', 'a name or a list of names', names);
  for (const name of list as unknown[])
    if (typeof name !== 'string' || !there.has(name)) throw noAdapter('setAdapter', name, there);
  refuseMerged('setAdapter', model);
  const active = new Set(list);
  for (const { terms } of termsIn(model)) {
    terms.active = active;
    for (const term of terms.terms) term.requiresGrad_(active.has(term.settings.name));
  }
}

function noAdapter(op: string, name: unknown, there: ReadonlyMap<string, AdapterSettings>): FoveaError {
  const remedy = there.size > 0 ? `there are ${[...there.keys()].join(', ')}` : 'the model has none; call addAdapter';
  return argumentError(op, 'adapterName', 'the name of an adapter of the model', name, remedy);
}

/** The settings of an adapter. @throws FOVEA_ARGUMENT where the model has none of that name */
export function settingsOf(op: string, model: Module, name: unknown): AdapterSettings {
  const there = adapterSettings(modelArg(op, model));
  const settings = typeof name === 'string' ? there.get(name) : undefined;
  if (!settings) throw noAdapter(op, name, there);
  return settings;
}

/** Names of the adapters that are in use. */
export function activeAdapters(model: Module): string[] {
  const all = termsIn(modelArg('activeAdapters', model));
  return [...new Set(all.flatMap(({ terms }) => (terms.enabled ? [...terms.active] : [])))];
}

/** The model without adapters, until `enableAdapters`. @throws FOVEA_UNSUPPORTED while adapters are merged */
export function disableAdapters(model: Module): void {
  refuseMerged('disableAdapters', modelArg('disableAdapters', model));
  for (const { terms } of termsIn(model)) terms.enabled = false;
}

/** Adds the terms of the active adapters again. */
export function enableAdapters(model: Module): void {
  for (const { terms } of termsIn(modelArg('enableAdapters', model))) terms.enabled = true;
}

// ---- merging

/** Calls `change` with each set of terms and its weight as [out, in], unless that is quantised. */
function eachWeight(model: Module, change: (terms: LoraTerms, matrix: Tensor) => void): void {
  for (const { module, terms } of termsIn(model))
    tidy(() => {
      const matrix = module instanceof LoraLinear ? module.matrix : module.inProjWeight!;
      if (!(matrix instanceof QuantizedTensor)) change(terms, matrix);
    });
}

/** Refuses to merge where a weight is quantised, or serves other modules, too. */
function checkMergeable(op: string, model: Module): void {
  const uses = new Map<Tensor, number>();
  for (const tensor of Object.values(model.stateDict())) uses.set(tensor, (uses.get(tensor) ?? 0) + 1);
  for (const place of termsIn(model)) {
    refuseQuantized(op, place, 'merge before quantize_, or use the adapter as it is');
    if ((uses.get(weightOf(place) as Tensor) ?? 0) <= 1) continue;
    throw new FoveaError(
      'FOVEA_UNSUPPORTED',
      `${op}: the weight of ${place.name} is shared with another module, which would change, too; use the adapter as it is`,
    );
  }
}

/** What terms belong to. */
const weightOf = ({ module }: TermsPlace): Tensor | QuantizedTensor =>
  module instanceof LoraLinear ? module.baseLayer.weight : module.inProjWeight!;

function refuseQuantized(op: string, place: TermsPlace, remedy: string): void {
  const weight = weightOf(place);
  if (!(weight instanceof QuantizedTensor)) return;
  throw new FoveaError(
    'FOVEA_UNSUPPORTED',
    `${op}: the weight of ${place.name} is quantised (${weight.type}), and to round it again would lose the term; ${remedy}`,
  );
}

/**
 * Adds the terms of the active adapters to the weights, in place: the model is then as fast as without, and computes
 * the same within rounding. Training it would train nothing of the adapters; twice is fine.
 *
 * @throws FOVEA_ARGUMENT where the model has no adapter, FOVEA_UNSUPPORTED naming a weight that is quantised or
 *   shared, or while adapters are disabled. No weight has then changed
 */
export function mergeAdapters(model: Module): void {
  const op = 'mergeAdapters';
  const there = adapterSettings(modelArg(op, model));
  if (there.size === 0) throw noAdapter(op, undefined, there);
  checkMergeable(op, model);
  if (termsIn(model).some(({ terms }) => !terms.enabled))
    throw new FoveaError('FOVEA_UNSUPPORTED', `${op}: adapters are disabled; call enableAdapters first`);
  eachWeight(model, (terms, matrix) => terms.merge(matrix));
}

/**
 * Takes out of the weights what `mergeAdapters` added, within rounding; where nothing is merged it does nothing.
 *
 * @throws FOVEA_UNSUPPORTED naming a weight that was quantised meanwhile
 */
export function unmergeAdapters(model: Module): void {
  const merged = termsIn(modelArg('unmergeAdapters', model)).filter(({ terms }) => terms.isMerged);
  for (const place of merged) refuseQuantized('unmergeAdapters', place, 'load the model anew');
  eachWeight(model, (terms, matrix) => terms.unmerge(matrix));
}

// ---- removing

/** Puts layers without terms back, and frees what is left of them. */
function unwrap(model: Module, places: readonly TermsPlace[]): void {
  const layers = new Map<Module, Module>();
  for (const { module, terms } of places) {
    if (module instanceof LoraLinear) layers.set(module, module.baseLayer);
    else module.inProjLora = undefined;
    terms.dispose();
  }
  replaceModules(model, layers);
}

/**
 * Removes an adapter. @throws FOVEA_ARGUMENT where the model has none of that name, FOVEA_UNSUPPORTED while adapters
 * are merged
 */
export function deleteAdapter(model: Module, name: string): void {
  settingsOf('deleteAdapter', model, name);
  refuseMerged('deleteAdapter', model);
  const places = termsIn(model);
  for (const { terms } of places) {
    terms.active = new Set([...terms.active].filter((active) => active !== name));
    const at = terms.terms.findIndex(({ settings }) => settings.name === name);
    if (at >= 0) terms.terms.splice(at, 1)[0]!.dispose();
  }
  unwrap(
    model,
    places.filter(({ terms }) => terms.terms.length === 0),
  );
}

/**
 * Removes all adapters, so that the model has the layers and the keys that it had. Its parameters do not require
 * gradients; `requiresGrad_()` changes that.
 *
 * @param options.merge adds the active terms to the weights first, as `mergeAdapters` does (default false: they are
 *   gone)
 * @throws FOVEA_UNSUPPORTED where they cannot be merged
 */
export function unloadAdapters(model: Module, options: { merge?: boolean } = {}): void {
  const { merge = false } = optionsArg('unloadAdapters', options, ['merge']);
  modelArg('unloadAdapters', model);
  if (merge) mergeAdapters(model);
  else unmergeAdapters(model);
  unwrap(model, termsIn(model));
}

// ---- counting

/** How much of a model is trained. */
export interface TrainableParameters {
  /** Numbers in parameters that require gradients. */
  trainable: number;
  /** Numbers in all parameters and quantised weights. */
  all: number;
  /** trainable / all, in percent. */
  percent: number;
  /** One line, as PEFT prints it. */
  toString(): string;
}

/** Counts what is trained of a model; a shared tensor counts once. */
export function trainableParameters(model: Module): TrainableParameters {
  const count = (tensors: readonly { shape: readonly number[] }[]): number =>
    tensors.reduce((sum, { shape }) => sum + sizeOf(shape), 0);
  const parameters = modelArg('trainableParameters', model).parameters();
  const held = model.modules().flatMap((module) => Object.values(module) as unknown[]);
  const quantized = new Set(held.filter((value) => value instanceof QuantizedTensor));
  const trainable = count(parameters.filter(({ requiresGrad }) => requiresGrad));
  const all = count(parameters) + count([...quantized]);
  const percent = all > 0 ? (100 * trainable) / all : 0;
  const shown = (value: number): string => value.toLocaleString('en');
  return {
    trainable,
    all,
    percent,
    toString: () =>
      `trainable params: ${shown(trainable)} || all params: ${shown(all)} || trainable%: ${percent.toFixed(4)}`,
  };
}
