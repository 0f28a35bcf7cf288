/**
 * What the layers of encoders and decoders share. With sublayers f_1, f_2, … (attention, feed-forward network):
 *
 *   post-norm (default)     x = norm_i(s x + f_i(x))      (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762)
 *   pre-norm (`normFirst`)  x = s x + f_i(norm_i(x))      (Xiong et al. 2020, https://arxiv.org/abs/2002.04745)
 *
 * s is 1 but in DeepNorm (`residualScale`).
 */
import { FoveaError } from '../errors.js';
import { noGrad } from '../autograd/backward.js';
import type { Mask } from '../ops/mask.js';
import type { PositionBias } from '../ops/position-bias.js';
import { argumentError, countArg, numberArg, optionsArg, probabilityArg } from '../tensor/check.js';
import type { Dtype } from '../tensor/dtype.js';
import type { Tensor } from '../tensor/tensor.js';
import { type Activation, activated, activationOf } from './activations.js';
import type { AttentionCache } from './attention-cache.js';
import type { Dropout } from './dropout.js';
import { skipInit } from './init.js';
import type { Linear } from './linear.js';
import { Module } from './module.js';
import type { MultiheadAttention } from './multihead-attention.js';
import { addThenNorm, type LayerNorm } from './norm.js';

/** Options of the layers of a transformer. */
export interface TransformerLayerOptions {
  /** Width of the model. */
  dModel: number;
  /** Number of heads; divides dModel. */
  nHead: number;
  /** Width of the feed-forward network (default 2048). */
  dimFeedforward?: number;
  /** In training: of the probabilities, within and after the feed-forward network, after attention (default 0.1). */
  dropout?: number;
  /** A name or a function (default relu). */
  activation?: string | Activation;
  /** Added to the variance in the norms (default 1e-5). */
  layerNormEps?: number;
  /** Whether inputs are [batch, length, width]; false (PyTorch's default) means [length, batch, width]. */
  batchFirst?: boolean;
  /** Whether norms come before the sublayers instead of after their sums (default false). */
  normFirst?: boolean;
  /** Whether layers and norms have biases; default true. */
  bias?: boolean;
  /** Factor of what goes past each sublayer; default 1. `nn.init.deepNorm_` sets it. */
  residualScale?: number;
  /** Of the parameters; default float32. */
  dtype?: Dtype;
}

/** The names of {@link TransformerLayerOptions}. */
export const layerOptionNames = [
  'dModel',
  'nHead',
  'dimFeedforward',
  'dropout',
  'activation',
  'layerNormEps',
  'batchFirst',
  'normFirst',
  'bias',
  'residualScale',
  'dtype',
] as const;

/** The options of a layer, complete. */
export type CheckedLayerOptions = Readonly<
  Required<Omit<TransformerLayerOptions, 'activation'>> & { activation: Activation }
>;

/** @throws FOVEA_ARGUMENT for what is no option or out of range, FOVEA_UNSUPPORTED for an unknown activation */
export function layerOptionsArg(op: string, options: TransformerLayerOptions): CheckedLayerOptions {
  if (options === undefined) throw argumentError(op, 'options', 'an object with dModel and nHead', options);
  const { activation = 'relu', ...given } = optionsArg(op, options, layerOptionNames);
  const { dimFeedforward = 2048, dropout = 0.1, layerNormEps = 1e-5, residualScale = 1, dtype = 'float32' } = given;
  if (!Number.isFinite(numberArg(op, 'residualScale', residualScale)))
    throw argumentError(op, 'residualScale', 'a finite number', residualScale);
  return {
    dModel: countArg(op, 'dModel', given.dModel, 1),
    nHead: countArg(op, 'nHead', given.nHead, 1),
    dimFeedforward: countArg(op, 'dimFeedforward', dimFeedforward),
    dropout: probabilityArg(op, 'dropout', dropout),
    activation: activationOf(activation, `${op}: activation`),
    layerNormEps: numberArg(op, 'layerNormEps', layerNormEps),
    batchFirst: given.batchFirst ?? false,
    normFirst: given.normFirst ?? false,
    bias: given.bias ?? true,
    residualScale,
    dtype,
  };
}

/** What one attention of a layer may see, and adds to its scores. */
export interface AttendOptions {
  mask?: Mask | Tensor | undefined;
  keyPaddingMask?: Tensor | undefined;
  isCausal?: boolean | undefined;
  positionBias?: PositionBias | undefined;
  pastKeyValue?: AttentionCache | undefined;
}

/** The output of an attention that nobody wants to see the weights of, by the fused kernel. */
export function attend(attention: MultiheadAttention, query: Tensor, source: Tensor, options: AttendOptions): Tensor {
  const { mask: attnMask, isCausal = false, ...rest } = options;
  return attention.forward(query, source, source, { needWeights: false, attnMask, isCausal, ...rest })[0];
}

/** A part of a layer with the norm that belongs to it. */
export interface Sublayer {
  norm: LayerNorm;
  run: (x: Tensor) => Tensor;
}

/** What layers of encoders and decoders have in common; subclasses declare their parts in PyTorch's order. */
export abstract class TransformerLayer extends Module {
  /** As given, completed. */
  readonly options: CheckedLayerOptions;
  /** Whether norms come before the sublayers. */
  readonly normFirst: boolean;
  /** Of the feed-forward network. */
  readonly activation: Activation;
  /** Factor of what goes past each sublayer. */
  residualScale: number;
  abstract selfAttn: MultiheadAttention;
  abstract linear1: Linear;
  abstract dropout: Dropout;
  abstract linear2: Linear;

  protected constructor(op: string, options: TransformerLayerOptions) {
    super();
    this.options = layerOptionsArg(op, options);
    this.normFirst = this.options.normFirst;
    this.activation = this.options.activation;
    this.residualScale = this.options.residualScale;
  }

  /** linear2(dropout(activation(linear1(x)))) */
  protected feedForward(x: Tensor): Tensor {
    return this.linear2.forward(this.dropout.forward(activated(this.linear1, x, this.activation)));
  }

  /** All sublayers, one after the other; each sum and the norm behind it are one op. */
  protected through(x: Tensor, sublayers: readonly Sublayer[]): Tensor {
    const past = (y: Tensor): Tensor => (this.residualScale === 1 ? y : y.mul(this.residualScale));
    if (!this.normFirst) return sublayers.reduce((sum, { norm, run }) => addThenNorm(norm, run(sum), past(sum)).y, x);
    let [sum, y] = [x, sublayers[0]!.norm.forward(x)];
    for (const [i, { run }] of sublayers.entries()) {
      const next = sublayers[i + 1];
      if (!next) return past(sum).add(run(y));
      ({ sum, y } = addThenNorm(next.norm, run(y), past(sum)));
    }
    return sum;
  }
}

/**
 * A layer with weights of its own, which are copies of a layer's, as are what requires gradients, modes and residual
 * scale. Hooks, and parts that were put in the place of the layer's own, are not copied.
 *
 * @param type the class whose constructor knows how to make one
 * @throws FOVEA_UNSUPPORTED for a subclass, whose constructor may want something else; FOVEA_SHAPE or FOVEA_ARGUMENT
 *   where parts were replaced by others with other parameters
 */
export function copyOfLayer<L extends TransformerLayer>(
  layer: L,
  type: new (options: TransformerLayerOptions) => L,
): L {
  if (layer.constructor !== type)
    throw new FoveaError(
      'FOVEA_UNSUPPORTED',
      `clone: ${layer.constructor.name} is a subclass of ${type.name}, which cannot make one of it; define clone() there, or give the stack a function that makes its layers`,
    );
  const copy = skipInit(() => new type(layer.options));
  const values = Object.entries(layer.stateDict()).map(([key, x]) => [key, noGrad(() => x.clone())] as const);
  copy.loadStateDict(Object.fromEntries(values), { assign: true });
  const parameters = layer.parameters();
  for (const [i, x] of copy.parameters().entries()) x.requiresGrad_(parameters[i]!.requiresGrad);
  const modules = layer.modules();
  for (const [i, module] of copy.modules().entries()) module.training = modules[i]!.training;
  copy.residualScale = layer.residualScale;
  return copy;
}
