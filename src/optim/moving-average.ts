/**
 * Exponential moving averages of weights (Polyak & Juditsky 1992; for deep networks: Tarvainen & Valpola 2017,
 * https://arxiv.org/abs/1703.01780): after update t, counting from 1,
 *
 *   average = average + (1 - d) (p - average),  d = decay, with warm-up min(decay, (1 + t) / (10 + t))
 *
 * They start as the parameters. All change in one native call; those of 16-bit parameters are float32, since in 16 bits
 * a small share of a difference rounds to nothing.
 */
import { noGrad } from '../autograd/backward.js';
import { FoveaError } from '../errors.js';
import { eachTime, refuseInRecording } from '../tensor/capture.js';
import { argumentError, countArg, functionArg, optionsArg, shapeError } from '../tensor/check.js';
import { isFloat } from '../tensor/dtype.js';
import { sameShape } from '../tensor/layout.js';
import { runUnder } from '../tensor/modes.js';
import { slotOf, type Tensor } from '../tensor/tensor.js';
import { keep, tidy } from '../tensor/tidy.js';
import { follow, wideOf } from './optimizer.js';

/** Options of {@link ExponentialMovingAverage}. */
export interface ExponentialMovingAverageOptions {
  /** What is kept of the average at each update; at least 0, below 1 (default 0.999). */
  decay?: number;
  /** Whether the first updates keep less, so that the start is soon forgotten (default false). */
  useWarmup?: boolean;
}

/** What `loadStateDict` of an average takes. */
export interface MovingAverageState {
  /** Updates so far. */
  numUpdates: number;
  /** In the order of the parameters. */
  averages: readonly Tensor[];
}

const NAME = 'ExponentialMovingAverage';

function listArg(op: string, params: Iterable<Tensor>): Tensor[] {
  if (typeof params === 'object' && params !== null && Symbol.iterator in params) return [...params];
  throw argumentError(op, 'params', 'a list of tensors', params);
}

/**
 * Averages of parameters, to evaluate or save in their place.
 *
 * @example
 * const ema = new optim.ExponentialMovingAverage(model.parameters(), { decay: 0.999 });
 * optimizer.step();
 * ema.update();                                             // after every step, or inside of a recorded one
 * const loss = await ema.average(() => evaluate(model));    // with the averages in place of the weights
 */
export class ExponentialMovingAverage implements Disposable {
  /** Whose average it is. */
  readonly params: readonly Tensor[];
  /** In the order of the parameters. */
  readonly averages: readonly Tensor[];
  /** See {@link ExponentialMovingAverageOptions}. */
  readonly decay: number;
  /** See {@link ExponentialMovingAverageOptions}. */
  readonly useWarmup: boolean;
  /** Updates so far. */
  numUpdates: number = 0;
  #inPlace = false;

  /** @throws FOVEA_ARGUMENT for no tensors, or options out of range; FOVEA_DTYPE for integers */
  constructor(params: Iterable<Tensor>, options: ExponentialMovingAverageOptions = {}) {
    const { decay = 0.999, useWarmup = false } = optionsArg(NAME, options, ['decay', 'useWarmup']);
    if (typeof decay !== 'number' || !(decay >= 0 && decay < 1))
      throw argumentError(NAME, 'decay', 'a number of at least 0 and below 1', decay);
    if (typeof useWarmup !== 'boolean') throw argumentError(NAME, 'useWarmup', 'true or false', useWarmup);
    this.params = listArg(NAME, params);
    if (this.params.length === 0) throw argumentError(NAME, 'params', 'at least one tensor', this.params);
    for (const [i, p] of this.params.entries())
      if (!isFloat(slotOf(p, NAME, `params[${i}]`).dtype))
        throw new FoveaError('FOVEA_DTYPE', `${NAME}: params[${i}] is ${p.dtype}; averages are of floats`);
    refuseInRecording(NAME, 'it outlives the step; make it before');
    this.decay = decay;
    this.useWarmup = useWarmup;
    this.averages = noGrad(() => tidy(() => this.params.map((p) => keep(p.to(wideOf(p)).clone()))));
  }

  /** Takes the parameters as they are now into the average; once after every step of the optimizer. */
  update(): void {
    this.#mustNotBeInPlace('update');
    eachTime(() => {
      this.numUpdates++;
    });
    const kept = (t: number): number => (this.useWarmup ? Math.min(this.decay, (1 + t) / (10 + t)) : this.decay);
    noGrad(() =>
      tidy(() => {
        const now = this.params.map((p) => p.to(wideOf(p)));
        follow(this.averages, now, () => 1 - kept(this.numUpdates));
      }),
    );
  }

  /** Writes the averages into the parameters, for good, or into other tensors of the same shapes. */
  copyTo(params: Iterable<Tensor> = this.params): void {
    const targets = listArg(`${NAME}.copyTo`, params);
    this.#mustFit('copyTo', 'params', targets);
    noGrad(() => this.averages.forEach((average, i) => void targets[i]!.copy_(average)));
  }

  /**
   * Runs `fn` with the averages in place of the parameters, which come back when it returns or its promise settles.
   * Until then nobody else should use the parameters.
   *
   * @param fn a synchronous or asynchronous function
   * @returns what `fn` returns
   * @throws FOVEA_ARGUMENT while another `average` of this runs, FOVEA_UNSUPPORTED in a recorded step, what `fn` throws
   */
  average<T>(fn: () => T): T {
    functionArg(`${NAME}.average`, 'fn', fn);
    refuseInRecording(`${NAME}.average`, 'the parameters change back behind it; call the recorded step inside of it');
    this.#mustNotBeInPlace('average');
    const before = noGrad(() => this.params.map((p) => keep(p.clone())));
    const inPlace = (): T => {
      this.copyTo();
      this.#inPlace = true;
      return fn();
    };
    return runUnder({}, inPlace, () => {
      this.#inPlace = false;
      noGrad(() => this.params.forEach((p, i) => void p.copy_(before[i]!)));
      for (const tensor of before) tensor.dispose();
    });
  }

  #mustNotBeInPlace(method: string): void {
    if (!this.#inPlace) return;
    throw new FoveaError(
      'FOVEA_ARGUMENT',
      `${NAME}.${method}: the averages are in place of the parameters; wait until average() is over`,
    );
  }

  #mustFit(method: string, name: string, tensors: readonly Tensor[]): void {
    const op = `${NAME}.${method}`;
    if (tensors.length !== this.params.length)
      throw argumentError(op, name, `${this.params.length} tensors`, `${tensors.length} tensors`);
    for (const [i, tensor] of tensors.entries()) {
      const { shape } = slotOf(tensor, op, `${name}[${i}]`);
      const expected = this.averages[i]!.shape;
      if (!sameShape(shape, expected)) throw shapeError(op, `${name}[${i}] is [${shape}], expected [${expected}]`);
    }
  }

  /** The state, with the averages themselves. */
  stateDict(): MovingAverageState {
    return { numUpdates: this.numUpdates, averages: [...this.averages] };
  }

  /** Copies a state; FOVEA_ARGUMENT or FOVEA_SHAPE for one of other parameters. */
  loadStateDict(state: MovingAverageState): void {
    if (typeof state !== 'object' || state === null || !Array.isArray(state.averages))
      throw argumentError(`${NAME}.loadStateDict`, 'state', 'a state dict', state);
    const numUpdates = countArg(`${NAME}.loadStateDict`, 'numUpdates', state.numUpdates);
    this.#mustFit('loadStateDict', 'averages', state.averages);
    noGrad(() => this.averages.forEach((average, i) => void average.copy_(state.averages[i]!)));
    this.numUpdates = numUpdates;
  }

  /** Frees the averages at once. */
  dispose(): void {
    for (const average of this.averages) average.dispose();
  }

  /** What `using` calls: `dispose()`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}
