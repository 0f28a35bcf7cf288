// What the examples share: their options, the table that they print, and a loop of training.
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { nn, optim, tidy } from 'fovea';

/**
 * The options of an example: `--tiny` (a size that takes seconds) and `--out` (where its picture goes).
 *
 * @param options numbers at full size, and as `tiny` those that differ under `--tiny`
 * @returns the numbers that hold, and `save(name, text)`, which writes a file and says so
 */
export function setup({ tiny, ...full }) {
  const { values } = parseArgs({
    options: {
      tiny: { type: 'boolean', default: false },
      out: { type: 'string', default: join(import.meta.dirname, 'out') },
    },
  });
  const save = async (name, text) => {
    await mkdir(values.out, { recursive: true });
    await writeFile(join(values.out, name), text);
    console.log(`wrote ${join(values.out, name)}`);
  };
  return { ...full, ...(values.tiny ? tiny : {}), save };
}

/** Prints rows, the first of which names the columns. */
export function print(rows) {
  const text = rows.map((row) => row.map(String));
  const widths = text[0].map((_, column) => Math.max(...text.map((row) => row[column].length)));
  for (const row of text)
    console.log(
      row
        .map((cell, column) => cell.padEnd(widths[column]))
        .join('  ')
        .trimEnd(),
    );
}

/** A share as percent. */
export const percent = (share) => `${(100 * share).toFixed(1)} %`;

/** How many numbers a model learns. */
export const parameterCount = (model) => model.parameters().reduce((sum, { size }) => sum + size, 0);

/** The largest difference between two tensors. */
export const distance = (a, b) => tidy(() => a.sub(b).abs().max().item());

/**
 * Trains with AdamW, a rate that rises for a twentieth of the steps and then falls along a cosine, and gradients
 * clipped to a norm of 1. Each step is a `tidy`, so that all steps use the same memory.
 *
 * @param loss gives the loss of a fresh batch, a scalar
 * @param after is called behind each step with its number and its loss, which it frees (default: every tenth is read)
 * @returns seconds, reading included
 */
export async function fit(model, { steps, lr, loss, after = readTenth }) {
  const optimizer = new optim.AdamW(model.parameters(), { lr, weightDecay: 0 });
  const warmupSteps = Math.ceil(steps / 20);
  const schedule = optim.lrScheduler.warmupCosine(optimizer, { warmupSteps, totalSteps: steps, minLrRatio: 0.05 });
  const start = performance.now();
  for (let step = 1; step <= steps; step++) {
    const value = tidy(() => {
      const error = loss();
      error.backward();
      nn.utils.clipGradNorm_(model.parameters(), 1);
      optimizer.step();
      optimizer.zeroGrad();
      return error.detach();
    });
    schedule.step();
    await after(step, value);
  }
  optimizer.dispose();
  return (performance.now() - start) / 1000;
}

/** Ends where training has gone astray. */
async function readTenth(step, loss) {
  const value = step % 10 === 0 ? await loss.item() : 0;
  loss.dispose();
  if (!Number.isFinite(value)) throw new Error(`the loss of step ${step} is ${value}`);
}
