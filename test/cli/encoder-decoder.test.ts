// Encoders and decoders on the command line: batches by tokens, spans that are restored, and what the models say.
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { tensor } from 'fovea';
import { Seq2SeqTransformer } from 'fovea/models';
import { LengthBatchSampler } from 'fovea/train';
import { describe, expect, test } from 'vitest';
import { readGolden } from '../golden.js';
import { configFolder } from './configs.ts';

const { folder, write, fovea, events, weights } = configFolder();
const model = { dModel: 32, nHead: 2, numEncoderLayers: 1, numDecoderLayers: 1, dimFeedforward: 64, dropout: 0.1 };
const learning = { optimizer: { lr: 1e-2 }, schedule: { type: 'constant' } };

const pairs = Array.from({ length: 240 }, (_, i) => `${'x'.repeat(i % 12)}${i % 5}é\t${'ab'.repeat(1 + (i % 5))}`);
writeFileSync(join(folder, 'pairs.tsv'), `${pairs.join('\n')}\n`);
const translation = { pairs: 'pairs.tsv', model, ...learning, maxTokens: 64, steps: 80, folder: 'translation' };
const denoising = {
  text: 'notes',
  objective: 'span-corruption',
  model: { ...model, dropout: 0.05 },
  ...learning,
  context: 48,
  batchSize: 12,
  steps: 100,
  folder: 'denoising',
};

/** What a run says of the held-out text. */
function bitsOf(stderr: string): { after: number; before: number } {
  const [, after, before] = /(\d+\.\d+) bits per token after \d+ steps, (\d+\.\d+) before/.exec(stderr)!;
  return { after: Number(after), before: Number(before) };
}

/** Runs a config once with a stop and once without: the weights must be the same. */
function expectSame(config: { folder: string; steps: number }, stop: number): void {
  const part = `${config.folder}-part`;
  expect(fovea('train', write('some.json', { ...config, steps: stop, folder: part })).status).toBe(0);
  expect(weights(part).equals(weights(config.folder))).toBe(false);
  const { stderr } = fovea('train', write('more.json', { ...config, folder: part }));
  expect(stderr).toMatch(new RegExp(`resumed from step ${stop}`));
  expect(weights(part).equals(weights(config.folder))).toBe(true);
}

describe('pairs in batches of at most so many tokens', () => {
  test('are learnt, to the bit after a stop as without one', { timeout: 120_000 }, () => {
    const { stderr, status } = fovea('train', write('translation.json', translation));
    expect(status).toBe(0);
    expect(stderr).toMatch(/^pairs: 228, and 12 held out\n/);
    const { after, before } = bitsOf(stderr);
    expect(before).toBeGreaterThan(6);
    expect(after).toBeLessThan(1.5);
    expect(readdirSync(join(folder, 'translation', 'model')).sort()).toEqual(['config.json', 'model.safetensors']);
    // Neither sources nor targets of a batch have more than 64 tokens, padding and ends included.
    const longer = pairs
      .slice(0, 228)
      .map((pair) => Math.max(...pair.split('\t').map((p) => Buffer.byteLength(p) + 1)));
    const inEpoch = new LengthBatchSampler(longer, { tokensPerBatch: 64 }).batches(0).length;
    const { state } = JSON.parse(
      readFileSync(join(folder, 'translation', 'step-00000080', 'trainer.json'), 'utf8'),
    ) as { state: { position: object } };
    expect(state.position).toMatchObject({ epoch: Math.floor(80 / inEpoch), batches: 80 % inEpoch });
    expect(inEpoch).toBe(41);
    expectSame(translation, 60);
  });

  test('have other batches than pairs by number, and go on with no others', { timeout: 60_000 }, () => {
    const few = { ...translation, steps: 2, folder: 'by-tokens' };
    expect(fovea('train', write('few.json', few)).status).toBe(0);
    const smaller = fovea('train', write('smaller.json', { ...few, steps: 4, maxTokens: 40 }));
    expect(smaller.stderr).toMatch(/^fovea: .*its batches come in another order, so the run cannot go on/m);
    expect(smaller.status).toBe(1);
    const byNumber = { ...few, maxTokens: undefined, folder: 'by-number' };
    expect(fovea('train', write('number.json', byNumber)).status).toBe(0);
    expect(weights('by-number').equals(weights('by-tokens'))).toBe(false);
  });

  test.each([
    [{ batchSize: 8 }, /wrong\.json: expected nothing beside maxTokens for batchSize, received 8/],
    [{ maxTokens: 0 }, /a whole number of at least 1 for maxTokens, received 0/],
    [{ maxTokens: 14 }, /line 12 of .*pairs\.tsv has 15 tokens, expected at most maxTokens, 14; leave it out/],
    [{ objective: 'span-corruption' }, /objective is not known here/],
  ])('%j', { timeout: 30_000 }, (wrong, message) => {
    const { stderr, status } = fovea('train', write('wrong.json', { ...translation, ...wrong }));
    expect(stderr).toMatch(message);
    expect(status).toBe(1);
  });
});

describe('spans that are cut out of text', () => {
  test('are learnt, to the bit after a stop as without one', { timeout: 120_000 }, () => {
    const { stderr, status } = fovea('train', write('denoising.json', denoising));
    expect(status).toBe(0);
    expect(stderr).toMatch(/^text: 1 files, 0\.01 MB, the last 5 % held out\n/);
    const { after, before } = bitsOf(stderr);
    expect(before).toBeGreaterThan(6);
    expect(after).toBeLessThan(2.5);
    const config: unknown = JSON.parse(readFileSync(join(folder, 'denoising', 'model', 'config.json'), 'utf8'));
    expect(config).toMatchObject({ vocab_size: 359, d_model: 32, dropout: 0.05 });
    // Behind the first 64 batches, which are drawn together.
    expectSame(denoising, 70);
  });

  test('each evaluation measures the same, whatever was learnt before it', { timeout: 60_000 }, () => {
    const still = { ...denoising, optimizer: { type: 'SGD', lr: 1e-30 }, steps: 6, evaluateEvery: 2, folder: 'still' };
    expect(fovea('train', write('still.json', still)).status).toBe(0);
    const logged = events('still');
    const losses = (kind: string): Set<number> =>
      new Set(logged.filter(({ event }) => event === kind).map(({ loss }) => loss));
    expect(logged.filter(({ event }) => event === 'evaluation').length).toBeGreaterThan(2);
    expect(losses('evaluation').size).toBe(1);
    expect(losses('step').size).toBe(6);
  });

  test('depend on the seed, and not on where the text is', { timeout: 90_000 }, () => {
    mkdirSync(join(folder, 'parts'));
    for (const name of ['a', 'b']) writeFileSync(join(folder, 'parts', name), `${name} é `.repeat(60));
    const few = { ...denoising, text: ['parts', 'notes/text.txt'], steps: 3, heldOut: 0.2 };
    const run = (name: string, more: object): Buffer => {
      expect(fovea('train', write('few.json', { ...few, ...more, folder: name })).status).toBe(0);
      return weights(name);
    };
    const one = run('few', {});
    expect(run('streamed', { stream: true }).equals(one)).toBe(true);
    expect(run('seeded', { seed: 1 }).equals(one)).toBe(false);
  });

  test.each([30, 2000])('may be those of windows of %i bytes', { timeout: 60_000 }, (context) => {
    const given = { ...denoising, context, heldOut: 0.4, batchSize: 1, steps: 1, folder: `of-${context}` };
    expect(fovea('train', write('length.json', given)).status).toBe(0);
  });

  test.each([
    [{ objective: 'masked' }, /one of causal, span-corruption for objective, received "masked"/],
    [{ context: 29 }, /a whole number of at least 30 for context, received 29/],
    [{ context: 2001 }, /at most 2000 for context, received 2001/],
    [{ model: { layers: 2 } }, /wrong\.json: model: TransformerConfig: .*layers/],
    [{ model: { ...model, vocabSize: 9 } }, /nothing, since tokens are bytes, for model\.vocabSize/],
    [{ zLoss: 1 }, /zLoss is not known here; known are steps, pairs, tokens, text/],
    [{ text: undefined, tokens: 'x.bin' }, /causal beside tokens for objective, received "span-corruption"/],
    [{ context: 1000 }, /train: held-out text: .*at least 1000 tokens, one window/],
  ])('%j', { timeout: 30_000 }, (wrong, message) => {
    const { stderr, status } = fovea('train', write('wrong.json', { ...denoising, ...wrong }));
    expect(stderr).toMatch(message);
    expect(status).toBe(1);
  });
});

describe('fovea generate', () => {
  const translator = join('translation', 'model');
  const restorer = join('denoising', 'model');

  test('says what an encoder-decoder makes of text and of token numbers', { timeout: 60_000 }, async () => {
    const { stdout, stderr, status } = fovea('generate', translator, '--prompt', 'xxx3é');
    expect(stderr).toBe('');
    expect(stdout).toMatch(/^(ab)+\n$/);
    expect(status).toBe(0);
    const ids = [...Array.from(Buffer.from('xxx3é'), (byte) => byte + 3), 2];
    const byNumber = fovea('generate', translator, '--ids', ids.join(','), '--max-new-tokens', '6');
    using loaded = await Seq2SeqTransformer.fromPretrained(join(folder, translator));
    const inputIds = tensor([ids], { dtype: 'int64' });
    const said = async (numBeams: number): Promise<string> => {
      const found = await loaded.generate({ inputIds, maxNewTokens: 6, numBeams });
      return `${Array.from(await found.data<BigInt64Array>(), Number).join(',')}\n`;
    };
    expect(byNumber.stdout).toBe(await said(1));
    const byBeams = fovea('generate', translator, '--ids', ids.join(','), '--max-new-tokens', '6', '--beams', '3');
    expect(byBeams.stdout).toBe(await said(3));
  });

  test('restores spans of text', { timeout: 60_000 }, () => {
    const prompt = 'let there be a<extra_id_0>ion. let there be attent<extra_id_1>';
    const { stdout, status } = fovea('generate', restorer, '--prompt', prompt);
    expect(stdout).toMatch(/^<extra_id_0>[ a-z.]+/);
    expect(status).toBe(0);
    const { stderr } = fovea('generate', restorer, '--prompt', 'a<extra_id_100>');
    expect(stderr).toBe('fovea: encode: there is no <extra_id_100>; the last is <extra_id_99>\n');
  });

  test.each([
    [['--prompt', 'a', '--temperature', '0.8'], /^fovea: generate: leave out --temperature: .* is an encoder-decoder/],
    [['--prompt', 'a', '--top-k', '0'], /leave out --top-k: /],
    [['--prompt', 'a', '--top-p', '1'], /leave out --top-p: /],
    [['--prompt', 'a', '--seed', '1'], /leave out --seed: /],
    [['--prompt', 'a', '--adapter', 'x'], /leave out --adapter: /],
    [['--prompt', 'a', '--ids', '1'], /^fovea: generate: pass either --prompt or --ids\n$/],
    [['--prompt', 'a', '--beams', '0'], /numBeams/],
    [['--ids', '259'], /^fovea: .*259/],
  ])('an encoder-decoder: %j', { timeout: 30_000 }, (args, message) => {
    const { stderr, status } = fovea('generate', translator, ...args);
    expect(stderr).toMatch(message);
    expect(stderr).not.toContain('    at ');
    expect(status).toBe(1);
  });

  test('other models have no beams, and other tokens no text', { timeout: 60_000 }, async () => {
    const { stderr } = fovea('generate', readGolden('gpt2').folder, '--ids', '1', '--beams', '2');
    expect(stderr).toMatch(/^fovea: generate: leave out --beams: .* is no encoder-decoder/);
    using own = new Seq2SeqTransformer({ vocabSize: 300, ...model });
    await own.savePretrained(join(folder, 'own'));
    const { stderr: why } = fovea('generate', 'own', '--prompt', 'a');
    expect(why).toMatch(
      /^fovea: generate: the model's 300 tokens are not the bytes .*; pass token numbers by --ids\n$/,
    );
    expect(fovea('generate', 'own', '--ids', '299,2', '--max-new-tokens', '3').stdout).toMatch(/^\d+(,\d+){0,2}\n$/);
  });
});
