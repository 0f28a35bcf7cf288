/** Trains a small GPT-2 on text and saves it: what `fovea train` and `npm start` share. */
import type { CausalLM } from '../models/causal-lm.js';
import { manualSeed } from '../ops/index.js';
import { ByteTokenizer } from '../text/byte-tokenizer.js';
import { readCorpus } from '../train/corpus.js';
import { duration, ProgressLine } from '../train/progress.js';
import { bitsPerToken, trainCausalLM } from '../train/train.js';
import { newModel } from './new-model.js';
import type { TrainTextOptions } from './train-options.js';

const say = (text: string): void => void process.stderr.write(`${text}\n`);

function makeModel(options: TrainTextOptions): CausalLM {
  manualSeed(options.seed);
  // One pass over part of the text cannot overfit.
  return newModel({ ...options, dropout: 0 });
}

/** Trains, saves and reports on the standard error stream. */
export async function trainText(options: TrainTextOptions): Promise<void> {
  const { paths, out, steps, layers, width, context, batch, lr, seed, device, precision, signal } = options;
  const corpus = await readCorpus(paths);
  const megabytes = ((corpus.train.length + corpus.validation.length) / 1e6).toFixed(2);
  say(`text: ${corpus.files} files, ${megabytes} MB, the last 5 % held out`);
  using model = makeModel(options).to(device);
  const size = (model.numParameters() / 1e6).toFixed(2);
  say(
    `model: GPT-2 layout, ${layers} layers, ${width} wide, ${size} million parameters, byte tokens, context ${context}`,
  );

  const evaluation = signal ? { signal } : {};
  const before = await bitsPerToken(model, corpus.validation, evaluation);
  const line = new ProgressLine();
  await trainCausalLM(model, corpus.train, {
    steps,
    batchSize: batch,
    lr,
    precision,
    seed,
    ...(signal ? { signal } : {}),
    onProgress: ({ step, loss, tokensPerSecond, secondsLeft }) => {
      const rate = Math.round(tokensPerSecond).toLocaleString('en');
      line.show(
        `step ${step}/${steps}  loss ${loss.toFixed(3)}  ${rate} tokens/s  ${duration(secondsLeft)} left`,
        step === steps,
      );
    },
  });
  line.end();
  const after = await bitsPerToken(model, corpus.validation, evaluation);
  say(`held-out text: ${before.toFixed(2)} bits per byte before, ${after.toFixed(2)} after training`);

  await model.savePretrained(out, evaluation);
  await new ByteTokenizer().savePretrained(out);
  say(`saved: ${out} (config.json, model.safetensors, tokenizer.json)`);
}
