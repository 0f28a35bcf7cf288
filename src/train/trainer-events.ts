/** What a Trainer tells those who watch it, and what they may ask of it. */

/** A value now or later. */
export type Awaitable<T> = T | Promise<T>;

/** Something that a checkpoint keeps: plain data and tensors, nested as they are. */
export interface Stateful {
  /** What `loadStateDict` takes to go on from here. */
  stateDict(): unknown;
  /** Goes on from a state. */
  loadStateDict(state: unknown): void;
}

/** What is known after a step. */
export interface StepReport {
  /** Steps done, from 1. */
  step: number;
  /** The pass over the data that the step belongs to, from 0. */
  epoch: number;
  /** Of the step's batches, before the update. */
  loss: number;
  /** The rate of the first group. */
  lr: number;
  /** sqrt(Σ g²) over all gradients, before they were clipped. */
  gradNorm: number;
  /** Whether the weights changed: not where a guard skipped the update, nor where gradients in float16 overflowed. */
  updated: boolean;
  /** What the loss was multiplied by for backward; 1 but in float16. */
  lossScale: number;
  /** Wall time of the step; waiting for data is part of it. */
  seconds: number;
  /** The most bytes of tensors that the model's device held during the step, with which `memory().peak` starts anew. */
  peakMemory: number;
}

/** What an evaluation has found. */
export interface EvaluationReport {
  /** Steps done. */
  step: number;
  /** Passes over the data done. */
  epoch: number;
  /** Mean over the batches of the evaluation, by weight. */
  loss: number;
  /** Mean of the losses of the steps since the last evaluation; undefined where there were none. */
  trainLoss: number | undefined;
  /** Whether it is the lowest so far. */
  improved: boolean;
  /** Wall time. */
  seconds: number;
}

/** A checkpoint that was written. */
export interface SaveReport {
  /** Steps done. */
  step: number;
  /** Its folder. */
  path: string;
}

/** What is done about what a guard has noticed: go on, leave the update out, or end the run before it. */
export type GuardAction = 'warn' | 'skip' | 'stop';

/** What a guard has noticed. */
export interface GuardReport {
  /** The step that was to be done, or those done for an evaluation. */
  step: number;
  /** The guard's name. */
  guard: string;
  action: GuardAction;
  /** One sentence. */
  reason: string;
}

/** How a run has ended. */
export interface TrainResult {
  /** Steps done. */
  step: number;
  /** Whole passes over the data. */
  epoch: number;
  /** Of the last step; undefined if there was none. */
  loss: number | undefined;
  /** Of the last evaluation; undefined if there was none. */
  evalLoss: number | undefined;
  /** The evaluation with the lowest loss. */
  best: { step: number; loss: number } | undefined;
  /** Who ended the run early, and why. */
  stopped: { by: string; reason: string } | undefined;
}

/** What a callback sees of its trainer. */
export interface RunningTrainer {
  /** Steps done. */
  readonly step: number;
  /** Whole passes over the data. */
  readonly epoch: number;
  /** Steps in all, where that is settled. */
  readonly maxSteps: number | undefined;
  /** Ends the run behind the step that is being done. */
  stop(by: string, reason: string): void;
}

/** Is called as a run goes on, and awaited. What has a state and a name has its state in checkpoints. */
export interface TrainerCallback extends Partial<Stateful> {
  /** Names its state in checkpoints. */
  readonly name?: string;
  /** Before the first step, or after a resume before the next one. */
  onStart?(trainer: RunningTrainer): Awaitable<void>;
  /** After each step. */
  onStep?(report: StepReport, trainer: RunningTrainer): Awaitable<void>;
  /** After each evaluation. */
  onEvaluate?(report: EvaluationReport, trainer: RunningTrainer): Awaitable<void>;
  /** When a checkpoint is there. */
  onSave?(report: SaveReport, trainer: RunningTrainer): Awaitable<void>;
  /** When a guard has noticed something. */
  onGuard?(report: GuardReport, trainer: RunningTrainer): Awaitable<void>;
  /** At the end, whoever brought it about, unless the run fails. */
  onEnd?(result: TrainResult, trainer: RunningTrainer): Awaitable<void>;
}

/** What a guard sees of a step: gradients are there, the update is not. */
export interface GuardedStep {
  /** The step that is to be done, from 1. */
  step: number;
  loss: number;
  /** Before clipping. */
  gradNorm: number;
  /** Whether gradients that are not finite belong to the search for a scale of the loss, and are left out anyway. */
  scaled: boolean;
}

/** What a guard wants done. */
export interface GuardVerdict {
  action: GuardAction;
  /** One sentence. */
  reason: string;
}

/** Watches over a run. What it throws ends the run as a failure. */
export interface Guard extends Partial<Stateful> {
  /** Names it in reports and in checkpoints. */
  readonly name: string;
  /** Between backward and the update. */
  beforeUpdate?(step: GuardedStep): Awaitable<GuardVerdict | undefined>;
  /** After an evaluation; there, 'skip' is 'warn'. */
  afterEvaluation?(report: EvaluationReport): Awaitable<GuardVerdict | undefined>;
}
