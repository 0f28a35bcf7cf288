/**
 * The graph that backward walks. It hangs on its tensors: a node knows the nodes that made its inputs, so a loss that
 * is dropped takes its graph with it, and nothing is global.
 */
import { FoveaError } from '../errors.js';
import { activeMode } from '../tensor/modes.js';
import { live, Tensor, type GradHook, type GradNode } from '../tensor/tensor.js';
import type { Slot } from '../tensor/slot.js';

/** Where the gradient of an input goes: to an output of the node that made it, or into `.grad` of a leaf. */
export interface Edge {
  /** Null for a leaf. */
  readonly node: Node | null;
  /** Which output of the node. */
  readonly output: number;
  /** Null for a node. */
  readonly leaf: Tensor | null;
}
/** A gradient, or undefined where it is zero or not wanted. */
export type Gradient = Tensor | undefined;

/** A value that backward needs. The slot is counted, so that it lives until the node has run, and no longer. */
export interface Saved {
  /** The op's name for it. */
  readonly name: string;
  readonly slot: Slot;
  /** The storage's count of writes when it was saved. */
  readonly version: number;
  /** Which input of the op it is, or -1 - k for output k. */
  readonly place: number;
}

let sequence = 0;

/** The number that the next node gets: those recorded from now on are the ones with it or higher ones. */
export function nextSequence(): number {
  return sequence;
}

/** One recorded op. */
export abstract class Node implements GradNode {
  /** The op's name. */
  readonly name: string;
  /** Inputs are always made before outputs, so this order is topological. */
  readonly sequence: number = sequence++;
  /** By input; null where no gradient is wanted. */
  readonly edges: readonly (Edge | null)[];
  /** Values kept for backward; null once they were freed. */
  saved: readonly Saved[] | null;
  /** By output. */
  hooks: (GradHook[] | undefined)[] | null = null;

  constructor(name: string, edges: readonly (Edge | null)[], saved: readonly Saved[]) {
    this.name = name;
    this.edges = edges;
    this.saved = saved;
  }

  /**
   * Gradients of the inputs. With `again` the work is recorded, so that the gradients can be differentiated.
   */
  abstract differentiate(incoming: readonly Gradient[], again: boolean): readonly Gradient[];

  /** Frees what was saved. A node that saved nothing can be walked again, as in PyTorch. */
  free(): void {
    if (this.saved === null || this.saved.length === 0) return;
    for (const { slot } of this.saved) slot.release();
    this.saved = null;
  }

  /** The saved values by name; with `again`, attached to the graph that they came from. */
  protected values(again: boolean): Record<string, Tensor> {
    if (this.saved === null)
      throw new FoveaError(
        'FOVEA_AUTOGRAD',
        `backward: the values that ${this.name} saved were freed by an earlier backward; pass { retainGraph: true } to that one`,
      );
    const values: Record<string, Tensor> = {};
    for (const saved of this.saved) values[saved.name] = this.restore(saved, again);
    return values;
  }

  private restore({ name, slot, version, place }: Saved, again: boolean): Tensor {
    if (slot.version !== null && slot.version.count !== version)
      throw new FoveaError(
        'FOVEA_AUTOGRAD',
        `backward: ${this.name} saved ${name} for its gradient, but it was changed in place since; use the op without the underscore, or clone() first`,
      );
    if (!again) return ofSlot(slot);
    const edge = place >= 0 ? this.edges[place] : { node: this, output: -1 - place, leaf: null };
    // The leaf itself takes part, unless the user has disposed it: then nobody can ask for its gradient either.
    if (edge?.leaf && edge.leaf.slot === slot) return edge.leaf;
    const value = ofSlot(slot);
    if (edge?.node) attach(value, edge.node, edge.output);
    return value;
  }
}

function ofSlot(slot: Slot): Tensor {
  slot.users++;
  return new Tensor(slot);
}

/** Whether an op on `t` must be recorded now. */
export function wantsGradient(t: Tensor | undefined): boolean {
  return t !== undefined && t.tracked && activeMode().recording;
}

/**
 * Keeps a value for backward.
 *
 * @param place which input of the op it is, or -1 - k for output k
 * @returns the value with its version, which tells whether it was changed since
 */
export function save(name: string, t: Tensor, place: number): Saved {
  const slot = live(t);
  slot.users++;
  return { name, slot, version: slot.version === null ? 0 : slot.version.count, place };
}

/** Where the gradient of `t` goes. @returns null if it requires none */
export function edgeOf(t: Tensor | undefined): Edge | null {
  if (t === undefined || !t.tracked) return null;
  return t.node === null ? { node: null, output: 0, leaf: t } : { node: t.node as Node, output: t.output, leaf: null };
}

/** Makes `t` the given output of a node. */
export function attach(t: Tensor, node: Node, output: number): void {
  t.tracked = true;
  t.node = node;
  t.output = output;
}

type GradientFunction = (d: readonly Gradient[], saved: readonly Tensor[]) => readonly Gradient[];

/** A node whose gradient is a function: views, copies and other ops without a kernel of their own. */
class FunctionNode extends Node {
  private readonly gradient: GradientFunction;
  constructor(name: string, edges: readonly (Edge | null)[], saved: readonly Saved[], gradient: GradientFunction) {
    super(name, edges, saved);
    this.gradient = gradient;
  }
  override differentiate(incoming: readonly Gradient[], again: boolean): readonly Gradient[] {
    const values = this.values(again);
    const list: Tensor[] = [];
    for (const place in values) list[Number(place)] = values[place]!;
    return this.gradient(incoming, list);
  }
}

/**
 * Records `outs` as functions of the inputs, if any of them requires gradients.
 *
 * @param gradient in terms of ops, so that it can itself be differentiated. It must hold no tensors: what it needs goes
 *   into `saves` and comes back as its second argument. The gradient of an output that nothing depends on is undefined
 * @param saves tensors that are not inputs count as constants, and undefined ones leave a hole
 * @returns `outs`
 */
export function recordMany<T extends readonly Tensor[]>(
  name: string,
  inputs: readonly (Tensor | undefined)[],
  outs: T,
  gradient: GradientFunction,
  saves: readonly (Tensor | undefined)[] = [],
): T {
  if (!inputs.some(wantsGradient)) return outs;
  const saved = saves.flatMap((t, i) => {
    if (t === undefined) return [];
    const input = inputs.indexOf(t);
    return [save(String(i), t, input < 0 ? inputs.length : input)];
  });
  const node = new FunctionNode(name, inputs.map(edgeOf), saved, gradient);
  for (let i = 0; i < outs.length; i++) attach(outs[i]!, node, i);
  return outs;
}

/** Records one output: see `recordMany`. @returns `out` */
export function record(
  name: string,
  inputs: readonly (Tensor | undefined)[],
  out: Tensor,
  gradient: (dy: Tensor, saved: readonly Tensor[]) => readonly Gradient[],
  saves?: readonly (Tensor | undefined)[],
): Tensor {
  if (inputs.some(wantsGradient)) recordMany(name, inputs, [out], (d, saved) => gradient(d[0]!, saved), saves);
  return out;
}
