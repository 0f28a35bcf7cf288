/**
 * Reverse mode: walks the graph from the outputs, and frees what a node saved as soon as the node has run.
 *
 * A leaf's gradient is complete when every node that reads the leaf has run; only then do its hooks see it.
 */
import { FoveaError } from '../errors.js';
import { isDense, sameShape } from '../tensor/layout.js';
import { late } from '../tensor/late.js';
import { activeScope, runUnder } from '../tensor/modes.js';
import { alias, live, type GradHook, type Tensor } from '../tensor/tensor.js';
import { tidy } from '../tensor/tidy.js';
import { attach, edgeOf, type Edge, type Gradient, type Node } from './node.js';

/** How a graph is walked. */
export interface Walk {
  /** Where to stop: gradients of these are returned, and no leaf gets a `.grad`. Without it every leaf does. */
  inputs?: readonly Tensor[];
  /** Whether the work is recorded, so that the gradients can be differentiated. */
  createGraph: boolean;
  /** Whether nodes keep what they saved, so that they can be walked again. */
  retainGraph: boolean;
  /**
   * This is part of a node's work in a walk around it: nodes of lower sequence numbers are left alone, even where they
   * lead to inputs as well, and so are the hooks of inputs, whose gradients are not complete yet.
   */
  since?: number;
}
interface Arrivals {
  sum: Gradient;
  /** Nodes that may still send a part. */
  missing: number;
}

/**
 * Walks the graph behind `outputs`.
 *
 * @param seeds d loss / d output for each output, of its shape and dtype
 * @returns gradients of `walk.inputs` (undefined where nothing depends on one), or nothing and `.grad` on the leaves
 * @throws FOVEA_AUTOGRAD if a saved value was freed or changed in place, or a node has no second gradient
 */
export function propagate(outputs: readonly Tensor[], seeds: readonly Tensor[], walk: Walk): Gradient[] {
  // Gradients belong to nobody's scope until they are handed out; a graph of them belongs to the caller's.
  const scope = walk.createGraph ? activeScope() : null;
  // The dtypes are those that forward ran in, so no autocast around this call has a say.
  const change = { recording: walk.createGraph, scope, autocast: null };
  const results = runUnder(change, () => new Engine(walk).run(outputs, seeds));
  if (!walk.createGraph) for (const g of results) if (g) activeScope()?.made.push(g);
  return results;
}

class Engine {
  private readonly walk: Walk;
  private readonly leaves = new Map<Tensor, Arrivals>();
  private readonly wanted = new Map<Tensor, number[]>();
  private readonly inner = new Map<Node, { output: number; input: number }[]>();
  /**
   * Parts of gradients on their way; here and not on the nodes, since one walk may start another over the same nodes.
   */
  private readonly incoming = new Map<Node, Gradient[]>();
  private readonly results: Gradient[] = [];

  constructor(walk: Walk) {
    this.walk = walk;
    for (const [i, input] of (walk.inputs ?? []).entries()) {
      const edge = edgeOf(input)!;
      this.results.push(undefined);
      if (edge.leaf) push(this.wanted, edge.leaf, i);
      else push(this.inner, edge.node!, { output: edge.output, input: i });
    }
  }

  run(outputs: readonly Tensor[], seeds: readonly Tensor[]): Gradient[] {
    const roots = outputs.flatMap((t) => (t.node ? [t.node as Node] : []));
    const order = reachable(roots, this.earliest()).sort((a, b) => b.sequence - a.sequence);
    const needed = this.walk.inputs ? this.towardsInputs(order) : null;
    const active = needed ? order.filter((node) => needed.has(node)) : order;
    for (const node of active) for (const edge of node.edges) if (edge?.leaf) this.arrivals(edge.leaf).missing++;
    for (const t of outputs) if (t.node === null) this.arrivals(t).missing++;
    try {
      for (const [i, t] of outputs.entries())
        this.deliver(edgeOf(t)!, another(seeds[i]!, this.walk.createGraph), needed);
      for (const node of order) {
        this.capture(node);
        if (needed === null || needed.has(node)) this.step(node, needed);
        else this.drop(node);
      }
    } finally {
      for (const node of order) this.drop(node);
    }
    return this.results;
  }

  /** Nodes made before all inputs of the walk lead to none of them. */
  private earliest(): number {
    if (this.walk.since !== undefined) return this.walk.since;
    if (this.wanted.size > 0 || this.inner.size === 0) return -Infinity;
    return Math.min(...[...this.inner.keys()].map((node) => node.sequence));
  }

  /** The nodes from which some input can be reached. Inputs have lower sequence numbers, so one pass suffices. */
  private towardsInputs(order: readonly Node[]): Set<Node> {
    const needed = new Set<Node>();
    for (let i = order.length - 1; i >= 0; i--) {
      const node = order[i]!;
      for (const edge of node.edges) {
        if (edge === null) continue;
        const leads = edge.leaf
          ? this.wanted.has(edge.leaf)
          : needed.has(edge.node!) || this.inner.get(edge.node!)?.some((c) => c.output === edge.output);
        if (leads) needed.add(node);
      }
    }
    return needed;
  }

  private arrivals(leaf: Tensor): Arrivals {
    let entry = this.leaves.get(leaf);
    if (!entry) this.leaves.set(leaf, (entry = { sum: undefined, missing: 0 }));
    return entry;
  }

  /** Hooks of a node's outputs, and inputs of the walk that are such outputs. */
  private capture(node: Node): void {
    const incoming = this.incoming.get(node);
    if (!incoming) return;
    node.hooks?.forEach((hooks, output) => {
      const g = incoming[output];
      if (hooks && g) incoming[output] = runHooks(hooks, g, this.walk.createGraph);
    });
    for (const { output, input } of this.inner.get(node) ?? []) {
      const g = incoming[output];
      if (g) this.results[input] = another(g, this.walk.createGraph);
    }
  }

  private step(node: Node, needed: Set<Node> | null): void {
    const incoming = this.incoming.get(node);
    const gradients = incoming ? this.differentiate(node, incoming) : [];
    this.drop(node);
    node.edges.forEach((edge, i) => {
      if (edge) this.deliver(edge, gradients[i], needed);
      else gradients[i]?.dispose();
    });
    if (!this.walk.retainGraph) node.free();
  }

  private drop(node: Node): void {
    const incoming = this.incoming.get(node);
    if (!incoming) return;
    if (!this.walk.createGraph) for (const g of incoming) g?.dispose();
    this.incoming.delete(node);
  }

  private differentiate(node: Node, incoming: readonly Gradient[]): readonly Gradient[] {
    const again = this.walk.createGraph;
    // A gradient may hand back what it was given, so each gets a tensor of its own: the bookkeeping is the same for
    // all.
    if (again) return node.differentiate(incoming, true).map((g) => g && another(g, true));
    return tidy(() => node.differentiate(incoming, false).map((g) => g && alias(g)));
  }

  private deliver(edge: Edge, g: Gradient, needed: Set<Node> | null): void {
    if (edge.node) {
      const captured = this.inner.get(edge.node)?.some((c) => c.output === edge.output);
      if (!g || (needed && !needed.has(edge.node) && !captured)) {
        g?.dispose();
        return;
      }
      let incoming = this.incoming.get(edge.node);
      if (!incoming) this.incoming.set(edge.node, (incoming = []));
      incoming[edge.output] = accumulate(incoming[edge.output], g, this.walk.createGraph);
      return;
    }
    const leaf = edge.leaf!;
    const entry = this.arrivals(leaf);
    if (g) entry.sum = accumulate(entry.sum, g, this.walk.createGraph);
    if (--entry.missing === 0 && entry.sum) this.finish(leaf, entry.sum);
  }

  private finish(leaf: Tensor, sum: Tensor): void {
    const places = this.wanted.get(leaf);
    const isPart = this.walk.since !== undefined && places !== undefined;
    const g = leaf.hooks && !isPart ? runHooks(leaf.hooks, sum, this.walk.createGraph) : sum;
    if (this.walk.inputs) {
      if (places) for (const i of places) this.results[i] = another(g, this.walk.createGraph);
      if (!this.walk.createGraph) g.dispose();
      return;
    }
    if (leaf.slot === null) return g.dispose();
    if (!sameShape(live(g).shape, leaf.shape))
      throw new FoveaError(
        'FOVEA_INTERNAL',
        `backward: the gradient of a leaf [${leaf.shape.join(',')}] came as [${g.shape.join(',')}]`,
      );
    if (!leaf.grad || leaf.grad.isDisposed) leaf.grad = this.walk.createGraph ? g : owned(g);
    else if (this.walk.createGraph || leaf.grad.tracked || !leaf.grad.isContiguous())
      leaf.grad = late.add(leaf.grad, g);
    else {
      late.addInPlace(leaf.grad, g); // in place, so that whoever holds the gradient sees the sum, as in PyTorch
      g.dispose();
    }
    leaf.grad.kept = true;
  }
}

/** Frees what the graphs of `outputs` saved, as a backward through all of them would. */
export function freeGraph(outputs: readonly Tensor[]): void {
  const roots = outputs.flatMap((t) => (t.node ? [t.node as Node] : []));
  for (const node of reachable(roots, -Infinity)) node.free();
}

/** The nodes behind `roots`, themselves included, that were made no earlier than sequence number `earliest`. */
export function reachable(roots: readonly Node[], earliest: number): Node[] {
  const found = new Set<Node>(roots);
  for (const node of found)
    for (const edge of node.edges) if (edge?.node && edge.node.sequence >= earliest) found.add(edge.node);
  return [...found];
}

function push<K, V>(map: Map<K, V[]>, key: K, value: V): void {
  const list = map.get(key);
  if (list) list.push(value);
  else map.set(key, [value]);
}

/** Another tensor for a gradient; one that can be differentiated keeps its place in its graph. */
function another(g: Tensor, again: boolean): Tensor {
  const copy = alias(g);
  if (again && g.node) attach(copy, g.node as Node, g.output);
  return copy;
}

/** Hooks get tensors of their own, which they may keep. */
function runHooks(hooks: readonly GradHook[], g: Tensor, again: boolean): Tensor {
  let current = g;
  for (const hook of hooks.slice()) {
    const changed = hook(another(current, again));
    if (!changed) continue;
    const next = another(changed, again);
    if (!again) current.dispose();
    current = next;
  }
  return current;
}

function accumulate(sum: Gradient, g: Tensor, again: boolean): Tensor {
  if (!sum) return g;
  const total = late.add(sum, g);
  if (!again) {
    sum.dispose();
    g.dispose();
  }
  return total;
}

/**
 * The gradient as memory of its own: the gradients of a + b are one tensor, and whoever scaled one leaf's `.grad` in
 * place would scale the other's. Most gradients are fresh results and are taken as they are.
 */
function owned(g: Tensor): Tensor {
  const slot = live(g);
  const alone = slot.users === 1 && (slot.version === null || slot.version.owners === 1);
  if (alone && isDense(slot.shape, slot.strides)) return g;
  const copy = late.copy(g);
  g.dispose();
  return copy;
}
