/**
 * Gated linear units (Dauphin et al. 2017, https://arxiv.org/abs/1612.08083), and the feed-forward networks of
 * transformers that are made of them (Shazeer 2020, https://arxiv.org/abs/2002.05202):
 *
 *   GLU               a · sigmoid(b), of the halves of x
 *   GatedFeedForward  down(dropout(activation(gate(x)) · up(x)))
 *
 *   | in the paper | FFN_GLU | FFN_Bilinear | FFN_ReGLU | FFN_GEGLU | FFN_SwiGLU |
 *   | activation   | sigmoid | linear       | relu      | gelu      | silu       |
 */
import { gatedLinear, glu } from '../ops/index.js';
import { integerArg, optionsArg } from '../tensor/check.js';
import type { Dtype } from '../tensor/dtype.js';
import type { Tensor } from '../tensor/tensor.js';
import { type Activation, activationOf, gateActivation } from './activations.js';
import { Dropout } from './dropout.js';
import { Linear } from './linear.js';
import { Module, runsOnly } from './module.js';

/** The first half of an axis times the sigmoid of the second. It has no parameters. */
export class GLU extends Module {
  /** The axis. */
  readonly dim: number;

  constructor(dim = -1) {
    super();
    this.dim = integerArg('GLU', 'dim', dim);
  }

  /** @param x [..., 2n, ...] @returns [..., n, ...] @throws FOVEA_SHAPE for an axis of odd size */
  override forward(x: Tensor): Tensor {
    return glu(x, this.dim);
  }
}

/** Options of {@link GatedFeedForward}. */
export interface GatedFeedForwardOptions {
  /** Of the gate: a name or a function (default silu, which makes it SwiGLU). */
  activation?: string | Activation;
  /** After the product, in training (default 0). */
  dropout?: number;
  /** Whether the three layers have biases (default false, as in the paper and in Llama). */
  bias?: boolean;
  /** Of the parameters; default float32. */
  dtype?: Dtype;
}

/**
 * A feed-forward network with a gate. The activation of the gate names the member of the family: `silu` makes SwiGLU,
 * `gelu` GEGLU, `relu` ReGLU, `sigmoid` the GLU and `linear` the bilinear network of the paper. Three matrices: to have
 * as many parameters as the two of a FeedForward, it is two thirds as wide. Keys, those of Llama's: `gate_proj.*` and
 * `up_proj.*` [dimFeedforward, dModel], `down_proj.*` [dModel, dimFeedforward].
 */
export class GatedFeedForward extends Module {
  /** Of the gate. */
  readonly activation: Activation;
  /** dModel to dimFeedforward, activated. */
  gateProj: Linear;
  /** dModel to dimFeedforward. */
  upProj: Linear;
  /** After the product. */
  dropout: Dropout;
  /** dimFeedforward to dModel. */
  downProj: Linear;

  constructor(dModel: number, dimFeedforward: number, options: GatedFeedForwardOptions = {}) {
    super();
    const known = ['activation', 'dropout', 'bias', 'dtype'] as const;
    const {
      activation = 'silu',
      dropout = 0,
      bias = false,
      dtype = 'float32',
    } = optionsArg('GatedFeedForward', options, known);
    this.activation = activationOf(activation, 'GatedFeedForward: activation');
    this.gateProj = new Linear(dModel, dimFeedforward, { bias, dtype });
    this.upProj = new Linear(dModel, dimFeedforward, { bias, dtype });
    this.dropout = new Dropout(dropout);
    this.downProj = new Linear(dimFeedforward, dModel, { bias, dtype });
  }

  /** @param x [..., dModel] @returns [..., dModel] */
  override forward(x: Tensor): Tensor {
    return this.downProj.forward(this.dropout.forward(this.#gated(x)));
  }

  /** In one op, unless the activation is another or a layer is another than Linear or has hooks. */
  #gated(x: Tensor): Tensor {
    const { gateProj: gate, upProj: up } = this;
    const activation = gateActivation(this.activation);
    if (activation === undefined || !runsOnly(gate, Linear) || !runsOnly(up, Linear))
      return this.activation(gate.forward(x)).mul(up.forward(x));
    return gatedLinear(x, gate.weight, up.weight, { activation, gateBias: gate.bias ?? null, upBias: up.bias ?? null });
  }
}
