/** Prints a line on the standard error stream. */
export const say = (text: string): void => void process.stderr.write(`${text}\n`);
