// The kernels are compiled once per instruction set and linked into one binary. Of a weak symbol (an inline function, a
// template) that several objects define, the linker keeps any one: were it the AVX-512 copy, the baseline kernels would
// call it and die on an older processor. So whatever such an object defines for others must carry its set's namespace.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';

const build = join(import.meta.dirname, '../../build');

/** Symbols that may be shared, each with the reason. */
const allowed: [RegExp, string][] = [[/^DW\.ref\.__gxx_personality_v0$/, 'a pointer to the C++ runtime, no code']];

/** Folders beside them whose objects are linked into programs of their own, or are there once. */
const others = new Set(['once', 'native_tests', 'cuda', 'cuda_sm90']);

/** Folders of objects per instruction set: CMake's, else node-gyp's. */
function objectFolders(): Map<string, string> {
  const places: [string, RegExp][] = [
    [join(build, 'CMakeFiles'), /^fovea_(.+)\.dir$/],
    [join(build, 'Release/obj.target'), /^kernels_([a-z0-9]+)$/],
  ];
  for (const [place, pattern] of places) {
    const found = existsSync(place) ? readdirSync(place).map((name) => pattern.exec(name)) : [];
    const folders = found.filter((match) => match !== null && !others.has(match[1]!));
    if (folders.length) return new Map(folders.map((match) => [match![1]!, join(place, match![0])]));
  }
  return new Map();
}

function objectsIn(folder: string): string[] {
  const names = readdirSync(folder, { recursive: true, encoding: 'utf8' });
  return names.filter((name) => name.endsWith('.o')).map((name) => join(folder, name));
}

/** What the objects define for other objects although it is not in namespace `isa_<isa>`. */
function leaks(objects: string[], isa: string): string[] {
  const own = `isa_${isa}`;
  const mangled = `${own.length}${own}`;
  // Each line: name, type, value, size; lower-case types are local, except u (unique) and the weak v and w.
  const lines = execFileSync('nm', ['--defined-only', '--format=posix', ...objects], {
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  }).split('\n');
  const shared = lines
    .map((line) => line.split(' '))
    .filter(([, type]) => type !== undefined && /^[A-Zuvw]$/.test(type));
  const names = new Set(shared.map(([name]) => name!));
  return [...names].filter((name) => !name.includes(mangled) && !allowed.some(([pattern]) => pattern.test(name)));
}

// Windows has no nm; what is compiled from the same sources is looked at where there is one.
describe.skipIf(process.platform === 'win32')('objects of each instruction set', () => {
  const folder = mkdtempSync(join(tmpdir(), 'fovea-objects-'));
  afterAll(() => rmSync(folder, { recursive: true }));
  const folders = objectFolders();

  test('are there', () => {
    const expected = process.arch === 'arm64' ? 'neon' : 'baseline';
    expect([...folders.keys()], 'run `npm run build:native` first').toContain(expected);
  });

  test.each([...folders])('%s defines nothing for others outside its namespace', (isa, place) => {
    const objects = objectsIn(place);
    expect(objects.length).toBeGreaterThan(1);
    expect(leaks(objects, isa)).toEqual([]);
  });

  test('a planted inline function is found', () => {
    const source = join(folder, 'planted.cc');
    const object = join(folder, 'planted.o');
    writeFileSync(
      source,
      [
        'namespace fovea { inline __attribute__((noinline)) int planted(int x) { return x + 1; } }',
        'namespace fovea::isa_some { int own(int x) { return planted(x); } }',
      ].join('\n'),
    );
    execFileSync(process.env['CXX'] ?? 'c++', ['-std=c++20', '-O1', '-c', source, '-o', object]);
    expect(leaks([object], 'some')).toEqual([expect.stringContaining('planted')]);
  });
});
