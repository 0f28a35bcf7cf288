/**
 * The losses of a run as SVG: steps to the right, the training loss as a line, evaluations as a line with points.
 * Colours follow the reader's preference by a style of its own; nothing is loaded from elsewhere.
 */
import { writeFileAtomic } from '../io/files.js';
import { argumentError, optionsArg } from '../tensor/check.js';
import type { TrainerCallback } from './trainer-events.js';

/** A step and its loss. */
export type LossPoint = readonly [step: number, loss: number];

/** Options of {@link lossCurveSvg}. */
export interface LossCurveOptions {
  /** Losses of steps. */
  train: readonly LossPoint[];
  /** Losses of evaluations (default: none). */
  evaluation?: readonly LossPoint[];
  /** Losses of other runs by name, up to four, drawn dashed over the first. */
  others?: Readonly<Record<string, readonly LossPoint[]>>;
  /** Of the training loss in the key (default 'training'). */
  name?: string;
  /** Above the curve (default 'Loss'). */
  title?: string;
}

const [width, height] = [640, 360];
const frame = { left: 64, top: 48, right: 624, bottom: 320 };
const style = `.loss{color-scheme:light dark;--paper:#fff;--text:#1f2328;--faint:#59636e;--grid:#d1d9e0;--train:#0a3f91;--held:#c4320a;--a:#a05a00;--b:#1a7f37;--c:#8250df;--d:#bf3989}
@media (prefers-color-scheme:dark){.loss{--paper:#0d1117;--text:#e6edf3;--faint:#9198a1;--grid:#3d444d;--train:#ffc46b;--held:#ff7b72;--a:#79c0ff;--b:#7ee787;--c:#d2a8ff;--d:#ff9bce}}
.loss .paper{fill:var(--paper)}.loss .grid{stroke:var(--grid)}.loss text{font:11px system-ui,sans-serif;fill:var(--faint)}
.loss .title{font:600 14px system-ui,sans-serif;fill:var(--text)}.loss polyline{fill:none;stroke-width:1.5;stroke-linejoin:round}
.loss .train{stroke:var(--train)}.loss .held{stroke:var(--held)}.loss circle{fill:var(--held)}
.loss .key-train{fill:var(--train)}.loss .key-held{fill:var(--held)}
.loss .other{stroke-dasharray:6 5}${['a', 'b', 'c', 'd'].map((name) => `.loss .${name}{stroke:var(--${name})}.loss .key-${name}{fill:var(--${name})}`).join('')}`;

const entities: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };
const escaped = (text: string): string => text.replace(/[&<>"]/g, (character) => entities[character]!);
const short = (value: number): string => String(Number(value.toPrecision(4)));

/** Round numbers from low to high, some five of them. */
function ticks(low: number, high: number): number[] {
  const rough = (high - low) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5, 10].find((factor) => factor * power >= rough) ?? 10);
  const found: number[] = [];
  for (let i = Math.ceil(low / step); i * step <= high; i++) found.push(i * step);
  return found;
}

/** Bounds of an axis; one value alone gets some room. */
function boundsOf(values: readonly number[]): [low: number, high: number] {
  const [low, high] = values.reduce(([a, b], value) => [Math.min(a, value), Math.max(b, value)], [Infinity, -Infinity]);
  if (low > high) return [0, 1];
  return low === high ? [low - Math.max(1, Math.abs(low)) / 2, high + Math.max(1, Math.abs(high)) / 2] : [low, high];
}

function pointsArg(op: string, name: string, points: unknown): readonly LossPoint[] {
  const isPoint = (point: unknown): point is LossPoint =>
    Array.isArray(point) && point.length === 2 && point.every((value) => typeof value === 'number');
  if (!Array.isArray(points) || !points.every(isPoint)) throw argumentError(op, name, 'a list of [step, loss]', points);
  return points.filter((point) => point.every(Number.isFinite));
}

/** The classes of other runs. */
const palette = ['a', 'b', 'c', 'd'];

function othersArg(op: string, others: unknown): [name: string, points: readonly LossPoint[]][] {
  const entries = typeof others === 'object' && others !== null ? Object.entries(others) : undefined;
  if (entries === undefined || entries.length > palette.length)
    throw argumentError(op, 'others', `up to ${palette.length} lists of [step, loss] by name`, others);
  return entries.map(([name, points]) => [name, pointsArg(op, `others.${name}`, points)]);
}

/**
 * Draws losses over steps. What is not finite is left out.
 *
 * @returns the text of an SVG file
 * @throws FOVEA_ARGUMENT for what are no points
 */
export function lossCurveSvg(options: LossCurveOptions): string {
  const op = 'lossCurveSvg';
  const given = optionsArg(op, options, ['train', 'evaluation', 'others', 'name', 'title']);
  const { title = 'Loss', name = 'training' } = given;
  if (typeof title !== 'string') throw argumentError(op, 'title', 'a string', title);
  if (typeof name !== 'string') throw argumentError(op, 'name', 'a string', name);
  const train = pointsArg(op, 'train', given.train);
  const held = pointsArg(op, 'evaluation', given.evaluation ?? []);
  const others = othersArg(op, given.others ?? {});
  const all = [...train, ...held, ...others.flatMap(([, points]) => points)];
  const [steps, losses] = [boundsOf(all.map(([step]) => step)), boundsOf(all.map(([, loss]) => loss))];
  const x = (step: number): string =>
    (frame.left + ((step - steps[0]) / (steps[1] - steps[0])) * (frame.right - frame.left)).toFixed(1);
  const y = (loss: number): string =>
    (frame.bottom - ((loss - losses[0]) / (losses[1] - losses[0])) * (frame.bottom - frame.top)).toFixed(1);
  const curve = (kind: string, points: readonly LossPoint[]): string =>
    `<polyline class="${kind}" points="${points.map(([step, loss]) => `${x(step)},${y(loss)}`).join(' ')}"/>`;
  const rows = ticks(...losses).map(
    (at) =>
      `<line class="grid" x1="${frame.left}" x2="${frame.right}" y1="${y(at)}" y2="${y(at)}"/><text x="${frame.left - 6}" y="${Number(y(at)) + 4}" text-anchor="end">${short(at)}</text>`,
  );
  const columns = ticks(...steps).map(
    (at) => `<text x="${x(at)}" y="${frame.bottom + 18}" text-anchor="middle">${short(at)}</text>`,
  );
  const label = escaped(title);
  const keys = [
    ['train', name],
    ...(held.length > 0 ? [['held', 'held out']] : []),
    ...others.map(([other], i) => [palette[i]!, other]),
  ].map(([kind, text]) => `<tspan class="key-${kind}">${escaped(text!)}</tspan>`);
  const key = keys.length > 1 ? keys.join(' · ') : '';
  return `<svg xmlns="http://www.w3.org/2000/svg" class="loss" role="img" aria-label="${label}" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">
<title>${label}</title>
<style>${style}</style>
<rect class="paper" width="${width}" height="${height}"/>
<text class="title" x="16" y="24">${label}</text><text x="${frame.right}" y="24" text-anchor="end">${key}</text>
${rows.join('')}${columns.join('')}
${curve('train', train)}${others.map(([, points], i) => curve(`other ${palette[i]}`, points)).join('')}
${curve('held', held)}${held.map(([step, loss]) => `<circle cx="${x(step)}" cy="${y(loss)}" r="2.5"/>`).join('')}
</svg>
`;
}

/** Points of a long run: once there are too many, neighbours become their mean. */
class ThinnedPoints {
  static readonly most = 2000;
  #points: [number, number][] = [];
  /** Losses that one point stands for. */
  #perPoint = 1;
  #open: [number, number][] = [];

  add(step: number, loss: number): void {
    if (!Number.isFinite(loss)) return;
    this.#open.push([step, loss]);
    if (this.#open.length < this.#perPoint) return;
    this.#points.push(meanOf(this.#open));
    this.#open = [];
    if (this.#points.length < ThinnedPoints.most) return;
    this.#perPoint *= 2;
    const pairs = Array.from({ length: this.#points.length >> 1 }, (_, i) => this.#points.slice(2 * i, 2 * i + 2));
    this.#points = pairs.map(meanOf);
  }

  get points(): LossPoint[] {
    return this.#open.length > 0 ? [...this.#points, meanOf(this.#open)] : [...this.#points];
  }

  stateDict(): unknown {
    return { points: this.#points, perPoint: this.#perPoint, open: this.#open };
  }

  loadStateDict(state: unknown): void {
    const { points, perPoint, open } = Object(state) as { points?: unknown; perPoint?: unknown; open?: unknown };
    const copy = (name: string, list: unknown): [number, number][] =>
      pointsArg('lossCurve', name, list).map(([step, loss]) => [step, loss]);
    [this.#points, this.#open] = [copy('points', points), copy('open', open)];
    this.#perPoint = typeof perPoint === 'number' && perPoint >= 1 ? perPoint : 1;
  }
}

function meanOf(points: readonly (readonly [number, number])[]): [number, number] {
  const sum = points.reduce(([a, b], [step, loss]) => [a + step, b + loss], [0, 0] as readonly [number, number]);
  return [sum[0] / points.length, sum[1] / points.length];
}

/**
 * A callback of a Trainer that writes its losses as SVG: after each evaluation, with each checkpoint and at the end. Of
 * more than 2000 steps, neighbours share a point.
 *
 * @param path of the file, which is replaced as a whole
 */
export function lossCurve(path: string): TrainerCallback & { readonly name: string } {
  if (typeof path !== 'string') throw argumentError('lossCurve', 'path', 'the path of a file', path);
  const [train, evaluation] = [new ThinnedPoints(), new ThinnedPoints()];
  const write = async (): Promise<void> => {
    const svg = lossCurveSvg({ train: train.points, evaluation: evaluation.points });
    await writeFileAtomic(path, async (file) => file.writeFile(svg));
  };
  return {
    name: 'lossCurve',
    onStep: ({ step, loss }) => train.add(step, loss),
    async onEvaluate({ step, loss }) {
      evaluation.add(step, loss);
      await write();
    },
    onSave: write,
    onEnd: write,
    stateDict: () => ({ train: train.stateDict(), evaluation: evaluation.stateDict() }),
    loadStateDict(state) {
      const saved = Object(state) as { train?: unknown; evaluation?: unknown };
      train.loadStateDict(saved.train);
      evaluation.loadStateDict(saved.evaluation);
    },
  };
}
