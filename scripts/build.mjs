// Builds the addon from source, into build/Release/fovea.node.
//
//   node scripts/build.mjs [--tool cmake-js|node-gyp] [--sanitize address|thread] [--out <folder>] [--jobs <n>]
//
// FOVEA_CUDA=OFF leaves out the CUDA kernels, which take minutes to compile; ON fails where there is no nvcc.
//
// cmake-js is the usual way; node-gyp builds the same sources where CMake is missing. What is missing is said in one
// sentence that names what to install, before any tool can fail in a hundred lines.
import { spawnSync } from 'node:child_process';
import { existsSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const require = createRequire(import.meta.url);
const oldestCmake = [3, 21];

/** Ends the build with one sentence. */
function stop(sentence) {
  console.error(`fovea: ${sentence}`);
  process.exit(1);
}

/** What a command prints, or undefined when it is not there or fails. */
function ask(command, args, input) {
  const { status, stdout } = spawnSync(command, args, { input, encoding: 'utf8' });
  return status === 0 ? stdout : undefined;
}

/** The package that has a build tool's command line, or undefined when it is not installed. */
function findTool(name, bin) {
  try {
    return join(dirname(require.resolve(`${name}/package.json`)), bin);
  } catch {
    return undefined;
  }
}

function checkCompiler() {
  const compiler = process.env.CXX ?? ['c++', 'g++', 'clang++'].find((name) => ask(name, ['--version']));
  if (!compiler || ask(compiler, ['--version']) === undefined) {
    stop(
      'no C++ compiler was found; install one (Debian, Ubuntu: `apt install g++ make`; Fedora: `dnf install gcc-c++ make`; macOS: `xcode-select --install`), or name yours in CXX.',
    );
  }
  const program =
    '#include <bit>\n#include <concepts>\n#include <span>\nint main() { return std::has_single_bit(3u); }\n';
  if (ask(compiler, ['-std=gnu++20', '-x', 'c++', '-fsyntax-only', '-'], program) === undefined) {
    const version = ask(compiler, ['--version'])?.split('\n')[0];
    stop(
      `the C++ compiler is too old for C++20 (${version}); install GCC 12 or Clang 14 or newer, and name it in CXX.`,
    );
  }
}

/** Why CMake cannot be used here, or undefined when it can. */
function cmakeProblem() {
  const version = ask('cmake', ['--version'])?.match(/(\d+)\.(\d+)/);
  if (!version)
    return 'CMake was not found; install it (`apt install cmake`, `dnf install cmake`, `brew install cmake`)';
  const [major, minor] = [Number(version[1]), Number(version[2])];
  const tooOld = major < oldestCmake[0] || (major === oldestCmake[0] && minor < oldestCmake[1]);
  if (tooOld) return `CMake ${version[0]} is too old; install CMake ${oldestCmake.join('.')} or newer`;
  if (!ask('make', ['--version']) && !ask('ninja', ['--version']) && process.platform !== 'win32') {
    return 'neither make nor ninja was found; install one (`apt install make`)';
  }
  return undefined;
}

/** Why node-gyp cannot be used here, or undefined when it can. */
function gypProblem() {
  if (!ask('python3', ['--version']) && !ask('python', ['--version']))
    return 'node-gyp needs Python, which was not found';
  if (!ask('make', ['--version']) && process.platform !== 'win32') return 'node-gyp needs make, which was not found';
  return undefined;
}

function cmakeCommand({ out, sanitize, jobs }) {
  const tool = findTool('cmake-js', 'bin/cmake-js');
  if (!tool) stop('cmake-js is not installed; run `npm install --save-dev cmake-js`, then this again.');
  const args = [tool, 'build', '--directory', root, '--out', out, '--config', 'Release', '--parallel', String(jobs)];
  const cuda = process.env.FOVEA_CUDA ?? 'AUTO'; // of cmake/cuda.cmake
  return [...args, `--CDFOVEA_SANITIZE=${sanitize}`, `--CDFOVEA_CUDA=${cuda}`];
}

/**
 * node-gyp always writes to build/. Node's own headers are used where they lie beside it, so that nothing is fetched.
 */
function gypCommand({ jobs }) {
  const tool = findTool('node-gyp', 'bin/node-gyp.js');
  if (!tool) stop('node-gyp is not installed; run `npm install --save-dev node-gyp`, then this again.');
  const prefix = dirname(dirname(process.execPath));
  const headers = existsSync(join(prefix, 'include/node/node_api.h')) ? [`--nodedir=${prefix}`] : [];
  return [tool, 'rebuild', '--directory', root, '--release', '--jobs', String(jobs), ...headers];
}

function chooseTool(asked) {
  if (asked && !['cmake-js', 'node-gyp'].includes(asked)) stop(`--tool is "${asked}"; expected cmake-js or node-gyp.`);
  const problems = { 'cmake-js': cmakeProblem(), 'node-gyp': gypProblem() };
  if (asked) return problems[asked] ? stop(`${problems[asked]}.`) : asked;
  if (!problems['cmake-js']) return 'cmake-js';
  if (problems['node-gyp']) stop(`${problems['cmake-js']} (or build without CMake: ${problems['node-gyp']}).`);
  console.warn(`fovea: ${problems['cmake-js']}; building with node-gyp instead.`);
  return 'node-gyp';
}

const { values } = parseArgs({
  options: {
    tool: { type: 'string' },
    sanitize: { type: 'string', default: '' },
    out: { type: 'string', default: join(root, 'build') },
    jobs: { type: 'string', default: String(availableParallelism()) },
  },
});

checkCompiler();
const tool = chooseTool(values.tool);
const out = resolve(values.out);
// The two tools would overwrite each other's make files in one folder.
const other = { 'cmake-js': 'config.gypi', 'node-gyp': 'CMakeCache.txt' }[tool];
if (existsSync(join(out, other))) rmSync(out, { recursive: true });

const command = tool === 'cmake-js' ? cmakeCommand({ ...values, out }) : gypCommand(values);
const { status, error } = spawnSync(process.execPath, command, { cwd: root, stdio: 'inherit' });
if (error) stop(`${tool} could not be started: ${error.message}`);
process.exit(status ?? 1);
