// Every example at the size that takes seconds: it runs, writes its picture, and what it claims holds where that
// needs no long training; examples.full.test.ts has the rest.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { expectReport, expectSvg, numbersOf, runExample } from './run-example.js';

test.each([
  ['small', ['--tiny']],
  ['full size', []],
])('self-attention, %s: as the kernel, equivariant, blind to order without positions', (_, size) => {
  const run = runExample('self-attention', ...size);
  expectSvg(run.written);
  const same = ['from scratch and fused, output', 'from scratch and fused, gradient'];
  const moved = ['outputs of permuted tokens and permuted outputs', 'dog bites man and man bites dog, no positions'];
  for (const what of [...same, ...moved]) expect(numbersOf(run, what)[0], what).toBeLessThan(1e-5);
  for (const positions of ['sinusoidal', 'rotary'])
    expect(numbersOf(run, `dog bites man and man bites dog, ${positions}`)[0], positions).toBeGreaterThan(0.1);
});

test('seq2seq-reverse: learns to reverse short sequences with either attention', () => {
  const run = runExample('seq2seq-reverse', '--tiny');
  expectSvg(run.written);
  for (const kind of ['Bahdanau', 'Luong']) expect(numbersOf(run, kind)[1], kind).toBeGreaterThan(0.9);
});

test('scoring: weights of a sentence; only what learns a map finds keys from another space', () => {
  const run = runExample('scoring', '--tiny');
  expectSvg(run.written);
  const from = run.rows.findIndex(([first]) => first === 'mat looks at');
  const words = run.rows.slice(from + 1, from + 7);
  expect(words.map(([word]) => word)).toEqual(['the', 'cat', 'sat', 'on', 'the', 'mat']);
  expect(words[0]).toEqual(words[4]);
  for (const column of [1, 2, 3, 4, 5])
    expect(words.reduce((sum, cells) => sum + Number(cells[column]), 0)).toBeCloseTo(1, 2);
  const right = (kind: string): number[] => numbersOf(run, kind).slice(1, 3);
  const [plain, scaled] = ['dot', 'scaledDot'].map(right) as [number[], number[]];
  expect(plain[0]).toBeGreaterThan(0.8);
  for (const kind of ['general', 'concat', 'additive']) {
    // By chance one in four.
    const other = right(kind)[1]!;
    expect(other, kind).toBeGreaterThan(0.6);
    expect(other, kind).toBeGreaterThan(Math.max(plain[1]!, scaled[1]!) + 0.2);
  }
});

test('heads: one cannot look at four places apart, four can, with as many parameters', () => {
  const run = runExample('heads', '--tiny');
  expectReport(run.written);
  const [one, four] = ['1', '4'].map((heads) => numbersOf(run, heads));
  expect(one![1]).toBe(four![1]);
  const right = (row: number[]): number[] => row.slice(3, 7);
  expect(Math.min(...right(one!))).toBeLessThan(0.5);
  expect(Math.min(...right(four!))).toBeGreaterThan(0.9);
});

test('longformer: a task that its global token alone can do', () => {
  const run = runExample('longformer', '--tiny');
  expectSvg(run.written);
  expect(numbersOf(run, 'after 3 steps with long ones')[0]).toBeGreaterThan(0.9);
  expect(numbersOf(run, 'without the global token')[0]).toBeLessThan(0.5);
  for (const kind of ['window and global token', 'full attention'])
    expect(numbersOf(run, kind).every((x) => x > 0)).toBe(true);
});

test('induction: a head forms, and is named', () => {
  const run = runExample('induction', '--tiny');
  expectReport(run.written);
  expect(run.rows.at(-1)).toEqual(['']);
  expect(numbersOf(run, '400')[1]).toBeLessThan(numbersOf(run, '100')[1]! / 2);
  expect(run.stdout).toMatch(/^layers\.1: .*induction/m);
});

test('each example is tested here', () => {
  const files = readdirSync(join(import.meta.dirname, '../../examples')).filter((name) => name.endsWith('.mjs'));
  const names = ['heads', 'induction', 'longformer', 'scoring', 'self-attention', 'seq2seq-reverse', 'shared'];
  expect(files.sort()).toEqual(names.map((name) => `${name}.mjs`));
});
