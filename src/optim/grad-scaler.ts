/**
 * Scaling of the loss (Micikevicius et al. 2018, https://arxiv.org/abs/1710.03740, section 3.2): gradients below 6e-8
 * are zero in float16, so backward starts from scale · loss, and the gradients are divided by the scale before the
 * step.
 *
 *   a gradient is infinite or NaN   the step is skipped, scale = scale · backoffFactor
 *   growthInterval steps without    scale = scale · growthFactor
 */
import { FoveaError } from '../errors.js';
import { kernels } from '../ops/kernels.gen.js';
import { mul } from '../ops/index.js';
import { refuseInRecording } from '../tensor/capture.js';
import { argumentError, countArg, optionsArg } from '../tensor/check.js';
import { slotOf, type Tensor } from '../tensor/tensor.js';
import { keep, tidy } from '../tensor/tidy.js';
import { Optimizer } from './optimizer.js';

/** Options of {@link GradScaler}. */
export interface GradScalerOptions {
  /** The first scale (default 65536). */
  initScale?: number;
  /** What the scale is multiplied by after `growthInterval` sound steps; above 1 (default 2). */
  growthFactor?: number;
  /** What the scale is multiplied by after gradients that were not finite; below 1 (default 0.5). */
  backoffFactor?: number;
  /** Sound steps in a row before the scale grows (default 2000). */
  growthInterval?: number;
  /** false: everything passes unscaled, so that one loop serves all precisions (default true). */
  enabled?: boolean;
}

/** The state of a {@link GradScaler}, plain JSON; empty if it was disabled. */
export type GradScalerState = Partial<
  Record<'scale' | 'growthFactor' | 'backoffFactor' | 'growthInterval' | 'growthTracker', number>
>;

type AnyOptimizer = Optimizer<{ lr: number }>;
/** What happened to the gradients of an optimizer since the last update. */
interface Seen {
  stepped: boolean;
  /** Norms of the gradients, one for each device, until they are read. */
  norms: Tensor[];
  finite: Promise<boolean> | undefined;
}

function scaleArg(op: string, name: string, value: unknown): number {
  if (typeof value === 'number' && value > 0 && Number.isFinite(value)) return value;
  throw argumentError(op, name, 'a finite number above 0', value);
}

/**
 * `torch.amp.GradScaler`, for training under `autocast('float16', …)`. Whether gradients are finite is known on the
 * device first, and nothing here waits for it: `step` and `update` are asynchronous, and have to be awaited.
 *
 * @example
 * scaler.scale(loss).backward();
 * scaler.unscale_(optimizer);                  // only for what looks at gradients, such as clipGradNorm_
 * nn.utils.clipGradNorm_(model.parameters(), 1);
 * await scaler.step(optimizer);
 * await scaler.update();
 */
export class GradScaler {
  /** See {@link GradScalerOptions}. */
  growthFactor: number;
  /** See {@link GradScalerOptions}. */
  backoffFactor: number;
  /** See {@link GradScalerOptions}. */
  growthInterval: number;
  readonly #enabled: boolean;
  #scale: number;
  #growthTracker = 0;
  #updating = false;
  readonly #seen = new Map<AnyOptimizer, Seen>();

  /** @throws FOVEA_ARGUMENT for options out of range */
  constructor(options: GradScalerOptions = {}) {
    const known = ['initScale', 'growthFactor', 'backoffFactor', 'growthInterval', 'enabled'] as const;
    const {
      initScale = 65536,
      growthFactor = 2,
      backoffFactor = 0.5,
      growthInterval = 2000,
      enabled = true,
    } = optionsArg('GradScaler', options, known);
    if (typeof enabled !== 'boolean') throw argumentError('GradScaler', 'enabled', 'true or false', enabled);
    this.#enabled = enabled;
    this.#scale = scaleArg('GradScaler', 'initScale', initScale);
    this.growthFactor = scaleArg('GradScaler', 'growthFactor', growthFactor);
    if (growthFactor <= 1) throw argumentError('GradScaler', 'growthFactor', 'a number above 1', growthFactor);
    this.backoffFactor = scaleArg('GradScaler', 'backoffFactor', backoffFactor);
    if (backoffFactor >= 1) throw argumentError('GradScaler', 'backoffFactor', 'a number below 1', backoffFactor);
    this.growthInterval = countArg('GradScaler', 'growthInterval', growthInterval, 1);
  }

  /** Whether it scales at all. */
  isEnabled(): boolean {
    return this.#enabled;
  }
  /** The scale in force; 1 if disabled. */
  getScale(): number {
    return this.#enabled ? this.#scale : 1;
  }

  /**
   * The loss times the scale, to call `backward()` on.
   *
   * @returns the shape and dtype of `loss`, or as many tensors as there are losses
   * @throws FOVEA_ARGUMENT for what is no tensor, or while an `update()` is not awaited
   */
  scale(loss: Tensor): Tensor;
  scale(loss: readonly Tensor[]): Tensor[];
  scale(loss: Tensor | readonly Tensor[]): Tensor | Tensor[] {
    if (this.#enabled)
      refuseInRecording(
        'GradScaler.scale',
        'the scale would stay what it is; pass it to the step as a tensor, and multiply the loss by that',
      );
    this.#mustBeUpdated('scale');
    const one = (x: Tensor): Tensor => {
      slotOf(x, 'GradScaler.scale', 'loss');
      return this.#enabled ? mul(x, this.#scale) : x;
    };
    return Array.isArray(loss) ? (loss as readonly Tensor[]).map(one) : one(loss as Tensor);
  }

  /**
   * Divides the gradients of an optimizer's parameters by the scale, in place, for whoever looks at them before the
   * step; `step` does it otherwise. Gradients that are not finite stay so, and the step will be skipped.
   *
   * @throws FOVEA_ARGUMENT if it was already called for this optimizer since the last `update()`, or after `step()`;
   *   FOVEA_DTYPE for gradients in float16, which cannot hold what unscaling gives: keep parameters in float32
   */
  unscale_(optimizer: AnyOptimizer): void {
    refuseInRecording('GradScaler.unscale_', 'the scale would stay what it is; call it after the step');
    this.#check('unscale_', optimizer);
    if (!this.#enabled) return;
    const seen = this.#seen.get(optimizer);
    if (seen?.stepped)
      throw misuse('unscale_', 'step() was already called for this optimizer', 'call it before step()');
    if (seen)
      throw misuse('unscale_', 'it was already called for this optimizer since the last update()', 'call it once');
    const gradients = optimizer.paramGroups.flatMap(({ params }) => params.flatMap(({ grad }) => (grad ? [grad] : [])));
    if (gradients.some(({ dtype }) => dtype === 'float16'))
      throw new FoveaError(
        'FOVEA_DTYPE',
        'GradScaler.unscale_: a gradient is float16, which cannot hold what unscaling gives; keep parameters in float32 and run forward under autocast',
      );
    this.#seen.set(optimizer, { stepped: false, norms: this.#unscaled(gradients), finite: undefined });
  }

  /** The norms of the gradients after they were divided; a norm is finite just if they all are. */
  #unscaled(gradients: readonly Tensor[]): Tensor[] {
    const byDevice = new Map<string, Tensor[]>();
    for (const g of gradients) {
      kernels.mul_({ a: g }, { scalar: 1 / this.#scale });
      const others = byDevice.get(g.device);
      if (others) others.push(g);
      else byDevice.set(g.device, [g]);
    }
    return tidy(() => [...byDevice.values()].map((g) => keep(kernels.gradNorm({ g }, {}).norm)));
  }

  /**
   * Unscales, unless `unscale_` has, and calls `optimizer.step()` if all gradients are finite.
   *
   * @returns whether the optimizer has stepped
   * @throws rejects with FOVEA_ARGUMENT if it was already called for this optimizer since the last `update()`, or if
   *   none of its parameters has a gradient; with what `unscale_` and the optimizer throw
   */
  async step(optimizer: AnyOptimizer): Promise<boolean> {
    this.#check('step', optimizer);
    if (!this.#enabled) {
      optimizer.step();
      return true;
    }
    if (this.#seen.get(optimizer)?.stepped)
      throw misuse(
        'step',
        'it was already called for this optimizer since the last update()',
        'call update() after it',
      );
    if (!this.#seen.has(optimizer)) this.unscale_(optimizer);
    const seen = this.#seen.get(optimizer)!;
    if (seen.norms.length === 0) {
      this.#seen.delete(optimizer);
      throw misuse('step', 'no parameter of the optimizer has a gradient', 'call scale(loss).backward() before');
    }
    seen.stepped = true;
    const finite = await allFinite(seen);
    if (finite) optimizer.step();
    return finite;
  }

  /**
   * Adapts the scale to what the steps since the last update have met; call it once after all of them.
   *
   * @param newScale the scale from now on, instead
   * @throws rejects with FOVEA_ARGUMENT if neither `step()` nor `unscale_()` was called since the last one
   */
  async update(newScale?: number): Promise<void> {
    this.#mustBeUpdated('update');
    if (!this.#enabled) return;
    const seen = [...this.#seen.values()].filter(({ norms }) => norms.length > 0);
    if (newScale === undefined && seen.length === 0)
      throw misuse('update', 'no gradients were looked at since the last one', 'call step() or unscale_() before');
    const given = newScale === undefined ? undefined : scaleArg('GradScaler.update', 'newScale', newScale);
    this.#updating = true;
    try {
      const finite = await Promise.all(seen.map(allFinite));
      if (given === undefined) this.#adapt(finite.every(Boolean));
      else this.#scale = given;
    } finally {
      this.#seen.clear();
      this.#updating = false;
    }
  }

  #adapt(sound: boolean): void {
    this.#growthTracker = sound ? this.#growthTracker + 1 : 0;
    if (!sound) this.#scale *= this.backoffFactor;
    else if (this.#growthTracker >= this.growthInterval) {
      this.#growthTracker = 0;
      const grown = this.#scale * this.growthFactor;
      // the loss that it multiplies is float32
      if (Number.isFinite(Math.fround(grown))) this.#scale = grown;
    }
  }

  /** What `loadStateDict` takes to go on from here; empty if disabled. */
  stateDict(): GradScalerState {
    if (!this.#enabled) return {};
    const { growthFactor, backoffFactor, growthInterval } = this;
    return { scale: this.#scale, growthFactor, backoffFactor, growthInterval, growthTracker: this.#growthTracker };
  }

  /**
   * Goes on from a state; a disabled scaler ignores it.
   *
   * @throws FOVEA_ARGUMENT for what is no state, or for that of a disabled scaler
   */
  loadStateDict(state: GradScalerState): void {
    if (!this.#enabled) return;
    const op = 'GradScaler.loadStateDict';
    const names = ['scale', 'growthFactor', 'backoffFactor', 'growthInterval', 'growthTracker'] as const;
    const given = optionsArg(op, state, names);
    if (Object.keys(given).length === 0)
      throw argumentError(op, 'state', 'the state of an enabled scaler', 'an empty one', 'it was saved while disabled');
    const { scale, growthFactor, backoffFactor: initial, growthInterval, growthTracker } = given;
    const checked = new GradScaler({
      initScale: scaleArg(op, 'scale', scale),
      growthFactor: scaleArg(op, 'growthFactor', growthFactor),
      backoffFactor: scaleArg(op, 'backoffFactor', initial),
      growthInterval: countArg(op, 'growthInterval', growthInterval, 1),
    });
    this.#growthTracker = countArg(op, 'growthTracker', growthTracker);
    this.#scale = checked.#scale;
    this.growthFactor = checked.growthFactor;
    this.backoffFactor = checked.backoffFactor;
    this.growthInterval = checked.growthInterval;
  }

  #check(name: string, optimizer: AnyOptimizer): void {
    if (!(optimizer instanceof Optimizer))
      throw argumentError(`GradScaler.${name}`, 'optimizer', 'an Optimizer', optimizer);
    this.#mustBeUpdated(name);
  }
  /** The scale may change at any moment then. */
  #mustBeUpdated(name: string): void {
    if (this.#updating) throw misuse(name, 'an update() is still running', 'await it');
  }
}

function misuse(name: string, what: string, remedy: string): FoveaError {
  return new FoveaError('FOVEA_ARGUMENT', `GradScaler.${name}: ${what}; ${remedy}`);
}

/** Reads the norms once, whoever asks first. */
function allFinite(seen: Seen): Promise<boolean> {
  return (seen.finite ??= (async () => {
    try {
      const norms = await Promise.all(seen.norms.map((norm) => norm.item()));
      return norms.every(Number.isFinite);
    } finally {
      for (const norm of seen.norms) norm.dispose();
    }
  })());
}
