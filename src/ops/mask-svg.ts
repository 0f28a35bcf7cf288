/** Masks as drawings. */
import { argumentError, countArg, optionsArg } from '../tensor/check.js';
import { CPU } from '../tensor/device.js';
import { expand } from './broadcast.js';
import { contiguous } from './cast.js';
import { visibleOf } from './mask-lowering.js';
import type { MaskNode } from './mask-node.js';
import { select } from './shape.js';

/** Options of `Mask.toSvg`. */
export interface MaskSvgOptions {
  /** Queries; default 32. */
  queries?: number;
  /** Keys; default as many as queries. */
  keys?: number;
  /** How many batches there are; default 1. */
  batches?: number;
  /** The one that is drawn; default 0. */
  batch?: number;
  /** How many heads there are; default 1. */
  heads?: number;
  /** The one that is drawn; default 0. */
  head?: number;
  /** Rows and columns of the drawing at most; default 128. */
  cells?: number;
  /** Width of the drawing in pixels; default 480. */
  width?: number;
}

const escaped = (text: string): string => text.replace(/[&<>"']/g, (c) => `&#${String(c.charCodeAt(0))};`);

/** The share of each cell that is seen. */
function shares(seen: Uint8Array, n: number, m: number, rows: number, columns: number): number[][] {
  const cell = (i: number, count: number, of: number): [number, number] => [
    Math.floor((i * of) / count),
    Math.floor(((i + 1) * of) / count),
  ];
  return Array.from({ length: rows }, (_, r) => {
    const [i0, i1] = cell(r, rows, n);
    return Array.from({ length: columns }, (__, c) => {
      const [j0, j1] = cell(c, columns, m);
      let sum = 0;
      for (let i = i0; i < i1; i++) for (let j = j0; j < j1; j++) sum += seen[i * m + j]!;
      return sum / ((i1 - i0) * (j1 - j0));
    });
  });
}

/**
 * Draws a mask, rows of equal cells as one rectangle.
 *
 * @param title what the drawing is called
 * @returns one `<svg>` element
 */
export function drawMask(node: MaskNode, title: string, options?: MaskSvgOptions): string {
  const op = 'mask.toSvg';
  const given = optionsArg(op, options, ['queries', 'keys', 'batches', 'batch', 'heads', 'head', 'cells', 'width']);
  const n = countArg(op, 'queries', given.queries ?? 32, 1);
  const m = countArg(op, 'keys', given.keys ?? n, 1);
  const [b, h] = [countArg(op, 'batches', given.batches ?? 1, 1), countArg(op, 'heads', given.heads ?? 1, 1)];
  const [batch, head] = [countArg(op, 'batch', given.batch ?? 0), countArg(op, 'head', given.head ?? 0)];
  if (batch >= b) throw argumentError(op, 'batch', `less than batches, which is ${b}`, batch);
  if (head >= h) throw argumentError(op, 'head', `less than heads, which is ${h}`, head);
  const most = countArg(op, 'cells', given.cells ?? 128, 1);
  const width = countArg(op, 'width', given.width ?? 480, 1);
  const seen = visibleOf(op, node, { b, h, n, m }, CPU);
  const one = select(select(expand(seen, [b, h, n, m]), 0, batch), 0, head);
  const values = contiguous(one).dataSync() as Uint8Array;
  const [rows, columns] = [Math.min(n, most), Math.min(m, most)];
  const cells = shares(values, n, m, rows, columns).flatMap((row, r) => {
    const rects: string[] = [];
    for (let c = 0; c < columns; ) {
      let end = c + 1;
      while (end < columns && row[end] === row[c]) end++;
      const opacity = row[c]! < 1 ? ` fill-opacity="${row[c]!.toFixed(2)}"` : '';
      if (row[c]! > 0) rects.push(`<rect x="${c}" y="${r}" width="${end - c}" height="1"${opacity}/>`);
      c = end;
    }
    return rects;
  });
  const shared = rows < n || columns < m ? `, ${rows}×${columns} cells` : '';
  const name = escaped(`${title}, ${n} queries by ${m} keys${shared}`);
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="${name}" width="${width}" height="${Math.round((width * rows) / columns)}" viewBox="0 0 ${columns} ${rows}" shape-rendering="crispEdges">`,
    `<title>${name}</title>`,
    `<rect width="${columns}" height="${rows}" fill="#f1f3f5"/>`,
    `<g fill="#1c5fb0">${cells.join('')}</g>`,
    '</svg>',
  ].join('\n');
}
