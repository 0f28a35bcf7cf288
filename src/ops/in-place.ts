/**
 * Writes into the memory of a tensor. Every write counts up the storage's version, so that backward notices when a
 * value that it saved was changed.
 *
 * Where gradients are recorded, the result of a write takes the tensor's place in the graph. Leaves that require
 * gradients are refused, as in PyTorch, and so are tensors that share memory with views: those would keep a graph that
 * no longer says how their values came about.
 */
import { FoveaError } from '../errors.js';
import { numberArg, optionsArg } from '../tensor/check.js';
import { isFloat } from '../tensor/dtype.js';
import { isRecording } from '../tensor/modes.js';
import { slotOf, type Tensor } from '../tensor/tensor.js';
import { attach, wantsGradient, type Node } from '../autograd/node.js';
import { expand } from './broadcast.js';
import { castTo, clone, to } from './cast.js';
import { add, div, mul, sub } from './elementwise.js';
import { clamp, maskArg, maskedFill, type ClampOptions } from './select.js';
import { kernels } from './kernels.gen.js';
import { forTarget, operandArg, withNumber } from './promote.js';
import { fillRandom, type Generator } from './random.js';
import { movedim, reshape } from './shape.js';

function refuseLeaf(op: string, a: Tensor): void {
  if (a.tracked && a.node === null)
    throw new FoveaError(
      'FOVEA_AUTOGRAD',
      `${op}: a leaf that requires gradients cannot be changed in place while gradients are recorded; use noGrad(), or ${op.slice(0, -1)}()`,
    );
}

/** The value of `a` before a write, at the same place in the graph: backward may need it when `a` has changed. */
function before(a: Tensor): Tensor {
  const old = kernels.copy({ x: a }, {}).y;
  if (a.node !== null) attach(old, a.node as Node, a.output);
  return old;
}

/** Writes a fresh result into `a`, outside of the graph. */
function assign(a: Tensor, result: Tensor): void {
  kernels.copy_({ y: a, x: result }, {});
  result.dispose();
}

/**
 * Runs `plain`, or where gradients flow, the op without the underscore on the old value: its result takes the place of
 * `a` in the graph.
 */
function write(
  op: string,
  a: Tensor,
  operand: Tensor | undefined,
  plain: () => void,
  recorded: (old: Tensor) => Tensor,
): Tensor {
  if (!wantsGradient(a) && !wantsGradient(operand)) {
    plain();
    return a;
  }
  refuseLeaf(op, a);
  const slot = slotOf(a, op, 'a');
  if (slot.version !== null && slot.version.owners > 1)
    throw new FoveaError(
      'FOVEA_AUTOGRAD',
      `${op}: the tensor shares memory with views, through which gradients would go wrong; use ${op.slice(0, -1)}(), or clone() first`,
    );
  const old = before(a);
  const result = recorded(old);
  if (result.node) attach(a, result.node as Node, result.output);
  assign(a, result);
  old.dispose();
  return a;
}

/** Constants cut a tensor out of its graph; outside of noGrad that is more likely a mistake. */
function overwrite(op: string, a: Tensor): void {
  slotOf(a, op, 'x');
  if (!a.tracked || !isRecording()) return;
  refuseLeaf(op, a);
  throw new FoveaError(
    'FOVEA_AUTOGRAD',
    `${op}: overwriting the result of ${a.node?.name} would lose its gradient; use noGrad(), or detach() first`,
  );
}

type Arithmetic = 'add_' | 'sub_' | 'mul_' | 'div_';
const functional = { add_: add, sub_: sub, mul_: mul, div_: div };

function arithmetic(op: Arithmetic, a: Tensor, b: Tensor | number): Tensor {
  const { dtype } = slotOf(a, op, 'a');
  operandArg(op, 'b', b);
  if (typeof b === 'number') {
    const result = op === 'div_' && !isFloat(dtype) ? 0 : withNumber(dtype, b);
    if (result !== dtype)
      throw new FoveaError(
        'FOVEA_DTYPE',
        `${op}: a float32 result cannot be written into ${a.dtype}; use ${op.slice(0, -1)}()`,
      );
    return write(
      op,
      a,
      undefined,
      () => void kernels[op]({ a }, { scalar: b }),
      (old) => functional[op](old, b),
    );
  }
  const operand = forTarget(a, b, op);
  return write(
    op,
    a,
    operand,
    () => void kernels[op]({ a, b: operand }, {}),
    (old) => functional[op](old, operand === a ? old : operand),
  );
}

/**
 * a += b, in place.
 *
 * @param b a number, or a tensor that broadcasts to `a`; converted to its dtype
 * @returns `a`
 * @throws FOVEA_SHAPE if `b` does not broadcast, FOVEA_DTYPE for floats into integers, FOVEA_LAYOUT for an expanded
 *   `a`, FOVEA_AUTOGRAD, while gradients are recorded, for a leaf that requires them or a tensor with views
 */
export function add_(a: Tensor, b: Tensor | number): Tensor {
  return arithmetic('add_', a, b);
}
/**
 * a -= b, in place.
 *
 * @param b a number, or a tensor that broadcasts to `a`; converted to its dtype
 * @returns `a`
 * @throws what `add_` throws, and FOVEA_DTYPE for bool
 */
export function sub_(a: Tensor, b: Tensor | number): Tensor {
  return arithmetic('sub_', a, b);
}
/**
 * a *= b, in place.
 *
 * @param b a number, or a tensor that broadcasts to `a`; converted to its dtype
 * @returns `a`
 * @throws what `add_` throws
 */
export function mul_(a: Tensor, b: Tensor | number): Tensor {
  return arithmetic('mul_', a, b);
}
/**
 * a /= b, in place.
 *
 * @param a floats
 * @param b a number, or a tensor that broadcasts to `a`; converted to its dtype
 * @returns `a`
 * @throws what `add_` throws, and FOVEA_DTYPE for an `a` of integers or bool
 */
export function div_(a: Tensor, b: Tensor | number): Tensor {
  return arithmetic('div_', a, b);
}

/**
 * Overwrites x with the values of `source`.
 *
 * @param source broadcasts to `x`; converted to its dtype
 * @returns `x`
 * @throws FOVEA_SHAPE if `source` does not broadcast, FOVEA_LAYOUT for an expanded `x`, FOVEA_AUTOGRAD like `add_`
 */
export function copy_(x: Tensor, source: Tensor): Tensor {
  const { dtype, shape } = slotOf(x, 'copy_', 'x');
  slotOf(source, 'copy_', 'source');
  const here = to(source, x.device);
  const plain = (): void => void kernels.copy_({ y: x, x: here }, {});
  return write('copy_', x, here, plain, () => clone(expand(castTo(here, dtype), shape)));
}
/**
 * Overwrites x with zeros.
 *
 * @returns `x`
 * @throws FOVEA_LAYOUT for an expanded `x`, FOVEA_AUTOGRAD if `x` requires gradients and they are recorded
 */
export function zero_(x: Tensor): Tensor {
  overwrite('zero_', x);
  kernels.fill_({ x }, { value: 0 });
  return x;
}
/**
 * Overwrites x with one value, converted to its dtype.
 *
 * @returns `x`
 * @throws FOVEA_LAYOUT for an expanded `x`, FOVEA_AUTOGRAD if `x` requires gradients and they are recorded,
 *   FOVEA_ARGUMENT for what is neither number nor boolean
 */
export function fill_(x: Tensor, value: number | boolean): Tensor {
  overwrite('fill_', x);
  kernels.fill_({ x }, { value: numberArg('fill_', 'value', typeof value === 'boolean' ? Number(value) : value) });
  return x;
}
/**
 * Overwrites x where `mask` is true.
 *
 * @param mask bool; broadcasts to `x`
 * @param value converted to the dtype of `x`
 * @returns `x`
 * @throws FOVEA_DTYPE for a mask that is not bool, FOVEA_SHAPE if it does not broadcast, FOVEA_LAYOUT and
 *   FOVEA_AUTOGRAD like `add_`
 */
export function maskedFill_(x: Tensor, mask: Tensor, value: number): Tensor {
  slotOf(x, 'maskedFill_', 'x');
  maskArg('maskedFill_', mask);
  numberArg('maskedFill_', 'value', value);
  return write(
    'maskedFill_',
    x,
    undefined,
    () => assign(x, maskedFill(x, mask, value)),
    (old) => maskedFill(old, mask, value),
  );
}
/**
 * Moves x into [min, max], in place; NaN stays NaN.
 *
 * @param x floats or integers
 * @returns `x`
 * @throws FOVEA_ARGUMENT without a bound, FOVEA_DTYPE for bool, FOVEA_LAYOUT and FOVEA_AUTOGRAD like `add_`
 */
export function clamp_(x: Tensor, options: ClampOptions): Tensor {
  slotOf(x, 'clamp_', 'x');
  return write(
    'clamp_',
    x,
    undefined,
    () => assign(x, clamp(x, options)),
    (old) => clamp(old, options),
  );
}
/**
 * Fills x with uniform random numbers from [low, high).
 *
 * @param x floats
 * @returns `x`
 * @throws FOVEA_DTYPE for integers and bool, FOVEA_LAYOUT for an expanded `x`, FOVEA_AUTOGRAD if `x` requires gradients
 *   and they are recorded
 */
export function uniform_(x: Tensor, low = 0, high = 1, options?: { generator?: Generator }): Tensor {
  const { generator } = optionsArg('uniform_', options, ['generator']);
  overwrite('uniform_', x);
  fillRandom('uniform_', x, low, high, generator);
  return x;
}
/**
 * Fills x with normal random numbers of the given mean and standard deviation.
 *
 * @param x floats
 * @returns `x`
 * @throws FOVEA_DTYPE for integers and bool, FOVEA_LAYOUT for an expanded `x`, FOVEA_AUTOGRAD if `x` requires gradients
 *   and they are recorded
 */
export function normal_(x: Tensor, mean = 0, std = 1, options?: { generator?: Generator }): Tensor {
  const { generator } = optionsArg('normal_', options, ['generator']);
  overwrite('normal_', x);
  fillRandom('normal_', x, mean, std, generator);
  return x;
}
/**
 * Writes `values` along axis 0: x[indices[i]] = values[i], the last where an index repeats. With `accumulate`, adds.
 *
 * @param indices integers of any shape, n of them; negative ones are refused
 * @param values [n, ...rest of x], or what broadcasts to it; converted to the dtype of `x`
 * @returns `x`
 * @throws FOVEA_SHAPE if `values` does not broadcast, FOVEA_DTYPE for indices of floats or bool, FOVEA_AUTOGRAD if `x`
 *   requires gradients and they are recorded; rejects with FOVEA_INDEX for an index outside of axis 0
 */
export function indexPut_(x: Tensor, indices: Tensor, values: Tensor, options?: { accumulate?: boolean }): Tensor {
  const { accumulate = false } = optionsArg('indexPut_', options, ['accumulate']);
  const { shape, dtype } = slotOf(x, 'indexPut_', 'x');
  slotOf(indices, 'indexPut_', 'indices');
  slotOf(values, 'indexPut_', 'values');
  overwrite('indexPut_', x);
  const rest = shape.slice(1);
  const grown = expand(reshape(indices.detach(), [indices.size, ...rest.map(() => 1)]), [indices.size, ...rest]);
  const last = (t: Tensor): Tensor => movedim(t, 0, -1);
  const src = expand(castTo(values.detach(), dtype), [indices.size, ...rest]);
  kernels[accumulate ? 'scatterAdd_' : 'scatter_']({ y: last(x.detach()), index: last(grown), src: last(src) }, {});
  return x;
}
