/** What every command does around its work: Ctrl-C cancels it, and a failure is one sentence and an exit code. */
import { FoveaError } from '../errors.js';

/** Exit code of a shell for a program that was interrupted. */
const interruptedExitCode = 130;

/** Runs `work` with a signal that the first Ctrl-C aborts; the second ends the process as usual. */
export async function runCommand(work: (signal: AbortSignal) => Promise<void>): Promise<void> {
  const controller = new AbortController();
  const interrupt = (): void => controller.abort(new Error('interrupted'));
  process.once('SIGINT', interrupt);
  try {
    await work(controller.signal);
  } catch (error) {
    if (!(error instanceof FoveaError)) throw error;
    process.stderr.write(`fovea: ${error.message}\n`);
    process.exitCode = controller.signal.aborted ? interruptedExitCode : 1;
  } finally {
    process.removeListener('SIGINT', interrupt);
  }
}
