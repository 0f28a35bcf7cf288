// Runs the scripts beside it as processes of their own, since they end, crash or exhaust on purpose.
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

export interface Ended {
  status: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

/** Runs `script`, a file name relative to the caller's `import.meta.url`. */
export function runScript(
  base: string,
  script: string,
  args: string[] = [],
  env: Record<string, string> = {},
): Promise<Ended> {
  const child = spawn(process.execPath, [fileURLToPath(new URL(script, base)), ...args], {
    env: { ...process.env, ...env },
  });
  const ended: Ended = { status: null, signal: null, stdout: '', stderr: '' };
  child.stdout.on('data', (text) => {
    ended.stdout += String(text);
  });
  child.stderr.on('data', (text) => {
    ended.stderr += String(text);
  });
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (status, signal) => resolve({ ...ended, status, signal }));
  });
}

/** The lines `ok <name> (<detail>)` or `FAIL <name> (<detail>)` of a script. */
export function checksOf(ended: Ended): { name: string; ok: boolean; line: string }[] {
  const lines = ended.stdout.split('\n').filter((line) => /^(ok|FAIL) /.test(line));
  return lines.map((line) => ({
    name: line.replace(/^\w+ /, '').replace(/ \(.*\)$/, ''),
    ok: line.startsWith('ok '),
    line,
  }));
}
