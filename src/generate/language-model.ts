/** What generation and training ask of a model that predicts the next token. */
import type { Mask } from '../ops/mask.js';
import type { Device } from '../tensor/device.js';
import type { Tensor } from '../tensor/tensor.js';
import type { KvCache } from './kv-cache.js';

/** Arguments of a language model's `forward`. */
export interface CausalLMInput {
  /** int64 [B, n]. */
  inputIds: Tensor;
  /** [B, m] with m = cached + new tokens; 1 or true where a token is real (default: all). */
  attentionMask?: Tensor | undefined;
  /**
   * What else tokens may see, joined with causality and `attentionMask`: `mask.documents(ids)` keeps sequences apart
   * that are packed into one row, for which `positionIds` begin anew in each.
   */
  mask?: Mask | undefined;
  /** int64 [B, n] or [n] (default: cached, cached + 1, …). Left-padded batches need them; `generate` makes them. */
  positionIds?: Tensor | undefined;
  /** int64 [B, n]: the tokens themselves, which are compared with the predictions before them; -100 does not count. */
  labels?: Tensor | undefined;
  /** Keys and values of the tokens before; the new ones are appended. */
  pastKeyValues?: KvCache | undefined;
  /** Compute the logits of the last positions only; 0 means all (default). */
  logitsToKeep?: number | undefined;
  /**
   * Whether to compute logits (default true). Without them a loss takes the vocabulary's logits a few rows at a time,
   * and `logits` has no positions.
   */
  outputLogits?: boolean | undefined;
  /** Return what every block gives. */
  outputHiddenStates?: boolean | undefined;
  /** Return probabilities, which needs memory in proportion to n · m. */
  outputAttentions?: boolean | undefined;
}

/** Results of a language model's `forward`. */
export interface CausalLMOutput {
  /** [B, n, vocabulary], or fewer positions with `logitsToKeep`, none without `outputLogits`. */
  logits: Tensor;
  /** After the embeddings and after each block, [B, n, width] each; the last is the normalised one. */
  hiddenStates?: Tensor[];
  /** By block, [B, heads, n, m] each. */
  attentions?: Tensor[];
  /** Mean cross entropy in nats, a scalar, if there were labels. */
  loss?: Tensor;
}

/** What generation must know of a model's config. */
export interface CausalLMConfig {
  /** Tokens. */
  readonly vocabSize: number;
  /** Whether generation keeps keys and values. */
  readonly useCache: boolean;
  /** Tokens that end a sequence. */
  readonly eosTokenIds: readonly number[];
  /** Fills sequences that ended before others. */
  readonly padTokenId: number | undefined;
  /** Longest sequence. */
  readonly nPositions: number;
}

/** Defaults of `generate` that a model brings, under the names of its options; what is left out is as for any model. */
export interface GenerationConfig {
  readonly doSample?: boolean;
  readonly temperature?: number;
  readonly topK?: number;
  readonly topP?: number;
  readonly minP?: number;
  readonly maxNewTokens?: number;
  /** Tokens that end a sequence, instead of the config's. */
  readonly eosTokenIds?: readonly number[];
  /** Instead of the config's. */
  readonly padTokenId?: number;
  /** Instead of the config's. */
  readonly useCache?: boolean;
}

/** A model that {@link generate} can run. */
export interface LanguageModel {
  /** Its sizes and tokens. */
  readonly config: CausalLMConfig;
  /** Defaults of its own; `load` takes them from the checkpoint. */
  readonly generationConfig?: GenerationConfig;
  /** Where its weights are, and its inputs have to be. */
  readonly device: Device;
  /**
   * Whether `forward` of one token with a cache that is not empty queues the same ops whatever came before, and does
   * nothing else, so that `generate` may record it (default false).
   */
  readonly recordable?: boolean;
  /** Logits for each position; see the model. */
  forward(input: CausalLMInput): CausalLMOutput;
  /** An empty cache for `capacity` positions of `batch` sequences. */
  makeCache(batch: number, capacity: number): KvCache;
}
