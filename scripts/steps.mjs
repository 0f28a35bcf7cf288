// What the two tiers (scripts/ci.mjs, scripts/test-full.mjs) share: steps that run in order, are timed and counted, and
// a closing table. A vitest step counts its tests; any other step counts as one.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { availableParallelism, cpus, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** Thrown by a step that cannot run here; the message is the reason, which is printed. */
export class Skip extends Error {}

const rows = [];
/** Of runs on the same sources, if they are kept: steps that passed, where, and whether they count again. */
let kept;
/** What is in the name of every step that runs. */
let wanted = '';

/** What results are of: files that git does not ignore, all or those below some paths, this Node and this processor. */
function sourcesOf(paths) {
  const args = ['ls-files', '-co', '--exclude-standard', '-z', '--', ...paths];
  const { status, stdout } = spawnSync('git', args, { cwd: root });
  if (status !== 0) throw new Error('the sources cannot be told from others without git');
  const hash = createHash('sha256').update(`${process.version} ${cpus()[0]?.model}`);
  for (const name of String(stdout).split('\0').filter(Boolean).sort())
    if (statSync(join(root, name), { throwIfNoEntry: false })?.isFile())
      hash.update(`\0${name}\0`).update(readFileSync(join(root, name)));
  return hash.digest('hex');
}

/**
 * From here on, steps that pass are written down in a file of the build folder, each with the sources that it ran on.
 *
 * @param resume whether steps that are written down for these very sources count as they are, and do not run
 * @param only what is in the name of every step that runs
 */
export function keepSteps(name, { resume, only = '' }) {
  const path = join(root, 'build', name);
  kept = { path, resume, passed: existsSync(path) ? JSON.parse(readFileSync(path)) : [] };
  wanted = only;
}

/** Writes down what a step that ran has come to, in place of what was known of it. */
function keep(row, sources) {
  kept.passed = kept.passed.filter(({ name }) => name !== row.name);
  if (row.outcome === 'passed') kept.passed.push({ ...row, sources });
  mkdirSync(dirname(kept.path), { recursive: true });
  writeFileSync(kept.path, JSON.stringify(kept.passed));
}

/**
 * Runs one step; what it throws is its failure and the next step still runs. `body` returns counts, or nothing for one.
 *
 * @param of the paths of the sources that it reads (default: all)
 */
export function step(name, body, { of = [] } = {}) {
  if (!name.includes(wanted)) return;
  console.log(`\n── ${name}`);
  const sources = kept && sourcesOf(of);
  const before = kept?.resume && kept.passed.find((row) => row.name === name && row.sources === sources);
  if (before) {
    console.log('passed in an earlier run on the same sources');
    rows.push({ ...before, outcome: 'passed before' });
    return;
  }
  const start = performance.now();
  const row = { name, outcome: 'passed', passed: 0, failed: 0, seconds: 0 };
  try {
    const counts = body() ?? { passed: 1, failed: 0 };
    Object.assign(row, counts, { outcome: counts.failed ? 'FAILED' : 'passed' });
  } catch (error) {
    const skipped = error instanceof Skip;
    Object.assign(row, { outcome: skipped ? `skipped: ${error.message}` : 'FAILED', failed: skipped ? 0 : 1 });
    if (!skipped) console.error(error.message);
  }
  row.seconds = (performance.now() - start) / 1000;
  rows.push(row);
  if (kept) keep(row, sources);
}

/** Runs a command with its output shown; throws when it fails. */
export function sh(command, args, { cwd = root, env = {} } = {}) {
  const { status, signal, error } = spawnSync(command, args, {
    cwd,
    stdio: 'inherit',
    env: { ...process.env, ...env },
  });
  if (error) throw new Error(`${command} could not be started: ${error.message}`);
  if (status !== 0) throw new Error(`${[command, ...args].join(' ')} ended with ${signal ?? status}`);
}

/** Whether a command can be started. */
export function has(command) {
  return spawnSync(command, ['--version'], { stdio: 'ignore' }).status === 0;
}

/** Whether any of the paths is there; a step that needs one of them is otherwise a failure, not a skip. */
export function need(path) {
  if (!existsSync(join(root, path))) throw new Error(`${path} is missing`);
  return join(root, path);
}

/** Runs vitest on the tests whose path contains a filter (all without one); their counts from its JSON report. */
export function vitest(filters = [], { env = {}, node = process.execPath, cwd = root } = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'fovea-report-'));
  const report = join(folder, 'report.json');
  try {
    const args = [join(root, 'node_modules/vitest/vitest.mjs'), 'run', ...filters];
    args.push('--reporter=default', '--reporter=json', `--outputFile.json=${report}`);
    const { status } = spawnSync(node, args, { cwd, stdio: 'inherit', env: { ...process.env, ...env } });
    if (!existsSync(report)) throw new Error(`vitest wrote no report (it ended with ${status})`);
    const {
      numPassedTests: passed,
      numFailedTests: failed,
      numPendingTests: skipped,
    } = JSON.parse(readFileSync(report));
    // A file that cannot be loaded has no tests that could fail, but fails the run.
    if (passed === 0 && failed === 0) throw new Error('vitest ran no test');
    if (skipped) console.log(`${skipped} tests skipped`);
    return { passed, failed: failed || (status === 0 ? 0 : 1) };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** The instruction sets that the addon has and this processor runs, as the addon itself says. */
export function runnableIsas() {
  const script = "import('./dist/addon.js').then(({ native }) => console.log(JSON.stringify(native.info().isas)))";
  const { status, stdout } = spawnSync(process.execPath, ['-e', script], { cwd: root, encoding: 'utf8' });
  if (status !== 0) throw new Error('the addon does not load; build it first');
  return JSON.parse(stdout);
}

/**
 * Builds the CUDA kernels for the CPU emulator, with their tests, in a folder of its own.
 *
 * @returns the folder
 */
export function buildEmulator(name, ...options) {
  const build = join(root, name);
  const isa = process.arch === 'arm64' ? 'neon' : 'avx2';
  const fixed = ['-DFOVEA_EMULATOR=ON', '-DFOVEA_ADDON=OFF', '-DCMAKE_BUILD_TYPE=Release', `-DFOVEA_ONLY_ISAS=${isa}`];
  sh('cmake', ['-S', root, '-B', build, ...fixed, ...options]);
  sh('cmake', ['--build', build, '--parallel', String(availableParallelism())]);
  return build;
}

/** Runs the native tests of a build folder, as many at once as there are processors. */
export function ctest(build) {
  sh('ctest', ['--test-dir', build, '--output-on-failure', '--parallel', String(availableParallelism())]);
}

/** Runs vitest with its tensors on the emulated GPU of such a build. */
export function vitestOnEmulator(build, filters, env = {}) {
  const plugin = join(build, 'Release/fovea_cuda.so');
  return vitest(filters, { env: { FOVEA_TEST_DEVICE: 'cuda', FOVEA_CUDA_PLUGIN: plugin, ...env } });
}

/** Prints the table and, as the last line, `N passed, N failed`; ends the process. */
export function finish() {
  if (rows.length === 0) throw new Error(`no step has '${wanted}' in its name`);
  console.log('');
  const width = Math.max(...rows.map(({ name }) => name.length));
  for (const { name, outcome, passed, failed, seconds } of rows) {
    const counts = outcome.startsWith('skipped') ? '' : `${passed} passed, ${failed} failed`;
    console.log(`${name.padEnd(width)}  ${seconds.toFixed(0).padStart(5)} s  ${counts.padEnd(24)} ${outcome}`);
  }
  const total = (key) => rows.reduce((sum, row) => sum + row[key], 0);
  console.log(`\n${total('passed')} passed, ${total('failed')} failed`);
  process.exit(total('failed') > 0 ? 1 : 0);
}
