/**
 * Sequences of unequal lengths in one tensor without padding, as in `torch.nn.utils.rnn`: the rows of step 0 of all
 * sequences, the longest first, then those of step 1 of all that have one, and so on.
 *
 *   lengths 3 1 2  →  sorted 3 2 1  →  batchSizes 3 2 1,  data  a0 c0 b0  a1 c1  a2
 */
import { concat, indexSelect, maskedFill, tensor } from '../ops/index.js';
import { argumentError, countArg, numberArg, optionsArg, shapeError } from '../tensor/check.js';
import { isTensor, slotOf, type Tensor } from '../tensor/tensor.js';

/** How a batch of sequences lies beside its padding. */
export interface BatchOptions {
  /** [batch, length, ...] if true; [length, batch, ...] (the default) if not. */
  batchFirst?: boolean;
}
/** Options of {@link packPaddedSequence}. */
export interface PackPaddedOptions extends BatchOptions {
  /** Whether sequences that do not come longest first are refused (default true) instead of being sorted. */
  enforceSorted?: boolean;
}
/** Options of {@link packSequence}. */
export type PackOptions = Pick<PackPaddedOptions, 'enforceSorted'>;
/** Options of {@link padSequence}. */
export interface PadOptions extends BatchOptions {
  /** What fills the places behind a sequence (default 0). */
  paddingValue?: number;
  /** The side that is padded (default 'right'). */
  paddingSide?: 'right' | 'left';
}
/** Options of {@link padPackedSequence}. */
export interface PadPackedOptions extends Omit<PadOptions, 'paddingSide'> {
  /** Length of the result, at least that of the longest sequence (default: that). */
  totalLength?: number;
}
/** Lengths of sequences: numbers, or a tensor of integers [batch], which is read and so waited for. */
export type Lengths = readonly number[] | Tensor;

/**
 * What {@link packPaddedSequence} and {@link packSequence} make, and recurrent layers take and give. Sizes and indices
 * are numbers on the host, since loops run over them.
 */
export class PackedSequence {
  /** [sum of batchSizes, ...]: all rows, step by step. */
  readonly data: Tensor;
  /** Rows of each step; they never grow. */
  readonly batchSizes: readonly number[];
  /** Where each sequence, longest first, was before; undefined where none was moved. */
  readonly sortedIndices: readonly number[] | undefined;
  /** The way back: where each sequence went. */
  readonly unsortedIndices: readonly number[] | undefined;

  /**
   * @param sortedIndices a permutation of the sequences
   * @throws FOVEA_ARGUMENT for sizes that grow or are 0, or indices that are no permutation; FOVEA_SHAPE for as many
   *   rows as the sizes do not add up to
   */
  constructor(data: Tensor, batchSizes: readonly number[], sortedIndices?: readonly number[]) {
    const { shape } = slotOf(data, 'PackedSequence', 'data');
    if (!Array.isArray(batchSizes) || batchSizes.length === 0)
      throw argumentError('PackedSequence', 'batchSizes', 'a list of at least one size', batchSizes);
    const sizes = batchSizes as readonly number[];
    sizes.forEach((size, t) => {
      if (countArg('PackedSequence', `batchSizes[${t}]`, size, 1) > (sizes[t - 1] ?? size))
        throw argumentError('PackedSequence', 'batchSizes', 'sizes that never grow', sizes);
    });
    const rows = sizes.reduce((sum, size) => sum + size, 0);
    if (shape[0] !== rows)
      throw shapeError('PackedSequence', `batchSizes add up to ${rows} rows, but data is [${shape.join(',')}]`);
    this.data = data;
    this.batchSizes = batchSizes;
    this.sortedIndices = sortedIndices;
    this.unsortedIndices = sortedIndices && inverse(sortedIndices, batchSizes[0]);
  }

  /** Lengths of the sequences, in the order before sorting. */
  get lengths(): number[] {
    const sorted = Array.from({ length: this.batchSizes[0]! }, (_, b) => lengthIn(this.batchSizes, b));
    return this.unsortedIndices ? this.unsortedIndices.map((at) => sorted[at]!) : sorted;
  }

  /** The same sequences with other rows. @param data [rows, ...] */
  withData(data: Tensor): PackedSequence {
    return new PackedSequence(data, this.batchSizes, this.sortedIndices);
  }
}

function inverse(order: readonly number[], count: number): number[] {
  const back = new Array<number>(count).fill(-1);
  if (Array.isArray(order)) order.forEach((from, to) => (back[from] = to));
  if (!Array.isArray(order) || order.length !== count || back.length !== count || back.includes(-1))
    throw argumentError('PackedSequence', 'sortedIndices', `a permutation of ${count} sequences`, order);
  return back;
}
/** Steps in which the sequence at place `b`, longest first, has a row. */
function lengthIn(batchSizes: readonly number[], b: number): number {
  const end = batchSizes.findIndex((size) => size <= b);
  return end < 0 ? batchSizes.length : end;
}

/** Lengths as numbers of at least 1. @throws FOVEA_ARGUMENT for others, or for none */
function lengthsArg(op: string, lengths: Lengths): number[] {
  if (isTensor(lengths)) slotOf(lengths, op, 'lengths');
  const list: unknown = isTensor(lengths) && lengths.rank === 1 ? Array.from(lengths.dataSync(), Number) : lengths;
  if (!Array.isArray(list) || list.length === 0)
    throw argumentError(op, 'lengths', 'a list of at least one length, or a tensor [batch]', lengths);
  (list as unknown[]).forEach((length, i) => countArg(op, `lengths[${i}]`, length, 1));
  return list as number[];
}

/** The order of sequences, longest first; undefined if they lie so. */
function sortedBy(op: string, lengths: readonly number[], enforceSorted: boolean): number[] | undefined {
  const at = lengths.findIndex((length, i) => i > 0 && length > lengths[i - 1]!);
  if (at < 0 && enforceSorted) return undefined;
  if (enforceSorted)
    throw argumentError(
      op,
      'lengths',
      'lengths from the longest to the shortest',
      lengths,
      `length ${lengths[at]} stands behind ${lengths[at - 1]}: pass { enforceSorted: false } to have them sorted`,
    );
  return lengths.map((_, i) => i).sort((a, b) => lengths[b]! - lengths[a]!);
}

/** Sequences packed out of rows, the row of step t of sequence b being rowOf(t, b). */
function pack(
  op: string,
  rows: Tensor,
  lengths: readonly number[],
  enforceSorted: boolean,
  rowOf: (t: number, b: number) => number,
): PackedSequence {
  const sorted = sortedBy(op, lengths, enforceSorted);
  const order = sorted ?? lengths.map((_, i) => i);
  const batchSizes: number[] = [];
  const index: number[] = [];
  for (let t = 0; t < lengths[order[0]!]!; t++) {
    const longer = order.filter((b) => lengths[b]! > t);
    batchSizes.push(longer.length);
    for (const b of longer) index.push(rowOf(t, b));
  }
  return new PackedSequence(indexSelect(rows, 0, indices(index, rows)), batchSizes, sorted);
}
const indices = (list: readonly number[], { device }: Tensor): Tensor => tensor(Int32Array.from(list), { device });

/** Rows at their places in [length, batch, ...] or [batch, length, ...]; rowOf gives -1 for padding. */
function padded(
  rows: Tensor,
  [length, batch]: [number, number],
  { batchFirst = false, paddingValue = 0 }: PadOptions,
  rowOf: (t: number, b: number) => number,
): Tensor {
  const shape = batchFirst ? [batch, length] : [length, batch];
  const index = Array.from({ length: length * batch }, (_, i) =>
    batchFirst ? rowOf(i % length, Math.floor(i / length)) : rowOf(Math.floor(i / batch), i % batch),
  );
  const inner = rows.shape.slice(1);
  const picked = indexSelect(
    rows,
    0,
    indices(
      index.map((row) => Math.max(row, 0)),
      rows,
    ),
  ).reshape([...shape, ...inner]);
  if (!index.includes(-1)) return picked;
  const empty = tensor(
    Uint8Array.from(index, (row) => Number(row < 0)),
    { dtype: 'bool', device: rows.device },
  ).reshape([...shape, ...inner.map(() => 1)]);
  return maskedFill(picked, empty, paddingValue);
}

function optionsOf<T extends PadOptions>(op: string, options: T | undefined, known: readonly (keyof T & string)[]): T {
  const checked = optionsArg(op, options, known);
  if (checked.paddingValue !== undefined) numberArg(op, 'paddingValue', checked.paddingValue);
  return checked;
}

/**
 * Packs a padded batch.
 *
 * @param input [length, batch, ...], or [batch, length, ...] with `batchFirst`
 * @param lengths of the sequences, each from 1 to the length of `input`
 * @returns the sequences, sorted by length
 * @throws FOVEA_ARGUMENT for lengths that do not fit, or that are not sorted under `enforceSorted`; FOVEA_SHAPE for
 *   fewer than two axes
 */
export function packPaddedSequence(input: Tensor, lengths: Lengths, options?: PackPaddedOptions): PackedSequence {
  const op = 'packPaddedSequence';
  const { batchFirst = false, enforceSorted = true } = optionsArg(op, options, ['batchFirst', 'enforceSorted']);
  const { shape } = slotOf(input, op, 'input');
  if (shape.length < 2) throw shapeError(op, `expected input [length, batch, ...], received [${shape.join(',')}]`);
  const [length, batch] = (batchFirst ? [shape[1], shape[0]] : shape) as [number, number];
  const list = lengthsArg(op, lengths);
  if (list.length !== batch) throw argumentError(op, 'lengths', `${batch} lengths, one for each sequence`, list);
  const tooLong = list.find((each) => each > length);
  if (tooLong !== undefined) throw argumentError(op, 'lengths', `lengths of at most ${length}`, tooLong);
  const rows = input.reshape([length * batch, ...shape.slice(2)]);
  return pack(op, rows, list, enforceSorted, (t, b) => (batchFirst ? b * length + t : t * batch + b));
}

/**
 * Packs a list of sequences.
 *
 * @param sequences at least one, [length, ...] each
 * @returns the sequences, sorted by length
 * @throws FOVEA_ARGUMENT for an empty list or sequence, or sequences that are not sorted under `enforceSorted`;
 *   FOVEA_SHAPE for rows of different shapes
 */
export function packSequence(sequences: readonly Tensor[], options?: PackOptions): PackedSequence {
  const op = 'packSequence';
  const { enforceSorted = true } = optionsArg(op, options, ['enforceSorted']);
  const { rows, lengths, starts } = joined(op, sequences);
  lengthsArg(op, lengths);
  return pack(op, rows, lengths, enforceSorted, (t, b) => starts[b]! + t);
}

/** All rows of some sequences, one sequence after the other. */
function joined(op: string, sequences: readonly Tensor[]): { rows: Tensor; lengths: number[]; starts: number[] } {
  if (!Array.isArray(sequences) || sequences.length === 0)
    throw argumentError(op, 'sequences', 'a list of at least one tensor', sequences);
  const shapes = (sequences as readonly Tensor[]).map((x, i) => slotOf(x, op, `sequences[${i}]`).shape);
  shapes.forEach((shape, i) => {
    if (shape.length === 0 || shape.slice(1).join() !== shapes[0]!.slice(1).join())
      throw shapeError(
        op,
        `expected sequences [length,${shapes[0]!.slice(1).join(',')}], received sequences[${i}] [${shape.join(',')}]`,
      );
  });
  const lengths = shapes.map(([length]) => length!);
  let end = 0;
  const starts = lengths.map((length) => (end += length) - length);
  return { rows: concat(sequences), lengths, starts };
}

/**
 * Puts sequences side by side, the shorter ones padded.
 *
 * @param sequences at least one, [length, ...] each
 * @returns [longest, batch, ...], or [batch, longest, ...] with `batchFirst`
 * @throws FOVEA_ARGUMENT for an empty list or options out of range, FOVEA_SHAPE for rows of different shapes
 */
export function padSequence(sequences: readonly Tensor[], options?: PadOptions): Tensor {
  const op = 'padSequence';
  const given = optionsOf(op, options, ['batchFirst', 'paddingValue', 'paddingSide']);
  const { paddingSide = 'right' } = given;
  if (paddingSide !== 'right' && paddingSide !== 'left')
    throw argumentError(op, 'paddingSide', "'right' or 'left'", paddingSide);
  const { rows, lengths, starts } = joined(op, sequences);
  const longest = Math.max(...lengths);
  if (longest === 0) throw argumentError(op, 'sequences', 'at least one row', sequences);
  return padded(rows, [longest, lengths.length], given, (t, b) => {
    const at = paddingSide === 'right' ? t : t - (longest - lengths[b]!);
    return at < 0 || at >= lengths[b]! ? -1 : starts[b]! + at;
  });
}

/**
 * Unpacks into a padded batch, in the order before sorting.
 *
 * @returns [length, batch, ...], or [batch, length, ...] with `batchFirst`, and the lengths
 * @throws FOVEA_ARGUMENT for what is no PackedSequence, or a `totalLength` below that of the longest
 */
export function padPackedSequence(
  sequence: PackedSequence,
  options?: PadPackedOptions,
): [padded: Tensor, lengths: number[]] {
  const op = 'padPackedSequence';
  const given = optionsOf(op, options, ['batchFirst', 'paddingValue', 'totalLength']);
  if (!(sequence instanceof PackedSequence)) throw argumentError(op, 'sequence', 'a PackedSequence', sequence);
  const { data, batchSizes, unsortedIndices } = sequence;
  const longest = batchSizes.length;
  const { totalLength = longest } = given;
  countArg(op, 'totalLength', totalLength, longest);
  let end = 0;
  const starts = batchSizes.map((size) => (end += size) - size);
  const rows = padded(data, [totalLength, batchSizes[0]!], given, (t, b) => {
    const at = unsortedIndices ? unsortedIndices[b]! : b;
    return t < longest && at < batchSizes[t]! ? starts[t]! + at : -1;
  });
  return [rows, sequence.lengths];
}

/**
 * The sequences of a PackedSequence, in the order before sorting.
 *
 * @returns [length, ...] each
 * @throws FOVEA_ARGUMENT for what is no PackedSequence
 */
export function unpackSequence(sequence: PackedSequence): Tensor[] {
  if (!(sequence instanceof PackedSequence))
    throw argumentError('unpackSequence', 'sequence', 'a PackedSequence', sequence);
  const [rows, lengths] = padPackedSequence(sequence, { batchFirst: true });
  return unpadSequence(rows, lengths, { batchFirst: true });
}

/**
 * The sequences of a padded batch.
 *
 * @param input [length, batch, ...], or [batch, length, ...] with `batchFirst`
 * @param lengths one for each sequence
 * @returns views [length, ...]
 * @throws FOVEA_ARGUMENT for lengths that do not fit, FOVEA_SHAPE for fewer than two axes
 */
export function unpadSequence(input: Tensor, lengths: Lengths, options?: BatchOptions): Tensor[] {
  const op = 'unpadSequence';
  const { batchFirst = false } = optionsArg(op, options, ['batchFirst']);
  const { shape } = slotOf(input, op, 'input');
  if (shape.length < 2) throw shapeError(op, `expected input [length, batch, ...], received [${shape.join(',')}]`);
  const list = lengthsArg(op, lengths);
  const sequences = input.unbind(batchFirst ? 0 : 1);
  if (list.length !== sequences.length)
    throw argumentError(op, 'lengths', `${sequences.length} lengths, one for each sequence`, list);
  return sequences.map((x, b) => {
    if (list[b]! > x.shape[0]!) throw argumentError(op, `lengths[${b}]`, `at most ${x.shape[0]}`, list[b]);
    return x.narrow(0, 0, list[b]!);
  });
}
