/**
 * An encoder and a decoder that learn to restore spans of text, T5's objective: windows of bytes, out of which spans
 * are cut, and what was in them. Which spans is a function of the seed and the number of the batch.
 */
import type { Seq2SeqTransformer } from '../models/transformer/model.js';
import { countArg, optionsArg } from '../tensor/check.js';
import { ByteTokenizer } from '../text/byte-tokenizer.js';
import { spanCorruptionCollator } from '../train/data/span-corruption.js';
import type { RandomWindows, WindowBatch } from '../train/windows.js';
import { byteToken, denoisingTokens, sentinelIds } from './pair-tokens.js';
import type { TrainConfig } from './train-config.js';
import { tokensOf, windowsOf } from './train-language.js';
import { seq2seqTask, type TargetBatch } from './train-seq2seq.js';
import type { DenoisingSubject } from './train-subject.js';
import type { TrainTask } from './train-task.js';

/** Makes the batch with this number. */
type Corruption = (windows: WindowBatch, batch: number) => TargetBatch;

/** Of windows of `length` bytes. */
function corruptionOf(length: number, seed: number): Corruption {
  const { padTokenId: padId, bosTokenId: decoderStartId, eosTokenId: eosId } = denoisingTokens;
  const collate = spanCorruptionCollator({ padId, decoderStartId, eosId, sentinelIds: [...sentinelIds], seed });
  const { eosTokenId: endOfText } = new ByteTokenizer();
  return ({ tokens, starts }, batch) => {
    const texts = starts.map((start) =>
      Array.from(tokens.subarray(start, start + length), (byte) => (byte === endOfText ? eosId : byteToken(byte))),
    );
    const padded = collate(texts, { epoch: 0, batch });
    // As many tokens are cut out of each window, in as many spans, so that no target is padded.
    const [rows, target] = padded.labels.shape as [number, number];
    return { padded, lengths: new Array<number>(rows).fill(target) };
  };
}

/** Random windows without end, corrupted; a state says which come next. */
class CorruptedWindows implements AsyncIterable<TargetBatch> {
  readonly #windows: RandomWindows;
  readonly #corrupt: Corruption;
  #given = 0;

  constructor(windows: RandomWindows, corrupt: Corruption) {
    this.#windows = windows;
    this.#corrupt = corrupt;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<TargetBatch, void> {
    for await (const batch of this.#windows) yield this.#corrupt(batch, this.#given++);
  }

  /** Which batches were given out. */
  stateDict(): { windows: ReturnType<RandomWindows['stateDict']>; given: number } {
    return { windows: this.#windows.stateDict(), given: this.#given };
  }

  /** Goes on behind them. @throws FOVEA_ARGUMENT for what is no state */
  loadStateDict(state: unknown): void {
    const op = 'CorruptedWindows';
    const { windows, given } = optionsArg<Partial<ReturnType<this['stateDict']>>>(op, Object(state), [
      'windows',
      'given',
    ]);
    this.#given = countArg(op, 'given', given);
    this.#windows.loadStateDict(windows);
  }
}

/** What an encoder and a decoder learn of text, and from what; each evaluation cuts out the same spans. */
export async function denoisingTask(
  { data, context, transformer }: DenoisingSubject,
  config: TrainConfig,
): Promise<TrainTask<TargetBatch, Seq2SeqTransformer>> {
  const tokens = await tokensOf(data);
  const { trainData, evalData } = windowsOf({ config: new ByteTokenizer() }, tokens, config, context);
  const corrupt = corruptionOf(context, config.seed);
  return seq2seqTask(transformer, config.device, {
    trainData: new CorruptedWindows(trainData, corrupt),
    evalData: {
      async *[Symbol.asyncIterator]() {
        let batch = 0;
        for await (const windows of evalData) yield corrupt(windows, batch++);
      },
    },
  });
}
