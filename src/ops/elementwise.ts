/** y[i] = f(x[i]) and c[i] = f(a[i], b[i]), with NumPy's broadcasting and PyTorch's promotion. */
import { argumentError } from '../tensor/check.js';
import { isFloat } from '../tensor/dtype.js';
import { slotOf, type Tensor } from '../tensor/tensor.js';
import { inFloat32 } from './autocast.js';
import { broadcastArgs, sumTo } from './broadcast.js';
import { castTo } from './cast.js';
import { eq, gt } from './compare.js';
import { defineOp, type DefinedOp } from './define-op.js';
import { floating, operandArg, withNumber, withTensor } from './promote.js';
import { where } from './select.js';

type Operand = Tensor | number;
interface ScalarAttrs {
  scalar?: number | undefined;
  scalarFirst?: boolean | undefined;
}
type BinaryOp = (x: { a: Tensor; b?: Tensor | undefined }, attrs?: ScalarAttrs) => { c: Tensor };

const FIRST = true;
/** A factor's gradient needs the other factor. */
const otherFactors = ({ a, b }: { a: Tensor; b?: Tensor | undefined }): readonly ('a' | 'b')[] => {
  if (b === undefined) return [];
  return a.tracked ? (b.tracked ? ['a', 'b'] : ['b']) : ['a'];
};

/**
 * Calls the kernel with both operands in the dtype of the result; a number travels as an attribute.
 * @throws FOVEA_ARGUMENT for two numbers
 */
export function binary(op: BinaryOp, name: string, a: Operand, b: Operand): Tensor {
  if (typeof b === 'number') {
    if (typeof a === 'number') throw argumentError(name, 'a or b', 'a Tensor', a, 'two numbers need no tensor op');
    const code = withNumber(slotOf(a, name, 'a').dtype, b);
    return op({ a: castTo(a, code), b: undefined }, { scalar: b, scalarFirst: undefined }).c;
  }
  const sb = slotOf(b, name, 'b');
  if (typeof a === 'number') {
    const code = withNumber(sb.dtype, a);
    return op({ a: castTo(b, code), b: undefined }, { scalar: a, scalarFirst: FIRST }).c;
  }
  if (slotOf(a, name, 'a').dtype === sb.dtype) return op({ a, b }).c;
  const code = withTensor(a, b);
  return op({ a: castTo(a, code), b: castTo(b, code) }).c;
}

const addOp = defineOp({
  kernel: 'add',
  saves: [],
  shapes: true,
  gradient: (_, { c: dc }, __, s, wants) => ({
    a: wants.a ? sumTo(dc, s.a) : undefined,
    b: wants.b ? sumTo(dc, s.b) : undefined,
  }),
});
const subOp = defineOp({
  kernel: 'sub',
  saves: [],
  shapes: true,
  gradient: (_, { c: dc }, { scalarFirst }, s, wants) => ({
    a: wants.a ? sumTo(scalarFirst ? neg(dc) : dc, s.a) : undefined,
    b: wants.b ? sumTo(neg(dc), s.b) : undefined,
  }),
});
const mulOp = defineOp({
  kernel: 'mul',
  saves: otherFactors,
  shapes: true,
  gradient({ a, b }, { c: dc }, { scalar = 0 }, s, wants) {
    if (!s.b) return { a: mul(dc, scalar) };
    return { a: wants.a ? sumTo(mul(dc, b), s.a) : undefined, b: wants.b ? sumTo(mul(dc, a), s.b) : undefined };
  },
});
const divOp = defineOp({
  kernel: 'div',
  saves: ({ b }) => (b === undefined ? ['a'] : b.tracked ? ['a', 'b'] : ['b']),
  shapes: true,
  gradient({ a, b }, { c: dc }, { scalar = 0, scalarFirst }, s, wants) {
    if (!s.b) return { a: scalarFirst ? mul(div(dc, mul(a, a)), -scalar) : div(dc, scalar) };
    return {
      a: wants.a ? sumTo(div(dc, b), s.a) : undefined,
      b: wants.b ? sumTo(neg(div(mul(dc, a), mul(b, b))), s.b) : undefined,
    };
  },
});
const powOp = defineOp({
  kernel: 'pow',
  saves: ['a', 'b'],
  shapes: true,
  gradient({ a, b }, { c: dc }, { scalar = 0, scalarFirst }, s, wants) {
    if (s.b) {
      // 0^b grows nowhere for b >= 0, where log 0 would give 0 * -inf
      const logs = (): Tensor => where(eq(a, 0), 0, log(a));
      return {
        a: wants.a ? sumTo(mul(dc, mul(b, pow(a, sub(b, 1)))), s.a) : undefined,
        b: wants.b ? sumTo(mul(dc, mul(pow(a, b), logs())), s.b) : undefined,
      };
    }
    if (scalarFirst) return { a: mul(dc, mul(pow(scalar, a), scalar === 0 ? 0 : Math.log(scalar))) };
    return { a: scalar === 0 ? mul(dc, 0) : mul(dc, mul(pow(a, scalar - 1), scalar)) };
  },
});
/** Ties share the gradient. */
function wins(a: Tensor, b: Operand, compare: typeof gt): Tensor {
  const { dtype } = slotOf(a, 'maximum', 'a');
  return add(castTo(compare(a, b), dtype), mul(castTo(eq(a, b), dtype), 0.5));
}
const maximumOp = defineOp({
  kernel: 'maximum',
  saves: ['a', 'b'],
  shapes: true,
  gradient: ({ a, b }, { c: dc }, { scalar = 0 }, s) =>
    s.b
      ? { a: sumTo(mul(dc, wins(a, b, gt)), s.a), b: sumTo(mul(dc, wins(b, a, gt)), s.b) }
      : { a: mul(dc, wins(a, scalar, gt)) },
});
const minimumOp = defineOp({
  kernel: 'minimum',
  saves: ['a', 'b'],
  shapes: true,
  gradient({ a, b }, { c: dc }, { scalar = 0 }, s) {
    const less = (p: Operand, q: Operand): Tensor => gt(q, p);
    return s.b
      ? { a: sumTo(mul(dc, wins(a, b, less)), s.a), b: sumTo(mul(dc, wins(b, a, less)), s.b) }
      : { a: mul(dc, wins(a, scalar, less)) };
  },
});
const remainderOp = defineOp({
  kernel: 'remainder',
  saves: ['a', 'b'],
  shapes: true,
  gradient({ a, b }, { c: dc }, { scalar = 0, scalarFirst }, s) {
    if (s.b) return { a: sumTo(dc, s.a), b: sumTo(neg(mul(dc, floor(div(a, b)))), s.b) };
    return { a: scalarFirst ? neg(mul(dc, floor(div(scalar, a)))) : dc };
  },
});
const floorDivideOp = defineOp({
  kernel: 'floorDivide',
  saves: [],
  shapes: true,
  gradient: (_, { c: dc }, __, s) => ({ a: sumTo(mul(dc, 0), s.a), b: s.b && sumTo(mul(dc, 0), s.b) }),
});
const atan2Op = defineOp({
  kernel: 'atan2',
  saves: ['a', 'b'],
  shapes: true,
  gradient({ a, b }, { c: dc }, { scalar = 0, scalarFirst }, s) {
    const y: Operand = scalarFirst ? scalar : a;
    const x: Operand = s.b ? b : scalarFirst ? a : scalar;
    const scaled = div(dc, add(squareOf(y), squareOf(x)));
    const dy = (): Tensor => mul(scaled, x);
    const dx = (): Tensor => neg(mul(scaled, y));
    if (s.b) return { a: sumTo(dy(), s.a), b: sumTo(dx(), s.b) };
    return { a: scalarFirst ? dx() : dy() };
  },
});
const squareOf = (a: Operand): Operand => (typeof a === 'number' ? a * a : mul(a, a));

/**
 * a + b; for bool: or.
 * @param a any shape and dtype, or a number @param b like `a`; both broadcast, and are promoted to one dtype
 * @returns the broadcast shape, the promoted dtype
 * @throws FOVEA_SHAPE if they do not broadcast, FOVEA_ARGUMENT for two numbers
 */
export function add(a: Tensor | number, b: Tensor | number): Tensor {
  return binary(addOp, 'add', a, b);
}
/**
 * a - b.
 * @param a any shape, or a number @param b like `a`; both broadcast, and are promoted to one dtype
 * @returns the broadcast shape, the promoted dtype
 * @throws FOVEA_SHAPE if they do not broadcast, FOVEA_DTYPE for bool, FOVEA_ARGUMENT for two numbers
 */
export function sub(a: Tensor | number, b: Tensor | number): Tensor {
  return binary(subOp, 'sub', a, b);
}
/**
 * a b, elementwise; for bool: and.
 * @param a any shape and dtype, or a number @param b like `a`; both broadcast, and are promoted to one dtype
 * @returns the broadcast shape, the promoted dtype
 * @throws FOVEA_SHAPE if they do not broadcast, FOVEA_ARGUMENT for two numbers
 */
export function mul(a: Tensor | number, b: Tensor | number): Tensor {
  return binary(mulOp, 'mul', a, b);
}
/**
 * a / b; division by zero follows IEEE 754.
 * @param a any shape and dtype, or a number @param b like `a`; both broadcast
 * @returns the broadcast shape in the promoted dtype; float32 if neither is a float
 * @throws FOVEA_SHAPE if they do not broadcast, FOVEA_ARGUMENT for two numbers
 */
export function div(a: Tensor | number, b: Tensor | number): Tensor {
  operandArg('div', 'a', a);
  operandArg('div', 'b', b);
  const x = typeof a === 'number' ? a : floatingUnless(a, b, 'a');
  const y = typeof b === 'number' ? b : floatingUnless(b, a, 'b');
  return binary(divOp, 'div', x, y);
}
/** Operands of a true division: promoted as they are if either is a float, else float32. */
function floatingUnless(x: Tensor, other: Operand, argument: string): Tensor {
  if (typeof other !== 'number' && isFloat(other.slot!.dtype)) return x;
  return floating(x, 'div', argument);
}
/**
 * a to the power of b.
 * @param a any shape, or a number @param b like `a`; both broadcast, and are promoted to one dtype
 * @returns the broadcast shape, the promoted dtype
 * @throws FOVEA_SHAPE if they do not broadcast, FOVEA_DTYPE for bool; rejects with FOVEA_ARGUMENT for an integer to a
 *   negative power
 */
export function pow(a: Tensor | number, b: Tensor | number): Tensor {
  return binary(powOp, 'pow', inFloat32(a), inFloat32(b));
}
/**
 * The larger of a and b (both broadcast); NaN wins, and equals share the gradient. For bool: or.
 * @returns the broadcast shape, the promoted dtype
 * @throws FOVEA_SHAPE if they do not broadcast, FOVEA_ARGUMENT for two numbers
 */
export function maximum(a: Tensor | number, b: Tensor | number): Tensor {
  return binary(maximumOp, 'maximum', a, b);
}
/**
 * The smaller of a and b (both broadcast); NaN wins, and equals share the gradient. For bool: and.
 * @returns the broadcast shape, the promoted dtype
 * @throws FOVEA_SHAPE if they do not broadcast, FOVEA_ARGUMENT for two numbers
 */
export function minimum(a: Tensor | number, b: Tensor | number): Tensor {
  return binary(minimumOp, 'minimum', a, b);
}
/**
 * a - b floor(a / b), with the sign of b as in Python; both broadcast.
 * @returns the broadcast shape, the promoted dtype
 * @throws FOVEA_SHAPE if they do not broadcast, FOVEA_DTYPE for bool; rejects with FOVEA_ARGUMENT for an integer by 0
 */
export function remainder(a: Tensor | number, b: Tensor | number): Tensor {
  return binary(remainderOp, 'remainder', a, b);
}
/**
 * floor(a / b); both broadcast. The gradient is zero.
 * @returns the broadcast shape, the promoted dtype
 * @throws FOVEA_SHAPE if they do not broadcast, FOVEA_DTYPE for bool; rejects with FOVEA_ARGUMENT for an integer by 0
 */
export function floorDivide(a: Tensor | number, b: Tensor | number): Tensor {
  return binary(floorDivideOp, 'floorDivide', a, b);
}
/**
 * The angle of the point (b, a) in radians, in [-pi, pi]; both broadcast.
 * @returns the broadcast shape in the promoted dtype; float32 if neither is a float
 * @throws FOVEA_SHAPE if they do not broadcast, FOVEA_ARGUMENT for two numbers
 */
export function atan2(a: Tensor | number, b: Tensor | number): Tensor {
  operandArg('atan2', 'a', a);
  operandArg('atan2', 'b', b);
  const x = typeof a === 'number' ? a : floatingUnless(a, b, 'a');
  return binary(atan2Op, 'atan2', x, typeof b === 'number' ? b : floatingUnless(b, a, 'b'));
}
/**
 * a + weight (b - a); all three broadcast.
 * @returns the broadcast shape, the promoted dtype @throws FOVEA_SHAPE if they do not broadcast, FOVEA_DTYPE for bool
 */
export function lerp(a: Tensor, b: Tensor, weight: Tensor | number): Tensor {
  slotOf(a, 'lerp', 'a');
  slotOf(b, 'lerp', 'b');
  operandArg('lerp', 'weight', weight);
  broadcastArgs('lerp', { a, b, weight });
  return add(a, mul(sub(b, a), weight));
}

type UnaryName =
  | 'neg'
  | 'abs'
  | 'sign'
  | 'square'
  | 'floor'
  | 'ceil'
  | 'round'
  | 'trunc'
  | 'exp'
  | 'expm1'
  | 'log'
  | 'log1p'
  | 'log2'
  | 'sqrt'
  | 'rsqrt'
  | 'reciprocal'
  | 'sin'
  | 'cos'
  | 'erf';
/** A unary op whose gradient is a composition of others: dx from x, y or both, and dy. */
function fromInput(kernel: UnaryName, gradient: (x: Tensor, dy: Tensor) => Tensor): DefinedOp<UnaryName> {
  return defineOp<UnaryName, 'x'>({ kernel, saves: ['x'], gradient: ({ x }, { y: dy }) => ({ x: gradient(x, dy) }) });
}
function fromOutput(kernel: UnaryName, gradient: (y: Tensor, dy: Tensor) => Tensor): DefinedOp<UnaryName> {
  return defineOp<UnaryName, 'y'>({ kernel, saves: ['y'], gradient: ({ y }, { y: dy }) => ({ x: gradient(y, dy) }) });
}
function fromNothing(kernel: UnaryName, gradient: (dy: Tensor) => Tensor): DefinedOp<UnaryName> {
  return defineOp<UnaryName>({ kernel, saves: [], gradient: (_, { y: dy }) => ({ x: gradient(dy) }) });
}
const flat = (dy: Tensor): Tensor => mul(dy, 0);

const negOp = fromNothing('neg', (dy) => neg(dy));
const floorOp = fromNothing('floor', flat);
const ceilOp = fromNothing('ceil', flat);
const roundOp = fromNothing('round', flat);
const truncOp = fromNothing('trunc', flat);
const signOp = fromNothing('sign', flat);
const absOp = fromInput('abs', (x, dy) => mul(dy, sign(x)));
const squareOp = fromInput('square', (x, dy) => mul(dy, mul(x, 2)));
const expOp = fromOutput('exp', (y, dy) => mul(dy, y));
const expm1Op = fromOutput('expm1', (y, dy) => mul(dy, add(y, 1)));
const logOp = fromInput('log', (x, dy) => div(dy, x));
const log1pOp = fromInput('log1p', (x, dy) => div(dy, add(x, 1)));
const log2Op = fromInput('log2', (x, dy) => div(dy, mul(x, Math.LN2)));
const sqrtOp = fromOutput('sqrt', (y, dy) => div(mul(dy, 0.5), y));
const rsqrtOp = fromOutput('rsqrt', (y, dy) => mul(mul(dy, -0.5), mul(y, mul(y, y))));
const reciprocalOp = fromOutput('reciprocal', (y, dy) => neg(mul(dy, mul(y, y))));
const sinOp = fromInput('sin', (x, dy) => mul(dy, cos(x)));
const cosOp = fromInput('cos', (x, dy) => neg(mul(dy, sin(x))));
const erfOp = fromInput('erf', (x, dy) => mul(mul(dy, 2 / Math.sqrt(Math.PI)), exp(neg(mul(x, x)))));

/** -x. @param x any shape @returns the shape and dtype of x @throws FOVEA_DTYPE for bool */
export function neg(x: Tensor): Tensor {
  return negOp({ x }).y;
}
/** |x|. @param x any shape @returns the shape and dtype of x @throws FOVEA_DTYPE for bool */
export function abs(x: Tensor): Tensor {
  return absOp({ x }).y;
}
/** -1, 0 or 1; NaN for NaN. @returns the shape and dtype of x @throws FOVEA_DTYPE for bool */
export function sign(x: Tensor): Tensor {
  return signOp({ x }).y;
}
/** x^2. @param x any shape @returns the shape and dtype of x @throws FOVEA_DTYPE for bool */
export function square(x: Tensor): Tensor {
  return squareOp({ x: inFloat32(x) }).y;
}
/** The largest whole number <= x; no gradient. @returns the shape and dtype of x @throws FOVEA_DTYPE for bool */
export function floor(x: Tensor): Tensor {
  return floorOp({ x }).y;
}
/** The smallest whole number >= x; no gradient. @returns the shape and dtype of x @throws FOVEA_DTYPE for bool */
export function ceil(x: Tensor): Tensor {
  return ceilOp({ x }).y;
}
/**
 * x to the nearest whole, halves to even; no gradient. @returns the shape and dtype of x @throws FOVEA_DTYPE for bool
 */
export function round(x: Tensor): Tensor {
  return roundOp({ x }).y;
}
/** x without its fraction; no gradient. @returns the shape and dtype of x @throws FOVEA_DTYPE for bool */
export function trunc(x: Tensor): Tensor {
  return truncOp({ x }).y;
}
/** e^x. @param x any shape; integers and bool become float32 @returns the shape of x, floats */
export function exp(x: Tensor): Tensor {
  return expOp({ x: floating(inFloat32(x), 'exp') }).y;
}
/** e^x - 1, exact near 0. @param x any shape; integers and bool become float32 @returns the shape of x, floats */
export function expm1(x: Tensor): Tensor {
  return expm1Op({ x: floating(inFloat32(x), 'expm1') }).y;
}
/** The natural logarithm. @param x any shape; integers and bool become float32 @returns the shape of x, floats */
export function log(x: Tensor): Tensor {
  return logOp({ x: floating(inFloat32(x), 'log') }).y;
}
/** log(1 + x), exact near 0. @param x any shape; integers and bool become float32 @returns the shape of x, floats */
export function log1p(x: Tensor): Tensor {
  return log1pOp({ x: floating(inFloat32(x), 'log1p') }).y;
}
/** The logarithm to base 2. @param x any shape; integers and bool become float32 @returns the shape of x, floats */
export function log2(x: Tensor): Tensor {
  return log2Op({ x: floating(inFloat32(x), 'log2') }).y;
}
/** The square root. @param x any shape; integers and bool become float32 @returns the shape of x, floats */
export function sqrt(x: Tensor): Tensor {
  return sqrtOp({ x: floating(x, 'sqrt') }).y;
}
/** 1 / sqrt(x). @param x any shape; integers and bool become float32 @returns the shape of x, floats */
export function rsqrt(x: Tensor): Tensor {
  return rsqrtOp({ x: floating(inFloat32(x), 'rsqrt') }).y;
}
/** 1 / x. @param x any shape; integers and bool become float32 @returns the shape of x, floats */
export function reciprocal(x: Tensor): Tensor {
  return reciprocalOp({ x: floating(inFloat32(x), 'reciprocal') }).y;
}
/** The sine. @param x radians, any shape; integers and bool become float32 @returns the shape of x, floats */
export function sin(x: Tensor): Tensor {
  return sinOp({ x: floating(x, 'sin') }).y;
}
/** The cosine. @param x radians, any shape; integers and bool become float32 @returns the shape of x, floats */
export function cos(x: Tensor): Tensor {
  return cosOp({ x: floating(x, 'cos') }).y;
}
/** 2/sqrt(pi) integral_0^x e^(-t^2) dt. @param x any shape; no floats become float32 @returns the shape of x, floats */
export function erf(x: Tensor): Tensor {
  return erfOp({ x: floating(x, 'erf') }).y;
}
