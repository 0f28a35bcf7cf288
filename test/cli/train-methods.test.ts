// What a config may have learnt, and by what: Sophia's curvature, a teacher, a normaliser.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { config, configFolder } from './configs.ts';

const { folder, write, fovea, events, weights } = configFolder();

test.each([
  ['gaussNewtonBartlett', 'text'],
  ['hutchinson', 'text'],
  ['gaussNewtonBartlett', 'pairs'],
  ['hutchinson', 'pairs'],
])('Sophia learns by %s from %s, and goes on to the bit', { timeout: 120_000 }, (estimator, kind) => {
  writeFileSync(join(folder, 'lines.tsv'), Array.from({ length: 60 }, (_, i) => `${i}\t${i % 7}\n`).join(''));
  const sizes = { dModel: 16, nHead: 2, numEncoderLayers: 1, numDecoderLayers: 1, dimFeedforward: 32 };
  const subject = kind === 'text' ? { text: 'notes', model: config.model } : { pairs: 'lines.tsv', model: sizes };
  const optimizer = { type: 'Sophia', lr: 5e-3, estimator, estimateEvery: 2 };
  const schedule = { type: 'constant' };
  const given = { ...subject, optimizer, schedule, steps: 8, batchSize: 4, folder: `sophia-${kind}-${estimator}` };
  const { stderr, status } = fovea('train', write('sophia.json', given));
  const [, after, before] = /(\d+\.\d+) bits per token after 8 steps, (\d+\.\d+)/.exec(stderr)!;
  expect(Number(after)).toBeLessThan(Number(before));
  expect(status).toBe(0);
  const part = `${given.folder}-part`;
  expect(fovea('train', write('some.json', { ...given, steps: 3, folder: part })).status).toBe(0);
  expect(fovea('train', write('more.json', { ...given, folder: part })).stderr).toMatch(/resumed from step 3/);
  expect(weights(part).equals(weights(given.folder))).toBe(true);
  const rarely = { ...given, optimizer: { ...optimizer, estimateEvery: 8 }, folder: `${part}-rarely` };
  expect(fovea('train', write('rarely.json', rarely)).status).toBe(0);
  expect(weights(rarely.folder).equals(weights(given.folder))).toBe(false);
});

test('a teacher teaches, a normaliser is held, and evaluations measure the text', { timeout: 120_000 }, () => {
  const given = { text: 'notes', model: config.model, steps: 4, batchSize: 4, evaluateEvery: 1 };
  const losses = (run: string): { loss: number }[] =>
    events(run).filter(({ event }) => event === 'step' || event === 'evaluation');
  const run = (name: string, more: object): string =>
    fovea('train', write('taught.json', { ...given, folder: name, ...more })).stderr;
  const bits = (text: string): string => /, (\d+\.\d+) before/.exec(text)![1]!;
  const plain = run('untaught', {});
  const distillation = { teacher: 'untaught/model', temperature: 3, alpha: 0.8 };
  const taught = run('taught', { distillation, zLoss: 1e-3 });
  // The same model before the first step, measured alike, though it learns something else.
  expect(bits(taught)).toBe(bits(plain));
  expect(losses('taught')[0]).not.toEqual(losses('untaught')[0]);
  // With the whole weight on the text, and none on the normaliser, distillation is the text alone.
  run('only-text', { distillation: { teacher: 'untaught/model', alpha: 0 }, zLoss: 0 });
  for (const [i, { loss }] of losses('only-text').entries()) expect(loss).toBeCloseTo(losses('untaught')[i]!.loss, 4);
  const other = { ...given, model: { ...config.model, context: 32 }, folder: 'long', distillation };
  expect(fovea('train', write('long.json', other)).stderr).toMatch(
    /the teacher .*model has 257 tokens and 16 positions, expected the student's 257 and at least 32/,
  );
});
