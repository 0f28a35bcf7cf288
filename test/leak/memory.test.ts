import { expect, test } from 'vitest';
import { checksOf, runScript } from '../native-runtime/children.ts';

const full = process.env['FOVEA_TIER'] === 'full';
const scripts: [script: string, args: string[]][] = [
  ['drop.mjs', [full ? '100000' : '10000']],
  ['lengths.mjs', []],
  ['out-of-memory.mjs', []],
];

test.each(scripts)('%s', async (script, args) => {
  const ended = await runScript(import.meta.url, script, args);
  expect(
    checksOf(ended).filter((check) => !check.ok),
    ended.stdout,
  ).toEqual([]);
  expect(checksOf(ended).length).toBeGreaterThan(0);
  expect(ended).toMatchObject({ status: 0, signal: null, stderr: '' });
});
