/** The tensor that users hold. Its ops are installed as methods by src/ops, its gradients by src/autograd. */
import { inspect } from 'node:util';
import { native, scratch } from '../addon.js';
import { FoveaError } from '../errors.js';
import { capturing, countModeChange } from './capture.js';
import { argumentError, dtypeArg, functionArg, optionsArg, show } from './check.js';
import { dtypeNames, hostArray, isFloat, type Dtype, type HostArray, type HostArrays } from './dtype.js';
import { CPU, deviceName, type Device } from './device.js';
import { isDense, sizeOf, type Shape } from './layout.js';
import { late } from './late.js';
import { activeScope } from './modes.js';
import { Slot, type Version } from './slot.js';

/** What a tensor knows of the tape: the op that made it. */
export interface GradNode {
  /** The op's name. */
  readonly name: string;
}
/** Sees a gradient as it is computed; a tensor that it returns takes the gradient's place. */
export type GradHook = (gradient: Tensor) => Tensor | void | undefined;
/** Numbers in nested arrays, as deep as the tensor's rank. */
export type Nested = number | bigint | boolean | Nested[];

/** Marks tensors with the native half that their handles belong to, which `instanceof` could not tell. */
const brand = Symbol.for('fovea.tensor');

/**
 * An n-dimensional array of one dtype on a device. Ops on it return at once and run on the device's stream; `data()`
 * resolves when the stream has passed. Memory is freed by `dispose()`, `using`, the end of the `tidy` around, or the
 * garbage collector, whichever comes first.
 */
export class Tensor implements Disposable {
  /**
   * The owner of the native handle; null after dispose().
   *
   * @internal
   */
  slot: Slot | null;
  /**
   * What `grad` gives.
   *
   * @internal
   */
  gradient: Tensor | null = null;
  /**
   * Whether this requires gradients; users set `requiresGrad`.
   *
   * @internal
   */
  tracked = false;
  /**
   * The node of the op that made this.
   *
   * @internal
   */
  node: GradNode | null = null;
  /**
   * Which of the node's outputs this is.
   *
   * @internal
   */
  output = 0;
  /**
   * Exempt from the end of `tidy`; `keep` sets it.
   *
   * @internal
   */
  kept = false;
  /**
   * Hooks on the gradient of a leaf.
   *
   * @internal
   */
  hooks: GradHook[] | null = null;

  constructor(slot: Slot) {
    this.slot = slot;
    const scope = activeScope();
    if (scope !== null) scope.made.push(this);
  }

  /** d loss / d this, after a `backward()`; only leaves that require gradients have one. */
  get grad(): Tensor | null {
    if (capturing !== null) capturing.sawGrad(this, this.gradient?.slot ?? null);
    return this.gradient;
  }
  set grad(value: Tensor | null) {
    if (capturing !== null) capturing.sawGrad(this, 'any');
    this.gradient = value;
  }
  /** The sizes, outermost first. */
  get shape(): Shape {
    return live(this).shape;
  }
  /** How many elements lie between neighbours along each axis. */
  get strides(): Shape {
    return live(this).strides;
  }
  /** The number of axes. */
  get rank(): number {
    return live(this).shape.length;
  }
  /** The number of axes. */
  get ndim(): number {
    return live(this).shape.length;
  }
  /** The number of elements. */
  get size(): number {
    return sizeOf(live(this).shape);
  }
  /** The number of elements. */
  numel(): number {
    return this.size;
  }
  /** The type of the elements. */
  get dtype(): Dtype {
    return dtypeNames[live(this).dtype]!;
  }
  /** Where the values lie. */
  get device(): Exclude<Device, 'cuda'> {
    return deviceName(live(this).device);
  }
  /** Whether ops on this are recorded for `backward()`. */
  get requiresGrad(): boolean {
    return this.tracked;
  }
  set requiresGrad(value: boolean) {
    this.requiresGrad_(value);
  }
  /** The op that made this tensor, where it is part of a graph, else null. */
  get gradNode(): GradNode | null {
    return this.node;
  }
  /** Whether no recorded op made this tensor. */
  get isLeaf(): boolean {
    return this.node === null;
  }
  /** Whether `dispose()` was called. */
  get isDisposed(): boolean {
    return this.slot === null;
  }

  /**
   * Sets whether ops on this leaf are recorded.
   *
   * @returns this tensor
   * @throws FOVEA_DTYPE for integers and bool; FOVEA_AUTOGRAD for `false` on the result of a recorded op
   */
  requiresGrad_(value = true): this {
    if (typeof value !== 'boolean') throw argumentError('requiresGrad_', 'value', 'true or false', value);
    if (value && !isFloat(live(this).dtype))
      throw new FoveaError(
        'FOVEA_DTYPE',
        `requiresGrad_: only floating-point tensors have gradients, this is ${this.dtype}; convert it with .to('float32')`,
      );
    if (!value && this.node !== null)
      throw new FoveaError(
        'FOVEA_AUTOGRAD',
        `requiresGrad_: this tensor is the result of ${this.node.name}; use detach()`,
      );
    if (this.tracked !== value) countModeChange();
    this.tracked = value;
    return this;
  }
  /**
   * The same values (and the same memory) outside of the graph.
   *
   * @returns a tensor of this shape and dtype, to be disposed by itself
   */
  detach(): Tensor {
    return alias(this);
  }
  /** Whether the elements lie row-major without gaps. */
  isContiguous(): boolean {
    const slot = live(this);
    return isDense(slot.shape, slot.strides);
  }

  /**
   * A fresh copy of the values, row by row, once everything queued before has run. float32 gives a Float32Array, and so
   * on; int64 a BigInt64Array, bool a Uint8Array, float16 a Float16Array where the runtime has it, else its bits in a
   * Uint16Array, bfloat16 its bits. The type parameter names the array that the tensor's dtype gives.
   *
   * @param options `as`: the dtype to convert to first
   * @throws FOVEA_DISPOSED; rejects with the error of the op that failed, if one did
   */
  // oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- the caller names what the dtype gives
  data<A extends HostArray = Float32Array>(options?: { as?: undefined }): Promise<A>;
  data<D extends Dtype>(options: { as: D }): Promise<HostArrays[D]>;
  async data(options?: { as?: Dtype | undefined }): Promise<HostArray> {
    const converted = convert('data', this, options);
    const slot = live(converted);
    const bytes = native.read(slot.id);
    if (converted !== this) converted.dispose();
    return hostArray(slot.dtype, await bytes);
  }
  /**
   * Like `data()`, but blocks until the values are there.
   *
   * @throws FOVEA_DISPOSED; the error of the op that failed, if one did
   */
  // oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- as above
  dataSync<A extends HostArray = Float32Array>(options?: { as?: undefined }): A;
  dataSync<D extends Dtype>(options: { as: D }): HostArrays[D];
  dataSync(options?: { as?: Dtype | undefined }): HostArray {
    const converted = convert('dataSync', this, options);
    const slot = live(converted);
    const bytes = native.readNow(slot.id);
    if (converted !== this) converted.dispose();
    return hostArray(slot.dtype, bytes);
  }
  /**
   * The only element: a number, a boolean for bool, a bigint for an int64 that no number holds exactly.
   *
   * @throws FOVEA_SHAPE unless there is exactly one element; rejects with the error of the op that failed, if one did
   */
  // oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- as above
  async item<N extends number | bigint | boolean = number>(): Promise<N> {
    checkSingle(this);
    return (await first(this)) as N;
  }
  /**
   * Like `item()`, but blocks until the value is there.
   *
   * @throws FOVEA_SHAPE unless there is exactly one element; the error of the op that failed, if one did
   */
  // oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- as above
  itemSync<N extends number | bigint | boolean = number>(): N {
    checkSingle(this);
    const code = live(this).dtype;
    return scalarOf(code, (isHalf(code) ? this.dataSync({ as: 'float32' }) : this.dataSync<HostArray>())[0]!) as N;
  }
  /**
   * The values in nested arrays, as deep as the rank; a 0-d tensor gives its element. 16-bit floats give numbers, bool
   * booleans, int64 numbers where they are exact and else bigints.
   *
   * @throws FOVEA_DISPOSED; rejects with the error of the op that failed, if one did
   */
  async toArray(): Promise<Nested> {
    const { dtype, shape } = live(this);
    return nest(dtype, shape, isHalf(dtype) ? await this.data({ as: 'float32' }) : await this.data<HostArray>());
  }
  /**
   * Like `toArray()`, but blocks until the values are there.
   *
   * @throws FOVEA_DISPOSED; the error of the op that failed, if one did
   */
  toArraySync(): Nested {
    const { dtype, shape } = live(this);
    return nest(dtype, shape, isHalf(dtype) ? this.dataSync({ as: 'float32' }) : this.dataSync<HostArray>());
  }

  /** Frees the memory as soon as queued ops have used it, unless the tape or a view still needs it. Twice is fine. */
  dispose(): void {
    if (this.slot === null) return;
    this.slot.release();
    this.slot = null;
    this.node = null;
  }
  /** What `using` calls: `dispose()`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
  /** Shape, dtype and place in the graph, without the values, which may not be there yet. */
  toString(): string {
    if (this.slot === null) return 'Tensor (disposed)';
    const grad = this.node ? `, gradNode ${this.node.name}` : this.tracked ? ', requiresGrad' : '';
    const device = this.slot.device === CPU ? '' : `, ${this.device}`;
    return `Tensor [${this.shape.join(', ')}] ${this.dtype}${device}${grad}`;
  }
}
Object.defineProperty(Tensor.prototype, brand, { value: native });
Object.defineProperty(Tensor.prototype, inspect.custom, {
  value(this: Tensor): string {
    return this.toString();
  },
});

/** Whether `value` is a tensor of this copy of fovea. */
export function isTensor(value: unknown): value is Tensor {
  return (
    value instanceof Tensor ||
    (value !== null && typeof value === 'object' && (value as Record<symbol, unknown>)[brand] === native)
  );
}

function notLive(value: unknown, op: string, argument: string): FoveaError {
  if (isTensor(value))
    return new FoveaError(
      'FOVEA_DISPOSED',
      `${op}: ${argument} was disposed; use keep() or return it from tidy() if it must live on`,
    );
  if (value !== null && typeof value === 'object' && brand in value)
    return argumentError(
      op,
      argument,
      'a Tensor of this copy of fovea',
      'a Tensor of another copy',
      'pass it through data() and tensor()',
    );
  return argumentError(op, argument, 'a Tensor', value);
}

/**
 * The slot of an argument of an op.
 *
 * @throws FOVEA_ARGUMENT for what is no tensor of this copy of fovea, FOVEA_DISPOSED for a disposed one
 */
export function slotOf(value: Tensor, op: string, argument: string): Slot {
  const slot = (value as Tensor | null | undefined)?.slot;
  if (slot instanceof Slot) return slot;
  throw notLive(value, op, argument);
}

/** The slot of a tensor that was checked to be one. @throws FOVEA_DISPOSED for a disposed one */
export function live(t: Tensor): Slot {
  if (t.slot !== null) return t.slot;
  throw notLive(t, 'tensor', 'this tensor');
}

/** Another tensor for the same handle, outside of the graph. @throws FOVEA_DISPOSED for a disposed one */
export function alias(t: Tensor): Tensor {
  const slot = live(t);
  slot.users++;
  return new Tensor(slot);
}

/**
 * A window on the storage of `base`, `offset` elements behind its first; keeps that storage alive by itself.
 *
 * @param strides in elements, one for each size of `shape`
 * @returns a tensor of `shape`, outside of the graph
 */
export function viewOf(base: Tensor, shape: Shape, strides: Shape, offset = 0): Tensor {
  const from = live(base);
  const slot = new Slot(from.dtype);
  const rank = shape.length;
  for (let i = 0; i < rank; i++) {
    scratch[i] = shape[i]!;
    scratch[rank + i] = strides[i]!;
  }
  const version: Version = from.sharedVersion();
  slot.id = native.view(slot, from.id, rank, offset);
  slot.version = version;
  version.owners++;
  slot.setLayout(shape, strides);
  return new Tensor(slot);
}

/** Adds a hook. @returns a function that removes it @throws FOVEA_ARGUMENT for what is no function */
export function addHook(hooks: GradHook[], hook: GradHook): () => void {
  functionArg('registerHook', 'hook', hook);
  hooks.push(hook);
  return () => {
    const at = hooks.indexOf(hook);
    if (at >= 0) hooks.splice(at, 1);
  };
}

const isHalf = (code: number): boolean => code === 2 || code === 3;

function convert(op: string, t: Tensor, options: { as?: Dtype | undefined } | undefined): Tensor {
  const { as } = optionsArg(op, options, ['as']);
  if (as === undefined || dtypeArg(op, as, 'as') === live(t).dtype) return t;
  return late.cast(t.tracked ? t.detach() : t, as);
}
function checkSingle(t: Tensor): void {
  if (t.size === 1) return;
  throw new FoveaError(
    'FOVEA_SHAPE',
    `item: expected a tensor of one element, received [${t.shape.join(',')}]; use data()`,
  );
}
async function first(t: Tensor): Promise<number | bigint | boolean> {
  const code = live(t).dtype;
  const array = isHalf(code) ? await t.data({ as: 'float32' }) : await t.data<HostArray>();
  return scalarOf(code, array[0]!);
}
function scalarOf(code: number, value: number | bigint): number | bigint | boolean {
  if (code === 8) return value !== 0;
  return typeof value === 'bigint' && value >= Number.MIN_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER
    ? Number(value)
    : value;
}
function nest(code: number, shape: Shape, values: HostArray): Nested {
  let at = 0;
  const build = (axis: number): Nested =>
    axis === shape.length ? scalarOf(code, values[at++]!) : Array.from({ length: shape[axis]! }, () => build(axis + 1));
  return build(0);
}

/** How an argument appears in an error: tensors with their shape. */
export function showArgument(value: unknown): string {
  return isTensor(value) ? value.toString() : show(value);
}
