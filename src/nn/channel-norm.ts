/**
 * Normalisation of channels, x [b, c, …]:
 *
 *   BatchNorm1d, BatchNorm2d  a channel over all images, in evaluation by statistics that training has kept
 *                             (Ioffe & Szegedy 2015, https://arxiv.org/abs/1502.03167)
 *   GroupNorm                 groups of an image's channels (Wu & He 2018, https://arxiv.org/abs/1803.08494)
 */
import { batchNorm, groupNorm, ones, zeros } from '../ops/index.js';
import { argumentError, countArg, numberArg, optionsArg, shapeError } from '../tensor/check.js';
import { runsAgain } from '../tensor/draws.js';
import type { Dtype } from '../tensor/dtype.js';
import { slotOf, type Tensor } from '../tensor/tensor.js';
import { Module } from './module.js';
import { parameter } from './parameter.js';

/** Options of {@link GroupNorm}. */
export interface GroupNormOptions {
  /** Added to the variance (default 1e-5). */
  eps?: number;
  /** Whether there are a weight and a bias (default true). */
  affine?: boolean;
  /** Of the parameters; default float32. */
  dtype?: Dtype;
}
/** Options of {@link BatchNorm1d} and {@link BatchNorm2d}. */
export interface BatchNormOptions extends GroupNormOptions {
  /**
   * How much of the running statistics a step of training replaces (default 0.1); null: they are the average of all
   * steps.
   */
  momentum?: number | null;
  /** Whether there are running statistics (default true); without, those of `x` are used in evaluation, too. */
  trackRunningStats?: boolean;
}

/**
 * What both share. Keys: `weight`, `bias`, `running_mean`, `running_var`, all [numFeatures], and `num_batches_tracked`,
 * an int64 of no axes.
 */
abstract class BatchNorm extends Module {
  /** Channels. */
  readonly numFeatures: number;
  /** Added to the variance. */
  readonly eps: number;
  /** Weight of a step in the running statistics; null: that of all steps is equal. */
  readonly momentum: number | null;
  /** [numFeatures] */
  weight: Tensor | undefined;
  /** [numFeatures] */
  bias: Tensor | undefined;
  /** [numFeatures] */
  runningMean: Tensor | undefined;
  /** [numFeatures] */
  runningVar: Tensor | undefined;
  /** Steps of training, int64 of no axes. */
  numBatchesTracked: Tensor | undefined;

  constructor(op: string, numFeatures: number, options: BatchNormOptions) {
    super();
    const known = ['eps', 'momentum', 'affine', 'trackRunningStats', 'dtype'] as const;
    const {
      eps = 1e-5,
      momentum = 0.1,
      affine = true,
      trackRunningStats = true,
      dtype = 'float32',
    } = optionsArg(op, options, known);
    this.numFeatures = countArg(op, 'numFeatures', numFeatures, 1);
    this.eps = numberArg(op, 'eps', eps);
    this.momentum = momentum === null ? null : numberArg(op, 'momentum', momentum);
    if (affine) this.weight = parameter(ones([numFeatures], { dtype }));
    if (affine) this.bias = parameter(zeros([numFeatures], { dtype }));
    if (!trackRunningStats) return;
    this.registerBuffer('runningMean', zeros([numFeatures], { dtype }));
    this.registerBuffer('runningVar', ones([numFeatures], { dtype }));
    this.registerBuffer('numBatchesTracked', zeros([], { dtype: 'int64' }));
  }

  /** Counts the step. @returns its weight in the running statistics */
  private step(): number | Tensor {
    const { momentum, numBatchesTracked } = this;
    if (!this.training || !numBatchesTracked || runsAgain()) return momentum ?? 0;
    numBatchesTracked.add_(1);
    return momentum ?? numBatchesTracked.to('float64').reciprocal();
  }

  /** Normalises x [b, numFeatures, …]. */
  protected normalise(x: Tensor): Tensor {
    const { runningMean, runningVar, weight, bias, eps } = this;
    const training = this.training || !runningMean || !runningVar;
    return batchNorm(x, runningMean, runningVar, weight, bias, { training, momentum: this.step(), eps });
  }
}

function rankArg(op: string, x: Tensor, expected: string, ranks: readonly number[]): void {
  const { shape } = slotOf(x, op, 'x');
  if (!ranks.includes(shape.length)) throw shapeError(op, `expected x ${expected}, received [${shape.join(',')}]`);
}

/** Batch normalisation of vectors and sequences. */
export class BatchNorm1d extends BatchNorm {
  constructor(numFeatures: number, options: BatchNormOptions = {}) {
    super('BatchNorm1d', numFeatures, options);
  }

  /** @param x [b, numFeatures] or [b, numFeatures, l] @returns the same shape */
  override forward(x: Tensor): Tensor {
    rankArg('BatchNorm1d', x, '[b,c] or [b,c,l]', [2, 3]);
    return this.normalise(x);
  }
}
/** Batch normalisation of images. */
export class BatchNorm2d extends BatchNorm {
  constructor(numFeatures: number, options: BatchNormOptions = {}) {
    super('BatchNorm2d', numFeatures, options);
  }

  /** @param x [b, numFeatures, h, w] @returns the same shape */
  override forward(x: Tensor): Tensor {
    rankArg('BatchNorm2d', x, '[b,c,h,w]', [4]);
    return this.normalise(x);
  }
}

/** Group normalisation. Keys: `weight`, `bias`, both [numChannels]. */
export class GroupNorm extends Module {
  /** Groups of channels. */
  readonly numGroups: number;
  /** Channels. */
  readonly numChannels: number;
  /** Added to the variance. */
  readonly eps: number;
  /** [numChannels] */
  weight: Tensor | undefined;
  /** [numChannels] */
  bias: Tensor | undefined;

  constructor(numGroups: number, numChannels: number, options: GroupNormOptions = {}) {
    super();
    const known = ['eps', 'affine', 'dtype'] as const;
    const { eps = 1e-5, affine = true, dtype = 'float32' } = optionsArg('GroupNorm', options, known);
    this.numGroups = countArg('GroupNorm', 'numGroups', numGroups, 1);
    this.numChannels = countArg('GroupNorm', 'numChannels', numChannels, 1);
    if (numChannels % numGroups)
      throw argumentError('GroupNorm', 'numGroups', `a divisor of numChannels (${numChannels})`, numGroups);
    this.eps = numberArg('GroupNorm', 'eps', eps);
    if (affine) this.weight = parameter(ones([numChannels], { dtype }));
    if (affine) this.bias = parameter(zeros([numChannels], { dtype }));
  }

  /** @param x [b, numChannels, ...] @returns the same shape */
  override forward(x: Tensor): Tensor {
    const { shape } = slotOf(x, 'GroupNorm', 'x');
    if (shape[1] !== this.numChannels)
      throw shapeError('GroupNorm', `expected x [b,${this.numChannels},...], received [${shape.join(',')}]`);
    return groupNorm(x, this.numGroups, this.weight, this.bias, { eps: this.eps });
  }
}
