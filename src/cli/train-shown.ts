/** Training that the standard error stream tells about. */
import type { CausalLM } from '../models/causal-lm.js';
import type { Corpus } from '../train/corpus.js';
import { duration, ProgressLine } from '../train/progress.js';
import { bitsPerToken, trainCausalLM, type TrainOptions } from '../train/train.js';

/** Prints a line. */
export const say = (text: string): void => void process.stderr.write(`${text}\n`);

/** Trains with a line of progress, and says what that did to the text that was held out. */
export async function trainShown(
  model: CausalLM,
  corpus: Corpus,
  options: Omit<TrainOptions, 'onProgress'>,
): Promise<void> {
  const { steps, signal, contextLength } = options;
  const evaluation = { ...(signal ? { signal } : {}), ...(contextLength === undefined ? {} : { contextLength }) };
  const before = await bitsPerToken(model, corpus.validation, evaluation);
  const line = new ProgressLine();
  await trainCausalLM(model, corpus.train, {
    ...options,
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
}

/** Says how much text there is. */
export function sayText({ files, train, validation }: Corpus): void {
  const megabytes = ((train.length + validation.length) / 1e6).toFixed(2);
  say(`text: ${files} files, ${megabytes} MB, the last 5 % held out`);
}
