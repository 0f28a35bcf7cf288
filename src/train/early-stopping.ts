/** Ends a run whose evaluations no longer improve (Prechelt 1998, "Early stopping, but when?"). */
import { argumentError, countArg, optionsArg } from '../tensor/check.js';
import type { TrainerCallback } from './trainer-events.js';

/** Options of {@link earlyStopping}. */
export interface EarlyStoppingOptions {
  /** Evaluations in a row without improvement after which the run ends. */
  patience: number;
  /** What a loss must be lower by to count as improved (default 0). */
  minDelta?: number;
}

/**
 * A callback of a Trainer that ends its run after `patience` evaluations without improvement of the loss.
 *
 * @throws FOVEA_ARGUMENT for options out of range
 */
export function earlyStopping(options: EarlyStoppingOptions): TrainerCallback & { readonly name: string } {
  const op = 'earlyStopping';
  const { patience, minDelta = 0 } = optionsArg(op, options, ['patience', 'minDelta']);
  countArg(op, 'patience', patience, 1);
  if (typeof minDelta !== 'number' || !(minDelta >= 0))
    throw argumentError(op, 'minDelta', 'a number of at least 0', minDelta);
  let state = { best: Number.POSITIVE_INFINITY, waited: 0 };
  return {
    name: op,
    onEvaluate({ loss }, trainer) {
      if (loss < state.best - minDelta) state = { best: loss, waited: 0 };
      else state.waited++;
      if (state.waited < patience) return;
      trainer.stop(op, `no evaluation of the last ${state.waited} was below ${state.best} by more than ${minDelta}`);
    },
    stateDict: () => ({ ...state }),
    loadStateDict(saved) {
      const { best, waited } = optionsArg<Partial<typeof state>>(op, Object(saved), ['best', 'waited']);
      if (typeof best !== 'number') throw argumentError(op, 'best', 'a number', best);
      state = { best, waited: countArg(op, 'waited', waited) };
    },
  };
}
