/**
 * Low-rank terms beside linear layers (LoRA, Hu et al. 2021, https://arxiv.org/abs/2106.09685):
 *
 *   y = x Wᵀ + b + s · dropout(x) Aᵀ Bᵀ     A [r, in], B [out, r], s = alpha / r
 *
 * or s = alpha / √r (rsLoRA, Kalajdzievski 2023, https://arxiv.org/abs/2312.03732). W may be quantised. Merged, the
 * term is part of the weight: W + s · B A.
 */
import { noGrad } from '../autograd/backward.js';
import { addmm, empty, linear, type QuantizedTensor } from '../ops/index.js';
import { countModeChange } from '../tensor/capture.js';
import { autocast } from '../tensor/modes.js';
import type { Tensor } from '../tensor/tensor.js';
import { keep, tidy } from '../tensor/tidy.js';
import { Dropout } from './dropout.js';
import { kaimingUniform_, zeros_ } from './init.js';
import { AffineLayer } from './linear.js';
import { Module } from './module.js';
import { parameter } from './parameter.js';
import type { QuantizedLinear } from './quantized-linear.js';

/** Options of an adapter, named as in PEFT's `LoraConfig`. */
export interface LoraConfig {
  /** Rank of the terms (default 8). */
  r?: number;
  /** The terms are multiplied by loraAlpha / r (default 8). */
  loraAlpha?: number;
  /** Probability of an element of what a term takes to become 0, in training (default 0). */
  loraDropout?: number;
  /**
   * Which modules get a term: those whose dotted names are in the list or end with one of it, as `c_attn` does; those
   * whose whole name the expression matches; or all that hold linear layers, except one named `lm_head`. Linear layers
   * can have one, GPT-2's and quantised ones included, and `MultiheadAttention`: both of its projections, then.
   */
  targetModules: readonly string[] | RegExp | 'all-linear';
  /** Multiply by loraAlpha / √r instead (default false). */
  useRslora?: boolean;
  /**
   * Which biases are trained beside the terms (default 'none'): those of all modules, or of linear layers with a term.
   */
  bias?: 'none' | 'all' | 'loraOnly';
}

/** An adapter's options, complete. */
export type AdapterSettings = Readonly<Required<Omit<LoraConfig, 'targetModules'>>> & {
  /** Its name in the model. */
  readonly name: string;
  /** Full names of the modules that have its terms. */
  readonly targets: readonly string[];
};

/** What an adapter adds to one weight. Keys: `lora_A.weight` [r, in], `lora_B.weight` [out, r]. */
export class LoraTerm extends Module {
  static override readonly stateDictKeys = { loraA: 'lora_A.weight', loraB: 'lora_B.weight' };
  /** Those of the adapter. */
  readonly settings: AdapterSettings;
  /** The factor of the term. */
  readonly scaling: number;
  /** [r, in] */
  loraA: Tensor;
  /** [out, r] */
  loraB: Tensor;
  /** Of the input. */
  dropout: Dropout;

  /**
   * Zero at first: A is uniform as in PyTorch's Linear, B is zero.
   *
   * @param like a tensor whose device is the weight's
   */
  constructor(settings: AdapterSettings, inFeatures: number, outFeatures: number, like: Tensor) {
    super();
    const { r, loraAlpha, useRslora } = settings;
    this.settings = settings;
    this.scaling = loraAlpha / (useRslora ? Math.sqrt(r) : r);
    // Updates of a 16-bit term would be lost in its rounding.
    const dtype = like.dtype === 'float64' ? 'float64' : 'float32';
    const { device } = like;
    this.loraA = parameter(kaimingUniform_(empty([r, inFeatures], { dtype, device }), { a: Math.sqrt(5) }));
    this.loraB = parameter(zeros_(empty([outFeatures, r], { dtype, device })));
    this.dropout = new Dropout(settings.loraDropout);
  }

  /**
   * Adds the term, or those of its columns that belong to some rows of the weight.
   *
   * @param y [..., length] @param x [..., in] @returns the shape and the dtype of `y`
   */
  override forward(y: Tensor, x: Tensor, start = 0, length: number = this.loraB.shape[0]!): Tensor {
    const b = length === this.loraB.shape[0] ? this.loraB : this.loraB.narrow(0, start, length);
    const low = linear(this.dropout.forward(x), this.loraA).reshape([-1, this.settings.r]);
    const sum = addmm(y.reshape([-1, length]), low, b.transpose(0, 1), { alpha: this.scaling });
    return sum.reshape(y.shape).to(y.dtype);
  }
}

/** A term as it was merged, so that exactly that can be taken out again. */
interface Merged {
  readonly a: Tensor;
  readonly b: Tensor;
  readonly scaling: number;
}

/** The terms of one weight, by the names of their adapters. Keys: `<adapter>.lora_A.weight`, … */
export class LoraTerms extends Module {
  /** In the order in which they were added. */
  readonly terms: LoraTerm[] = [];
  #active: ReadonlySet<string> = new Set();
  #enabled = true;
  #merged: readonly Merged[] = [];

  override namedChildren(): [string, Module][] {
    return this.terms.map((term) => [term.settings.name, term]);
  }

  /** Whether the weight holds terms now. */
  get isMerged(): boolean {
    return this.#merged.length > 0;
  }

  /** Names of the adapters whose terms are added. */
  get active(): ReadonlySet<string> {
    return this.#active;
  }
  set active(names: ReadonlySet<string>) {
    this.#active = names;
    countModeChange();
  }

  /** Whether terms are added at all. */
  get enabled(): boolean {
    return this.#enabled;
  }
  set enabled(enabled: boolean) {
    this.#enabled = enabled;
    countModeChange();
  }

  /** `y` with all terms that are active; see {@link LoraTerm.forward}. */
  add(y: Tensor, x: Tensor, start?: number, length?: number): Tensor {
    if (!this.#enabled || this.isMerged) return y;
    return this.#used().reduce((sum, term) => term.forward(sum, x, start, length), y);
  }

  #used(): LoraTerm[] {
    return this.terms.filter(({ settings }) => this.#active.has(settings.name));
  }

  /** Adds the terms that are active to the weight. @param matrix [out, in], or a view of it that is */
  merge(matrix: Tensor): void {
    if (this.isMerged) return;
    const copy = (tensor: Tensor): Tensor => keep(tidy(() => tensor.detach().clone()));
    this.#merged = this.#used().map(({ loraA, loraB, scaling }) => ({ a: copy(loraA), b: copy(loraB), scaling }));
    this.#change(matrix, 1);
  }

  /** Subtracts what was merged. */
  unmerge(matrix: Tensor): void {
    this.#change(matrix, -1);
    this.forget();
  }

  /** Takes what was merged for a part of the weight. */
  forget(): void {
    for (const { a, b } of this.#merged) [a, b].forEach((tensor) => tensor.dispose());
    this.#merged = [];
  }

  #change(matrix: Tensor, sign: number): void {
    countModeChange();
    const add = ({ a, b, scaling }: Merged): void => {
      const [low, high] = [a.to(matrix.device), b.to(matrix.device)];
      // Rounded once, where the weight has 16 bits.
      matrix.copy_(addmm(matrix, high, low, { alpha: sign * scaling }));
    };
    noGrad(() => autocast(false, () => tidy(() => this.#merged.forEach(add))));
  }

  override dispose(): void {
    this.forget();
    super.dispose();
  }
}

/** A linear layer with terms. Keys: those of the layer behind `base_layer`, those of the terms behind `lora`. */
export class LoraLinear extends Module {
  /** The layer itself. */
  baseLayer: AffineLayer | QuantizedLinear;
  /** What is added to its result. */
  lora: LoraTerms;

  /** @param baseLayer which this module owns from now on */
  constructor(baseLayer: AffineLayer | QuantizedLinear) {
    super();
    this.baseLayer = baseLayer;
    this.lora = new LoraTerms();
    this.train(baseLayer.training);
  }

  /** @param x [..., in] @returns [..., out] */
  override forward(x: Tensor): Tensor {
    return this.lora.add(this.baseLayer.forward(x), x);
  }

  /** The weight as [out, in]: itself, or a view. */
  get matrix(): Tensor | QuantizedTensor {
    return this.baseLayer instanceof AffineLayer ? this.baseLayer.matrix : this.baseLayer.weight;
  }
}
