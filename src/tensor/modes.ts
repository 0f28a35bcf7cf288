/**
 * What is in force while a function runs: whether the tape records, which scope owns new tensors, whether fallbacks are
 * errors, in which dtype products run. A mode follows asynchronous work through AsyncLocalStorage, so that one
 * request's mode never reaches another's.
 *
 * Reading the mode must cost nanoseconds, since every op does. While all functions under a mode are synchronous, a
 * plain variable says what is in force; AsyncLocalStorage is asked only while some function under a mode has returned a
 * promise that is still pending.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { argumentError, functionArg } from './check.js';
import { Code, dtypeNames } from './dtype.js';
import type { Version } from './slot.js';
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

/** A leaf in another dtype, good for as long as the leaf holds what it held then. */
export interface CachedCast {
  /** Of the leaf's storage. */
  readonly version: Version;
  /** The leaf's count of writes then. */
  readonly count: number;
  /** The conversion, attached to the leaf if that was recorded. */
  readonly cast: Tensor;
}
/** Conversions by leaf, made by ops under `autocast` and freed at the end of the outermost. */
export type CastCache = Map<Tensor, CachedCast>;

/** What is in force while a function runs. */
export interface Mode {
  /** Whether ops on tensors that require gradients are recorded. */
  readonly recording: boolean;
  /** What owns the tensors that are made; null outside of every `tidy`. */
  readonly scope: Scope | null;
  /** Whether an op without a kernel throws instead of running its reference. */
  readonly strict: boolean;
  /** The code of the dtype that products of matrices run in; null: that of their operands. */
  readonly autocast: number | null;
  /** What the outermost `autocast` has converted; null outside of every one. */
  readonly casts: CastCache | null;
}

/** A mode with the one around it, which is in force again for whatever outlives the function. */
interface EnteredMode extends Mode {
  readonly outer: EnteredMode | null;
  over: boolean;
}

const root: EnteredMode = {
  recording: true,
  scope: null,
  strict: false,
  autocast: null,
  casts: null,
  outer: null,
  over: false,
};
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

/** A dtype that `autocast` runs products in. */
export type AutocastDtype = 'bfloat16' | 'float16';

/**
 * Mixed precision (Micikevicius et al. 2018, https://arxiv.org/abs/1710.03740), with the lists of ops of
 * `torch.autocast` for CUDA, on every device; src/ops/autocast.ts has them, and says why.
 *
 * - In `dtype`: matmul, linear, addmm, einsum, convolutions, attention, scaledDotProductAttention, steps of recurrent
 *   layers, and the logits of linearCrossEntropy.
 * - In float32: softmax, logSoftmax, logsumexp, layerNorm, groupNorm, all losses, exp, expm1, log, log1p, log2, pow,
 *   square, reciprocal, rsqrt, softplus, sum, prod, cumsum and norm.
 * - In the widest dtype of their operands: concat, stack, where, scatterAdd and arithmetic.
 * - All others in the dtype of what they are given, which stays what it is: so do float64, integers and bool
 *   everywhere.
 *
 * Parameters stay float32 and so do their gradients: conversions are part of the graph. A parameter's conversion is
 * made once for all ops until it is written to, or until the outermost `autocast` ends. Backward runs in the dtypes
 * that forward ran in, whether or not it is called under `autocast`; call it and the optimizer outside.
 *
 * @example
 * const loss = autocast('bfloat16', () => model.forward({ inputIds, labels }).loss!);
 * loss.backward();
 * @param dtype float16 reaches 65504 only and needs a `GradScaler`, bfloat16 does not; false: as without `autocast`
 * @param fn a synchronous or asynchronous function
 * @returns what `fn` returns
 * @throws FOVEA_ARGUMENT for another dtype or for what is no function, and what `fn` throws
 */
export function autocast<T>(dtype: AutocastDtype | false, fn: () => T): T {
  if (dtype !== false && dtype !== 'bfloat16' && dtype !== 'float16')
    throw argumentError('autocast', 'dtype', "'bfloat16', 'float16' or false", dtype);
  functionArg('autocast', 'fn', fn);
  if (dtype === false) return runUnder({ autocast: null }, fn);
  const change = { autocast: Code[dtype] };
  return activeMode().casts === null ? withOwnCasts(change, fn) : runUnder(change, fn);
}

/** Like `runUnder`, with conversions of parameters that begin with `fn` and end with it. */
export function withOwnCasts<T>(change: Partial<Mode>, fn: () => T): T {
  const casts: CastCache = new Map();
  return runUnder({ ...change, casts }, fn, () => {
    for (const { cast } of casts.values()) cast.dispose();
    casts.clear();
  });
}

/** Whether an `autocast` is in force. */
export function isAutocastEnabled(): boolean {
  return activeMode().autocast !== null;
}

/** The dtype that products run in; null where no `autocast` is in force. */
export function getAutocastDtype(): AutocastDtype | null {
  const code = activeMode().autocast;
  return code === null ? null : (dtypeNames[code] as AutocastDtype);
}
