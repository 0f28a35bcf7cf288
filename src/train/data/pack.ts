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
import { argumentError, countArg, optionsArg } from '../../tensor/check.js';
import type { Tensor } from '../../tensor/tensor.js';
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

/** Writes the rows into four arrays. */
function write(
  sequences: readonly number[][],
  pieces: readonly PackedPiece[][],
  length: number,
  { padId, ignoreIndex }: { padId: number; ignoreIndex: number },
): Pick<PackedSequences, 'inputIds' | 'labels' | 'positionIds' | 'documentIds'> {
  const filled = (value: number): Int32Array => new Int32Array(pieces.length * length).fill(value);
  const [inputIds, labels, positionIds, documentIds] = [filled(padId), filled(ignoreIndex), filled(0), filled(-1)];
  for (const [r, row] of pieces.entries()) {
    for (const [document, piece] of row.entries()) {
      const begin = r * length + piece.column;
      const tokens = sequences[piece.sequence]!.slice(piece.start, piece.start + piece.length);
      inputIds.set(tokens, begin);
      labels.set(tokens.slice(1), begin + 1);
      for (let i = 0; i < piece.length; i++) positionIds[begin + i] = i;
      documentIds.fill(document, begin, begin + piece.length);
    }
  }
  const rows = pieces.length;
  return {
    inputIds: int64Rows(inputIds, rows),
    labels: int64Rows(labels, rows),
    positionIds: int64Rows(positionIds, rows),
    documentIds: int64Rows(documentIds, rows),
  };
}

function offsetsOf(row: readonly PackedPiece[], length: number): number[] {
  const ends = row.map((piece) => piece.column + piece.length);
  return [0, ...ends, ...(ends.at(-1)! < length ? [length] : [])];
}

/**
 * Packs sequences into rows. Compute the loss with labels that the model moves by one, as `GPT2LMHeadModel` does.
 *
 * @param sequences of tokens, at least one, none empty
 * @param length of a row, from 1
 * @throws FOVEA_ARGUMENT for anything else, and for a sequence that is longer than a row unless `split` is given
 */
export function packSequences(sequences: readonly Tokens[], length: number, options: PackOptions): PackedSequences {
  const op = 'packSequences';
  const given = optionsArg(op, options, ['padId', 'order', 'split', 'ignoreIndex']);
  const { order = 'bestFit', split = false, padId, ignoreIndex = -100 } = given;
  const fill = padOptionsArg(op, { padId, ignoreIndex });
  if (order !== 'bestFit' && order !== 'inOrder') throw argumentError(op, 'order', "'bestFit' or 'inOrder'", order);
  if (typeof split !== 'boolean') throw argumentError(op, 'split', 'true or false', split);
  countArg(op, 'length', length, 1);
  if (!Array.isArray(sequences) || sequences.length === 0)
    throw argumentError(op, 'sequences', 'a list of at least one sequence', sequences);
  const tokens = sequences.map((sequence, i) => tokensArg(op, `sequences[${i}]`, sequence));
  const parts = piecesOf(op, tokens, length, split);
  const rows = order === 'bestFit' ? rowsBestFit(parts, length) : rowsInOrder(parts, length);
  const pieces = rows.map(withColumns);
  return {
    ...write(tokens, pieces, length, fill),
    cuSeqlens: pieces.map((row) => offsetsOf(row, length)),
    pieces,
  };
}
