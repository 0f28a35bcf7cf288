// Kills a process that saves all the time, and looks at what it has left.
import { spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { io, train } from 'fovea';
import { join } from 'node:path';
import { expect } from 'vitest';

const script = fileURLToPath(new URL('save-forever.mjs', import.meta.url));

/** The steps whose checkpoints are there; each is whole, and all of it is of that step. */
export async function savedSteps(folder: string): Promise<number[]> {
  const found = await train.listCheckpoints(folder);
  for (const { step, path } of found) {
    await train.verifyCheckpoint(path);
    const weights = io.loadFile(join(path, 'model.safetensors'));
    for (const weight of Object.values(weights)) {
      const values = await weight.data();
      expect(values.every((value) => value === -step)).toBe(true);
      weight.dispose();
    }
  }
  return found.map(({ step }) => step);
}

const stepsIn = (printed: string): number[] => Array.from(printed.matchAll(/^\d+$/gm), ([line]) => Number(line));

/**
 * Runs it on from what is there, kills it at some moment, and checks what is there then.
 *
 * @param saves how many saves to await before that moment, however long they take
 * @returns the newest step
 */
export async function killWhileSaving(folder: string, saves: number): Promise<number> {
  const child = spawn(process.execPath, [script, folder], { stdio: ['ignore', 'pipe', 'inherit'] });
  let printed = '';
  const ready = new Promise<void>((resolve) => {
    child.stdout.on('data', (text) => {
      printed += String(text);
      if (printed.includes('from') && stepsIn(printed).length >= saves) resolve();
    });
  });
  const ended = new Promise<void>((resolve) => void child.once('close', () => resolve()));
  await Promise.race([ready, ended]);
  await sleep(Math.random() * 100);
  child.kill('SIGKILL');
  await ended;
  expect(child.signalCode, printed).toBe('SIGKILL');
  const acknowledged = stepsIn(printed);
  const from = Number(/from (\d+)/.exec(printed)![1]);
  const steps = await savedSteps(folder);
  // What was said to be saved is there, and nothing but the newest of all.
  expect(steps.at(-1) ?? 0).toBeGreaterThanOrEqual(acknowledged.at(-1) ?? from);
  expect(steps.length).toBeLessThanOrEqual(3);
  return steps.at(-1) ?? 0;
}
