/**
 * The linear sum assignment problem: which column each row takes, none twice, so that the sum of the costs is least.
 *
 * Shortest augmenting paths (Jonker & Volgenant 1987, https://doi.org/10.1007/BF02278710, in the form of Crouse 2016,
 * https://doi.org/10.1109/TAES.2016.140952): rows are added one by one, each along the path of least reduced cost
 * c[i][j] - u[i] - v[j] to a column that nobody holds, which Dijkstra's algorithm finds since reduced costs are never
 * negative. O(r² c) for r rows of c ≥ r columns.
 */
import { argumentError, optionsArg, shapeError } from '../../tensor/check.js';
import { FoveaError } from '../../errors.js';

/** Options of {@link linearSumAssignment}. */
export interface LinearSumAssignmentOptions {
  /** Whether the sum is to be the largest; default false. */
  maximize?: boolean;
}
/** Pairs of a row and a column each, by rows in rising order. */
export interface Assignment {
  /** min(r, c) rows. */
  rows: number[];
  /** The column of each. */
  columns: number[];
}

/** The costs in one row, row by row. @throws FOVEA_SHAPE for rows of unequal lengths, FOVEA_ARGUMENT, FOVEA_NAN */
function flattened(
  cost: readonly ArrayLike<number>[],
  sign: number,
): { flat: Float64Array; rows: number; columns: number } {
  const op = 'linearSumAssignment';
  if (!Array.isArray(cost)) throw argumentError(op, 'cost', 'a list of rows', cost);
  const rows = cost as readonly ArrayLike<number>[];
  const columns = rows[0]?.length ?? 0;
  const flat = new Float64Array(rows.length * columns);
  rows.forEach((row, i) => {
    if (row === null || typeof row !== 'object' || typeof row.length !== 'number')
      throw argumentError(op, `cost[${i}]`, 'a list of numbers', row);
    if (row.length !== columns)
      throw shapeError(op, `expected rows of ${columns} costs as the first, received ${row.length} in row ${i}`);
    for (let j = 0; j < columns; j++) {
      const value: unknown = row[j];
      if (typeof value !== 'number') throw argumentError(op, `cost[${i}][${j}]`, 'a number', value);
      // An infinite gain would win against any other, so that no sum were the least.
      if (Number.isNaN(value) || sign * value === -Infinity)
        throw new FoveaError(
          'FOVEA_NAN',
          `${op}: expected costs that are numbers, or ${sign * Infinity} where a pair is ruled out, received ${value} for row ${i} and column ${j}`,
        );
      flat[i * columns + j] = sign * value;
    }
  });
  return { flat, rows: rows.length, columns };
}
function transposed(flat: Float64Array, rows: number, columns: number): Float64Array {
  const turned = new Float64Array(flat.length);
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) turned[j * rows + i] = flat[i * columns + j]!;
  return turned;
}

/** The state of the algorithm for r rows of c ≥ r columns. */
class Augmenting {
  /** The column of each row and the row of each column, -1 for none. */
  readonly columnOf: Int32Array;
  readonly #rowOf: Int32Array;
  readonly #cost: Float64Array;
  readonly #columns: number;
  /** Prices of rows and columns. */
  readonly #u: Float64Array;
  readonly #v: Float64Array;
  /**
   * Of the search at hand: the length of the shortest path to each column, the row before it, and what it has visited.
   */
  readonly #length: Float64Array;
  readonly #before: Int32Array;
  readonly #seenRow: Uint8Array;
  readonly #seenColumn: Uint8Array;

  constructor(cost: Float64Array, rows: number, columns: number) {
    this.#cost = cost;
    this.#columns = columns;
    this.columnOf = new Int32Array(rows).fill(-1);
    this.#rowOf = new Int32Array(columns).fill(-1);
    this.#u = new Float64Array(rows);
    this.#v = new Float64Array(columns);
    this.#length = new Float64Array(columns);
    this.#before = new Int32Array(columns);
    this.#seenRow = new Uint8Array(rows);
    this.#seenColumn = new Uint8Array(columns);
  }

  /** Gives a row a column, moving others. @returns false if there is none left that it may take */
  add(row: number): boolean {
    const found = this.#search(row);
    if (found === null) return false;
    const { sink, length } = found;
    this.#u[row]! += length;
    for (let i = 0; i < this.#u.length; i++)
      if (this.#seenRow[i] && i !== row) this.#u[i]! += length - this.#length[this.columnOf[i]!]!;
    for (let j = 0; j < this.#columns; j++) if (this.#seenColumn[j]) this.#v[j]! -= length - this.#length[j]!;
    for (let column = sink; ; ) {
      const i = this.#before[column]!;
      this.#rowOf[column] = i;
      const next = this.columnOf[i]!;
      this.columnOf[i] = column;
      if (i === row) return true;
      column = next;
    }
  }

  /** The nearest column that nobody holds. */
  #search(row: number): { sink: number; length: number } | null {
    this.#length.fill(Infinity);
    this.#seenRow.fill(0);
    this.#seenColumn.fill(0);
    let length = 0;
    for (let i = row; ; ) {
      this.#seenRow[i] = 1;
      const column = this.#nearest(i, length);
      if (column < 0) return null;
      length = this.#length[column]!;
      this.#seenColumn[column] = 1;
      if (this.#rowOf[column] === -1) return { sink: column, length };
      i = this.#rowOf[column]!;
    }
  }

  /** Goes on from row i, and gives the nearest column not yet visited; -1 for none. One that is free wins a tie. */
  #nearest(i: number, length: number): number {
    let nearest = -1;
    let least = Infinity;
    for (let j = 0; j < this.#columns; j++) {
      if (this.#seenColumn[j]) continue;
      const through = length + this.#cost[i * this.#columns + j]! - this.#u[i]! - this.#v[j]!;
      if (through < this.#length[j]!) {
        this.#length[j] = through;
        this.#before[j] = i;
      }
      const here = this.#length[j]!;
      if (here < least || (here === least && here < Infinity && this.#rowOf[j] === -1)) {
        least = here;
        nearest = j;
      }
    }
    return nearest;
  }
}

/**
 * Assigns rows to columns at the least sum of costs, like SciPy's `linear_sum_assignment`: all rows, or all columns
 * where those are fewer. O(n³), on the thread of the caller: some milliseconds for 200 × 200.
 *
 * @param cost rows of equal lengths; Infinity (with `maximize`: -Infinity) rules a pair out
 * @returns the pairs; where several assignments are best, one of them
 * @throws FOVEA_ARGUMENT if too many pairs are ruled out, or for what are no numbers; FOVEA_SHAPE for rows of unequal
 *   lengths; FOVEA_NAN for NaN and for costs without a lower bound
 */
export function linearSumAssignment(
  cost: readonly ArrayLike<number>[],
  options?: LinearSumAssignmentOptions,
): Assignment {
  const op = 'linearSumAssignment';
  const { maximize = false } = optionsArg(op, options, ['maximize']);
  const { flat, rows, columns } = flattened(cost, maximize ? -1 : 1);
  const tall = rows > columns;
  const few = tall ? columns : rows;
  const state = new Augmenting(tall ? transposed(flat, rows, columns) : flat, few, tall ? rows : columns);
  for (let i = 0; i < few; i++)
    if (!state.add(i))
      throw new FoveaError(
        'FOVEA_ARGUMENT',
        `${op}: no assignment is possible: ${tall ? 'column' : 'row'} ${i} of ${rows} × ${columns} costs finds no partner, since too many pairs are ruled out; make some costs finite`,
      );
  const pairs = Array.from(state.columnOf, (j, i) => (tall ? [j, i] : [i, j]) satisfies [number, number]);
  pairs.sort(([a], [b]) => a - b);
  return { rows: pairs.map(([i]) => i), columns: pairs.map(([, j]) => j) };
}
