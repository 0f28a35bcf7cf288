/**
 * Beam search: of each sequence the `numBeams` continuations whose tokens together are the likeliest are carried on.
 * Hypotheses that ended are compared by
 *
 *   score = Σ ln p(token) / length^lengthPenalty          (length: tokens generated, the one that ends included)
 *
 * as in Hugging Face; with a penalty above 0 longer ones are preferred (Wu et al. 2016,
 * https://arxiv.org/abs/1609.08144, section 7, has another denominator). One beam is greedy decoding.
 */
import { noGrad } from '../autograd/backward.js';
import { FoveaError } from '../errors.js';
import { throwIfAborted } from '../io/files.js';
import { logSoftmax, tensor, topk } from '../ops/index.js';
import { argumentError, countArg, numberArg, optionsArg } from '../tensor/check.js';
import type { Device } from '../tensor/device.js';
import type { Tensor } from '../tensor/tensor.js';
import { tidy } from '../tensor/tidy.js';

/** Options of {@link beamSearch}. */
export interface BeamSearchOptions {
  /** What sequences begin with: token numbers, as many for each. */
  start: readonly (readonly number[])[];
  /** At most so many tokens behind them (default 20). */
  maxNewTokens?: number;
  /** Continuations carried on for each sequence (default 1: greedy). */
  numBeams?: number;
  /** Exponent of the length (default 1). */
  lengthPenalty?: number;
  /**
   * Whether a sequence is done with as many ended hypotheses as beams, though others may still get better (default
   * false).
   */
  earlyStopping?: boolean;
  /** Tokens that end a sequence. */
  eosTokenIds: readonly number[];
  /** Where the tokens go; default 'cpu'. */
  device?: Device;
  /** Ends the search between steps: it then rejects with FOVEA_ABORTED. */
  signal?: AbortSignal | undefined;
}

/** The best hypothesis of a sequence. */
export interface Hypothesis {
  /** Tokens behind the start, the one that ends included. */
  tokens: number[];
  /** Its score; see the top of the file. */
  score: number;
}

interface Beam {
  readonly tokens: readonly number[];
  readonly sum: number;
  /** Which row of the logits it comes from. */
  readonly row: number;
}

/** What is known of one sequence. */
class Search {
  readonly start: readonly number[];
  beams: Beam[];
  readonly ended: Hypothesis[] = [];
  done = false;
  readonly #plan: Plan;

  constructor(start: readonly number[], row: number, plan: Plan) {
    this.start = start;
    this.beams = [{ tokens: [], sum: 0, row }];
    this.#plan = plan;
  }

  #score({ tokens, sum }: Beam): Hypothesis {
    return { tokens: [...tokens], score: sum / tokens.length ** this.#plan.lengthPenalty };
  }

  /** One token further. @param candidates the likeliest first */
  extend(candidates: readonly Beam[]): void {
    const { numBeams, eos, earlyStopping } = this.#plan;
    const alive: Beam[] = [];
    for (const [rank, candidate] of candidates.entries()) {
      if (alive.length === numBeams) break;
      if (!eos.has(candidate.tokens.at(-1)!)) alive.push(candidate);
      else if (rank < numBeams) this.#end(candidate);
    }
    this.beams = alive;
    if (this.ended.length < numBeams && alive.length > 0) return;
    const best = alive[0] && this.#score(alive[0]).score;
    this.done = best === undefined || earlyStopping || this.ended.at(-1)!.score >= best;
  }

  #end(beam: Beam): void {
    this.ended.push(this.#score(beam));
    this.ended.sort((a, b) => b.score - a.score);
    this.ended.length = Math.min(this.ended.length, this.#plan.numBeams);
  }

  /** The best hypothesis; those that did not end take part unless enough did. */
  best(): Hypothesis {
    if (!this.done) for (const beam of this.beams) this.#end(beam);
    return this.ended[0]!;
  }
}

interface Plan {
  readonly numBeams: number;
  readonly lengthPenalty: number;
  readonly earlyStopping: boolean;
  readonly eos: ReadonlySet<number>;
}

const optionNames = [
  'start',
  'maxNewTokens',
  'numBeams',
  'lengthPenalty',
  'earlyStopping',
  'eosTokenIds',
  'device',
  'signal',
] as const;

function startArg(start: BeamSearchOptions['start']): void {
  const length = start?.[0]?.length ?? 0;
  if (length > 0 && start.every((tokens) => tokens.length === length)) return;
  throw argumentError('beamSearch', 'start', 'lists of as many tokens, at least one in each', start);
}

/** The likeliest continuations of the beams of each search that goes on, the likeliest first. */
async function candidatesOf(logits: Tensor, searches: readonly Search[], count: number): Promise<Beam[][]> {
  const found = tidy(() => topk(logSoftmax(logits.float(), -1), count, -1));
  const [values, indices] = await Promise.all([found.values.data(), found.indices.data()]);
  found.values.dispose();
  found.indices.dispose();
  let rows = 0;
  return searches.map(({ beams }) => {
    const all = beams.flatMap(({ tokens, sum }) => {
      const row = rows++;
      return Array.from({ length: count }, (_, i) => ({
        tokens: [...tokens, Number(indices[row * count + i])],
        sum: sum + Number(values[row * count + i]),
        row,
      }));
    });
    if (all.some(({ sum }) => Number.isNaN(sum)))
      throw new FoveaError('FOVEA_ARGUMENT', 'beamSearch: the logits hold NaN; look at the weights and the input');
    return all.sort((a, b) => b.sum - a.sum);
  });
}

/**
 * Searches for the likeliest continuations. Every step is awaited, and its intermediates are freed at its end.
 *
 * @param next logits [R, vocabulary] of what follows tokens [R, L] int64; row r belongs to the sequence
 *   `sequence[r]`, and continues row `parents[r]` of the call before, so that a cache is reordered by them (at the
 *   first call: itself). It runs without gradients, and what it makes is freed
 * @returns for each sequence its best hypothesis
 * @throws FOVEA_ARGUMENT for options out of range, and for logits that are NaN; FOVEA_ABORTED
 */
export async function beamSearch(
  next: (tokens: Tensor, sequence: readonly number[], parents: readonly number[]) => Tensor,
  options: BeamSearchOptions,
): Promise<Hypothesis[]> {
  const op = 'beamSearch';
  if (options === undefined) throw argumentError(op, 'options', 'an object with start and eosTokenIds', options);
  const { maxNewTokens = 20, numBeams = 1, lengthPenalty = 1, ...rest } = optionsArg(op, options, optionNames);
  const { start, earlyStopping = false, eosTokenIds, device = 'cpu', signal } = rest;
  startArg(start);
  countArg(op, 'maxNewTokens', maxNewTokens, 1);
  countArg(op, 'numBeams', numBeams, 1);
  if (!Number.isFinite(numberArg(op, 'lengthPenalty', lengthPenalty)))
    throw argumentError(op, 'lengthPenalty', 'a finite number', lengthPenalty);
  for (const id of eosTokenIds) countArg(op, 'eosTokenIds', id);
  const plan = { numBeams, lengthPenalty, earlyStopping, eos: new Set(eosTokenIds) };
  const searches = start.map((tokens, row) => new Search(tokens, row, plan));
  for (let step = 0; step < maxNewTokens; step++) {
    throwIfAborted(signal, op);
    const running = searches.filter(({ done }) => !done);
    if (running.length === 0) break;
    const rows = running.flatMap((search) => search.beams.map(({ tokens }) => [...search.start, ...tokens]));
    const sequence = running.flatMap((search) => search.beams.map(() => searches.indexOf(search)));
    const parents = running.flatMap((search) => search.beams.map(({ row }) => row));
    const logits = noGrad(() => tidy(() => next(tensor(rows, { dtype: 'int64', device }), sequence, parents)));
    const vocabulary = logits.shape[1]!;
    // As many again, since up to numBeams of them may end.
    const candidates = await candidatesOf(logits, running, Math.min(2 * numBeams, vocabulary));
    logits.dispose();
    for (const [i, search] of running.entries()) search.extend(candidates[i]!);
  }
  return searches.map((search) => search.best());
}
