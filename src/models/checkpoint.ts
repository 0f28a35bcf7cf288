/** The weights of a checkpoint directory: one `model.safetensors`, or shards with an index. */
import { lstat, realpath } from 'node:fs/promises';
import { dirname, join, relative, sep } from 'node:path';
import { FoveaError } from '../errors.js';
import { fileExists, readJsonFile, throwIfAborted } from '../io/files.js';
import { SafetensorsFile } from '../io/safetensors.js';
import { isJsonObject } from '../io/strict-json.js';
import type { Tensor } from '../tensor/tensor.js';

/** Told after each tensor. */
export interface LoadProgress {
  /** Bytes of the tensors read so far. */
  loadedBytes: number;
  /** Bytes of all tensors. */
  totalBytes: number;
}

/** How weights are read from files. */
export interface CheckpointOptions {
  /** Map the files (default) instead of reading them into memory; a mapped file must not be truncated. */
  mmap?: boolean | undefined;
  /** Cancels between tensors: loading then rejects with FOVEA_ABORTED. */
  signal?: AbortSignal | undefined;
  /** Called after each tensor. */
  onProgress?: ((progress: LoadProgress) => void) | undefined;
}

const indexName = 'model.safetensors.index.json';
const singleName = 'model.safetensors';

/** Whether `path` lies in `folder`. */
function within(folder: string, path: string): boolean {
  const way = relative(folder, path);
  return way !== '..' && !way.startsWith(`..${sep}`) && way !== path;
}

/**
 * The path of a shard that an index names. The index is not trusted: a name is a plain file name, and a link may lead
 * no further than to the folder itself or, as in the Hub's cache (`snapshots/<revision>/`), to `blobs/` beside it.
 */
async function shardPath(folder: string, name: string): Promise<string> {
  const refuse = (reason: string): FoveaError =>
    new FoveaError(
      'FOVEA_FILE_FORMAT',
      `load: ${join(folder, indexName)}: the shard ${JSON.stringify(name)} ${reason}`,
    );
  if (name === '' || name === '.' || name === '..' || /[/\\\0]/.test(name)) throw refuse('must be a plain file name');
  const path = join(folder, name);
  if (!(await fileExists(path))) throw refuse('does not exist');
  const [place, target] = await Promise.all([realpath(folder), realpath(path)]);
  const blobs = join(dirname(dirname(place)), 'blobs');
  if (!within(place, target) && !within(blobs, target))
    throw refuse(`is a link that leads out of the folder, to ${target}`);
  if (!(await lstat(target)).isFile()) throw refuse('is not a regular file');
  return path;
}

/** Files of the checkpoint, with the tensors to take from each; undefined means all. */
async function listFiles(folder: string): Promise<Map<string, string[] | undefined>> {
  const single = join(folder, singleName);
  if (await fileExists(single)) return new Map([[single, undefined]]);
  const indexPath = join(folder, indexName);
  if (!(await fileExists(indexPath))) {
    throw new FoveaError(
      'FOVEA_IO',
      `load: ${folder} holds neither ${singleName} nor ${indexName}; other formats are not read`,
    );
  }
  const { weight_map: weightMap } = await readJsonFile(indexPath);
  if (!isJsonObject(weightMap))
    throw new FoveaError('FOVEA_FILE_FORMAT', `load: ${indexPath}: weight_map must be an object`);
  const byShard = new Map<string, string[]>();
  for (const [tensor, shard] of Object.entries(weightMap)) {
    if (typeof shard !== 'string')
      throw new FoveaError('FOVEA_FILE_FORMAT', `load: ${indexPath}: weight_map.${tensor} must be a file name`);
    byShard.set(shard, [...(byShard.get(shard) ?? []), tensor]);
  }
  const files = new Map<string, string[]>();
  for (const [shard, tensors] of byShard) files.set(await shardPath(folder, shard), tensors);
  return files;
}

/**
 * Reads all tensors of a checkpoint directory.
 *
 * @throws FOVEA_IO, FOVEA_FILE_FORMAT, FOVEA_ABORTED
 */
export async function loadCheckpoint(folder: string, options: CheckpointOptions = {}): Promise<Map<string, Tensor>> {
  const opened = new Map<SafetensorsFile, string[]>();
  const tensors = new Map<string, Tensor>();
  try {
    for (const [path, names] of await listFiles(folder)) {
      const file = SafetensorsFile.open(path, { mmap: options.mmap ?? true });
      opened.set(file, names ?? file.keys());
    }
    const totalBytes = [...opened].reduce(
      (sum, [file, names]) => names.reduce((bytes, name) => bytes + file.byteLength(name), sum),
      0,
    );
    let loadedBytes = 0;
    for (const [file, names] of opened) {
      for (const name of names) {
        throwIfAborted(options.signal, 'load');
        tensors.set(name, file.get(name));
        loadedBytes += file.byteLength(name);
        options.onProgress?.({ loadedBytes, totalBytes });
        // Copies are queued work: one tensor at a time keeps the loop free and an abort prompt.
        if (options.mmap === false) await new Promise(setImmediate);
      }
    }
    return tensors;
  } catch (error) {
    for (const tensor of tensors.values()) tensor.dispose();
    throw error;
  } finally {
    for (const file of opened.keys()) file.close();
  }
}
