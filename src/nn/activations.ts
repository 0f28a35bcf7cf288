/** Activation functions by the names that PyTorch's layers and Hugging Face's configs give them. */
import { FoveaError } from '../errors.js';
import { type FusedActivation, type GateActivation, gelu, linear, relu, sigmoid, silu, tanh } from '../ops/index.js';
import { show } from '../tensor/check.js';
import type { Tensor } from '../tensor/tensor.js';
import { Linear } from './linear.js';
import { runsOnly } from './module.js';

export type Activation = (x: Tensor) => Tensor;

const reluOf: Activation = (x) => relu(x);
const sigmoidOf: Activation = (x) => sigmoid(x);
const siluOf: Activation = (x) => silu(x);
const geluErf: Activation = (x) => gelu(x);
const geluTanh: Activation = (x) => gelu(x, { approximate: 'tanh' });

const activations: ReadonlyMap<string, Activation> = new Map<string, Activation>([
  ['relu', reluOf],
  ['gelu', geluErf],
  // gelu_new is GPT-2's and gelu_fast ALBERT's spelling of the tanh approximation (Hendrycks & Gimpel 2016).
  ['gelu_new', geluTanh],
  ['gelu_fast', geluTanh],
  ['gelu_pytorch_tanh', geluTanh],
  ['quick_gelu', (x) => x.mul(sigmoid(x.mul(1.702)))],
  ['silu', siluOf],
  ['swish', siluOf],
  ['tanh', (x) => tanh(x)],
  ['sigmoid', sigmoidOf],
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
    `${option}: ${typeof activation === 'string' ? JSON.stringify(activation) : show(activation)} is not one of ${[...activations.keys()].join(', ')}`,
  );
}

const fusedNames: ReadonlyMap<Activation, FusedActivation> = new Map([
  [geluErf, 'gelu'],
  [geluTanh, 'geluTanh'],
  [reluOf, 'relu'],
  [siluOf, 'silu'],
]);
/** What `linear` and `addmm` call an activation that they can apply themselves. */
export function fusedActivation(activation: Activation): FusedActivation | undefined {
  return fusedNames.get(activation);
}
/** What `gatedLinear` calls an activation that it can apply to its gate. */
export function gateActivation(activation: Activation): GateActivation | undefined {
  return activation === sigmoidOf ? 'sigmoid' : fusedActivation(activation);
}

/**
 * activation(layer(x)): one op where `linear` knows the activation, unless the layer is another than Linear or has
 * hooks.
 */
export function activated(layer: Linear, x: Tensor, activation: Activation): Tensor {
  const fused = fusedActivation(activation);
  if (fused === undefined || !runsOnly(layer, Linear)) return activation(layer.forward(x));
  return linear(x, layer.weight, layer.bias, { activation: fused });
}
