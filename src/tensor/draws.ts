/**
 * Random numbers that are drawn twice. What runs again to the same result, as the function of a `checkpoint` does in
 * backward, takes the counters of its first run: generators stay where they are, whatever was drawn meanwhile, and so
 * do running statistics.
 */
import { FoveaError } from '../errors.js';

/** The counters that one op took. */
export interface Drawn {
  /** Random words. */
  readonly count: number;
  /** Of the generator. */
  readonly seed: number;
  /** The first of its blocks. */
  readonly offset: number;
}

/**
 * What is drawn from, and who writes down what is drawn. Functions that run again are synchronous, so one variable will
 * do.
 */
interface Drawing {
  /** Counters of the first run, while something runs again. */
  readonly again: { readonly draws: readonly Drawn[]; next: number } | null;
  /** One for each function around that may run again. */
  readonly logs: readonly Drawn[][];
}
const plainly: Drawing = { again: null, logs: [] };
let drawing = plainly;

function drawingAs<T>(how: Drawing, fn: () => T): T {
  const before = drawing;
  drawing = how;
  try {
    return fn();
  } finally {
    drawing = before;
  }
}

/** The error of a function that does something else when it runs again. @returns FOVEA_AUTOGRAD */
export function notRepeated(what: string): FoveaError {
  return new FoveaError(
    'FOVEA_AUTOGRAD',
    `checkpoint: fn ${what} when it ran again in backward; it must do the same each time: look for train() and eval() in between, and for what it changes outside`,
  );
}

/** Runs `fn` and writes down what it draws. @returns its result and the counters for `repeatDraws` */
export function logDraws<T>(fn: () => T): { result: T; draws: readonly Drawn[] } {
  const draws: Drawn[] = [];
  const result = drawingAs({ ...drawing, logs: [...drawing.logs, draws] }, fn);
  return { result, draws };
}

/** Runs `fn` with the counters of its first run. @throws FOVEA_AUTOGRAD if it draws others */
export function repeatDraws<T>(draws: readonly Drawn[], fn: () => T): T {
  const again = { draws, next: 0 };
  const result = drawingAs({ again, logs: [] }, fn);
  if (again.next < draws.length) throw notRepeated('drew fewer random numbers');
  return result;
}

/** The counters of the first run for what draws `count` words now, null where this is the first. */
export function drawnBefore(count: number): { seed: number; offset: number } | null {
  const { again } = drawing;
  if (again === null) return null;
  const drawn = again.draws[again.next++];
  if (drawn?.count !== count) throw notRepeated('drew other random numbers');
  const { seed, offset } = drawn;
  noteDraw(count, seed, offset);
  return { seed, offset };
}

/** Whether something runs again to its first result: what it changes outside was changed then. */
export function runsAgain(): boolean {
  return drawing.again !== null;
}

/** Writes down counters that were taken. */
export function noteDraw(count: number, seed: number, offset: number): void {
  for (const log of drawing.logs) log.push({ count, seed, offset });
}

/** Refuses what must not happen twice. @throws FOVEA_UNSUPPORTED in a function that may run again */
export function refuseInRepeatable(op: string, why: string): void {
  if (drawing !== plainly) throw new FoveaError('FOVEA_UNSUPPORTED', `checkpoint: ${op} was called in fn: ${why}`);
}
