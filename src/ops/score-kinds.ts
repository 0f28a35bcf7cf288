/** The scoring functions there are: what `score` offers. See score.ts for what one is. */
import { shapeError } from '../tensor/check.js';
import type { Tensor } from '../tensor/tensor.js';
import { floatsArg } from './floats-arg.js';
import { linear } from './linear.js';
import { matmul } from './matmul.js';
import { defaultScale, Score } from './score.js';
import { narrow, unsqueeze } from './shape.js';

/** q . k (Luong et al. 2015, https://arxiv.org/abs/1508.04025, eq. 8). @returns a scoring function */
export function dot(): Score {
  return new Score('dot()', (_, q, k) => ({ q, k, scale: 1 }));
}

/**
 * q . k / sqrt(d), attention's own (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762).
 *
 * @returns a scoring function
 */
export function scaledDot(): Score {
  return new Score('scaledDot()', (_, q, k) => ({ q, k, scale: defaultScale(q) }));
}

/**
 * q^T W k: bilinear, Luong's `general`; q and k may have different widths.
 *
 * @param weight [d of q, d of k], or [h, d of q, d of k] with one for each head; floats
 * @throws FOVEA_SHAPE for any other rank (and in attention, for other widths), FOVEA_DTYPE for what are no floats
 */
export function general(weight: Tensor): Score {
  floatsArg('score.general', 'weight', weight, [2, 3]);
  return new Score(`general(${String(weight)})`, (op, q, k) => {
    const [from, to] = weight.shape.slice(-2) as [number, number];
    const heads = weight.rank === 3 ? weight.shape[0]! : 1;
    if (q.shape[3] !== from || k.shape[3] !== to || (heads !== 1 && heads !== q.shape[1]))
      throw shapeError(op, `general has a weight [${weight.shape}] for q [${q.shape}] and k [${k.shape}]`);
    return { q: matmul(q, weight), k, scale: 1 };
  });
}

/** [a] or [h, a] as [1 or h, a]. */
const perHead = (vector: Tensor): Tensor => (vector.rank === 1 ? unsqueeze(vector, 0) : vector);

/**
 * v^T tanh(W_q q + W_k k): additive attention (Bahdanau et al. 2015, https://arxiv.org/abs/1409.0473, A.1.2), where q
 * is the decoder's state before the step.
 *
 * @param queryWeight W_q [a, d of q], as the weight of a linear layer
 * @param keyWeight W_k [a, d of k]
 * @param vector v [a], or [h, a] with one for each head
 * @throws FOVEA_SHAPE where they do not fit each other (and in attention, q and k), FOVEA_DTYPE for what are no floats
 */
export function additive(queryWeight: Tensor, keyWeight: Tensor, vector: Tensor): Score {
  const op = 'score.additive';
  const [a] = floatsArg(op, 'queryWeight', queryWeight, [2]);
  const [b] = floatsArg(op, 'keyWeight', keyWeight, [2]);
  const width = floatsArg(op, 'vector', vector, [1, 2]).at(-1);
  if (a !== b || a !== width)
    throw shapeError(
      op,
      `expected queryWeight [a,dq], keyWeight [a,dk] and vector [a], received [${queryWeight.shape}], [${keyWeight.shape}] and [${vector.shape}]`,
    );
  return new Score(`additive(${[queryWeight, keyWeight, vector].map(String).join(', ')})`, (attends, q, k) => {
    if (queryWeight.shape[1] !== q.shape[3] || keyWeight.shape[1] !== k.shape[3])
      throw shapeError(
        attends,
        `additive has weights [${queryWeight.shape}] and [${keyWeight.shape}], but q and k are ${q.shape[3]} and ${k.shape[3]} wide`,
      );
    return { q: linear(q, queryWeight), k: linear(k, keyWeight), vector: perHead(vector), scale: 1 };
  });
}

/**
 * v^T tanh(W [q; k]): Luong's `concat`, which is `additive` with the parts of W that meet q and k.
 *
 * @param weight W [a, d of q + d of k]
 * @param vector v [a], or [h, a] with one for each head
 * @throws FOVEA_SHAPE where they do not fit each other (and in attention, q and k), FOVEA_DTYPE for what are no floats
 */
export function concat(weight: Tensor, vector: Tensor): Score {
  const op = 'score.concat';
  const [a, all] = floatsArg(op, 'weight', weight, [2]) as [number, number];
  if (floatsArg(op, 'vector', vector, [1, 2]).at(-1) !== a)
    throw shapeError(op, `expected weight [a,dq+dk] and vector [a], received [${weight.shape}] and [${vector.shape}]`);
  return new Score(`concat(${String(weight)}, ${String(vector)})`, (attends, q, k) => {
    const [dq, dk] = [q.shape[3]!, k.shape[3]!];
    if (dq + dk !== all)
      throw shapeError(attends, `concat has a weight [${weight.shape}], but q and k are ${dq} and ${dk} wide`);
    return {
      q: linear(q, narrow(weight, 1, 0, dq)),
      k: linear(k, narrow(weight, 1, dq, dk)),
      vector: perHead(vector),
      scale: 1,
    };
  });
}
