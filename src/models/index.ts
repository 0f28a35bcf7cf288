/** Models by the names of Hugging Face, and how to load them. */
export { loadAdapter, type LoadAdapterOptions, saveAdapter, type SaveAdapterOptions } from './adapter-files.js';
export { load } from './auto.js';
export type { CausalLMConfig, CausalLMInput, CausalLMOutput, GenerationConfig } from '../generate/language-model.js';
export { CausalLM } from './causal-lm.js';
export type { LoadProgress } from './checkpoint.js';
export { type GPT2Config, type GPT2Options } from './gpt2/config.js';
export { GPT2LMHeadModel } from './gpt2/model.js';
export type { LoadOptions } from './pretrained.js';
export { type TransformerConfig, type TransformerOptions } from './transformer/config.js';
export {
  Seq2SeqTransformer,
  type Seq2SeqGenerateOptions,
  type Seq2SeqInput,
  type Seq2SeqOutput,
} from './transformer/model.js';
