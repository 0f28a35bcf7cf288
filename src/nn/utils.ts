/** Helpers over the gradients of many tensors at once. */
import { norm, stack, zeros } from '../ops/index.js';
import { kernels } from '../ops/kernels.gen.js';
import { noGrad } from '../autograd/backward.js';
import { FoveaError } from '../errors.js';
import { argumentError, numberArg, optionsArg } from '../tensor/check.js';
import { slotOf, type Tensor } from '../tensor/tensor.js';
import { tidy } from '../tensor/tidy.js';

/** The gradients of one tensor or several, where they have one. */
function gradientsOf(op: string, parameters: Tensor | Iterable<Tensor>): Tensor[] {
  if (typeof parameters !== 'object' || parameters === null)
    throw argumentError(op, 'parameters', 'tensors', parameters);
  const all = Symbol.iterator in parameters ? [...parameters] : [parameters];
  for (const [i, tensor] of all.entries()) slotOf(tensor, op, `parameters[${i}]`);
  return all.flatMap(({ grad }) => (grad ? [grad] : []));
}

function limitArg(op: string, name: string, value: unknown): void {
  if (!(numberArg(op, name, value) >= 0)) throw argumentError(op, name, 'a number of at least 0', value);
}

export * as rnn from './packed-sequence.js';

/** Options of {@link clipGradNorm_}. */
export interface ClipGradNormOptions {
  /** The order p of the norm (Σ |g|ᵖ)^(1/p); Infinity: the largest magnitude, -Infinity: the least (default 2). */
  normType?: number;
  /** Wait for the norm and throw if it is NaN or infinite (default false). */
  errorIfNonfinite?: boolean;
}

/**
 * The norm of the norms, as PyTorch has it: for all orders but 0 that of all elements, for 0 the number of gradients
 * that are not all zero.
 */
function normOf(g: readonly Tensor[], normType: number): Tensor {
  if (normType === 2) return kernels.gradNorm({ g }, {}).norm;
  return tidy(() => {
    const each = g.map((x) => norm(x, undefined, { p: normType }).to('float32'));
    return norm(stack(each), undefined, { p: normType });
  });
}

/**
 * Scales all gradients so that their common norm, sqrt(Σ g²) or that of another order, is at most `maxNorm` (Pascanu et
 * al. 2013, https://arxiv.org/abs/1211.5063): by min(1, maxNorm / (norm + 1e-6)), as PyTorch does. In two native calls
 * whatever the number of parameters; norms of other orders than 2 take one for each.
 *
 * @returns the norm before clipping, a float32 scalar
 * @throws FOVEA_NAN with `errorIfNonfinite`; the gradients are then as they were
 */
export function clipGradNorm_(
  parameters: Tensor | Iterable<Tensor>,
  maxNorm: number,
  options: ClipGradNormOptions = {},
): Tensor {
  const known = ['normType', 'errorIfNonfinite'] as const;
  const { normType = 2, errorIfNonfinite = false } = optionsArg('clipGradNorm_', options, known);
  limitArg('clipGradNorm_', 'maxNorm', maxNorm);
  if (Number.isNaN(numberArg('clipGradNorm_', 'normType', normType)))
    throw argumentError('clipGradNorm_', 'normType', 'the order of a norm', normType);
  const g = gradientsOf('clipGradNorm_', parameters);
  if (g.length === 0) return zeros([]);
  return noGrad(() => {
    const total = normOf(g, normType);
    if (errorIfNonfinite && !Number.isFinite(total.itemSync())) {
      throw new FoveaError(
        'FOVEA_NAN',
        `clipGradNorm_: the norm of the gradients is ${total.itemSync()}; look for NaN in the loss, or lower the learning rate`,
      );
    }
    kernels.clip_({ g, norm: g.map(() => total) }, { maxNorm });
    return total;
  });
}

/**
 * Cuts every element of the gradients to [-clipValue, clipValue], in place.
 *
 * @throws FOVEA_ARGUMENT for a `clipValue` that is no number of at least 0
 */
export function clipGradValue_(parameters: Tensor | Iterable<Tensor>, clipValue: number): void {
  limitArg('clipGradValue_', 'clipValue', clipValue);
  const g = gradientsOf('clipGradValue_', parameters);
  noGrad(() => g.forEach((x) => void x.clamp_({ min: -clipValue, max: clipValue })));
}
