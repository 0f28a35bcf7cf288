/**
 * Recorded steps: the native commands that a function queues are kept and queued again, without its JavaScript.
 *
 *   first call     fn runs on copies of the inputs (they stay with the recording), native code keeps every command and
 *                  every block of memory that fn allocates
 *   later calls    the inputs are copied into the recording's, all commands are queued in one crossing, and copies of
 *                  the results are returned
 *
 * A call records anew where another recording is needed: for other shapes, dtypes or devices, in another mode (noGrad,
 * autocast, strict, train() or eval(), requiresGrad), where the `.grad` that the step reads are other tensors than
 * then, where a tensor that it took from outside was disposed, and where an optimizer has other options. The least
 * recently used recording makes room.
 *
 * After a replay the world is as after fn: random numbers go on from where their generators are, the `.grad` that the
 * step made or cleared are there or gone, storages that it wrote to have a new version, optimizers have counted a step,
 * whose rate was the one in force, caches are longer (capture.ts says how). What else fn does in JavaScript happens
 * while it is recorded only. What is known to go wrong then is refused (capture.ts, refuse_recording in
 * native/binding).
 *
 * The same idea: CUDA graphs, and `torch.cuda.graph` (Nguyen et al. 2021, "Accelerating PyTorch with CUDA Graphs").
 */
import { native } from '../addon.js';
import { FoveaError } from '../errors.js';
import { Capture, captureIn, capturing, modeChanges, type Draw, type FoundGrad } from './capture.js';
import { argumentError, countArg, functionArg, optionsArg } from './check.js';
import { late } from './late.js';
import { activeMode, isThenable, runUnder, Scope, type CastCache } from './modes.js';
import { Slot } from './slot.js';
import { live, slotOf, isTensor, Tensor } from './tensor.js';
import { closeScope } from './tidy.js';

/** Options of `record`. */
export interface RecordOptions {
  /** Recordings that are kept, for as many signatures of inputs (default 8). */
  maxRecordings?: number;
}

/** What `record` gives: call it like the function that it was made from. */
export interface RecordedStep<A extends readonly Tensor[], R> extends Disposable {
  (...inputs: A): R;
  /** Recordings that are there now. */
  readonly recordings: number;
  /** Frees all recordings and their memory; further calls throw FOVEA_DISPOSED. Twice is fine. */
  dispose(): void;
}

/** A result with slots in the places of its tensors. */
type Pattern = Slot | null | undefined | readonly Pattern[] | { readonly [name: string]: Pattern };

/** A gradient that the step found, and what it left in its place. */
interface LeafGrad {
  readonly leaf: Tensor;
  readonly before: FoundGrad;
  readonly after: Slot | null;
}

function plain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

/** @throws FOVEA_ARGUMENT for what a later call could not give again */
function patternOf(result: unknown, place: string): Pattern {
  if (result === null || result === undefined) return result;
  if (isTensor(result)) return live(result);
  if (Array.isArray(result)) return result.map((item: unknown, i) => patternOf(item, `${place}[${i}]`));
  if (typeof result === 'object' && plain(result))
    return Object.fromEntries(
      Object.entries(result).map(([name, value]: [string, unknown]) => [name, patternOf(value, `${place}.${name}`)]),
    );
  throw argumentError('record', place, 'tensors, in arrays or plain objects', result, 'return tensors only');
}

function eachSlot(pattern: Pattern, visit: (slot: Slot) => void): void {
  if (pattern === null || pattern === undefined) return;
  if (pattern instanceof Slot) visit(pattern);
  else for (const part of Object.values(pattern)) eachSlot(part, visit);
}

/** A tensor on a slot that somebody else holds, too. */
function onSlot(slot: Slot): Tensor {
  slot.users++;
  return new Tensor(slot);
}

/** Copies of what the slots hold now. */
function copied(pattern: Pattern): unknown {
  if (pattern === null || pattern === undefined) return pattern;
  if (pattern instanceof Slot) {
    const held = onSlot(pattern);
    const copy = late.copy(held);
    held.dispose();
    return copy;
  }
  if (Array.isArray(pattern)) return (pattern as readonly Pattern[]).map(copied);
  return Object.fromEntries(Object.entries(pattern).map(([name, part]) => [name, copied(part)]));
}

const currentGrad = (leaf: Tensor): Slot | null => leaf.gradient?.slot ?? null;

/** One recording. The native side frees its own part when this object is collected. */
class Recording {
  readonly key: string;
  #id = 0;
  #handles: Int32Array = new Int32Array();
  #draws: readonly Draw[] = [];
  #counters: Float64Array = new Float64Array();
  #again: Capture['again'] = [];
  #numbers: Float64Array = new Float64Array();
  #conditions: Capture['conditions'] = [];
  #grads: readonly LeafGrad[] = [];
  #touched: Capture['touched'] = new Set();
  #derived: Capture['derived'] = new Map();
  #result: Pattern = null;

  constructor(key: string) {
    this.key = key;
  }

  /** Runs `fn` and keeps what it queues. */
  record(fn: (...inputs: Tensor[]) => unknown, inputs: readonly Tensor[]): void {
    const scope = new Scope(null);
    // Conversions of parameters that were made outside would be those of this call for ever.
    const casts: CastCache | null = activeMode().casts === null ? null : new Map();
    const capture = new Capture();
    try {
      runUnder({ scope, casts }, () => {
        const copies = inputs.map((x) => late.copy(x));
        this.#handles = Int32Array.from(copies, (x) => live(x).id);
        this.#id = native.recordBegin(this, this.#handles);
        this.#keep(capture, copies, fn);
        this.#keepGrads(capture, new Set(scope.made));
      });
    } catch (error) {
      native.recordAbort();
      throw capture.refused ?? error;
    } finally {
      if (casts !== null) for (const { cast } of casts.values()) cast.dispose();
      closeScope(scope, undefined);
    }
  }

  #keep(capture: Capture, copies: Tensor[], fn: (...inputs: Tensor[]) => unknown): void {
    const slots = copies.map(live);
    const result = captureIn(capture, () => fn(...copies));
    if (capture.refused !== null) throw capture.refused;
    if (isThenable(result)) {
      result.then(undefined, () => undefined); // the error below says what matters
      throw new FoveaError(
        'FOVEA_UNSUPPORTED',
        'record: fn is asynchronous, but a step is recorded in one go; await before and after the call',
      );
    }
    for (const [i, slot] of slots.entries())
      if (slot.version !== null && slot.version.count > 0)
        throw new FoveaError(
          'FOVEA_UNSUPPORTED',
          `record: the step writes into input ${i}, of which it has a copy; clone() it in the step, or use the tensor from outside instead of passing it`,
        );
    const pattern = patternOf(result, 'the result of fn');
    eachSlot(pattern, ({ version }) => {
      if (version !== null && capture.windows.has(version))
        throw new FoveaError(
          'FOVEA_UNSUPPORTED',
          'record: fn returns a view of a cache, which grows; return what it computes',
        );
    });
    const { draws, touched, derived, again, conditions } = capture;
    // A generator that fn makes starts anew at each call, so its numbers stay what they are.
    this.#draws = draws.filter(({ source }) => source.born !== capture);
    this.#counters = Float64Array.from(this.#draws.flatMap(({ seed, offset }) => [seed, offset]));
    native.recordEnd(this.#counters);
    eachSlot(pattern, (slot) => slot.users++);
    this.#result = pattern;
    this.#touched = touched;
    this.#derived = derived;
    this.#again = again;
    this.#numbers = new Float64Array(capture.numbers);
    this.#conditions = conditions;
  }

  /** @param made tensors of the step alone, whose gradients nobody sees afterwards */
  #keepGrads({ grads }: Capture, made: ReadonlySet<Tensor>): void {
    for (const leaf of grads.keys())
      if (made.has(leaf) && leaf.gradient !== null && made.has(leaf.gradient)) leaf.gradient.dispose();
    this.#grads = [...grads]
      .filter(([leaf]) => !made.has(leaf))
      .map(([leaf, before]) => ({ leaf, before, after: currentGrad(leaf) }));
    for (const { after } of this.#grads) if (after !== null) after.users++;
  }

  /** Whether the gradients that the step reads are those that it has read, and what it relies on holds. */
  fits(): boolean {
    const same = this.#grads.every(
      ({ leaf, before }) => leaf.slot !== null && (before === 'any' || before === currentGrad(leaf)),
    );
    return same && this.#conditions.every((holds) => holds());
  }

  /** Whether a tensor from outside is gone, or was made of values that have changed. */
  stale(): boolean {
    if (native.recordStale(this.#id)) return true;
    for (const [version, count] of this.#derived) if (version.count !== count) return true;
    return false;
  }

  replay(inputs: readonly Tensor[]): void {
    for (let i = 0; i < inputs.length; i++) this.#handles[i] = live(inputs[i]!).id;
    for (let i = 0; i < this.#draws.length; i++) {
      const { source, count } = this.#draws[i]!;
      const { seed, offset } = source.reserve(count);
      this.#counters[2 * i] = seed;
      this.#counters[2 * i + 1] = offset;
    }
    let at = 0;
    for (const step of this.#again) for (const number of step()) this.#numbers[at++] = number;
    native.replay(this.#id, this.#handles, this.#counters, this.#numbers);
    for (const version of this.#touched) version.count++;
    for (const { leaf, after } of this.#grads) {
      if (currentGrad(leaf) === after) continue;
      leaf.gradient = after && onSlot(after);
      if (leaf.gradient !== null) leaf.gradient.kept = true;
    }
  }

  /** Copies of the results of the last call. */
  result(): unknown {
    return copied(this.#result);
  }

  free(): void {
    native.recordFree(this.#id);
    eachSlot(this.#result, (slot) => slot.release());
    for (const { after } of this.#grads) after?.release();
    this.#result = null;
    this.#grads = [];
  }
}

/** The recordings of one function. */
class Recordings {
  readonly #fn: (...inputs: Tensor[]) => unknown;
  readonly #most: number;
  /** The most recently used last. */
  #kept: Recording[] = [];
  #modes = modeChanges;
  #disposed = false;

  constructor(fn: (...inputs: Tensor[]) => unknown, most: number) {
    this.#fn = fn;
    this.#most = most;
  }
  get count(): number {
    return this.#kept.length;
  }

  call(inputs: readonly Tensor[]): unknown {
    if (this.#disposed)
      throw new FoveaError('FOVEA_DISPOSED', 'record: this recorded step was disposed; make another one');
    const key = keyOf(inputs);
    if (this.#modes !== modeChanges) this.#drop(() => true);
    this.#drop((recording) => recording.stale());
    const recording = this.#kept.find((one) => one.key === key && one.fits());
    if (recording === undefined) return this.#record(key, inputs);
    this.#kept.push(...this.#kept.splice(this.#kept.indexOf(recording), 1));
    recording.replay(inputs);
    return recording.result();
  }

  #record(key: string, inputs: readonly Tensor[]): unknown {
    const recording = new Recording(key);
    recording.record(this.#fn, inputs);
    this.#modes = modeChanges;
    this.#kept.push(recording);
    const result = recording.result();
    while (this.#kept.length > (this.#disposed ? 0 : this.#most)) this.#kept.shift()!.free();
    return result;
  }

  #drop(which: (recording: Recording) => boolean): void {
    this.#kept = this.#kept.filter((recording) => {
      const dropped = which(recording);
      if (dropped) recording.free();
      return !dropped;
    });
  }

  dispose(): void {
    this.#disposed = true;
    this.#drop(() => true);
  }
}

/** What decides whether a recording serves a call. @throws FOVEA_ARGUMENT, FOVEA_DISPOSED, FOVEA_AUTOGRAD */
function keyOf(inputs: readonly Tensor[]): string {
  const { recording, autocast, strict } = activeMode();
  let key = `${Number(recording)} ${autocast} ${Number(strict)}`;
  for (const [i, x] of inputs.entries()) {
    const slot = slotOf(x, 'record', `input ${i}`);
    if (x.tracked)
      throw new FoveaError(
        'FOVEA_AUTOGRAD',
        `record: input ${i} requires gradients, but the step works on a copy of it; pass its detach(), and call requiresGrad_() in the step`,
      );
    key += ` ${slot.dtype}:${slot.device}:${slot.shape.join(',')}`;
  }
  return key;
}

/**
 * A step (decoding, forward, a whole step of training) that is recorded at its first call and replayed at further ones:
 * the ops of `fn` run, but not its JavaScript. The least recently used of `maxRecordings` recordings makes room for
 * another shape, dtype, device or mode.
 *
 * `fn` has to be synchronous and to take and return tensors alone. It runs like in `tidy`, and what it returns are
 * copies outside of the graph: call `backward()` inside. Its inputs must not require gradients, nor be written to.
 * Tensors that it takes from outside, such as parameters, are read and written where they are, and every call sees what
 * they hold then. `.grad` of parameters become what they would without recording; those that a recording made lie in
 * its memory, and the next call writes to them again. Random numbers differ from call to call as they would without
 * recording. Optimizers and schedules of rates go on with every call, whether they are called in the step or behind it:
 * a step takes the rate that is in force (`paramGroups[i].lr`). Other options or parameters of an optimizer record
 * anew. A `KvCache` grows with every call, from its second position on; what ops make of its keys and values must keep
 * its shape, as the result of `attention` does.
 *
 * Everything else that `fn` reads is what it was when it was recorded: numbers, flags, which tensor a variable names.
 * What would change from call to call throws: reading values, `tensor(…)` of host data, copies between devices,
 * `GradScaler`, seeding, optimizers of your own.
 *
 * @example
 * const step = record((x: Tensor, y: Tensor) => {
 *   optimizer.zeroGrad();
 *   const loss = crossEntropy(model.forward(x), y);
 *   loss.backward();
 *   nn.utils.clipGradNorm_(model.parameters(), 1);
 *   optimizer.step();
 *   return loss;
 * });
 * for (const [x, y] of batches) {
 *   using loss = step(x, y);
 *   schedule.step();
 * }
 * @param fn gets copies of the inputs; returns tensors, alone or in arrays and plain objects
 * @returns a function of the same inputs and results, with `dispose()`. It throws FOVEA_ARGUMENT for inputs or
 *   results that are no tensors, FOVEA_AUTOGRAD for inputs that require gradients, FOVEA_UNSUPPORTED for what cannot be
 *   recorded, FOVEA_DISPOSED after `dispose()`, and while it records what `fn` throws
 * @throws FOVEA_ARGUMENT for what is no function, or a `maxRecordings` below 1
 */
export function record<A extends readonly Tensor[], R>(
  fn: (...inputs: A) => R,
  options?: RecordOptions,
): RecordedStep<A, R> {
  functionArg('record', 'fn', fn);
  const { maxRecordings = 8 } = optionsArg('record', options, ['maxRecordings']);
  const most = countArg('record', 'maxRecordings', maxRecordings, 1);
  const all = new Recordings((...inputs) => fn(...(inputs as readonly Tensor[] as A)), most);
  const step = (...inputs: A): R => {
    if (capturing !== null)
      throw (capturing.refused ??= new FoveaError(
        'FOVEA_UNSUPPORTED',
        'record: a recorded step cannot call another one; call what that one was made from',
      ));
    return all.call(inputs) as R;
  };
  const dispose = (): void => all.dispose();
  Object.defineProperty(step, 'recordings', { get: () => all.count });
  return Object.assign(step, { dispose, [Symbol.dispose]: dispose }) as RecordedStep<A, R>;
}
