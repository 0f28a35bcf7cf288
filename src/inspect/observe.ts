/** Capture of what attention does inside of a model, while that computes what it always computes. */
import { FoveaError } from '../errors.js';
import type { Module } from '../nn/module.js';
import { refuseInRecording } from '../tensor/capture.js';
import { argumentError, countArg, integerArg, optionsArg } from '../tensor/check.js';
import { isWithin, moduleArg, moduleNameArg } from './arguments.js';
import { AttentionCapture } from './capture.js';
import { watch, type WatchedCall } from './watch.js';

/** Options of {@link observe}. */
export interface ObserveOptions {
  /** Capture calls of attention (default true, and all that there is to observe so far). */
  attention?: boolean;
  /** Only these modules and those below them, by dotted name (default: all). */
  modules?: readonly string[];
  /** Captures to keep for each module; the oldest makes room (default: all). Generation makes one per token. */
  maxCalls?: number;
}

/** What {@link observe} gives: the calls of attention so far, until `dispose()`. */
export class AttentionObserver implements Disposable {
  readonly #only: readonly string[];
  readonly #most: number;
  readonly #end: () => void;
  readonly #counts = new Map<string, number>();
  #captures: AttentionCapture[] = [];
  #disposed = false;

  /** `observe` makes these. */
  constructor(model: Module, only: readonly string[], most: number) {
    this.#only = only;
    this.#most = most;
    this.#end = watch(model, {
      called: (call, output) => {
        this.#take(call);
        return output;
      },
    });
  }

  /** All that is kept, in the order of the calls. */
  get captures(): readonly AttentionCapture[] {
    return this.#captures;
  }

  /** Names of the modules that have captures, in the order of their first. */
  get modules(): readonly string[] {
    return [...new Set(this.#captures.map(({ module }) => module))];
  }

  /** Whether it has ended. */
  get isDisposed(): boolean {
    return this.#disposed;
  }

  /**
   * A capture of one module.
   *
   * @param module dotted name, as in state dicts
   * @param call which of those that are kept; -1 is the last (default)
   * @throws FOVEA_ARGUMENT for a module without captures or no whole number, FOVEA_INDEX for a call that is not there,
   *   FOVEA_DISPOSED after the observer's end
   */
  get(module: string, call = -1): AttentionCapture {
    if (this.#disposed)
      throw new FoveaError('FOVEA_DISPOSED', 'AttentionObserver.get: the observer has ended; ask before dispose()');
    const kept = this.#captures.filter((capture) => capture.module === module);
    if (kept.length === 0)
      throw argumentError(
        'AttentionObserver.get',
        'module',
        'a module with captures',
        module,
        this.#captures.length ? `there are ${this.modules.join(', ')}` : 'run the model first',
      );
    const found = kept.at(integerArg('AttentionObserver.get', 'call', call));
    if (found !== undefined) return found;
    throw new FoveaError(
      'FOVEA_INDEX',
      `AttentionObserver.get: expected call from ${-kept.length} to ${kept.length - 1}, received ${call}`,
    );
  }

  #take(call: WatchedCall): void {
    const { module } = call;
    if (!this.#only.some((name) => isWithin(module, name))) return;
    refuseInRecording('inspect.observe', 'replays call no module; call the function that was recorded instead');
    const count = this.#counts.get(module) ?? 0;
    this.#counts.set(module, count + 1);
    this.#captures.push(new AttentionCapture(call, count));
    const kept = this.#captures.filter((capture) => capture.module === module);
    if (kept.length <= this.#most) return;
    kept[0]!.dispose();
    this.#captures = this.#captures.filter((capture) => capture !== kept[0]);
  }

  /** Frees all captures and goes on observing; calls count from 0 again. */
  clear(): void {
    for (const capture of this.#captures) capture.dispose();
    this.#captures = [];
    this.#counts.clear();
  }

  /** Ends the observation and frees all captures. Twice is fine. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#end();
    this.clear();
  }
  /** What `using` calls: `dispose()`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}

/**
 * Captures every call of attention that the model's modules make until `dispose()`, fused ones and those that return
 * weights, in all requests that use the model; other models are not seen. The model computes what it computes without:
 * same kernels, same bits. A capture holds q, k, mask and bias where they are (memory linear in the lengths; no
 * copies), and computes weights when asked.
 *
 * Modules that are put into the model later are seen as parts of the module around them. `generate` calls the model for
 * every token while it is observed, instead of replaying a recorded step; in a step of your own `record`, attention
 * throws FOVEA_UNSUPPORTED.
 *
 * @example
 * using observer = inspect.observe(model, { attention: true });
 * model.forward({ inputIds });
 * const weights = observer.get('transformer.h.0.attn').weights({ rows: [0, 8], heads: [0, 3] });  // [b, 2, 8, m]
 * @param model any Module, also a part of a larger one
 * @throws FOVEA_ARGUMENT for what is no module, a name that no module has, or options out of range
 */
export function observe(model: Module, options?: ObserveOptions): AttentionObserver {
  const op = 'inspect.observe';
  moduleArg(op, model);
  const known = ['attention', 'modules', 'maxCalls'] as const;
  const { attention = true, modules = [''], maxCalls } = optionsArg(op, options, known);
  if (!attention || typeof attention !== 'boolean')
    throw argumentError(op, 'attention', 'true', attention, 'leave it out: nothing else is observed');
  if (!Array.isArray(modules)) throw argumentError(op, 'modules', 'a list of names', modules);
  const names = model.namedModules().map(([name]) => name);
  const only = modules.map((name: unknown) => moduleNameArg(op, 'modules', name, names));
  const most = maxCalls === undefined ? Number.POSITIVE_INFINITY : countArg(op, 'maxCalls', maxCalls, 1);
  return new AttentionObserver(model, only, most);
}
