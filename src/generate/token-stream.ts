/** Generated tokens as they come, with an account at the end. */
import { FoveaError } from '../errors.js';

/** One token of one sequence. */
export interface GeneratedToken {
  /** Its number. */
  token: number;
  /** Which sequence of the batch. */
  row: number;
  /** Counts the new tokens of the sequence from 0. */
  index: number;
}

/** Why a sequence ended. */
export type FinishReason = 'eos' | 'stop' | 'length';

/** What a generation took. */
export interface Usage {
  /** Real tokens of all prompts, padding aside. */
  promptTokens: number;
  /** New tokens of all sequences, the ending ones included. */
  completionTokens: number;
  /** Both. */
  totalTokens: number;
  /** By sequence. */
  finishReasons: FinishReason[];
}

/** Iterate it once with `for await`; leaving the loop ends the generation and frees its memory. */
export class TokenStream implements AsyncIterableIterator<GeneratedToken, undefined> {
  readonly #source: AsyncGenerator<GeneratedToken, Usage>;
  #usage: Usage | undefined;

  constructor(source: AsyncGenerator<GeneratedToken, Usage>) {
    this.#source = source;
  }

  /**
   * What the generation took, once its last token was given out.
   *
   * @throws FOVEA_ARGUMENT before the end, and after a generation that was left early
   */
  get usage(): Usage {
    if (this.#usage) return this.#usage;
    throw new FoveaError('FOVEA_ARGUMENT', 'usage: known only after the last token; iterate the stream to its end');
  }

  /** The next token, once it is computed; rejects with what ended the generation, if it failed. */
  async next(): Promise<IteratorResult<GeneratedToken, undefined>> {
    const result = await this.#source.next();
    if (!result.done) return result;
    // A stream that was left, or asked again after its end, has no value.
    this.#usage ??= result.value;
    return { done: true, value: undefined };
  }

  /** Ends the generation and frees its memory. */
  async return(): Promise<IteratorResult<GeneratedToken, undefined>> {
    // The value is not read: a stream that is left early has no usage.
    await this.#source.return({ promptTokens: 0, completionTokens: 0, totalTokens: 0, finishReasons: [] });
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** Ends the generation, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.return();
  }
}
