/**
 * Easy items first (Bengio et al. 2009, "Curriculum learning"): at a progress t from 0 to 1 the share c(t) of the items
 * that are the easiest may be drawn. `sqrt` is the competence of Platanios et al. 2019,
 * https://arxiv.org/abs/1903.09848 (equation 6), under which every item waits about equally long for the next:
 *
 *   linear: c(t) = c₀ + (1 - c₀) t        sqrt: c(t) = sqrt(c₀² + (1 - c₀²) t)
 */
import { argumentError, countArg, optionsArg } from '../../tensor/check.js';
import { listArg } from './list.js';
import { RandomStream } from './random-stream.js';
import type { Sampler } from './sampler.js';

/** How the share of items grows: by name, or a function of the progress from 0 to 1 that gives a share from 0 to 1. */
export type CurriculumSchedule = 'linear' | 'sqrt' | ((progress: number) => number);

/** Options of {@link CurriculumSampler}. */
export interface CurriculumOptions {
  /** Epochs until every item may be drawn. */
  epochs: number;
  /** Default 'sqrt'. */
  schedule?: CurriculumSchedule;
  /** c₀, the share of the first epoch; above 0 (default 0.1). A schedule that is a function does not use it. */
  start?: number;
  /**
   * Without it, an epoch has each of its items once, and the share grows from epoch to epoch. With it, an epoch has so
   * many draws, each with replacement from what is allowed then, and the share grows with every draw.
   */
  draws?: number;
  /** Which random order of all; it changes with the epoch (default 0). */
  seed?: number;
}

function scheduleOf(op: string, schedule: CurriculumSchedule, start: number): (progress: number) => number {
  if (schedule === 'linear') return (t) => start + (1 - start) * t;
  if (schedule === 'sqrt') return (t) => Math.sqrt(start ** 2 + (1 - start ** 2) * t);
  if (typeof schedule !== 'function') throw argumentError(op, 'schedule', "'linear', 'sqrt' or a function", schedule);
  return (t) => {
    const share: unknown = schedule(t);
    if (typeof share === 'number' && share >= 0 && share <= 1) return share;
    throw argumentError(op, `schedule(${t})`, 'a share from 0 to 1', share);
  };
}

/** Chooses from the easiest items, of which there are more with every epoch. */
export class CurriculumSampler implements Sampler {
  /** Indices from the easiest item on. */
  readonly #byDifficulty: Uint32Array;
  readonly #share: (progress: number) => number;
  readonly #epochs: number;
  readonly #draws: number | undefined;
  readonly #seed: number;

  /**
   * @param difficulty of each item of the dataset: finite numbers, such as lengths or losses
   * @throws FOVEA_ARGUMENT for anything else, and for options out of range
   */
  constructor(difficulty: ArrayLike<number>, options: CurriculumOptions) {
    const op = 'CurriculumSampler';
    const given = optionsArg(op, options, ['epochs', 'schedule', 'start', 'draws', 'seed']);
    const values = Array.from(listArg(op, 'difficulty', difficulty, 'a list of numbers'), (value, i) => {
      if (typeof value !== 'number' || !Number.isFinite(value))
        throw argumentError(op, `difficulty[${i}]`, 'a finite number', value);
      return value;
    });
    const { schedule = 'sqrt', start = 0.1, draws, seed = 0 } = given;
    if (typeof start !== 'number' || !(start > 0 && start <= 1))
      throw argumentError(op, 'start', 'a share above 0, up to 1', start);
    this.#epochs = countArg(op, 'epochs', given.epochs, 1);
    this.#share = scheduleOf(op, schedule, start);
    this.#draws = draws === undefined ? undefined : countArg(op, 'draws', draws, 1);
    this.#seed = countArg(op, 'seed', seed);
    this.#byDifficulty = Uint32Array.from(values.keys()).sort((a, b) => values[a]! - values[b]! || a - b);
  }

  /**
   * How many of the easiest items may be drawn after some epochs; at least one.
   *
   * @param epochs from 0; a part of an epoch counts
   * @throws FOVEA_ARGUMENT for anything else
   */
  allowed(epochs: number): number {
    if (typeof epochs !== 'number' || !(epochs >= 0))
      throw argumentError('CurriculumSampler.allowed', 'epochs', 'a number of at least 0', epochs);
    const n = this.#byDifficulty.length;
    return Math.min(n, Math.max(1, Math.ceil(n * this.#share(Math.min(1, epochs / this.#epochs)))));
  }

  /** The items of an epoch in random order, a pure function of (seed, epoch). */
  indices(epoch: number): Uint32Array {
    const random = new RandomStream(this.#seed, countArg('CurriculumSampler.indices', 'epoch', epoch));
    const draws = this.#draws;
    if (draws === undefined || this.#byDifficulty.length === 0)
      return random.shuffle(this.#byDifficulty.slice(0, this.allowed(epoch)));
    return Uint32Array.from(
      { length: draws },
      (_, draw) => this.#byDifficulty[random.below(this.allowed(epoch + draw / draws))]!,
    );
  }
}
