/** The position-wise network of a transformer: linear2(dropout(activation(linear1(x)))), the same at every position. */
import { optionsArg } from '../tensor/check.js';
import type { Dtype } from '../tensor/dtype.js';
import type { Tensor } from '../tensor/tensor.js';
import { type Activation, activated, activationOf } from './activations.js';
import { Dropout } from './dropout.js';
import { Linear } from './linear.js';
import { Module } from './module.js';

/** Options of {@link FeedForward}. */
export interface FeedForwardOptions {
  /** A name or a function (default relu). */
  activation?: string | Activation;
  /** After the activation, in training (default 0). */
  dropout?: number;
  /** Whether both layers have biases; default true. */
  bias?: boolean;
  /** Of the parameters; default float32. */
  dtype?: Dtype;
}

/** Keys: `linear1.*` [dimFeedforward, dModel], `linear2.*` [dModel, dimFeedforward]. */
export class FeedForward extends Module {
  /** Between the layers. */
  readonly activation: Activation;
  /** dModel to dimFeedforward. */
  linear1: Linear;
  /** After the activation. */
  dropout: Dropout;
  /** dimFeedforward to dModel. */
  linear2: Linear;

  constructor(dModel: number, dimFeedforward: number, options: FeedForwardOptions = {}) {
    super();
    const known = ['activation', 'dropout', 'bias', 'dtype'] as const;
    const {
      activation = 'relu',
      dropout = 0,
      bias = true,
      dtype = 'float32',
    } = optionsArg('FeedForward', options, known);
    this.activation = activationOf(activation, 'FeedForward: activation');
    this.linear1 = new Linear(dModel, dimFeedforward, { bias, dtype });
    this.dropout = new Dropout(dropout);
    this.linear2 = new Linear(dimFeedforward, dModel, { bias, dtype });
  }

  /** @param x [..., dModel] @returns [..., dModel] */
  override forward(x: Tensor): Tensor {
    return this.linear2.forward(this.dropout.forward(activated(this.linear1, x, this.activation)));
  }
}
