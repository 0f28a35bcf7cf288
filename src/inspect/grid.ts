/**
 * Attention maps made small enough to draw: blocks of neighbouring weights become one cell, so that a picture of any
 * length has at most maxCells × maxCells of them.
 */
import { FoveaError } from '../errors.js';
import { argumentError, countArg, shapeError } from '../tensor/check.js';
import type { WeightRows } from './weight-rows.js';

/** How weights become cells. */
export interface GridOptions {
  /** Most cells along each side (default 64). */
  maxCells?: number;
  /** What a cell shows where there are more weights: the largest of its block (default), or their mean. */
  pooling?: 'max' | 'mean';
}

/** Maps of cells, row by row. */
export interface Grid {
  /** Cells along the queries. */
  readonly rows: number;
  /** Cells along the keys. */
  readonly columns: number;
  /** Queries in a cell; the last may have fewer. */
  readonly perRow: number;
  /** Keys in a cell; the last may have fewer. */
  readonly perColumn: number;
  /** How a cell came to its value. */
  readonly pooling: 'max' | 'mean';
  /** By head: rows · columns values. */
  readonly values: readonly Float32Array[];
}

/** Takes rows of weights and makes cells of them. */
export class GridBuilder {
  readonly grid: Grid;
  readonly #op: string;
  readonly #n: number;
  readonly #m: number;

  /** @throws FOVEA_SHAPE for maps without cells, FOVEA_ARGUMENT for options out of range */
  constructor(op: string, { heads, n, m }: WeightRows, { maxCells = 64, pooling = 'max' }: GridOptions) {
    countArg(op, 'maxCells', maxCells, 1);
    if (pooling !== 'max' && pooling !== 'mean') throw argumentError(op, 'pooling', "'max' or 'mean'", pooling);
    if (n === 0 || m === 0 || heads.length === 0)
      throw shapeError(
        op,
        `expected weights with heads, queries and keys, received [${[heads.length, n, m].join(',')}]`,
      );
    const [perRow, perColumn] = [Math.ceil(n / maxCells), Math.ceil(m / maxCells)];
    const [rows, columns] = [Math.ceil(n / perRow), Math.ceil(m / perColumn)];
    const values = heads.map(() => new Float32Array(rows * columns));
    this.grid = { rows, columns, perRow, perColumn, pooling, values };
    this.#op = op;
    this.#n = n;
    this.#m = m;
  }

  /** @throws FOVEA_ARGUMENT for a negative weight, which no shade shows */
  add(head: number, query: number, row: Float32Array): void {
    const { columns, perRow, perColumn, pooling } = this.grid;
    const values = this.grid.values[head]!;
    const first = Math.floor(query / perRow);
    const height = Math.min(perRow, this.#n - first * perRow);
    for (let column = 0; column < columns; column++) {
      const [begin, end] = [column * perColumn, Math.min(this.#m, (column + 1) * perColumn)];
      let [sum, most, least] = [0, 0, 0];
      for (let key = begin; key < end; key++) {
        const weight = row[key]!;
        sum += weight;
        if (weight > most) most = weight;
        if (weight < least) least = weight;
      }
      if (least < 0)
        throw argumentError(this.#op, 'weights', 'values of at least 0', least, 'pass probabilities, not scores');
      const place = first * columns + column;
      if (pooling === 'mean') values[place]! += sum / (height * (end - begin));
      // Comparisons pass over NaN, which the sum keeps; and so does Math.max.
      else values[place] = Math.max(values[place]!, Number.isNaN(sum) ? sum : most);
    }
  }
}

/** How large the maps are, and what a cell stands for where it is not one weight. */
export function sizeNote({ n, m }: WeightRows, { perRow, perColumn, pooling }: Grid): string {
  const size = `${n} queries × ${m} keys`;
  if (perRow === 1 && perColumn === 1) return size;
  return `${size}; each cell is the ${pooling === 'max' ? 'largest' : 'mean'} of ${perRow} × ${perColumn} weights`;
}

/** Names of queries or keys: what was given, else their numbers. @throws FOVEA_ARGUMENT, FOVEA_SHAPE */
export function labelsArg(op: string, argument: string, value: unknown, size: number): readonly string[] {
  if (value === undefined) return Array.from({ length: size }, (_, i) => String(i));
  if (!Array.isArray(value)) throw argumentError(op, argument, 'a list of strings', value);
  const labels = value as readonly unknown[];
  const odd = labels.find((label) => typeof label !== 'string');
  if (odd !== undefined) throw argumentError(op, argument, 'a list of strings', odd);
  if (labels.length !== size)
    throw new FoveaError(
      'FOVEA_SHAPE',
      `${op}: expected ${size} labels for ${argument}, received ${labels.length}; pass one for each of them`,
    );
  return labels as readonly string[];
}

/** Names of cells: of the first and the last in each. */
export function cellLabels(labels: readonly string[], per: number): string[] {
  if (per === 1) return [...labels];
  return Array.from({ length: Math.ceil(labels.length / per) }, (_, cell) => {
    const [first, last] = [cell * per, Math.min(labels.length, (cell + 1) * per) - 1];
    return first === last ? labels[first]! : `${labels[first]!} … ${labels[last]!}`;
  });
}
