// The addon without the tensor API above it, for the tests of the runtime: scripts that run as they are under node, in
// workers and under the sanitizers. FOVEA_BINARY names the binary, as in the product.
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

export const binary =
  process.env.FOVEA_BINARY ?? fileURLToPath(new URL('../../build/Release/fovea.node', import.meta.url));
export const native = createRequire(import.meta.url)(binary);
const scratch = native.scratch();

class NativeError extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}
native.setErrorClass(NativeError);

export const ops = JSON.parse(native.describe());
const numbers = new Map(ops.map((op, number) => [op.name, number]));
const dtypes = ['float32', 'float64', 'float16', 'bfloat16', 'int32', 'int64', 'uint8', 'int8', 'bool'];
const arrays = [
  Float32Array,
  Float64Array,
  Uint16Array,
  Uint16Array,
  Int32Array,
  BigInt64Array,
  Uint8Array,
  Int8Array,
  Uint8Array,
];

/** What a tensor is to the runtime: an object that owns a handle. */
export class Tensor {
  handle = 0;
  get rank() {
    return native.inspect(this.handle);
  }
  get shape() {
    const rank = this.rank;
    return [...scratch.subarray(0, rank)];
  }
  get strides() {
    const rank = this.rank;
    return [...scratch.subarray(rank, 2 * rank)];
  }
  get dtype() {
    return scratch[2 * this.rank];
  }
  dataSync() {
    return new arrays[this.dtype](native.readNow(this.handle));
  }
  data() {
    const make = arrays[this.dtype];
    return native.read(this.handle).then((buffer) => new make(buffer));
  }
  dispose() {
    if (this.handle) native.free(this.handle);
    this.handle = 0;
  }
}

const own = (make) => {
  const made = new Tensor();
  made.handle = make(made);
  return made;
};
const put = (shape) =>
  shape.forEach((n, i) => {
    scratch[i] = n;
  });

export function tensor(data, shape, dtype = 'float32') {
  const code = dtypes.indexOf(dtype);
  const host = ArrayBuffer.isView(data) ? data : arrays[code].from(data);
  put(shape);
  return own((owner) => native.upload(owner, host, code, shape.length));
}
export function empty(shape, dtype = 'float32') {
  put(shape);
  return own((owner) => native.empty(owner, dtypes.indexOf(dtype), shape.length));
}
export function view(base, shape, strides, offset = 0) {
  put(shape.concat(strides));
  return own((owner) => native.view(owner, base.handle, shape.length, offset));
}
export const transpose = (t) => {
  const [shape, strides] = [t.shape, t.strides];
  return view(t, shape.reverse(), strides.reverse());
};
/** Along the first axis of a matrix, or of a vector. */
export function narrow(t, start, length) {
  const [shape, strides] = [t.shape, t.strides];
  return view(t, [length, ...shape.slice(1)], strides, start * strides[0]);
}

/** The outputs of an op, by its declaration: `run('add', [a, b], { scalar: 2 })`. */
export function runAll(name, inputs, attrs = {}) {
  const number = numbers.get(name);
  const op = ops[number];
  const outputs = op.outputs.map(() => new Tensor());
  const handles = op.inputs.map((_, i) => inputs[i]?.handle ?? 0);
  const first = native.run(number, ...outputs, ...handles, ...op.attrs.map((attr) => attrs[attr.name]));
  outputs.forEach((output, i) => {
    output.handle = i === 0 ? first : scratch[i];
  });
  return outputs;
}
export const run = (name, inputs, attrs) => runAll(name, inputs, attrs)[0];
export function runMany(name, tuples, attrs = {}) {
  const number = numbers.get(name);
  const op = ops[number];
  const outputs = op.outputs.map(() => new Tensor());
  const handles = Int32Array.from(tuples.flatMap((tuple) => op.inputs.map((_, i) => tuple[i]?.handle ?? 0)));
  const first = native.runMany(number, ...outputs, handles, ...op.attrs.map((attr) => attrs[attr.name]));
  if (outputs.length > 0) outputs[0].handle = first;
  return outputs[0];
}
export const add = (a, b) => run('add', [a, b]);
/** Passes its input through, after so many milliseconds on the stream. */
export const busy = (t, milliseconds, overrun) => run('busy', [t], { milliseconds, overrun });
export const full = (n, value) => new Float32Array(n).fill(value);

/** The code that `body` throws, or 'none'. */
export function codeOf(body) {
  try {
    body();
  } catch (error) {
    return error.code ?? `${error.constructor.name}: ${error.message}`;
  }
  return 'none';
}

/** One line per property, which the test that started the script reads. */
export function check(name, holds, detail = '') {
  if (!holds) process.exitCode = 1;
  console.log(`${holds ? 'ok' : 'FAIL'} ${name}${detail === '' ? '' : ` (${detail})`}`);
}
