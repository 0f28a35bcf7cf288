/**
 * The base of everything with parameters.
 *
 * A module's parameters, buffers and children are its own properties; there is nothing to register, and their order is
 * the order in which the class declares them. A quantised weight is a buffer of its packed blocks. A property's key in
 * a state dict is its name in snake case (`inProjWeight` → `in_proj_weight`), or what the class's static
 * `stateDictKeys` says (`ln1` → `ln_1`).
 */
import { noGrad } from '../autograd/backward.js';
import { FoveaError } from '../errors.js';
import { QuantizedTensor } from '../ops/index.js';
import { countModeChange } from '../tensor/capture.js';
import { argumentError, functionArg, optionsArg } from '../tensor/check.js';
import { deviceArg, isDeviceName, type Device } from '../tensor/device.js';
import { Code, type Dtype, isDtype, isFloat } from '../tensor/dtype.js';
import { slotOf, type Tensor } from '../tensor/tensor.js';
import { keep, tidy } from '../tensor/tidy.js';
import { isParameter, parameter, zeroGrad } from './parameter.js';
import { within } from './surroundings.js';

/** Tensors by key, as PyTorch and Hugging Face name them; no prototype. */
export type StateDict = Record<string, Tensor>;

/** What {@link Module.loadStateDict} found. */
export interface LoadReport {
  /** Keys of the module that the dict lacks. */
  missingKeys: string[];
  /** Keys of the dict that the module lacks. */
  unexpectedKeys: string[];
}

/** Gets the arguments before `forward`; an array that it returns replaces them. */
export type ForwardPreHook = (module: Module, args: readonly unknown[]) => readonly unknown[] | undefined;
/** Gets arguments and result after `forward`; a value other than undefined replaces the result. */
export type ForwardHook = (module: Module, args: readonly unknown[], output: unknown) => unknown;
/** A hook that is registered. */
export interface HookHandle {
  /** Takes the hook off; twice is fine. */
  remove(): void;
}

/** A tensor of a module with the place where it lives. */
interface Slot {
  key: string;
  owner: Module;
  property: string;
  tensor: Tensor;
  /** Whose blocks the tensor is, if it is that. */
  quantized: QuantizedTensor | undefined;
  kind: 'parameter' | 'buffer';
  persistent: boolean;
}

type AnyForward = (...args: unknown[]) => unknown;

export function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

function join(prefix: string, key: string): string {
  return prefix ? `${prefix}.${key}` : key;
}

function addHook<T>(hooks: Set<T>, hook: T): HookHandle {
  hooks.add(hook);
  countModeChange();
  const remove = (): void => {
    if (hooks.delete(hook)) countModeChange();
  };
  return { remove };
}

/**
 * Whether calls of `module.forward` run the method of class `type` and nothing else: no subclass's, no hook, nothing
 * put in its place. Then what it computes may be computed as part of something larger.
 */
export let runsOnly: (module: Module, type: { readonly prototype: Module }) => boolean;

/**
 * Base class of layers and models. A subclass declares its parts as fields and defines `forward`.
 *
 * Each call of `forward` is a `tidy`: tensors that it makes and neither returns nor keeps are freed when it ends,
 * except those that the tape has saved for backward.
 */
export class Module {
  /** Keys of properties whose snake case is not the checkpoint's key. */
  static readonly stateDictKeys: Readonly<Record<string, string>> = {};

  /** Whether layers such as dropout behave as in training; see {@link train} and {@link eval}. */
  training: boolean = true;

  readonly #buffers = new Map<string, { persistent: boolean }>();
  readonly #preHooks = new Set<ForwardPreHook>();
  readonly #hooks = new Set<ForwardHook>();
  readonly #method: AnyForward;
  readonly #entry: AnyForward;

  static {
    runsOnly = (module, type) =>
      module.#method === type.prototype.forward &&
      module.forward === module.#entry &&
      module.#preHooks.size === 0 &&
      module.#hooks.size === 0;
  }

  constructor() {
    // Forced: subclasses name their own parameters, so the base takes never[], which nothing can be called with.
    const { forward } = this as unknown as { forward: AnyForward };
    this.#method = forward;
    this.#entry = (...args) => this.#call(forward, args);
    // An own property hides the class's method, so that every caller comes through here, and `super.forward` does not.
    Object.defineProperty(this, 'forward', { value: this.#entry, configurable: true, writable: true });
  }

  /** Computes the module's output. Subclasses define it; calls run hooks and free intermediates. */
  forward(..._args: never[]): unknown {
    throw new FoveaError('FOVEA_UNSUPPORTED', `${this.constructor.name} does not define forward`);
  }

  #call(forward: AnyForward, args: readonly unknown[]): unknown {
    let used = args;
    for (const hook of this.#preHooks) used = hook(this, used) ?? used;
    let output = tidy(within(this, () => forward.apply(this, [...used])));
    for (const hook of this.#hooks) output = hook(this, used, output) ?? output;
    return output;
  }

  /** Runs `hook` before every `forward` of this module. */
  registerForwardPreHook(hook: ForwardPreHook): HookHandle {
    functionArg('registerForwardPreHook', 'hook', hook);
    return addHook(this.#preHooks, hook);
  }

  /** Runs `hook` after every `forward` of this module. */
  registerForwardHook(hook: ForwardHook): HookHandle {
    functionArg('registerForwardHook', 'hook', hook);
    return addHook(this.#hooks, hook);
  }

  /**
   * Adds a tensor that is state but not trained, as the property `name`.
   *
   * @param options.persistent whether it is part of the state dict (default true)
   */
  registerBuffer(name: string, tensor: Tensor, options: { persistent?: boolean } = {}): void {
    const { persistent = true } = optionsArg('registerBuffer', options, ['persistent']);
    slotOf(tensor, 'registerBuffer', 'tensor');
    this.#buffers.set(name, { persistent });
    Object.assign(this, { [name]: keep(tensor) });
  }

  #key(property: string): string {
    const { stateDictKeys } = this.constructor as typeof Module;
    return stateDictKeys[property] ?? snakeCase(property);
  }

  /** Direct children by key, in definition order; an array of modules gives `<key>.0`, `<key>.1`, … */
  namedChildren(): [string, Module][] {
    const children: [string, Module][] = [];
    for (const [property, value] of Object.entries(this)) {
      const key = this.#key(property);
      if (value instanceof Module) children.push([key, value]);
      else if (Array.isArray(value)) {
        for (const [i, item] of value.entries()) if (item instanceof Module) children.push([`${key}.${i}`, item]);
      }
    }
    return children;
  }

  /** Direct children. */
  children(): Module[] {
    return this.namedChildren().map(([, child]) => child);
  }

  /** This module (key '') and all below it, each once, parents first. */
  namedModules(prefix = '', seen: Set<Module> = new Set()): [string, Module][] {
    if (seen.has(this)) return [];
    seen.add(this);
    const below = this.namedChildren().flatMap(([key, child]) => child.namedModules(join(prefix, key), seen));
    return [[prefix, this], ...below];
  }

  /** This module and all below it, each once. */
  modules(): Module[] {
    return this.namedModules().map(([, module]) => module);
  }

  /** The module's own tensors, then its children's; one that is shared comes once for each of its names. */
  #slots(prefix = ''): Slot[] {
    const slots: Slot[] = [];
    for (const [property, value] of Object.entries(this)) {
      const buffer = this.#buffers.get(property);
      const quantized = value instanceof QuantizedTensor ? value : undefined;
      if (!buffer && !quantized && !isParameter(value)) continue;
      const kind = buffer || quantized ? 'buffer' : 'parameter';
      const persistent = buffer?.persistent ?? true;
      slots.push({
        key: join(prefix, this.#key(property)),
        owner: this,
        property,
        tensor: quantized?.packed ?? (value as Tensor),
        quantized,
        kind,
        persistent,
      });
    }
    for (const [key, child] of this.namedChildren()) slots.push(...child.#slots(join(prefix, key)));
    return slots;
  }

  #named(kind: Slot['kind']): [string, Tensor][] {
    const seen = new Set<Tensor>();
    const named: [string, Tensor][] = [];
    for (const slot of this.#slots()) {
      if (slot.kind !== kind || seen.has(slot.tensor)) continue;
      seen.add(slot.tensor);
      named.push([slot.key, slot.tensor]);
    }
    return named;
  }

  /** All parameters with their state-dict keys, in definition order; a shared one once, under its first key. */
  namedParameters(): [string, Tensor][] {
    return this.#named('parameter');
  }

  /** All parameters, each once. */
  parameters(): Tensor[] {
    return this.namedParameters().map(([, tensor]) => tensor);
  }

  /** All buffers with their state-dict keys. */
  namedBuffers(): [string, Tensor][] {
    return this.#named('buffer');
  }

  /** All buffers, each once. */
  buffers(): Tensor[] {
    return this.namedBuffers().map(([, tensor]) => tensor);
  }

  /**
   * Parameters and persistent buffers by PyTorch's keys: the tensors themselves, not copies. A shared tensor is there
   * under each of its keys, as in PyTorch.
   */
  stateDict(): StateDict {
    const dict = Object.create(null) as StateDict;
    for (const { key, tensor, persistent } of this.#slots()) if (persistent) dict[key] = tensor;
    return dict;
  }

  /**
   * Copies the tensors of `dict` into the module, converting dtypes. Nothing changes if anything does not fit.
   *
   * @param options.strict whether missing and unexpected keys are an error (default true)
   * @param options.assign takes the tensors themselves instead of copying, so that weights mapped from a file stay
   *   mapped; the module then owns them, and optimizers made before do not see them
   * @throws FOVEA_ARGUMENT listing missing and unexpected keys; FOVEA_SHAPE naming the first tensor that does not fit
   */
  loadStateDict(dict: Readonly<StateDict>, options: { strict?: boolean; assign?: boolean } = {}): LoadReport {
    const { strict = true, assign = false } = optionsArg('loadStateDict', options, ['strict', 'assign']);
    if (dict === null || typeof dict !== 'object')
      throw argumentError('loadStateDict', 'dict', 'an object of tensors', dict);
    const slots = this.#slots().filter((slot) => slot.persistent);
    const report = this.#compare(slots, dict);
    const { missingKeys, unexpectedKeys } = report;
    if (strict && missingKeys.length + unexpectedKeys.length > 0) {
      const list = (keys: string[]): string => (keys.length ? keys.join(', ') : 'none');
      throw new FoveaError(
        'FOVEA_ARGUMENT',
        `loadStateDict: the keys do not match ${this.constructor.name}; missing: ${list(missingKeys)}; unexpected: ${list(unexpectedKeys)}; pass { strict: false } to load what matches`,
      );
    }
    const found = slots.filter(({ key }) => key in dict);
    for (const { key, tensor } of found) {
      const { shape } = slotOf(dict[key]!, 'loadStateDict', key);
      if (shape.length === tensor.shape.length && shape.every((size, i) => size === tensor.shape[i])) continue;
      throw new FoveaError(
        'FOVEA_SHAPE',
        `loadStateDict: ${key} has shape [${shape}], but the module needs [${tensor.shape}]`,
      );
    }
    if (assign) this.#replace(new Map(found.map(({ key, tensor }) => [tensor, dict[key]!])));
    else noGrad(() => tidy(() => found.forEach(({ key, tensor }) => void tensor.copy_(dict[key]!))));
    return report;
  }

  /** A key is missing only if no other name of the same tensor is there: tied weights are stored once. */
  #compare(slots: readonly Slot[], dict: Readonly<StateDict>): LoadReport {
    const present = new Set(slots.filter(({ key }) => key in dict).map(({ tensor }) => tensor));
    const keys = new Set(slots.map(({ key }) => key));
    return {
      missingKeys: slots.filter(({ tensor }) => !present.has(tensor)).map(({ key }) => key),
      unexpectedKeys: Object.keys(dict).filter((key) => !keys.has(key)),
    };
  }

  /** Puts other tensors in the places of old ones, under all their names, and disposes the old ones. */
  #replace(replacements: ReadonlyMap<Tensor, Tensor>): void {
    const moves = this.#slots().flatMap((slot) => {
      const { tensor, quantized: q } = slot;
      const next = replacements.get(tensor);
      if (!next || next === tensor) return [];
      // What does not suit a quantised weight is refused here, before anything changes.
      return [{ ...slot, next, value: q ? new QuantizedTensor(next, q.type, q.shape) : next }];
    });
    for (const { owner, property, tensor, kind, next, value } of moves) {
      if (kind === 'parameter') parameter(next, { requiresGrad: tensor.requiresGrad });
      keep(next);
      Object.assign(owner, { [property]: value });
    }
    for (const [old, next] of replacements) {
      if (old === next) continue;
      old.grad?.dispose();
      old.dispose();
    }
  }

  /**
   * Converts the floating-point parameters and buffers to a dtype, or moves all to a device. The module then holds
   * other tensors, so call it before making an optimizer.
   *
   * @throws FOVEA_DTYPE for integers and bool, in which nothing could be trained; FOVEA_DEVICE for a device that is not
   *   there; FOVEA_ARGUMENT for what is neither
   */
  to(target: Dtype | Device): this {
    if (isDeviceName(target)) {
      deviceArg('Module.to', target);
      return this.#convert(
        this.#slots().map(({ tensor }) => tensor),
        target,
      );
    }
    if (!isDtype(target)) throw argumentError('Module.to', 'target', 'a floating-point dtype or a device', target);
    if (!isFloat(Code[target]))
      throw new FoveaError(
        'FOVEA_DTYPE',
        `Module.to: expected a floating-point dtype for target, received ${target}; convert single tensors with tensor.to()`,
      );
    const floating = this.#slots().filter(({ tensor }) => tensor.dtype.includes('float'));
    return this.#convert(
      floating.map(({ tensor }) => tensor),
      target,
    );
  }

  #convert(tensors: readonly Tensor[], target: Dtype | Device): this {
    const next = noGrad(() => [...new Set(tensors)].map((tensor) => [tensor, tensor.to(target)] as const));
    this.#replace(new Map(next.filter(([old, made]) => old !== made)));
    return this;
  }

  /** Sets training mode on this module and all below it. */
  train(mode = true): this {
    for (const module of this.modules()) {
      if (module.training !== mode) countModeChange();
      module.training = mode;
    }
    return this;
  }

  /** Sets evaluation mode: the same as `train(false)`. */
  eval(): this {
    return this.train(false);
  }

  /** Says for all parameters whether gradients are accumulated for them. */
  requiresGrad_(requiresGrad = true): this {
    for (const tensor of this.parameters()) tensor.requiresGrad_(requiresGrad);
    return this;
  }

  /** Frees the gradients of all parameters. */
  zeroGrad(): void {
    zeroGrad(this.parameters());
  }

  /** Calls `fn` with every module, children first, as PyTorch does. */
  apply(fn: (module: Module) => void): this {
    for (const child of this.children()) child.apply(fn);
    fn(this);
    return this;
  }

  /** How many numbers the parameters hold; a shared one counts once. */
  numParameters(): number {
    return this.parameters().reduce((sum, tensor) => sum + tensor.size, 0);
  }

  /** Frees all parameters and buffers at once, instead of when the garbage collector finds them. */
  dispose(): void {
    this.zeroGrad();
    for (const tensor of new Set(this.#slots().map((slot) => slot.tensor))) tensor.dispose();
  }

  /** What `using` calls: `dispose()`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}
