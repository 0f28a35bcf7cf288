/** `fovea finetune`: trains a LoRA adapter of a checkpoint, as a config with the key `lora` does. */
import { FoveaError } from '../errors.js';
import type { FinetuneOptions } from './finetune-options.js';
import { trainConfig } from './train-config.js';
import { trainRun } from './train-run.js';

/** Text, or files of token numbers, which end with `.bin`. @throws FOVEA_ARGUMENT for both */
function dataOf(data: readonly string[]): { text: string[] } | { tokens: string[] } {
  const numbers = data.filter((path) => path.endsWith('.bin'));
  if (numbers.length === 0) return { text: [...data] };
  if (numbers.length === data.length) return { tokens: numbers };
  throw new FoveaError('FOVEA_ARGUMENT', 'finetune: --data is text or files of token numbers (.bin), but not both');
}

/** Trains, saves the adapter and reports on the standard error stream. */
export async function finetuneCommand(folder: string, options: FinetuneOptions): Promise<void> {
  const { data, out, rank, alpha, dropout, targetModules, batch, context, lr, evaluateEvery, saveEvery, ...rest } =
    options;
  const { steps, seed, device, precision, signal } = rest;
  const every = {
    ...(evaluateEvery === undefined ? {} : { evaluateEvery }),
    ...(saveEvery === undefined ? {} : { saveEvery }),
  };
  const lora = {
    r: rank,
    loraAlpha: alpha,
    loraDropout: dropout,
    targetModules: targetModules === 'all-linear' ? targetModules : targetModules.split(',').map((name) => name.trim()),
  };
  const model = { load: folder, ...(context === undefined ? {} : { context }) };
  const values = { ...dataOf(data), ...every, model, lora, optimizer: { lr }, steps, batchSize: batch };
  const all = { ...values, precision, seed, device, folder: out, keepLast: 1 };
  const config = trainConfig(all, 'finetune', (path) => path);
  await trainRun({ ...config, out }, signal);
}
