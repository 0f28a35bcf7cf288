/**
 * The next token from logits [B, V], in native ops:
 *
 *   greedy    argmax
 *   sampling  softmax(logits / temperature) over the topK largest, of these the smallest set whose probabilities reach
 *             topP (Holtzman et al. 2020, https://arxiv.org/abs/1904.09751), in this order as in Hugging Face
 *
 * A temperature of 0 is the limit, greedy.
 */
import { multinomial, softmax, where, type Generator } from '../ops/index.js';
import type { Tensor } from '../tensor/tensor.js';

/** How the next token is chosen from the logits, named as in Hugging Face's `generate`. */
export interface SamplingOptions {
  /** Draw at random; false takes the most likely token. */
  doSample: boolean;
  /** The logits are divided by this; 0 takes the most likely token. */
  temperature: number;
  /** 0: no limit. */
  topK: number;
  /** 1: no limit. */
  topP: number;
  /** Where the numbers come from; undefined: the one that `manualSeed` seeds. */
  generator: Generator | undefined;
}

/** In place of a token where the logits of a row are not finite: no vocabulary has it. */
export const badToken = -1;

/**
 * Chooses a token for each row.
 *
 * @param logits [B, vocabulary], floats
 * @returns int64 [B]; {@link badToken} where a row's largest logit is NaN or infinite
 */
export function sampleTokens(logits: Tensor, options: SamplingOptions): Tensor {
  // The largest logit is NaN if any is.
  const valid = logits.amax(-1).isFinite();
  const greedy = !options.doSample || options.temperature === 0;
  // A row of NaN would make the distribution of every draw invalid.
  const ids = greedy ? logits.argmax(-1) : draw(where(valid.unsqueeze(1), logits, 0), options);
  return where(valid, ids, badToken);
}

function draw(logits: Tensor, { temperature, topK, topP, generator }: SamplingOptions): Tensor {
  const scaled = logits.float().div(temperature);
  const vocabulary = scaled.shape[1]!;
  const random = generator ? { generator } : {};
  if ((topK === 0 || topK >= vocabulary) && topP >= 1) return multinomial(softmax(scaled, -1), 1, random).squeeze(1);
  // Sampling among the sorted largest and looking their numbers up needs no scatter.
  const { values, indices } = scaled.topk(topK === 0 ? vocabulary : Math.min(topK, vocabulary), -1);
  let probs = softmax(values, -1);
  if (topP < 1) {
    const before = probs.cumsum(-1).sub(probs);
    const beyond = before.ge(topP);
    // The likeliest token stays, also with topP 0.
    beyond.narrow(1, 0, 1).fill_(false);
    probs = probs.maskedFill(beyond, 0);
  }
  // multinomial takes weights, so they need not sum to 1.
  return indices.gather(1, multinomial(probs, 1, random)).squeeze(1);
}
