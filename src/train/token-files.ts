/**
 * The tokens of files that need not fit into memory, read where they are asked for: the same sequence as `readCorpus`
 * and `readTokens` give, but that whether a file is text is judged by its beginning.
 */
import { open, readdir, stat } from 'node:fs/promises';
import { endianness } from 'node:os';
import { join } from 'node:path';
import { FoveaError } from '../errors.js';
import { ioError } from '../io/files.js';
import { ByteTokenizer } from '../text/byte-tokenizer.js';

/** A sequence of tokens. */
export interface TokenSource {
  /** How many. */
  readonly length: number;
  /** Some of them. @throws FOVEA_IO, and FOVEA_INDEX for a token that the vocabulary lacks */
  read(start: number, count: number): Promise<Uint16Array>;
}

/** What files hold: text, of which a token is a byte, or little-endian uint16. */
export type TokenKind = 'text' | 'tokens';

interface FilePart {
  path: string;
  bytes: number;
  /** Its first token and the one behind its last. */
  begin: number;
  end: number;
}

/** Bytes by which a file is judged. */
const judged = 2 ** 16;
/** Bytes read at once, at most. */
const atOnce = 2 ** 30;

/** All files below a path, in the order of their names; hidden ones and installed packages are left out. */
export async function listFiles(path: string): Promise<string[]> {
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

/** Bytes of a file from `at` on. @throws FOVEA_IO, also where they are not there any more */
async function readBytes(path: string, at: number, count: number): Promise<Buffer> {
  try {
    const handle = await open(path, 'r');
    try {
      const buffer = Buffer.alloc(count);
      let done = 0;
      while (done < count) {
        const { bytesRead } = await handle.read(buffer, done, Math.min(count - done, atOnce), at + done);
        if (bytesRead === 0) break;
        done += bytesRead;
      }
      if (done === count) return buffer;
    } finally {
      await handle.close();
    }
  } catch (error) {
    throw ioError('read', path, error);
  }
  throw new FoveaError('FOVEA_IO', `read: ${path} has become shorter than ${at + count} bytes while it was in use`);
}

/** Bytes of a file; 0 for one that is not text: text has no zero byte. */
async function textBytes(path: string): Promise<number> {
  const { size } = await stat(path);
  return (await readBytes(path, 0, Math.min(size, judged))).includes(0) ? 0 : size;
}

async function numberBytes(path: string): Promise<number> {
  const { size } = await stat(path);
  if (size % 2 === 0) return size;
  throw new FoveaError('FOVEA_FILE_FORMAT', `read: ${path} has ${size} bytes, which are no whole number of uint16`);
}

/** Files as one sequence of tokens. */
export class TokenFiles {
  readonly #parts: readonly FilePart[];
  readonly #kind: TokenKind;

  private constructor(parts: readonly FilePart[], kind: TokenKind) {
    this.#parts = parts;
    this.#kind = kind;
  }

  /**
   * Finds out what there is.
   *
   * @param paths files; for text, folders, too
   * @throws FOVEA_IO if one cannot be read, FOVEA_FILE_FORMAT for half a number, FOVEA_ARGUMENT if there is nothing
   *   in them
   */
  static async open(paths: readonly string[], kind: TokenKind): Promise<TokenFiles> {
    const parts: FilePart[] = [];
    for (const given of paths) {
      try {
        for (const path of kind === 'text' ? await listFiles(given) : [given]) {
          const bytes = await (kind === 'text' ? textBytes : numberBytes)(path);
          const begin = parts.at(-1)?.end ?? 0;
          // A text ends with a token of its own.
          if (bytes > 0) parts.push({ path, bytes, begin, end: begin + (kind === 'text' ? bytes + 1 : bytes / 2) });
        }
      } catch (error) {
        throw ioError('read', given, error);
      }
    }
    if (parts.length === 0) throw new FoveaError('FOVEA_ARGUMENT', `read: found no ${kind} in ${paths.join(', ')}`);
    return new TokenFiles(parts, kind);
  }

  /** All tokens. */
  get length(): number {
    return this.#parts.at(-1)!.end;
  }
  /** Files that hold some. */
  get files(): number {
    return this.#parts.length;
  }

  /** The tokens from `begin` to before `end`, for a vocabulary of `vocabSize`. */
  range(begin: number, end: number, vocabSize: number): TokenSource {
    return {
      length: end - begin,
      read: async (start, count) => {
        const tokens = await this.#read(begin + start, count);
        const unknown = tokens.find((token) => token >= vocabSize);
        if (unknown === undefined) return tokens;
        throw new FoveaError('FOVEA_INDEX', `train: token ${unknown} is not in the model's vocabulary of ${vocabSize}`);
      },
    };
  }

  async #read(start: number, count: number): Promise<Uint16Array> {
    const tokens = new Uint16Array(count);
    for (const part of this.#parts) {
      const [from, to] = [Math.max(start, part.begin), Math.min(start + count, part.end)];
      if (from < to) tokens.set(await this.#readPart(part, from - part.begin, to - from), from - start);
    }
    return tokens;
  }

  async #readPart({ path, bytes }: FilePart, at: number, count: number): Promise<Uint16Array> {
    if (this.#kind === 'text') {
      const text = await readBytes(path, at, Math.min(count, bytes - at));
      const tokens = new Uint16Array(count).fill(new ByteTokenizer().eosTokenId);
      tokens.set(text);
      return tokens;
    }
    const numbers = await readBytes(path, 2 * at, 2 * count);
    if (endianness() === 'BE') numbers.swap16();
    return new Uint16Array(numbers.buffer, numbers.byteOffset, count);
  }
}
