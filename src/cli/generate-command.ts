/** `fovea generate`. */
import { FoveaError } from '../errors.js';
import { loadAdapter } from '../models/adapter-files.js';
import { load } from '../models/auto.js';
import { unloadAdapters } from '../nn/lora.js';
import { tensor } from '../ops/index.js';
import type { Device } from '../tensor/device.js';
import { ByteTokenizer } from '../text/byte-tokenizer.js';
import { streamText } from './stream-text.js';

/** Options as the command line gives them. */
export interface GenerateCommandOptions {
  prompt?: string;
  ids?: number[];
  maxNewTokens: number;
  temperature: number;
  topK: number;
  topP: number;
  seed?: number;
  /** The folder of a LoRA adapter. */
  adapter?: string;
  device: Device;
}

/** Prints the continuation as it is made: text after a prompt, token numbers after token numbers. */
export async function generateCommand(
  folder: string,
  options: GenerateCommandOptions,
  signal: AbortSignal,
): Promise<void> {
  const { prompt, ids, seed, adapter, device, ...rest } = options;
  if ((prompt === undefined) === (ids === undefined)) {
    throw new FoveaError('FOVEA_ARGUMENT', 'generate: pass either --prompt or --ids');
  }
  using model = await load(folder, { signal, device });
  if (adapter !== undefined) {
    await loadAdapter(model, adapter);
    unloadAdapters(model, { merge: true });
  }
  const settings = { ...rest, doSample: rest.temperature > 0, signal, ...(seed === undefined ? {} : { seed }) };
  if (ids) {
    using inputIds = tensor([ids], { dtype: 'int64' });
    const separator = ids.length > 0 ? ',' : '';
    process.stdout.write(ids.join(',') + separator);
    let first = true;
    for await (const { token } of model.stream({ ...settings, inputIds })) {
      process.stdout.write(first ? String(token) : `,${token}`);
      first = false;
    }
  } else if (prompt !== undefined) {
    const tokenizer = await ByteTokenizer.fromPretrained(folder);
    process.stdout.write(prompt);
    for await (const text of streamText(model, tokenizer, { ...settings, prompt })) process.stdout.write(text);
  }
  process.stdout.write('\n');
}
