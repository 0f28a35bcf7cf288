/**
 * Checkpoints of a run: `step-00000100` and the like in one folder, each a folder of its own with a manifest of its
 * files' lengths and SHA-256.
 *
 * A checkpoint is made under a hidden name beside its own; every file and the folder are synced before a rename shows
 * it, so that at any moment, whatever is killed, there are whole checkpoints only. Older ones go when the new one is
 * durable.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readdir, rename, rm, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { FoveaError } from '../errors.js';
import { ioError, makeFolderAtomic, readJsonFile, writeJsonFile } from '../io/files.js';
import { isJsonObject, type JsonValue } from '../io/strict-json.js';
import { argumentError } from '../tensor/check.js';

/** A checkpoint by its name. */
export interface CheckpointEntry {
  /** Steps done. */
  step: number;
  /** Its folder. */
  path: string;
}

const manifestName = 'manifest.json';
const format = 1;
const namePattern = /^step-(\d+)(?:\.(\d+))?$/;
/** What a save or a deletion that was cut off has left. */
const debrisPattern = /^\.step-\d+(?:\.\d+)?\..+\.tmp$/;

interface FileDigest {
  bytes: number;
  sha256: string;
}

async function digestOf(path: string): Promise<FileDigest> {
  const hash = createHash('sha256');
  let bytes = 0;
  try {
    for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 }) as AsyncIterable<Buffer>) {
      hash.update(chunk);
      bytes += chunk.length;
    }
  } catch (error) {
    throw ioError('read', path, error);
  }
  return { bytes, sha256: hash.digest('hex') };
}

/** Names in a folder, none if it is missing. */
async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return [];
    throw ioError('read', folder, error);
  }
}

/**
 * The checkpoints in a folder, oldest first; none if it is missing.
 *
 * @throws FOVEA_IO if it cannot be read
 */
export async function listCheckpoints(folder: string): Promise<CheckpointEntry[]> {
  if (typeof folder !== 'string') throw argumentError('listCheckpoints', 'folder', 'a path', folder);
  const found = (await namesIn(folder)).flatMap((name) => {
    const match = namePattern.exec(name);
    return match ? [{ step: Number(match[1]), again: Number(match[2] ?? 0), path: join(folder, name) }] : [];
  });
  found.sort((a, b) => a.step - b.step || a.again - b.again);
  return found.map(({ step, path }) => ({ step, path }));
}

async function writeManifest(folder: string): Promise<void> {
  const files: Record<string, FileDigest> = {};
  for (const name of (await readdir(folder)).sort()) files[name] = await digestOf(join(folder, name));
  await writeJsonFile(join(folder, manifestName), { format, files });
}

function damaged(path: string, what: string): FoveaError {
  return new FoveaError(
    'FOVEA_FILE_FORMAT',
    `checkpoint: ${path} ${what}; remove ${path} to go on from the one before it`,
  );
}

function isDigest(value: JsonValue | undefined): value is { bytes: number; sha256: string } {
  if (!isJsonObject(value) || Object.keys(value).length !== 2) return false;
  return Number.isSafeInteger(value['bytes']) && typeof value['sha256'] === 'string';
}

/**
 * Reads all files of a checkpoint and compares them with its manifest.
 *
 * @throws FOVEA_FILE_FORMAT naming the file that is missing, cut off or changed; FOVEA_IO if one cannot be read
 */
export async function verifyCheckpoint(path: string): Promise<void> {
  if (typeof path !== 'string') throw argumentError('verifyCheckpoint', 'path', 'a path', path);
  const { format: version, files, ...others } = await readJsonFile(join(path, manifestName));
  if (version !== format || !isJsonObject(files) || Object.keys(others).length > 0)
    throw damaged(path, `has a ${manifestName} that this version does not read`);
  for (const [name, expected] of Object.entries(files)) {
    if (!isDigest(expected) || name.includes('/') || name.includes('\\'))
      throw damaged(path, `has a damaged ${manifestName}`);
    const file = join(path, name);
    const size = await stat(file).then(
      (found) => found.size,
      () => undefined,
    );
    if (size === undefined) throw damaged(path, `lacks ${name}`);
    if (size !== expected.bytes) throw damaged(path, `is damaged: ${name} has ${size} of ${expected.bytes} bytes`);
    if ((await digestOf(file)).sha256 !== expected.sha256)
      throw damaged(path, `is damaged: ${name} is not what was written`);
  }
}

/** The checkpoints of one run, of which the last few are kept. One run at a time may write there. */
export class CheckpointFolder {
  /** Where they are. */
  readonly path: string;
  readonly #keepLast: number;
  #turn: Promise<unknown> = Promise.resolve();

  /** @param keepLast how many stay, at least 1 */
  constructor(path: string, keepLast: number = Number.POSITIVE_INFINITY) {
    this.path = path;
    this.#keepLast = keepLast;
  }

  /** The newest, if there is one. */
  async latest(): Promise<CheckpointEntry | undefined> {
    return (await listCheckpoints(this.path)).at(-1);
  }

  /**
   * Adds a checkpoint; then the oldest go.
   *
   * @param fill writes its files into a folder, durably
   * @returns its path
   * @throws FOVEA_IO naming the path and the system's error; all checkpoints that were there are still there
   */
  save(step: number, fill: (folder: string) => Promise<void>): Promise<string> {
    const result = this.#turn.then(() => this.#save(step, fill));
    this.#turn = result.catch(() => undefined);
    return result;
  }

  async #save(step: number, fill: (folder: string) => Promise<void>): Promise<string> {
    await this.#clean();
    const before = await listCheckpoints(this.path);
    const name = join(this.path, `step-${String(step).padStart(8, '0')}`);
    const taken = new Set(before.map(({ path }) => path));
    let path = name;
    for (let again = 1; taken.has(path); again++) path = `${name}.${again}`;
    await makeFolderAtomic(path, async (folder) => {
      await fill(folder);
      await writeManifest(folder);
    });
    const surplus = before.length + 1 - this.#keepLast;
    for (const old of before.slice(0, Math.max(0, surplus))) await this.#remove(old.path);
    return path;
  }

  async #clean(): Promise<void> {
    const debris = (await namesIn(this.path)).filter((name) => debrisPattern.test(name));
    for (const name of debris) await this.#erase(join(this.path, name));
  }

  /** Hides it first: half a checkpoint must not look like one. */
  async #remove(path: string): Promise<void> {
    const hidden = join(this.path, `.${basename(path)}.removed.tmp`);
    try {
      await rename(path, hidden);
    } catch (error) {
      throw ioError('remove', path, error);
    }
    await this.#erase(hidden);
  }

  async #erase(path: string): Promise<void> {
    try {
      await rm(path, { recursive: true, force: true });
    } catch (error) {
      throw ioError('remove', path, error);
    }
  }
}
