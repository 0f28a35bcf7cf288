/** Gives a kernel its meaning: what it equals in simpler ops, and its gradient. */
import { FoveaError } from '../errors.js';
import { propagate } from '../autograd/engine.js';
import { attach, edgeOf, Node, record, save, type Edge, type Gradient, type Saved } from '../autograd/node.js';
import { CPU, deviceName, gpusInUse, hasKernel } from '../tensor/device.js';
import { activeMode, runUnder } from '../tensor/modes.js';
import { alias, live, type Tensor } from '../tensor/tensor.js';
import { isFloat } from '../tensor/dtype.js';
import { kernels, layouts, type KernelName, type Kernels } from './kernels.gen.js';

type In<K extends KernelName> = Kernels[K]['in'];
type Out<K extends KernelName> = Kernels[K]['out'];
type Attrs<K extends KernelName> = Kernels[K]['attrs'];
type Shapes<T> = { readonly [P in keyof T]-?: readonly number[] };
/** Which inputs a gradient is wanted for: the others' need not be computed. */
type Wants<T> = { readonly [P in keyof T]-?: boolean };
type GradientOf<K extends KernelName, S extends PropertyKey> = (
  saved: Pick<Required<In<K>> & Out<K>, S & keyof (Required<In<K>> & Out<K>)>,
  d: Required<Out<K>>,
  attrs: Attrs<K>,
  shapes: Shapes<In<K>>,
  wants: Wants<In<K>>,
) => { [P in keyof In<K>]?: Tensor | undefined };

/** The meaning of a kernel. */
export interface OpSpec<K extends KernelName, S extends keyof (Required<In<K>> & Out<K>) = never> {
  /** The kernel's name. */
  kernel: K;
  /**
   * The same in simpler ops, where there are any: what tests compare with, and what runs on a device without the
   * kernel.
   */
  // oxlint-disable-next-line typescript/no-generated-empty-object-type -- kernels without outputs have none
  reference?: (x: In<K>, attrs: Attrs<K>) => Partial<Out<K>>;
  /**
   * Kernels that `gradient` calls. Where one is missing the reference is recorded instead. They are not themselves
   * differentiable: under `createGraph` the reference is differentiated, from the inputs, which must then all be saved.
   */
  backwardKernels?: readonly KernelName[];
  /** What backward needs, or a function that says it of a call. Nothing else is kept alive, so `add` saves nothing. */
  saves: readonly S[] | ((x: In<K>) => readonly S[]);
  /** Whether `gradient` looks at the shapes of the inputs. */
  shapes?: true;
  /** Outputs that only backward uses: no gradient arrives for them. */
  auxiliary?: readonly (keyof Out<K> & string)[];
  /** Gradients by input name, from what was saved and the gradients of the outputs. null: the op has no gradient. */
  gradient: GradientOf<K, S> | null;
  /** The same through defined ops, for `createGraph`, where the reference would be wasteful. */
  composed?: GradientOf<K, S>;
}
/** An op that can be called; its spec is there for tests. */
export interface DefinedOp<K extends KernelName> {
  (x: In<K>, attrs?: Attrs<K>): Out<K>;
  /** What the op was made of. */
  readonly spec: AnySpec;
}

type Tensors = Record<string, Tensor | undefined>;
type AnyAttrs = Record<string, unknown>;
type AnyGradient = (
  saved: Tensors,
  d: Tensors,
  attrs: AnyAttrs,
  shapes: Record<string, readonly number[]>,
  wants: Record<string, boolean>,
) => Tensors;
/** A spec whose kernel is not known at compile time. */
export interface AnySpec {
  kernel: KernelName;
  reference?: (x: Tensors, attrs: AnyAttrs) => Tensors;
  backwardKernels?: readonly KernelName[];
  saves: readonly string[] | ((x: Tensors) => readonly string[]);
  shapes?: true;
  auxiliary?: readonly string[];
  gradient: AnyGradient | null;
  composed?: AnyGradient;
}

/** Every defined op, by its kernel's name. */
export const definedOps: Map<KernelName, DefinedOp<KernelName>> = new Map();
const reasons = new Map<string, string>();
/**
 * Why ops ran their slower reference instead of a kernel in this thread, by name; empty where every op has its kernel.
 * `strict()` refuses them instead.
 */
export function fallbacks(): ReadonlyMap<string, string> {
  return reasons;
}

/** Kernels named in FOVEA_REFERENCE are treated as missing, so that tests can run every reference. */
const hidden = new Set((process.env['FOVEA_REFERENCE'] ?? '').split(',').filter(Boolean));
const NO_ATTRS = {};

/** Why the op cannot run by its kernels there, null where it can. */
function missingKernel(spec: AnySpec, device: number): string | null {
  if (!spec.reference) return null;
  for (const name of [spec.kernel, ...(spec.backwardKernels ?? [])])
    if (hidden.has(name) || !hasKernel(device, name)) return `there is no ${name} kernel for ${deviceName(device)}`;
  return null;
}

/** The device of the first tensor; the kernel itself refuses others elsewhere. */
function deviceOf(x: Tensors, inputs: readonly string[]): number {
  for (const name of inputs) if (x[name]) return x[name].slot?.device ?? CPU;
  return CPU;
}

/**
 * Makes an op of a spec.
 *
 * @returns a function of the kernel's inputs and attributes, which records itself where gradients are wanted
 * @throws (the op) FOVEA_SHAPE, FOVEA_DTYPE or FOVEA_LAYOUT where the kernel's signature says so, FOVEA_UNSUPPORTED for
 *   a missing kernel in strict mode
 */
export function defineOp<K extends KernelName, S extends keyof (Required<In<K>> & Out<K>) = never>(
  given: OpSpec<K, S>,
): DefinedOp<K> {
  const spec = given as unknown as AnySpec;
  const missingOnCpu = missingKernel(spec, CPU);
  const missingOnGpu: (string | null)[] = [];
  const missingOn = (device: number): string | null =>
    device === CPU ? missingOnCpu : (missingOnGpu[device] ??= missingKernel(spec, device));
  const kernel = kernels[spec.kernel] as unknown as (x: Tensors, attrs: AnyAttrs) => Tensors;
  const { inputs } = layouts[spec.kernel];
  const op = (x: Tensors, attrs: AnyAttrs = NO_ATTRS): Tensors => {
    const missing = gpusInUse() ? missingOn(deviceOf(x, inputs)) : missingOnCpu;
    if (missing !== null) return fallBack(spec, missing, x, attrs);
    const out = kernel(x, attrs);
    if (spec.gradient !== null && activeMode().recording)
      for (let i = 0; i < inputs.length; i++)
        if (x[inputs[i]!]?.tracked) {
          recordOp(spec, x, out, attrs);
          break;
        }
    return out;
  };
  const defined = Object.assign(op, { spec }) as unknown as DefinedOp<K>;
  definedOps.set(spec.kernel, defined as unknown as DefinedOp<KernelName>);
  return defined;
}

/** The reference consists of defined ops, so the tape differentiates it by itself. */
function fallBack(spec: AnySpec, reason: string, x: Tensors, attrs: AnyAttrs): Tensors {
  return insteadOf(spec.kernel, reason, () => spec.reference!(x, attrs));
}

/**
 * Runs what a kernel cannot do as other ops, and keeps the reason.
 *
 * @param reason why the kernel cannot, as it goes on from "attention: "
 * @returns what `run` returns
 * @throws FOVEA_UNSUPPORTED in strict mode
 */
export function insteadOf<T>(kernel: KernelName, reason: string, run: () => T): T {
  if (activeMode().strict)
    throw new FoveaError(
      'FOVEA_UNSUPPORTED',
      `${kernel}: ${reason}, and strict mode refuses its slower reference; leave strict() or change the device`,
    );
  reasons.set(kernel, reason);
  // The op has already converted its operands: what it is composed of must not choose again.
  return activeMode().autocast === null ? run() : runUnder({ autocast: null }, run);
}

const NO_SHAPES: Record<string, readonly number[]> = {};

function recordOp(spec: AnySpec, x: Tensors, out: Tensors, attrs: AnyAttrs): void {
  const { inputs, outputs } = layouts[spec.kernel];
  const edges = new Array<Edge | null>(inputs.length);
  for (let i = 0; i < inputs.length; i++) edges[i] = edgeOf(x[inputs[i]!]);
  const saved: Saved[] = [];
  for (const name of typeof spec.saves === 'function' ? spec.saves(x) : spec.saves) {
    const place = inputs.indexOf(name);
    const t = place >= 0 ? x[name] : out[name];
    if (t) saved.push(save(name, t, place >= 0 ? place : -1 - outputs.indexOf(name)));
  }
  let shapes = NO_SHAPES;
  if (spec.shapes) {
    shapes = {};
    for (const name of inputs) if (x[name]) shapes[name] = live(x[name]).shape;
  }
  const node = new OpNode(spec, edges, saved, attrs, shapes);
  for (let i = 0; i < outputs.length; i++) {
    const name = outputs[i]!;
    const t = out[name]!;
    if (isFloat(live(t).dtype) && !spec.auxiliary?.includes(name)) attach(t, node, i);
  }
}

class OpNode extends Node {
  private readonly spec: AnySpec;
  private readonly attrs: AnyAttrs;
  private readonly shapes: Record<string, readonly number[]>;
  constructor(
    spec: AnySpec,
    edges: (Edge | null)[],
    saved: Saved[],
    attrs: AnyAttrs,
    shapes: Record<string, readonly number[]>,
  ) {
    super(spec.kernel, edges, saved);
    this.spec = spec;
    this.attrs = attrs;
    this.shapes = shapes;
  }

  override differentiate(incoming: readonly Gradient[], again: boolean): readonly Gradient[] {
    const { spec, attrs, shapes } = this;
    const { inputs, outputs } = layouts[spec.kernel];
    const values = this.values(again);
    const d: Tensors = {};
    for (let i = 0; i < outputs.length; i++) d[outputs[i]!] = incoming[i];
    const composed = spec.composed ?? (spec.backwardKernels ? undefined : spec.gradient!);
    if (again && composed === undefined) return this.throughReference(values, incoming);
    const gradient = again ? composed! : spec.gradient!;
    const wants: Record<string, boolean> = {};
    for (let i = 0; i < inputs.length; i++) wants[inputs[i]!] = this.edges[i] !== null;
    const byName = gradient(values, d, attrs, shapes, wants);
    return inputs.map((name) => byName[name]);
  }

  /** Fused backward kernels end the graph; to differentiate again, the reference is run and differentiated instead. */
  private throughReference(values: Tensors, incoming: readonly Gradient[]): readonly Gradient[] {
    const { spec, attrs, edges } = this;
    const { inputs, outputs } = layouts[spec.kernel];
    if (!spec.reference)
      throw new FoveaError(
        'FOVEA_AUTOGRAD',
        `backward: ${spec.kernel} has no second gradient; leave out createGraph, or compose it of other ops`,
      );
    const x: Tensors = {};
    // Fresh nodes before the inputs bound the inner walk: it ends there, however deep the graph behind them is.
    for (const [i, name] of inputs.entries()) {
      const value = values[name];
      if (value) x[name] = edges[i] ? record('input', [value], alias(value), (dy) => [dy]) : alias(value);
    }
    const out = spec.reference(x, attrs);
    const given = outputs.flatMap((name, i) => (incoming[i] && out[name]?.tracked ? [i] : []));
    const wanted = inputs.flatMap((name, i) => (edges[i] && x[name]?.tracked ? [i] : []));
    const gradients = propagate(
      given.map((i) => out[outputs[i]!]!),
      given.map((i) => incoming[i]!),
      { inputs: wanted.map((i) => x[inputs[i]!]!), createGraph: true, retainGraph: true },
    );
    const result = new Array<Gradient>(inputs.length).fill(undefined);
    wanted.forEach((i, at) => (result[i] = gradients[at]));
    return result;
  }
}
