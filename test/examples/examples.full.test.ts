// What the examples claim, at the size at which users run them.
import { expect, test } from 'vitest';
import { expectReport, expectSvg, numbersOf, runExample } from './run-example.js';

test('seq2seq-reverse: at least 99 % of the tokens, looking along the anti-diagonal', () => {
  const run = runExample('seq2seq-reverse');
  expectSvg(run.written);
  for (const kind of ['Bahdanau', 'Luong']) {
    const [, right, mirrored, monotonicity] = numbersOf(run, kind);
    expect(right, kind).toBeGreaterThanOrEqual(0.99);
    // Chance is one in ten.
    expect(mirrored, kind).toBeGreaterThan(0.9);
    expect(monotonicity, kind).toBeLessThan(0.1);
  }
});

test('scoring: products without weights fail on keys from another space, learnt maps do not', () => {
  const run = runExample('scoring');
  expectSvg(run.written);
  const rows = ['dot', 'scaledDot', 'general', 'concat', 'additive'].map((kind) => numbersOf(run, kind));
  for (const row of rows) expect(row[3]).toBeGreaterThan(0);
  const [same, other] = [1, 2].map((column) => rows.map((row) => row[column]!)) as [number[], number[]];
  expect(Math.min(...same)).toBeGreaterThan(0.85);
  // Weights of scaled products are smeared, of general ones as sharp as they should be.
  expect(same[1]).toBeLessThan(Math.min(same[0]!, same[2]!) - 0.02);
  // By chance one in eight.
  expect(Math.max(...other.slice(0, 2))).toBeLessThan(0.25);
  expect(Math.min(...other.slice(2))).toBeGreaterThan(0.95);
});

test('heads: four places need four heads, of any width', () => {
  const run = runExample('heads');
  expectReport(run.written);
  const rows = ['1', '4', '8', '16'].map((heads) => numbersOf(run, heads));
  expect(new Set(rows.map((row) => row[1])).size).toBe(1);
  const worst = rows.map((row) => Math.min(...row.slice(3, 7)));
  expect(worst[0]).toBeLessThan(0.2);
  for (const share of worst.slice(1)) expect(share).toBeGreaterThan(0.85);
});

test('longformer: 16,384 tokens, all of which know the key', () => {
  const run = runExample('longformer');
  expectSvg(run.written);
  expect(run.stdout).toContain('16384 tokens');
  expect(numbersOf(run, 'after 10 steps with long ones')[0]).toBeGreaterThan(0.95);
  expect(numbersOf(run, 'without the global token')[0]).toBeLessThan(0.25);
  const [near, full] = ['window and global token', 'full attention'].map((kind) => numbersOf(run, kind));
  expect(near![0]! + near![1]!).toBeLessThan((full![0]! + full![1]!) / 3);
});

test('induction: the loss of repeated tokens falls when the head forms, which the classifier finds', () => {
  const run = runExample('induction');
  expectReport(run.written);
  const reports = run.rows.filter((row) => /^\d+$/.test(row[0]!) && row.length === 6);
  expect(reports).toHaveLength(12);
  for (const [step, , repeated, , score, pattern] of reports) {
    // Either both have happened, or neither.
    const learnt = Number(repeated) < 1.5;
    expect(Number(score) >= 0.5, step).toBe(learnt);
    expect(pattern === 'induction', step).toBe(learnt);
  }
  expect(Number(reports.at(-1)![2])).toBeLessThan(0.3);
  expect(run.stdout).toMatch(/^layers\.1: .*induction/m);
  expect(Number(/without induction heads: (\d+\.\d+)/.exec(run.stdout)![1])).toBeGreaterThan(2.5);
});
