/** Guards by the names of a config: true, an action, or the options of the guard, which checks them. */
import { gradientNorm, lossSpike, nonFinite, overfitting } from '../train/guards.js';
import type { Guard } from '../train/trainer-events.js';
import type { ConfigFields } from './config-fields.js';

const guards = { nonFinite, lossSpike, gradientNorm, overfitting };
type GuardName = keyof typeof guards;

/** Reads and makes guards; `nonFinite` is always there. @throws FOVEA_ARGUMENT naming the place in the config */
export function guardsOf(fields: ConfigFields): Guard[] {
  const names = Object.keys(guards) as GuardName[];
  const given = names.filter((name) => fields.has(name));
  const made = given.map((name): Guard => {
    const options = fields.options(name, 'action');
    return fields.checked(() => guards[name](Object(options)));
  });
  fields.finish();
  return given.includes('nonFinite') ? made : [nonFinite(), ...made];
}
