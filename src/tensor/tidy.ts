/** Scopes: the memory of a step is freed at its end, without waiting for the garbage collector. */
import { FoveaError } from '../errors.js';
import { argumentError, functionArg } from './check.js';
import { activeScope, runUnder, Scope } from './modes.js';
import { isTensor, type Tensor } from './tensor.js';

/**
 * Frees every tensor that `fn` made, except those that it returns (alone, or inside arrays, objects, maps and sets) and
 * those given to `keep`. What the tape saved for backward lives on, as do the `.grad` of leaves.
 *
 * @param fn a synchronous or asynchronous function; with the latter the scope lasts until its promise settles
 * @returns what `fn` returns
 * @throws FOVEA_ARGUMENT for what is no function, and what `fn` throws
 */
export function tidy<T>(fn: () => T): T {
  functionArg('tidy', 'fn', fn);
  const scope = new Scope(activeScope());
  return runUnder({ scope }, fn, (result) => closeScope(scope, result));
}

/**
 * Exempts a tensor from the `tidy` that it was made in (and from those around it): free it with `dispose()`, or leave
 * it to the garbage collector.
 *
 * @returns `tensor`
 * @throws FOVEA_ARGUMENT for what is no tensor
 */
export function keep<T extends Tensor>(tensor: T): T {
  if (!isTensor(tensor)) throw argumentError('keep', 'tensor', 'a Tensor', tensor);
  tensor.kept = true;
  return tensor;
}

/**
 * A scope whose end the caller decides, where one function around the work does not fit:
 *
 *   using scope = new TensorScope();
 *   const y = scope.run(() => model.forward(x));
 *   …                                            // y and what led to it live until the end of the block
 */
export class TensorScope implements Disposable {
  readonly #scope: Scope = new Scope(activeScope());

  /**
   * Runs `fn`, synchronous or asynchronous, so that the scope owns the tensors that it makes.
   *
   * @returns what `fn` returns
   * @throws FOVEA_DISPOSED after the scope's end
   */
  run<T>(fn: () => T): T {
    functionArg('TensorScope.run', 'fn', fn);
    if (this.#scope.closed)
      throw new FoveaError('FOVEA_DISPOSED', 'TensorScope.run: this scope has ended; make a new one');
    return runUnder({ scope: this.#scope }, fn);
  }

  /** Frees what was made in `run`, except tensors given to `keep`. Twice is fine. */
  dispose(): void {
    closeScope(this.#scope, undefined);
  }
  /** What `using` calls: `dispose()`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}

/**
 * Ends a scope: frees what it owns.
 *
 * @internal
 * @param result what holds the tensors that go to the scope around instead
 */
export function closeScope(scope: Scope, result: unknown): void {
  scope.closed = true;
  const returned = tensorsIn(result);
  let outer = scope.outer;
  while (outer !== null && outer.closed) outer = outer.outer;
  for (const t of scope.made) {
    if (t.slot === null || t.kept) continue;
    if (returned.has(t)) outer?.made.push(t);
    else t.dispose();
  }
  scope.made = [];
}

/** Every tensor that a value holds, alone or inside arrays, objects, maps and sets. */
export function tensorsIn(value: unknown): Set<Tensor> {
  const found = new Set<Tensor>();
  collect(value, found, new Set());
  return found;
}

/** Adds every tensor that a value holds. Iterators are left alone: walking them would consume them. */
function collect(value: unknown, into: Set<Tensor>, seen: Set<object>): void {
  if (value === null || typeof value !== 'object' || ArrayBuffer.isView(value)) return;
  if (isTensor(value)) {
    into.add(value);
    return;
  }
  if (seen.has(value)) return;
  seen.add(value);
  if (value instanceof Map || value instanceof Set) {
    for (const v of value.values()) collect(v, into, seen);
    return;
  }
  for (const v of Object.values(value)) collect(v, into, seen);
}
