/**
 * A profile in the trace event format of Chrome
 * (https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU), which Perfetto reads: times in
 * microseconds, `X` a span, `s` and `f` the ends of an arrow, `C` a counter, `M` a name.
 */
import type { Profile, ProfiledCall } from './profile.js';

/** One event. */
export interface ChromeTraceEvent {
  readonly name: string;
  readonly ph: 'X' | 's' | 'f' | 'C' | 'M';
  readonly pid: number;
  readonly tid: number;
  readonly ts?: number;
  readonly dur?: number;
  readonly cat?: string;
  readonly id?: number;
  readonly bp?: 'e';
  readonly args?: Readonly<Record<string, string | number>>;
}

/** What `Profile.chromeTrace` gives, ready for `JSON.stringify`. */
export interface ChromeTrace {
  readonly displayTimeUnit: 'ms';
  readonly traceEvents: readonly ChromeTraceEvent[];
}

const pid = 1;
const javascript = 1;

/** Facts of a call that are known. */
function argsOf({ shapes, cost }: ProfiledCall): Record<string, string | number> {
  const { bytesRead, bytesWritten, flops } = cost;
  return {
    shapes,
    ...(bytesRead === undefined ? {} : { bytesRead }),
    ...(bytesWritten === undefined ? {} : { bytesWritten }),
    ...(flops === undefined ? {} : { flops }),
  };
}

function eventsOf(call: ProfiledCall, id: number, track: number): ChromeTraceEvent[] {
  const { op: name, queued, ran, device, liveBytes } = call;
  const args = argsOf(call);
  const span = (tid: number, cat: string, { begin, end }: { begin: number; end: number }): ChromeTraceEvent => ({
    name,
    cat,
    ph: 'X',
    pid,
    tid,
    ts: begin,
    dur: end - begin,
    args,
  });
  const arrow = { name: 'queue', cat: 'queue', id, pid };
  return [
    span(javascript, 'queue', queued),
    { name: `memory ${device}`, ph: 'C', pid, tid: javascript, ts: queued.end, args: { bytes: liveBytes } },
    ...(ran
      ? [
          span(track, 'run', ran),
          { ...arrow, ph: 's' as const, tid: javascript, ts: queued.begin },
          { ...arrow, ph: 'f' as const, bp: 'e' as const, tid: track, ts: ran.begin },
        ]
      : []),
  ];
}

/** See `Profile.chromeTrace`. */
export function traceOf({ calls }: Profile): ChromeTrace {
  const devices = [...new Set(calls.map(({ device }) => device))];
  const track = (device: string): number => javascript + 1 + devices.indexOf(device);
  const named = (name: string, tid: number, text: string): ChromeTraceEvent => ({
    name,
    ph: 'M',
    pid,
    tid,
    args: { name: text },
  });
  const names = [
    named('process_name', javascript, 'fovea'),
    named('thread_name', javascript, 'JavaScript: queues'),
    ...devices.map((device) => named('thread_name', track(device), `${device}: runs`)),
  ];
  const events = calls.flatMap((call, i) => eventsOf(call, i + 1, track(call.device)));
  events.sort((a, b) => a.ts! - b.ts!);
  return { displayTimeUnit: 'ms', traceEvents: [...names, ...events] };
}
