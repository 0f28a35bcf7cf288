/**
 * Activation checkpointing (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost",
 * https://arxiv.org/abs/1604.06174): what a function saves for its gradient is freed at once, and backward runs the
 * function again. A stack of n equal layers, each in a checkpoint, keeps n inputs and one layer's activations instead
 * of n layers' activations, for one more forward.
 *
 * The function is recorded as always, so that its kernels are those of every recorded forward; its graph tells which
 * parameters it used, and is then freed. What stands in its place is one node from the inputs and those parameters to
 * the outputs.
 */
import { FoveaError } from '../errors.js';
import { argumentError, functionArg } from '../tensor/check.js';
import { type Drawn, logDraws, notRepeated, repeatDraws } from '../tensor/draws.js';
import { activeMode, isThenable, type Mode, runUnder, withOwnCasts } from '../tensor/modes.js';
import { alias, isTensor, type Tensor } from '../tensor/tensor.js';
import { tidy } from '../tensor/tidy.js';
import { propagate, reachable } from './engine.js';
import { attach, edgeOf, type Edge, type Gradient, Node, nextSequence, record, save, type Saved } from './node.js';

type Output = Tensor | null | undefined;
/** What a function may return under `checkpoint`. */
export type CheckpointOutput = Tensor | readonly Output[];

/** What a run of the function has left: its results, and the graph behind them. */
interface Run {
  /** Whether the result is a tensor, not an array. */
  readonly single: boolean;
  readonly outputs: readonly Output[];
  /** The parameters and other leaves that it used, beside its inputs. */
  readonly leaves: readonly Tensor[];
  readonly nodes: readonly Node[];
}

/** How a function runs, the first time and again. */
interface Recipe {
  /** Calls it with these in place of its tensor arguments. */
  readonly call: (inputs: readonly Tensor[]) => unknown;
  readonly mode: Pick<Mode, 'autocast' | 'strict'>;
}

function outputsOf(result: unknown): readonly Output[] {
  if (isThenable(result)) {
    result.then(undefined, () => undefined); // the error below says what matters
    throw argumentError('checkpoint', 'fn', 'a synchronous function', 'one that returns a promise');
  }
  const list: readonly unknown[] = Array.isArray(result) ? result : [result];
  const isOutput = (value: unknown): value is Output =>
    isTensor(value) || (Array.isArray(result) && (value === null || value === undefined));
  if (!list.every(isOutput))
    throw argumentError('checkpoint', 'the result of fn', 'a tensor or an array of tensors', result);
  return list;
}

/** Runs the function, and looks at the graph that it makes. */
function runOn({ call: callWith, mode }: Recipe, inputs: readonly Tensor[]): Run {
  const since = nextSequence();
  const call = (): unknown => callWith(inputs);
  const change = { ...mode, recording: true };
  // Conversions of parameters that were made before would belong to the graph outside.
  const result = mode.autocast === null ? runUnder(change, call) : withOwnCasts(change, call);
  const outputs = outputsOf(result);
  const roots = outputs.flatMap((t) => (t?.node ? [t.node as Node] : []));
  const nodes = reachable(roots, since).filter((node) => node.sequence >= since);
  const leaves = new Set<Tensor>();
  for (const t of outputs) if (t?.tracked && t.node === null) leaves.add(t);
  const outside = new Set(roots);
  for (const node of nodes)
    for (const edge of node.edges) {
      if (edge?.leaf) leaves.add(edge.leaf);
      if (edge?.node) outside.add(edge.node);
    }
  for (const input of inputs) {
    leaves.delete(input);
    outside.delete(input.node as Node);
  }
  for (const node of outside) refuseHistory(node, since);
  return { single: !Array.isArray(result), outputs, leaves: [...leaves], nodes };
}

/** A tensor of an outer graph that comes in behind the inputs' back would get no gradient. */
function refuseHistory(node: Node, since: number): void {
  if (node.sequence >= since) return;
  throw new FoveaError(
    'FOVEA_AUTOGRAD',
    `checkpoint: fn uses a result of ${node.name} from outside, whose gradient would be lost; pass it to checkpoint as an input`,
  );
}

/** A tensor as a leaf, at which the graph of a run begins. */
function startOf(t: Tensor, tracked: boolean): Tensor {
  t.tracked = tracked;
  return t;
}

/** One node for all that the function did. */
class CheckpointNode extends Node {
  readonly #recipe: Recipe;
  readonly #leaves: readonly Tensor[];
  readonly #draws: readonly Drawn[];
  readonly #shapes: readonly (string | undefined)[];
  readonly #size: number;

  constructor(
    recipe: Recipe,
    edges: readonly (Edge | null)[],
    saved: readonly Saved[],
    run: Run,
    draws: readonly Drawn[],
  ) {
    super('checkpoint', edges, saved);
    this.#recipe = recipe;
    this.#leaves = run.leaves;
    this.#draws = draws;
    this.#shapes = run.outputs.map(shapeOf);
    this.#size = run.nodes.length;
  }

  override differentiate(incoming: readonly Gradient[], again: boolean): readonly Gradient[] {
    const since = nextSequence();
    const values = Object.values(this.values(again));
    const inputs = values.map((value, i) => {
      const tracked = this.edges[i] !== null;
      // For second derivatives the graph goes on behind the input, but this walk ends there.
      return tracked && again ? record('input', [value], alias(value), (dy) => [dy]) : startOf(value, tracked);
    });
    const { outputs } = this.#runAgain(inputs);
    const given = outputs.flatMap((t, i) => (t?.tracked && incoming[i] ? [i] : []));
    const wanted = [...inputs.map((t) => (t.tracked ? t : undefined)), ...this.#leaves];
    const gradients = propagate(
      given.map((i) => outputs[i]!),
      given.map((i) => incoming[i]!),
      { inputs: wanted.filter((t) => t !== undefined), createGraph: again, retainGraph: again, since },
    );
    let next = 0;
    return wanted.map((t) => (t === undefined ? undefined : gradients[next++]));
  }

  #runAgain(inputs: readonly Tensor[]): Run {
    let run: Run;
    try {
      run = repeatDraws(this.#draws, () => tidy(() => runOn(this.#recipe, inputs)));
    } catch (error) {
      if (!(error instanceof FoveaError) || error.code !== 'FOVEA_DISPOSED') throw error;
      throw new FoveaError(
        'FOVEA_DISPOSED',
        `checkpoint: when fn ran again in backward, a tensor that it takes from outside was disposed; pass it to checkpoint as an input (${error.message})`,
        { cause: error },
      );
    }
    const { outputs, nodes } = run;
    if (outputs.map(shapeOf).join() !== this.#shapes.join()) throw notRepeated('returned other shapes or dtypes');
    if (nodes.length !== this.#size) throw notRepeated('computed something else');
    return run;
  }
}

function shapeOf(t: Output): string | undefined {
  return t ? `${t.dtype}[${t.shape.join(',')}]` : undefined;
}

/**
 * Calls `fn(...inputs)` without keeping what its gradient needs; backward calls it again instead. Gradients are those
 * of a plain call, to the bit: random numbers are drawn again as they were, and the `autocast` that was in force is in
 * force again. Where nothing is recorded or nothing requires gradients it is a plain call.
 *
 * Gradients reach the inputs and all parameters that `fn` uses; checkpoints may be nested, and second derivatives work.
 * `fn` runs in a `tidy` and must do the same both times: it must not seed generators, and what it changes outside
 * (lists, observers of attention) is changed twice, but for running statistics of batch norms. Tensors that it takes
 * from outside must live until backward, so pass those that a `tidy` or a module's `forward` would free as inputs; so
 * must be those with a history.
 *
 * @example
 * for (const block of this.blocks) x = checkpoint((h, m) => block.forward(h, { attnMask: m }), x, mask);
 * @param fn synchronous; returns a tensor or an array of tensors, in which null and undefined may stand
 * @param inputs its arguments: tensors, which are kept until backward, and anything else
 * @returns what `fn` returns, as tensors of their own
 * @throws FOVEA_ARGUMENT for what is no function, or returns a promise or no tensors; FOVEA_AUTOGRAD for a tensor
 *   with a history that is no input; FOVEA_UNSUPPORTED if `fn` seeds a generator; what `fn` throws. In backward,
 *   FOVEA_AUTOGRAD if `fn` does something else than before or an input was changed in place, FOVEA_DISPOSED for a
 *   tensor that is gone
 */
export function checkpoint<A extends readonly unknown[], R extends CheckpointOutput>(
  fn: (...args: A) => R,
  ...inputs: A
): R {
  functionArg('checkpoint', 'fn', fn);
  const { recording, autocast, strict } = activeMode();
  if (!recording) return fn(...inputs);
  const call = (tensors: readonly Tensor[]): R => {
    let next = 0;
    const args: readonly unknown[] = inputs.map((arg) => (isTensor(arg) ? tensors[next++] : arg));
    return fn(...(args as A));
  };
  const recipe = { call, mode: { autocast, strict } };
  const outputs = tidy(() => runFirst(recipe, inputs.filter(isTensor)));
  return outputs as R;
}

/** The first run, of which one node stays. */
function runFirst(recipe: Recipe, inputs: readonly Tensor[]): Output | readonly Output[] {
  const saved = inputs.map((t, i) => save(String(i), t, i));
  const starts = inputs.map((t) => startOf(alias(t), t.tracked));
  let kept = false;
  try {
    const { result: run, draws } = logDraws(() => runOn(recipe, starts));
    const outputs = run.outputs.map((t) => t && alias(t));
    kept = run.outputs.some((t) => t?.tracked);
    if (kept) {
      const edges = [...inputs, ...run.leaves].map(edgeOf);
      const node = new CheckpointNode(recipe, edges, saved, run, draws);
      for (const [i, t] of run.outputs.entries()) if (t?.tracked) attach(outputs[i]!, node, i);
    }
    for (const node of run.nodes) node.free();
    return run.single ? outputs[0] : outputs;
  } finally {
    if (!kept) for (const { slot } of saved) slot.release();
  }
}
