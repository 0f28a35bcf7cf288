/**
 * Several optimizers as one: each changes its own parameters, in order. For training where some parameters want another
 * optimizer than the rest, such as `Muon` for the matrices of hidden layers and `AdamW` beside it. Megatron-LM calls it
 * so.
 */
import { argumentError } from '../tensor/check.js';
import { Optimizer, type OptimizerStateDict } from './optimizer.js';

/** What all members have in common. */
interface Rate {
  lr: number;
}
type Member = Optimizer<Rate>;

function membersArg(optimizers: readonly Member[]): readonly Member[] {
  if (!Array.isArray(optimizers) || optimizers.length === 0)
    throw argumentError('ChainedOptimizer', 'optimizers', 'a list of at least one optimizer', optimizers);
  for (const [i, optimizer] of optimizers.entries())
    if (!(optimizer instanceof Optimizer))
      throw argumentError('ChainedOptimizer', `optimizers[${i}]`, 'an Optimizer', optimizer);
  return [...optimizers];
}

/**
 * Optimizers whose `step` is one after the other. `paramGroups` are the groups of all of them, so that schedules,
 * clipping and `GradScaler` reach every parameter; each optimizer keeps its own state.
 *
 * @example
 * const optimizer = new optim.ChainedOptimizer([
 *   new optim.Muon(matrices, { lr: 0.02 }), new optim.AdamW(others, { lr: 3e-4 }),
 * ]);
 */
export class ChainedOptimizer extends Optimizer<Rate> {
  /** In the order of their steps. */
  readonly optimizers: readonly Member[];

  /** @throws FOVEA_ARGUMENT for no optimizers, and for a parameter that two of them have */
  constructor(optimizers: readonly Member[]) {
    const members = membersArg(optimizers);
    const groups = members.flatMap(({ paramGroups }) => paramGroups);
    super(
      'ChainedOptimizer',
      groups.flatMap(({ params }) => params),
      { lr: 0 },
    );
    // The members' own groups, so that a rate that is set here is set there.
    this.paramGroups.splice(0, this.paramGroups.length, ...groups);
    this.optimizers = members;
  }

  override step(): void {
    for (const optimizer of this.optimizers) optimizer.step();
  }

  /** Never called: `step` is the members'. */
  protected override update(): void {}

  /** As of one optimizer with all the groups: parameters are numbered through. */
  override stateDict(): OptimizerStateDict<Rate> {
    const whole: OptimizerStateDict<Rate> = { state: {}, paramGroups: [] };
    for (const { optimizer, first } of this.#numbered()) {
      const { state, paramGroups } = optimizer.stateDict();
      for (const [number, entry] of Object.entries(state)) whole.state[first + Number(number)] = entry;
      for (const group of paramGroups)
        whole.paramGroups.push({ ...group, params: group.params.map((number) => first + number) });
    }
    return whole;
  }

  /** Takes over a state; FOVEA_ARGUMENT if it is of other groups, FOVEA_SHAPE if a tensor is of another parameter. */
  override loadStateDict(dict: OptimizerStateDict<Rate>): void {
    if (dict.paramGroups.length !== this.paramGroups.length)
      throw argumentError(
        'loadStateDict',
        'paramGroups',
        `${this.paramGroups.length} groups`,
        `${dict.paramGroups.length} groups`,
      );
    const parts = [...this.#numbered()].map(({ optimizer, first, count, group }) => {
      const paramGroups = dict.paramGroups
        .slice(group, group + optimizer.paramGroups.length)
        .map((given) => ({ ...given, params: given.params.map((number) => number - first) }));
      const entries = Object.entries(dict.state)
        .map(([number, entry]) => [Number(number) - first, entry] as const)
        .filter(([number]) => number >= 0 && number < count);
      return { optimizer, part: { state: Object.fromEntries(entries), paramGroups } };
    });
    const taken = parts.reduce((sum, { part }) => sum + Object.keys(part.state).length, 0);
    if (taken !== Object.keys(dict.state).length)
      throw argumentError('loadStateDict', 'state', 'numbers of parameters that the optimizers have', dict.state);
    for (const { optimizer, part } of parts) optimizer.loadStateDict(part);
  }

  /** Members with the numbers of their first parameter and group. */
  *#numbered(): Generator<{ optimizer: Member; first: number; count: number; group: number }, void> {
    let [first, group] = [0, 0];
    for (const optimizer of this.optimizers) {
      const count = optimizer.paramGroups.reduce((sum, { params }) => sum + params.length, 0);
      yield { optimizer, first, count, group };
      first += count;
      group += optimizer.paramGroups.length;
    }
  }

  override dispose(): void {
    for (const optimizer of this.optimizers) optimizer.dispose();
  }
}
