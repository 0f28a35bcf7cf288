/** Arithmetic of shapes and strides; nothing here touches a tensor. */

/** Sizes, outermost first. */
export type Shape = readonly number[];

/** The number of elements: the product of the sizes, 1 for []. */
export function sizeOf(shape: Shape): number {
  let size = 1;
  for (let i = 0; i < shape.length; i++) size *= shape[i]!;
  return size;
}

/** Row-major strides. @returns elements between neighbours along each axis */
export function denseStrides(shape: Shape): number[] {
  const strides = new Array<number>(shape.length);
  for (let i = shape.length - 1, step = 1; i >= 0; i--) {
    strides[i] = step;
    step *= shape[i]!;
  }
  return strides;
}

/** Whether the elements lie row-major without gaps; strides of axes of size 1 do not matter. */
export function isDense(shape: Shape, strides: Shape): boolean {
  for (let i = shape.length - 1, step = 1; i >= 0; i--) {
    const n = shape[i]!;
    if (n === 0) return true;
    if (n !== 1 && strides[i] !== step) return false;
    step *= n;
  }
  return true;
}

/** Whether two shapes are equal. */
export function sameShape(a: Shape, b: Shape): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** The shape that NumPy's rule broadcasts both to. @returns sizes, or null where they do not fit */
export function broadcastShapes(a: Shape, b: Shape): number[] | null {
  const rank = Math.max(a.length, b.length);
  const shape = new Array<number>(rank);
  for (let i = 1; i <= rank; i++) {
    const m = a[a.length - i] ?? 1;
    const n = b[b.length - i] ?? 1;
    if (m !== n && m !== 1 && n !== 1) return null;
    shape[rank - i] = m === 1 ? n : m;
  }
  return shape;
}

/**
 * Strides that show the elements under another shape of the same size without copying: runs of axes that lie behind
 * each other in memory may be cut anew, others not.
 *
 * @param strides in elements, of `shape`
 * @returns the strides of `wanted`, or null where none do
 */
export function stridesUnder(shape: Shape, strides: Shape, wanted: Shape): number[] | null {
  if (sizeOf(shape) === 0) return denseStrides(wanted);
  const result = new Array<number>(wanted.length).fill(1);
  let next = wanted.length - 1;
  for (let last = shape.length - 1; last >= 0; last--) {
    let run = shape[last]!;
    let step = strides[last]!;
    if (run === 1) continue;
    const base = step;
    while (last > 0 && (shape[last - 1] === 1 || strides[last - 1] === run * base)) run *= shape[--last]!;
    for (let covered = 1; covered < run; next--) {
      if (next < 0) return null;
      result[next] = step;
      covered *= wanted[next]!;
      step *= wanted[next]!;
      if (run % covered !== 0) return null;
    }
  }
  return result;
}

/** [0, 1, …, n - 1] */
export function range(n: number): number[] {
  const list = new Array<number>(n);
  for (let i = 0; i < n; i++) list[i] = i;
  return list;
}
