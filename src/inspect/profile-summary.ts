/** Calls of a profile summed up, and how near they come to what the machine can do. */
import type { MachineLimits } from './machine-limits.js';
import type { ProfiledCall } from './profile.js';
import type { Cost } from './profile-kinds.js';

/** What all calls of an op did. Sums are undefined where that of some call is not known. */
export interface OpProfile {
  /** Name of the kernel, with shapes where rows are by shape. */
  readonly op: string;
  readonly device: string;
  /** A count. */
  readonly calls: number;
  /** Calls that could not be timed; times, rates and shares are those of the others. */
  readonly untimed: number;
  /** Milliseconds of execution in all. */
  readonly totalTime: number;
  /** Microseconds of execution for each call. */
  readonly meanTime: number;
  /** Of the time of all ops on the device, from 0 to 1. */
  readonly share: number;
  readonly bytesRead: number | undefined;
  readonly bytesWritten: number | undefined;
  /** Multiplications and additions; undefined also where none are counted. */
  readonly flops: number | undefined;
  /**
   * The time that the calls would take at the limits of the machine, whichever of arithmetic and memory takes longer,
   * by the time that they took; above 1 where caches hold what was moved. Undefined without limits, or where a cost is
   * not known.
   */
  readonly limitShare: number | undefined;
}

/** The microseconds that a call takes at least; undefined where neither limit is known. */
function leastTime({ flops, bytesRead, bytesWritten, dtype }: Cost, limits: MachineLimits): number | undefined {
  const rates: Readonly<Record<string, number | undefined>> = limits.flops ?? {};
  const rate = dtype === undefined ? undefined : rates[dtype];
  const arithmetic = flops === undefined || rate === undefined ? undefined : flops / rate;
  const moved = bytesRead === undefined || bytesWritten === undefined ? undefined : bytesRead + bytesWritten;
  const memory = moved === undefined || limits.bytes === undefined ? undefined : moved / limits.bytes;
  return arithmetic === undefined && memory === undefined ? undefined : 1e6 * Math.max(arithmetic ?? 0, memory ?? 0);
}

const plus = (a: number | undefined, b: number | undefined): number | undefined =>
  a === undefined || b === undefined ? undefined : a + b;

class Sum {
  calls = 0;
  untimed = 0;
  time = 0;
  bytesRead: number | undefined = 0;
  bytesWritten: number | undefined = 0;
  flops: number | undefined = 0;
  least: number | undefined = 0;

  add({ ran, cost }: ProfiledCall, limits: MachineLimits | undefined): void {
    this.calls++;
    this.bytesRead = plus(this.bytesRead, cost.bytesRead);
    this.bytesWritten = plus(this.bytesWritten, cost.bytesWritten);
    this.flops = plus(this.flops, cost.flops);
    if (ran === undefined) {
      this.untimed++;
      return;
    }
    this.time += ran.end - ran.begin;
    this.least = plus(this.least, limits && leastTime(cost, limits));
  }
}

/**
 * Sums up calls by device and by what `nameOf` calls them.
 *
 * @returns the longest first
 */
export function summarize(
  calls: readonly ProfiledCall[],
  limits: Readonly<Record<string, MachineLimits>>,
  nameOf: (call: ProfiledCall) => string,
): OpProfile[] {
  const sums = new Map<string, { op: string; device: string; sum: Sum }>();
  const totals = new Map<string, number>();
  for (const call of calls) {
    const { device, ran } = call;
    const op = nameOf(call);
    const key = `${device} ${op}`;
    let entry = sums.get(key);
    if (!entry) sums.set(key, (entry = { op, device, sum: new Sum() }));
    entry.sum.add(call, limits[device]);
    if (ran) totals.set(device, (totals.get(device) ?? 0) + ran.end - ran.begin);
  }
  return [...sums.values()]
    .map(({ op, device, sum }) => profileOf(op, device, sum, totals.get(device) ?? 0))
    .sort(byTime);
}

const byTime = (a: OpProfile, b: OpProfile): number => b.totalTime - a.totalTime;

function profileOf(op: string, device: string, sum: Sum, total: number): OpProfile {
  const { calls, untimed, time, bytesRead, bytesWritten, flops, least } = sum;
  const timed = calls - untimed;
  return {
    op,
    device,
    calls,
    untimed,
    totalTime: time / 1e3,
    meanTime: timed > 0 ? time / timed : 0,
    share: total > 0 ? time / total : 0,
    bytesRead,
    bytesWritten,
    flops,
    limitShare: least !== undefined && time > 0 ? least / time : undefined,
  };
}
