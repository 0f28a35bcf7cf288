/**
 * What a head looks at, as a name. The names are those of Kovaleva et al. (2019, https://arxiv.org/abs/1908.08593:
 * diagonal, vertical, block) and Clark et al. (2019, https://arxiv.org/abs/1906.04341: broad heads), with the first
 * token as a sink (Xiao et al. 2023, https://arxiv.org/abs/2309.17453) and induction (Olsson et al. 2022,
 * https://arxiv.org/abs/2209.11895). The papers tell them by eye, by a classifier or by raw sums; the numbers here are
 * our own criterion, the same for all:
 *
 *   score = (Σ weight on the pattern's keys - Σ chance) / Σ (1 - chance),   sums over the queries
 *
 * where chance is the share of those keys among all that a query may see: 0 for a head that looks everywhere alike, 1
 * for one that looks nowhere else, whatever the length. A head that never looks ahead is taken to be causal.
 */
import {
  argumentError,
  countArg,
  integerArg,
  numberArg,
  optionsArg,
  shapeError,
  withoutUndefined,
} from '../tensor/check.js';
import { eachRow, type MapOptions, type WeightRows, weightRows, type WeightSource } from './weight-rows.js';

/** Patterns in the order in which they are asked for; 'mixed' is none of them. */
export type HeadPattern = 'induction' | 'firstToken' | 'local' | 'block' | 'global' | 'distributed' | 'mixed';

/** By pattern; NaN where no query could tell. Up to 1. */
export interface PatternScores {
  /** Weight on keys that follow earlier occurrences of the query's token; NaN without `tokenIds`. */
  induction: number;
  /** Weight on key 0. */
  firstToken: number;
  /** Weight on keys at most `window` away. */
  local: number;
  /**
   * Weight on keys of the query's own block: the least of the scores over all queries, over the first queries of blocks
   * and over the last ones, since a local head crosses borders there.
   */
  block: number;
  /** Weight on the few keys (`globalKeys`) that get the most of all queries together. */
  global: number;
  /** Entropy by what it is at most, mean over queries: 1 for weights alike. No weight, so no chance is taken off. */
  distributed: number;
}

/** A head and what it looks at. */
export interface HeadClass {
  /** Number of the head. */
  head: number;
  /** The first pattern whose score reaches its threshold. */
  pattern: HeadPattern;
  /** All scores. */
  scores: PatternScores;
  /**
   * The size of blocks that `scores.block` is about: the smallest that reaches the threshold; undefined with
   * `segments`.
   */
  blockSize: number | undefined;
  /** Mean over the queries that see a key, in nats. */
  entropy: number;
}

/** Options of {@link classifyHeads}. */
export interface ClassifyOptions extends MapOptions {
  /** Tokens of the m keys, which induction needs. */
  tokenIds?: ArrayLike<number | bigint>;
  /** The block of each key, such as the number of its sentence (default: blocks of 8, 16, 32, … keys are tried). */
  segments?: ArrayLike<number>;
  /** How far local attention reaches to either side (default 2). */
  window?: number;
  /** How many keys global attention looks at (default one in 32, at least 1). */
  globalKeys?: number;
  /** Which key has the position of query 0 (default m - n, so that the last query and the last key meet). */
  offset?: number;
  /** From which score on a head has a pattern (default: 0.5, distributed 0.8). */
  thresholds?: Partial<Record<Exclude<HeadPattern, 'mixed'>, number>>;
}

const optionNames = ['heads', 'batch', 'tokenIds', 'segments', 'window', 'globalKeys', 'offset', 'thresholds'] as const;
const order = ['induction', 'firstToken', 'local', 'block', 'global', 'distributed'] as const;
const defaults = { induction: 0.5, firstToken: 0.5, local: 0.5, block: 0.5, global: 0.5, distributed: 0.8 };

/** Weight on a set of keys, beside what chance would put there if a query may see all keys, or none that come later. */
class Share {
  #queries = 0;
  #weight = 0;
  readonly #chance = { all: 0, causal: 0 };

  /** @param past how many keys of the set do not come after the query @param p its position */
  add(weight: number, size: number, past: number, m: number, p: number): void {
    this.#queries++;
    this.#weight += weight;
    this.#chance.all += size / m;
    this.#chance.causal += past / (p + 1);
  }

  score(causal: boolean): number {
    const chance = this.#chance[causal ? 'causal' : 'all'];
    const room = this.#queries - chance;
    return room > 1e-6 ? (this.#weight - chance) / room : Number.NaN;
  }
}

/** A way to cut the keys into blocks: where the block of each key begins, and ends. */
interface Cut {
  readonly size: number | undefined;
  readonly begins: Int32Array;
  readonly ends: Int32Array;
}

/** What is the same for all heads. */
interface Setting {
  readonly m: number;
  readonly offset: number;
  readonly window: number;
  readonly globalKeys: number;
  /** By position: where its token occurs. */
  readonly occurrences: readonly (readonly number[])[] | undefined;
  readonly cuts: readonly Cut[];
}

/** Scores of one head, from its rows. */
class HeadScores {
  readonly #setting: Setting;
  readonly #sums: Float64Array;
  readonly #first = new Share();
  readonly #local = new Share();
  readonly #induction = new Share();
  readonly #blocks: readonly { all: Share; first: Share; last: Share }[];
  readonly #columns: Float64Array;
  /** By position of queries: what chance would put on each key up to there if no query saw later keys. */
  readonly #placed: Float64Array;
  #causal = true;
  #queries = 0;
  #entropy = 0;
  readonly #relative = { all: 0, causal: 0, causalQueries: 0 };

  constructor(setting: Setting) {
    this.#setting = setting;
    this.#sums = new Float64Array(setting.m + 1);
    this.#columns = new Float64Array(setting.m);
    this.#placed = new Float64Array(setting.m);
    this.#blocks = setting.cuts.map(() => ({ all: new Share(), first: new Share(), last: new Share() }));
  }

  /** Takes the weights of a query, and their entropy in nats. */
  add(query: number, row: Float32Array, entropy: number): void {
    const { m, offset } = this.#setting;
    const [sums, columns] = [this.#sums, this.#columns];
    let total = 0;
    for (let key = 0; key < m; key++) {
      const weight = row[key]!;
      total += weight;
      sums[key + 1] = total;
      columns[key]! += weight;
    }
    if (total === 0) return;
    this.#queries++;
    this.#entropy += entropy;
    this.#relative.all += entropy / Math.log(m);
    const p = query + offset;
    const placed = p >= 0 && p < m;
    if (!placed || total > sums[p + 1]!) this.#causal = false;
    this.#first.add(sums[1]!, 1, 1, m, Math.max(p, 0));
    if (placed) this.#place(p, entropy, row);
  }

  /** What depends on the position of the query. */
  #place(p: number, entropy: number, row: Float32Array): void {
    const { m, window, cuts } = this.#setting;
    const sums = this.#sums;
    this.#placed[p]! += 1 / (p + 1);
    if (p > 0) {
      this.#relative.causal += entropy / Math.log(p + 1);
      this.#relative.causalQueries++;
    }
    const add = (share: Share, begin: number, end: number): void =>
      share.add(sums[end]! - sums[begin]!, end - begin, Math.min(end, p + 1) - begin, m, p);
    add(this.#local, Math.max(0, p - window), Math.min(m, p + window + 1));
    for (const [at, { begins, ends }] of cuts.entries()) {
      const shares = this.#blocks[at]!;
      const [begin, end] = [begins[p]!, ends[p]!];
      add(shares.all, begin, end);
      if (p === begin) add(shares.first, begin, end);
      if (p === end - 1) add(shares.last, begin, end);
    }
    this.#addInduced(p, row);
  }

  /** The keys that follow earlier occurrences of the query's token. */
  #addInduced(p: number, row: Float32Array): void {
    const occurrences = this.#setting.occurrences?.[p] ?? [];
    let [weight, count] = [0, 0];
    for (; occurrences[count]! < p; count++) weight += row[occurrences[count]! + 1]!;
    if (count > 0) this.#induction.add(weight, count, count, this.#setting.m, p);
  }

  /** The keys that get the most beyond chance, chosen after all queries. */
  #global(): number {
    const { m, globalKeys } = this.#setting;
    const chances = new Float64Array(m).fill(this.#queries / m);
    if (this.#causal)
      for (let key = m - 1; key >= 0; key--) chances[key] = this.#placed[key]! + (chances[key + 1] ?? 0);
    const most = Array.from(this.#columns, (weight, key) => ({ weight, chance: chances[key]! }))
      .sort((a, b) => b.weight - b.chance - (a.weight - a.chance))
      .slice(0, globalKeys);
    const [weight, expected] = [most.reduce((s, x) => s + x.weight, 0), most.reduce((s, x) => s + x.chance, 0)];
    const room = this.#queries - expected;
    return room > 1e-6 ? (weight - expected) / room : Number.NaN;
  }

  /** The first way to cut that reaches the threshold, since larger blocks hold smaller ones; else the best. */
  #block(threshold: number): { score: number; size: number | undefined } {
    let best: { score: number; size: number | undefined } = { score: Number.NaN, size: undefined };
    for (const [at, { all, first, last }] of this.#blocks.entries()) {
      if (best.score >= threshold) break;
      const whole = all.score(this.#causal);
      const borders = [first, last].map((share) => share.score(this.#causal)).filter((score) => !Number.isNaN(score));
      const score = Math.min(whole, ...borders);
      if (Number.isNaN(best.score) || score > best.score) best = { score, size: this.#setting.cuts[at]!.size };
    }
    return best;
  }

  /** What all rows say together. */
  result(head: number, thresholds: Record<(typeof order)[number], number>): HeadClass {
    const block = this.#block(thresholds.block);
    const { all, causal, causalQueries } = this.#relative;
    const scores: PatternScores = {
      induction: this.#induction.score(this.#causal),
      firstToken: this.#first.score(this.#causal),
      local: this.#local.score(this.#causal),
      block: block.score,
      global: this.#global(),
      distributed: this.#causal ? causal / causalQueries : all / this.#queries,
    };
    const pattern = order.find((name) => scores[name] >= thresholds[name]) ?? 'mixed';
    return { head, pattern, scores, blockSize: block.size, entropy: this.#entropy / this.#queries };
  }
}

/** @param blockOf the block of each key */
function cutBy(m: number, blockOf: (key: number) => number, size: number | undefined): Cut {
  const [begins, ends] = [new Int32Array(m), new Int32Array(m)];
  for (let key = 0; key < m; key++) begins[key] = key > 0 && blockOf(key) === blockOf(key - 1) ? begins[key - 1]! : key;
  for (let key = m - 1; key >= 0; key--)
    ends[key] = key < m - 1 && blockOf(key) === blockOf(key + 1) ? ends[key + 1]! : key + 1;
  return { size, begins, ends };
}

/** Blocks of powers of two that local attention does not fill, at least two of them. */
function evenCuts(m: number, window: number): Cut[] {
  const cuts: Cut[] = [];
  for (let size = 8; size <= m / 2; size *= 2)
    if (size > 2 * window + 1) cuts.push(cutBy(m, (key) => Math.floor(key / size), size));
  return cuts;
}

/** By position, all places of its token, which those places share. */
function occurrencesOf(tokenIds: ArrayLike<number | bigint>): number[][] {
  const places = new Map<number | bigint, number[]>();
  return Array.from(tokenIds, (token, p) => {
    const there = places.get(token) ?? [];
    places.set(token, there);
    there.push(p);
    return there;
  });
}

function listArg<T>(
  op: string,
  argument: string,
  value: ArrayLike<T> | undefined,
  m: number,
): ArrayLike<T> | undefined {
  if (value === undefined) return undefined;
  if (value === null || typeof value !== 'object' || typeof value.length !== 'number')
    throw argumentError(op, argument, `a list of ${m} numbers`, value);
  if (value.length !== m) throw shapeError(op, `expected ${argument} of all ${m} keys, received ${value.length}`);
  return value;
}

function settingOf(op: string, n: number, m: number, options: ClassifyOptions): Setting {
  const { window = 2, globalKeys = Math.max(1, Math.floor(m / 32)), offset = m - n } = options;
  countArg(op, 'window', window);
  countArg(op, 'globalKeys', globalKeys, 1);
  integerArg(op, 'offset', offset);
  const tokenIds = listArg(op, 'tokenIds', options.tokenIds, m);
  const segments = listArg(op, 'segments', options.segments, m);
  const occurrences = tokenIds && occurrencesOf(tokenIds);
  const cuts = segments ? [cutBy(m, (key) => segments[key]!, undefined)] : evenCuts(m, window);
  return { m, offset, window, globalKeys, occurrences, cuts };
}

/** Scores of several heads, from their rows. */
export interface HeadClassifier {
  /** Takes the weights and the entropy of a query of the head at a place in the list of heads. */
  readonly add: (head: number, query: number, row: Float32Array, entropy: number) => void;
  /** What all rows say together. */
  results(): HeadClass[];
}

/** @throws FOVEA_ARGUMENT, FOVEA_SHAPE for options that do not fit */
export function headClassifier(op: string, rows: WeightRows, options: ClassifyOptions): HeadClassifier {
  const { heads, n, m } = rows;
  const asked = optionsArg(`${op}, thresholds`, options.thresholds, [...order]);
  for (const [name, value] of Object.entries(asked)) numberArg(op, `thresholds.${name}`, value);
  const thresholds = { ...defaults, ...withoutUndefined(asked) };
  const setting = settingOf(op, n, m, options);
  const scores = heads.map(() => new HeadScores(setting));
  return {
    add: (head, query, row, entropy) => scores[head]!.add(query, row, entropy),
    results: () => scores.map((score, at) => score.result(heads[at]!, thresholds)),
  };
}

/**
 * What heads look at: local, block, global, distributed, induction, the first token as a sink, or a mixture. Rows are
 * read in blocks, so that captures of long inputs fit.
 *
 * @example
 * const ids = await inputIds.select(0, 0).data<BigInt64Array>();
 * const classes = await inspect.classifyHeads(observer.get('transformer.h.5.attn'), { tokenIds: ids });
 * console.log(classes.map(({ head, pattern }) => `${head}: ${pattern}`));
 * @param weights [n, m], [h, n, m] or [b, h, n, m] (one sequence of it), or a capture
 * @returns for each head its pattern and all scores; small inputs (m < 16) say little about blocks and global keys
 * @throws FOVEA_ARGUMENT, FOVEA_SHAPE, FOVEA_DTYPE, FOVEA_INDEX for weights or options that do not fit; rejects with
 *   what reading the weights rejects with
 */
export async function classifyHeads(weights: WeightSource, options?: ClassifyOptions): Promise<HeadClass[]> {
  const op = 'inspect.classifyHeads';
  const asked = optionsArg(op, options, optionNames);
  const rows = weightRows(op, weights, asked);
  const classifier = headClassifier(op, rows, asked);
  await eachRow(rows, classifier.add);
  return classifier.results();
}
