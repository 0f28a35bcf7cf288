/**
 * Packing: sequences one behind another in rows of a fixed length, so that next to nothing is computed for padding.
 * Under `mask.documents(documentIds)`, with positions that begin anew and labels that do not cross sequences, each
 * sequence gives what it gives alone.
 *
 *   inputIds     a a a b b c c c c .
 *   documentIds  0 0 0 1 1 2 2 2 2 -1
 *   positionIds  0 1 2 0 1 0 1 2 3 0
 *   labels       · a a · b · c c c ·      (· = ignoreIndex: what precedes a sequence does not predict its first token)
 *   cuSeqlens    0 3 5 9 10
 */
import * as masks from '../../ops/mask-kinds.js';
import type { Mask } from '../../ops/mask.js';
import { argumentError, countArg, optionsArg } from '../../tensor/check.js';
import type { Tensor } from '../../tensor/tensor.js';
import type { Collator } from './batch-reader.js';
import { type TokenItem, tokenItemsArg } from './collate.js';
import { FreeSpace } from './free-space.js';
import { int64Rows, padOptionsArg, type Tokens, tokensArg } from './tokens.js';

/** Options of {@link packSequences}. */
export interface PackOptions {
  /** Fills what is left of a row. */
  padId: number;
  /**
   * 'bestFit' (default) puts each sequence, the longest first, where the least room is left for it (best-fit
   * decreasing, Ding et al. 2024, https://arxiv.org/abs/2404.10830); 'inOrder' keeps the order and begins a row when
   * the next sequence does not fit.
   */
  order?: 'bestFit' | 'inOrder';
  /** Whether a sequence longer than a row is cut into pieces, each as a sequence of its own, or an error (default). */
  split?: boolean;
  /** The label that does not count (default -100). */
  ignoreIndex?: number;
}

/** Where a sequence, or a piece of one, went. */
export interface PackedPiece {
  /** Which sequence. */
  sequence: number;
  /** Its first token in the sequence. */
  start: number;
  /** How many tokens. */
  length: number;
  /** Where it begins in its row. */
  column: number;
}

/** Sequences in rows. */
export interface PackedSequences {
  /** int64 [rows, length]. */
  inputIds: Tensor;
  /** int64 [rows, length]: the tokens; `ignoreIndex` at the first of each piece and for padding. */
  labels: Tensor;
  /** int64 [rows, length]: from 0 in each piece. */
  positionIds: Tensor;
  /** int64 [rows, length]: number of the piece in its row, -1 for padding; for `mask.documents`. */
  documentIds: Tensor;
  /** Of each row, where its pieces begin, and its end, padding as one more piece; for `mask.cuSeqlens`. */
  cuSeqlens: number[][];
  /** What is in each row. */
  pieces: PackedPiece[][];
}

type Piece = Omit<PackedPiece, 'column'>;

/** Sequences as pieces that fit into a row. */
function piecesOf(op: string, sequences: readonly number[][], length: number, split: boolean): Piece[] {
  return sequences.flatMap((tokens, sequence) => {
    if (tokens.length > length && !split)
      throw argumentError(
        op,
        `sequences[${sequence}]`,
        `at most ${length} tokens, a row`,
        tokens.length,
        'pass split: true to cut it, or use longer rows',
      );
    return Array.from({ length: Math.ceil(tokens.length / length) }, (_, i) => ({
      sequence,
      start: i * length,
      length: Math.min(length, tokens.length - i * length),
    }));
  });
}

/** Pieces in their order; a row ends where the next piece does not fit. */
function rowsInOrder(pieces: readonly Piece[], length: number): Piece[][] {
  const rows: Piece[][] = [];
  let left = 0;
  for (const piece of pieces) {
    if (piece.length > left) {
      rows.push([]);
      left = length;
    }
    rows.at(-1)!.push(piece);
    left -= piece.length;
  }
  return rows;
}

/** Long pieces first, each into the row with the least room that is enough. */
function rowsBestFit(pieces: readonly Piece[], length: number): Piece[][] {
  const rows: Piece[][] = [];
  const free = new FreeSpace(length);
  for (const piece of [...pieces].sort((a, b) => b.length - a.length)) {
    const found = free.take(piece.length) ?? { row: rows.push([]) - 1, room: length };
    rows[found.row]!.push(piece);
    free.put(found.row, found.room - piece.length);
  }
  return rows;
}

function withColumns(row: readonly Piece[]): PackedPiece[] {
  let column = 0;
  return row.map((piece) => {
    column += piece.length;
    return { ...piece, column: column - piece.length };
  });
}

/** A sequence, and what has to be predicted of it. */
interface Labelled {
  ids: number[];
  labels?: number[] | undefined;
}

/** Rows of pieces. */
interface PackedRows {
  pieces: PackedPiece[][];
  inputIds: Tensor;
  labels: Tensor;
  positionIds: Tensor;
  /** As {@link PackedSequences.documentIds}, of the host. */
  documents: number[][];
}

/** Writes the rows. */
function write(
  sequences: readonly Labelled[],
  pieces: PackedPiece[][],
  length: number,
  { padId, ignoreIndex }: { padId: number; ignoreIndex: number },
): PackedRows {
  const filled = (value: number): Int32Array => new Int32Array(pieces.length * length).fill(value);
  const [inputIds, labels, positionIds] = [filled(padId), filled(ignoreIndex), filled(0)];
  for (const [r, row] of pieces.entries()) {
    for (const piece of row) {
      const begin = r * length + piece.column;
      const [start, end] = [piece.start, piece.start + piece.length];
      const { ids, labels: own = ids } = sequences[piece.sequence]!;
      inputIds.set(ids.slice(start, end), begin);
      labels.set(own.slice(start + 1, end), begin + 1);
      for (let i = 0; i < piece.length; i++) positionIds[begin + i] = i;
    }
  }
  const rows = pieces.length;
  return {
    pieces,
    inputIds: int64Rows(inputIds, rows),
    labels: int64Rows(labels, rows),
    positionIds: int64Rows(positionIds, rows),
    documents: pieces.map((row) => documentsOf(row, length)),
  };
}

/** Numbers of the pieces of a row, by token. */
function documentsOf(row: readonly PackedPiece[], length: number): number[] {
  const documents = new Array<number>(length).fill(-1);
  for (const [i, piece] of row.entries()) documents.fill(i, piece.column, piece.column + piece.length);
  return documents;
}

function offsetsOf(row: readonly PackedPiece[], length: number): number[] {
  const ends = row.map((piece) => piece.column + piece.length);
  return [0, ...ends, ...(ends.at(-1)! < length ? [length] : [])];
}

/** What of the options does not depend on the sequences, checked. */
function packOptionsArg(op: string, given: PackOptions): Required<PackOptions> {
  const { order = 'bestFit', split = false, padId, ignoreIndex = -100 } = given;
  const fill = padOptionsArg(op, { padId, ignoreIndex });
  if (order !== 'bestFit' && order !== 'inOrder') throw argumentError(op, 'order', "'bestFit' or 'inOrder'", order);
  if (typeof split !== 'boolean') throw argumentError(op, 'split', 'true or false', split);
  return { padId: fill.padId, ignoreIndex: fill.ignoreIndex, order, split };
}

function pack(op: string, sequences: readonly Labelled[], length: number, options: Required<PackOptions>): PackedRows {
  const ids = sequences.map((sequence) => sequence.ids);
  const parts = piecesOf(op, ids, length, options.split);
  const rows = options.order === 'bestFit' ? rowsBestFit(parts, length) : rowsInOrder(parts, length);
  return write(sequences, rows.map(withColumns), length, options);
}

const optionNames = ['padId', 'order', 'split', 'ignoreIndex'] as const;

/**
 * Packs sequences into rows. Compute the loss with labels that the model moves by one, as `GPT2LMHeadModel` does.
 *
 * @param sequences of tokens, at least one, none empty
 * @param length of a row, from 1
 * @throws FOVEA_ARGUMENT for anything else, and for a sequence that is longer than a row unless `split` is given
 */
export function packSequences(sequences: readonly Tokens[], length: number, options: PackOptions): PackedSequences {
  const op = 'packSequences';
  const given = packOptionsArg(op, optionsArg(op, options, optionNames));
  countArg(op, 'length', length, 1);
  if (!Array.isArray(sequences) || sequences.length === 0)
    throw argumentError(op, 'sequences', 'a list of at least one sequence', sequences);
  const checked = sequences.map((sequence, i) => ({ ids: tokensArg(op, `sequences[${i}]`, sequence) }));
  const { documents, ...packed } = pack(op, checked, length, given);
  return {
    ...packed,
    documentIds: int64Rows(Int32Array.from(documents.flat()), documents.length),
    cuSeqlens: packed.pieces.map((row) => offsetsOf(row, length)),
  };
}

/** Packed sequences as `forward` of a language model takes them. */
export interface PackedBatch {
  /** int64 [rows, length]. */
  inputIds: Tensor;
  /** int64 [rows, length]; `ignoreIndex` at the first token of each piece, for padding, and where nothing has to be. */
  labels: Tensor;
  /** int64 [rows, length]: from 0 in each piece. */
  positionIds: Tensor;
  /** `mask.documents` of the pieces, on any device. */
  mask: Mask;
}

/** Options of {@link packedCausalLMCollator}. */
export interface PackedCausalLMCollatorOptions extends PackOptions {
  /** Tokens of a row. */
  length: number;
}

/**
 * Predicting each token from those before it in its sequence, as `causalLMCollator`, but with the sequences of a batch
 * packed into rows. The loss is the mean over all tokens that are predicted; where batches are accumulated, the first
 * token of each piece is not one of them.
 *
 * @example
 * const collate = packedCausalLMCollator({ padId: 0, length: 1024 });
 * const { loss } = model.forward(collate([[5, 6, 7], [8, 9]]));
 * @returns a collate function, which throws FOVEA_ARGUMENT for items that are no tokens, or longer than a row unless
 *   `split` is given, FOVEA_SHAPE for labels that are not as many as the tokens
 * @throws FOVEA_ARGUMENT for options out of range
 */
export function packedCausalLMCollator(options: PackedCausalLMCollatorOptions): Collator<TokenItem, PackedBatch> {
  const op = 'packedCausalLMCollator';
  const given = optionsArg(op, options, [...optionNames, 'length']);
  const length = countArg(op, 'length', given.length, 1);
  const packing = packOptionsArg(op, given);
  return (items) => {
    const checked = tokenItemsArg(op, items, packing.ignoreIndex);
    const { inputIds, labels, positionIds, documents } = pack(op, checked, length, packing);
    return { inputIds, labels, positionIds, mask: masks.documents(documents) };
  };
}
