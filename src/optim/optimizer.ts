/**
 * What optimizers share: groups of parameters with options of their own, state per parameter, state dicts.
 *
 * In a recorded step (`record`) the rates and what follows from the count of steps are asked for anew at each replay;
 * other options, or other parameters, make it record anew.
 */
import { noGrad } from '../autograd/backward.js';
import { FoveaError } from '../errors.js';
import { zeroGrad } from '../nn/parameter.js';
import { fullLike } from '../ops/index.js';
import { kernels } from '../ops/kernels.gen.js';
import { capturing, eachTime, holdsWhile, once, refuseInRecording, varying } from '../tensor/capture.js';
import { argumentError, optionsArg } from '../tensor/check.js';
import { isTensor, type Tensor } from '../tensor/tensor.js';
import { keep, tidy } from '../tensor/tidy.js';

/** Parameters with the options that hold for them, and the rate that schedules start from once there is one. */
export type ParamGroup<O extends object> = { params: Tensor[]; initialLr?: number } & O;
/** A group as given: options that it leaves out are the optimizer's. */
export type ParamGroupInput<O extends object> = { params: Iterable<Tensor> } & Partial<O>;
/** Parameters, or groups of them. */
export type Params<O extends object> = Iterable<Tensor> | Iterable<ParamGroupInput<O>>;

/** What an optimizer remembers of one parameter: tensors (of its shape, as a rule) and counts. */
export type ParamState = Record<string, Tensor | number>;

/** An optimizer's state; parameters are numbered in the order of the groups, as in PyTorch. */
export interface OptimizerStateDict<O extends object> {
  /** By number of the parameter. */
  state: Record<number, ParamState>;
  /** The options of each group and the numbers of its parameters. */
  paramGroups: (O & { params: number[]; initialLr?: number })[];
}

/** A finite number of at least 0, as rates and decays are. */
export function rateArg(op: string, name: string, value: unknown): number {
  if (typeof value === 'number' && value >= 0 && Number.isFinite(value)) return value;
  throw argumentError(op, name, 'a finite number of at least 0', value);
}

/** Two decay rates of running averages. */
export function betasArg(op: string, betas: unknown): void {
  if (Array.isArray(betas) && betas.length === 2 && betas.every((beta) => beta >= 0 && beta < 1)) return;
  throw argumentError(op, 'betas', 'two numbers of at least 0 and below 1', betas);
}

/** `x` times a number that follows from the rate or the count of steps. */
export function scaled(x: Tensor, factor: () => number): Tensor {
  return varying(
    'mul',
    () => ({ scalar: factor() }),
    (attrs) => kernels.mul({ a: x }, attrs).c,
  );
}

/** The precision that sums over a tensor's values need. */
export function wideOf(tensor: Tensor): 'float32' | 'float64' {
  return tensor.dtype === 'float64' ? 'float64' : 'float32';
}

/**
 * averages = averages + rate (values - averages), in one native call: what `sgd_` does where it ascends and decays by
 * 1.
 *
 * @param values of the dtypes of the averages
 * @param rate asked for again at each replay of a recorded step
 */
export function follow(averages: readonly Tensor[], values: readonly Tensor[], rate: () => number): void {
  // A recorded step would take the rate for that of another command, since none is queued for nothing.
  if (averages.length === 0) return;
  varying(
    'sgd_',
    () => ({ lr: rate() }),
    ({ lr }) => kernels.sgd_({ p: averages, g: values }, { lr, weightDecay: 1, maximize: true }),
  );
}

/** Parameters whose counts of steps agree: what follows from the count is one set of numbers per native call. */
export class StepBatch<S extends { step: number }> {
  /** Parameters. */
  readonly p: Tensor[] = [];
  /** Their gradients. */
  readonly g: Tensor[] = [];
  /** What is remembered of them. */
  readonly states: S[] = [];

  /** Their count of steps. */
  get step(): number {
    return this.states[0]!.step;
  }
  /** Takes up a parameter. */
  add(p: Tensor, g: Tensor, state: S): void {
    this.p.push(p);
    this.g.push(g);
    this.states.push(state);
  }
  /** Counts one more step, now and in replays. */
  count(): void {
    eachTime(() => {
      for (const state of this.states) state.step++;
    });
  }
}

const replayed = new Set<unknown>();
/** Says of a class that whatever its steps do differently from each other goes through `eachTime` and `varying`. */
export function canReplay(optimizer: unknown): void {
  replayed.add(optimizer);
}

/** A function that says whether a group is as it is now, its rate aside. */
function unchanged<O extends { lr: number }>(group: ParamGroup<O>): () => boolean {
  const options = (): string => JSON.stringify({ ...group, params: group.params.length, lr: 0 });
  const [before, params] = [options(), [...group.params]];
  return () => options() === before && params.every((tensor, i) => tensor === group.params[i]);
}

/** Base class. `lr` can be changed between steps, in `paramGroups` or by a scheduler. */
export abstract class Optimizer<O extends { lr: number }> {
  /** Parameters with the options that hold for them. */
  readonly paramGroups: ParamGroup<O>[];
  /** By parameter, from its first step on. */
  readonly state: Map<Tensor, ParamState> = new Map();

  protected constructor(name: string, params: Params<O>, defaults: O) {
    if (typeof params !== 'object' || params === null || !(Symbol.iterator in params))
      throw argumentError(name, 'params', 'a list of tensors or of groups', params);
    const items: unknown[] = [...params];
    const groups = (items.every((item) => isTensor(item)) ? [{ params: items }] : items) as ParamGroupInput<O>[];
    const known = ['params', ...Object.keys(defaults)] as (keyof ParamGroupInput<O> & string)[];
    this.paramGroups = groups.map((group, i) => {
      const checked = optionsArg(`${name}: group ${i}`, group, known);
      if (checked.params === undefined) throw argumentError(name, `params[${i}]`, 'a Tensor or { params, … }', group);
      return { ...defaults, ...checked, params: [...checked.params] };
    });
    this.#check(name);
  }

  #check(name: string): void {
    const all = this.paramGroups.flatMap(({ params }) => params);
    if (all.length === 0) throw argumentError(name, 'params', 'at least one parameter', []);
    if (new Set(all).size !== all.length) throw argumentError(name, 'params', 'each parameter once', 'a repeated one');
    const computed = all.find((tensor) => !isTensor(tensor) || !tensor.isLeaf);
    if (computed !== undefined)
      throw argumentError(name, 'params', 'leaf tensors', computed, 'pass module.parameters()');
  }

  /** Changes the parameters by their gradients; those without a gradient stay. Returns before the work is done. */
  step(): void {
    if (capturing !== null) this.#rely();
    noGrad(() => tidy(() => this.paramGroups.forEach((group) => this.update(group))));
  }

  /** What a recorded step takes for granted. */
  #rely(): void {
    if (!replayed.has(this.constructor))
      refuseInRecording(
        `${this.constructor.name}.step`,
        'what this optimizer does differently from step to step is not known; call it after the step',
      );
    const { length } = this.paramGroups;
    holdsWhile(() => this.paramGroups.length === length);
    for (const group of this.paramGroups) holdsWhile(unchanged(group));
  }

  /** One step for one group. */
  protected abstract update(group: ParamGroup<O>): void;

  /** Frees the gradients of all parameters. */
  zeroGrad(): void {
    for (const { params } of this.paramGroups) zeroGrad(params);
  }

  /** A tensor of one value and the parameter's shape that outlives the step, in the precision that sums need. */
  protected buffer(tensor: Tensor, value = 0): Tensor {
    return once(() => keep(fullLike(tensor, value, { dtype: wideOf(tensor) })));
  }

  /**
   * The parameters that have a gradient, one step further, by the count of their steps; `initial` makes their state.
   */
  protected batches<S extends { step: number }>(
    params: readonly Tensor[],
    initial: (tensor: Tensor) => S,
  ): Iterable<StepBatch<S>> {
    const batches = new Map<number, StepBatch<S>>();
    for (const tensor of params) {
      if (!tensor.grad) continue;
      let state = this.state.get(tensor) as S | undefined;
      if (!state) this.state.set(tensor, (state = initial(tensor)));
      let batch = batches.get(state.step);
      if (!batch) batches.set(state.step, (batch = new StepBatch()));
      batch.add(tensor, tensor.grad, state);
    }
    for (const batch of batches.values()) {
      const same = (state: S, i: number): boolean =>
        state.step === batch.step && this.state.get(batch.p[i]!) === (state as ParamState);
      holdsWhile(() => batch.states.every(same));
      batch.count();
    }
    return batches.values();
  }

  /** The shape that a tensor of the state must have. */
  protected stateShape(_name: string, tensor: Tensor): readonly number[] {
    return tensor.shape;
  }

  /** The state, with the tensors themselves; numbers of parameters stand for them. */
  stateDict(): OptimizerStateDict<O> {
    const numbers = new Map(this.paramGroups.flatMap(({ params }) => params).map((tensor, i) => [tensor, i]));
    const state: Record<number, ParamState> = {};
    for (const [tensor, entry] of this.state) state[numbers.get(tensor)!] = { ...entry };
    const paramGroups = this.paramGroups.map((group) => ({
      ...group,
      params: group.params.map((p) => numbers.get(p)!),
    }));
    return { state, paramGroups };
  }

  /**
   * Takes over a state: copies its tensors and the options of its groups.
   *
   * @throws FOVEA_ARGUMENT if it is of other groups, FOVEA_SHAPE if a tensor is of another parameter
   */
  loadStateDict(dict: OptimizerStateDict<O>): void {
    const sizes = (groups: readonly { params: readonly unknown[] }[]): string =>
      groups.map(({ params }) => params.length).join(', ');
    if (sizes(dict.paramGroups) !== sizes(this.paramGroups)) {
      const expected = `groups of ${sizes(this.paramGroups)} parameters`;
      throw argumentError('loadStateDict', 'paramGroups', expected, `groups of ${sizes(dict.paramGroups)}`);
    }
    const all = this.paramGroups.flatMap(({ params }) => params);
    for (const [number, entry] of Object.entries(dict.state)) {
      const tensor = all[Number(number)];
      if (!tensor) throw argumentError('loadStateDict', 'state', `numbers below ${all.length}`, number);
      for (const [name, value] of Object.entries(entry)) {
        if (typeof value === 'number') continue;
        const expected = this.stateShape(name, tensor);
        if (String(value.shape) === String(expected)) continue;
        throw new FoveaError(
          'FOVEA_SHAPE',
          `loadStateDict: ${name} of parameter ${number} has shape [${value.shape}], expected [${expected}]`,
        );
      }
    }
    this.dispose();
    for (const [number, entry] of Object.entries(dict.state)) {
      const tensor = all[Number(number)]!;
      const copied = Object.entries(entry).map(([name, value]) => [
        name,
        typeof value === 'number' ? value : keep(tidy(() => value.to(tensor.device).clone())),
      ]);
      this.state.set(tensor, Object.fromEntries(copied) as ParamState);
    }
    for (const [i, group] of dict.paramGroups.entries())
      Object.assign(this.paramGroups[i]!, group, { params: this.paramGroups[i]!.params });
  }

  /** Frees the state at once. */
  dispose(): void {
    for (const entry of this.state.values()) {
      for (const value of Object.values(entry)) if (typeof value !== 'number') value.dispose();
    }
    this.state.clear();
  }

  /** What `using` calls: `dispose()`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}
