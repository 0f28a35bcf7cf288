// Prints what native/sources.json says, one item per line, for binding.gyp (CMake reads the JSON itself):
//   node scripts/sources.mjs files <once|binding|perIsa|exact> [<isa>]
//   node scripts/sources.mjs flags [<arch> <isa> <perIsa|exact>]   those of all files; those of kernels besides
//
// The groups: `once` and `binding` are compiled once, `perIsa` once per instruction set (of a set that `onlyIn` names,
// what it lists); those of them that are also in `exact` must not fuse a multiplication with an addition, so that every
// instruction set gives the same bits.
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const sources = JSON.parse(readFileSync(join(root, 'native/sources.json'), 'utf8'));

/** The paths below native/ that a pattern matches, in which `*` stands for a name or a part of one; sorted. */
function match(pattern) {
  const expand = (folder, [part, ...rest]) => {
    const wanted = new RegExp(`^${part.replaceAll('.', '\\.').replaceAll('*', '.*')}$`);
    const entries = readdirSync(join(root, folder), { withFileTypes: true });
    const found = entries.filter((entry) => wanted.test(entry.name) && entry.isDirectory() === rest.length > 0);
    return found.flatMap(({ name }) => (rest.length ? expand(`${folder}/${name}`, rest) : [`${folder}/${name}`]));
  };
  return expand('native', pattern.split('/')).toSorted();
}

function files(group, isa) {
  const only = sources.onlyIn[isa]?.flatMap(match);
  const all = sources[group].flatMap(match).filter((path) => !only || only.includes(path));
  const exact = group === 'perIsa' ? files('exact') : [];
  return all.filter((path) => !exact.includes(path));
}

/** The major version of the GCC that will compile, or 0 where that is another compiler. */
function gccVersion() {
  const [compiler, ...args] = (process.env.CXX ?? 'g++').split(' ');
  const { stdout } = spawnSync(compiler, [...args, '-dM', '-E', '-x', 'c++', '-'], { input: '', encoding: 'utf8' });
  return /define __clang__/.test(stdout ?? '') ? 0 : Number(/define __GNUC__ (\d+)/.exec(stdout)?.[1] ?? 0);
}

function flags(arch, isa, group) {
  if (!arch) return sources.flags;
  const ofCompiler = gccVersion() >= 13 ? sources.gcc13Flags : []; // why: CMakeLists.txt
  return [
    ...sources.kernelFlags,
    ...ofCompiler,
    ...(group === 'exact' ? sources.exactFlags : []),
    ...sources.isas[arch][isa],
  ];
}

const [question, ...args] = process.argv.slice(2);
console.log((question === 'files' ? files(...args) : flags(...args)).join('\n'));
