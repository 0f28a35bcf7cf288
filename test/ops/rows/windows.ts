// Where the windows of images are, for the rows of convolutions and columns.
import { indices } from '../nd.js';
import type { ErrorCase } from '../row.js';

export type Size = number | number[];
export interface Steps {
  stride?: Size;
  padding?: Size | 'same' | 'valid';
  dilation?: Size;
  groups?: number;
  outputPadding?: Size;
}
export const along = (size: Size | undefined, i: number, otherwise: number): number =>
  size === undefined ? otherwise : typeof size === 'number' ? size : size[i]!;

/** Zeros before the first element. */
const before = ({ padding = 0, dilation }: Steps, kernel: readonly number[], i: number): number => {
  if (padding === 'valid') return 0;
  return padding === 'same' ? Math.floor((along(dilation, i, 1) * (kernel[i]! - 1)) / 2) : along(padding, i, 0);
};
/** body(place in the image, window) for every tap that is inside of an image of `sizes`, given the windows. */
export function eachTap(
  steps: Steps,
  sizes: readonly number[],
  windows: readonly number[],
  kernel: readonly number[],
  body: (place: number[], window: number[], tap: number[]) => void,
): void {
  for (const window of indices(windows))
    for (const tap of indices(kernel)) {
      const place = window.map(
        (w, i) => w * along(steps.stride, i, 1) + tap[i]! * along(steps.dilation, i, 1) - before(steps, kernel, i),
      );
      if (place.every((p, i) => p >= 0 && p < sizes[i]!)) body(place, [...window], [...tap]);
    }
}
export const offset = (shape: readonly number[], at: readonly number[]): number =>
  at.reduce((sum, index, i) => sum * shape[i]! + index, 0);

const span = (kernel: number, dilation: number): number => dilation * (kernel - 1) + 1;
export function windowsOf(steps: Steps, sizes: readonly number[], kernel: readonly number[]): number[] {
  if (steps.padding === 'same') return [...sizes];
  return sizes.map((n, i) => {
    const room = n + 2 * before(steps, kernel, i) - span(kernel[i]!, along(steps.dilation, i, 1));
    return Math.floor(room / along(steps.stride, i, 1)) + 1;
  });
}
export function imageOf(steps: Steps, windows: readonly number[], kernel: readonly number[]): number[] {
  return windows.map(
    (n, i) =>
      (n - 1) * along(steps.stride, i, 1) -
      2 * before(steps, kernel, i) +
      span(kernel[i]!, along(steps.dilation, i, 1)) +
      along(steps.outputPadding, i, 0),
  );
}

export const refused = (label: string, run: () => unknown, code: string, mentions: RegExp): ErrorCase => ({
  label,
  run,
  code,
  mentions,
});
