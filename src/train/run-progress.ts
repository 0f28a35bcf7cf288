/** How far a run has come, and what it has found. */
import { argumentError, countArg, optionsArg } from '../tensor/check.js';
import type { EvaluationReport, TrainResult } from './trainer-events.js';

/** The part of a run's progress that checkpoints keep. */
export interface ProgressState {
  /** Steps done. */
  step: number;
  /** Of the last step; null before the first. */
  loss: number | null;
  /** Of the last evaluation; null before the first. */
  evalLoss: number | null;
  /** The step of that evaluation, -1 before the first. */
  evaluatedAt: number;
  /** The lowest loss of an evaluation and its step. */
  best: { step: number; loss: number } | null;
  /** Over the steps since the last evaluation. */
  trainSum: number;
}

const names = ['step', 'loss', 'evalLoss', 'evaluatedAt', 'best', 'trainSum'] as const;

/** Counts steps and compares evaluations. */
export class RunProgress {
  #state: ProgressState = { step: 0, loss: null, evalLoss: null, evaluatedAt: -1, best: null, trainSum: 0 };
  /** Who has ended the run early, and why. */
  stopped: { by: string; reason: string } | undefined;
  /** Whether that was before an update, so that the run is not between two steps. */
  halted = false;
  /** Whether anything has happened since the last checkpoint. */
  changed = true;

  /** What was done and found. */
  get state(): Readonly<ProgressState> {
    return this.#state;
  }

  /** Counts a step with its loss. @returns steps done */
  count(loss: number): number {
    const { step, trainSum } = this.#state;
    this.#state = { ...this.#state, step: step + 1, loss, trainSum: trainSum + loss };
    this.changed = true;
    return step + 1;
  }

  /** Takes an evaluation. @returns what is to be told of it */
  evaluated(loss: number): Pick<EvaluationReport, 'step' | 'loss' | 'trainLoss' | 'improved'> {
    const { step, best, trainSum, evaluatedAt } = this.#state;
    const improved = Number.isFinite(loss) && (best === null || loss < best.loss);
    const steps = step - Math.max(0, evaluatedAt);
    const found = { evalLoss: loss, evaluatedAt: step, trainSum: 0, best: improved ? { step, loss } : best };
    this.#state = { ...this.#state, ...found };
    this.changed = true;
    return { step, loss, trainLoss: steps > 0 ? trainSum / steps : undefined, improved };
  }

  /** How the run has ended. */
  result(epoch: number): TrainResult {
    const { step, loss, evalLoss, best } = this.#state;
    const known = { loss: loss ?? undefined, evalLoss: evalLoss ?? undefined, best: best ?? undefined };
    return { step, epoch, ...known, stopped: this.stopped };
  }

  /** Goes on from a state. @throws FOVEA_ARGUMENT for what is none */
  load(state: unknown): void {
    const op = 'Trainer.resume';
    const { step, loss, evalLoss, evaluatedAt, best, trainSum } = optionsArg<Partial<ProgressState>>(
      op,
      Object(state),
      names,
    );
    countArg(op, 'step', step);
    for (const [name, value] of Object.entries({ evaluatedAt, trainSum }))
      if (typeof value !== 'number') throw argumentError(op, name, 'a number', value);
    this.#state = {
      step: step!,
      loss: loss ?? null,
      evalLoss: evalLoss ?? null,
      evaluatedAt: evaluatedAt!,
      best: best ?? null,
      trainSum: trainSum!,
    };
    this.changed = false;
  }
}
