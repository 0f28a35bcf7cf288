// What an op refuses: with which code, and whether the message says what was wrong.
import { FoveaError } from 'fovea';
import { describe, expect, it } from 'vitest';
import { table } from './table.js';

describe.each(table.map((row) => [row.name, row] as const))('%s refuses', (_, row) => {
  it.each(row.errors.map((e) => [e.label, e] as const))('%s', (__, { run, code, mentions }) => {
    let thrown: unknown;
    try {
      run();
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(FoveaError);
    expect((thrown as FoveaError).code).toBe(code);
    expect((thrown as FoveaError).message).toMatch(mentions);
  });
});

describe('any argument', () => {
  const odd: unknown[] = [
    undefined,
    null,
    true,
    0,
    -1,
    Number.NaN,
    2 ** 53,
    10n,
    '',
    'x',
    Symbol('s'),
    {},
    [],
    [1],
    [[1]],
    new Map(),
    new Date(0),
    () => 1,
    /x/,
    new Float32Array(2),
    new ArrayBuffer(4),
    Promise.resolve(1),
    new Proxy({}, {}),
    Object.create(null),
    class {},
  ];
  it.each(table.map((row) => row.name))('%s never crashes', async (name) => {
    const { functional } = await import('fovea');
    const f = (functional as unknown as Record<string, (...args: unknown[]) => unknown>)[name]!;
    for (const a of odd) {
      for (const rest of [[], [a], [a, a], [0, a, a]]) {
        try {
          await f(a, ...rest);
        } catch (error) {
          expect(error, `${name}(${typeof a})`).toBeInstanceOf(FoveaError);
        }
      }
    }
  });
});
