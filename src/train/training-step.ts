/**
 * One update of the weights out of the gradients of several batches:
 *
 *   loss = Σ wᵢ · lossᵢ / Σ wᵢ      w = 1, or what a batch's mean is over, such as its tokens
 *
 * So equal batches with w = 1, and any batches with their counts as w, give the gradient of all of them as one batch.
 * Each batch runs forward and backward by itself. Its loss is read behind forward, and the next batch waits for that:
 * the event loop never waits for a kernel, and kernels wait for JavaScript once in a step, before the update.
 */
import { FoveaError } from '../errors.js';
import type { Module } from '../nn/module.js';
import { clipGradNorm_, clipGradValue_ } from '../nn/utils.js';
import { noGrad } from '../autograd/backward.js';
import { mul } from '../ops/index.js';
import { kernels } from '../ops/kernels.gen.js';
import { GradScaler } from '../optim/grad-scaler.js';
import type { Optimizer } from '../optim/optimizer.js';
import type { Sophia } from '../optim/sophia.js';
import { argumentError } from '../tensor/check.js';
import { autocast, isThenable } from '../tensor/modes.js';
import { slotOf, type Tensor } from '../tensor/tensor.js';
import { tidy } from '../tensor/tidy.js';
import type { PrecisionDtype } from './precision.js';
import type { Awaitable } from './trainer-events.js';

/** How Sophia learns of the curvature. */
export interface HessianPart<B, M extends Module> {
  /**
   * Estimates of the Hessian's diagonal on a batch, one for each of `params` in its shape, such as
   * `optim.gaussNewtonBartlett(model.forward(batch).logits, params)`; what it makes besides is freed.
   */
  estimate: (model: M, batch: B, params: readonly Tensor[]) => readonly Tensor[];
  /** Updates from one estimate to the next, the first being before the first update (default 10). */
  every?: number;
}

/** What an update is made of. */
export interface StepParts<B, M extends Module> {
  model: M;
  optimizer: Optimizer<{ lr: number }>;
  /** The mean loss of a batch. */
  loss: (model: M, batch: B) => Awaitable<Tensor>;
  /** What that mean is over. */
  weight: ((batch: B) => number) | undefined;
  precision: PrecisionDtype;
  /** Of all gradients together, at most. */
  clipNorm: number | undefined;
  /** Of each element of the gradients, at most. */
  clipValue: number | undefined;
  /** Where the optimizer is Sophia. */
  hessian: (Required<HessianPart<B, M>> & { follower: Sophia }) | undefined;
}

/** Gradients of a step, which are in `.grad`. */
export interface StepGradients {
  loss: number;
  /** Before clipping. */
  gradNorm: number;
}

/** Makes updates. */
export class TrainingStep<B, M extends Module> {
  readonly #parts: StepParts<B, M>;
  /** Enabled for float16 alone. */
  readonly scaler: GradScaler;

  constructor(parts: StepParts<B, M>) {
    this.#parts = parts;
    this.scaler = new GradScaler({ enabled: parts.precision === 'float16' });
  }

  /** The gradients of the batches. */
  async gradients(batches: readonly B[]): Promise<StepGradients> {
    const weights = batches.map((batch) => this.weightOf(batch));
    const sum = weights.reduce((a, b) => a + b, 0);
    if (!(sum > 0)) throw argumentError('Trainer', 'weight', 'a sum above 0 over the batches of a step', sum);
    const losses: Promise<number>[] = [];
    for (const [i, batch] of batches.entries()) {
      const share = weights[i]! / sum;
      // The mean over nothing is no number.
      if (share === 0) continue;
      await losses.at(-1);
      const { value } = await this.#backward(batch, share);
      losses.push(handled(value.then((loss) => share * loss)));
    }
    this.scaler.unscale_(this.#parts.optimizer);
    const norm = tidy(() => this.#clip());
    try {
      const [gradNorm, ...parts] = await Promise.all([norm.item(), ...losses]);
      return { loss: parts.reduce((a, b) => a + b), gradNorm };
    } finally {
      norm.dispose();
    }
  }

  /** How much a batch counts. */
  weightOf(batch: B): number {
    const weight: unknown = this.#parts.weight === undefined ? 1 : this.#parts.weight(batch);
    if (typeof weight === 'number' && weight >= 0 && Number.isFinite(weight)) return weight;
    throw argumentError('Trainer', 'weight(batch)', 'a finite number of at least 0', weight);
  }

  /** The loss of a batch, without gradients. */
  async evaluate(batch: B): Promise<number> {
    const loss = await noGrad(() => tidy(() => this.#forward(batch)));
    slotOf(loss, 'Trainer', 'the result of loss');
    try {
      return await loss.item();
    } finally {
      loss.dispose();
    }
  }

  #forward(batch: B): Awaitable<Tensor> {
    const { model, loss, precision } = this.#parts;
    return autocast(precision === 'float32' ? false : precision, () => loss(model, batch));
  }

  #backward(batch: B, share: number): Awaitable<{ value: Promise<number> }> {
    const differentiate = (loss: Tensor): { value: Promise<number> } => {
      slotOf(loss, 'Trainer', 'the result of loss');
      const value = handled(loss.item());
      this.scaler.scale(share === 1 ? loss : mul(loss, share)).backward();
      return { value };
    };
    return tidy(() => {
      const loss = this.#forward(batch);
      return isThenable(loss) ? loss.then(differentiate) : differentiate(loss);
    });
  }

  /** Clips gradients. @returns their norm before that */
  #clip(): Tensor {
    const { optimizer, clipNorm, clipValue } = this.#parts;
    const params = optimizer.paramGroups.flatMap((group) => group.params);
    const g = params.flatMap(({ grad }) => (grad ? [grad] : []));
    if (g.length === 0)
      throw new FoveaError(
        'FOVEA_AUTOGRAD',
        'Trainer: the loss gave no gradient to any parameter of the optimizer; make the optimizer of the parameters that the model has now, after to() and the like',
      );
    const norm = clipNorm === undefined ? kernels.gradNorm({ g }, {}).norm : clipGradNorm_(params, clipNorm);
    if (clipValue !== undefined) clipGradValue_(params, clipValue);
    return norm;
  }

  /**
   * Takes an estimate of the curvature, on the first batch of a step that counts, where it is time to. In the step's
   * precision, but for float16, in which gradients vanish without a scale.
   *
   * @param done steps so far
   */
  followHessian(done: number, batches: readonly B[]): void {
    const { model, hessian, precision } = this.#parts;
    if (!hessian || done % hessian.every !== 0) return;
    const batch = batches.find((one) => this.weightOf(one) > 0)!;
    const dtype = precision === 'bfloat16' ? precision : false;
    hessian.follower.updateHessian((params) => autocast(dtype, () => hessian.estimate(model, batch, params)));
  }

  /** Changes the weights by the gradients, unless it is to be skipped, and frees them. @returns whether it did */
  async update(skip: boolean): Promise<boolean> {
    const { model, optimizer } = this.#parts;
    const updated = skip ? false : await this.scaler.step(optimizer);
    await this.scaler.update();
    optimizer.zeroGrad();
    model.zeroGrad();
    return updated;
  }
}

/** A promise that somebody waits for, unless something else fails first: then its own failure is no news. */
function handled<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => undefined);
  return promise;
}
