/** Ops of users: a forward and a backward in terms of other ops. */
import { FoveaError } from '../errors.js';
import { functionArg } from '../tensor/check.js';
import type { Dtype } from '../tensor/dtype.js';
import { late } from '../tensor/late.js';
import { runUnder } from '../tensor/modes.js';
import { alias, isTensor, live, slotOf, type Tensor } from '../tensor/tensor.js';
import { attach, edgeOf, Node, save, wantsGradient, type Edge, type Gradient, type Saved } from './node.js';

/** What a forward leaves for its backward. */
export interface FunctionContext {
  /** Keeps tensors until backward; changing one in place makes backward throw. Inputs and outputs may be among them. */
  saveForBackward(...tensors: Tensor[]): void;
  /** In backward: the tensors that were kept. */
  readonly savedTensors: readonly Tensor[];
  /** Anything else that backward needs. */
  [key: string]: unknown;
}
/** A custom op: `backward` gives the gradient of every tensor argument in order, or null where there is none. */
export interface CustomFunctionSpec<A extends readonly unknown[], R extends Tensor | readonly Tensor[]> {
  /** The name in errors. */
  name?: string;
  /** Runs without recording. */
  forward(context: FunctionContext, ...args: A): R;
  /** Gets d loss / d output for every output. */
  backward(context: FunctionContext, ...gradients: Tensor[]): Tensor | null | readonly (Tensor | null | undefined)[];
}

class CustomNode extends Node {
  private readonly context: FunctionContext & { savedTensors: readonly Tensor[] };
  private readonly outputs: readonly { shape: readonly number[]; dtype: Dtype; device: number }[];
  private readonly run: (
    context: FunctionContext,
    ...gradients: Tensor[]
  ) => Tensor | null | readonly (Tensor | null | undefined)[];
  constructor(
    name: string,
    edges: (Edge | null)[],
    saved: Saved[],
    context: CustomNode['context'],
    outputs: readonly Tensor[],
    run: CustomNode['run'],
  ) {
    super(name, edges, saved);
    this.context = context;
    this.outputs = outputs.map((t) => ({ shape: t.shape, dtype: t.dtype, device: live(t).device }));
    this.run = run;
  }
  override differentiate(incoming: readonly Gradient[], again: boolean): readonly Gradient[] {
    this.context.savedTensors = Object.values(this.values(again));
    const gradientsOfOutputs = this.outputs.map(
      ({ shape, dtype, device }, i) => incoming[i] ?? late.full(shape, 0, dtype, device),
    );
    const result = this.run(this.context, ...gradientsOfOutputs);
    this.context.savedTensors = [];
    const gradients = (Array.isArray(result) ? result : [result]) as readonly (Tensor | null | undefined)[];
    if (gradients.length !== this.edges.length)
      throw new FoveaError(
        'FOVEA_AUTOGRAD',
        `${this.name}: backward gave ${gradients.length} gradients for ${this.edges.length} tensor arguments; give null where there is none`,
      );
    return gradients.map((g) => g ?? undefined);
  }
}

/**
 * Makes an op of a forward and its gradient.
 *
 * @example
 * const cube = customFunction({
 *   forward(context, x: Tensor) { context.saveForBackward(x); return x.mul(x).mul(x); },
 *   backward(context, dy) { const [x] = context.savedTensors; return dy.mul(x!.square()).mul(3); },
 * });
 * @returns a function of the arguments of `forward`, which gives what `forward` gives, attached to the graph
 * @throws FOVEA_ARGUMENT unless forward and backward are functions; in backward, FOVEA_AUTOGRAD unless there are as
 *   many gradients as tensor arguments
 */
export function customFunction<A extends readonly unknown[], R extends Tensor | readonly Tensor[]>(
  spec: CustomFunctionSpec<A, R>,
): (...args: A) => R {
  for (const part of ['forward', 'backward'] as const) functionArg('customFunction', part, spec?.[part]);
  const name = spec.name ?? 'customFunction';
  return (...args: A): R => {
    const kept: Tensor[] = [];
    const context = {
      savedTensors: [] as readonly Tensor[],
      saveForBackward: (...tensors: Tensor[]): void => void kept.push(...tensors),
    };
    const result = runUnder({ recording: false }, () => spec.forward(context, ...args));
    const inputs = args.filter(isTensor);
    // An input that is returned as it is gets a tensor of its own, or it would become its own ancestor.
    const own = (t: Tensor): Tensor => (slotOf(t, name, 'the result of forward') && inputs.includes(t) ? alias(t) : t);
    const outputs = (Array.isArray(result) ? (result as Tensor[]) : [result as Tensor]).map(own);
    if (inputs.some(wantsGradient)) {
      const saved = kept.map((t, i) => save(String(i), t, placeOf(t, inputs, outputs)));
      const node = new CustomNode(name, inputs.map(edgeOf), saved, context, outputs, (c, ...g) =>
        spec.backward(c, ...g),
      );
      outputs.forEach((t, i) => attach(t, node, i));
    }
    return (Array.isArray(result) ? outputs : outputs[0]) as R;
  };
}

/** Values that are neither input nor output are constants: a place without an edge. */
function placeOf(t: Tensor, inputs: readonly Tensor[], outputs: readonly Tensor[]): number {
  const input = inputs.indexOf(t);
  if (input >= 0) return input;
  const output = outputs.indexOf(t);
  return output >= 0 ? -1 - output : inputs.length;
}
