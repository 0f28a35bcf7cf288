/**
 * Schedules of schedules. Their members are asked for rates (`lrAt`) and keep no count of their own: `step()` and
 * `stateDict()` are the whole's.
 */
import { argumentError, countArg, optionsArg } from '../tensor/check.js';
import { type AnyOptimizer, LRScheduler, type LrRule } from './lr-schedule.js';

/** @returns the schedules, at least one and all of `optimizer` or else of the first one's */
function membersArg(op: string, schedulers: readonly LRScheduler[], optimizer?: AnyOptimizer): readonly LRScheduler[] {
  if (!Array.isArray(schedulers) || schedulers.length === 0)
    throw argumentError(op, 'schedulers', 'a list of at least one schedule', schedulers);
  const members: readonly LRScheduler[] = [...schedulers];
  for (const [i, member] of members.entries()) {
    if (!(member instanceof LRScheduler)) throw argumentError(op, `schedulers[${i}]`, 'a schedule', member);
    if (member.optimizer !== (optimizer ?? members[0]!.optimizer))
      throw argumentError(op, `schedulers[${i}]`, 'a schedule of the same optimizer', 'one of another');
  }
  return members;
}

/** Options of {@link SequentialLR}. */
export interface SequentialLROptions {
  /**
   * Steps at which the next schedule takes over, from its own step 0; ascending, one fewer than there are schedules.
   */
  milestones: readonly number[];
}

/** One schedule after the other. */
export class SequentialLR extends LRScheduler {
  /** @throws FOVEA_ARGUMENT for schedules of other optimizers, and milestones that do not fit */
  constructor(optimizer: AnyOptimizer, schedulers: readonly LRScheduler[], options: SequentialLROptions) {
    const { milestones: given } = optionsArg('SequentialLR', options, ['milestones']);
    const members = membersArg('SequentialLR', schedulers, optimizer);
    if (!Array.isArray(given) || given.length !== members.length - 1)
      throw argumentError('SequentialLR', 'milestones', `${members.length - 1} steps, one fewer than schedules`, given);
    const milestones: readonly number[] = [...given];
    for (const [i, step] of milestones.entries())
      countArg('SequentialLR', `milestones[${i}]`, step, i === 0 ? 1 : milestones[i - 1]! + 1);
    super(optimizer, (t, lr, group) => {
      const now = milestones.filter((step) => step <= t).length;
      return members[now]!.lrAt(t - (milestones[now - 1] ?? 0), lr, group);
    });
  }
}

/**
 * Several schedules at once: each takes the rate that the one before it gives for its initial rate, so factors
 * multiply.
 *
 * PyTorch's chain moves the rate from step to step instead, with the same result for factors of the initial rate. It
 * differs where a member is a CosineAnnealingLR with `etaMin` other than 0 (there it depends on the path; here the
 * whole is a closed form, between the rate before it and `etaMin`), and where LambdaLR or CosineAnnealingWarmRestarts
 * is not the first member (there these forget what came before them).
 */
export class ChainedScheduler extends LRScheduler {
  /** @throws FOVEA_ARGUMENT for schedules of several optimizers */
  constructor(schedulers: readonly LRScheduler[]) {
    const members = membersArg('ChainedScheduler', schedulers);
    const rule: LrRule = (t, lr, group) => members.reduce((rate, member) => member.lrAt(t, rate, group), lr);
    super(members[0]!.optimizer, rule);
  }
}
