/**
 * Random numbers from Philox counters (native/core/random.h). Every op reserves its counters from a generator when it
 * is called, so that results depend on neither timing, threads nor device.
 */
import { FoveaError } from '../errors.js';
import { capturing, refuseInRecording, type Capture } from '../tensor/capture.js';
import {
  argumentError,
  countArg,
  integerArg,
  numberArg,
  optionsArg,
  probabilityArg,
  shapeError,
} from '../tensor/check.js';
import { drawnBefore, noteDraw, refuseInRepeatable } from '../tensor/draws.js';
import { Code, isFloat } from '../tensor/dtype.js';
import { sameShape, sizeOf, type Shape } from '../tensor/layout.js';
import { allocate } from '../tensor/storage.js';
import { slotOf, type Tensor } from '../tensor/tensor.js';
import { castTo } from './cast.js';
import { lt } from './compare.js';
import { allocated, asAsked, filled, placement, type TensorOptions } from './creation.js';
import { defineOp, type DefinedOp } from './define-op.js';
import { add, mul } from './elementwise.js';
import { kernels } from './kernels.gen.js';
import { reshape } from './shape.js';

/** Everything that the next numbers of a generator depend on. */
export interface GeneratorState {
  /** A whole number from 0 to 2^53 - 1. */
  seed: number;
  /** Blocks of four random words that were used. */
  offset: number;
}

/** PyTorch's default seed. */
const defaultSeed = 67280421310721;
const maxOffset = 2 ** 53;

/**
 * A source of random numbers, independent of all others: Philox-4x32-10 (Salmon et al. 2011, "Parallel random numbers:
 * as easy as 1, 2, 3").
 */
export class Generator {
  private state: GeneratorState;
  /**
   * The recording of the step that made this.
   *
   * @internal
   */
  readonly born: Capture | null = capturing;

  /**
   * @param seed a whole number from 0 to 2^53 - 1
   * @throws FOVEA_ARGUMENT for any other seed
   */
  constructor(seed: number = defaultSeed) {
    this.state = { seed: countArg('Generator', 'seed', seed), offset: 0 };
  }
  /** What the generator was seeded with. */
  get seed(): number {
    return this.state.seed;
  }
  /** Blocks of four random words that were used. */
  get offset(): number {
    return this.state.offset;
  }
  /**
   * Starts anew from a seed.
   *
   * @returns this generator
   * @throws FOVEA_ARGUMENT unless the seed is a whole number from 0 to 2^53 - 1
   */
  manualSeed(seed: number): this {
    this.mayBeSet('manualSeed');
    this.state = { seed: countArg('manualSeed', 'seed', seed), offset: 0 };
    return this;
  }
  /** What `setState` takes to go on from here. */
  getState(): GeneratorState {
    return { ...this.state };
  }
  /**
   * Goes on from where `getState` was called.
   *
   * @returns this generator
   * @throws FOVEA_ARGUMENT for what is no state
   */
  setState(state: GeneratorState): this {
    this.mayBeSet('setState');
    this.state = {
      seed: countArg('setState', 'seed', state?.seed),
      offset: countArg('setState', 'offset', state.offset),
    };
    return this;
  }
  /**
   * Takes the blocks that `count` random words need; gives their first and the seed.
   *
   * @internal
   */
  reserve(count: number): { seed: number; offset: number } {
    const before = drawnBefore(count);
    if (before !== null) return before;
    const { seed, offset } = this.state;
    // Beyond 2^53 counters are no longer exact; the next seed has fresh ones.
    const next = offset + Math.ceil(count / 4);
    this.state = next < maxOffset ? { seed, offset: next } : { seed: seed + 1, offset: 0 };
    if (capturing !== null) capturing.drew(this, count, { seed, offset });
    noteDraw(count, seed, offset);
    return { seed, offset };
  }
  private mayBeSet(op: string): void {
    refuseInRepeatable(op, 'it would happen once more in backward; call it before, or make a Generator in fn');
    if (capturing !== this.born)
      refuseInRecording(op, 'it would happen once only; call it before, or make a Generator in the step');
  }
}

const shared = new Generator();
/**
 * The generator of all ops that are given none: one per thread of JavaScript.
 *
 * @returns always the same one
 */
export function defaultGenerator(): Generator {
  return shared;
}
/**
 * Seeds the default generator.
 *
 * @param seed a whole number from 0 to 2^53 - 1
 * @returns the default generator
 * @throws FOVEA_ARGUMENT for any other seed
 */
export function manualSeed(seed: number): Generator {
  return shared.manualSeed(seed);
}

/** Options of random ops. */
export interface RandomOptions extends TensorOptions {
  /** Where the numbers come from; default: the one that `manualSeed` seeds. */
  generator?: Generator;
}
const optionNames = ['dtype', 'device', 'requiresGrad', 'generator'] as const;

function source(op: string, generator: Generator | undefined): Generator {
  if (generator === undefined) return shared;
  if (!(generator instanceof Generator)) throw argumentError(op, 'generator', 'a Generator', generator);
  return generator;
}

/**
 * Numbers from the uniform distribution on [0, 1), of a floating dtype (default float32).
 *
 * @returns a tensor of `shape`
 * @throws FOVEA_DTYPE for integers and bool, FOVEA_ARGUMENT for what is no shape
 */
export function rand(shape: Shape, options?: RandomOptions): Tensor {
  const given = optionsArg('rand', options, optionNames);
  const x = allocated('rand', shape, given);
  kernels.uniform_({ x }, { ...source('rand', given.generator).reserve(x.size), low: 0, high: 1 });
  return asAsked(x, given);
}
/**
 * Numbers from the normal distribution with mean 0 and deviation 1, of a floating dtype (default float32), by the
 * method of Box & Muller (1958).
 *
 * @returns a tensor of `shape`
 * @throws FOVEA_DTYPE for integers and bool, FOVEA_ARGUMENT for what is no shape
 */
export function randn(shape: Shape, options?: RandomOptions): Tensor {
  const given = optionsArg('randn', options, optionNames);
  const x = allocated('randn', shape, given);
  kernels.normal_({ x }, { ...source('randn', given.generator).reserve(x.size), mean: 0, std: 1 });
  return asAsked(x, given);
}
/**
 * Whole numbers from `low` up to but without `high`; int64 unless a dtype is given.
 *
 * @returns a tensor of `shape`
 * @throws FOVEA_ARGUMENT unless low and high are integers and low < high
 */
export function randint(low: number, high: number, shape: Shape, options?: RandomOptions): Tensor {
  const given = optionsArg('randint', options, optionNames);
  integerArg('randint', 'low', low);
  if (integerArg('randint', 'high', high) <= low)
    throw argumentError('randint', 'high', `an integer above low = ${low}`, high);
  const x = allocated('randint', shape, given, Code.int64);
  kernels.randint_({ x }, { ...source('randint', given.generator).reserve(x.size), low, high });
  return asAsked(x, given);
}
/**
 * The numbers from 0 to n - 1 in random order; int64 unless a dtype is given.
 *
 * @returns [n]
 * @throws FOVEA_ARGUMENT for a negative or fractional n
 */
export function randperm(n: number, options?: RandomOptions): Tensor {
  const given = optionsArg('randperm', options, optionNames);
  const { code, device } = placement('randperm', given, Code.int64);
  const keys = allocate([countArg('randperm', 'n', n)], Code.float64, device);
  kernels.uniform_({ x: keys }, { ...source('randperm', given.generator).reserve(2 * n), low: 0, high: 1 });
  const { values, indices } = kernels.sort({ x: keys }, {});
  values.dispose();
  keys.dispose();
  return asAsked(castTo(indices, code), given);
}
/**
 * 1 with the probability that `x` gives for each element, else 0. No gradient.
 *
 * @param x probabilities of any shape; what lies outside of [0, 1] counts as its nearest bound
 * @returns the shape and dtype of `x`
 * @throws FOVEA_ARGUMENT for a generator that is none
 */
export function bernoulli(x: Tensor, options?: { generator?: Generator }): Tensor {
  const { generator } = optionsArg('bernoulli', options, ['generator']);
  const { shape, dtype } = slotOf(x, 'bernoulli', 'x');
  const draws = rand(shape, { generator: source('bernoulli', generator), device: x.device });
  return castTo(lt(draws, x.detach()), dtype);
}

const dropoutOp: DefinedOp<'dropout'> = defineOp({
  kernel: 'dropout',
  saves: [],
  // the same counters give the same elements
  gradient: (_, { y: dy }, attrs) => ({ x: dropoutOp({ x: dy }, attrs).y }),
});
/**
 * Internal: dropout with given counters, as the reference of attention needs it.
 *
 * @returns the shape and dtype of `x`
 */
export function dropoutAt(x: Tensor, p: number, seed: number, offset: number): Tensor {
  return dropoutOp({ x }, { p, seed, offset }).y;
}

/** Options of `dropout`. */
export interface DropoutOptions {
  /** The probability of an element to become 0; default 0.5. */
  p?: number;
  /** Without training (default true) nothing is dropped. */
  training?: boolean;
  /** Where the numbers come from; default: the one that `manualSeed` seeds. */
  generator?: Generator;
}
/**
 * Zeros elements at random and divides the others by 1 - p (Srivastava et al. 2014).
 *
 * @param x any shape, floats
 * @returns the shape and dtype of `x`; `x` itself without training or with p = 0
 * @throws FOVEA_ARGUMENT for a `p` outside of [0, 1], FOVEA_DTYPE for integers and bool
 */
export function dropout(x: Tensor, options?: DropoutOptions): Tensor {
  const { p = 0.5, training = true, generator } = optionsArg('dropout', options, ['p', 'training', 'generator']);
  slotOf(x, 'dropout', 'x');
  probabilityArg('dropout', 'p', p);
  const from = source('dropout', generator);
  if (!training || p === 0) return x;
  if (p === 1) return mul(x, filled('dropout', [], 0, x.slot!.dtype, x.slot!.device));
  return dropoutOp({ x }, { p, ...from.reserve(x.size) }).y;
}

const dropoutAddOp = defineOp({
  kernel: 'dropoutAdd',
  saves: [],
  reference: ({ x, residual }, attrs) => ({ y: add(dropoutOp({ x }, attrs).y, residual) }),
  gradient: (_, { y: dy }, attrs, __, wants) => ({
    x: wants.x ? dropoutOp({ x: dy }, attrs).y : undefined,
    residual: dy,
  }),
});
/**
 * dropout(x) + residual in one pass, with the random numbers of `dropout` (Srivastava et al. 2014).
 *
 * @param x any shape, floats
 * @param residual the shape and dtype of `x`
 * @returns the shape and dtype of `x`
 * @throws FOVEA_SHAPE for shapes that differ, FOVEA_ARGUMENT for a `p` outside of [0, 1], FOVEA_DTYPE for integers
 *   and bool or dtypes that differ
 */
export function dropoutAdd(x: Tensor, residual: Tensor, options?: DropoutOptions): Tensor {
  const { p = 0.5, training = true, generator } = optionsArg('dropoutAdd', options, ['p', 'training', 'generator']);
  const { shape, dtype } = slotOf(x, 'dropoutAdd', 'x');
  const other = slotOf(residual, 'dropoutAdd', 'residual');
  if (!sameShape(shape, other.shape))
    throw shapeError('dropoutAdd', `expected residual [${shape.join(',')}], received [${other.shape.join(',')}]`);
  if (dtype !== other.dtype)
    throw new FoveaError('FOVEA_DTYPE', `dropoutAdd: expected residual of ${x.dtype}, received ${residual.dtype}`);
  probabilityArg('dropoutAdd', 'p', p);
  const from = source('dropoutAdd', generator);
  if (!training || p === 0) return add(x, residual);
  if (p === 1) return add(dropout(x, { p }), residual);
  return dropoutAddOp({ x, residual }, { p, ...from.reserve(x.size) }).y;
}

/** Options of `multinomial`. */
export interface MultinomialOptions {
  /** Whether a class may be drawn twice; default false. */
  replacement?: boolean;
  /** Where the numbers come from; default: the one that `manualSeed` seeds. */
  generator?: Generator;
}
/**
 * Draws `numSamples` classes with probabilities in proportion to `probs`.
 *
 * @param probs [n] or [b, n], at least 0, with a positive sum per row; integers and bool become float32
 * @param numSamples at least 1, and at most n without replacement
 * @returns int64 [numSamples] or [b, numSamples]
 * @throws FOVEA_SHAPE for other ranks, FOVEA_ARGUMENT for too many samples; rejects with FOVEA_ARGUMENT for negative or
 *   NaN weights, or fewer positive ones than samples
 */
export function multinomial(probs: Tensor, numSamples: number, options?: MultinomialOptions): Tensor {
  const { replacement = false, generator } = optionsArg('multinomial', options, ['replacement', 'generator']);
  const { shape, dtype } = slotOf(probs, 'multinomial', 'probs');
  if (shape.length < 1 || shape.length > 2)
    throw shapeError('multinomial', `expected probs [n] or [b,n], received [${shape.join(',')}]`);
  countArg('multinomial', 'numSamples', numSamples, 1);
  const n = shape.at(-1)!;
  if (!replacement && numSamples > n)
    throw argumentError('multinomial', 'numSamples', `at most ${n} without replacement`, numSamples);
  const from = isFloat(dtype) ? probs : castTo(probs, Code.float32);
  const rows = shape.length === 1 ? reshape(from, [1, n]) : from;
  const words = sizeOf(rows.shape) + rows.shape[0]! * numSamples;
  const { ids } = kernels.multinomial(
    { probs: rows },
    { numSamples, replacement, ...source('multinomial', generator).reserve(words) },
  );
  return shape.length === 1 ? reshape(ids, [numSamples]) : ids;
}

/**
 * Internal: one class for each row of weights [b, n], drawn with given counters.
 *
 * @returns int64 [b]
 */
export function drawAt(weights: Tensor, seed: number, offset: number): Tensor {
  const { ids } = kernels.multinomial({ probs: weights }, { numSamples: 1, replacement: false, seed, offset });
  return reshape(ids, [weights.shape[0]!]);
}
/**
 * Internal: the counters that draws of one of n classes for each of b rows take from a generator.
 *
 * @returns what `drawAt` takes
 */
export function drawCounters(
  op: string,
  b: number,
  n: number,
  generator: Generator | undefined,
): { seed: number; offset: number } {
  return source(op, generator).reserve(b * n + b);
}

/**
 * Internal: fills in place with uniform or normal numbers; see in-place.ts.
 *
 * @param first the lower bound, or the mean
 * @param second the upper bound, or the deviation
 * @throws FOVEA_DTYPE for integers and bool, FOVEA_ARGUMENT for bounds that are no numbers
 */
export function fillRandom(
  kind: 'uniform_' | 'normal_',
  x: Tensor,
  first: number,
  second: number,
  generator: Generator | undefined,
): void {
  const uniform = kind === 'uniform_';
  numberArg(kind, uniform ? 'low' : 'mean', first);
  numberArg(kind, uniform ? 'high' : 'std', second);
  const counters = source(kind, generator).reserve(x.size);
  if (uniform) kernels.uniform_({ x }, { ...counters, low: first, high: second });
  else kernels.normal_({ x }, { ...counters, mean: first, std: second });
}
