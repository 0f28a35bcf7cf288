// A build from source that cannot work says in one sentence what to install, before any tool has failed.
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';

const script = join(import.meta.dirname, '../../scripts/build.mjs');
const folder = mkdtempSync(join(tmpdir(), 'fovea-build-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** Runs the build where only the given commands exist, each a shell script. */
function build(
  name: string,
  commands: Record<string, string>,
  ...args: string[]
): { status: number | null; stderr: string } {
  const bin = join(folder, name);
  mkdirSync(bin);
  for (const [command, body] of Object.entries(commands)) {
    writeFileSync(join(bin, command), `#!/bin/sh\n${body}\n`);
    chmodSync(join(bin, command), 0o755);
  }
  const env = { PATH: bin };
  const { status, stderr } = spawnSync(process.execPath, [script, ...args], { env, encoding: 'utf8' });
  return { status, stderr: stderr.trim() };
}

const modernCompiler = 'echo "g++ 13.2.0"';
const oldCompiler = '[ "$1" = --version ] && echo "g++ 7.5.0"';
const tools = { make: 'echo make', cmake: 'echo "cmake version 3.25.1"', python3: 'echo Python' };
const { make, python3 } = tools;

// The tools that are missing or old are played by scripts of sh, which Windows lacks; the messages are the same there.
describe.skipIf(process.platform === 'win32')('a build', () => {
  test.each<[string, Record<string, string>, RegExp]>([
    ['no compiler', tools, /^fovea: no C\+\+ compiler was found; install one .*apt install g\+\+ make/],
    [
      'an old compiler',
      { ...tools, 'c++': oldCompiler },
      /^fovea: .*too old for C\+\+20 \(g\+\+ 7\.5\.0\); install GCC 12/,
    ],
    [
      'no CMake and no Python',
      { 'c++': modernCompiler, make },
      /^fovea: CMake was not found; install it .*node-gyp needs Python/,
    ],
    [
      'an old CMake',
      { 'c++': modernCompiler, make, cmake: 'echo "cmake version 3.10.2"' },
      /^fovea: CMake 3\.10 is too old; install CMake 3\.21/,
    ],
    [
      'no make',
      { 'c++': modernCompiler, cmake: tools.cmake, python3 },
      /^fovea: neither make nor ninja was found; install one/,
    ],
  ])('with %s says so', (name, commands, sentence) => {
    const { status, stderr } = build(name, commands);
    expect(stderr).toMatch(sentence);
    expect(stderr.split('\n')).toHaveLength(1);
    expect(status).toBe(1);
  });

  test('with an unknown tool names the known ones', () => {
    const { status, stderr } = build('unknown', { ...tools, 'c++': modernCompiler }, '--tool', 'scons');
    expect({ status, stderr }).toEqual({
      status: 1,
      stderr: 'fovea: --tool is "scons"; expected cmake-js or node-gyp.',
    });
  });
});
