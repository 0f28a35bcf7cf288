/** Training of language models. */
export { type Corpus, readCorpus } from './corpus.js';
export * from './data/index.js';
export { bitsPerToken, type EvaluateOptions, trainCausalLM, type TrainOptions, type TrainProgress } from './train.js';
