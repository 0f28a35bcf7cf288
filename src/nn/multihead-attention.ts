/**
 * Multi-head attention (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762):
 *
 *   head_i = softmax(Q_i K_iᵀ / sqrt(d)) V_i,  output = [head_1 … head_h] W_oᵀ + b_o
 *
 * 4·E² weights and 4·E biases when keys and values are E wide. Parameters, names and initialisation are PyTorch's, so
 * that a state dict saved there loads here. Two things differ and are meant to: a boolean mask is **true where a key
 * may be seen** (PyTorch's `MultiheadAttention`: true where it may not), as everywhere in fovea and in
 * `scaledDotProductAttention`; and weights come per head unless their average is asked for.
 */
import { FoveaError } from '../errors.js';
import { attention, empty, linear, QuantizedTensor } from '../ops/index.js';
import { Mask } from '../ops/mask.js';
import { tensorMask } from '../ops/mask-kinds.js';
import type { PositionBias } from '../ops/position-bias.js';
import { argumentError, countArg, optionsArg, probabilityArg, shapeError } from '../tensor/check.js';
import { Code, type Dtype, isFloat } from '../tensor/dtype.js';
import { slotOf, type Tensor } from '../tensor/tensor.js';
import type { AttentionCache, KeysAndValues } from './attention-cache.js';
import { attentionWithWeights, type AttentionWeightsOptions } from './attention-weights.js';
import { xavierUniform_, zeros_ } from './init.js';
import { Linear } from './linear.js';
import type { LoraTerms } from './lora-layer.js';
import { Module } from './module.js';
import { parameter } from './parameter.js';

/** Options of {@link MultiheadAttention}. */
export interface MultiheadAttentionOptions {
  /** Of the probabilities, in training (default 0). */
  dropout?: number;
  /** Whether projections have biases (default true). */
  bias?: boolean;
  /** Width of the keys (default embedDim). */
  kdim?: number;
  /** Width of the values (default embedDim). */
  vdim?: number;
  /** Whether inputs are [batch, length, width]; false (PyTorch's default) means [length, batch, width]. */
  batchFirst?: boolean;
  /** Of the parameters; default float32. */
  dtype?: Dtype;
}

/** Options of {@link MultiheadAttention.forward}. */
export interface MultiheadAttentionForwardOptions {
  /** [B, S]: true (or any number to add to the scores) where a key is real. */
  keyPaddingMask?: Tensor | undefined;
  /**
   * What a query may see: a mask (`mask.slidingWindow(…)`, …), or [L, S], [B·h, L, S] or broadcastable to [B, h, L, S],
   * true where it may, or numbers to add.
   */
  attnMask?: Mask | Tensor | undefined;
  /**
   * Added to the scores by distance of key and query: a value of `positionBias`, or what a RelativePositionBias gives.
   */
  positionBias?: PositionBias | undefined;
  /** Whether to return the probabilities (PyTorch's default, true); false runs the fused kernel. */
  needWeights?: boolean;
  /** Whether to average the probabilities over heads (default false: per head). */
  averageAttnWeights?: boolean;
  /** Whether query i sees keys up to i, beside the masks; with a cache, up to i + S - L. */
  isCausal?: boolean;
  /**
   * Keys and values of calls before, to which S counts those, too; masks are of all S. What is kept has no gradient.
   * Default: none.
   */
  pastKeyValue?: AttentionCache | undefined;
}

/**
 * Attention with input and output projections. Keys: `in_proj_weight` [3E, E] (or `q_proj_weight`, `k_proj_weight`,
 * `v_proj_weight` where keys or values have another width), `in_proj_bias` [3E], `out_proj.weight`, `out_proj.bias`. Of
 * weights that `quantize_` has replaced these are the packed blocks, as uint8; they load where shape and type are the
 * same.
 */
export class MultiheadAttention extends Module {
  /** Width E of queries and output. */
  readonly embedDim: number;
  /** Heads, each E / numHeads wide. */
  readonly numHeads: number;
  /** Of the probabilities, in training. */
  readonly dropout: number;
  /** Whether inputs are [batch, length, width]. */
  readonly batchFirst: boolean;
  /** [3E, E], where keys and values are E wide: a parameter, or what `quantize_` made of it. */
  inProjWeight: Tensor | QuantizedTensor | undefined;
  /** [E, E], where they are not. */
  qProjWeight: Tensor | QuantizedTensor | undefined;
  /** [E, kdim] */
  kProjWeight: Tensor | QuantizedTensor | undefined;
  /** [E, vdim] */
  vProjWeight: Tensor | QuantizedTensor | undefined;
  /** [3E] */
  inProjBias: Tensor | undefined;
  /** What adapters add to the projections by `inProjWeight`; `addAdapter` makes it. */
  inProjLora: LoraTerms | undefined;
  /** E to E. */
  outProj: Linear;

  constructor(embedDim: number, numHeads: number, options: MultiheadAttentionOptions = {}) {
    super();
    const known = ['dropout', 'bias', 'kdim', 'vdim', 'batchFirst', 'dtype'] as const;
    const checked = optionsArg('MultiheadAttention', options, known);
    const {
      dropout = 0,
      bias = true,
      kdim = embedDim,
      vdim = embedDim,
      batchFirst = false,
      dtype = 'float32',
    } = checked;
    this.embedDim = countArg('MultiheadAttention', 'embedDim', embedDim, 1);
    this.numHeads = countArg('MultiheadAttention', 'numHeads', numHeads, 1);
    if (embedDim % numHeads !== 0) {
      throw argumentError('MultiheadAttention', 'numHeads', `a divisor of embedDim (${embedDim})`, numHeads);
    }
    this.dropout = probabilityArg('MultiheadAttention', 'dropout', dropout);
    this.batchFirst = batchFirst;
    const weight = (rows: number, columns: number): Tensor =>
      parameter(xavierUniform_(empty([rows, columns], { dtype })));
    if (kdim === embedDim && vdim === embedDim) this.inProjWeight = weight(3 * embedDim, embedDim);
    else {
      this.qProjWeight = weight(embedDim, embedDim);
      this.kProjWeight = weight(embedDim, kdim);
      this.vProjWeight = weight(embedDim, vdim);
    }
    if (bias) this.inProjBias = parameter(zeros_(empty([3 * embedDim], { dtype })));
    this.outProj = new Linear(embedDim, embedDim, { bias, dtype });
    if (this.outProj.bias) zeros_(this.outProj.bias);
  }

  /**
   * @param query [B, L, E] (`batchFirst`) or [L, B, E]
   * @param key [B, S, kdim] or [S, B, kdim]
   * @param value [B, S, vdim] or [S, B, vdim]
   * @returns the output, of the query's shape, and the weights [B, h, L, S] ([B, L, S] when averaged)
   */
  override forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    options: MultiheadAttentionForwardOptions = {},
  ): [output: Tensor, weights: Tensor | undefined] {
    const known = [
      'keyPaddingMask',
      'attnMask',
      'positionBias',
      'needWeights',
      'averageAttnWeights',
      'isCausal',
      'pastKeyValue',
    ] as const;
    const {
      needWeights = true,
      averageAttnWeights = false,
      isCausal = false,
      positionBias,
      pastKeyValue,
      ...masks
    } = optionsArg('MultiheadAttention', options, known);
    for (const [name, x] of Object.entries({ query, key, value })) {
      const { shape } = slotOf(x, 'MultiheadAttention', name);
      if (shape.length !== 3)
        throw shapeError('MultiheadAttention', `${name} must have 3 dimensions, but has shape [${shape}]`);
    }
    const { q, project } = this.#project([query, key, value]);
    const { k, v } = pastKeyValue ? pastKeyValue.remember(project) : project();
    const asked: AttentionWeightsOptions = {
      ...this.#masks(masks, q.shape[0]!),
      causal: isCausal && (pastKeyValue ? 'bottomRight' : 'topLeft'),
      dropoutP: this.training ? this.dropout : 0,
      ...(positionBias ? { positionBias } : {}),
    };
    let output: Tensor;
    let weights: Tensor | undefined;
    if (needWeights) {
      ({ output, weights } = attentionWithWeights(q, k, v, asked));
      if (averageAttnWeights) weights = weights.mean(1);
    } else {
      output = attention(q, k, v, asked);
    }
    return [this.outProj.forward(this.#merge(output)), weights];
  }

  /** Projects to heads, [B, h, L, d] each: the queries, and when asked the rest. */
  #project(inputs: readonly [Tensor, Tensor, Tensor]): { q: Tensor; project: () => KeysAndValues } {
    const { inProjWeight: joined, inProjBias, inProjLora } = this;
    const [x] = inputs;
    if (joined && inputs.every((input) => input === x)) {
      // Self-attention: one product instead of three.
      const y = linear(x, joined, inProjBias);
      const parts = (inProjLora?.add(y, x) ?? y).chunk(3, -1).map((part) => this.#split(part));
      const [q, k, v] = parts as [Tensor, Tensor, Tensor];
      return { q, project: () => ({ k, v }) };
    }
    const one = (i: 0 | 1 | 2): Tensor => this.#split(this.#projected(inputs[i], i));
    return { q: one(0), project: () => ({ k: one(1), v: one(2) }) };
  }

  /** @param i 0 for queries, 1 for keys, 2 for values */
  #projected(x: Tensor, i: 0 | 1 | 2): Tensor {
    const { embedDim: e, inProjWeight: joined, inProjBias, inProjLora } = this;
    if (!joined) {
      const weight = [this.qProjWeight, this.kProjWeight, this.vProjWeight][i]!;
      return linear(x, weight, inProjBias?.narrow(0, i * e, e));
    }
    const y = linearOfRows(x, joined, inProjBias, i * e, e);
    return inProjLora?.add(y, x, i * e, e) ?? y;
  }

  #split(x: Tensor): Tensor {
    const [first, second] = x.shape;
    const heads = x.reshape([first!, second!, this.numHeads, this.embedDim / this.numHeads]);
    return heads.permute(this.batchFirst ? [0, 2, 1, 3] : [1, 2, 0, 3]);
  }

  #merge(x: Tensor): Tensor {
    const [batch, , length] = x.shape;
    const order = this.batchFirst ? [0, 2, 1, 3] : [2, 0, 1, 3];
    const [first, second] = this.batchFirst ? [batch!, length!] : [length!, batch!];
    return x.permute(order).reshape([first, second, this.embedDim]);
  }

  /** Both masks in the shape of the scores; masks and boolean ones meet, numbers add. */
  #masks(options: MultiheadAttentionForwardOptions, batch: number): { mask?: Mask; bias?: Tensor } {
    const { keyPaddingMask, attnMask } = options;
    const masks: Mask[] = [];
    const biases: Tensor[] = [];
    const add = (name: string, x: Tensor, toScores: (x: Tensor) => Tensor): void => {
      const { dtype } = slotOf(x, 'MultiheadAttention', name);
      if (isFloat(dtype)) biases.push(toScores(x));
      else if (dtype === Code.bool) masks.push(tensorMask(toScores(x)));
      else
        throw new FoveaError(
          'FOVEA_DTYPE',
          `MultiheadAttention: expected ${name === 'attnMask' ? 'a mask, ' : ''}bool or floats for ${name}, received ${x.dtype}; convert it with .to('bool')`,
        );
    };
    if (keyPaddingMask) add('keyPaddingMask', keyPaddingMask, (x) => x.reshape([batch, 1, 1, x.shape.at(-1)!]));
    if (attnMask instanceof Mask) masks.push(attnMask);
    else if (attnMask)
      add('attnMask', attnMask, (x) =>
        x.rank === 3 ? x.reshape([batch, this.numHeads, x.shape[1]!, x.shape[2]!]) : x,
      );
    return {
      ...(masks.length ? { mask: masks.reduce((a, b) => a.and(b)) } : {}),
      ...(biases.length ? { bias: biases.reduce((a, b) => a.add(b)) } : {}),
    };
  }
}

/** `linear` by some rows of a weight, and of the bias that belongs to them. */
function linearOfRows(
  x: Tensor,
  weight: Tensor | QuantizedTensor,
  bias: Tensor | undefined,
  start: number,
  length: number,
): Tensor {
  const rows = weight instanceof QuantizedTensor ? weight.rows(start, length) : weight.narrow(0, start, length);
  // Quantised rows that are packed together with others (of a width that 16 does not divide) cannot be had alone.
  return rows ? linear(x, rows, bias?.narrow(0, start, length)) : linear(x, weight, bias).narrow(-1, start, length);
}
