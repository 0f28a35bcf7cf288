// What the lists of cases share.
export const bytesOf = { float32: 4, bfloat16: 2, float16: 2 };
export const dtypes = Object.keys(bytesOf);

export const MIB = 2 ** 20;
/** Bytes of inputs between two uses of the same. */
const rotated = 256 * MIB;
export const floats = ['float32', 'bfloat16'];
export const flopLimit = (dtype) => (dtype === 'bfloat16' ? 'bf16' : 'fma');
export const product = (shape) => shape.reduce((a, b) => a * b, 1);
export const setsFor = (bytes, tiny) => (tiny ? 2 : Math.ceil(rotated / bytes));

export function define(group, kind, label, dtype, rest) {
  return { id: `${rest.op ?? kind} ${label} ${dtype}`, group, kind, op: rest.op ?? kind, label, dtype, ...rest };
}
