// Beam search against the search of everything, on tables of probabilities.
import { array, assert, asyncProperty, double, integer } from 'fast-check';
import { tensor, type Tensor } from 'fovea';
import { beamSearch, type Hypothesis } from 'fovea/generate';
import { describe, expect, it } from 'vitest';

const end = 0;

/** Log-probabilities of the next token by the last one. */
type Table = readonly (readonly number[])[];

function tableOf(weights: readonly (readonly number[])[]): Table {
  return weights.map((row) => {
    const total = row.reduce((sum, w) => sum + Math.exp(w), 0);
    return row.map((w) => w - Math.log(total));
  });
}
/** What follows the last token of each row. */
const nextBy =
  (table: Table) =>
  (tokens: Tensor): Tensor => {
    const last = tokens.select(1, tokens.shape[1]! - 1).dataSync() as BigInt64Array;
    return tensor(Array.from(last, (token) => [...table[Number(token)]!]));
  };

/** The best of all hypotheses of at most `length` tokens. */
function best(table: Table, start: number, length: number, penalty: number): Hypothesis {
  const all: Hypothesis[] = [];
  const grow = (tokens: number[], sum: number): void => {
    const last = tokens.at(-1) ?? start;
    if (tokens.length > 0 && (last === end || tokens.length === length))
      return void all.push({ tokens, score: sum / tokens.length ** penalty });
    for (const [token, p] of table[last]!.entries()) grow([...tokens, token], sum + p);
  };
  grow([], 0);
  return all.toSorted((a, b) => b.score - a.score)[0]!;
}

const tables = integer({ min: 2, max: 4 })
  .chain((n) =>
    array(array(double({ min: -3, max: 3, noNaN: true }), { minLength: n, maxLength: n }), {
      minLength: n,
      maxLength: n,
    }),
  )
  .map(tableOf);

describe('beamSearch', () => {
  it('finds the best of all where there are beams for all', async () => {
    await assert(
      asyncProperty(tables, integer({ min: 1, max: 4 }), async (table, length) => {
        const wanted = best(table, 1, length, 0);
        const [found] = await beamSearch(nextBy(table), {
          start: [[1]],
          maxNewTokens: length,
          numBeams: table.length ** length,
          lengthPenalty: 0,
          eosTokenIds: [end],
        });
        expect(found!.score).toBeCloseTo(wanted.score, 4);
      }),
      { numRuns: 50 },
    );
  });

  it('is greedy with one beam', async () => {
    await assert(
      asyncProperty(tables, async (table) => {
        const wanted: number[] = [];
        while (wanted.length < 6 && wanted.at(-1) !== end) {
          const row = table[wanted.at(-1) ?? 1]!.map(Math.fround);
          wanted.push(row.indexOf(Math.max(...row)));
        }
        const [found] = await beamSearch(nextBy(table), { start: [[1]], maxNewTokens: 6, eosTokenIds: [end] });
        expect(found!.tokens).toEqual(wanted);
      }),
      { numRuns: 50 },
    );
  });

  it('finds what greed misses, and prefers longer ones by the penalty', async () => {
    // 1 goes to 2 or 3; 3 is less likely, but what follows it is sure.
    const table = tableOf([
      [0, -9, -9, -9],
      [-9, -9, 0.2, 0],
      [0, 0, 0, 0],
      [5, -9, -9, -9],
    ]);
    const ask = { start: [[1]], maxNewTokens: 3, eosTokenIds: [end] };
    const [greedy] = await beamSearch(nextBy(table), ask);
    const [beam] = await beamSearch(nextBy(table), { ...ask, numBeams: 3 });
    expect(greedy!.tokens[0]).toBe(2);
    expect(beam!.tokens).toEqual([3, end]);
    expect(beam!.score).toBeGreaterThan(greedy!.score);
    const short = await beamSearch(nextBy(table), { ...ask, numBeams: 3, lengthPenalty: -2 });
    const long = await beamSearch(nextBy(table), { ...ask, numBeams: 3, lengthPenalty: 4 });
    expect(long[0]!.tokens.length).toBeGreaterThanOrEqual(short[0]!.tokens.length);
  });

  it('keeps sequences apart', async () => {
    const table = tableOf([
      [0, 0, 0],
      [3, 0, 0.5],
      [0, 2, 0],
    ]);
    const ask = { maxNewTokens: 5, numBeams: 2, eosTokenIds: [end] };
    const both = await beamSearch(nextBy(table), { ...ask, start: [[1], [2]] });
    const alone = await Promise.all([1, 2].map((t) => beamSearch(nextBy(table), { ...ask, start: [[t]] })));
    expect(both).toEqual(alone.flat());
  });

  it('says which row each row continues', async () => {
    await assert(
      asyncProperty(tables, integer({ min: 1, max: 4 }), async (table, numBeams) => {
        let before: number[][] = [];
        const next = (tokens: Tensor, sequence: readonly number[], parents: readonly number[]): Tensor => {
          const rows = tokens.toArraySync() as bigint[][];
          expect(parents.length).toBe(rows.length);
          if (before.length === 0) expect(parents).toEqual(sequence);
          else for (const [r, row] of rows.entries()) expect(row.slice(0, -1).map(Number)).toEqual(before[parents[r]!]);
          before = rows.map((row) => row.map(Number));
          return nextBy(table)(tokens);
        };
        const start = [[1], [0], [1]];
        await beamSearch(next, { start, numBeams, maxNewTokens: 5, eosTokenIds: [end] });
        expect(before.length).toBeGreaterThan(0);
      }),
      { numRuns: 50 },
    );
  });

  it('says what is wrong', async () => {
    const next = nextBy(tableOf([[0, 0]]));
    const ask = { start: [[1]], eosTokenIds: [end] };
    await expect(beamSearch(next, { ...ask, numBeams: 0 })).rejects.toThrow(/beamSearch: .*numBeams/);
    await expect(beamSearch(next, { ...ask, start: [[1], [1, 1]] })).rejects.toThrow(/start/);
    await expect(beamSearch(() => tensor([[Number.NaN, 1]]), ask)).rejects.toThrow(/NaN/);
    await expect(beamSearch(next, { ...ask, signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: 'FOVEA_ABORTED',
    });
  });
});
