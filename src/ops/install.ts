/**
 * Installs the ops as methods of Tensor, and gives the rooms below what they need of the ops. Imported for its effect.
 */
import * as elementwise from './elementwise.js';
import * as activation from './activation.js';
import * as compare from './compare.js';
import * as reduce from './reduce.js';
import * as matmul from './matmul.js';
import * as softmax from './softmax.js';
import * as cast from './cast.js';
import * as shape from './shape.js';
import * as broadcast from './broadcast.js';
import * as join from './join.js';
import * as indexing from './indexing.js';
import * as select from './select.js';
import * as sorting from './sorting.js';
import * as random from './random.js';
import * as inPlace from './in-place.js';
import * as creation from './creation.js';
import { kernels } from './kernels.gen.js';
import { late } from '../tensor/late.js';
import { Tensor } from '../tensor/tensor.js';
import '../autograd/backward.js';
import './methods.gen.js';

late.add = elementwise.add;
late.addInPlace = (a, b) => void kernels.add_({ a, b }, {});
late.copy = cast.clone;
late.cast = cast.to;
late.full = creation.constant;

/** The function behind each method; its first parameter is the tensor. scripts/gen-methods.mjs reads this list. */
export const methods: Readonly<Record<string, (x: never, ...args: never[]) => unknown>> = {
  add: elementwise.add,
  sub: elementwise.sub,
  mul: elementwise.mul,
  div: elementwise.div,
  pow: elementwise.pow,
  maximum: elementwise.maximum,
  minimum: elementwise.minimum,
  remainder: elementwise.remainder,
  floorDivide: elementwise.floorDivide,
  atan2: elementwise.atan2,
  lerp: elementwise.lerp,
  neg: elementwise.neg,
  abs: elementwise.abs,
  sign: elementwise.sign,
  square: elementwise.square,
  floor: elementwise.floor,
  ceil: elementwise.ceil,
  round: elementwise.round,
  trunc: elementwise.trunc,
  exp: elementwise.exp,
  expm1: elementwise.expm1,
  log: elementwise.log,
  log1p: elementwise.log1p,
  log2: elementwise.log2,
  sqrt: elementwise.sqrt,
  rsqrt: elementwise.rsqrt,
  reciprocal: elementwise.reciprocal,
  sin: elementwise.sin,
  cos: elementwise.cos,
  erf: elementwise.erf,
  maskedFill: select.maskedFill,
  clamp: select.clamp,
  tril: select.tril,
  triu: select.triu,
  relu: activation.relu,
  sigmoid: activation.sigmoid,
  tanh: activation.tanh,
  gelu: activation.gelu,
  silu: activation.silu,
  softplus: activation.softplus,
  logSigmoid: activation.logSigmoid,
  leakyRelu: activation.leakyRelu,
  eq: compare.eq,
  ne: compare.ne,
  lt: compare.lt,
  le: compare.le,
  gt: compare.gt,
  ge: compare.ge,
  logicalAnd: compare.logicalAnd,
  logicalOr: compare.logicalOr,
  logicalXor: compare.logicalXor,
  logicalNot: compare.logicalNot,
  isNan: compare.isNan,
  isFinite: compare.isFinite,
  sum: reduce.sum,
  mean: reduce.mean,
  prod: reduce.prod,
  amax: reduce.amax,
  amin: reduce.amin,
  max: reduce.max,
  min: reduce.min,
  argmax: reduce.argmax,
  argmin: reduce.argmin,
  any: reduce.any,
  all: reduce.all,
  variance: reduce.variance,
  var: reduce.variance,
  std: reduce.std,
  norm: reduce.norm,
  logsumexp: reduce.logsumexp,
  cumsum: reduce.cumsum,
  matmul: matmul.matmul,
  addmm: matmul.addmm,
  softmax: softmax.softmax,
  logSoftmax: softmax.logSoftmax,
  to: cast.to,
  float: cast.float,
  double: cast.double,
  half: cast.half,
  bfloat16: cast.bfloat16,
  int: cast.int,
  long: cast.long,
  bool: cast.bool,
  clone: cast.clone,
  contiguous: cast.contiguous,
  reshape: shape.reshape,
  view: shape.view,
  flatten: shape.flatten,
  unflatten: shape.unflatten,
  squeeze: shape.squeeze,
  unsqueeze: shape.unsqueeze,
  permute: shape.permute,
  transpose: shape.transpose,
  t: shape.t,
  movedim: shape.movedim,
  slice: shape.slice,
  narrow: shape.narrow,
  select: shape.select,
  unbind: shape.unbind,
  split: shape.split,
  chunk: shape.chunk,
  diagonal: shape.diagonal,
  expand: broadcast.expand,
  expandAs: broadcast.expandAs,
  pad: join.pad,
  roll: join.roll,
  repeat: join.repeat,
  repeatInterleave: join.repeatInterleave,
  gather: indexing.gather,
  scatter: indexing.scatter,
  scatterAdd: indexing.scatterAdd,
  indexSelect: indexing.indexSelect,
  flip: indexing.flip,
  nonzero: indexing.nonzero,
  maskedSelect: indexing.maskedSelect,
  sort: sorting.sort,
  argsort: sorting.argsort,
  topk: sorting.topk,
  bernoulli: random.bernoulli,
  multinomial: random.multinomial,
  add_: inPlace.add_,
  sub_: inPlace.sub_,
  mul_: inPlace.mul_,
  div_: inPlace.div_,
  copy_: inPlace.copy_,
  zero_: inPlace.zero_,
  fill_: inPlace.fill_,
  maskedFill_: inPlace.maskedFill_,
  clamp_: inPlace.clamp_,
  uniform_: inPlace.uniform_,
  normal_: inPlace.normal_,
  indexPut_: inPlace.indexPut_,
};

for (const [name, op] of Object.entries(methods)) {
  const call = op as unknown as (x: Tensor, a: unknown, b: unknown, c: unknown, d: unknown) => unknown;
  Object.defineProperty(Tensor.prototype, name, {
    configurable: true,
    writable: true,
    // Fixed parameters, since rest parameters cost an array per call; no op has more than four behind the tensor.
    value(this: Tensor, a: unknown, b: unknown, c: unknown, d: unknown): unknown {
      return call(this, a, b, c, d);
    },
  });
}
