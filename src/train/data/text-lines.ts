/**
 * The lines of text files that need not fit into memory: a file is read in chunks, and what is held is a chunk and the
 * line that is not whole yet. Lines are cut between bytes, at '\n', and decoded whole, so that no character is cut;
 * neither UTF-8 nor Latin-1 has that byte inside of another character.
 */
import { type FileHandle, open, stat } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { FoveaError } from '../../errors.js';
import { ioError } from '../../io/files.js';
import { argumentError, countArg, optionsArg } from '../../tensor/check.js';
import { type IterableDataset, streamDataset, streamOf } from './stream.js';

/** Options of {@link textLines}. */
export interface TextLinesOptions {
  /** Default 'utf-8'. */
  encoding?: 'utf-8' | 'latin1';
  /** Whether bytes that are not UTF-8 are an error (default) or become U+FFFD. */
  malformed?: 'throw' | 'replace';
  /** Bytes read at once (default 65536). */
  chunkBytes?: number;
  /** A longer line is an error: it would have to be held whole (default 16 MiB). */
  maxLineBytes?: number;
}

/** Where the next line begins. */
interface LinePosition {
  /** Which file of the list. */
  file: number;
  /** Bytes of it that were given out. */
  byte: number;
}

type Plan = Required<TextLinesOptions> & { paths: readonly string[]; decode: (line: Buffer) => string };

const lineFeed = 10;
const carriageReturn = 13;
const byteOrderMark = Buffer.from([0xef, 0xbb, 0xbf]);

/** The text of a line, which ends before '\n' or '\r\n'. */
function textOf(line: Buffer, path: string, byte: number, plan: Plan): string {
  const end = line.at(-1) === carriageReturn ? -1 : line.length;
  const begin = plan.encoding === 'utf-8' && byte === 0 && line.subarray(0, 3).equals(byteOrderMark) ? 3 : 0;
  try {
    return plan.decode(line.subarray(begin, end));
  } catch (error) {
    const remedy = "pass the right encoding, or malformed: 'replace'";
    const message = `textLines: the line at byte ${byte} of ${path} is not valid ${plan.encoding}; ${remedy}`;
    throw new FoveaError('FOVEA_FILE_FORMAT', message, { cause: error });
  }
}

/** A line begins at the beginning of a file, at its end, and behind a line feed. */
async function checkStart(handle: FileHandle, path: string, byte: number): Promise<void> {
  const { size } = await handle.stat();
  if (byte === 0 || byte === size) return;
  const { bytesRead, buffer } = await handle.read(Buffer.alloc(1), 0, 1, byte - 1);
  if (bytesRead === 1 && buffer[0] === lineFeed) return;
  const message = `textLines: no line begins at byte ${byte} of ${path} (${size} bytes), where reading is to go on`;
  throw new FoveaError('FOVEA_FILE_FORMAT', `${message}; has the file changed?`);
}

/** The lines of an open file as bytes from `byte` on, each with the byte behind it. */
async function* rawLines(
  handle: FileHandle,
  byte: number,
  { chunkBytes, maxLineBytes }: Plan,
  path: string,
): AsyncGenerator<{ line: Buffer; end: number }, undefined> {
  const chunk = Buffer.allocUnsafe(chunkBytes);
  let parts: Buffer[] = [];
  let held = 0;
  let lineStart = byte;
  for (let at = byte; ; ) {
    const { bytesRead } = await handle.read(chunk, 0, chunkBytes, at);
    if (bytesRead === 0) break;
    at += bytesRead;
    let begin = 0;
    for (;;) {
      const found = chunk.subarray(0, bytesRead).indexOf(lineFeed, begin);
      const part = chunk.subarray(begin, found < 0 ? bytesRead : found);
      held += part.length;
      if (held > maxLineBytes)
        throw new FoveaError(
          'FOVEA_FILE_FORMAT',
          `textLines: the line at byte ${lineStart} of ${path} has more than maxLineBytes = ${maxLineBytes} bytes`,
        );
      // The chunk is read into again, so a part that waits for the rest of its line is copied.
      if (found < 0) parts.push(Buffer.from(part));
      if (found < 0) break;
      const end = at - bytesRead + found + 1;
      yield { line: parts.length > 0 ? Buffer.concat([...parts, part]) : part, end };
      parts = [];
      held = 0;
      lineStart = end;
      begin = found + 1;
    }
  }
  if (held > 0) yield { line: Buffer.concat(parts), end: lineStart + held };
  return undefined;
}

async function* readLines(plan: Plan, position: LinePosition): AsyncGenerator<string, undefined> {
  let path = '';
  try {
    // What is missing is known before the first line, not when its turn comes.
    for (path of plan.paths) {
      if (!(await stat(path)).isFile()) throw new FoveaError('FOVEA_IO', `textLines: ${path}: it is no file`);
    }
    for (; position.file < plan.paths.length; position.file++, position.byte = 0) {
      path = plan.paths[position.file]!;
      const handle = await open(path, 'r');
      try {
        await checkStart(handle, path, position.byte);
        for await (const { line, end } of rawLines(handle, position.byte, plan, path)) {
          const text = textOf(line, path, position.byte, plan);
          position.byte = end;
          yield text;
        }
      } finally {
        await handle.close();
      }
    }
  } catch (error) {
    throw ioError('textLines', path, error);
  }
  return undefined;
}

function pathsArg(paths: unknown): string[] {
  const list: unknown[] = Array.isArray(paths) ? paths : [paths];
  if (list.length === 0) throw argumentError('textLines', 'paths', 'at least one file', paths);
  return list.map((path, i) => {
    if (path instanceof URL && path.protocol === 'file:') return fileURLToPath(path);
    if (typeof path === 'string' && path !== '') return path;
    throw argumentError('textLines', list.length > 1 ? `paths[${i}]` : 'paths', 'a path or a file: URL', path);
  });
}

function planOf(paths: unknown, options: TextLinesOptions | undefined): Plan {
  const op = 'textLines';
  const given = optionsArg(op, options, ['encoding', 'malformed', 'chunkBytes', 'maxLineBytes']);
  const { encoding = 'utf-8', malformed = 'throw' } = given;
  if (encoding !== 'utf-8' && encoding !== 'latin1')
    throw argumentError(op, 'encoding', "'utf-8' or 'latin1'", encoding, 'convert the files to one of them');
  if (malformed !== 'throw' && malformed !== 'replace')
    throw argumentError(op, 'malformed', "'throw' or 'replace'", malformed);
  const utf8 = new TextDecoder('utf-8', { fatal: malformed === 'throw', ignoreBOM: true });
  return {
    paths: pathsArg(paths),
    encoding,
    malformed,
    chunkBytes: countArg(op, 'chunkBytes', given.chunkBytes ?? 2 ** 16, 1),
    maxLineBytes: countArg(op, 'maxLineBytes', given.maxLineBytes ?? 2 ** 24, 1),
    decode: encoding === 'utf-8' ? (line) => utf8.decode(line) : (line) => line.toString('latin1'),
  };
}

function positionArg(position: unknown, files: number): LinePosition {
  const { file, byte } = Object(position) as Partial<LinePosition>;
  if (countArg('textLines', 'position.file', file) > files)
    throw argumentError('textLines', 'position.file', `at most ${files}, the number of files`, file);
  return { file: file!, byte: countArg('textLines', 'position.byte', byte) };
}

/**
 * The lines of text files, one file after the other, without their '\n' or '\r\n' and without a byte order mark. What
 * is behind the last line feed is a line unless it is empty. Goes on from a byte without reading what is before.
 *
 * @param paths a path or file: URL, or several; each time the lines are read, all have to be there
 * @throws FOVEA_ARGUMENT for other paths or options; reading rejects with FOVEA_IO naming the file, with
 *   FOVEA_FILE_FORMAT for a line that is not text in that encoding or is longer than `maxLineBytes`
 */
export function textLines(
  paths: string | URL | readonly (string | URL)[],
  options?: TextLinesOptions,
): IterableDataset<string> {
  const plan = planOf(paths, options);
  return streamDataset((start) => {
    const position =
      start.position === undefined ? { file: 0, byte: 0 } : positionArg(start.position, plan.paths.length);
    return streamOf(readLines(plan, position), () => ({ ...position }));
  });
}
