/** y = x · m / (1 - p), m Bernoulli(1 - p) (Srivastava et al. 2014); the identity in evaluation mode. */
import { dropout } from '../ops/index.js';
import { probabilityArg } from '../tensor/check.js';
import type { Tensor } from '../tensor/tensor.js';
import { Module } from './module.js';

/** Dropout with probability `p` while `training`. */
export class Dropout extends Module {
  /** The probability of an element to become 0. */
  readonly p: number;

  constructor(p = 0.5) {
    super();
    this.p = probabilityArg('Dropout', 'p', p);
  }

  /** @param x any shape @returns the same shape */
  override forward(x: Tensor): Tensor {
    return this.training && this.p > 0 ? dropout(x, { p: this.p, training: true }) : x;
  }
}
