// Cases of training GPT-2 (see cases.mjs), and what all cases of GPT-2 share: sizes, and operations by them.
import { define, floats, flopLimit, product } from './define-case.mjs';
import { gpt2Shapes } from './gpu-cases.mjs';

export const tinyModel = { vocabulary: 60, positions: 32, width: 32, layers: 2, heads: 2 };
export const gpt2 = (tiny) =>
  tiny ? tinyModel : { vocabulary: 50257, positions: 1024, width: 768, layers: 12, heads: 12 };
export const parameters = (model) => gpt2Shapes(model).reduce((sum, shape) => sum + product(shape), 0);

/**
 * Floating-point operations of a forward pass of GPT-2 over `b` sequences of `n` tokens, logits of `kept` of them each.
 */
export function gpt2Flops({ vocabulary, width, layers }, b, n, kept) {
  const products = 2 * 12 * width * width * n;
  const scores = 4 * width * n * n * 0.5;
  return b * (layers * (products + scores) + 2 * width * vocabulary * kept);
}

/** A whole step: forward, backward, AdamW; parameters in float32, and with bfloat16 products under autocast. */
export const trainCase = (group, kind, name, { model, batch, length, ...rest }, dtype) =>
  define(group, kind, `${name}, ${batch} x ${length}`, dtype, {
    model,
    batch,
    length,
    work: 3 * gpt2Flops(model, batch, length, length),
    limit: flopLimit(dtype),
    ...rest,
  });

/** @param tiny whether the cases are only to be run, not timed */
export function trainings(tiny) {
  const one = (name, model, batch, length, dtype) =>
    trainCase('training', 'train', name, { model, batch, length }, dtype);
  if (tiny) return floats.map((dtype) => one('tiny GPT', tinyModel, 2, 16, dtype));
  const characters = { vocabulary: 65, positions: 256, width: 384, layers: 6, heads: 6 };
  const small = { vocabulary: 1024, positions: 128, width: 256, layers: 4, heads: 4 };
  return [
    ...floats.map((dtype) => one('GPT-2 124M', gpt2(tiny), 4, 256, dtype)),
    ...floats.map((dtype) => one('GPT of characters, 6 x 384', characters, 16, 256, dtype)),
    one('GPT 4 x 256', small, 8, 128, 'float32'),
  ];
}
