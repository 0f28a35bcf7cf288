/**
 * A training loop that can be killed and resumed:
 *
 *   for each step:  gradients of the next batches → guards → update → schedule → callbacks → evaluation → checkpoint
 *
 * Everything that the next step depends on is in a checkpoint, so on the CPU a run that was resumed computes what it
 * would have computed, to the bit.
 */
import { FoveaError } from '../errors.js';
import { throwIfAborted } from '../io/files.js';
import type { Module } from '../nn/module.js';
import { defaultGenerator, manualSeed } from '../ops/index.js';
import { argumentError } from '../tensor/check.js';
import { memory, resetPeakMemory } from '../tensor/memory.js';
import { type Batches, BatchStream, freeBatch } from './batches.js';
import { CheckpointFolder } from './checkpoint-folder.js';
import { inEvaluation, meanLoss } from './evaluation.js';
import { readRun, type RunCheckpoint, writeRun } from './run-files.js';
import { RunLog } from './run-log.js';
import { RunProgress } from './run-progress.js';
import type {
  Awaitable,
  EvaluationReport,
  Guard,
  GuardVerdict,
  RunningTrainer,
  Stateful,
  StepReport,
  TrainerCallback,
  TrainResult,
} from './trainer-events.js';
import { type CheckedOptions, checkedOptions, type TrainerOptions } from './trainer-options.js';
import { type StepGradients, TrainingStep } from './training-step.js';

/**
 * Trains a model.
 *
 * @example
 * const trainer = new train.Trainer({
 *   model, optimizer, trainData: loader, maxSteps: 1000, accumulate: 4, clipNorm: 1,
 *   loss: (model, batch) => model.forward(batch).loss!,
 *   folder: 'run', saveEvery: 100, keepLast: 2, callbacks: [train.progressLine()],
 * });
 * await trainer.resume();                  // from the newest checkpoint in the folder, if there is one
 * const { loss } = await trainer.run();
 */
export class Trainer<B, M extends Module = Module> implements RunningTrainer {
  readonly #options: CheckedOptions<B, M>;
  readonly #stepper: TrainingStep<B, M>;
  readonly #batches: BatchStream<B>;
  readonly #checkpoints: CheckpointFolder | undefined;
  readonly #log: RunLog | undefined;
  readonly #progress = new RunProgress();
  #running = false;

  /** @throws FOVEA_ARGUMENT naming the first option that does not fit */
  constructor(options: TrainerOptions<B, M>) {
    this.#options = checkedOptions(options);
    const { trainData, folder, keepLast, logPath } = this.#options;
    this.#stepper = new TrainingStep(this.#options);
    this.#batches = new BatchStream(trainData);
    this.#checkpoints = folder === undefined ? undefined : new CheckpointFolder(folder, keepLast);
    this.#log = logPath === undefined ? undefined : new RunLog(logPath);
  }

  /** Steps done. */
  get step(): number {
    return this.#progress.state.step;
  }
  /** Whole passes over the data. */
  get epoch(): number {
    return this.#batches.epoch;
  }
  /** Steps in all, where that is settled. */
  get maxSteps(): number | undefined {
    return this.#options.maxSteps;
  }

  /** Ends the run behind the step that is being done. */
  stop(by: string, reason: string): void {
    this.#progress.stopped ??= { by, reason };
  }

  /**
   * Runs to the end, or on from where the last call was stopped. The model trains, and is in evaluation mode
   * afterwards.
   *
   * @returns how it went; a guard or a callback may have ended it
   * @throws FOVEA_NAN where the guard `nonFinite` has noticed that, FOVEA_ABORTED once the signal is aborted (what
   *   was done is saved), FOVEA_ARGUMENT for a folder with checkpoints of later steps, FOVEA_IO where a checkpoint or
   *   the log cannot be written, and what data, loss and callbacks throw. The weights are those of the last whole step
   */
  async run(): Promise<TrainResult> {
    if (this.#running) throw new FoveaError('FOVEA_ARGUMENT', 'Trainer.run: the run is under way; await it');
    this.#running = true;
    const { model } = this.#options;
    try {
      await this.#begin();
      while (!this.#isOver()) await this.#next();
      return await this.#finish();
    } finally {
      this.#running = false;
      model.zeroGrad();
      model.eval();
      await this.#batches.close();
    }
  }

  async #begin(): Promise<void> {
    const { model, seed, signal } = this.#options;
    throwIfAborted(signal, 'train');
    const latest = await this.#checkpoints?.latest();
    if (latest !== undefined && latest.step > this.step)
      throw new FoveaError(
        'FOVEA_ARGUMENT',
        `Trainer.run: ${latest.path} is of a later step than this run's ${this.step}; resume() from it, remove it, or choose another folder`,
      );
    if (seed !== undefined && this.step === 0) manualSeed(seed);
    model.train();
    this.#progress.stopped = undefined;
    this.#progress.halted = false;
    await this.#log?.begin(this.step);
    await this.#tell((callback) => callback.onStart?.(this));
  }

  #isOver(): boolean {
    const { maxSteps = Number.POSITIVE_INFINITY, epochs = Number.POSITIVE_INFINITY } = this.#options;
    return this.#progress.stopped !== undefined || this.step >= maxSteps || this.epoch >= epochs;
  }

  /** One step, or the end of an epoch. */
  async #next(): Promise<void> {
    const { accumulate, signal, scheduler, scheduleEvery, trainData } = this.#options;
    if (signal?.aborted) await this.#saveOnce();
    throwIfAborted(signal, 'train');
    const start = performance.now();
    const { epoch } = this;
    const batches = await this.#batches.next(accumulate);
    let done = false;
    try {
      if (batches.length > 0) done = await this.#takeStep(batches, epoch, start);
    } finally {
      if (this.#disposes(trainData)) for (const batch of batches) freeBatch(batch);
    }
    const epochEnded = this.epoch > epoch;
    if (epochEnded && scheduleEvery === 'epoch') scheduler?.step();
    if (!this.#progress.halted) await this.#lookAndSave(done, epochEnded);
  }

  /** @returns whether a step was done: not where a guard ended the run before the update */
  async #takeStep(batches: readonly B[], epoch: number, start: number): Promise<boolean> {
    const { optimizer, scheduler, scheduleEvery, model } = this.#options;
    resetPeakMemory();
    const gradients = await this.#stepper.gradients(batches);
    const verdict = await this.#judge(gradients, batches).catch(async (error: unknown) => {
      await this.#stepper.update(true);
      throw error;
    });
    const lr = optimizer.paramGroups[0]!.lr;
    const lossScale = this.#stepper.scaler.getScale();
    const updated = await this.#stepper.update(verdict !== undefined);
    if (verdict === 'stop') return false;
    if (updated) this.#options.ema?.update();
    if (updated && scheduleEvery === 'step') scheduler?.step();
    const step = this.#progress.count(gradients.loss);
    const { devices } = memory();
    const device = model.parameters()[0]?.device ?? 'cpu';
    const peakMemory = (devices[device] ?? devices.cpu).peak;
    const seconds = (performance.now() - start) / 1000;
    const report: StepReport = { step, epoch, ...gradients, lr, updated, lossScale, seconds, peakMemory };
    await this.#log?.write('step', report);
    await this.#tell((callback) => callback.onStep?.(report, this));
    return true;
  }

  /** Evaluates and saves where it is time to, and at the end, while the data is still where the run is. */
  async #lookAndSave(done: boolean, epochEnded: boolean): Promise<void> {
    const { evalData, evaluateEvery, saveEvery } = this.#options;
    const isTime = (every: number | undefined): boolean => done && every !== undefined && this.step % every === 0;
    const due = evaluateEvery === undefined ? epochEnded : isTime(evaluateEvery);
    const last = this.#isOver() && this.#progress.state.evaluatedAt !== this.step;
    if (evalData !== undefined && (due || last)) await this.#look();
    if (isTime(saveEvery) || this.#isOver()) await this.#saveOnce();
  }

  async #finish(): Promise<TrainResult> {
    const result = this.#progress.result(this.epoch);
    await this.#log?.write('end', result);
    await this.#tell((callback) => callback.onEnd?.(result, this));
    return result;
  }

  async #tell(call: (callback: TrainerCallback) => Awaitable<void> | undefined): Promise<void> {
    for (const callback of this.#options.callbacks) await call(callback);
  }

  /** What the guards want done about a step, whose curvature is looked at unless they want it left out. */
  async #judge(gradients: StepGradients, batches: readonly B[]): Promise<'skip' | 'stop' | undefined> {
    const verdict = await this.#ask(gradients);
    if (verdict === undefined) this.#stepper.followHessian(this.step, batches);
    return verdict;
  }

  /** What the guards want done about a step. */
  async #ask({ loss, gradNorm }: StepGradients): Promise<'skip' | 'stop' | undefined> {
    const sample = { step: this.step + 1, loss, gradNorm, scaled: this.#stepper.scaler.isEnabled() };
    let strictest: 'skip' | 'stop' | undefined;
    for (const guard of this.#options.guards) {
      const verdict = await guard.beforeUpdate?.(sample);
      if (verdict === undefined) continue;
      await this.#report(guard, verdict, sample.step);
      if (verdict.action === 'stop') strictest = 'stop';
      else if (verdict.action === 'skip') strictest ??= 'skip';
    }
    this.#progress.halted = strictest === 'stop';
    return strictest;
  }

  async #report({ name }: Guard, { action, reason }: GuardVerdict, step: number): Promise<void> {
    const report = { step, guard: name, action, reason };
    if (action === 'stop') this.stop(name, reason);
    await this.#log?.write('guard', report);
    await this.#tell((callback) => callback.onGuard?.(report, this));
  }

  /**
   * The mean loss of the evaluation data, by weight, in evaluation mode and without gradients; of the averages `ema`,
   * if there are any.
   *
   * @throws FOVEA_ARGUMENT without `evalData`, or where that has no batch
   */
  async evaluate(): Promise<number> {
    const { evalData, model, signal, ema } = this.#options;
    if (evalData === undefined) throw argumentError('Trainer.evaluate', 'evalData', 'batches', evalData);
    const loss = (batch: B): Promise<number> => this.#stepper.evaluate(batch);
    const weight = (batch: B): number => this.#stepper.weightOf(batch);
    const parts = { loss, weight, disposes: this.#disposes(evalData), signal };
    const measure = (): Promise<number> => inEvaluation(model, () => meanLoss(evalData, parts));
    return await (ema ? ema.average(measure) : measure());
  }

  async #look(): Promise<void> {
    const start = performance.now();
    const loss = await this.evaluate().catch(async (error: unknown) => {
      if (this.#options.signal?.aborted) await this.#saveOnce();
      throw error;
    });
    const found = this.#progress.evaluated(loss);
    const report: EvaluationReport = { ...found, epoch: this.epoch, seconds: (performance.now() - start) / 1000 };
    await this.#log?.write('evaluation', report);
    await this.#tell((callback) => callback.onEvaluate?.(report, this));
    for (const guard of this.#options.guards) {
      const verdict = await guard.afterEvaluation?.(report);
      if (verdict !== undefined) await this.#report(guard, verdict, this.step);
    }
  }

  #disposes(data: Batches<B>): boolean {
    return this.#options.disposeBatches ?? !Array.isArray(data);
  }

  /**
   * Writes a checkpoint of the run as it is between two steps.
   *
   * @returns its path
   * @throws FOVEA_ARGUMENT without a folder, or for a state that no file holds; FOVEA_IO naming the path and the
   *   system's error, all checkpoints that were there being still there
   */
  async save(): Promise<string> {
    if (this.#checkpoints === undefined) throw argumentError('Trainer.save', 'folder', 'a path', undefined);
    const { step } = this;
    const path = await this.#checkpoints.save(step, (folder) => writeRun(folder, this.#checkpoint()));
    this.#progress.changed = false;
    const report = { step, path };
    await this.#log?.write('save', report);
    await this.#tell((callback) => callback.onSave?.(report, this));
    return path;
  }

  /** Saves unless the last checkpoint is of now. */
  async #saveOnce(): Promise<void> {
    if (this.#checkpoints !== undefined && this.#progress.changed) await this.save();
  }

  #checkpoint(): RunCheckpoint {
    const { model, optimizer, extra } = this.#options;
    const state = {
      progress: this.#progress.state,
      position: this.#batches.stateDict(),
      generator: defaultGenerator().getState(),
      scaler: this.#stepper.scaler.stateDict(),
      optimizerName: optimizer.constructor.name,
      core: statesOf(Object.entries(this.#core())),
      extra: statesOf(Object.entries(extra)),
      watchers: statesOf(this.#watchers()),
    };
    return { model: model.stateDict(), state };
  }

  /** What every run of these options has in its checkpoints. */
  #core(): Record<string, Stateful> {
    const { optimizer, scheduler, ema } = this.#options;
    return { optimizer, ...(scheduler ? { scheduler } : {}), ...(ema ? { ema } : {}) };
  }

  /** Callbacks and guards with a state, by name. */
  #watchers(): [string, Stateful][] {
    const { callbacks, guards } = this.#options;
    return [...callbacks, ...guards].flatMap((part): [string, Stateful][] => {
      const { name, stateDict, loadStateDict } = part;
      if (name === undefined || stateDict === undefined || loadStateDict === undefined) return [];
      return [
        [name, { stateDict: () => stateDict.call(part), loadStateDict: (state) => loadStateDict.call(part, state) }],
      ];
    });
  }

  /**
   * Goes on where a checkpoint was written, with the model, the optimizer and everything else as they were then.
   *
   * @param path a checkpoint's folder; default: the newest of this trainer's folder
   * @returns the checkpoint's step; 0 if there is no checkpoint, and nothing has changed
   * @throws FOVEA_FILE_FORMAT for a damaged checkpoint, FOVEA_IO for one that cannot be read, FOVEA_ARGUMENT or
   *   FOVEA_SHAPE for one of another model, another optimizer or other parts
   */
  async resume(path?: string): Promise<number> {
    const op = 'Trainer.resume';
    if (this.#running) throw new FoveaError('FOVEA_ARGUMENT', `${op}: the run is under way; await it`);
    if (path !== undefined && typeof path !== 'string')
      throw argumentError(op, 'path', 'the path of a checkpoint', path);
    if (path === undefined && this.#checkpoints === undefined) throw argumentError(op, 'folder', 'a path', undefined);
    const from = path ?? (await this.#checkpoints?.latest())?.path;
    if (from === undefined) return 0;
    await readRun(from, (checkpoint) => this.#load(checkpoint));
    return this.step;
  }

  #load({ model: weights, state }: RunCheckpoint): void {
    const { model, optimizer, extra } = this.#options;
    const op = 'Trainer.resume';
    const core = this.#core();
    const { optimizerName, core: coreStates, extra: extraStates, watchers, scaler } = state;
    if (optimizerName !== optimizer.constructor.name)
      throw argumentError(op, 'optimizer', String(optimizerName), optimizer, 'the checkpoint is of that');
    sameNames(core, coreStates);
    sameNames(extra, extraStates);
    model.loadStateDict(weights);
    loadStates(Object.entries(core), coreStates);
    loadStates(Object.entries(extra), extraStates);
    loadStates(this.#watchers(), watchers);
    if (Object.keys(Object(scaler)).length > 0) this.#stepper.scaler.loadStateDict(Object(scaler));
    defaultGenerator().setState(Object(state['generator']));
    this.#batches.loadStateDict(state['position']);
    this.#progress.load(state['progress']);
  }
}

type NamedParts = readonly (readonly [string, Stateful])[];

function statesOf(parts: NamedParts): Record<string, unknown> {
  return Object.fromEntries(parts.map(([name, part]) => [name, part.stateDict()]));
}

/** Parts without a saved state begin anew. */
function loadStates(parts: NamedParts, states: unknown): void {
  for (const [name, part] of parts) {
    const saved: unknown = Object(states)[name];
    if (saved !== undefined) part.loadStateDict(saved);
  }
}

/** What a run consists of must be what it consisted of. */
function sameNames(parts: object, states: unknown): void {
  const [given, saved] = [parts, Object(states)].map((of: object) => Object.keys(of).sort().join(', '));
  if (given !== saved) throw argumentError('Trainer.resume', 'the parts of the run', String(saved), given);
}
