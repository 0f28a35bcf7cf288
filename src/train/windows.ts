/** Batches of windows of one long sequence of tokens. */
import { FoveaError } from '../errors.js';
import type { CausalLM } from '../models/causal-lm.js';
import { Generator, type GeneratorState, narrow, randint, tensor } from '../ops/index.js';
import { argumentError, countArg, optionsArg } from '../tensor/check.js';
import type { Device } from '../tensor/device.js';
import type { Tensor } from '../tensor/tensor.js';
import { tidy } from '../tensor/tidy.js';
import type { TokenSource } from './token-files.js';

/** Some windows of a text, of which only the length may be known as yet. */
export interface Windows<T extends { readonly length: number }> {
  tokens: T;
  /** Where they begin. */
  starts: readonly number[];
}

/** Some windows of a text that is there. */
export type WindowBatch = Windows<Uint16Array>;

/** What says how many tokens there are, such as a model. */
export interface HasVocabulary {
  config: { readonly vocabSize: number };
}

/** A sequence of tokens, in memory or not. */
export type Tokens = Uint16Array | TokenSource;

/** Reads windows of `length` tokens, one behind the other, unless the text is there anyway. */
export async function readWindows({ tokens, starts }: Windows<Tokens>, length: number): Promise<WindowBatch> {
  if (tokens instanceof Uint16Array) return { tokens, starts };
  const read = new Uint16Array(starts.length * length);
  const parts = await Promise.all(starts.map((start) => tokens.read(start, length)));
  for (const [i, part] of parts.entries()) read.set(part, i * length);
  return { tokens: read, starts: parts.map((_, i) => i * length) };
}

/** Windows of `length` tokens as int64 [windows, length]. */
function windowsAt({ tokens, starts }: WindowBatch, length: number, device: Device): Tensor {
  const ids = new BigInt64Array(starts.length * length);
  for (const [row, start] of starts.entries()) {
    for (let i = 0; i < length; i++) ids[row * length + i] = BigInt(tokens[start + i]!);
  }
  return tensor(ids, { shape: [starts.length, length], dtype: 'int64', device });
}

/** The mean loss of a language model on windows of `length` tokens, in nats per token. */
export function windowsLoss(model: CausalLM, batch: WindowBatch, length: number): Tensor {
  const inputIds = windowsAt(batch, length, model.device);
  return model.forward({ inputIds, labels: inputIds, outputLogits: false }).loss!;
}

/** What a language model predicts in windows of `length` tokens, and what is there: [n, classes] and int64 [n]. */
export function windowsLogits(
  model: CausalLM,
  batch: WindowBatch,
  length: number,
): { inputIds: Tensor; logits: Tensor; labels: Tensor } {
  const inputIds = windowsAt(batch, length, model.device);
  const { logits } = model.forward({ inputIds });
  return { inputIds, logits: predictions(logits), labels: narrow(inputIds, 1, 1, length - 1).reshape([-1]) };
}

/** @param logits [windows, length, classes] @returns those that foresee a token of the window, [n, classes] */
export function predictions(logits: Tensor): Tensor {
  const [, length, classes] = logits.shape as [number, number, number];
  return narrow(logits, 1, 0, length - 1).reshape([-1, classes]);
}

/** There must be a window. */
export function checkLength(op: string, tokens: { readonly length: number }, length: number): void {
  if (tokens.length >= length) return;
  const expected = `at least ${length} tokens, one window`;
  throw argumentError(op, 'tokens', expected, tokens.length, 'use more text or a shorter context');
}

/**
 * A token that the model lacks would fail in the middle of a step, and the step would pass the failure to the weights.
 */
export function checkTokens(op: string, tokens: Uint16Array, length: number, { config }: HasVocabulary): void {
  if (!(tokens instanceof Uint16Array)) throw argumentError(op, 'tokens', 'a Uint16Array of token numbers', tokens);
  checkLength(op, tokens, length);
  const { vocabSize } = config;
  const unknown = tokens.find((token) => token >= vocabSize);
  if (unknown === undefined) return;
  throw new FoveaError('FOVEA_INDEX', `${op}: token ${unknown} is not in the model's vocabulary of ${vocabSize}`);
}

/** At most `count` windows that are evenly spread over the tokens, `batchSize` at a time. */
export function spreadWindows<T extends { readonly length: number }>(
  tokens: T,
  length: number,
  count: number,
  batchSize: number,
): Windows<T>[] {
  const room = tokens.length - length;
  const most = Math.min(count, room + 1);
  const starts = Array.from({ length: most }, (_, i) => Math.floor((i * room) / Math.max(1, most - 1)));
  const batches = Math.ceil(most / batchSize);
  return Array.from({ length: batches }, (_, i) => ({
    tokens,
    starts: starts.slice(i * batchSize, (i + 1) * batchSize),
  }));
}

/** Batches that are drawn at once, since drawing waits for the stream. */
const ahead = 64;

/** Random windows without end; a state says which come next. */
export class RandomWindows implements AsyncIterable<WindowBatch> {
  readonly #tokens: Tokens;
  readonly #length: number;
  readonly #batchSize: number;
  readonly #generator: Generator;
  /** Of the generator, before the draw that is being given out. */
  #drawnFrom: GeneratorState;
  #given = 0;

  /** @param tokens at least one window of `length` */
  constructor(tokens: Tokens, length: number, batchSize: number, seed: number) {
    this.#tokens = tokens;
    this.#length = length;
    this.#batchSize = batchSize;
    this.#generator = new Generator(seed);
    this.#drawnFrom = this.#generator.getState();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<WindowBatch, never> {
    const [tokens, count] = [this.#tokens, this.#batchSize];
    const places = tokens.length - this.#length + 1;
    for (;;) {
      this.#generator.setState(this.#drawnFrom);
      const drawn = tidy(() => randint(0, places, [ahead * count], { generator: this.#generator }));
      const starts = Array.from(await drawn.data<BigInt64Array>(), Number);
      drawn.dispose();
      while (this.#given < ahead) {
        this.#given++;
        const chosen = { tokens, starts: starts.slice((this.#given - 1) * count, this.#given * count) };
        yield await readWindows(chosen, this.#length);
      }
      this.#drawnFrom = this.#generator.getState();
      this.#given = 0;
    }
  }

  /** Which windows were given out. */
  stateDict(): { drawnFrom: GeneratorState; given: number } {
    return { drawnFrom: { ...this.#drawnFrom }, given: this.#given };
  }

  /** Goes on behind them. @throws FOVEA_ARGUMENT for what is no state */
  loadStateDict(state: unknown): void {
    const op = 'RandomWindows';
    const given = optionsArg<Partial<ReturnType<this['stateDict']>>>(op, Object(state), ['drawnFrom', 'given']);
    this.#given = countArg(op, 'given', given.given);
    this.#drawnFrom = new Generator().setState(Object(given.drawnFrom)).getState();
  }
}
