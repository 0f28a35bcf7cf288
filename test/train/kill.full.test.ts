// Kills saves at 100 moments: the old checkpoint or the new one is there, whole, and the next process goes on from it.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { killWhileSaving } from './kill.ts';

test('kill -9 at 100 moments', { timeout: 600_000 }, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'fovea-kill-'));
  try {
    const steps: number[] = [];
    for (let i = 0; i < 100; i++) steps.push(await killWhileSaving(folder, i % 3));
    expect(steps.every((step, i) => i === 0 || step >= steps[i - 1]!)).toBe(true);
    expect(new Set(steps).size).toBeGreaterThan(50);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
