/** A profile as a table of text. */
import { argumentError, countArg, optionsArg } from '../tensor/check.js';
import type { Profile } from './profile.js';
import { type OpProfile, summarize } from './profile-summary.js';

/** Options of `Profile.table`. */
export interface TableOptions {
  /** What a row is of: an op (default), or an op with its shapes. */
  by?: 'op' | 'shape';
  /** Rows to show, the longest first; default all. */
  top?: number;
}

/** A number in three or four digits. */
function short(value: number): string {
  if (value === 0) return '0';
  const digits = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))));
  return value.toFixed(Math.min(digits, 3));
}
const known = (value: number | undefined, unit: number): string => (value === undefined ? '-' : short(value / unit));
const percent = (share: number | undefined): string => (share === undefined ? '-' : `${(100 * share).toFixed(1)} %`);

/** Per second, of what was timed: an op of which some calls were not has no rate. */
function rate({ untimed, totalTime }: OpProfile, amount: number | undefined): number | undefined {
  return amount === undefined || untimed > 0 || totalTime === 0 ? undefined : amount / (totalTime / 1e3);
}

const moved = ({ bytesRead: read, bytesWritten: written }: OpProfile): number | undefined =>
  read === undefined || written === undefined ? undefined : read + written;

type Column = readonly [title: string, cell: (row: OpProfile) => string];

const columns: readonly Column[] = [
  ['op', ({ op }) => op],
  ['device', ({ device }) => device],
  ['calls', ({ calls }) => String(calls)],
  ['total ms', ({ totalTime }) => totalTime.toFixed(3)],
  ['mean us', ({ meanTime }) => meanTime.toFixed(1)],
  ['time', ({ share }) => percent(share)],
  ['read MB', ({ bytesRead }) => known(bytesRead, 1e6)],
  ['written MB', ({ bytesWritten }) => known(bytesWritten, 1e6)],
  ['GB/s', (row) => known(rate(row, moved(row)), 1e9)],
  ['GFLOP', ({ flops }) => known(flops, 1e9)],
  ['GFLOP/s', (row) => known(rate(row, row.flops), 1e9)],
  ['of limit', ({ limitShare }) => percent(limitShare)],
];

/** Cells in columns: names to the left, numbers to the right. */
function aligned(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0]!.map((_, i) => Math.max(...rows.map((row) => row[i]!.length)));
  return rows.map((row) =>
    row
      .map((cell, i) => (i < 2 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)))
      .join('  ')
      .trimEnd(),
  );
}

/** Milliseconds in which JavaScript queued something; copies that an op needs are queued within its call. */
function queueingTime(profile: Profile): number {
  let [sum, until] = [0, 0];
  const spans = profile.calls.map(({ queued }) => queued).sort((a, b) => a.begin - b.begin);
  for (const { begin, end } of spans) {
    sum += Math.max(0, end - Math.max(begin, until));
    until = Math.max(until, end);
  }
  return sum / 1e3;
}

/** What lies below the table. */
function notes(profile: Profile, rows: readonly OpProfile[], hidden: number): string[] {
  const times = new Map<string, number>();
  for (const { device, totalTime } of rows) times.set(device, (times.get(device) ?? 0) + totalTime);
  const untimed = rows.reduce((sum, row) => sum + row.untimed, 0);
  const { wallTime: wall, missed, peakMemory } = profile;
  const busy = [...times].map(
    ([device, time]) => `${device} busy ${time.toFixed(3)} ms (${percent(wall > 0 ? time / wall : 0)})`,
  );
  const peaks = Object.entries(peakMemory).map(([device, bytes]) => `${device} ${short(bytes / 1e6)} MB`);
  return [
    [`wall time ${wall.toFixed(3)} ms`, ...busy, `queueing ${queueingTime(profile).toFixed(3)} ms`].join(', '),
    `peak memory: ${peaks.join(', ')}`,
    ...(hidden > 0 ? [`${hidden} more rows`] : []),
    ...(untimed > 0 ? [`${untimed} calls could not be timed`] : []),
    ...(missed > 0 ? [`${missed} calls are missing, since there were more than maxCalls`] : []),
  ];
}

/** See `Profile.table`. */
export function tableOf(profile: Profile, options: TableOptions): string {
  const { by = 'op', top } = optionsArg('Profile.table', options, ['by', 'top']);
  if (by !== 'op' && by !== 'shape') throw argumentError('Profile.table', 'by', "'op' or 'shape'", by);
  const rows =
    by === 'op' ? profile.ops : summarize(profile.calls, profile.limits, ({ op, shapes }) => `${op} ${shapes}`);
  const shown = top === undefined ? rows : rows.slice(0, countArg('Profile.table', 'top', top, 1));
  const used = columns.filter(([title]) => {
    if (title === 'device') return new Set(rows.map(({ device }) => device)).size > 1;
    return title !== 'of limit' || rows.some(({ limitShare }) => limitShare !== undefined);
  });
  const text = aligned([used.map(([title]) => title), ...shown.map((row) => used.map(([, cell]) => cell(row)))]);
  return [...text, '', ...notes(profile, rows, rows.length - shown.length)].join('\n');
}
