/** Where the terms of adapters are in a model, and where they may be. */
import { FoveaError } from '../errors.js';
import { argumentError } from '../tensor/check.js';
import { AffineLayer } from './linear.js';
import { type AdapterSettings, type LoraConfig, LoraLinear, type LoraTerm, LoraTerms } from './lora-layer.js';
import type { Module } from './module.js';
import { MultiheadAttention } from './multihead-attention.js';
import { QuantizedLinear } from './quantized-linear.js';

/** A linear layer, with terms or without. */
export type Layer = AffineLayer | QuantizedLinear | LoraLinear;
/** Where a term goes, by the name that the module has in a model without adapters. */
export type AdapterPlace = { readonly name: string; readonly module: Layer | MultiheadAttention };

const isLayer = (module: Module): module is Layer =>
  module instanceof AffineLayer || module instanceof QuantizedLinear || module instanceof LoraLinear;
const isAttention = (module: Module | undefined): boolean => module instanceof MultiheadAttention;

/** All modules by the names that they have in a model without adapters; a shared one by its first. */
export function plainModules(model: Module): Map<string, Module> {
  const found = new Map<string, Module>();
  const seen = new Set<Module>();
  const visit = (name: string, module: Module): void => {
    if (seen.has(module)) return;
    seen.add(module);
    found.set(name, module);
    if (module instanceof LoraLinear) return;
    for (const [key, child] of module.namedChildren())
      if (!(child instanceof LoraTerms)) visit(name === '' ? key : `${name}.${key}`, child);
  };
  visit('', model);
  return found;
}

/** Whether a name is `target` or ends with it, as PEFT compares them. */
export const endsWith = (name: string, target: string): boolean => name === target || name.endsWith(`.${target}`);

/** Modules of those names, or the error that says which name is of none, or of one that cannot have a term. */
export function placesNamed(
  op: string,
  modules: ReadonlyMap<string, Module>,
  names: readonly string[],
): AdapterPlace[] {
  const places = new Map<Module, AdapterPlace>();
  const add = (name: string, module: Layer | MultiheadAttention): void => void places.set(module, { name, module });
  for (const name of names) {
    const module = modules.get(name);
    if (module instanceof MultiheadAttention) {
      if (module.inProjWeight === undefined)
        throw unsupported(op, `${name} has keys or values of another width, so that its projections lie apart`);
      add(name, module);
      // Replaced by the first adapter, as every other layer.
      add(`${name}.out_proj`, module.outProj);
    } else if (module !== undefined && isLayer(module)) add(name, module);
    else throw unsupported(op, `${name} is no linear layer (${module?.constructor.name ?? 'nothing is there'})`);
  }
  return [...places.values()];
}

function unsupported(op: string, why: string): FoveaError {
  const remedy = 'terms go to linear layers, and to MultiheadAttention as a whole; choose others by targetModules';
  return new FoveaError('FOVEA_UNSUPPORTED', `${op}: ${why}; ${remedy}`);
}

/** Names of the modules that `targetModules` means. */
export function matchTargets(
  op: string,
  modules: ReadonlyMap<string, Module>,
  targetModules: LoraConfig['targetModules'],
): string[] {
  const means = targetTest(op, modules, targetModules);
  const matched = [...modules.keys()].filter((name) => name !== '' && means(name));
  // It belongs to the module around it, whose terms it shares.
  const parts = new Set(matched.flatMap((name) => (isAttention(modules.get(name)) ? [`${name}.out_proj`] : [])));
  return matched.filter((name) => !parts.has(name));
}

function targetTest(
  op: string,
  modules: ReadonlyMap<string, Module>,
  targetModules: LoraConfig['targetModules'],
): (name: string) => boolean {
  if (targetModules === 'all-linear')
    return (name) => {
      const module = modules.get(name)!;
      return (isLayer(module) || isAttention(module)) && !endsWith(name, 'lm_head');
    };
  if (targetModules instanceof RegExp) {
    const whole = new RegExp(`^(?:${targetModules.source})$`, targetModules.flags.replace(/[gy]/g, ''));
    return (name) => whole.test(name);
  }
  const list: unknown = targetModules;
  if (!Array.isArray(list) || list.length === 0 || !list.every((item) => typeof item === 'string'))
    throw argumentError(op, 'targetModules', "a list of names, a RegExp or 'all-linear'", list);
  for (const target of targetModules)
    if (![...modules.keys()].some((name) => endsWith(name, target))) throw unknownTarget(op, target, modules);
  return (name) => targetModules.some((target) => endsWith(name, target));
}

function unknownTarget(op: string, target: string, modules: ReadonlyMap<string, Module>): FoveaError {
  const layers = [...modules].filter(([, module]) => isLayer(module) || isAttention(module));
  const endings = [...new Set(layers.map(([name]) => name.split('.').at(-1)!))].filter(Boolean);
  return argumentError(op, 'targetModules', 'names of modules of the model', target, `there are ${endings.join(', ')}`);
}

/** The terms of one weight, and where they are. */
export interface TermsPlace {
  readonly name: string;
  readonly module: LoraLinear | MultiheadAttention;
  readonly terms: LoraTerms;
}

/** All terms of a model. */
export function termsIn(model: Module): TermsPlace[] {
  const places: TermsPlace[] = [];
  for (const [name, module] of plainModules(model)) {
    if (module instanceof LoraLinear) places.push({ name, module, terms: module.lora });
    if (module instanceof MultiheadAttention && module.inProjLora)
      places.push({ name, module, terms: module.inProjLora });
  }
  return places;
}

/** The settings of the model's adapters, by their names. */
export function adapterSettings(model: Module): Map<string, AdapterSettings> {
  const all = termsIn(model).flatMap(({ terms }) => terms.terms.map(({ settings }) => settings));
  return new Map(all.map((settings) => [settings.name, settings]));
}

/** The terms of one adapter, by the names of their modules. */
export function adapterTerms(model: Module, adapterName: string): Map<string, LoraTerm> {
  return new Map(
    termsIn(model).flatMap(({ name, terms }) =>
      terms.terms.filter(({ settings }) => settings.name === adapterName).map((term) => [name, term] as const),
    ),
  );
}
