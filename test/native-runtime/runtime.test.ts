// The runtime as the addon offers it, under everything that stream order, threads and sudden ends can do to it.
import { describe, expect, test } from 'vitest';
import { checksOf, runScript } from './children.ts';

const full = process.env['FOVEA_TIER'] === 'full';

// `name`: what the script is about; `checks`: how many properties it reports.
const scripts: { script: string; args: string[]; checks: number }[] = [
  { script: 'hazards.mjs', args: [], checks: 50 },
  { script: 'workers.mjs', args: [], checks: 11 },
  { script: 'files.mjs', args: [], checks: 17 },
  { script: 'copies.mjs', args: [], checks: 3 },
  { script: 'recordings.mjs', args: [], checks: 25 },
  { script: 'terminate.mjs', args: [full ? '500' : '100'], checks: 2 },
  ...(full ? [1, 2, 3, 4, 5, 6, 7, 8] : [1]).map((seed) => ({
    script: 'arguments.mjs',
    args: [String(seed)],
    checks: 2,
  })),
];

test.each(scripts)('$script $args', async ({ script, args, checks }) => {
  const ended = await runScript(import.meta.url, script, args);
  expect(
    checksOf(ended).filter((check) => !check.ok),
    ended.stdout,
  ).toEqual([]);
  expect(ended).toMatchObject({ status: 0, signal: null });
  expect(checksOf(ended)).toHaveLength(checks);
});

describe('a process ends with work and a read queued', () => {
  const rounds = full ? 200 : 50;
  const ends: { how: string; status: number | null; signal: string | null; times: number }[] = [
    { how: 'exit', status: 7, signal: null, times: rounds },
    { how: 'throw', status: 1, signal: null, times: rounds / 5 },
    { how: 'reject', status: 1, signal: null, times: rounds / 5 },
    { how: 'term', status: null, signal: 'SIGTERM', times: rounds / 5 },
    { how: 'natural', status: 7, signal: null, times: 5 },
    { how: 'unread', status: 7, signal: null, times: 5 },
  ];
  test.each(ends)('$how, $times times', async ({ how, status, signal, times }) => {
    for (let i = 0; i < times; i++) {
      const ended = await runScript(import.meta.url, 'exit-child.mjs', [how]);
      expect({ status: ended.status, signal: ended.signal }, ended.stderr).toEqual({ status, signal });
    }
  });
});

describe('the environment', () => {
  const script = 'environment.mjs';
  test.each([
    [{ FOVEA_NUM_THREADS: '3' }, 'threads', 3],
    [{ FOVEA_NUM_THREADS: '1' }, 'threads', 1],
    [{ FOVEA_MEMORY_LIMIT_MB: '256' }, 'limitBytes', 256 * 2 ** 20],
  ])('%o', async (env, name, value) => {
    const ended = await runScript(import.meta.url, script, [], env);
    expect(JSON.parse(ended.stdout)).toMatchObject({ [name]: value, sum: 6 });
  });
  test.each(['FOVEA_NUM_THREADS', 'FOVEA_MEMORY_LIMIT_MB', 'FOVEA_ISA'])('%s with nonsense says so', async (name) => {
    const ended = await runScript(import.meta.url, script, [], { [name]: 'nonsense' });
    expect(ended.status).toBe(1);
    expect(ended.stderr).toContain('FOVEA_ARGUMENT');
    expect(ended.stderr).toContain(`${name} is "nonsense"`);
  });
});
