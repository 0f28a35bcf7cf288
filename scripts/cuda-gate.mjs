// Compiles every CUDA source for each architecture and looks at what the compiler says and made:
//
//   node scripts/cuda-gate.mjs [file...]
//
// no warning C75xx (a wgmma that was serialised), no register of GEMM or attention spilled to memory, the tensor cores'
// instructions in the files that are written for them, and no function of the device alone that host code calls: nvcc
// makes its body exit(1). Needs nvcc, no GPU.
import { execFile, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';

const root = fileURLToPath(new URL('..', import.meta.url));
const flags = [
  '-std=c++20',
  '-O3',
  '--expt-relaxed-constexpr',
  '-I',
  'native',
  '-DFOVEA_VERSION="gate"',
  '-Xptxas',
  '-v',
];

/** What must not spill, and what must use the tensor cores, by the path of the file. */
const mustNotSpill = /ops\/(matmul|attention)\//;
const mustContain = [
  [/_sm80\w*\.cu$/, 'mma.sync'],
  [/_sm90\.cu$/, 'wgmma.mma_async'],
];

const architecturesOf = (file) => (file.endsWith('_sm90.cu') ? ['90a'] : ['80', '90']);

function sources() {
  const { stdout } = spawnSync(process.execPath, ['scripts/sources.mjs', 'files', 'cuda'], {
    cwd: root,
    encoding: 'utf8',
  });
  return stdout.trim().split('\n');
}

/** The readable names of the kernels that a report of ptxas mentions. */
function demangled(text) {
  const { status, stdout } = spawnSync('c++filt', [], { input: text, encoding: 'utf8' });
  return status === 0 ? stdout : text;
}

/** [kernel, bytes spilled] of every kernel in the report. */
function spillsOf(report) {
  const found = [];
  let kernel = '';
  for (const line of report.split('\n')) {
    kernel = /Compiling entry function '(.*)' for/.exec(line)?.[1] ?? kernel;
    const spill = /(\d+) bytes spill stores, (\d+) bytes spill loads/.exec(line);
    if (spill && kernel) found.push([kernel, Number(spill[1]) + Number(spill[2])]);
  }
  return found;
}

const run = promisify(execFile);

/** Compiles one file for one architecture; what is wrong with it, one line each, and how many kernels it has. */
async function check(file, architecture) {
  const folder = mkdtempSync(join(tmpdir(), 'fovea-gate-'));
  try {
    const gencode = `arch=compute_${architecture},code=sm_${architecture}`;
    const args = [
      ...flags,
      '-gencode',
      gencode,
      '--keep',
      '--keep-dir',
      folder,
      '-c',
      file,
      '-o',
      join(folder, 'out.o'),
    ];
    const { stderr, failure } = await run('nvcc', args, { cwd: root, maxBuffer: 1 << 28 }).catch((error) => ({
      failure: `nvcc: ${error.code === 'ENOENT' ? error.message : (error.stderr ?? error.message).slice(-2000)}`,
    }));
    if (failure) return { kernels: 0, problems: [failure] };
    const report = demangled(stderr);
    const problems = report.split('\n').filter((line) => /\bC75\d\d\b/.test(line));
    const spills = spillsOf(report);
    if (mustNotSpill.test(file))
      problems.push(...spills.filter(([, bytes]) => bytes > 0).map(([name, bytes]) => `${name} spills ${bytes} bytes`));
    const symbols = spawnSync('nm', ['--undefined-only', join(folder, 'out.o')], { encoding: 'utf8' }).stdout ?? '';
    if (!symbols) problems.push('nm lists no symbols of the object');
    if (/\bU exit$/m.test(symbols)) problems.push('host code calls a function of the device alone');
    const ptx = readdirSync(folder).filter((name) => name.endsWith('.ptx'));
    const text = ptx.map((name) => readFileSync(join(folder, name), 'utf8')).join('\n');
    for (const [pattern, instruction] of mustContain)
      if (pattern.test(file) && !text.includes(instruction)) problems.push(`no ${instruction} in its PTX`);
    return { kernels: spills.length, problems };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const { positionals } = parseArgs({ allowPositionals: true });
const files = positionals.length > 0 ? positionals : sources();
const waiting = files.flatMap((file) => architecturesOf(file).map((architecture) => [file, architecture]));
let failed = 0;
async function work() {
  for (let next = waiting.shift(); next; next = waiting.shift()) {
    const [file, architecture] = next;
    const start = performance.now();
    const { kernels, problems } = await check(file, architecture);
    const seconds = ((performance.now() - start) / 1000).toFixed(0);
    console.log(
      `${problems.length ? 'FAIL' : 'ok  '} sm_${architecture.padEnd(3)} ${file.replace('native/', '')}: ${kernels} kernels, ${seconds} s`,
    );
    for (const problem of problems) console.log(`     ${problem}`);
    if (problems.length > 0) failed++;
  }
}
await Promise.all(Array.from({ length: availableParallelism() }, work));
console.log(failed ? `${failed} failed` : 'every CUDA source passes');
process.exit(failed ? 1 : 0);
