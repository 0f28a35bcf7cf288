/**
 * Rotary position embedding (Su et al. 2021, https://arxiv.org/abs/2104.09864): the first 2r of d components are
 * rotated in pairs by the angle of their position; the rest pass. It rotates by absolute positions; the scores of
 * attention then depend on differences.
 */
import { optionsArg, shapeError } from '../tensor/check.js';
import { accumulatorOf } from '../tensor/dtype.js';
import { slotOf, type Tensor } from '../tensor/tensor.js';
import { castTo } from './cast.js';
import { defineOp, type DefinedOp } from './define-op.js';
import { add, mul, neg } from './elementwise.js';
import { concat, stack } from './join.js';
import { flatten, reshape, slice, unsqueeze } from './shape.js';

const ropeOp: DefinedOp<'rope'> = defineOp({
  kernel: 'rope',
  saves: ['cos', 'sin'],
  reference({ x, cos, sin }, { interleaved = false, inverse = false }) {
    const r = cos.shape.at(-1)!;
    const c = castTo(unsqueeze(cos, 1), x.slot!.dtype);
    const s = castTo(unsqueeze(inverse ? neg(sin) : sin, 1), x.slot!.dtype);
    const first = interleaved ? slice(x, -1, 0, 2 * r, 2) : slice(x, -1, 0, r);
    const second = interleaved ? slice(x, -1, 1, 2 * r, 2) : slice(x, -1, r, 2 * r);
    const turned = [add(mul(first, c), neg(mul(second, s))), add(mul(second, c), mul(first, s))];
    const pairs = interleaved ? flatten(stack(turned, -1), -2) : concat(turned, -1);
    return { y: concat([pairs, slice(x, -1, 2 * r)], -1) };
  },
  // a rotation's transpose is its inverse
  gradient: ({ cos, sin }, { y: dy }, { interleaved, inverse }) => ({
    x: ropeOp({ x: dy, cos, sin }, { interleaved, inverse: !inverse }).y,
  }),
});

/** Options of `rope`. */
export interface RopeOptions {
  /** Pairs (0,1), (2,3), … instead of (i, i + r), which is what most checkpoints use. */
  interleaved?: boolean;
}

/**
 * Rotates queries or keys by the angles of their positions (Su et al. 2021). No gradient goes to the angles.
 *
 * @param x [b, h, n, d], or [h, n, d], floats
 * @param cos cosines of the angles, [n, r] or [b, n, r], 2r <= d
 * @param sin sines of the angles, of the shape of `cos`
 * @returns the shape and dtype of `x`
 * @throws FOVEA_SHAPE if the shapes do not fit, FOVEA_DTYPE for an `x` of integers or bool
 */
export function rope(x: Tensor, cos: Tensor, sin: Tensor, options?: RopeOptions): Tensor {
  const { interleaved = false } = optionsArg('rope', options, ['interleaved']);
  const { shape, dtype } = slotOf(x, 'rope', 'x');
  const angles = [cos, sin].map((a, i) => {
    const { shape: s } = slotOf(a, 'rope', i ? 'sin' : 'cos');
    if (s.length !== 2 && s.length !== 3)
      throw shapeError('rope', `expected angles [n,r] or [b,n,r], received [${s.join(',')}]`);
    return castTo((s.length === 2 ? unsqueeze(a, 0) : a).detach(), accumulatorOf(dtype));
  }) as [Tensor, Tensor];
  if (shape.length !== 4 && shape.length !== 3)
    throw shapeError('rope', `expected x [b,h,n,d] or [h,n,d], received [${shape.join(',')}]`);
  const input = shape.length === 3 ? unsqueeze(x, 0) : x;
  const { y } = ropeOp({ x: input, cos: angles[0], sin: angles[1] }, { interleaved, inverse: false });
  return input === x ? y : reshape(y, shape);
}
