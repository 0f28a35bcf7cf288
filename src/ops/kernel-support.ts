/** What the generated kernel stubs call. */
import { native } from '../addon.js';
import { FoveaError } from '../errors.js';
import { argumentError } from '../tensor/check.js';
import { live, slotOf, type Tensor } from '../tensor/tensor.js';

interface Described {
  name: string;
  axes: string;
  types: string;
  devices?: string[];
}
let described: readonly Described[] | null = null;
/** The ops of the binary, in the order of their numbers. @returns names, signatures and devices */
export function describedOps(): readonly Described[] {
  return (described ??= JSON.parse(native.describe()) as Described[]);
}

/**
 * Op numbers are places in the list of signatures, so the binary must have the same list.
 *
 * @param signatures [axes, types] by name, in order
 * @throws FOVEA_BINARY if it has another
 */
export function checkBinary(signatures: Readonly<Record<string, readonly [string, string]>>): void {
  const expected = Object.entries(signatures);
  const found = describedOps();
  for (let i = 0; i < Math.max(expected.length, found.length); i++) {
    const [name, rules] = expected[i] ?? ['nothing', ['', '']];
    const op = found[i];
    if (op?.name === name && op.axes === rules[0] && op.types === rules[1]) continue;
    throw new FoveaError(
      'FOVEA_BINARY',
      `load: op ${i} is ${op?.name ?? 'missing'} in the binary but ${name} in the generated stubs, or their signatures differ; run \`npm run build\`, then \`npm run gen\``,
    );
  }
}

/**
 * Handles of an op over many tensors, tuple by tuple, from columns of equal length.
 *
 * @param columns lists of tensors, or undefined for an input left out, of all tuples or of one
 * @returns columns.length handles for each tensor of the first column; 0 for an input left out
 * @throws FOVEA_ARGUMENT for columns of unequal length
 */
export function rows(
  op: string,
  columns: readonly (readonly (Tensor | undefined)[] | undefined)[],
  names: readonly string[],
): Int32Array {
  const first = columns[0];
  if (!Array.isArray(first)) throw argumentError(op, names[0]!, 'a list of tensors', first);
  const count = first.length;
  const handles = new Int32Array(count * columns.length);
  columns.forEach((column, c) => {
    if (column === undefined) return;
    if (!Array.isArray(column) || column.length !== count)
      throw argumentError(op, names[c]!, `a list of ${count} tensors, as many as ${names[0]} has`, column);
    for (const [i, tensor] of column.entries())
      if (tensor !== undefined) handles[i * columns.length + c] = slotOf(tensor, op, `${names[c]}[${i}]`).id;
  });
  return handles;
}

/** Counts a write in place to each. */
export function touchAll(tensors: readonly (Tensor | undefined)[] | undefined): void {
  if (tensors) for (const t of tensors) if (t) live(t).touch();
}
