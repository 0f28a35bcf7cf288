/** `fovea train`: text on the command line, or a config. */
import { FoveaError } from '../errors.js';
import { readTrainConfig } from './train-config.js';
import type { TrainTextOptions } from './train-options.js';
import { trainRun } from './train-run.js';
import { trainText } from './train-text.js';

/**
 * Trains on text, or as a config says: a path that ends with `.json`.
 *
 * @param given the options that were set on the command line, for which a config leaves no room
 * @throws FOVEA_ARGUMENT for a config beside other paths or options
 */
export async function trainCommand(options: TrainTextOptions, given: readonly string[]): Promise<void> {
  const { paths, signal } = options;
  const config = paths.find((path) => path.endsWith('.json'));
  if (config === undefined) return trainText(options);
  const surplus = paths.length > 1 ? 'the other paths' : given[0];
  if (surplus === undefined) return trainRun(await readTrainConfig(config), signal);
  throw new FoveaError(
    'FOVEA_ARGUMENT',
    `train: ${config} is a config, which says everything; leave out ${surplus}, or train on JSON as text by its folder`,
  );
}
