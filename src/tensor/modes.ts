/**
 * What is in force while a function runs: whether the tape records, which scope owns new tensors, whether fallbacks are
 * errors. A mode follows asynchronous work through AsyncLocalStorage, so that one request's mode never reaches another's.
 *
 * Reading the mode must cost nanoseconds, since every op does. While all functions under a mode are synchronous, a plain
 * variable says what is in force; AsyncLocalStorage is asked only while some function under a mode has returned a
 * promise that is still pending.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { functionArg } from './check.js';
import type { Tensor } from './tensor.js';

/** Tensors made while a function runs under `tidy`. */
export class Scope {
  /** What the end of the scope frees. */
  made: Tensor[] = [];
  /** Work that outlives its scope must not fill a list that nobody will empty: it goes to the scope around. */
  closed = false;
  /** The scope around, which takes over what is returned. */
  readonly outer: Scope | null;
  constructor(outer: Scope | null) {
    this.outer = outer;
  }
}

/** What is in force while a function runs. */
export interface Mode {
  /** Whether ops on tensors that require gradients are recorded. */
  readonly recording: boolean;
  /** What owns the tensors that are made; null outside of every `tidy`. */
  readonly scope: Scope | null;
  /** Whether an op without a kernel throws instead of running its reference. */
  readonly strict: boolean;
}

/** A mode with the one around it, which is in force again for whatever outlives the function. */
interface EnteredMode extends Mode {
  readonly outer: EnteredMode | null;
  over: boolean;
}

const root: EnteredMode = { recording: true, scope: null, strict: false, outer: null, over: false };
const storage = new AsyncLocalStorage<EnteredMode>();
let current: EnteredMode = root;
let pending = 0;

function entered(): EnteredMode {
  if (pending === 0) return current;
  let mode = storage.getStore() ?? root;
  // A timer that a finished function left behind still carries its mode.
  while (mode.over) mode = mode.outer!;
  return mode;
}

/** The mode in force. */
export function activeMode(): Mode {
  return entered();
}

/** Whether ops are recorded for backward. */
export function isRecording(): boolean {
  return activeMode().recording;
}

/** The innermost scope that is still open. */
export function activeScope(): Scope | null {
  let { scope } = activeMode();
  while (scope !== null && scope.closed) scope = scope.outer;
  return scope;
}

/** Whether `value` is a promise, also of another realm. */
export function isThenable(value: unknown): value is PromiseLike<unknown> {
  return value !== null && typeof value === 'object' && typeof (value as { then?: unknown }).then === 'function';
}

/**
 * Runs `fn` under the active mode with `change` applied, until it returns or, if it returns a promise, until that
 * settles.
 *
 * @param finish called then, with the result, or without one if `fn` threw
 * @returns what `fn` returns; for a promise, one that settles after `finish`
 * @throws what `fn` and `finish` throw
 */
export function runUnder<T>(change: Partial<Mode>, fn: () => T, finish?: (result: unknown, threw: boolean) => void): T {
  const before = current;
  const outer = entered();
  const mode: EnteredMode = { ...outer, ...change, outer };
  let result: T;
  current = mode;
  try {
    result = storage.run(mode, fn);
  } catch (error) {
    mode.over = true;
    finish?.(undefined, true);
    throw error;
  } finally {
    current = before;
  }
  if (!isThenable(result)) {
    mode.over = true;
    finish?.(result, false);
    return result;
  }
  pending++;
  return settle(result, mode, finish) as T;
}

async function settle(
  result: PromiseLike<unknown>,
  mode: EnteredMode,
  finish?: (result: unknown, threw: boolean) => void,
): Promise<unknown> {
  let value: unknown;
  try {
    value = await result;
  } catch (error) {
    finish?.(undefined, true);
    throw error;
  } finally {
    mode.over = true;
    pending--;
  }
  finish?.(value, false);
  return value;
}

/**
 * Ops whose kernel is missing on a device run their reference, a composition of other ops, which is right but slow.
 * Inside `strict` they throw instead.
 *
 * @param fn a synchronous or asynchronous function
 * @returns what `fn` returns
 * @throws FOVEA_ARGUMENT for what is no function, FOVEA_UNSUPPORTED from such an op, and what else `fn` throws
 */
export function strict<T>(fn: () => T): T {
  functionArg('strict', 'fn', fn);
  return runUnder({ strict: true }, fn);
}
