/** `fovea generate` with an encoder-decoder. */
import { Seq2SeqTransformer } from '../models/transformer/model.js';
import { tensor } from '../ops/index.js';
import type { Device } from '../tensor/device.js';
import { decodePart, encoderOf } from './pair-tokens.js';

/** Options as the command line gives them. */
export interface TranslateOptions {
  maxNewTokens: number;
  beams: number;
  device: Device;
  signal: AbortSignal;
}

/** Prints what the model makes of a source: text of text, token numbers of token numbers, the end's included. */
export async function translateCommand(
  folder: string,
  source: string | readonly number[],
  { maxNewTokens, beams: numBeams, device, signal }: TranslateOptions,
): Promise<void> {
  using model = await Seq2SeqTransformer.fromPretrained(folder, { signal, device });
  const ids = typeof source === 'string' ? encoderOf(model.config)(source) : source;
  using inputIds = tensor([ids], { dtype: 'int64', device });
  using found = await model.generate({ inputIds, maxNewTokens, numBeams, signal });
  const target = Array.from(await found.data<BigInt64Array>(), Number);
  process.stdout.write(`${typeof source === 'string' ? decodePart(target) : target.join(',')}\n`);
}
