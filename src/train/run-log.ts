/** The log of a run: one JSON object a line (JSON Lines), which a run that is resumed goes on with. */
import { appendFile, mkdir, readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { ioError, writeFileAtomic } from '../io/files.js';

/** JSON has neither NaN nor infinities: they become their names. */
function line(record: object): string {
  const shown = (_: string, value: unknown): unknown =>
    typeof value === 'number' && !Number.isFinite(value) ? String(value) : value;
  return `${JSON.stringify(record, shown)}\n`;
}

/** Whether a line is whole, and of a step up to `step`. */
function isUpTo(text: string, step: number): boolean {
  try {
    const record: unknown = JSON.parse(text);
    return typeof record === 'object' && record !== null && 'step' in record && Number(record.step) <= step;
  } catch {
    return false; // cut off when the process ended
  }
}

/** Appends records to a file. */
export class RunLog {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  /**
   * Keeps what was logged up to a step: what a run did beyond its last checkpoint, it does again.
   *
   * @throws FOVEA_IO
   */
  async begin(step: number): Promise<void> {
    try {
      await mkdir(dirname(this.#path), { recursive: true });
      const before = step === 0 ? '' : await readFile(this.#path, 'utf8').catch(() => '');
      const kept = before.split('\n').filter((text) => isUpTo(text, step));
      await writeFileAtomic(this.#path, async (file) => file.writeFile(kept.map((text) => `${text}\n`).join('')));
    } catch (error) {
      throw ioError('write', this.#path, error);
    }
  }

  /** Appends a record. @throws FOVEA_IO */
  async write(event: string, record: object): Promise<void> {
    try {
      await appendFile(this.#path, line({ event, ...record }));
    } catch (error) {
      throw ioError('write', this.#path, error);
    }
  }
}
