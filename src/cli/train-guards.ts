/** Guards by the names of a config: true, an action, or the options of the guard, which checks them. */
import { type AttentionCapture, entropy, observe } from '../inspect/index.js';
import type { JsonObject } from '../io/strict-json.js';
import type { Module } from '../nn/module.js';
import { attentionCollapse, gradientNorm, lossSpike, nonFinite, overfitting } from '../train/guards.js';
import type { Guard } from '../train/trainer-events.js';
import type { ConfigFields } from './config-fields.js';

const guards = { nonFinite, lossSpike, gradientNorm, overfitting };
type GuardName = keyof typeof guards;

/** What a config says of guards. */
export interface GuardsConfig {
  /** That need no model. */
  guards: Guard[];
  /** Options of `attentionCollapse`, if that guards. */
  attentionCollapse: JsonObject | undefined;
}

function collapseOf(fields: ConfigFields): JsonObject {
  const options = fields.options('attentionCollapse', 'action');
  if ('entropies' in options) throw fields.error('attentionCollapse', 'no entropies, which are measured,');
  fields.checked(() => attentionCollapse({ ...Object(options), entropies: () => ({}) }));
  return options;
}

/** Reads guards; `nonFinite` is always there. @throws FOVEA_ARGUMENT naming the place in the config */
export function guardsConfig(fields: ConfigFields): GuardsConfig {
  const names = Object.keys(guards) as GuardName[];
  const given = names.filter((name) => fields.has(name));
  const made = given.map((name): Guard => {
    const options = fields.options(name, 'action');
    return fields.checked(() => guards[name](Object(options)));
  });
  const collapse = fields.has('attentionCollapse') ? collapseOf(fields) : undefined;
  fields.finish();
  return { guards: given.includes('nonFinite') ? made : [nonFinite(), ...made], attentionCollapse: collapse };
}

/** Guards that are at work, until they are disposed. */
export interface GuardsAtWork extends Disposable {
  guards: Guard[];
}

async function entropyOf(layer: AttentionCapture): Promise<[string, number]> {
  using weights = layer.weights();
  using mean = entropy(weights).mean();
  return [layer.module, await mean.item()];
}

/** Makes the guards of a model, whose attention is observed if one of them looks at it. */
export function makeGuards(model: Module, { guards: made, attentionCollapse: options }: GuardsConfig): GuardsAtWork {
  if (options === undefined) return { guards: made, [Symbol.dispose]: () => undefined };
  const observer = observe(model, { maxCalls: 1 });
  const entropies = async (): Promise<Record<string, number>> =>
    Object.fromEntries(await Promise.all(observer.captures.map(entropyOf)));
  return {
    guards: [...made, attentionCollapse({ ...Object(options), entropies })],
    [Symbol.dispose]: () => observer.dispose(),
  };
}
