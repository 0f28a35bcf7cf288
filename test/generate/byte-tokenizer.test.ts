// The byte-level tokenizer.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { ByteTokenizer } from 'fovea';
import { expect, test } from 'vitest';

const tokenizer = new ByteTokenizer();

test('every text comes back', () => {
  fc.assert(fc.property(fc.string({ unit: 'grapheme' }), (text) => tokenizer.decode(tokenizer.encode(text)) === text));
  expect(tokenizer.decode(tokenizer.encode('\ufeffnaïve 日本 🙂'))).toBe('\ufeffnaïve 日本 🙂');
});

test('a stream gives a character once it is whole', () => {
  const decoder = tokenizer.decoder();
  expect(tokenizer.encode('é🙂').map((token) => decoder.push(token))).toEqual(['', 'é', '', '', '', '🙂']);
  expect(decoder.push(0xf0)).toBe('');
  expect(decoder.flush()).toBe('\ufffd');
});

test('the end of a text is no text, and other numbers are refused', () => {
  expect(tokenizer.decode([104, 105, tokenizer.eosTokenId, 33])).toBe('hi!');
  for (const token of [257, -1, 1.5]) expect(() => tokenizer.decode([token])).toThrow(/not in the vocabulary/);
});

test('tokenizer.json is byte-level BPE without merges', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'fovea-tokenizer-'));
  await tokenizer.savePretrained(folder);
  const path = join(folder, 'tokenizer.json');
  const file = JSON.parse(readFileSync(path, 'utf8')) as { model: { vocab: Record<string, number>; merges: string[] } };
  expect(Object.keys(file.model.vocab)).toHaveLength(257);
  // GPT-2's spelling of the space, the line feed and the soft hyphen.
  expect([file.model.vocab['Ġ'], file.model.vocab['Ċ'], file.model.vocab['A'], file.model.vocab['Ń']]).toEqual([
    32, 10, 65, 173,
  ]);
  await expect(ByteTokenizer.fromPretrained(folder)).resolves.toBeInstanceOf(ByteTokenizer);
  file.model.merges.push('a b');
  writeFileSync(path, JSON.stringify(file));
  await expect(ByteTokenizer.fromPretrained(folder)).rejects.toMatchObject({ code: 'FOVEA_UNSUPPORTED' });
  rmSync(folder, { recursive: true });
});
