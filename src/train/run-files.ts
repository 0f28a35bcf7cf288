/** A run's checkpoint: the model's weights, tensors of other states, and everything else as JSON. */
import { join } from 'node:path';
import { FoveaError } from '../errors.js';
import { readJsonFile, writeJsonFile } from '../io/files.js';
import { loadFile, saveFile } from '../io/safetensors.js';
import type { StateDict } from '../nn/module.js';
import { type Tensor } from '../tensor/tensor.js';
import { verifyCheckpoint } from './checkpoint-folder.js';
import { packState, unpackState } from './run-state.js';

const files = { model: 'model.safetensors', tensors: 'state.safetensors', state: 'trainer.json' } as const;
const format = 1;

/** What a checkpoint holds. */
export interface RunCheckpoint {
  /** By key; a shared tensor once. */
  model: StateDict;
  /** Plain data and tensors. */
  state: Record<string, unknown>;
}

/**
 * Writes the files of a checkpoint into a folder.
 *
 * @throws FOVEA_IO, and FOVEA_ARGUMENT for a state that no file holds
 */
export async function writeRun(folder: string, { model, state }: RunCheckpoint): Promise<void> {
  const { json, tensors } = packState(state, 'state');
  const seen = new Set<Tensor>();
  const unique = Object.entries(model).filter(([, tensor]) => !seen.has(tensor) && seen.add(tensor));
  await saveFile(Object.fromEntries(unique), join(folder, files.model), { metadata: { format: 'pt' } });
  await saveFile(tensors, join(folder, files.tensors));
  await writeJsonFile(join(folder, files.state), { format, state: json });
}

/**
 * Reads a checkpoint once all its files are what was written, and gives it to `use`; its tensors end with that.
 *
 * @throws FOVEA_FILE_FORMAT for a damaged one, or one of another version; FOVEA_IO; what `use` throws
 */
export async function readRun(folder: string, use: (checkpoint: RunCheckpoint) => void): Promise<void> {
  await verifyCheckpoint(folder);
  const { format: version, state: json } = await readJsonFile(join(folder, files.state));
  if (version !== format || json === undefined)
    throw new FoveaError('FOVEA_FILE_FORMAT', `Trainer.resume: ${folder} is of a version that this one does not read`);
  const [model, tensors] = [loadFile(join(folder, files.model)), loadFile(join(folder, files.tensors))];
  try {
    use({ model, state: unpackState(json, tensors) as Record<string, unknown> });
  } finally {
    for (const tensor of [...Object.values(model), ...Object.values(tensors)]) tensor.dispose();
  }
}
