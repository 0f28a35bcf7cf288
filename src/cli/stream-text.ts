/** Generates text piece by piece, also beyond the model's context. */
import type { GenerateOptions } from '../generate/generate.js';
import type { CausalLM } from '../models/causal-lm.js';
import { tensor } from '../ops/index.js';
import type { ByteTokenizer } from '../text/byte-tokenizer.js';

export type StreamTextOptions = Omit<GenerateOptions, 'inputIds' | 'attentionMask'> & { prompt: string };

/**
 * Gives the continuation of a prompt as it is made. When the context is full, generation goes on from its last half.
 *
 * @returns how many tokens were made
 */
export async function* streamText(
  model: CausalLM,
  tokenizer: ByteTokenizer,
  { prompt, maxNewTokens = 256, seed, ...options }: StreamTextOptions,
): AsyncGenerator<string, number> {
  const { nPositions } = model.config;
  const decoder = tokenizer.decoder();
  // An empty prompt begins a document.
  const tokens = prompt === '' ? [tokenizer.eosTokenId] : tokenizer.encode(prompt);
  let made = 0;
  for (let part = 0; made < maxNewTokens; part++) {
    // All of the prompt that fits is read once; later parts need room to go on.
    const seen = tokens.slice(-(part === 0 ? nPositions - 1 : Math.floor(nPositions / 2)));
    using inputIds = tensor([seen], { dtype: 'int64' });
    const room = Math.min(nPositions - seen.length, maxNewTokens - made);
    const stream = model.stream({
      ...options,
      ...(seed === undefined ? {} : { seed: seed + part }),
      inputIds,
      maxNewTokens: room,
    });
    for await (const { token } of stream) {
      tokens.push(token);
      made++;
      yield decoder.push(token);
    }
    if (stream.usage.finishReasons[0] !== 'length') break;
  }
  yield decoder.flush();
  return made;
}
