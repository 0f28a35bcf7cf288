// No op is exported without a row, and no row stands for an op that is gone.
import { functional } from 'fovea';
import { describe, expect, it } from 'vitest';
import { listOf, type Row } from './row.js';
import { build, values } from './samples.js';
import { elsewhere } from './elsewhere.js';
import { table } from './table.js';

describe('the op table', () => {
  const exported = Object.entries(functional)
    .filter(([, f]) => typeof f === 'function')
    .map(([name]) => name);
  it('has a row, or a suite of its own, for every exported function', () => {
    const known = new Set([...table.map((row) => row.name), ...Object.keys(elsewhere)]);
    expect(exported.filter((name) => !known.has(name))).toEqual([]);
  });
  it('has no row for what is not exported, and none twice', () => {
    const names = table.map((row) => row.name);
    expect(names.filter((name) => !exported.includes(name))).toEqual([]);
    expect(names.filter((name, i) => names.indexOf(name) !== i)).toEqual([]);
  });
});

/** Runs an op's last samples twenty times: bit-equal each time. */
const repeats = (row: Row): void => {
  for (const sample of row.samples.slice(-2)) {
    const built = sample.inputs.map((spec, i) => build(spec, row.dtypes[0]!, 31 * i + 7).tensor);
    const once = (): string =>
      listOf(row.run(built, sample.args ?? {}))
        .map((t) => Buffer.from(new Float64Array(values(t).data).buffer).toString('base64'))
        .join();
    const first = once();
    for (let i = 1; i < 20; i++) expect(once() === first, `${row.name} ${sample.label} run ${i}`).toBe(true);
  }
};
describe('twenty runs are bit-equal', () => {
  it.each(table.map((row) => [row.name, row] as const))('%s', (_, row) => repeats(row));
});
