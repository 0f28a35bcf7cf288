/** Text files as one sequence of byte tokens, the last part of which is held out. */
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { FoveaError } from '../errors.js';
import { ioError } from '../io/files.js';
import { ByteTokenizer } from '../text/byte-tokenizer.js';

/** Tokens to train on and tokens to measure with. */
export interface Corpus {
  /** Tokens to learn from. */
  train: Uint16Array;
  /** Tokens to measure by. */
  validation: Uint16Array;
  /** Files read. */
  files: number;
}

/** All files below a path, in the order of their names; hidden ones and installed packages are left out. */
async function listFiles(path: string): Promise<string[]> {
  if (!(await stat(path)).isDirectory()) return [path];
  const entries = await readdir(path, { withFileTypes: true });
  const wanted = entries.filter(({ name }) => !name.startsWith('.') && name !== 'node_modules');
  wanted.sort((a, b) => (a.name < b.name ? -1 : 1));
  const nested: string[][] = [];
  for (const entry of wanted) {
    const inner = join(path, entry.name);
    if (entry.isDirectory()) nested.push(await listFiles(inner));
    else if (entry.isFile()) nested.push([inner]);
  }
  return nested.flat();
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
  const split = Math.floor(tokens.length * (1 - heldOut));
  return { train: tokens.subarray(0, split), validation: tokens.subarray(split), files: texts.length };
}
