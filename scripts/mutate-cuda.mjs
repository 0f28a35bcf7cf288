// Plants one fault after the other in the CUDA kernels and runs their tests on the emulator, which must fail each time:
//
//   node scripts/mutate-cuda.mjs [--build build-emulator] [name...]
//
// Needs such a build (cmake -DFOVEA_EMULATOR=ON). Only the file with the fault is compiled anew, into a folder of its
// own.
import { execFile } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';

const root = fileURLToPath(new URL('..', import.meta.url));
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { build: { type: 'string', default: 'build-emulator' } },
});
const build = resolve(root, values.build);

const norm = { file: 'native/ops/norm/cuda.cu', tests: ['norm_forward'] };
const gemm80 = { file: 'native/ops/matmul/cuda_sm80.cu', tests: ['matmul'] };
const gemm90 = { file: 'native/ops/matmul/cuda_sm90.cu', tests: ['sm90'] };
const attention80 = { file: 'native/ops/attention/cuda_sm80.cu', tests: ['attention'] };
const decode80 = { file: 'native/ops/attention/cuda_decode_sm80.cu', tests: ['attention_decoding'] };
const backward80 = { file: 'native/ops/attention/cuda_sm80_backward.cu', tests: ['attention'] };
const attention90 = { file: 'native/ops/attention/cuda_sm90.cu', tests: ['attention_sm90'] };
const backward90 = { file: 'native/ops/attention/cuda_backward_sm90.cu', tests: ['attention_sm90'] };
const quantized = { file: 'native/ops/quantized/cuda.cu', tests: ['quantized'] };
const quantizedProduct = { file: 'native/ops/quantized/cuda_product.cu', tests: ['quantized'] };

/** What is planted, where, a text that is there once or more (the first is replaced), and its replacement. */
const fault = (name, { file, tests }, text, replacement) => ({ name, file, tests, text, replacement });
const faults = [
  fault('the same row again', norm, 'ask(next, row_of(row + step))', 'ask(next, row_of(row))'),
  fault('a row behind the last', norm, 'if (row >= p.rows) continue;', ''),
  fault('slot released before its products are done', gemm90, '    wgmma_wait<1>();', ''),
  fault('wrong arrival count', gemm90, 'kMultiplyingWarps * C::kCluster)', 'kMultiplyingWarps * C::kCluster - 1)'),
  fault('wrong swizzle on the way out', gemm90, '^ (lane % 8)) << 4', '^ (lane % 4)) << 4'),
  fault('wrong stride between slices of k', gemm90, '2048 >> 4 : 32 >> 4, kNextB', '2048 >> 4 : 64 >> 4, kNextB'),
  fault('last slice of k left out', gemm90, 'int(ceil_div(to - from, kSm90Depth))', 'int((to - from) / kSm90Depth)'),
  fault('activation forgotten on the way out', gemm90, '  activate<S>(product.activation, x);', ''),
  fault('copy not waited for', gemm80, '    cp_async_wait<kStages - 2>();', ''),
  fault(
    'barrier left out before the epilogue',
    gemm80,
    '  cp_async_wait<0>();\n  __syncthreads();',
    '  cp_async_wait<0>();',
  ),
  fault('one element too many at the edge', gemm80, 'j + 1 < count', 'j + 1 <= count'),
  fault('keys not waited for', attention80, '    cp_async_wait<0>();\n    __syncthreads();', '    __syncthreads();'),
  fault(
    'barrier left out between tiles',
    attention80,
    '    cp_async_wait<0>();\n    __syncthreads();',
    '    cp_async_wait<0>();',
  ),
  fault(
    'keys not waited for, decoding',
    decode80,
    '    cp_async_wait<2 * S::kStages - 1>();\n    __syncwarp();\n    multiply_keys',
    '    __syncwarp();\n    multiply_keys',
  ),
  fault(
    'keys of other lanes not waited for, decoding',
    decode80,
    '    __syncwarp();\n    multiply_keys',
    '    multiply_keys',
  ),
  fault('mask one key off', backward80, 'row - int(p.last_key) - column :', 'row - int(p.last_key) - column + 1 :'),
  fault('values not waited for', attention90, 'mbarrier_wait(&barriers->v_full[ring.stage], ring.parity);', ''),
  fault('keys not waited for, sm_90', attention90, 'mbarrier_wait(&barriers->k_full[at.stage], at.parity);', ''),
  fault('queries not waited for', attention90, 'mbarrier_wait(&barriers->q_full, own.parity);', ''),
  fault(
    'queries replaced before they have been read',
    attention90,
    'mbarrier_wait(&barriers->q_empty, own.parity ^ 1);',
    '',
  ),
  fault(
    'slot of values released before its products are done',
    attention90,
    '      wgmma_wait<0>();\n      wgmma_keep(o);',
    '',
  ),
  fault(
    'tile of gradients not waited for',
    backward90,
    'mbarrier_wait(&barriers->full[at.ring.stage], at.ring.parity);',
    '',
  ),
  fault('own rows of gradients not waited for', backward90, 'mbarrier_wait(&barriers->own, 0);', ''),
  fault(
    'slot of gradients released before its products are done',
    backward90,
    'wgmma_wait<1>();\n    if (held >= 0) release(held);',
    'if (held >= 0) release(held);\n    wgmma_wait<1>();',
  ),
  fault(
    'statistics of gradients written before they have been read',
    backward90,
    '    mbarrier_wait(&barriers->empty[at.ring.stage], at.ring.parity ^ 1);',
    '',
  ),
  fault(
    'mask of gradients one key off',
    backward90,
    'own - int(p.last_key) - first : 0',
    'own - int(p.last_key) - first + 1 : 0',
  ),
  fault(
    'edge of gradients one key off',
    backward90,
    '(kRowsAreKeys && column < full)',
    '(kRowsAreKeys && column < full - 1)',
  ),
  fault('weights behind the last column', quantized, 'if (k >= m.k) continue;', ''),
  fault(
    'sums of slices not waited for',
    quantizedProduct,
    '    __syncthreads();\n    const int64_t row',
    '    const int64_t row',
  ),
  fault(
    'sums of slices replaced before they have been read',
    quantizedProduct,
    '    __syncthreads();  // the next rows',
    '    // the next rows',
  ),
];

const run = promisify(execFile);

async function must(command, args) {
  await run(command, args, { cwd: build, maxBuffer: 1 << 28 }).catch((error) => {
    throw new Error(`${command} failed: ${(error.stderr || error.message).slice(-2000)}`);
  });
}

/** How the build compiles one source: arguments by position, the last two of which are swapped for ours. */
const commands = JSON.parse(readFileSync(join(build, 'compile_commands.json'), 'utf8'));
async function compile(source, from, to) {
  const { command } = commands.find(({ file }) => file === join(root, source));
  const words = command.match(/(?:[^\s"\\]|\\.|"(?:[^"\\]|\\.)*")+/g).map((word) => word.replaceAll(/\\(.)/g, '$1'));
  const args = words.slice(1).map((word) => (word === join(root, source) ? from : word));
  args[args.indexOf('-o') + 1] = to;
  await must(words[0], args);
}

/** The objects of the test program, but for that of one source. */
function objectsWithout(source) {
  const own = `${basename(source)}.o`;
  const folder = source.split('/').slice(0, -1).join('/');
  return ['fovea_emulator_tests', 'fovea_emulated', 'fovea_once', 'fovea_baseline', 'fovea_avx2', 'fovea_neon']
    .flatMap((target) => {
      const from = join(build, 'CMakeFiles', `${target}.dir`);
      const names = (() => {
        try {
          return readdirSync(from, { recursive: true });
        } catch {
          return [];
        }
      })();
      return names.filter((name) => name.endsWith('.o')).map((name) => join(from, name));
    })
    .filter((path) => !path.endsWith(`${folder}/${own}`));
}

/** Whether the tests pass; those that hang do not. */
async function pass(program, filters) {
  const { stdout, failed } = await run(program, ['--until-failure', ...filters], { timeout: 300_000 }).catch(
    ({ stdout }) => ({ stdout, failed: true }),
  );
  if (/\b0 tests\b/.test(stdout ?? '')) throw new Error(`no test is named after ${filters.join(', ')}`);
  return !failed;
}

/** Whether the tests of a fault fail with it. */
async function isCaught({ name, file, tests, text, replacement }, folder) {
  const source = readFileSync(join(root, file), 'utf8');
  if (!source.includes(text)) throw new Error(`${name}: ${file} does not contain ${JSON.stringify(text)} any more`);
  const [planted, object, program] = [basename(file), 'planted.o', 'tests'].map((path) => join(folder, path));
  writeFileSync(
    planted,
    source.replace(text, () => replacement),
  );
  await compile(file, planted, object);
  await must('c++', [object, ...objectsWithout(file), '-o', program, '-pthread', '-ldl']);
  return !(await pass(program, tests));
}

const asked = faults.filter(({ name }) => positionals.length === 0 || positionals.some((part) => name.includes(part)));
let missed = 0;
async function tryFault(fault) {
  const folder = mkdtempSync(join(tmpdir(), 'fovea-faults-'));
  try {
    const caught = await isCaught(fault, folder);
    console.log(`${caught ? 'caught' : 'MISSED'} ${fault.file.split('/').slice(2).join('/')}: ${fault.name}`);
    if (!caught) missed++;
  } finally {
    rmSync(folder, { recursive: true });
  }
}
async function checkSound(filters) {
  if (!(await pass(join(build, 'fovea_emulator_tests'), filters.split(' '))))
    throw new Error(`the tests ${filters} fail as it is`);
}

const filters = new Set(asked.map(({ tests }) => tests.join(' ')));
const jobs = [...asked.map((fault) => () => tryFault(fault)), ...[...filters].map((names) => () => checkSound(names))];
async function work() {
  for (let job = jobs.shift(); job; job = jobs.shift()) await job();
}
await Promise.all(Array.from({ length: availableParallelism() }, work));
console.log(missed ? `${missed} faults were not caught` : 'every planted fault was caught');
process.exit(missed ? 1 : 0);
