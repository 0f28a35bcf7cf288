// Builds the addon under a sanitizer and runs tests with it.
//
//   node scripts/sanitize.mjs address|thread [--isa <name>] [--no-build] [file...]
//
// address: AddressSanitizer and UndefinedBehaviorSanitizer, every block a malloc of its exact size. thread:
// ThreadSanitizer on the real allocator, whose reuse of memory is what is tested. A file is a script (.mjs), run by
// node, or a test (.test.ts), run by vitest; without files, the scripts of the runtime. node itself is not
// instrumented, so of ThreadSanitizer's reports those count whose accesses lie in fovea.node; nothing is suppressed by
// name, since v8:: and node:: are in every stack of the JavaScript thread. A planted fault must be reported first, or
// nothing is proved. Exit status 1 on any report or failing test.
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const scripts = [
  'test/native-runtime/hazards.mjs',
  'test/native-runtime/workers.mjs',
  'test/native-runtime/files.mjs',
  'test/native-runtime/copies.mjs',
  'test/native-runtime/recordings.mjs',
  'test/native-runtime/arguments.mjs',
  ['test/native-runtime/terminate.mjs', '25'],
];

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    isa: { type: 'string', default: process.arch === 'arm64' ? 'neon' : 'avx2' },
    build: { type: 'boolean', default: true },
  },
  allowNegative: true,
});
const [kind, ...files] = positionals;
if (!['address', 'thread'].includes(kind)) {
  console.error('usage: node scripts/sanitize.mjs address|thread [--isa <name>] [--no-build] [file...]');
  process.exit(2);
}
const out = join(root, `build-${kind}`);
const logs = join(out, 'reports');

function must(command, args) {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: 'inherit' });
  if (error || status !== 0) {
    console.error(`sanitize: ${command} ${args.join(' ')} failed${error ? `: ${error.message}` : ''}`);
    process.exit(1);
  }
}

/** The file of one of the compiler's runtime libraries. */
function library(name) {
  const { stdout } = spawnSync(process.env['CXX'] ?? 'c++', [`-print-file-name=${name}`], { encoding: 'utf8' });
  return stdout.trim();
}

function environment() {
  const log = `log_path=${join(logs, 'report')}`;
  const preload = kind === 'address' ? ['libasan.so', 'libubsan.so'] : ['libtsan.so'];
  return {
    ...process.env,
    FOVEA_BINARY: join(out, 'Release', 'fovea.node'),
    FOVEA_ISA: values.isa,
    LD_PRELOAD: preload.map(library).join(' '),
    // Leaks are the business of the native tests and of the soak: V8 frees nothing on exit.
    ASAN_OPTIONS: `detect_leaks=0:allocator_may_return_null=1:${log}`,
    UBSAN_OPTIONS: `print_stacktrace=1:${log}`,
    TSAN_OPTIONS: `halt_on_error=0:history_size=4:report_signal_unsafe=0:exitcode=0:${log}`,
  };
}

/** The reports that were written since the folder was emptied. */
function reports() {
  const found = [];
  for (const name of readdirSync(logs)) {
    const text = readFileSync(join(logs, name), 'utf8');
    if (kind === 'address')
      found.push(
        ...text.split(/^(?==+\d+==ERROR|.*: runtime error: )/m).filter((part) => /ERROR: |runtime error: /.test(part)),
      );
    else
      found.push(
        ...text.split(/^(?=WARNING: ThreadSanitizer)/m).filter((part) => /^\s+#[01] .*fovea\.node/m.test(part)),
      );
  }
  return found;
}

/** Runs one script or test and gives its exit status and reports. */
function run(file, args = [], extra = {}) {
  rmSync(logs, { recursive: true, force: true });
  mkdirSync(logs, { recursive: true });
  const test = file.endsWith('.ts');
  const command = test
    ? [join(root, 'node_modules/vitest/vitest.mjs'), 'run', file]
    : ['--expose-gc', resolve(root, file), ...args];
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, command, {
    cwd: root,
    encoding: 'utf8',
    env: { ...environment(), ...extra },
    maxBuffer: 1 << 28,
  });
  return { status: signal ?? status, output: `${stdout}${stderr}`, found: reports() };
}

if (values.build) {
  must('cmake', [
    '-S',
    root,
    '-B',
    out,
    `-DFOVEA_SANITIZE=${kind}`,
    `-DFOVEA_ONLY_ISAS=${values.isa}`,
    '-DCMAKE_BUILD_TYPE=Release',
  ]);
  must('cmake', ['--build', out, '--target', 'fovea', '--parallel', '2']);
}

const planted = run('test/native-runtime/planted.mjs', [kind], kind === 'thread' ? { FOVEA_PLANT_RACE: '1' } : {});
if (planted.found.length === 0) {
  console.error(`sanitize: the planted fault was not reported, so this run would prove nothing\n${planted.output}`);
  process.exit(1);
}
console.log(`${kind}: the planted fault was reported`);

let failed = 0;
for (const entry of files.length > 0 ? files : scripts) {
  const [file, ...args] = [entry].flat();
  const { status, output, found } = run(file, args);
  const good = status === 0 && found.length === 0;
  if (!good) {
    failed++;
    console.log(output.slice(-4000));
    console.log(found.slice(0, 5).join('\n'));
  }
  console.log(`${good ? 'ok  ' : 'FAIL'} ${file} (status ${status}, ${found.length} reports)`);
}
console.log(`${kind}: ${failed} failed`);
process.exit(failed > 0 ? 1 : 0);
