/** Continuing text with a language model, and searching for the likeliest sequences. */
export { beamSearch, type BeamSearchOptions, type Hypothesis } from './beam-search.js';
export { EncoderDecoderCache } from './encoder-decoder-cache.js';
export { generate, type GenerateOptions, stream } from './generate.js';
export { KvCache, type KvCacheOptions } from './kv-cache.js';
export type { GenerationConfig, LanguageModel } from './language-model.js';
export { type FinishReason, type GeneratedToken, TokenStream, type Usage } from './token-stream.js';
