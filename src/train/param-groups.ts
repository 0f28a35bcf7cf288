/** Which parameters decay, and which are matrices of hidden layers. */
import { Embedding } from '../nn/embedding.js';
import type { Module } from '../nn/module.js';
import type { Tensor } from '../tensor/tensor.js';

/** Parameters with the decay that holds for them. */
export interface DecayGroup {
  params: Tensor[];
  weightDecay: number;
}

/**
 * Groups of an optimizer: matrices decay, biases and the gains of norms do not; what requires no gradients is left out.
 *
 * @param except parameters that belong to another optimizer
 */
export function decayGroups(model: Module, weightDecay: number, except?: ReadonlySet<Tensor>): DecayGroup[] {
  const trained = model.parameters().filter((p) => p.requiresGrad && !except?.has(p));
  const groups = [
    { params: trained.filter(({ rank }) => rank >= 2), weightDecay },
    { params: trained.filter(({ rank }) => rank < 2), weightDecay: 0 },
  ];
  return groups.filter(({ params }) => params.length > 0);
}

/**
 * The matrices of hidden layers that require gradients, for which `Muon` is: not tables of embeddings, and not the
 * head, which Hugging Face's models call `lm_head`.
 */
export function hiddenMatrices(model: Module): Tensor[] {
  const tables = new Set<Tensor>(model.modules().flatMap((part) => (part instanceof Embedding ? [part.weight] : [])));
  return model
    .namedParameters()
    .filter(([key, p]) => p.rank === 2 && p.requiresGrad && !tables.has(p) && !/(^|\.)lm_head\./.test(key))
    .map(([, p]) => p);
}
