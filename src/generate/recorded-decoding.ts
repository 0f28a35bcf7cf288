/**
 * Decoding steps without their JavaScript: the ops of one token, from its embedding to the choice of the next, are
 * recorded (`record`) at the first step behind the prompt and replayed at all others; positions and lengths of the
 * cache are numbers of the replay.
 */
import { noGrad } from '../autograd/backward.js';
import { Module } from '../nn/module.js';
import { isSurrounded } from '../nn/surroundings.js';
import { tensor } from '../ops/index.js';
import { modeChanges } from '../tensor/capture.js';
import { isAutocastEnabled } from '../tensor/modes.js';
import { record, type RecordedStep } from '../tensor/record.js';
import type { Tensor } from '../tensor/tensor.js';
import { keep } from '../tensor/tidy.js';
import type { KvCache } from './kv-cache.js';
import type { LanguageModel } from './language-model.js';
import { type SamplingOptions, sampleTokens } from './sampler.js';

/** What a step is given. */
type Inputs = [inputIds: Tensor] | [inputIds: Tensor, positionIds: Tensor];

/** The steps of one generation. */
export class RecordedDecoding implements Disposable {
  readonly #model: LanguageModel;
  readonly #cache: KvCache;
  readonly #mask: Tensor | undefined;
  readonly #step: RecordedStep<Inputs, Tensor>;
  #modes = -1;
  #recordable = false;

  /** @param mask of the prompts, by row, where some are padded: 1 where a token is real */
  constructor(
    model: LanguageModel,
    cache: KvCache,
    sampling: SamplingOptions,
    mask: readonly (readonly number[])[] | undefined,
  ) {
    this.#model = model;
    this.#cache = cache;
    const rowOf = (row: readonly number[]): boolean[] => Array.from({ length: cache.capacity }, (_, i) => row[i] !== 0);
    this.#mask = mask && keep(tensor(mask.map(rowOf), { dtype: 'bool', device: model.device }));
    this.#step = record((...[inputIds, positionIds]: Inputs) =>
      noGrad(() => {
        const attentionMask = this.#mask && cache.maskOf(this.#mask, 1);
        const input = { inputIds, positionIds, attentionMask, pastKeyValues: cache, logitsToKeep: 1 };
        return sampleTokens(model.forward(input).logits.select(1, 0), sampling);
      }),
    );
  }

  /**
   * Whether the next step, of `count` tokens, may be recorded. Under `autocast` it may not, since parameters that were
   * converted once would be converted by every replay; nor while something watches the model's calls.
   */
  takes(count: number): boolean {
    if (this.#modes !== modeChanges) {
      this.#modes = modeChanges;
      const model = this.#model;
      const watched = model instanceof Module && isSurrounded(model.modules());
      this.#recordable = (model.recordable ?? false) && !watched;
    }
    return this.#recordable && count === 1 && this.#cache.length > 0 && !isAutocastEnabled();
  }

  /**
   * The next token of each sequence, int64 [B].
   *
   * @param inputs int64 [B, 1] each, the positions where rows are padded
   */
  next(...inputs: Inputs): Tensor {
    return this.#step(...inputs);
  }

  /** Frees the recording. */
  dispose(): void {
    this.#step.dispose();
    this.#mask?.dispose();
  }
  /** What `using` calls: `dispose()`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}
