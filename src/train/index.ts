/** Training of language models on text, and objectives of all kinds of models. */
export { type Corpus, readCorpus } from './corpus.js';
export * from './data/index.js';
export { bitsPerToken, type EvaluateOptions, trainCausalLM, type TrainOptions, type TrainProgress } from './train.js';
export * from './objectives/index.js';
