/** Helpers over the gradients of many tensors at once. */
import { zeros } from '../ops/index.js';
import { kernels } from '../ops/kernels.gen.js';
import { noGrad } from '../autograd/backward.js';
import { FoveaError } from '../errors.js';
import { argumentError, numberArg, optionsArg } from '../tensor/check.js';
import { slotOf, type Tensor } from '../tensor/tensor.js';

export * as rnn from './packed-sequence.js';

/** Options of {@link clipGradNorm_}. */
export interface ClipGradNormOptions {
  /** Wait for the norm and throw if it is NaN or infinite (default false). */
  errorIfNonfinite?: boolean;
}

/**
 * Scales all gradients so that their common norm, sqrt(Σ g²), is at most `maxNorm` (Pascanu et al. 2013,
 * https://arxiv.org/abs/1211.5063), in two native calls whatever the number of parameters.
 *
 * @returns the norm before clipping, a float32 scalar
 * @throws FOVEA_NAN with `errorIfNonfinite`
 */
export function clipGradNorm_(
  parameters: Tensor | Iterable<Tensor>,
  maxNorm: number,
  options: ClipGradNormOptions = {},
): Tensor {
  const { errorIfNonfinite = false } = optionsArg('clipGradNorm_', options, ['errorIfNonfinite']);
  if (!(numberArg('clipGradNorm_', 'maxNorm', maxNorm) >= 0))
    throw argumentError('clipGradNorm_', 'maxNorm', 'a number of at least 0', maxNorm);
  if (typeof parameters !== 'object' || parameters === null)
    throw argumentError('clipGradNorm_', 'parameters', 'tensors', parameters);
  const all = Symbol.iterator in parameters ? [...parameters] : [parameters];
  for (const [i, tensor] of all.entries()) slotOf(tensor, 'clipGradNorm_', `parameters[${i}]`);
  const g = all.flatMap(({ grad }) => (grad ? [grad] : []));
  if (g.length === 0) return zeros([]);
  return noGrad(() => {
    const { norm } = kernels.gradNorm({ g }, {});
    if (errorIfNonfinite && !Number.isFinite(norm.itemSync())) {
      throw new FoveaError(
        'FOVEA_NAN',
        `clipGradNorm_: the norm of the gradients is ${norm.itemSync()}; look for NaN in the loss, or lower the learning rate`,
      );
    }
    kernels.clip_({ g, norm: g.map(() => norm) }, { maxNorm });
    return norm;
  });
}
