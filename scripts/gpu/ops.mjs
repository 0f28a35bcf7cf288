// A few dozen ops on a device (cuda:0) and on the CPU, each group in a process of its own and for a limited time, so
// that a kernel that hangs or breaks the device costs one group. Plainly, or below a tool of NVIDIA's
// compute-sanitizer:
//
//   node scripts/gpu/ops.mjs [--tool memcheck|racecheck|synccheck|initcheck] [--groups matmul,attention]
//                            [--limit <seconds>] [--jobs 4] [--device cuda:0]
//
// Ends with 77 where the tool does not work on this machine. The last line is a summary.
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { groups } from './op-samples.mjs';

const { values: options } = parseArgs({
  options: {
    tool: { type: 'string', default: '' },
    groups: { type: 'string', default: Object.keys(groups).join(',') },
    limit: { type: 'string', default: '60' },
    jobs: { type: 'string', default: '4' },
    device: { type: 'string', default: 'cuda:0' },
    // In the process of a group:
    only: { type: 'string', default: '' },
  },
});
const reported = 99; // the exit status that tells a report of the tool from a failure of ours

/** ‖a − b‖ / ‖b‖; infinite where one of them has a NaN that the other has not. */
function distance(a, b) {
  let [difference, size] = [0, 0];
  for (let i = 0; i < b.length; i++) {
    if (Object.is(a[i], b[i]) || a[i] === b[i]) continue;
    difference += (a[i] - b[i]) ** 2;
  }
  for (const x of b) if (Number.isFinite(x)) size += x * x;
  if (Number.isNaN(difference)) return Number.POSITIVE_INFINITY;
  return difference === 0 ? 0 : Math.sqrt(difference / Math.max(size, 1e-300));
}

/** Runs the samples of one group in this process; how many failed. */
async function runGroup(name) {
  const { manualSeed, tidy, strict } = await import('fovea');
  let failures = 0;
  for (const { label, make, run, tolerance } of groups[name]) {
    try {
      const error = tidy(() => {
        manualSeed(label.length);
        const inputs = make();
        const on = (device) => {
          manualSeed(5);
          const results = strict(() =>
            run(
              inputs.map((x) => x.to(device)),
              device,
            ),
          );
          return results.map((x) => x.to('cpu').dataSync({ as: 'float64' }));
        };
        const [here, there] = [on('cpu'), on(options.device)];
        return Math.max(...there.map((values, i) => distance(values, here[i])));
      });
      const wrong = !(error <= tolerance);
      if (wrong) failures++;
      console.log(
        `${wrong ? 'FAIL' : 'ok  '} ${name}: ${label}: error ${error.toExponential(1)}, at most ${tolerance}`,
      );
    } catch (error) {
      failures++;
      console.log(`FAIL ${name}: ${label}: ${error.code ?? ''} ${String(error.message).split('\n')[0]}`);
    }
  }
  return failures;
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

/** Starts a command; its exit status and what it printed. A process that the limit ends has the status 'late'. */
function runProcess(command, args) {
  return new Promise((resolve) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], detached: true });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => (output += data));
    running.add(child);
    const timer = setTimeout(() => {
      end(child);
      resolve({ status: 'late', output });
    }, Number(options.limit) * 1000);
    child.once('error', (error) => resolve({ status: error.code, output }));
    child.once('exit', (status, signal) => {
      clearTimeout(timer);
      running.delete(child);
      // What is still in the pipes comes first.
      setTimeout(() => resolve({ status: signal ?? status, output }), 50);
    });
  });
}

const self = fileURLToPath(import.meta.url);
const toolArgs = ['--tool', options.tool, '--error-exitcode', String(reported), '--print-limit', '20'];
if (options.tool === 'memcheck') toolArgs.push('--check-api-memory-access', 'no');

/** Why the tool cannot be used here, or undefined. */
async function toolProblem() {
  const script =
    "import('fovea').then(({ ones }) => ones([8], { device: 'cuda:0' }).data().then((x) => console.log('sum', x.length)))";
  const { status, output } = await runProcess('compute-sanitizer', [...toolArgs, process.execPath, '-e', script]);
  if (status === 'ENOENT') return 'there is no compute-sanitizer on the path';
  if (output.includes('sum 8') && / SUMMARY: /.test(output) && !/device not supported/i.test(output)) return undefined;
  const line =
    output.split('\n').find((text) => /error|not supported|unable|failed/i.test(text)) ?? `it ended with ${status}`;
  return `compute-sanitizer does not work here: ${line.trim()}`;
}

async function judge(name) {
  const start = performance.now();
  const node = [self, '--device', options.device, '--only', name];
  const { status, output } = options.tool
    ? await runProcess('compute-sanitizer', [...toolArgs, process.execPath, ...node])
    : await runProcess(process.execPath, node);
  process.stdout.write(output);
  const lines = output.split('\n');
  const passed = lines.filter((line) => line.startsWith('ok ')).length;
  const summary = lines.findLast((line) => /(ERROR|RACECHECK) SUMMARY/.test(line))?.replace(/^=+\s*/, '') ?? '';
  const seconds = ((performance.now() - start) / 1000).toFixed(0);
  const ended =
    status === 0 ? '' : status === 'late' ? `, not done after ${options.limit} s` : `, ended with ${status}`;
  const text = `${name}: ${passed} of ${groups[name].length} right, ${seconds} s${ended}${summary ? `; ${summary}` : ''}`;
  return { name, good: status === 0 && passed === groups[name].length, passed, text };
}

if (options.only) process.exit((await runGroup(options.only)) ? 1 : 0);

const problem = options.tool && (await toolProblem());
if (problem) {
  console.log(problem);
  process.exit(77);
}
const asked = options.groups.split(',');
const waiting = [...asked];
const results = [];
async function work() {
  for (let name = waiting.shift(); name; name = waiting.shift()) results.push(await judge(name));
}
function finish() {
  console.log('');
  for (const { good, text } of results) console.log(`${good ? 'ok  ' : 'FAIL'} ${text}`);
  const clean = new Set(results.filter(({ good }) => good).map(({ name }) => name));
  const bad = asked.filter((name) => !clean.has(name));
  const total = results.reduce((sum, { passed }) => sum + passed, 0);
  const verdict = bad.length ? `not clean, or not done: ${bad.join(', ')}` : 'all clean';
  console.log(`${total} samples right in ${results.length} groups; ${verdict}`);
  for (const child of running) end(child);
  process.exit(bad.length ? 1 : 0);
}
process.once('SIGTERM', finish);
await Promise.all(Array.from({ length: Number(options.jobs) }, work));
finish();
