// What is said of times: shares of limits, ratios to peers, and the machine they were taken on.
import { cpus } from 'node:os';

const arithmetic = ['fma', 'bf16', 'int8'];

/** A rate in its unit; a case without a limit has none. */
export function rateText(limit, rate) {
  if (rate === undefined) return '–';
  return `${(rate / 1e9).toFixed(1)} ${arithmetic.includes(limit) ? 'GFLOP/s' : 'GB/s'}`;
}

/**
 * What a time means for a case.
 *
 * @param milliseconds of one call @param limit name and rate of the limit that bounds it, if any
 */
export function assess({ work }, milliseconds, limit) {
  if (work === undefined || limit === undefined) return {};
  const rate = work / (milliseconds / 1e3);
  return { rate, limit: limit.name, limitRate: limit.rate, share: rate / limit.rate };
}

export function timeText(milliseconds) {
  if (milliseconds < 0.1) return `${(milliseconds * 1e3).toFixed(2)} µs`;
  return `${milliseconds < 1e4 ? milliseconds.toPrecision(4) : milliseconds.toFixed(0)} ms`;
}
export const shareText = ({ share, limit }) =>
  share === undefined ? '–' : `${(100 * share).toFixed(0)} % of ${limit}`;

/** The processor by its name, shortened to what a file's name may hold. */
export function processor() {
  const name = cpus()[0]?.model.trim().replace(/\s+/g, ' ') || process.arch;
  const slug = name
    .toLowerCase()
    .replace(/\((r|tm)\)/g, '')
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-|-$/g, '');
  return { name, slug };
}
