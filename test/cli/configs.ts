// Configs of `fovea train` in a folder of their own, and the command run there as users run it.
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';

export const main = join(import.meta.dirname, '../../dist/cli/main.js');

/** A run on the text of {@link configFolder}. */
export const config = {
  text: 'notes',
  model: { layers: 1, width: 16, heads: 2, context: 16, dropout: 0.1 },
  optimizer: { type: 'AdamW', lr: 1e-2, weightDecay: 0.01, betas: [0.9, 0.99] },
  schedule: { type: 'cosine', warmupSteps: 3, minLrRatio: 0.2 },
  steps: 40,
  batchSize: 4,
  accumulate: 2,
  precision: 'bf16',
  clipNorm: 1,
  evaluateEvery: 10,
  earlyStopping: { patience: 20 },
  saveEvery: 10,
  keepLast: 2,
  folder: 'run',
  seed: 3,
};

/** A line of a log: that of a step, or with less in it. */
export interface LoggedEvent {
  event: string;
  loss: number;
  lr: number;
}

/** A folder with a text in `notes`, which goes when the tests of the file are done. */
export function configFolder() {
  const folder = mkdtempSync(join(tmpdir(), 'fovea-config-'));
  afterAll(() => rmSync(folder, { recursive: true }));
  mkdirSync(join(folder, 'notes'));
  writeFileSync(join(folder, 'notes', 'text.txt'), 'let there be attention. '.repeat(400));
  return {
    folder,
    write: (name: string, value: unknown): string => {
      writeFileSync(join(folder, name), typeof value === 'string' ? value : JSON.stringify(value));
      return name;
    },
    fovea: (...args: string[]): { status: number | null; stdout: string; stderr: string } =>
      spawnSync(process.execPath, [main, ...args], { encoding: 'utf8', cwd: folder }),
    /** What a run has written to its log. */
    events: (run: string): LoggedEvent[] =>
      readFileSync(join(folder, run, 'log.jsonl'), 'utf8')
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as LoggedEvent),
    weights: (run: string): Buffer => readFileSync(join(folder, run, 'model', 'model.safetensors')),
  };
}
