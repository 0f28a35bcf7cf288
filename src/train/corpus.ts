/** Files of text, or of token numbers, as one sequence of tokens, the last part of which is held out. */
import { readFile } from 'node:fs/promises';
import { FoveaError } from '../errors.js';
import { ioError } from '../io/files.js';
import { ByteTokenizer } from '../text/byte-tokenizer.js';
import { listFiles, TokenFiles } from './token-files.js';

/** Tokens to train on and tokens to measure with. */
export interface Corpus {
  /** Tokens to learn from. */
  train: Uint16Array;
  /** Tokens to measure by. */
  validation: Uint16Array;
  /** Files read. */
  files: number;
}

/** A file's bytes, or undefined for one that is not text: text has no zero byte. */
async function readText(path: string): Promise<Buffer | undefined> {
  const bytes = await readFile(path);
  return bytes.includes(0) ? undefined : bytes;
}

/**
 * Reads text files and folders of them; every text ends with the end-of-text token.
 *
 * @param paths files and folders
 * @param heldOut the share at the end that is not trained on
 * @throws FOVEA_IO if a path cannot be read, FOVEA_ARGUMENT if there is no text in them
 */
export async function readCorpus(paths: readonly string[], heldOut = 0.05): Promise<Corpus> {
  const texts: Buffer[] = [];
  for (const path of paths) {
    try {
      for (const file of await listFiles(path)) {
        const text = await readText(file);
        if (text && text.length > 0) texts.push(text);
      }
    } catch (error) {
      throw ioError('read', path, error);
    }
  }
  if (texts.length === 0) throw new FoveaError('FOVEA_ARGUMENT', `readCorpus: there is no text in ${paths.join(', ')}`);
  const tokens = new Uint16Array(texts.reduce((sum, { length }) => sum + length + 1, 0));
  const { eosTokenId } = new ByteTokenizer();
  let at = 0;
  for (const text of texts) {
    tokens.set(text, at);
    tokens[at + text.length] = eosTokenId;
    at += text.length + 1;
  }
  return corpusOf(tokens, heldOut, texts.length);
}

function corpusOf(tokens: Uint16Array, heldOut: number, files: number): Corpus {
  const split = Math.floor(tokens.length * (1 - heldOut));
  return { train: tokens.subarray(0, split), validation: tokens.subarray(split), files };
}

/**
 * Reads files of token numbers: little-endian uint16, one after the other, as nanoGPT's `prepare.py` writes them.
 *
 * @param paths files
 * @param heldOut the share at the end that is not trained on
 * @throws FOVEA_IO if a file cannot be read, FOVEA_FILE_FORMAT for half a number, FOVEA_ARGUMENT if there is none in
 *   them
 */
export async function readTokens(paths: readonly string[], heldOut = 0.05): Promise<Corpus> {
  const all = await TokenFiles.open(paths, 'tokens');
  const { length, files } = all;
  return corpusOf(await all.range(0, length, 2 ** 16).read(0, length), heldOut, files);
}
