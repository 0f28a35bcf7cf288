/** One line that is rewritten on a terminal; elsewhere, plain lines now and then. */
import type { WriteStream } from 'node:tty';
import type { EvaluationReport, TrainerCallback } from './trainer-events.js';

const plainIntervalMs = 5000;

/** A line of progress on a stream: rewritten in place on a terminal, else printed anew every few seconds. */
export class ProgressLine {
  readonly #output: NodeJS.WriteStream;
  #lastPlain = Number.NEGATIVE_INFINITY;
  #open = false;

  constructor(output: NodeJS.WriteStream = process.stderr) {
    this.#output = output;
  }

  /** Shows `text`; `final` shows it whatever was shown last. */
  show(text: string, final = false): void {
    if ((this.#output as Partial<WriteStream>).isTTY) {
      this.#output.write(`\r\x1b[K${text}`);
      this.#open = true;
      return;
    }
    const now = performance.now();
    if (!final && now - this.#lastPlain < plainIntervalMs) return;
    this.#lastPlain = now;
    this.#output.write(`${text}\n`);
  }

  /** Leaves the line standing. */
  end(): void {
    if (this.#open) this.#output.write('\n');
    this.#open = false;
  }
}

/** Seconds as `1 min 05 s` or `42 s`. */
export function duration(seconds: number): string {
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, '0')} s`;
}

/** Bytes as `12.3 MB`. */
export function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}

/**
 * A callback of a Trainer that shows one line: step, loss, rate, peak of memory, the last evaluation, what time is
 * left; what guards notice, and why the run has ended early, on lines of their own.
 *
 * @param output default: the standard error stream
 */
export function progressLine(output?: NodeJS.WriteStream): TrainerCallback {
  const line = new ProgressLine(output);
  let evaluation: EvaluationReport | undefined;
  let [steps, seconds] = [0, 0];
  const aside = (text: string): void => {
    line.end();
    line.show(text, true);
    line.end();
  };
  return {
    onStep({ step, loss, lr, peakMemory, seconds: took }, { maxSteps }) {
      steps++;
      seconds += took;
      const left = maxSteps === undefined ? [] : [`${duration((seconds / steps) * (maxSteps - step))} left`];
      const parts = [
        `step ${step}${maxSteps === undefined ? '' : `/${maxSteps}`}`,
        `loss ${loss.toFixed(4)}`,
        ...(evaluation ? [`held out ${evaluation.loss.toFixed(4)}`] : []),
        `lr ${lr.toPrecision(3)}`,
        `peak ${megabytes(peakMemory)}`,
        ...left,
      ];
      line.show(parts.join('  '), step === maxSteps);
    },
    onEvaluate(report) {
      evaluation = report;
    },
    onGuard: ({ step, guard, action, reason }) => aside(`step ${step}: ${guard} (${action}): ${reason}`),
    onEnd({ stopped }) {
      line.end();
      if (stopped) aside(`stopped by ${stopped.by}: ${stopped.reason}`);
    },
  };
}
