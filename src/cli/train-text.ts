/** Trains a small GPT-2 on text and saves it: what `fovea train` and `npm start` share. */
import type { CausalLM } from '../models/causal-lm.js';
import { manualSeed } from '../ops/index.js';
import { ByteTokenizer } from '../text/byte-tokenizer.js';
import { readCorpus } from '../train/corpus.js';
import { newModel } from './new-model.js';
import type { TrainTextOptions } from './train-options.js';
import { say } from './say.js';
import { sayCorpus, trainShown } from './train-shown.js';

function makeModel(options: TrainTextOptions): CausalLM {
  manualSeed(options.seed);
  // One pass over part of the text cannot overfit.
  return newModel({ ...options, dropout: 0 });
}

/** Trains, saves and reports on the standard error stream. */
export async function trainText(options: TrainTextOptions): Promise<void> {
  const { paths, out, steps, layers, width, context, batch, lr, seed, device, precision, signal } = options;
  const corpus = await readCorpus(paths);
  sayCorpus(corpus);
  using model = makeModel(options).to(device);
  const size = (model.numParameters() / 1e6).toFixed(2);
  say(
    `model: GPT-2 layout, ${layers} layers, ${width} wide, ${size} million parameters, byte tokens, context ${context}`,
  );
  const cancel = signal ? { signal } : {};
  await trainShown(model, corpus, { steps, batchSize: batch, lr, precision, seed, ...cancel });
  await model.savePretrained(out, cancel);
  await new ByteTokenizer().savePretrained(out);
  say(`saved: ${out} (config.json, model.safetensors, tokenizer.json)`);
}
