/** What objectives of rows share: of padded tokens and of queries that see nothing no loss counts. */
import { FoveaError } from '../../errors.js';
import { div, ne, type Reduction, sum, where } from '../../ops/index.js';
import { castTo } from '../../ops/cast.js';
import { floatsArg } from '../../ops/floats-arg.js';
import { reduced } from '../../ops/loss-common.js';
import { integerArg, shapeError } from '../../tensor/check.js';
import { accumulatorOf, Code, isFloat } from '../../tensor/dtype.js';
import { sameShape } from '../../tensor/layout.js';
import { slotOf, type Tensor } from '../../tensor/tensor.js';

/**
 * Losses of rows as one number.
 *
 * @param counts bool, of the shape of `loss`: which count; undefined: all
 * @returns 0-d, or with 'none' the losses, 0 where a row does not count; the mean over no rows is NaN
 */
export function reduceRows(loss: Tensor, counts: Tensor | undefined, reduction: Reduction): Tensor {
  if (counts === undefined) return reduced(loss, reduction);
  const kept = where(counts, loss, 0);
  if (reduction !== 'mean') return reduced(kept, reduction);
  return div(sum(kept), sum(castTo(counts, loss.slot!.dtype)));
}

const anyRank = [1, 2, 3, 4, 5, 6, 7, 8];
/**
 * Logits of rows, in the dtype that they are computed in: float32 for 16-bit floats.
 *
 * @returns [..., c]
 * @throws FOVEA_DTYPE for what are no floats, FOVEA_SHAPE for no axis of classes
 */
export function logitsArg(op: string, argument: string, logits: Tensor): Tensor {
  floatsArg(op, argument, logits, anyRank);
  return castTo(logits, accumulatorOf(logits.slot!.dtype));
}

/**
 * Which rows of logits [..., c] count: those whose target is not `ignoreIndex`.
 *
 * @returns bool [...]
 * @throws FOVEA_DTYPE for targets that are no class numbers, FOVEA_SHAPE unless there is one for each row
 */
export function countedRows(op: string, argument: string, target: Tensor, logits: Tensor, ignoreIndex: number): Tensor {
  const { dtype, shape } = slotOf(target, op, argument);
  if (isFloat(dtype) || dtype === Code.bool)
    throw new FoveaError(
      'FOVEA_DTYPE',
      `${op}: expected class numbers (int64) for ${argument}, received ${target.dtype}`,
    );
  const rows = logits.shape.slice(0, -1);
  if (!sameShape(shape, rows))
    throw shapeError(
      op,
      `logits [${logits.shape.join(',')}] need ${argument} [${rows.join(',')}], received [${shape.join(',')}]`,
    );
  return ne(target, integerArg(op, 'ignoreIndex', ignoreIndex));
}
