/** Activation functions by the names that PyTorch's layers and Hugging Face's configs give them. */
import { FoveaError } from '../errors.js';
import { gelu, relu, sigmoid, silu, tanh } from '../ops/index.js';
import type { Tensor } from '../tensor/tensor.js';

export type Activation = (x: Tensor) => Tensor;

const geluTanh: Activation = (x) => gelu(x, { approximate: 'tanh' });

const activations: ReadonlyMap<string, Activation> = new Map<string, Activation>([
  ['relu', (x) => relu(x)],
  ['gelu', (x) => gelu(x)],
  // gelu_new is GPT-2's and gelu_fast ALBERT's spelling of the tanh approximation (Hendrycks & Gimpel 2016).
  ['gelu_new', geluTanh],
  ['gelu_fast', geluTanh],
  ['gelu_pytorch_tanh', geluTanh],
  ['quick_gelu', (x) => x.mul(sigmoid(x.mul(1.702)))],
  ['silu', (x) => silu(x)],
  ['swish', (x) => silu(x)],
  ['tanh', (x) => tanh(x)],
  ['sigmoid', (x) => sigmoid(x)],
  ['relu2', (x) => relu(x).square()],
  ['linear', (x) => x],
]);

/**
 * The activation of a name, or the function itself.
 *
 * @throws FOVEA_UNSUPPORTED listing the known names
 */
export function activationOf(activation: string | Activation, option = 'activation'): Activation {
  if (typeof activation === 'function') return activation;
  const known = activations.get(activation);
  if (known) return known;
  throw new FoveaError(
    'FOVEA_UNSUPPORTED',
    `${option}: ${JSON.stringify(activation)} is not one of ${[...activations.keys()].join(', ')}`,
  );
}
