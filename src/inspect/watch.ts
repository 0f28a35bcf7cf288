/**
 * Who attends, and for whom: while a model is watched, each call of one of its modules' `forward` is a frame, and a
 * call of attention belongs to the innermost frame. Frames follow asynchronous work through AsyncLocalStorage, so that
 * what runs beside a watched model, in this request or in another, is never taken for a part of it.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { surround } from '../nn/surroundings.js';
import type { Module } from '../nn/module.js';
import type { ScoreAttrs, ScoreInputs } from '../ops/attention-reference.js';
import { setAttentionWatch } from '../ops/attention-watch.js';
import type { Tensor } from '../tensor/tensor.js';

/** A call of attention inside of a watched model. */
export interface WatchedCall {
  /** Dotted name of the module whose `forward` called, as in state dicts; '' for the model itself. */
  readonly module: string;
  /** What the scores are made of. */
  readonly inputs: ScoreInputs;
  /** How they are made. */
  readonly attrs: ScoreAttrs;
}

/** Sees the calls of one model. */
export interface Watcher {
  /** @returns the output, or what takes its place */
  called(call: WatchedCall, output: Tensor): Tensor;
}

interface Frame {
  readonly module: object;
  readonly outer: Frame | undefined;
}

const frames = new AsyncLocalStorage<Frame>();
/** Who watches a module, and by which name. */
const watchers = new WeakMap<object, Map<Watcher, string>>();
let watching = 0;

function enter(module: object, run: () => unknown): unknown {
  return frames.run({ module, outer: frames.getStore() }, run);
}

/** Tells everybody who watches a module around this call, once, by the innermost of their names for it. */
function called(inputs: ScoreInputs, attrs: ScoreAttrs, output: Tensor): Tensor {
  const told = new Set<Watcher>();
  let result = output;
  for (let frame = frames.getStore(); frame !== undefined; frame = frame.outer)
    for (const [watcher, module] of watchers.get(frame.module) ?? []) {
      if (told.has(watcher)) continue;
      told.add(watcher);
      result = watcher.called({ module, inputs, attrs }, result);
    }
  return result;
}

/**
 * Lets `watcher` see all calls of attention inside of the modules that `model` has now.
 *
 * @returns a function that ends that
 */
export function watch(model: Module, watcher: Watcher): () => void {
  const named = model.namedModules();
  for (const [name, module] of named) {
    const there = watchers.get(module);
    if (there === undefined) {
      watchers.set(module, new Map([[watcher, name]]));
      surround(module, enter);
    } else there.set(watcher, name);
  }
  if (watching++ === 0) setAttentionWatch(called);
  return () => {
    for (const [, module] of named) {
      const there = watchers.get(module)!;
      there.delete(watcher);
      if (there.size > 0) continue;
      watchers.delete(module);
      surround(module, null);
    }
    if (--watching === 0) setAttentionWatch(null);
  };
}
