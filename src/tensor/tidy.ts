/** Scopes: the memory of a step is freed at its end, without waiting for the garbage collector. */
import { argumentError, functionArg } from './check.js';
import { activeScope, runUnder, Scope } from './modes.js';
import { isTensor, type Tensor } from './tensor.js';

/**
 * Frees every tensor that `fn` made, except those that it returns (alone, or inside arrays, objects, maps and sets) and
 * those given to `keep`. What the tape saved for backward lives on, as do the `.grad` of leaves.
 *
 * @param fn a synchronous or asynchronous function; with the latter the scope lasts until its promise settles
 * @returns what `fn` returns
 */
export function tidy<T>(fn: () => T): T {
  functionArg('tidy', 'fn', fn);
  const scope = new Scope(activeScope());
  return runUnder({ scope }, fn, (result) => close(scope, result));
}

/**
 * Exempts a tensor from the `tidy` that it was made in (and from those around it): free it with `dispose()`, or leave it
 * to the garbage collector.
 *
 * @returns `tensor`
 */
export function keep<T extends Tensor>(tensor: T): T {
  if (!isTensor(tensor)) throw argumentError('keep', 'tensor', 'a Tensor', tensor);
  tensor.kept = true;
  return tensor;
}

function close(scope: Scope, result: unknown): void {
  scope.closed = true;
  const returned = new Set<Tensor>();
  collect(result, returned, new Set());
  let outer = scope.outer;
  while (outer !== null && outer.closed) outer = outer.outer;
  for (const t of scope.made) {
    if (t.slot === null || t.kept) continue;
    if (returned.has(t)) outer?.made.push(t);
    else t.dispose();
  }
  scope.made = [];
}

/** Every tensor that a result holds. Iterators are left alone: walking them would consume them. */
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
