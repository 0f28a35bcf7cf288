/** `fovea generate`. */
import { join } from 'node:path';
import { FoveaError } from '../errors.js';
import { readJsonFile } from '../io/files.js';
import { loadAdapter } from '../models/adapter-files.js';
import { load } from '../models/auto.js';
import { isTransformerConfig } from '../models/transformer/config.js';
import { unloadAdapters } from '../nn/lora.js';
import { tensor } from '../ops/index.js';
import type { Device } from '../tensor/device.js';
import { ByteTokenizer } from '../text/byte-tokenizer.js';
import { translateCommand } from './translate-command.js';
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
  /** Of an encoder-decoder. */
  beams: number;
  /** The folder of a LoRA adapter. */
  adapter?: string;
  device: Device;
  signal: AbortSignal;
}

/** Options of the one kind of model that the other has no use for. */
const ofCausal = ['--temperature', '--top-k', '--top-p', '--seed', '--adapter'];
const ofSeq2Seq = ['--beams'];

function refuse(given: readonly string[], names: readonly string[], why: string): void {
  const name = names.find((option) => given.includes(option));
  if (name !== undefined) throw new FoveaError('FOVEA_ARGUMENT', `generate: leave out ${name}: ${why}`);
}

/**
 * Prints the continuation of a prompt, or what an encoder-decoder makes of it.
 *
 * @param given the options that were set on the command line
 */
export async function generateCommand(
  folder: string,
  options: GenerateCommandOptions,
  given: readonly string[],
): Promise<void> {
  const { prompt, ids } = options;
  const source = ids ?? prompt;
  if (source === undefined || (ids && prompt !== undefined))
    throw new FoveaError('FOVEA_ARGUMENT', 'generate: pass either --prompt or --ids');
  if (isTransformerConfig(await readJsonFile(join(folder, 'config.json')))) {
    refuse(
      given,
      ofCausal,
      `${folder} is an encoder-decoder, which takes the likeliest tokens, or searches by --beams`,
    );
    await translateCommand(folder, source, options);
  } else {
    refuse(given, ofSeq2Seq, `${folder} is no encoder-decoder, and draws its tokens`);
    await continueCommand(folder, source, options);
  }
}

/** Prints the continuation as it is made: text after a prompt, token numbers after token numbers. */
async function continueCommand(
  folder: string,
  source: string | number[],
  { seed, adapter, device, signal, maxNewTokens, temperature, topK, topP }: GenerateCommandOptions,
): Promise<void> {
  using model = await load(folder, { signal, device });
  if (adapter !== undefined) {
    await loadAdapter(model, adapter);
    unloadAdapters(model, { merge: true });
  }
  const draws = { temperature, topK, topP, doSample: temperature > 0, ...(seed === undefined ? {} : { seed }) };
  const settings = { ...draws, maxNewTokens, signal };
  if (typeof source === 'string') {
    const tokenizer = await ByteTokenizer.fromPretrained(folder);
    process.stdout.write(source);
    const pieces = streamText(model, tokenizer, { ...settings, prompt: source });
    for await (const text of pieces) process.stdout.write(text);
  } else {
    using inputIds = tensor([source], { dtype: 'int64' });
    process.stdout.write(source.join(','));
    for await (const { token } of model.stream({ ...settings, inputIds })) process.stdout.write(`,${token}`);
  }
  process.stdout.write('\n');
}
