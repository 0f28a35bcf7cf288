/**
 * What attention remembers of earlier calls, so that decoding projects what is new only: of the decoder's own tokens
 * the keys and values so far, to which each call appends; of the memory all of them, which the first call projects.
 * Hugging Face's `past_key_values`.
 */
import type { Tensor } from '../tensor/tensor.js';

/** Projected, and in heads: [B, h, n, d] each. */
export interface KeysAndValues {
  k: Tensor;
  v: Tensor;
}

/** The memory of one attention. */
export interface AttentionCache {
  /**
   * @param project projects what a call was given
   * @returns all that the call's queries may see, [B, h, m, d]
   */
  remember(project: () => KeysAndValues): KeysAndValues;
}

/** The memory of both attentions of a decoder layer. */
export interface DecoderLayerCache {
  /** Of targets to targets: it grows. */
  readonly selfAttention: AttentionCache;
  /** Of targets to the encoder's output: it stays. */
  readonly crossAttention: AttentionCache;
}
