// Runs vitest on each test file in a process of its own, several at once, each for a limited time: a kernel that hangs
// costs one file, not the run.
//
//   node scripts/gpu/tests.mjs [--device cuda] [--jobs 8] [--limit <seconds>] <file or folder>...
//
// Without a device the tests run on the CPU. What a file printed goes to standard error; standard output gets one line
// for a file, the failures, and a summary as the last line.
import { spawn } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    device: { type: 'string', default: '' },
    jobs: { type: 'string', default: '8' },
    limit: { type: 'string', default: '120' },
  },
});
const scratch = mkdtempSync(join(tmpdir(), 'fovea-tests-'));
const mostShown = 12;

/** The test files below a path that are not kept for the full tier. */
function filesOf(path) {
  if (statSync(path).isFile()) return [path];
  const names = readdirSync(path, { recursive: true });
  return names.filter((name) => name.endsWith('.test.ts') && !name.includes('.full.')).map((name) => join(path, name));
}

function environment() {
  const { FOVEA_TEST_DEVICE: _, ...env } = process.env;
  // Several processes share the cores.
  env.FOVEA_NUM_THREADS ??= '2';
  return options.device ? { ...env, FOVEA_TEST_DEVICE: options.device } : env;
}

const running = new Set();
/** Ends a process and those it started. */
function end(child) {
  try {
    process.kill(-child.pid, 'SIGKILL');
  } catch {
    // It ended by itself just now.
  }
}

/** Resolves to the exit status, or 'late' for a process that had to be ended. */
function finished(child, seconds) {
  return new Promise((resolve) => {
    running.add(child);
    const timer = setTimeout(() => {
      end(child);
      resolve('late');
    }, seconds * 1000);
    child.once('error', () => resolve('not started'));
    child.once('exit', (status, signal) => {
      clearTimeout(timer);
      running.delete(child);
      resolve(signal ?? status);
    });
  });
}

/** First lines of an error message, in one. */
const brief = (message) => message.split('\n').slice(0, 3).join(' ').slice(0, 300);

/** What the JSON report of a file says; undefined where there is none. */
function reportOf(path) {
  try {
    const { testResults, numPassedTests, numFailedTests, numPendingTests } = JSON.parse(readFileSync(path, 'utf8'));
    const failures = testResults.flatMap(({ status, message, assertionResults }) => {
      const failed = assertionResults.filter((test) => test.status === 'failed');
      if (status === 'failed' && failed.length === 0) return [`(the file): ${brief(message)}`];
      return failed.map((test) => `${test.fullName}: ${brief(test.failureMessages[0] ?? '')}`);
    });
    return { passed: numPassedTests, failed: numFailedTests, skipped: numPendingTests, failures };
  } catch {
    return undefined;
  }
}

async function runFile(file) {
  const name = file.replaceAll('/', '-').replace('.test.ts', '');
  const [json, log] = [join(scratch, `${name}.json`), join(scratch, `${name}.log`)];
  const output = openSync(log, 'w');
  const start = performance.now();
  const args = ['node_modules/vitest/vitest.mjs', 'run', file, '--reporter=verbose', '--reporter=json', '--no-color'];
  const child = spawn(process.execPath, [...args, `--outputFile.json=${json}`], {
    stdio: ['ignore', output, output],
    detached: true,
    env: environment(),
  });
  const status = await finished(child, Number(options.limit));
  closeSync(output);
  const seconds = (performance.now() - start) / 1000;
  const printed = readFileSync(log, 'utf8');
  process.stderr.write(`\n==== ${file}\n${printed}`);
  const report = reportOf(json) ?? {
    passed: printed.split('\n').filter((line) => /^\s*✓/.test(line)).length,
    failed: 0,
    skipped: 0,
    failures: [
      `(the file): ${status === 'late' ? `not done after ${options.limit} s` : `ended with ${status}, no report`}`,
    ],
  };
  const failed = Math.max(report.failed, report.failures.length, status === 0 ? 0 : 1);
  return { ...report, file, failed, seconds };
}

const files = positionals.flatMap(filesOf).toSorted((a, b) => a.localeCompare(b));
const results = [];
const waiting = [...files];
async function work() {
  for (let file = waiting.shift(); file; file = waiting.shift()) {
    const result = await runFile(file);
    results.push(result);
    const { passed, failed, skipped, failures, seconds } = result;
    const counts = `${passed} passed, ${failed} failed${skipped ? `, ${skipped} skipped` : ''}`;
    console.log(`${failed ? 'FAIL' : 'ok  '} ${file} ${counts}, ${seconds.toFixed(0)} s`);
    for (const failure of failures.slice(0, mostShown)) console.log(`     ${failure}`);
    if (failures.length > mostShown) console.log(`     … and ${failures.length - mostShown} more`);
  }
}
function finish() {
  for (const child of running) end(child);
  rmSync(scratch, { recursive: true, force: true });
  const total = (key) => results.reduce((sum, result) => sum + result[key], 0);
  const clean = results.filter(({ failed }) => failed === 0).length;
  console.log(
    `${total('passed')} tests passed, ${total('failed')} failed; ${clean} of ${files.length} files without failure`,
  );
  // Not waiting for processes that no signal ends.
  process.exit(clean === files.length && total('passed') > 0 ? 0 : 1);
}
process.once('SIGTERM', finish);
await Promise.all(Array.from({ length: Number(options.jobs) }, work));
finish();
