// Cases that show what fused attention is worth (see cases.mjs): with gradients, by itself and in whole steps of
// training a GPT-2, each by the fused kernel and by attention out of public ops (composed-attention.mjs), which has all
// scores in memory. Both stand for the same work. `beside` names the fused case of a composed one.
import { denseCase } from './attention-cases.mjs';
import { floats } from './define-case.mjs';
import { tinyModel, trainCase } from './gpt2-cases.mjs';

/** As wide as GPT-2 124M; no deeper, and with no more tokens, than lets composed attention fit into memory. */
const slim = { vocabulary: 1024, positions: 4096, width: 768, layers: 2, heads: 12 };

/** @param make gives the case, of composed attention if true is passed */
function pair(make) {
  const fused = make(false);
  return [fused, { ...make(true), beside: fused.id }];
}

/** @param tiny whether the cases are only to be run, not timed */
export function fusedCases(tiny) {
  const model = tiny ? tinyModel : slim;
  const name = tiny ? 'tiny GPT' : `GPT-2, ${slim.layers} layers, vocabulary ${slim.vocabulary}`;
  // As many tokens each: only attention differs.
  const shapes = tiny
    ? [
        [2, 8],
        [1, 16],
      ]
    : [
        [4, 1024],
        [1, 4096],
      ];
  const attention = (dtype, b, n) => (composed) =>
    denseCase('fused', composed ? 'composedBackward' : 'attentionBackward', dtype, {
      op: composed ? 'composedAttention' : 'attention',
      b,
      h: model.heads,
      n,
      d: model.width / model.heads,
      causal: true,
      backward: true,
    });
  const training = (dtype, batch, length) => (composed) =>
    trainCase('fused', composed ? 'composedTrain' : 'train', name, { model, batch, length }, dtype);
  return floats.flatMap((dtype) =>
    [attention, training].flatMap((kind) => shapes.flatMap(([b, n]) => pair(kind(dtype, b, n)))),
  );
}
