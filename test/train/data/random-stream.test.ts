// Random numbers of data: the bits of the library's generator, and streams that do not depend on each other.
import { Generator, rand } from 'fovea';
import { RandomStream } from 'fovea/train';
import { expect, test } from 'vitest';
import { list } from '../../helpers.js';
import { range } from './collect.ts';

test('known answers of Philox-4x32-10, counter and key 0', () => {
  const random = new RandomStream(0);
  expect([1, 2, 3, 4].map(() => random.uint32())).toEqual([0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
});

test.each([1, 12345, 2 ** 40 + 17, 2 ** 53 - 1])('the words of a Generator with seed %d', (seed) => {
  const random = new RandomStream(seed);
  const words = range(1001).map(() => (random.uint32() >>> 8) / 2 ** 24);
  expect(list(rand([1001], { generator: new Generator(seed) }))).toEqual(words);
});

test('a path is a stream of its own', () => {
  const words = (...path: number[]): string => {
    const random = new RandomStream(3, ...path);
    return range(4)
      .map(() => random.uint32())
      .join();
  };
  const paths = [[], [0], [1], [0, 0], [0, 1], [1, 0], [2 ** 40], [0, 0, 0]];
  expect(words(1, 0)).toBe(words(1, 0));
  expect(new Set(paths.map((path) => words(...path))).size).toBe(paths.length);
});

test('uniform numbers are uniform, in one stream and over many', () => {
  const one = new RandomStream(1);
  for (const draw of [() => one.uniform(), (i: number) => new RandomStream(1, i).uniform()]) {
    const n = 40_000;
    const bins = new Array<number>(16).fill(0);
    for (let i = 0; i < n; i++) bins[Math.floor(draw(i) * 16)]!++;
    const chiSquare = bins.reduce((sum, count) => sum + (count - n / 16) ** 2 / (n / 16), 0);
    // 15 degrees of freedom: beyond 40 with probability 5e-4, below 2.7 with 2e-4.
    expect(chiSquare).toBeLessThan(40);
    expect(chiSquare).toBeGreaterThan(2.7);
  }
});

test('every order of three is equally likely', () => {
  const counts = new Map<string, number>();
  for (let i = 0; i < 12_000; i++) {
    const order = new RandomStream(5, i).shuffle([0, 1, 2]).join('');
    counts.set(order, (counts.get(order) ?? 0) + 1);
  }
  expect([...counts.keys()].sort()).toEqual(['012', '021', '102', '120', '201', '210']);
  // Within five deviations of 2000.
  for (const count of counts.values()) expect(Math.abs(count - 2000)).toBeLessThan(5 * Math.sqrt(2000 * (5 / 6)));
});

test.each([-1, 1.5, Number.NaN, 2 ** 53, '1'])('refuses the seed %s', (seed) => {
  expect(() => new RandomStream(seed as number)).toThrow(/RandomStream: expected an integer of at least 0 for seed/);
  expect(() => new RandomStream(0, 1, seed as number)).toThrow(/for path\[1\]/);
});
