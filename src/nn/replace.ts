/** Other modules in the places of those that a model holds. */
import { Module } from './module.js';

/**
 * Puts modules in the places of others, wherever `model` or a module below it holds those.
 *
 * @param replacements by the module that goes
 */
export function replaceModules(model: Module, replacements: ReadonlyMap<Module, Module>): void {
  const next = (value: unknown): Module | undefined => (value instanceof Module ? replacements.get(value) : undefined);
  for (const module of model.modules())
    for (const [property, value] of Object.entries(module)) {
      const places = Array.isArray(value) ? [...value.entries()] : [[property, value] as const];
      const holder: object = Array.isArray(value) ? value : module;
      for (const [place, item] of places) if (next(item)) Object.assign(holder, { [place]: next(item) });
    }
}
