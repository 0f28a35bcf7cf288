/** One line that is rewritten on a terminal; elsewhere, plain lines now and then. */
import type { WriteStream } from 'node:tty';

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
