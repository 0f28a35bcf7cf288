/**
 * Attention maps as SVG: queries downwards, keys to the right, the darker (in dark mode: the brighter) a cell, the
 * larger the weight. Colours follow the reader's preference by a style of its own; nothing is loaded from elsewhere.
 */
import { countArg, numberArg, argumentError, optionsArg } from '../tensor/check.js';
import { cellLabels, type Grid, GridBuilder, type GridOptions, labelsArg, sizeNote } from './grid.js';
import { escapeMarkup, shorten, visible } from './markup.js';
import { eachRow, type MapOptions, weightRows, type WeightSource } from './weight-rows.js';

/** Options of {@link heatmapSvg}. */
export interface HeatmapOptions extends MapOptions, GridOptions {
  /** Above the maps; also what a screen reader says first (default 'Attention'). */
  title?: string;
  /** Names of the n queries, such as tokens (default: their numbers). */
  queries?: readonly string[];
  /** Names of the m keys (default: their numbers). */
  keys?: readonly string[];
  /** The weight of full colour (default: the largest cell of each map). */
  max?: number;
  /** Maps beside each other (default 4). */
  columns?: number;
}
const optionNames = ['heads', 'batch', 'maxCells', 'pooling', 'title', 'queries', 'keys', 'max', 'columns'] as const;

/** Shades of cells: a picture has one path for each, so that its size is some ten bytes a cell. */
const shades = 64;
const letter = 6.1;

/** Colours in both modes, for everything inside of `.fovea`. */
export const palette: string = `.fovea{color-scheme:light dark;
--paper:#fff;--text:#1f2328;--faint:#59636e;--frame:#d1d9e0;--ink:#0a3f91;--wrong:#c4320a}
@media (prefers-color-scheme:dark){.fovea{
--paper:#0d1117;--text:#e6edf3;--faint:#9198a1;--frame:#3d444d;--ink:#ffc46b;--wrong:#ff7b72}}`;

/** Shapes of a map. */
export const mapStyle: string = `.fovea .map{fill:var(--paper);stroke:var(--frame);vector-effect:non-scaling-stroke}
.fovea .cells{fill:var(--ink);shape-rendering:crispEdges}
.fovea .nan{fill:var(--wrong)}
.fovea text{font:10px ui-monospace,Menlo,Consolas,monospace;fill:var(--faint)}`;

/** A map that is drawn. */
export interface DrawnMap {
  readonly width: number;
  readonly height: number;
  /** What belongs into an svg element of that size. */
  readonly body: string;
}

/** A number in few digits. */
export function digits(value: number): string {
  return Number.isFinite(value) ? String(Number(value.toPrecision(3))) : String(value);
}

/** The largest of the values that are numbers, 0 if there are none. */
export function largest(values: Float32Array): number {
  let most = 0;
  for (const value of values) if (value > most && value < Infinity) most = value;
  return most;
}

/**
 * Cells of the same shade as one path, in units of cells. Opacity is relative to `max`; what is no number is marked.
 */
function cells({ rows, columns }: Grid, values: Float32Array, max: number): string {
  const paths = new Map<number, string>();
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++) {
      const value = values[row * columns + column]!;
      const shade = Number.isFinite(value) ? Math.round(Math.min(1, value / max) * shades) || 0 : -1;
      if (shade === 0) continue;
      paths.set(shade, `${paths.get(shade) ?? ''}M${column} ${row}h1v1h-1z`);
    }
  const drawn = [...paths].sort(([a], [b]) => a - b);
  return drawn
    .map(([shade, d]) =>
      shade < 0 ? `<path class="nan" d="${d}"/>` : `<path fill-opacity="${digits(shade / shades)}" d="${d}"/>`,
    )
    .join('');
}

/** Names along the sides; of more cells than can be read, of the first and the last. */
function sideLabels(labels: readonly string[], cell: number): [at: number, text: string][] {
  const all = labels.map((label, i): [number, string] => [(i + 0.5) * cell, shorten(visible(label), 14)]);
  return cell >= 10 || all.length < 3 ? all : [all[0]!, all.at(-1)!];
}

/** How a map is drawn. */
export interface MapLook {
  /** The weight of full colour. */
  readonly max: number;
  /** Names of the rows of cells. */
  readonly queries: readonly string[];
  /** Names of the columns. */
  readonly keys: readonly string[];
  /** Markup over the cells, in units of cells. */
  readonly marker?: string;
}

/** One map with its labels. */
export function drawMap(grid: Grid, values: Float32Array, { max, queries, keys, marker = '' }: MapLook): DrawnMap {
  const { rows, columns } = grid;
  const cell = Math.max(3, Math.min(20, Math.floor(300 / Math.max(rows, columns))));
  const [left, top] = [sideLabels(queries, cell), sideLabels(keys, cell)];
  const room = (labels: [number, string][]): number =>
    Math.ceil(Math.max(...labels.map(([, text]) => Array.from(text).length)) * letter) + 6;
  const [x, y] = [room(left), room(top)];
  const names = [
    ...left.map(([at, text]) => `<text x="${x - 4}" y="${y + at + 3}" text-anchor="end">${escapeMarkup(text)}</text>`),
    ...top.map(
      ([at, text]) => `<text transform="translate(${x + at + 3} ${y - 4}) rotate(-90)">${escapeMarkup(text)}</text>`,
    ),
  ].join('');
  const area = `<rect class="map" width="${columns}" height="${rows}"/>`;
  const filled = `<g class="cells">${cells(grid, values, max)}</g>`;
  const body = `${names}<g transform="translate(${x} ${y}) scale(${cell})">${area}${filled}${marker}</g>`;
  return { width: Math.ceil(x + columns * cell + 4), height: Math.ceil(y + rows * cell + 4), body };
}

/** What a map says in words. */
export function mapNote(grid: Grid, values: Float32Array): string {
  const { pooling, perRow, perColumn } = grid;
  const what = pooling === 'mean' && perRow * perColumn > 1 ? 'cell' : 'weight';
  return `largest ${what} ${digits(largest(values))}`;
}

/** The weight of full colour. @throws FOVEA_ARGUMENT unless it is above 0 */
export function checkedMax(op: string, max: number | undefined): number | undefined {
  if (max === undefined) return undefined;
  if (!(numberArg(op, 'max', max) > 0)) throw argumentError(op, 'max', 'a number above 0', max);
  return max;
}

/**
 * Attention maps of one sequence as one SVG, heads side by side. Above `maxCells` queries or keys neighbours share a
 * cell, and the picture says so. Weights that are NaN or infinite are drawn in a colour of their own.
 *
 * @example
 * const svg = await inspect.heatmapSvg(observer.get('transformer.h.0.attn'), { queries: tokens, keys: tokens });
 * await writeFile('attention.svg', svg);
 * @param weights [n, m], [h, n, m] or [b, h, n, m] (one sequence of it), or a capture; rows are read in blocks
 * @returns the text of the file, without dependencies; rejects with FOVEA_ARGUMENT, FOVEA_SHAPE, FOVEA_DTYPE or
 *   FOVEA_INDEX for weights, labels or options that do not fit, and with what reading the weights rejects with
 */
export async function heatmapSvg(weights: WeightSource, options?: HeatmapOptions): Promise<string> {
  const op = 'inspect.heatmapSvg';
  const asked = optionsArg(op, options, optionNames);
  const { title = 'Attention', columns = 4 } = asked;
  if (typeof title !== 'string') throw argumentError(op, 'title', 'a string', title);
  countArg(op, 'columns', columns, 1);
  const max = checkedMax(op, asked.max);
  const rows = weightRows(op, weights, asked);
  const builder = new GridBuilder(op, rows, asked);
  const { grid } = builder;
  const queries = cellLabels(labelsArg(op, 'queries', asked.queries, rows.n), grid.perRow);
  const keys = cellLabels(labelsArg(op, 'keys', asked.keys, rows.m), grid.perColumn);
  await eachRow(rows, (head, query, row) => builder.add(head, query, row));
  const maps = grid.values.map((values, at) => {
    const note = `Head ${rows.heads[at]!}, ${mapNote(grid, values)}`;
    return { note, ...drawMap(grid, values, { max: max ?? largest(values), queries, keys }) };
  });
  return sheet(title, sizeNote(rows, grid), maps, columns);
}

/** Maps in rows below a title and what is to be said of all, each with its note above. */
function sheet(title: string, common: string, maps: readonly (DrawnMap & { note: string })[], columns: number): string {
  const across = Math.min(columns, maps.length);
  const cellWidth = Math.ceil(Math.max(...maps.map(({ width, note }) => Math.max(width, note.length * letter)))) + 16;
  const cellHeight = Math.max(...maps.map(({ height }) => height)) + 28;
  const words = Math.ceil(Math.max(title.length * 9, common.length * letter)) + 32;
  const [width, height] = [Math.max(words, across * cellWidth + 16), Math.ceil(maps.length / across) * cellHeight + 60];
  const drawn = maps.map(({ note, body }, i) => {
    const [x, y] = [16 + (i % across) * cellWidth, 60 + Math.floor(i / across) * cellHeight];
    const name = escapeMarkup(note);
    return `<g transform="translate(${x} ${y})" role="img" aria-label="${name}">
<text y="12">${name}</text><g transform="translate(0 20)">${body}</g></g>`;
  });
  const name = escapeMarkup(title);
  return `<svg xmlns="http://www.w3.org/2000/svg" class="fovea" role="group" aria-label="${name}"
width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">
<title>${name}</title>
<desc>${escapeMarkup(common)}</desc>
<style>${palette}
${mapStyle}
.fovea .sheet{fill:var(--paper)}.fovea .title{font:600 14px system-ui,sans-serif;fill:var(--text)}</style>
<rect class="sheet" width="${width}" height="${height}"/>
<text class="title" x="16" y="24">${name}</text>
<text x="16" y="42">${escapeMarkup(common)}</text>
${drawn.join('\n')}
</svg>
`;
}
