/**
 * Products of matrices: c = activation(alpha a b + beta bias) + residual, batched over the leading axes. Transposed
 * views are not copied.
 */
import { FoveaError } from '../errors.js';
import { argumentError, numberArg, optionsArg, shapeError } from '../tensor/check.js';
import { dtypeNames, isFloat } from '../tensor/dtype.js';
import { slotOf, type Tensor } from '../tensor/tensor.js';
import { sizeOf } from '../tensor/layout.js';
import { wantsGradient } from '../autograd/node.js';
import { gelu, relu, silu } from './activation.js';
import { lowered, toLowered } from './autocast.js';
import { sumTo } from './broadcast.js';
import { defineOp, type DefinedOp } from './define-op.js';
import { mul } from './elementwise.js';
import { packedWeight } from './packed-weights.js';
import { resultType } from './promote.js';
import { reshape, transpose, unsqueeze } from './shape.js';

/** The transposed view of matrices. */
export const swapped = (x: Tensor): Tensor => transpose(x, -2, -1);

/** The kernel with its gradient. */
export const matmulOp: DefinedOp<'matmul'> = defineOp({
  kernel: 'matmul',
  saves: ({ a, b }) => (a.tracked ? (b.tracked ? ['a', 'b'] : ['b']) : b.tracked ? ['a'] : []),
  shapes: true,
  // c = alpha a b + beta bias + residual  =>  da = alpha dc b^T, db = alpha a^T dc, dbias = beta dc, dresidual = dc
  gradient({ a, b }, { c: dc }, { alpha = 1, beta = 1 }, s, wants) {
    const da = (): Tensor => matmulOp({ a: dc, b: swapped(b) }, { alpha }).c;
    const db = (): Tensor => matmulOp({ a: swapped(a), b: dc }, { alpha }).c;
    const dbias = wants.bias ? sumTo(dc, s.bias) : undefined;
    return {
      a: wants.a ? sumTo(da(), s.a) : undefined,
      b: wants.b ? sumTo(db(), s.b) : undefined,
      bias: dbias && (beta === 1 ? dbias : mul(dbias, beta)),
      residual: wants.residual ? sumTo(dc, s.residual) : undefined,
    };
  },
});

/**
 * The matrix product, as PyTorch's: vectors count as a row on the left and a column on the right, and leading axes
 * broadcast.
 *
 * @param a [..., m, k] or [k]; floats, int32 or int64
 * @param b [..., k, n] or [k]
 * @returns [..., m, n], without the axis of a vector, in the promoted dtype
 * @throws FOVEA_SHAPE if the inner sizes differ or an operand is 0-d, FOVEA_DTYPE for bool, int8 and uint8
 */
export function matmul(a: Tensor, b: Tensor): Tensor {
  const ra = slotOf(a, 'matmul', 'a').shape.length;
  const rb = slotOf(b, 'matmul', 'b').shape.length;
  if (ra === 0 || rb === 0)
    throw shapeError('matmul', 'expected tensors with at least one axis, received a 0-d tensor; use mul()');
  const code = lowered(a.slot!.dtype === b.slot!.dtype ? a.slot!.dtype : resultType([a, b]));
  const x = toLowered(a, code);
  const y = toLowered(b, code);
  const c = product(ra === 1 ? unsqueeze(x, 0) : x, rb === 1 ? unsqueeze(y, 1) : y);
  if (ra > 1 && rb > 1) return c;
  const { shape } = c;
  return reshape(
    c,
    shape.filter((_, i) => !(ra === 1 && i === shape.length - 2) && !(rb === 1 && i === shape.length - 1)),
  );
}

/**
 * One matrix on the right serves all rows of all batches: one product instead of many, and no sum over batches behind.
 */
function product(a: Tensor, b: Tensor): Tensor {
  const { shape } = a;
  if (b.rank !== 2 || shape.length === 2 || !a.isContiguous()) return matmulOp({ a, b }).c;
  const rows = reshape(a, [sizeOf(shape.slice(0, -1)), shape.at(-1)!]);
  return reshape(matmulOp({ a: rows, b }).c, [...shape.slice(0, -1), b.shape[1]!]);
}

/**
 * What `linear` and `addmm` can apply to their result: gelu through erf, the approximation of it that GPT-2 uses, relu
 * and silu.
 */
export type FusedActivation = 'gelu' | 'geluTanh' | 'relu' | 'silu';
/** What `addmm` does to its result. */
export interface ActivationOptions {
  /** Applied to the result; default none. */
  activation?: FusedActivation;
}
/** The kernel's code for an activation, and the op that it equals. */
export interface Fused {
  readonly code: number;
  readonly apply: (x: Tensor) => Tensor;
}
const fusedActivations: ReadonlyMap<unknown, Fused> = new Map<FusedActivation, Fused>([
  ['gelu', { code: 1, apply: (x) => gelu(x) }],
  ['geluTanh', { code: 2, apply: (x) => gelu(x, { approximate: 'tanh' }) }],
  ['relu', { code: 3, apply: relu }],
  ['silu', { code: 4, apply: silu }],
]);

/** The activation of that name, for results of a dtype. @throws FOVEA_ARGUMENT for another, or for integers */
export function fusedArg(op: string, activation: FusedActivation | undefined, dtype: number): Fused | undefined {
  if (activation === undefined) return undefined;
  const fused = fusedActivations.get(activation);
  if (!fused) throw argumentError(op, 'activation', "'gelu', 'geluTanh', 'relu' or 'silu'", activation);
  if (!isFloat(dtype))
    throw new FoveaError(
      'FOVEA_ARGUMENT',
      `${op}: activation '${activation}' needs a result of floats, but its dtype is ${dtypeNames[dtype]}; cast an operand with .to('float32')`,
    );
  return fused;
}

/** Options of `addmm`. */
export interface AddmmOptions extends ActivationOptions {
  /** Of the product; default 1. */
  alpha?: number;
  /** Of the input; default 1. */
  beta?: number;
}
/**
 * activation(beta input + alpha a b), in one kernel. Where a gradient will be wanted the activation is an op of its
 * own, since backward needs what it was applied to.
 *
 * @param input broadcasts to [m, n]
 * @param a [m, k]; floats, int32 or int64
 * @param b [k, n]
 * @returns [m, n], in the dtype that all three promote to
 * @throws FOVEA_SHAPE for operands that are no matrices (for batches: `add(input, matmul(a, b))`) or do not fit,
 *   FOVEA_DTYPE for bool, int8 and uint8, FOVEA_ARGUMENT for an activation that is not known, or of integers
 */
export function addmm(input: Tensor, a: Tensor, b: Tensor, options?: AddmmOptions): Tensor {
  const { alpha = 1, beta = 1, activation } = optionsArg('addmm', options, ['alpha', 'beta', 'activation']);
  for (const [name, t] of [
    ['input', input],
    ['a', a],
    ['b', b],
  ] as const)
    slotOf(t, 'addmm', name);
  if (a.rank !== 2 || b.rank !== 2 || input.rank > 2 || a.shape[1] !== b.shape[0])
    throw shapeError(
      'addmm',
      `expected input [m,n], a [m,k] and b [k,n], received [${input.shape.join(',')}], [${a.shape.join(',')}] and [${b.shape.join(',')}]; for batches add the result of matmul()`,
    );
  const code = lowered(resultType([input, a, b]));
  const fused = fusedArg('addmm', activation, code);
  let bias = toLowered(input, code);
  while (bias.rank < 2) bias = unsqueeze(bias, 0);
  const attrs = { alpha: numberArg('addmm', 'alpha', alpha), beta: numberArg('addmm', 'beta', beta) };
  const operands = { a: toLowered(a, code), b: toLowered(b, code), bias };
  if (Object.values(operands).some(wantsGradient)) {
    const { c } = matmulOp(operands, attrs);
    return fused ? fused.apply(c) : c;
  }
  const packed = packedWeight(operands.b, operands.b, a.shape[0]!);
  return matmulOp({ ...operands, packed }, { ...attrs, activation: fused?.code }).c;
}
