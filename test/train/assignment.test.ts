// linearSumAssignment against the best of all assignments.
import * as fc from 'fast-check';
import { train } from 'fovea';
import { describe, expect, it } from 'vitest';
import { codeOf } from '../helpers.js';

const { linearSumAssignment } = train;

/** The least sum of all assignments of rows to distinct columns, by subsets of columns; Infinity if there is none. */
function bestOfAll(cost: number[][]): number {
  const [r, c] = [cost.length, cost[0]?.length ?? 0];
  const [few, many] = [Math.min(r, c), Math.max(r, c)];
  const at = (i: number, j: number): number => (r <= c ? cost[i]![j]! : cost[j]![i]!);
  let best = new Map([[0, 0]]);
  for (let i = 0; i < few; i++) {
    const next = new Map<number, number>();
    for (const [taken, sum] of best)
      for (let j = 0; j < many; j++) {
        if (taken & (1 << j) || at(i, j) === Infinity) continue;
        const now = taken | (1 << j);
        next.set(now, Math.min(next.get(now) ?? Infinity, sum + at(i, j)));
      }
    best = next;
  }
  return Math.min(Infinity, ...best.values());
}
function expectBest(cost: number[][], rows: number[], columns: number[], wanted: number): void {
  const pairs = Math.min(cost.length, cost[0]?.length ?? 0);
  expect(rows).toHaveLength(pairs);
  expect(new Set(columns).size).toBe(pairs);
  expect(rows).toEqual([...new Set(rows)].sort((a, b) => a - b));
  const sum = rows.reduce((total, i, at) => total + cost[i]![columns[at]!]!, 0);
  expect(Math.abs(sum - wanted)).toBeLessThanOrEqual(1e-9 * Math.max(1, Math.abs(wanted)));
}
const matrix = (value: fc.Arbitrary<number>): fc.Arbitrary<number[][]> =>
  fc
    .tuple(fc.integer({ min: 1, max: 8 }), fc.integer({ min: 1, max: 8 }))
    .chain(([r, c]) => fc.array(fc.array(value, { minLength: c, maxLength: c }), { minLength: r, maxLength: r }));

describe('linearSumAssignment', () => {
  it.each([
    ['any numbers', fc.double({ min: -1e6, max: 1e6, noNaN: true })],
    ['ties', fc.integer({ min: -2, max: 2 })],
    ['zeros of both signs', fc.constantFrom(0, -0, 1)],
    ['pairs ruled out', fc.oneof(fc.integer({ min: -5, max: 5 }), fc.constant(Infinity))],
    ['few pairs', fc.oneof(fc.integer({ min: 0, max: 3 }), fc.constant(Infinity), fc.constant(Infinity))],
  ])('is the best of all for %s', (_, value) => {
    fc.assert(
      fc.property(matrix(value), (cost) => {
        const wanted = bestOfAll(cost);
        if (wanted === Infinity) {
          expect(codeOf(() => linearSumAssignment(cost))).toBe('FOVEA_ARGUMENT');
          return;
        }
        const { rows, columns } = linearSumAssignment(cost);
        expectBest(cost, rows, columns, wanted);
        const gains = cost.map((row) => row.map((v) => -v));
        const most = linearSumAssignment(gains, { maximize: true });
        expectBest(cost, most.rows, most.columns, wanted);
      }),
      { numRuns: 300 },
    );
  });

  it('takes typed arrays, and no rows or columns', () => {
    const cost = [Float32Array.of(4, 1, 3), Float32Array.of(2, 0, 5), Float32Array.of(3, 2, 2)];
    expect(linearSumAssignment(cost)).toEqual({ rows: [0, 1, 2], columns: [1, 0, 2] });
    expect(linearSumAssignment([])).toEqual({ rows: [], columns: [] });
    expect(linearSumAssignment([[], []])).toEqual({ rows: [], columns: [] });
  });

  it('is fast enough for hundreds', () => {
    const n = 300;
    const cost = Array.from({ length: n }, (_, i) => Array.from({ length: n }, (__, j) => ((i + 1) * (j + 1)) % 1009));
    const { columns } = linearSumAssignment(cost);
    // No worse than the best of many swaps: an optimal assignment cannot be improved by exchanging two columns.
    for (let i = 0; i < n; i++)
      for (let k = 0; k < i; k++) {
        const [p, q] = [columns[i]!, columns[k]!];
        expect(cost[i]![p]! + cost[k]![q]!).toBeLessThanOrEqual(cost[i]![q]! + cost[k]![p]!);
      }
  });

  it.each([
    ['no list', () => linearSumAssignment(3 as never), 'FOVEA_ARGUMENT'],
    ['a row that is none', () => linearSumAssignment([[1], null] as never), 'FOVEA_ARGUMENT'],
    ['strings', () => linearSumAssignment([['1']] as never), 'FOVEA_ARGUMENT'],
    ['rows of unequal lengths', () => linearSumAssignment([[1, 2], [3]]), 'FOVEA_SHAPE'],
    ['NaN', () => linearSumAssignment([[Number.NaN]]), 'FOVEA_NAN'],
    ['an infinite gain', () => linearSumAssignment([[-Infinity]]), 'FOVEA_NAN'],
    ['an infinite gain to be maximised', () => linearSumAssignment([[Infinity]], { maximize: true }), 'FOVEA_NAN'],
    ['a misspelt option', () => linearSumAssignment([[1]], { maximise: true } as never), 'FOVEA_ARGUMENT'],
  ] as const)('refuses %s', (_, run, code) => {
    expect(codeOf(run)).toBe(code);
  });

  it('names what cannot be assigned', () => {
    const tall = [
      [1, Infinity],
      [2, Infinity],
      [3, Infinity],
    ];
    expect(() => linearSumAssignment(tall)).toThrow(/column 1 of 3 × 2 costs.*finite/);
    expect(() => linearSumAssignment([[Infinity, Infinity]])).toThrow(/row 0 of 1 × 2/);
  });
});
