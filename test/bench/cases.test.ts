// The list of cases that npm run bench and npm run bench:peers time, and that every one of them runs.
import { execFileSync } from 'node:child_process';
import { describe, expect, test } from 'vitest';
import { bench, load } from './load.js';

const { benchCases, chosenCases, groups, dtypes, bytesOf } = await load('cases.mjs');
const { median, callsFor } = await load('timing.mjs');
const { limitOf } = await load('limits.mjs');
const GIB = 2 ** 30;

describe.each([
  ['full', benchCases({ memory: 32 * GIB })],
  ['tiny', benchCases({ tiny: true })],
])('%s cases', (_, cases) => {
  test('have names of their own, known groups and dtypes', () => {
    expect(new Set(cases.map(({ id }) => id)).size).toBe(cases.length);
    expect(new Set(cases.map(({ group }) => group))).toEqual(new Set(groups));
    expect(cases.filter(({ dtype }) => !dtypes.includes(dtype))).toEqual([]);
    expect(cases.filter(({ id, dtype }) => !id.endsWith(dtype))).toEqual([]);
  });

  test('say their work and what bounds it, but for those of JavaScript', () => {
    for (const { id, group, work, limit } of cases) {
      if (group === 'js') expect([id, work, limit]).toEqual([id, undefined, undefined]);
      else
        expect([id, Number(work) > 0, ['fma', 'bf16', 'int8', 'copy', 'read'].includes(String(limit))]).toEqual([
          id,
          true,
          true,
        ]);
    }
  });

  test('are plain data', () => {
    expect(JSON.parse(JSON.stringify(cases))).toEqual(cases);
  });
});

describe('cases', () => {
  const cases = benchCases({ memory: 32 * GIB });
  const find = (id: string) => cases.find((one) => one.id === id);

  test('count work as formulas have it', () => {
    expect(find('matmul 512 x 4096 x 4096 bfloat16')).toMatchObject({ work: 2 * 512 * 4096 * 4096, limit: 'bf16' });
    expect(find('linear 2 x 4096 x 4096 float16')).toMatchObject({ work: 2 * 4096 * 4096, limit: 'read' });
    expect(find('gelu 64 MB bfloat16')).toMatchObject({ work: 2 * 64 * 2 ** 20, limit: 'copy' });
    expect(find('attention S 2048, H 12, D 64, causal float32')?.work).toBe(2 * 12 * 2048 * 2048 * 64);
    // 124.4 million parameters: three of four tensors of each are read and written.
    expect(find('AdamW GPT-2, 124 M parameters float32')?.work).toBe(7 * 4 * 124_439_808);
  });

  test('what is read once turns over at least 256 MiB', () => {
    const once = cases.filter(({ group, label }) => group === 'gemv' || label.startsWith('one query'));
    expect(once.length).toBe(27);
    for (const { id, work, sets } of once) expect([id, Number(work) * Number(sets) >= 2 ** 28]).toEqual([id, true]);
  });

  test('attention has the lengths that are asked for, and one query whose heads share keys', () => {
    const ids = chosenCases({ group: 'attention' }).map(({ id }) => id);
    const lengths = [1024, 2048, 4096];
    for (const dtype of ['float32', 'bfloat16']) {
      const both = (text: string) => [`attention ${text} ${dtype}`, `attention ${text}, causal ${dtype}`];
      expect(ids).toEqual(
        expect.arrayContaining([
          ...[128, 512, ...lengths, 8192].flatMap((n) => both(`S ${n}, H 12, D 64`)),
          ...lengths.flatMap((n) => both(`S ${n}, H 32, D 128`)),
          ...lengths.map((n) => `attention S ${n}, H 12, D 64, forward and backward ${dtype}`),
          `attention one query, 4096 keys, B 1, H 32/8, D 128 ${dtype}`,
        ]),
      );
    }
  });

  test('each fused case is beside a composed one of the same work', () => {
    const fused = chosenCases({ group: 'fused' });
    const composed = fused.filter(({ beside }) => beside !== undefined);
    expect(composed.length).toBe(fused.length / 2);
    for (const { id, beside, kind, work } of composed)
      expect([id, kind.startsWith('composed'), work]).toEqual([id, true, find(String(beside))?.work]);
  });

  test('the same products for each dtype', () => {
    const labels = (dtype: string) => chosenCases({ group: 'matmul,gemv', dtype }).map(({ label }) => label);
    expect(labels('bfloat16')).toEqual(labels('float16'));
    expect(labels('float32')).toEqual(expect.arrayContaining(labels('float16')));
    expect(bytesOf).toEqual({ float32: 4, bfloat16: 2, float16: 2 });
  });

  test('logits are fewer where memory is small', () => {
    const rows = (memory: number) => benchCases({ memory }).find(({ group }) => group === 'loss')?.rows;
    expect([rows(8 * GIB), rows(32 * GIB)]).toEqual([2048, 8192]);
  });

  test('are chosen by group, dtype and a part of the name', () => {
    const chosen = chosenCases({ group: 'rows,loss', dtype: 'bfloat16', filter: 'SOFTMAX' });
    expect(chosen.map(({ op }) => op)).toEqual(['softmax', 'logSoftmax']);
    expect(() => chosenCases({ group: 'row' })).toThrow(/--group: expected some of matmul, .*received row$/);
    expect(() => chosenCases({ dtype: 'int4' })).toThrow(/--dtype/);
    expect(() => chosenCases({ filter: 'no such case' })).toThrow(/no case is left/);
  });
});

describe('timing', () => {
  test('median', () => {
    expect([median([3, 1, 2]), median([4, 1, 3, 2]), median([7])]).toEqual([2, 2.5, 7]);
  });

  test('as many calls as fill the time; a batch that has a size of its own keeps it', async () => {
    const batch = async (count: number) => 0.5 * count;
    expect(await callsFor({ batch }, 40)).toBe(80);
    expect(await callsFor({ batch: async (count) => 900 * count }, 40)).toBe(1);
    expect(await callsFor({ batch, count: 64 }, 40)).toBe(64);
  });

  test('bfloat16 is bounded by float32 where the processor has no products of it', () => {
    expect(limitOf({ limit: 'bf16' }, { fma: 1 })).toBe('fma');
    expect(limitOf({ limit: 'bf16' }, { fma: 1, bf16: 1 })).toBe('bf16');
    expect(limitOf({}, { fma: 1 })).toBeUndefined();
  });
});

interface Result {
  id: string;
  milliseconds: number;
  rate?: number;
  limitRate?: number;
  share?: number;
}

test('every case runs at a tiny size', () => {
  const output = execFileSync(process.execPath, [bench('run.mjs'), '--tiny', '--json'], { encoding: 'utf8' });
  const { results } = JSON.parse(output) as { results: Result[] };
  const cases = benchCases({ tiny: true });
  expect(results.map(({ id }) => id)).toEqual(cases.map(({ id }) => id));
  for (const [i, { id, milliseconds, rate = 0, limitRate = 0, share = 0 }] of results.entries()) {
    expect([id, milliseconds > 0 && Number.isFinite(milliseconds)]).toEqual([id, true]);
    const { work } = cases[i]!;
    if (work === undefined) continue;
    expect(rate).toBeCloseTo(work / (milliseconds / 1e3), 0);
    expect(share).toBeCloseTo(rate / limitRate, 10);
  }
});

test('an option that is none is refused in a sentence', () => {
  const run = () => execFileSync(process.execPath, [bench('run.mjs'), '--group', 'gem'], { stdio: 'pipe' });
  expect(run).toThrow(/bench: --group: expected some of .*, received gem/);
});
