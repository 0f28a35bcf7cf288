// Runs an example as users do: by node, with a folder for what it writes.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';

const examples = join(import.meta.dirname, '../../examples');

export interface ExampleRun {
  /** Rows of all that was printed, cut into cells. */
  readonly rows: readonly string[][];
  /** What was printed. */
  readonly stdout: string;
  /** What the example wrote. */
  readonly written: string;
}

/** @returns what the example printed and wrote; fails unless it ends well and writes one file */
export function runExample(name: string, ...args: string[]): ExampleRun {
  const folder = mkdtempSync(join(tmpdir(), 'fovea-example-'));
  try {
    const command = [join(examples, `${name}.mjs`), '--out', folder, ...args];
    const { status, stdout, stderr } = spawnSync(process.execPath, command, { encoding: 'utf8', cwd: folder });
    expect(stderr).toBe('');
    expect(status).toBe(0);
    const files = readdirSync(folder);
    expect(files).toHaveLength(1);
    const rows = stdout.split('\n').map((line) => line.split(/ {2,}/));
    return { rows, stdout, written: readFileSync(join(folder, files[0]!), 'utf8') };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** The numbers of the row whose first cell is `first`; percent as shares. */
export function numbersOf({ rows }: ExampleRun, first: string): number[] {
  const row = rows.find((cells) => cells[0] === first);
  expect(row, first).toBeDefined();
  return row!.slice(1).map((cell) => Number.parseFloat(cell) / (cell.endsWith('%') ? 100 : 1));
}

/** Fails for what is no SVG of its own. */
export function expectSvg(text: string): void {
  expect(text).toMatch(/^<svg xmlns="http:\/\/www\.w3\.org\/2000\/svg"[\s\S]*<\/svg>\s*$/);
}
/** Fails for what is no page with maps. */
export function expectReport(text: string): void {
  expect(text).toMatch(/^<!doctype html>[\s\S]*<svg [\s\S]*<\/html>\s*$/);
}
