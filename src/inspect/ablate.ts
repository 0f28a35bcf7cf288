/**
 * A model without some of its heads, for as long as a function runs (Michel et al. 2019,
 * https://arxiv.org/abs/1905.10650).
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { FoveaError } from '../errors.js';
import type { Module } from '../nn/module.js';
import { tensor, where } from '../ops/index.js';
import { refuseInRecording } from '../tensor/capture.js';
import { argumentError, functionArg, optionsArg } from '../tensor/check.js';
import { isThenable } from '../tensor/modes.js';
import type { Tensor } from '../tensor/tensor.js';
import { headsArg, isWithin, moduleArg, moduleNameArg } from './arguments.js';
import { watch, type WatchedCall, type Watcher } from './watch.js';

/** Heads to leave out. */
export interface Ablation {
  /** Dotted name of the module that attends, or of one around it, whose attention is meant then. */
  module: string;
  /** Which heads (default: all). */
  heads?: readonly number[];
}

/** Which ablations are in force in this request. */
interface InForce {
  readonly watcher: Watcher;
  readonly outer: InForce | undefined;
}
const inForce = new AsyncLocalStorage<InForce>();

class HeadAblation implements Watcher {
  readonly #ablations: readonly Ablation[];
  readonly #met = new Set<Ablation>();

  constructor(ablations: readonly Ablation[]) {
    this.#ablations = ablations;
  }

  called({ module, inputs }: WatchedCall, output: Tensor): Tensor {
    let mode = inForce.getStore();
    while (mode !== undefined && mode.watcher !== this) mode = mode.outer;
    const meant = mode ? this.#ablations.filter((ablation) => isWithin(module, ablation.module)) : [];
    if (meant.length === 0) return output;
    refuseInRecording('inspect.ablate', 'replays would leave out heads for ever; call the function that was recorded');
    const all = inputs.q.shape[1]!;
    const kept = new Array<boolean>(all).fill(true);
    for (const ablation of meant) {
      this.#met.add(ablation);
      if (ablation.heads === undefined) kept.fill(false);
      else for (const head of headsArg(`inspect.ablate, ${module}`, ablation.heads, all)) kept[head] = false;
    }
    // Chosen, not multiplied by 0: what is infinite or NaN in a head that is left out is gone, too.
    const mask = tensor(kept, { dtype: 'bool', device: output.device }).reshape([1, all, 1, 1]);
    return where(mask, output, 0);
  }

  /** @throws FOVEA_ARGUMENT for an ablation that has changed nothing */
  finish(): void {
    const idle = this.#ablations.find((ablation) => !this.#met.has(ablation));
    if (idle === undefined) return;
    throw new FoveaError(
      'FOVEA_ARGUMENT',
      `inspect.ablate: no attention ran in ${idle.module || 'the model'} while fn did, so nothing was left out; ` +
        'call the model in fn, and name a module that attends',
    );
  }
}

async function settled<T>(result: PromiseLike<T>, ablation: HeadAblation, end: () => void): Promise<T> {
  try {
    const value = await result;
    ablation.finish();
    return value;
  } finally {
    end();
  }
}

/**
 * Runs `fn` with the outputs of some heads zero, as if their part of the output projection were not there. The model is
 * not changed: other requests that use it meanwhile have all heads, and so has everybody afterwards. Gradients flow
 * through the other heads alone. May be nested.
 *
 * @example
 * const without = inspect.ablate(model, [{ module: 'transformer.h.0.attn', heads: [1] }], () => model.forward({
 * inputIds }));
 * @param ablations at least one
 * @param fn a synchronous or asynchronous function that calls the model
 * @returns what `fn` returns
 * @throws FOVEA_ARGUMENT for a module that is not there or has not attended, FOVEA_INDEX for heads that are not there,
 *   FOVEA_UNSUPPORTED where the model runs in a step of `record`, and what `fn` throws
 */
export function ablate<T>(model: Module, ablations: readonly Ablation[], fn: () => T): T {
  const op = 'inspect.ablate';
  const names = moduleArg(op, model)
    .namedModules()
    .map(([name]) => name);
  if (!Array.isArray(ablations) || ablations.length === 0)
    throw argumentError(op, 'ablations', "a list such as [{ module: 'h.0.attn', heads: [1] }]", ablations);
  for (const ablation of ablations as readonly Ablation[]) {
    const { module, heads } = optionsArg(op, ablation, ['module', 'heads']);
    moduleNameArg(op, 'module', module, names);
    // How many there are, only a call of attention knows.
    if (heads !== undefined) headsArg(op, heads);
  }
  functionArg(op, 'fn', fn);
  const ablation = new HeadAblation(ablations);
  const end = watch(model, ablation);
  let result: T;
  try {
    result = inForce.run({ watcher: ablation, outer: inForce.getStore() }, fn);
    if (!isThenable(result)) ablation.finish();
  } catch (error) {
    end();
    throw error;
  }
  if (isThenable(result)) return settled(result, ablation, end) as T;
  end();
  return result;
}
