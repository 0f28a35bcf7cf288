/** Training that the standard error stream tells about. */
import type { CausalLM } from '../models/causal-lm.js';
import type { Corpus } from '../train/corpus.js';
import type { TokenKind } from '../train/token-files.js';
import { duration, megabytes, ProgressLine } from '../train/progress.js';
import { bitsPerToken, trainCausalLM, type TrainOptions } from '../train/train.js';
import { say } from './say.js';

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
    onProgress: ({ step, loss, tokensPerSecond, secondsLeft, peakMemory }) => {
      const rate = `${Math.round(tokensPerSecond).toLocaleString('en')} tokens/s`;
      const parts = [`step ${step}/${steps}`, `loss ${loss.toFixed(3)}`, rate, `peak ${megabytes(peakMemory)}`];
      line.show([...parts, `${duration(secondsLeft)} left`].join('  '), step === steps);
    },
  });
  line.end();
  const after = await bitsPerToken(model, corpus.validation, evaluation);
  say(`held-out text: ${before.toFixed(2)} bits per byte before, ${after.toFixed(2)} after training`);
}

interface Amount {
  files: number;
  train: { readonly length: number };
  validation: { readonly length: number };
}

/** Says how much there is to read: text, of which a token is a byte, or token numbers. */
export function sayCorpus({ files, train, validation }: Amount, kind: TokenKind = 'text'): void {
  const tokens = train.length + validation.length;
  const size = kind === 'text' ? `${(tokens / 1e6).toFixed(2)} MB` : `${tokens.toLocaleString('en')} numbers`;
  const share = Number(((100 * validation.length) / tokens).toPrecision(2));
  say(`${kind}: ${files} files, ${size}, the last ${share} % held out`);
}
