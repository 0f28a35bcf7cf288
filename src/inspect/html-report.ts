/**
 * A report of attention as one HTML file: heads side by side, what they look at, and every weight under the pointer.
 */
import { argumentError, countArg, optionsArg, withoutUndefined } from '../tensor/check.js';
import { cellLabels, GridBuilder, type GridOptions, labelsArg, sizeNote } from './grid.js';
import { checkedMax, digits, type DrawnMap, drawMap, largest, mapNote } from './heatmap-svg.js';
import { escapeJson, escapeMarkup, visible } from './markup.js';
import { AttentionObserver } from './observe.js';
import { type ClassifyOptions, type HeadClass, headClassifier } from './patterns.js';
import { pageScript, pageStyle } from './report-page.js';
import { eachRow, type MapOptions, weightRows, type WeightSource } from './weight-rows.js';

/** Maps that belong together, such as the heads of a layer. */
export interface ReportSection extends MapOptions {
  /** [n, m], [h, n, m] or [b, h, n, m] (one sequence of it), or a capture. */
  weights: WeightSource;
  /** Heading (default: the capture's module, else the number of the section). */
  title?: string;
  /** Names of the n queries, such as tokens (default: the report's, else their numbers). */
  queries?: readonly string[];
  /** Names of the m keys (default: the report's, else their numbers). */
  keys?: readonly string[];
  /** Tokens of the m keys, with which induction is told (default: the report's). */
  tokenIds?: ArrayLike<number | bigint>;
}

/** Options of {@link htmlReport}. */
export interface ReportOptions extends GridOptions {
  /** Title of the page (default 'Attention'). */
  title?: string;
  /** Names of the queries of every section that has none of its own. */
  queries?: readonly string[];
  /** Names of the keys of every section that has none of its own. */
  keys?: readonly string[];
  /** Tokens of the keys of every section that has none of its own. */
  tokenIds?: ArrayLike<number | bigint>;
  /** The weight of full colour in all maps (default: the largest cell of each). */
  max?: number;
  /** Which sequence of the batch, in sections that do not say (default 0). */
  batch?: number;
  /** Most maps in the report (default 256, some 8 MB of 64 × 64 cells): beyond, it is refused. */
  maxMaps?: number;
}
const optionNames = ['title', 'queries', 'keys', 'tokenIds', 'batch', 'max', 'maxMaps', 'maxCells', 'pooling'] as const;
const sectionNames = ['weights', 'title', 'queries', 'keys', 'tokenIds', 'heads', 'batch'] as const;

const names: Record<HeadClass['pattern'], string> = {
  induction: 'induction',
  firstToken: 'first-token sink',
  local: 'local',
  block: 'block',
  global: 'global',
  distributed: 'distributed',
  mixed: 'mixed',
};

/** A section, ready to be written. */
interface Drawn {
  readonly html: string;
  /** What the script needs. */
  readonly data: { rows: number; columns: number; queries: string[]; keys: string[]; values: string[] };
}

const op = 'inspect.htmlReport';

function titleOf(section: ReportSection, at: number): string {
  const { title, weights } = section;
  if (title !== undefined && typeof title !== 'string') throw argumentError(op, 'title', 'a string', title);
  if (title !== undefined) return title;
  if (!('module' in weights)) return `Section ${at + 1}`;
  return `${weights.module || 'model'}${weights.call > 0 ? `, call ${weights.call}` : ''}`;
}

function base64(values: Float32Array): string {
  const bytes = Buffer.alloc(values.length * 4);
  for (const [i, value] of values.entries()) bytes.writeFloatLE(value, 4 * i);
  return bytes.toString('base64');
}

/** What shows the cell that is pointed at. */
const marker = '<rect class="here" width="1" height="1" visibility="hidden"/>';

/** One head: its caption, its map and the place where its weight at the marked cell appears. */
function figure(drawn: DrawnMap, note: string, { head, pattern, entropy }: HeadClass, at: number): string {
  const { width, height, body } = drawn;
  const name = names[pattern];
  const caption = `Head ${head} · ${name}<small>entropy ${digits(entropy)} nats, ${escapeMarkup(note)}</small>`;
  const label = escapeMarkup(`Head ${head}, ${name}, ${note}`);
  return `<figure><figcaption>${caption}</figcaption>
<svg data-section="${at}" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}"
role="img" tabindex="0" aria-label="${label}">${body}</svg>
<output></output></figure>`;
}

async function draw(section: ReportSection, at: number, options: ReportOptions): Promise<Drawn> {
  const name = `${op}, sections[${at}]`;
  const rows = weightRows(name, section.weights, section);
  const builder = new GridBuilder(name, rows, options);
  const classify: ClassifyOptions = section.tokenIds ? { tokenIds: section.tokenIds } : {};
  const classifier = headClassifier(name, rows, classify);
  const { grid } = builder;
  const queries = cellLabels(labelsArg(name, 'queries', section.queries, rows.n), grid.perRow);
  const keys = cellLabels(labelsArg(name, 'keys', section.keys, rows.m), grid.perColumn);
  const title = titleOf(section, at);
  await eachRow(rows, (head, query, row, entropy) => {
    builder.add(head, query, row);
    classifier.add(head, query, row, entropy);
  });
  const found = classifier.results();
  const figures = grid.values.map((values, i) => {
    const map = drawMap(grid, values, { max: options.max ?? largest(values), queries, keys, marker });
    return figure(map, mapNote(grid, values), found[i]!, at);
  });
  return {
    html: `<section><h2>${escapeMarkup(title)}</h2><p>${escapeMarkup(sizeNote(rows, grid))}</p>
<div class="maps">${figures.join('\n')}</div></section>`,
    data: {
      rows: grid.rows,
      columns: grid.columns,
      queries: queries.map(visible),
      keys: keys.map(visible),
      values: grid.values.map(base64),
    },
  };
}

/** Sections with what they leave to the report. */
function sectionsOf(
  source: AttentionObserver | readonly ReportSection[],
  { queries, keys, tokenIds, batch }: ReportOptions,
): ReportSection[] {
  const given: unknown = source instanceof AttentionObserver ? source.captures.map((weights) => ({ weights })) : source;
  if (!Array.isArray(given) || given.length === 0)
    throw argumentError(
      op,
      'source',
      'an observer with captures, or a list of sections',
      source,
      'run the model first',
    );
  const common = withoutUndefined({ queries, keys, tokenIds, batch });
  return (given as readonly ReportSection[]).map((section, at) => {
    const own = optionsArg(`${op}, sections[${at}]`, section, sectionNames);
    return { ...common, ...withoutUndefined(own), weights: own.weights };
  });
}

/**
 * A report as one HTML file that loads nothing: for each section its heads side by side, with pattern and entropy;
 * pointing at a cell, or reaching it by the arrow keys, gives its weight in all of them. Light or dark as the reader
 * prefers. Labels are text, whatever they hold. Above `maxCells` queries or keys neighbours share a cell, and the
 * report says so; patterns and entropy are of all weights all the same.
 *
 * @example
 * using observer = inspect.observe(model);
 * model.forward({ inputIds });
 * await writeFile('attention.html', await inspect.htmlReport(observer, { queries: tokens, keys: tokens }));
 * @param source an observer (a section for each capture), or sections
 * @returns the text of the file; rejects with FOVEA_ARGUMENT, FOVEA_SHAPE, FOVEA_DTYPE or FOVEA_INDEX for weights,
 *   labels or options that do not fit, FOVEA_DISPOSED for captures of an observer that has ended, and with what reading
 *   rejects with
 */
export async function htmlReport(
  source: AttentionObserver | readonly ReportSection[],
  options?: ReportOptions,
): Promise<string> {
  const asked = optionsArg(op, options, optionNames);
  const { title = 'Attention', maxMaps = 256 } = asked;
  if (typeof title !== 'string') throw argumentError(op, 'title', 'a string', title);
  countArg(op, 'maxMaps', maxMaps, 1);
  checkedMax(op, asked.max);
  const sections = sectionsOf(source, asked);
  const maps = sections.reduce((sum, section) => sum + weightRows(op, section.weights, section).heads.length, 0);
  if (maps > maxMaps)
    throw argumentError(
      op,
      'source',
      `at most ${maxMaps} maps (maxMaps)`,
      maps,
      'choose sections and heads, or raise it',
    );
  const drawn: Drawn[] = [];
  // oxlint-disable-next-line eslint/no-await-in-loop -- one section after the other is what bounds the memory
  for (const [at, section] of sections.entries()) drawn.push(await draw(section, at, asked));
  const scale =
    asked.max === undefined
      ? 'Each map has its own scale, up to its largest weight.'
      : `All maps have one scale, up to a weight of ${digits(asked.max)}.`;
  return page(title, scale, drawn);
}

/** The policy lets the page's own style and script run and nothing be loaded, whatever a label may try. */
function page(title: string, scale: string, drawn: readonly Drawn[]): string {
  const policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'";
  return `<!doctype html>
<html lang="en" class="fovea">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<title>${escapeMarkup(title)}</title>
<style>${pageStyle}</style>
</head>
<body>
<main><h1>${escapeMarkup(title)}</h1>
<p>Queries downwards, keys to the right. ${escapeMarkup(scale)}</p>
${drawn.map(({ html }) => html).join('\n')}
</main>
<div id="tip" role="status" hidden></div>
<script type="application/json" id="data">${escapeJson({ sections: drawn.map(({ data }) => data) })}</script>
<script>${pageScript}</script>
</body>
</html>
`;
}
