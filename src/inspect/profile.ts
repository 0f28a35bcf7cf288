/**
 * When ops run, how long, and what they move and compute. Times are those of execution: the CPU's stream looks at the
 * clock before and after each command, a GPU notes two events, and both are brought to one clock.
 */
import { native } from '../addon.js';
import { writeFileAtomic } from '../io/files.js';
import { argumentError, countArg, functionArg, optionsArg } from '../tensor/check.js';
import { deviceName } from '../tensor/device.js';
import { synchronize } from '../tensor/memory.js';
import { isThenable } from '../tensor/modes.js';
import type { Tensor } from '../tensor/tensor.js';
import type { MachineLimits } from './machine-limits.js';
import { type Cost, costOf, shapesOf, type StoredKind } from './profile-kinds.js';
import { type OpProfile, summarize } from './profile-summary.js';
import { type TableOptions, tableOf } from './profile-table.js';
import { type ChromeTrace, traceOf } from './profile-trace.js';
import { countVisible } from './profile-visible.js';

type Limits = Readonly<Record<string, MachineLimits>>;

/** Options of {@link profile}. */
export interface ProfileOptions {
  /** What the machine can do, by device: `{ cpu: await machineLimits() }`, or figures of a data sheet. */
  limits?: Limits;
  /** Calls that are kept, at about 400 bytes each (default 1,000,000); `missed` counts those beyond. */
  maxCalls?: number;
}

/** One call of an op; times in microseconds from the start of the profile. */
export interface ProfiledCall {
  /**
   * The name of the kernel; of copies to JavaScript `read`, between devices `stage`, `upload`, `download`, `unstage`.
   */
  readonly op: string;
  /** Where it ran. */
  readonly device: string;
  /** Shapes and dtype of what it took and gave, in short. */
  readonly shapes: string;
  /** What it moves and computes. */
  readonly cost: Cost;
  /** When JavaScript queued it. */
  readonly queued: { readonly begin: number; readonly end: number };
  /** When it ran; undefined where that could not be timed. */
  readonly ran: { readonly begin: number; readonly end: number } | undefined;
  /** Bytes in the device's tensors when it was queued. */
  readonly liveBytes: number;
}

interface Stored {
  readonly kinds: readonly StoredKind[];
  readonly memory: readonly { readonly device: number; readonly peak: number }[];
  readonly missed: number;
}

const columns = 7;

const multiplied = ['float32', 'float64', 'bfloat16', 'float16', 'quantized'] as const;

/** What a profile is made of. */
interface Found<T> {
  result: T;
  wallTime: number;
  calls: readonly ProfiledCall[];
  missed: number;
  peakMemory: Readonly<Record<string, number>>;
  limits: Limits;
}

/** What `profile` found. */
export class Profile<T = unknown> {
  /** What the function returned; of an asynchronous one, what its promise gave. */
  readonly result: T;
  /** Milliseconds from the call until everything that it queued had run. */
  readonly wallTime: number;
  /** In the order in which they were queued. */
  readonly calls: readonly ProfiledCall[];
  /** Calls that were not kept, since there were more than `maxCalls`. */
  readonly missed: number;
  /** The most bytes that were in tensors at once, by device. */
  readonly peakMemory: Readonly<Record<string, number>>;
  readonly #limits: Limits;
  #ops: readonly OpProfile[] | undefined;

  /** `profile` makes these. */
  constructor({ result, wallTime, calls, missed, peakMemory, limits }: Found<T>) {
    this.result = result;
    this.wallTime = wallTime;
    this.calls = calls;
    this.missed = missed;
    this.peakMemory = peakMemory;
    this.#limits = limits;
  }

  /** What the machine can do, as it was given. */
  get limits(): Limits {
    return this.#limits;
  }

  /** Calls summed up by op and device, the longest first. */
  get ops(): readonly OpProfile[] {
    return (this.#ops ??= summarize(this.calls, this.#limits, ({ op }) => op));
  }

  /**
   * The same as text: calls, time, bytes, FLOPs, and the share of the limit where one is known, which is that of the
   * time that the op would take at the rates of `limits`.
   *
   * @param options.by one row for each op (default), or for each op and its shapes
   * @param options.top rows to show (default all)
   * @throws FOVEA_ARGUMENT for other options
   */
  table(options: TableOptions = {}): string {
    return tableOf(this, options);
  }

  /**
   * The calls as a trace in the format of Chrome, which ui.perfetto.dev opens: a track for what JavaScript queues, one
   * for what each device runs, arrows between them, and the memory in tensors.
   */
  chromeTrace(): ChromeTrace {
    return traceOf(this);
  }

  /** Writes {@link chromeTrace} to a file, atomically. @throws rejects with FOVEA_IO */
  async save(path: string): Promise<void> {
    if (typeof path !== 'string') throw argumentError('Profile.save', 'path', 'the path of a file', path);
    await writeFileAtomic(path, async (file) => file.writeFile(JSON.stringify(this.chromeTrace())));
  }
}

// ---- taking one

function limitsArg(limits: unknown): Limits {
  if (limits === null || typeof limits !== 'object')
    throw argumentError('profile', 'limits', 'limits by device, such as { cpu: await machineLimits() }', limits);
  for (const [device, given] of Object.entries(limits as Limits)) {
    const { flops = {}, bytes = 1 } = optionsArg(`profile: limits of ${device}`, given, ['flops', 'bytes']);
    const rates = { bytes, ...optionsArg(`profile: limits.${device}.flops`, flops, multiplied) };
    for (const [name, rate] of Object.entries(rates))
      if (rate !== undefined && !(rate > 0)) throw argumentError('profile', name, 'a rate above 0 per second', rate);
  }
  return limits as Limits;
}

/** The profile as native code gives it; times are then known, but not how many scores are seen. */
class Taken {
  readonly wallTime: number;
  readonly #stored: Stored;
  readonly #table: Float64Array;

  /** Waits for what was queued. */
  constructor(start: number) {
    const [json, table] = native.profileTake();
    this.wallTime = performance.now() - start;
    this.#stored = JSON.parse(json) as Stored;
    this.#table = table;
  }

  /** Counts of the scores that each kind sees, where its mask says that; to be asked for once. */
  visible(): (Tensor | undefined)[] {
    return this.#stored.kinds.map(countVisible);
  }

  /** Frees what nobody will ask for. */
  drop(): void {
    for (const { mask, pattern } of this.#stored.kinds)
      for (const handle of [mask, pattern]) if (handle) native.free(handle);
  }

  profile<T>(result: T, visible: readonly (number | undefined)[], limits: Limits): Profile<T> {
    const { kinds, memory, missed } = this.#stored;
    const shared = kinds.map((kind, i) => ({
      op: kind.name,
      shapes: shapesOf(kind),
      cost: costOf(kind, visible[i]),
    }));
    const number = (call: number, column: number): number => this.#table[call * columns + column]!;
    const calls = Array.from({ length: this.#table.length / columns }, (_, i): ProfiledCall => {
      const ran = { begin: number(i, 4), end: number(i, 5) };
      return {
        ...shared[number(i, 0)]!,
        device: deviceName(number(i, 1)),
        queued: { begin: number(i, 2), end: number(i, 3) },
        ran: Number.isNaN(ran.begin) ? undefined : ran,
        liveBytes: number(i, 6),
      };
    });
    const peakMemory = Object.fromEntries(memory.map(({ device, peak }) => [deviceName(device), peak]));
    return new Profile({ result, wallTime: this.wallTime, calls, missed, peakMemory, limits });
  }
}

/** A count that was asked for. Where the op failed that made the mask, nobody knows. */
async function counted(x: Tensor | undefined): Promise<number | undefined> {
  return x?.item().catch(() => undefined);
}
function countedNow(x: Tensor | undefined): number | undefined {
  try {
    return x?.itemSync();
  } catch {
    return undefined;
  }
}

async function settle<T>(work: PromiseLike<T>, start: number, limits: Limits): Promise<Profile<T>> {
  let result: T;
  try {
    result = await work;
  } catch (error) {
    native.profileStop();
    await synchronize();
    new Taken(start).drop();
    throw error;
  }
  native.profileStop();
  await synchronize();
  const taken = new Taken(start);
  const visible = taken.visible();
  const counts = await Promise.all(visible.map(counted));
  for (const x of visible) x?.dispose();
  return taken.profile(result, counts, limits);
}

/**
 * Runs a function and notes each op that this thread queues meanwhile, whoever queues it: what other asynchronous work
 * in this thread does during an asynchronous function counts, too, what workers do does not. Steps of `record` are seen
 * op by op. It ends when all of that has run; of a synchronous function it waits for that on the spot, as `dataSync`
 * does.
 *
 * Ops are called as their kernels are (`matmul` is also linear layers); ops that JavaScript composes are those that
 * they are composed of. On a GPU the time of an op is that between two events around its launch, and where the device
 * waits for the host that of the launch is part of it.
 *
 * @example
 * const found = profile(() => noGrad(() => model.forward({ inputIds })), { limits: { cpu: await machineLimits() } });
 * console.log(found.table());
 * await found.save('trace.json');                             // opens in ui.perfetto.dev
 * @param fn a synchronous or asynchronous function
 * @returns what was found, with what `fn` returned as `result`; of an asynchronous function a promise of it
 * @throws FOVEA_UNSUPPORTED while another profile is taken, or in a step that is recorded; FOVEA_ARGUMENT; what `fn`
 *   throws
 */
export function profile<T>(fn: () => PromiseLike<T>, options?: ProfileOptions): Promise<Profile<T>>;
export function profile<T>(fn: () => T, options?: ProfileOptions): Profile<T>;
export function profile<T>(fn: () => T | PromiseLike<T>, options?: ProfileOptions): Profile<T> | Promise<Profile<T>> {
  functionArg('profile', 'fn', fn);
  const given = optionsArg('profile', options, ['limits', 'maxCalls']);
  const limits = limitsArg(given.limits ?? {});
  native.profileBegin(countArg('profile', 'maxCalls', given.maxCalls ?? 1e6, 1));
  const start = performance.now();
  let result: T | PromiseLike<T>;
  try {
    result = fn();
  } catch (error) {
    new Taken(start).drop();
    throw error;
  }
  if (isThenable(result)) return settle(result, start, limits);
  const taken = new Taken(start);
  const visible = taken.visible();
  const counts = visible.map(countedNow);
  for (const x of visible) x?.dispose();
  return taken.profile(result, counts, limits);
}
