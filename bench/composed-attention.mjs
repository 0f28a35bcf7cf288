// Causal attention out of public ops, one after the other, with all n · n scores in memory: what the fused kernel is
// compared with.
import { functional as F, ones, tidy } from 'fovea';

/** bool [n, n]: true where a query sees a key. */
export const causalMask = (n) => tidy(() => F.tril(ones([n, n], { dtype: 'bool' })));

/** softmax(q kᵀ / sqrt(d), where visible) v, of q, k, v [b, h, n, d]. */
export function composedAttention([q, k, v], visible) {
  const scores = F.mul(F.matmul(q, F.transpose(k, -2, -1)), q.shape.at(-1) ** -0.5);
  return F.matmul(F.softmax(F.where(visible, scores, -Infinity), -1), v);
}

/** Puts composed attention in the place of the fused one, in all layers of a GPT-2 without dropout. */
export function composeAttention({ transformer }, visible) {
  for (const { attn } of transformer.h) {
    const { cAttn, cProj, nHead } = attn;
    attn.forward = (x) =>
      tidy(() => {
        const [b, n, width] = x.shape;
        const parts = cAttn.forward(x).reshape([b, n, 3, nHead, width / nHead]);
        const attended = composedAttention(parts.permute([2, 0, 3, 1, 4]).unbind(0), visible);
        return { output: cProj.forward(attended.transpose(1, 2).reshape([b, n, width])), weights: undefined };
      });
  }
}
