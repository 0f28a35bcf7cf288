/**
 * Continues sequences token by token. Every step is awaited, so the event loop stays free and an AbortSignal takes
 * effect within one step; its intermediates are freed at its end.
 */
import { noGrad } from '../autograd/backward.js';
import { FoveaError } from '../errors.js';
import { throwIfAborted } from '../io/files.js';
import { Generator, tensor } from '../ops/index.js';
import {
  argumentError,
  countArg,
  numberArg,
  optionsArg,
  probabilityArg,
  shapeError,
  withoutUndefined,
} from '../tensor/check.js';
import { category } from '../tensor/dtype.js';
import { sameShape } from '../tensor/layout.js';
import { slotOf, type Tensor } from '../tensor/tensor.js';
import { tidy } from '../tensor/tidy.js';
import type { KvCache } from './kv-cache.js';
import type { LanguageModel } from './language-model.js';
import { RecordedDecoding } from './recorded-decoding.js';
import { badToken, sampleTokens, type SamplingOptions } from './sampler.js';
import { type FinishReason, type GeneratedToken, TokenStream, type Usage } from './token-stream.js';

/**
 * Options of `generate` and `stream`, by Hugging Face's names. Where the model's `generationConfig` has a value, that
 * is the default instead of the one given here. Hugging Face itself samples among 50 where nothing says topK; here,
 * among all.
 */
export interface GenerateOptions {
  /** Prompts: int64 [B, n], padded on the left. */
  inputIds: Tensor;
  /** [B, n]: 1 where a token is real, 0 where it is padding (default: all real). */
  attentionMask?: Tensor;
  /** Default 20. */
  maxNewTokens?: number;
  /** Draw tokens instead of taking the likeliest (default false). */
  doSample?: boolean;
  /** Divides the logits (default 1); 0 is greedy. */
  temperature?: number;
  /** Draw among this many likeliest; 0 (default): all. */
  topK?: number;
  /** Draw among the likeliest that together reach this probability (default 1: all). */
  topP?: number;
  /** Draw among those that have at least this part of the likeliest's probability (default 0: all). */
  minP?: number;
  /** Tokens that end a sequence (default: the config's); null: none. */
  eosTokenId?: number | readonly number[] | null;
  /** Fills sequences that ended before others (default: the config's, or the first that ends a sequence). */
  padTokenId?: number;
  /** Sequences of tokens that end a sequence, themselves included in it. */
  stop?: readonly (readonly number[])[];
  /** Makes the draws repeatable. */
  seed?: number;
  /** Where random numbers come from, instead of `seed`. */
  generator?: Generator;
  /** Keep keys and values of earlier tokens (default: the config's). */
  useCache?: boolean;
  /** Ends the generation: it then rejects with FOVEA_ABORTED. */
  signal?: AbortSignal;
}

const optionNames = [
  'inputIds',
  'attentionMask',
  'maxNewTokens',
  'doSample',
  'temperature',
  'topK',
  'topP',
  'minP',
  'eosTokenId',
  'padTokenId',
  'stop',
  'seed',
  'generator',
  'useCache',
  'signal',
] as const;

/** A long prompt is worked off in pieces of this many tokens, between which an abort is seen. */
const prefillTokens = 512;

interface Plan {
  model: LanguageModel;
  inputIds: Tensor;
  attentionMask: Tensor | undefined;
  maxNewTokens: number;
  sampling: SamplingOptions;
  eos: ReadonlySet<number>;
  pad: number;
  stop: readonly (readonly number[])[];
  useCache: boolean;
  signal: AbortSignal | undefined;
}

function randomSource({ seed, generator }: GenerateOptions): Generator | undefined {
  if (seed === undefined) return generator;
  if (generator) throw argumentError('generate', 'seed', 'nothing beside a generator', seed, 'pass one of them');
  return new Generator(seed);
}

/** Checks the prompts and how far they may go on. */
function checkPrompt({ inputIds, attentionMask }: GenerateOptions, maxNewTokens: number, nPositions: number): void {
  const { shape, dtype } = slotOf(inputIds, 'generate', 'inputIds');
  if (shape.length !== 2 || inputIds.size === 0)
    throw argumentError('generate', 'inputIds', 'token numbers [batch, tokens], at least one', [...shape]);
  if (category(dtype) !== 1)
    throw new FoveaError('FOVEA_DTYPE', `generate: expected integers for inputIds, received ${inputIds.dtype}`);
  if (attentionMask !== undefined && !sameShape(slotOf(attentionMask, 'generate', 'attentionMask').shape, shape))
    throw shapeError('generate', `attentionMask [${attentionMask.shape}] must have the shape of inputIds [${shape}]`);
  const room = nPositions - shape[1]!;
  if (countArg('generate', 'maxNewTokens', maxNewTokens) <= room) return;
  const expected = `at most ${room}, since the model has ${nPositions} positions`;
  throw argumentError('generate', 'maxNewTokens', expected, maxNewTokens);
}

function stopArg(stop: GenerateOptions['stop'] = []): readonly (readonly number[])[] {
  if (Array.isArray(stop) && stop.every((sequence) => Array.isArray(sequence) && sequence.length > 0)) return stop;
  throw argumentError('generate', 'stop', 'a list of sequences of tokens that are not empty', stop);
}

function planOf(model: LanguageModel, given: GenerateOptions): Plan {
  if (given === undefined) throw argumentError('generate', 'options', 'an object with inputIds', given);
  const options = optionsArg('generate', given, optionNames);
  const { config, generationConfig: own = {} } = model;
  const { inputIds, attentionMask, eosTokenId } = options;
  const {
    doSample = false,
    maxNewTokens = 20,
    temperature = 1,
    topK = 0,
    topP = 1,
    minP = 0,
  } = { ...own, ...withoutUndefined(options) };
  checkPrompt(options, maxNewTokens, config.nPositions);
  if (numberArg('generate', 'temperature', temperature) < 0)
    throw argumentError('generate', 'temperature', '0 or more', temperature);
  countArg('generate', 'topK', topK);
  probabilityArg('generate', 'topP', topP);
  probabilityArg('generate', 'minP', minP);
  const eos = eosTokenId === undefined ? (own.eosTokenIds ?? config.eosTokenIds) : [eosTokenId ?? []].flat();
  for (const id of eos) countArg('generate', 'eosTokenId', id);
  return {
    model,
    inputIds,
    attentionMask,
    maxNewTokens,
    sampling: { doSample, temperature, topK, topP, minP, generator: randomSource(options) },
    eos: new Set(eos),
    pad: countArg('generate', 'padTokenId', options.padTokenId ?? own.padTokenId ?? config.padTokenId ?? eos[0] ?? 0),
    stop: stopArg(options.stop),
    useCache: options.useCache ?? own.useCache ?? config.useCache,
    signal: options.signal,
  };
}

/** The tokens of one batch on the host, and what they imply for the next step. */
class Sequences {
  readonly batch: number;
  readonly rows: number[][];
  /** 1 where a token is real. */
  readonly mask: number[][];
  readonly reasons: (FinishReason | undefined)[];
  readonly #plan: Plan;
  readonly #prompt: number;
  /** Whether some token is not real. */
  readonly padded: boolean;

  constructor(plan: Plan, ids: BigInt64Array, mask: BigInt64Array | undefined) {
    const [batch, prompt] = plan.inputIds.shape as [number, number];
    const rowsOf = (values: ArrayLike<bigint>): number[][] =>
      Array.from({ length: batch }, (_, row) =>
        Array.from({ length: prompt }, (_unused, i) => Number(values[row * prompt + i])),
      );
    this.#plan = plan;
    this.#prompt = prompt;
    this.batch = batch;
    this.rows = rowsOf(ids);
    this.mask = mask ? rowsOf(mask) : this.rows.map((row) => row.map(() => 1));
    this.padded = this.mask.some((row) => row.includes(0));
    this.reasons = Array.from({ length: batch }, () => undefined);
    const unfit = this.mask.findIndex((row) => row.at(-1) === 0);
    if (unfit >= 0)
      throw argumentError('generate', 'attentionMask', 'padding on the left', `padding at the end of row ${unfit}`);
  }

  get length(): number {
    return this.rows[0]!.length;
  }

  get finished(): boolean {
    return this.reasons.every((reason) => reason !== undefined);
  }

  /** The last token of each sequence, int64 [B, 1], and its position where some are padded. */
  lastInput(): { inputIds: Tensor; positionIds?: Tensor } {
    const column = (numbers: number[]): Tensor =>
      tensor(
        numbers.map((n) => [n]),
        { dtype: 'int64', device: this.#plan.model.device },
      );
    const inputIds = column(this.rows.map((row) => row.at(-1)!));
    if (!this.padded) return { inputIds };
    return { inputIds, positionIds: column(this.mask.map((row) => row.reduce((sum, real) => sum + real, 0) - 1)) };
  }

  /** Arguments of `forward` for the positions from `start` to `end`. */
  input(start: number, end: number): { inputIds: Tensor; attentionMask?: Tensor; positionIds?: Tensor } {
    const slice = (rows: number[][], from: number): Tensor =>
      tensor(
        rows.map((row) => row.slice(from, end)),
        { dtype: 'int64', device: this.#plan.model.device },
      );
    const inputIds = slice(this.rows, start);
    if (!this.padded) return { inputIds };
    // A token's position counts the real tokens before it; padding has any position that exists.
    const positions = this.mask.map((row) => {
      let count = 0;
      return row.map((real) => Math.max(0, (count += real) - 1));
    });
    return { inputIds, attentionMask: slice(this.mask, 0), positionIds: slice(positions, start) };
  }

  /** Appends a step's tokens and gives those of sequences that had not ended. */
  append(ids: BigInt64Array): GeneratedToken[] {
    const index = this.length - this.#prompt;
    const tokens: GeneratedToken[] = [];
    for (const [row, id] of ids.entries()) {
      const done = this.reasons[row] !== undefined;
      const token = done ? this.#plan.pad : Number(id);
      if (token === badToken && !done) {
        throw new FoveaError(
          'FOVEA_NAN',
          `generate: the logits of sequence ${row} are not finite at new token ${index}; check the weights, or use a wider dtype`,
        );
      }
      this.rows[row]!.push(token);
      this.mask[row]!.push(1);
      if (done) continue;
      this.reasons[row] = this.#endOf(row, token, index);
      tokens.push({ token, row, index });
    }
    return tokens;
  }

  #endOf(row: number, token: number, index: number): FinishReason | undefined {
    if (this.#plan.eos.has(token)) return 'eos';
    const made = this.rows[row]!.slice(this.#prompt);
    const ends = (sequence: readonly number[]): boolean =>
      sequence.length <= made.length && sequence.every((id, i) => id === made[made.length - sequence.length + i]);
    if (this.#plan.stop.some(ends)) return 'stop';
    return index + 1 === this.#plan.maxNewTokens ? 'length' : undefined;
  }

  usage(promptTokens: number, completionTokens: number): Usage {
    const finishReasons = this.reasons.map((reason) => reason ?? 'length');
    return { promptTokens, completionTokens, totalTokens: promptTokens + completionTokens, finishReasons };
  }
}

/**
 * Works off a long prompt up to its last piece, so that an abort is seen between pieces. Only a cache allows it:
 * without one, a piece would not see what was before it.
 */
async function prefill({ model, signal }: Plan, sequences: Sequences, cache: KvCache): Promise<void> {
  while (sequences.length - cache.length > prefillTokens) {
    const end = cache.length + prefillTokens;
    const probe = noGrad(() =>
      tidy(() => {
        const input = { ...sequences.input(cache.length, end), pastKeyValues: cache, logitsToKeep: 1 };
        return model.forward(input).logits.narrow(2, 0, 1).clone();
      }),
    );
    // Reading a number is how to wait for this piece and no more.
    await probe.data({ as: 'float32' });
    probe.dispose();
    throwIfAborted(signal, 'generate');
  }
}

/** What a generation keeps from step to step. */
interface Memory {
  cache: KvCache;
  recorded: RecordedDecoding;
}

function memoryFor({ model, sampling, maxNewTokens }: Plan, sequences: Sequences): Memory {
  const cache = model.makeCache(sequences.batch, sequences.length + maxNewTokens);
  const mask = sequences.padded ? sequences.mask : undefined;
  return { cache, recorded: new RecordedDecoding(model, cache, sampling, mask) };
}

/** The next token of each sequence, int64 [B]. */
function step(plan: Plan, sequences: Sequences, memory: Memory | undefined): Tensor {
  const past = memory?.cache.length ?? 0;
  if (memory?.recorded.takes(sequences.length - past)) {
    const { inputIds, positionIds } = sequences.lastInput();
    return positionIds ? memory.recorded.next(inputIds, positionIds) : memory.recorded.next(inputIds);
  }
  const input = sequences.input(past, sequences.length);
  const { logits } = plan.model.forward({ ...input, pastKeyValues: memory?.cache, logitsToKeep: 1 });
  return sampleTokens(logits.select(1, 0), plan.sampling);
}

async function nextTokens(plan: Plan, sequences: Sequences, memory: Memory | undefined): Promise<BigInt64Array> {
  if (memory) await prefill(plan, sequences, memory.cache);
  const ids = noGrad(() => tidy(() => step(plan, sequences, memory)));
  try {
    return await ids.data<BigInt64Array>();
  } finally {
    ids.dispose();
  }
}

/** Generates and gives each token; the sequences it works on are handed out first through `started`. */
async function* run(plan: Plan, started?: (sequences: Sequences) => void): AsyncGenerator<GeneratedToken, Usage> {
  const { inputIds, attentionMask, maxNewTokens, useCache, signal } = plan;
  throwIfAborted(signal, 'generate');
  const [ids, mask] = await Promise.all([inputIds.data({ as: 'int64' }), attentionMask?.data({ as: 'int64' })]);
  const sequences = new Sequences(plan, ids, mask);
  started?.(sequences);
  const promptTokens = sequences.mask.flat().reduce((sum, real) => sum + real, 0);
  const memory = useCache ? memoryFor(plan, sequences) : undefined;
  let completionTokens = 0;
  try {
    for (let step = 0; step < maxNewTokens && !sequences.finished; step++) {
      const next = await nextTokens(plan, sequences, memory);
      throwIfAborted(signal, 'generate');
      const tokens = sequences.append(next);
      completionTokens += tokens.length;
      yield* tokens;
    }
    return sequences.usage(promptTokens, completionTokens);
  } finally {
    memory?.recorded.dispose();
    memory?.cache.dispose();
  }
}

/**
 * Continues the prompts.
 *
 * @returns int64 [B, prompt + new tokens], padded after the end of a sequence with `padTokenId`, as in Hugging Face
 * @throws FOVEA_ARGUMENT naming the option; FOVEA_NAN if logits are not finite; FOVEA_ABORTED
 */
export async function generate(model: LanguageModel, options: GenerateOptions): Promise<Tensor> {
  let sequences: Sequences | undefined;
  const tokens = run(planOf(model, options), (made) => {
    sequences = made;
  });
  while (!(await tokens.next()).done);
  return tensor(sequences!.rows, { dtype: 'int64', device: options.inputIds.device });
}

/**
 * Continues the prompts and gives each token as soon as it is known; `usage` follows the last.
 *
 * @throws as {@link generate}; arguments are checked at the call, the rest on iteration
 */
export function stream(model: LanguageModel, options: GenerateOptions): TokenStream {
  return new TokenStream(run(planOf(model, options)));
}
