// Attention that libraries in WebAssembly are not asked for: they have all scores in memory, several times.
import { Unsupported } from './serve.mjs';

const mostScores = 2 ** 26;

/** @throws Unsupported where the case is none for them */
export function refuseAttention({ b, h, g, n, m }) {
  if (g !== h) throw new Unsupported('nothing is written for heads that share keys');
  if (b * h * n * m > mostScores) throw new Unsupported('the scores of all heads are more than its memory holds');
}
