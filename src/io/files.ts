/**
 * Reading and writing files so that a failure names the path and the system's error, and a crash leaves no half file.
 */
import { randomBytes } from 'node:crypto';
import { type FileHandle, mkdir, open, readFile, rename, rm, stat, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { FoveaError } from '../errors.js';
import { isJsonObject, type JsonObject, JsonError, parseStrictJson } from './strict-json.js';

/** A JSON file of a checkpoint (config, index, tokenizer) is never near this size. */
const maxJsonBytes = 100e6;

/** A failure of the system as FoveaError FOVEA_IO; errors of fovea pass unchanged. */
export function ioError(action: string, path: string, error: unknown): FoveaError {
  if (error instanceof FoveaError) return error;
  const reason = error instanceof Error ? error.message : String(error);
  return new FoveaError('FOVEA_IO', `${action}: ${path}: ${reason}`, { cause: error });
}

/** Throws FOVEA_ABORTED once `signal` is aborted. */
export function throwIfAborted(signal: AbortSignal | undefined, action: string): void {
  if (!signal?.aborted) return;
  throw new FoveaError('FOVEA_ABORTED', `${action}: cancelled by its AbortSignal`, { cause: signal.reason });
}

/** Whether something is at `path`; a link counts by what it leads to. */
export async function fileExists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

/**
 * Reads a JSON object with {@link parseStrictJson}.
 *
 * @throws FOVEA_IO if it cannot be read, FOVEA_FILE_FORMAT if it is too large, not UTF-8, not strict JSON or no object
 */
export async function readJsonFile(path: string): Promise<JsonObject> {
  let bytes: Buffer;
  try {
    const { size } = await stat(path);
    if (size > maxJsonBytes)
      throw new FoveaError(
        'FOVEA_FILE_FORMAT',
        `read: ${path} has ${size} bytes; a JSON file may have ${maxJsonBytes}`,
      );
    bytes = await readFile(path);
  } catch (error) {
    throw ioError('read', path, error);
  }
  const value = parseJsonBytes(bytes, path);
  if (!isJsonObject(value)) throw new FoveaError('FOVEA_FILE_FORMAT', `read: ${path} must hold a JSON object`);
  return value;
}

/** Decodes UTF-8 strictly, then parses; `what` names the file in errors. */
export function parseJsonBytes(bytes: Uint8Array, what: string): ReturnType<typeof parseStrictJson> {
  try {
    return parseStrictJson(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch (error) {
    const reason = error instanceof JsonError ? error.message : 'the text is not valid UTF-8';
    throw new FoveaError('FOVEA_FILE_FORMAT', `read: ${what} is malformed: ${reason}`, { cause: error });
  }
}

/** A rename is durable only once its folder is; Windows cannot open folders and needs no such call. */
async function syncFolder(folder: string): Promise<void> {
  if (process.platform === 'win32') return;
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Where something is made that a rename puts in its place: hidden, in the same folder, like nothing else. */
function temporaryBeside(path: string): string {
  return join(dirname(path), `.${basename(path)}.${process.pid}-${randomBytes(6).toString('hex')}.tmp`);
}

/**
 * Writes a file so that `path` holds the old content or the whole new one at every moment, even when the process or the
 * machine stops: a temporary file beside it, fsync, rename, fsync of the folder. The folder is made if it is missing.
 *
 * @param write gets the temporary file, open for writing
 * @throws FOVEA_IO naming the path and the system's error; the temporary file is removed
 */
export async function writeFileAtomic(path: string, write: (file: FileHandle) => Promise<void>): Promise<void> {
  const folder = dirname(path);
  const temporary = temporaryBeside(path);
  try {
    await mkdir(folder, { recursive: true });
    const file = await open(temporary, 'wx');
    try {
      await write(file);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
    await syncFolder(folder);
  } catch (error) {
    // It may never have been made; the first error is the one to report.
    await unlink(temporary).catch(() => undefined);
    throw ioError('write', path, error);
  }
}

/**
 * Makes a folder with all that is in it, so that `path` is missing or whole at every moment, like `writeFileAtomic`.
 *
 * @param path where nothing is yet
 * @param fill writes files into the temporary folder, durably
 * @throws FOVEA_IO naming the path and the system's error, FOVEA_ABORTED; the temporary folder is removed
 */
export async function makeFolderAtomic(path: string, fill: (temporary: string) => Promise<void>): Promise<void> {
  const temporary = temporaryBeside(path);
  try {
    await mkdir(dirname(path), { recursive: true });
    await mkdir(temporary);
    await fill(temporary);
    await syncFolder(temporary);
    await rename(temporary, path);
    await syncFolder(dirname(path));
  } catch (error) {
    await rm(temporary, { recursive: true, force: true }).catch(() => undefined);
    const failure = ioError('write', path, error);
    // The temporary folder is gone, and means nothing to who reads this.
    throw new FoveaError(failure.code, failure.message.replaceAll(temporary, path), { cause: failure });
  }
}

/** Writes a value as indented JSON, atomically. */
export async function writeJsonFile(path: string, value: unknown): Promise<void> {
  await writeFileAtomic(path, async (file) => file.writeFile(`${JSON.stringify(value, null, 2)}\n`));
}
