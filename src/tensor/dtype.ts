/**
 * Element types: their names, their codes in native code (native/core/dtype.h), the typed arrays that hold them, and
 * PyTorch's promotion between them.
 */

/** The name of an element type. */
export type Dtype = 'float32' | 'float64' | 'float16' | 'bfloat16' | 'int32' | 'int64' | 'uint8' | 'int8' | 'bool';

/** A Float16Array, where the runtime has one. */
export interface HalfArray extends ArrayLike<number>, ArrayBufferView {
  readonly BYTES_PER_ELEMENT: number;
  [index: number]: number;
}

/** The array that the elements of each dtype are read into; 16-bit floats come as their bits. */
export interface HostArrays {
  float32: Float32Array;
  float64: Float64Array;
  float16: Uint16Array | HalfArray;
  bfloat16: Uint16Array;
  int32: Int32Array;
  int64: BigInt64Array;
  uint8: Uint8Array;
  int8: Int8Array;
  bool: Uint8Array;
}
/** Any array that elements are read into. */
export type HostArray = HostArrays[Dtype];

/** The dtypes in the order of their codes. */
export const dtypeNames: readonly Dtype[] = [
  'float32',
  'float64',
  'float16',
  'bfloat16',
  'int32',
  'int64',
  'uint8',
  'int8',
  'bool',
];

/** The code of each dtype. */
export const Code: {
  readonly float32: 0;
  readonly float64: 1;
  readonly float16: 2;
  readonly bfloat16: 3;
  readonly int32: 4;
  readonly int64: 5;
  readonly uint8: 6;
  readonly int8: 7;
  readonly bool: 8;
} = {
  float32: 0,
  float64: 1,
  float16: 2,
  bfloat16: 3,
  int32: 4,
  int64: 5,
  uint8: 6,
  int8: 7,
  bool: 8,
};

/** Bytes of one element, by code. */
export const dtypeBytes: readonly number[] = [4, 8, 2, 2, 4, 8, 1, 1, 1];

/** Whether `value` names a dtype. */
export function isDtype(value: unknown): value is Dtype {
  return typeof value === 'string' && Object.hasOwn(Code, value);
}

/** Whether a code is that of a floating-point type. */
export function isFloat(code: number): boolean {
  return code < Code.int32;
}

/** @returns 2 for floats, 1 for integers, 0 for bool: what promotion compares first */
export function category(code: number): number {
  return code < Code.int32 ? 2 : code === Code.bool ? 0 : 1;
}

/** What statistics and sums of a dtype are kept in: float64 for float64, else float32. @returns a code */
export function accumulatorOf(code: number): number {
  return code === Code.float64 ? Code.float64 : Code.float32;
}

/**
 * The smallest dtype that both fit in, as PyTorch's `promote_types` says; where that would be int16, which fovea does
 * not have, int32.
 *
 * @returns a code
 */
export function promoteTypes(a: number, b: number): number {
  if (a === b) return a;
  const ca = category(a);
  const cb = category(b);
  if (ca !== cb) return ca > cb ? a : b;
  if (ca === 2) {
    if (a === Code.float64 || b === Code.float64) return Code.float64;
    return Code.float32; // float32 with anything narrower, and float16 with bfloat16
  }
  if (a === Code.int64 || b === Code.int64) return Code.int64;
  return Code.int32; // int32 with anything narrower, and uint8 with int8
}

type HostArrayConstructor = new (buffer: ArrayBuffer) => HostArray;
const Float16: HostArrayConstructor | undefined = (globalThis as { Float16Array?: HostArrayConstructor }).Float16Array;
const hostArrays: readonly HostArrayConstructor[] = [
  Float32Array,
  Float64Array,
  Float16 ?? Uint16Array,
  Uint16Array,
  Int32Array,
  BigInt64Array,
  Uint8Array,
  Int8Array,
  Uint8Array,
];

/** The typed array of a dtype over bytes that were read. @returns a view of `bytes`, without a copy */
export function hostArray(code: number, bytes: ArrayBuffer): HostArray {
  return new hostArrays[code]!(bytes);
}
