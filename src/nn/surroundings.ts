/**
 * What calls of a module's `forward` run inside of, for those who watch a model. Unlike hooks it changes nothing of
 * what is computed: `runsOnly` does not see it, and layers that compute several things in one kernel go on doing so.
 */
import { countModeChange } from '../tensor/capture.js';

/** Runs a module's `forward` by calling `run`, in whatever surroundings it wants, and gives what that gives. */
export type Surroundings = (module: object, run: () => unknown) => unknown;

/** By module; null while there are none, so that calls compare with null and look nothing up. */
let surroundings: WeakMap<object, Surroundings> | null = null;
let count = 0;

/**
 * Lets every call of a module's `forward` run inside of `around`, in the place of what was set before; null ends that.
 */
export function surround(module: object, around: Surroundings | null): void {
  const had = surroundings?.delete(module) ?? false;
  if (had) count--;
  if (around !== null) {
    surroundings ??= new WeakMap();
    surroundings.set(module, around);
    count++;
  }
  if (count === 0) surroundings = null;
  // Replays of recorded steps call no module.
  countModeChange();
}

/** `run` as the body of a call of the module's `forward`. */
export function within(module: object, run: () => unknown): () => unknown {
  const around = surroundings === null ? undefined : surroundings.get(module);
  return around === undefined ? run : () => around(module, run);
}

/** Whether calls of one of `modules` run inside of something. */
export function isSurrounded(modules: readonly object[]): boolean {
  return surroundings !== null && modules.some((module) => surroundings!.has(module));
}
