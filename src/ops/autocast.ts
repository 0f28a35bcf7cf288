/**
 * Which ops run in which dtype under `autocast` (Micikevicius et al. 2018, https://arxiv.org/abs/1710.03740). An op's
 * place on a list is the call of one of these functions at its start, so it stands beside the op's definition:
 *
 *   lowered, toLowered   products of matrices, in the dtype of `autocast`: matmul, groupedMatmul, linear, gatedLinear,
 *                        addmm, einsum, convolutions, attention, the steps of recurrent layers and the logits of
 *                        linearCrossEntropy
 *   inFloat32            functions that are steep, and sums: exp, pow, softmax, layerNorm, groupNorm, losses, sum,
 *                        norm, …
 *   widest               operands of ops that otherwise want one dtype: scatterAdd (concat, where and arithmetic
 *                        promote their operands in any case)
 *
 * The lists are those that PyTorch has for CUDA (aten/src/ATen/autocast_mode.h), on every device: what a model computes
 * must not depend on where it runs. PyTorch's list for the CPU differs: there layerNorm, exp, log, pow, sum, cumsum and
 * the like run in the dtype that they are given, which loses digits and gains nothing here, since their kernels are
 * bound by memory. crossEntropy and rmsNorm are on no list, for their kernels compute in float32 whatever they are
 * given.
 */
import { attach, type Node } from '../autograd/node.js';
import { Code, isFloat, promoteTypes } from '../tensor/dtype.js';
import { activeMode, type CastCache } from '../tensor/modes.js';
import { alias, type Tensor } from '../tensor/tensor.js';
import { castTo } from './cast.js';

const isHalf = (code: number | undefined): boolean => code === Code.float16 || code === Code.bfloat16;

/**
 * The dtype of a product under `autocast`.
 *
 * @param code what its operands promote to; float64, integers and bool stay
 * @returns a code; `code` itself where no `autocast` is in force
 */
export function lowered(code: number): number {
  const { autocast } = activeMode();
  return autocast === null || !isFloat(code) || code === Code.float64 ? code : autocast;
}

/**
 * An operand of a product in the dtype that `lowered` gave. Leaves that require gradients, which are mostly the
 * parameters of a model, are converted once for all ops under the outermost `autocast`.
 *
 * @returns the shape of `x`; `x` itself if it has that dtype
 */
export function toLowered(x: Tensor, code: number): Tensor {
  const from = x.slot!.dtype;
  if (from === code) return x;
  const { casts } = activeMode();
  const cacheable = casts !== null && x.tracked && x.node === null && from === Code.float32 && isHalf(code);
  return cacheable ? cached(casts, x, code) : castTo(x, code);
}

/** Each op gets a tensor of its own, which it may hand out or dispose. */
function cached(casts: CastCache, x: Tensor, code: number): Tensor {
  const version = x.slot!.sharedVersion();
  let entry = casts.get(x);
  const current =
    entry !== undefined &&
    entry.version === version &&
    entry.count === version.count &&
    entry.cast.slot?.dtype === code &&
    // what was converted under noGrad leads nowhere
    (entry.cast.tracked || !activeMode().recording);
  if (!current) {
    entry?.cast.dispose();
    const cast = castTo(x, code);
    cast.kept = true;
    entry = { version, count: version.count, cast };
    casts.set(x, entry);
  }
  const { cast } = entry!;
  const own = alias(cast);
  if (cast.node !== null) attach(own, cast.node as Node, cast.output);
  return own;
}

/**
 * Under `autocast`, 16-bit floats as float32, for an op that needs its range or its digits.
 *
 * @param x an argument as the user gave it: what is no tensor passes, since the op itself refuses it
 * @returns the shape of `x`; `x` itself where nothing changes
 */
export function inFloat32<T>(x: T): T {
  if (activeMode().autocast === null) return x;
  return isHalf((x as Tensor | null | undefined)?.slot?.dtype) ? (castTo(x as Tensor, Code.float32) as T) : x;
}

/**
 * Under `autocast`, two floats in the wider of their dtypes.
 *
 * @param a an argument as the user gave it @param b like `a`
 * @returns both; themselves where nothing changes
 */
export function widest(a: Tensor, b: Tensor): [Tensor, Tensor] {
  if (activeMode().autocast === null) return [a, b];
  const [from, to] = [a, b].map((x: Tensor | null | undefined) => x?.slot?.dtype ?? Code.bool) as [number, number];
  if (from === to || !isFloat(from) || !isFloat(to)) return [a, b];
  const code = promoteTypes(from, to);
  return [castTo(a, code), castTo(b, code)];
}
