/**
 * The next token from logits [B, V]:
 *
 *   greedy    argmax
 *   sampling  softmax(logits / temperature) over the topK largest, of these the smallest set whose probabilities reach
 *             topP (Holtzman et al. 2020, https://arxiv.org/abs/1904.09751), of these what has at least minP of the
 *             largest probability (Nguyen et al. 2024, https://arxiv.org/abs/2407.01082), in this order as in
 *             Hugging Face
 *
 * A temperature of 0 is the limit, greedy. Sampling is one native op.
 */
import { defineOp } from '../ops/define-op.js';
import { drawAt, drawCounters } from '../ops/random.js';
import { softmax, where, type Generator } from '../ops/index.js';
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
  /** 0: no limit. */
  minP: number;
  /** Where the numbers come from; undefined: the one that `manualSeed` seeds. */
  generator: Generator | undefined;
}

/** In place of a token where the logits of a row are not finite: no vocabulary has it. */
export const badToken = -1;

/** Whether each row [B, V] can be chosen from; the largest logit is NaN if any is. */
const validRows = (logits: Tensor): Tensor => logits.amax(-1).isFinite();

const sampleOp = defineOp({
  kernel: 'sampleTokens',
  saves: [],
  gradient: null,
  reference({ logits }, { temperature = 1, topK = 0, topP = 1, minP = 0, seed = 0, offset = 0 }) {
    const valid = validRows(logits);
    // A row of NaN would make the distribution of every draw invalid.
    const scaled = where(valid.unsqueeze(1), logits, 0).float().div(temperature);
    const vocabulary = scaled.shape[1]!;
    const limit = topK === 0 ? vocabulary : Math.min(topK, vocabulary);
    if (limit === vocabulary && topP >= 1 && minP === 0)
      return { ids: where(valid, drawAt(softmax(scaled, -1), seed, offset), badToken) };
    // Sampling among the sorted largest and looking their numbers up needs no scatter.
    const { values, indices } = scaled.topk(limit, -1);
    let probs = softmax(values, -1);
    const beyond = probs.lt(probs.narrow(1, 0, 1).mul(minP));
    const over = topP < 1 ? beyond.logicalOr(probs.cumsum(-1).sub(probs).ge(topP)) : beyond;
    // The likeliest token stays, also with topP 0.
    over.narrow(1, 0, 1).fill_(false);
    probs = probs.maskedFill(over, 0);
    const ids = indices.gather(1, drawAt(probs, seed, offset).unsqueeze(1)).squeeze(1);
    return { ids: where(valid, ids, badToken) };
  },
});

/**
 * Chooses a token for each row.
 *
 * @param logits [B, vocabulary], floats
 * @returns int64 [B]; {@link badToken} where a row's largest logit is NaN or infinite
 */
export function sampleTokens(logits: Tensor, options: SamplingOptions): Tensor {
  const { doSample, temperature, topK, topP, minP, generator } = options;
  if (!doSample || temperature === 0) return where(validRows(logits), logits.argmax(-1), badToken);
  const [batch, vocabulary] = logits.shape as [number, number];
  const counters = drawCounters('sampleTokens', batch, topK === 0 ? vocabulary : Math.min(topK, vocabulary), generator);
  return sampleOp({ logits }, { temperature, topK, topP, minP, ...counters }).ids;
}
