/** Which parameters decay. */
import type { Module } from '../nn/module.js';
import type { Tensor } from '../tensor/tensor.js';

/** Groups of an optimizer: matrices decay, biases and the gains of norms do not; what requires no gradients is left out. */
export function decayGroups(model: Module, weightDecay: number): { params: Tensor[]; weightDecay: number }[] {
  const trained = model.parameters().filter(({ requiresGrad }) => requiresGrad);
  const groups = [
    { params: trained.filter(({ rank }) => rank >= 2), weightDecay },
    { params: trained.filter(({ rank }) => rank < 2), weightDecay: 0 },
  ];
  return groups.filter(({ params }) => params.length > 0);
}
