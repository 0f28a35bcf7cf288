/**
 * What a recording (record.ts) has to know of JavaScript while its step runs for the first time. Native code keeps the
 * commands; but counters of random numbers, gradients and versions live here, and have to go on at every replay as if
 * the step had run. So does what says so itself:
 *
 *   eachTime      JavaScript that runs at every replay, such as the counting of steps
 *   varying       attributes of an op that follow from such state, such as rates
 *   window        the part of a tensor that follows from it, such as what a cache holds so far
 *   once          what a first step makes for all others, such as averages
 *   holdsWhile    what has to be as it was, or the step is recorded anew
 *
 * State that would not go on is refused.
 */
import { native } from '../addon.js';
import { FoveaError } from '../errors.js';
import type { Slot, Version } from './slot.js';
import type { Tensor } from './tensor.js';

/** Where random counters come from. */
export interface CounterSource {
  /** The capture that was active when this was made. */
  readonly born: Capture | null;
  /** Takes the counters of `count` words. */
  reserve(count: number): { seed: number; offset: number };
}
/** Counters that the step took, and takes again at each replay. */
export interface Draw {
  readonly source: CounterSource;
  readonly count: number;
  readonly seed: number;
  readonly offset: number;
}
/** What the step read in the `.grad` of a leaf; 'any' if it was set before it was read. */
export type FoundGrad = Slot | null | 'any';

/** Attributes that may vary from replay to replay. */
export type Varying = Readonly<Record<string, number | boolean>>;
const nothing: readonly number[] = [];

/** Collects what a step does while it is recorded. */
export class Capture {
  /** In the order in which they were taken. */
  readonly draws: Draw[] = [];
  /** By leaf. */
  readonly grads: Map<Tensor, FoundGrad> = new Map();
  /** Storages that were written to in place. */
  readonly touched: Set<Version> = new Set();
  /** Storages from whose values others were made that the step reads, by the count of writes then. */
  readonly derived: Map<Version, number> = new Map();
  /** What runs at each replay, in the order of the step; gives the numbers of attributes that vary. */
  readonly again: (() => readonly number[])[] = [];
  /** How many those are. */
  numbers = 0;
  /** Storages of which the step sees a window. */
  readonly windows: Set<Version> = new Set();
  /** What must hold for a replay to do what the step would. */
  readonly conditions: (() => boolean)[] = [];
  /** The first thing that cannot be recorded, in case `fn` catches it. */
  refused: FoveaError | null = null;

  /** Notes the first look at a leaf's gradient. */
  sawGrad(leaf: Tensor, found: FoundGrad): void {
    if (!this.grads.has(leaf)) this.grads.set(leaf, found);
  }

  /** Notes counters. @throws FOVEA_UNSUPPORTED where those of two generators could not be told apart */
  drew(source: CounterSource, count: number, { seed, offset }: { seed: number; offset: number }): void {
    for (const draw of this.draws)
      if (draw.seed === seed && draw.offset === offset && draw.source !== source)
        refuseInRecording(
          'Generator',
          'two generators in the same state cannot be told apart; seed one of them otherwise',
        );
    this.draws.push({ source, count, seed, offset });
  }
}

/** The capture of the step that is being recorded: synchronous, so one variable will do. */
export let capturing: Capture | null = null;

/** Runs `fn` as the step that is recorded. @returns what it returns */
export function captureIn<T>(capture: Capture, fn: () => T): T {
  capturing = capture;
  try {
    return fn();
  } finally {
    capturing = null;
  }
}

/**
 * Refuses what a replay would not do again.
 *
 * @param why with the remedy
 * @throws FOVEA_UNSUPPORTED while a step is recorded
 */
export function refuseInRecording(op: string, why: string): void {
  if (capturing === null) return;
  const error = new FoveaError('FOVEA_UNSUPPORTED', `record: ${op} was called in the step: ${why}`);
  capturing.refused ??= error;
  throw error;
}

/** Runs `fn`, and again at each replay of the step that is being recorded. It may neither queue ops nor read values. */
export function eachTime(fn: () => void): void {
  fn();
  capturing?.again.push(() => {
    fn();
    return nothing;
  });
}

/**
 * Runs an op whose attributes vary from step to step. They are asked for again at each replay, after all that the step
 * does before (`eachTime`), and must keep their names.
 *
 * @param op the kernel's name @param run queues it, once
 * @returns what `run` returns
 */
export function varying<A extends Varying, T>(op: string, attrs: () => A, run: (attrs: A) => T): T {
  const now = attrs();
  const result = run(now);
  if (capturing === null) return result;
  const names = Object.keys(now);
  native.recordVary(op, ...names);
  capturing.numbers += names.length;
  capturing.again.push(() => {
    const then = attrs();
    return names.map((name) => Number(then[name]));
  });
  return result;
}

/**
 * Makes a view along `dim` a window of the `size` positions that there are: replays ask where it starts or, if it
 * grows, how long it is. An op takes a window that grows only if the shape of its result does not depend on it.
 *
 * @param number where it starts, or how long it is, now and in replays
 */
export function window(view: Slot, dim: number, size: number, number: () => number, grows: boolean): void {
  if (capturing === null) return;
  native.recordWindow(view.id, dim, grows ? 0 : number(), size, grows);
  capturing.windows.add(view.sharedVersion());
  capturing.numbers++;
  capturing.again.push(() => [number()]);
}

/** Refuses what depends on the shape of a window that grows, in a way that the native side does not see. */
export function refuseWindow(op: string, view: Slot, why: string): void {
  if (view.version !== null && capturing?.windows.has(view.version)) refuseInRecording(op, why);
}

/**
 * Runs `fn` outside of the step that is being recorded: replays do not do it again, and what it makes lives on without
 * the recording. It must not use what the step has made.
 */
export function once<T>(fn: () => T): T {
  if (capturing === null) return fn();
  const capture = capturing;
  native.recordPause(true);
  capturing = null;
  try {
    return fn();
  } finally {
    capturing = capture;
    native.recordPause(false);
  }
}

/** Says what the step that is being recorded relies on: where it does not hold, the step is recorded anew. */
export function holdsWhile(condition: () => boolean): void {
  capturing?.conditions.push(condition);
}

/** How often something has changed in this thread that steps look at without saying so. */
export let modeChanges = 0;
/**
 * Says that a module has changed between training and evaluation or has other hooks, or a leaf whether it requires
 * gradients: recordings may no longer hold.
 */
export function countModeChange(): void {
  modeChanges++;
}
