/** How many scores a call of attention sees whose mask says that by its values: counted once the profile has ended. */
import { logicalAnd, narrow, zeros } from '../ops/index.js';
import { visibleIn } from '../ops/attention-reference.js';
import { kernels } from '../ops/kernels.gen.js';
import { Slot } from '../tensor/slot.js';
import { Tensor } from '../tensor/tensor.js';
import { apart } from './apart.js';
import type { StoredKind } from './profile-kinds.js';

/** Scores that are asked about at a time. */
const atOnce = 2 ** 24;
/** Beyond so many the answer would take longer than what was profiled. */
const most = 2 ** 33;

/** The tensor of a handle that belongs to nobody yet. */
function adopted(handle: number, code: number): Tensor {
  const slot = new Slot(code);
  slot.id = handle;
  return new Tensor(slot);
}

/**
 * Takes over what a kind holds of its masks.
 *
 * @returns int64 [], how many of all scores are seen; undefined for what is no attention under such a mask, where the
 *   mask has changed since, or where there are too many scores
 */
export function countVisible(kind: StoredKind): Tensor | undefined {
  const given = (name: 'mask' | 'pattern'): Tensor | undefined => {
    const stored = kind.inputs.find((tensor) => tensor.name === name);
    return stored && kind[name] ? adopted(kind[name], stored.dtype) : undefined;
  };
  const [mask, pattern] = [given('mask'), given('pattern')];
  try {
    const asked = kind.inputs.filter(({ name }) => name === 'mask' || name === 'pattern');
    const attends = kind.inputs[0]?.name === 'q' && asked.length > 0;
    const held = attends && asked.every(({ name }) => kind[name as 'mask' | 'pattern'] !== 0);
    return held ? apart(() => count(kind, mask, pattern)) : undefined;
  } finally {
    mask?.dispose();
    pattern?.dispose();
  }
}

function count(kind: StoredKind, mask: Tensor | undefined, pattern: Tensor | undefined): Tensor | undefined {
  const shape = (name: string): readonly number[] => kind.inputs.find((tensor) => tensor.name === name)!.shape;
  const attribute = (name: string): number => kind.attributes.find(([key]) => key === name)?.[1] ?? 0;
  const [b, h, n] = shape('q') as [number, number, number];
  const m = shape('k')[2]!;
  if (b * h * n * m > most) return undefined;
  const { device } = (mask ?? pattern)!;
  const maskInPattern = attribute('maskInPattern') !== 0;
  const rows = Math.max(1, Math.floor(atOnce / Math.max(1, b * h * m)));
  let sum = zeros([], { dtype: 'int64', device });
  for (let first = 0; first < n; first += rows) {
    const some = Math.min(rows, n - first);
    // Which queries there are is all that is asked of them.
    const q = zeros([b, h, some, 0], { device });
    const part = mask && !maskInPattern && mask.shape[2] !== 1 ? narrow(mask, 2, first, some) : mask;
    const parts = visibleIn({ q, k: q, mask: part, pattern }, { causal: attribute('causal'), maskInPattern }, m, {
      first,
      queries: n,
    });
    const seen = parts.reduce((x, y) => logicalAnd(x, y)).expand([b, h, some, m]);
    sum = sum.add(kernels.countNonzero({ x: seen }, {}).count);
  }
  return sum;
}
