/** Gradients as users ask for them: `backward()`, `grad()`, `noGrad`, `enableGrad`, hooks. */
import { FoveaError } from '../errors.js';
import { argumentError, functionArg, optionsArg } from '../tensor/check.js';
import { isFloat } from '../tensor/dtype.js';
import { sameShape } from '../tensor/layout.js';
import { late } from '../tensor/late.js';
import { isRecording, runUnder } from '../tensor/modes.js';
import { addHook, slotOf, Tensor, type GradHook } from '../tensor/tensor.js';
import { propagate } from './engine.js';
import type { Node } from './node.js';

/** Options of `backward`. */
export interface BackwardOptions {
  /** Keep what the graph saved, so that it can be walked again. Default: `createGraph`. */
  retainGraph?: boolean;
  /** Record the work, so that the gradients can be differentiated. */
  createGraph?: boolean;
}
/** Options of `grad`. */
export interface GradOptions extends BackwardOptions {
  /** d loss / d output for every output; ones for outputs of one element. */
  gradOutputs?: readonly Tensor[] | Tensor;
  /** Give null for inputs that nothing depends on, instead of throwing. */
  allowUnused?: boolean;
}

/**
 * Runs `fn` without recording: for evaluation and for updates of parameters.
 *
 * @param fn a synchronous or asynchronous function
 * @returns what `fn` returns
 * @throws FOVEA_ARGUMENT for what is no function, and what `fn` throws
 */
export function noGrad<T>(fn: () => T): T {
  functionArg('noGrad', 'fn', fn);
  return runUnder({ recording: false }, fn);
}

/**
 * Runs `fn` with recording switched on again, inside of a `noGrad`.
 *
 * @param fn a synchronous or asynchronous function
 * @returns what `fn` returns
 * @throws FOVEA_ARGUMENT for what is no function, and what `fn` throws
 */
export function enableGrad<T>(fn: () => T): T {
  functionArg('enableGrad', 'fn', fn);
  return runUnder({ recording: true }, fn);
}

/** Whether ops on tensors that require gradients are recorded. */
export function isGradEnabled(): boolean {
  return isRecording();
}

/**
 * Adds d `output` / d leaf to `leaf.grad` for every leaf that requires gradients and that `output` was computed from.
 *
 * @param gradient d loss / d output, of the shape of `output`; may be left out for an output of one element
 * @throws FOVEA_AUTOGRAD if nothing requires gradients, a saved value was changed in place, the graph was freed, or an
 *   output of several elements has no `gradient`; FOVEA_SHAPE or FOVEA_DTYPE for a gradient that does not fit
 */
export function backward(output: Tensor, gradient?: Tensor, options?: BackwardOptions): void {
  const { retainGraph, createGraph = false } = optionsArg('backward', options, ['retainGraph', 'createGraph']);
  const seed = seedOf('backward', output, gradient);
  propagate([output], [seed], { createGraph, retainGraph: retainGraph ?? createGraph });
  if (seed !== gradient && !createGraph) seed.dispose();
}

/**
 * d outputs / d inputs, without touching any `.grad`.
 *
 * @param outputs one tensor or several; their gradients add up
 * @param inputs the tensors to differentiate by: leaves or results
 * @returns as many tensors as there are inputs; null for one that nothing depends on, with `allowUnused`
 * @throws FOVEA_AUTOGRAD like `backward`, and for an input that nothing depends on
 */
export function grad(
  outputs: Tensor | readonly Tensor[],
  inputs: Tensor | readonly Tensor[],
  options?: GradOptions & { allowUnused?: false },
): Tensor[];
export function grad(
  outputs: Tensor | readonly Tensor[],
  inputs: Tensor | readonly Tensor[],
  options: GradOptions,
): (Tensor | null)[];
export function grad(
  outputs: Tensor | readonly Tensor[],
  inputs: Tensor | readonly Tensor[],
  options?: GradOptions,
): (Tensor | null)[] {
  const given = optionsArg('grad', options, ['gradOutputs', 'createGraph', 'retainGraph', 'allowUnused']);
  const { createGraph = false, allowUnused = false } = given;
  const from = listOf('grad', 'outputs', outputs);
  const by = listOf('grad', 'inputs', inputs);
  const gradients = given.gradOutputs === undefined ? [] : listOf('grad', 'gradOutputs', given.gradOutputs);
  if (gradients.length > from.length) throw argumentError('grad', 'gradOutputs', `${from.length} tensors`, gradients);
  for (const [i, t] of by.entries())
    if (!slotOf(t, 'grad', `inputs[${i}]`) || !t.tracked)
      throw new FoveaError(
        'FOVEA_AUTOGRAD',
        `grad: inputs[${i}] does not require gradients; call requiresGrad_() before it is used`,
      );
  const seeds = from.map((t, i) => seedOf('grad', t, gradients[i]));
  const results = propagate(from, seeds, { inputs: by, createGraph, retainGraph: given.retainGraph ?? createGraph });
  return results.map((g, i) => {
    if (g === undefined && !allowUnused)
      throw new FoveaError(
        'FOVEA_AUTOGRAD',
        `grad: inputs[${i}] was not used to compute the outputs; pass { allowUnused: true } to get null for it`,
      );
    return g ?? null;
  });
}

function listOf(op: string, argument: string, value: Tensor | readonly Tensor[]): readonly Tensor[] {
  const list = Array.isArray(value) ? (value as readonly Tensor[]) : [value as Tensor];
  for (const [i, t] of list.entries()) slotOf(t, op, Array.isArray(value) ? `${argument}[${i}]` : argument);
  return list;
}

function seedOf(op: string, output: Tensor, gradient: Tensor | undefined): Tensor {
  const { shape, dtype } = slotOf(output, op, 'output');
  if (!output.tracked)
    throw new FoveaError(
      'FOVEA_AUTOGRAD',
      `${op}: the output was not computed from anything that requires gradients; set requiresGrad, and look for noGrad or detach()`,
    );
  if (gradient === undefined) {
    if (output.size !== 1)
      throw new FoveaError(
        'FOVEA_AUTOGRAD',
        `${op}: an output of one element is differentiated, this is [${shape.join(',')}]; reduce it with sum() or mean(), or give its gradient`,
      );
    return late.full(shape, 1, output.dtype, output.slot!.device);
  }
  const slot = slotOf(gradient, op, 'gradient');
  if (!sameShape(slot.shape, shape))
    throw new FoveaError(
      'FOVEA_SHAPE',
      `${op}: expected a gradient of the output's shape [${shape.join(',')}], received [${slot.shape.join(',')}]`,
    );
  if (!isFloat(slot.dtype))
    throw new FoveaError('FOVEA_DTYPE', `${op}: expected a floating-point gradient, received ${gradient.dtype}`);
  return slot.dtype === dtype ? gradient : late.cast(gradient, output.dtype);
}

/**
 * Calls `hook` with the gradient of `x` in every backward, once it is complete; a tensor that it returns is used
 * instead.
 *
 * @returns a function that removes the hook
 * @throws FOVEA_AUTOGRAD if `x` does not require gradients
 */
export function registerHook(x: Tensor, hook: GradHook): () => void {
  slotOf(x, 'registerHook', 'x');
  if (!x.tracked)
    throw new FoveaError(
      'FOVEA_AUTOGRAD',
      'registerHook: the tensor does not require gradients, so it gets none; set requiresGrad first',
    );
  if (x.node === null) return addHook((x.hooks ??= []), hook);
  const node = x.node as Node;
  const hooks = (node.hooks ??= []);
  return addHook((hooks[x.output] ??= []), hook);
}

/**
 * Keeps the gradient of a result of ops in its `.grad`, as leaves do by themselves.
 *
 * @throws FOVEA_AUTOGRAD if `x` does not require gradients
 */
export function retainGrad(x: Tensor): void {
  slotOf(x, 'retainGrad', 'x');
  if (x.isLeaf) return;
  registerHook(x, (g) => {
    const held = late.copy(g.detach());
    held.kept = true;
    x.grad = x.grad && !x.grad.isDisposed ? late.add(x.grad, held) : held;
  });
}

declare module '../tensor/tensor.js' {
  interface Tensor {
    /** Adds d this / d leaf to `leaf.grad` for every leaf that requires gradients. See the function `backward`. */
    backward(gradient?: Tensor, options?: BackwardOptions): void;
    /** Calls `hook` with the gradient of this tensor; returns a function that removes it. See `registerHook`. */
    registerHook(hook: GradHook): () => void;
    /** Keeps the gradient of a result of ops in its `.grad`. */
    retainGrad(): void;
  }
}

Tensor.prototype.backward = function (this: Tensor, gradient?: Tensor, options?: BackwardOptions): void {
  backward(this, gradient, options);
};
Tensor.prototype.registerHook = function (this: Tensor, hook: GradHook): () => void {
  return registerHook(this, hook);
};
Tensor.prototype.retainGrad = function (this: Tensor): void {
  retainGrad(this);
};
