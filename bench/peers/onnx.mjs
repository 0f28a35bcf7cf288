// Writes ONNX models with random weights: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto in protobuf's wire
// format, of which only varints (0), 32-bit floats (5) and messages, texts and bytes (2) are needed. A message is a
// list of pieces, so that weights are copied once, at the end.
import { randomBytes, randomNumbers } from './random.mjs';

const float = 1;
const int64 = 7;

function varint(value) {
  const bytes = [];
  let rest = BigInt.asUintN(64, BigInt(value));
  do {
    bytes.push(Number(rest & 127n) | (rest > 127n ? 128 : 0));
    rest >>= 7n;
  } while (rest > 0n);
  return Buffer.from(bytes);
}
const key = (field, wire) => varint((field << 3) | wire);
const integer = (field, value) => [key(field, 0), varint(value)];
const bytes = (field, content) => {
  const pieces = Array.isArray(content) ? content : [Buffer.from(content)];
  const length = pieces.reduce((sum, piece) => sum + piece.length, 0);
  return [key(field, 2), varint(length), ...pieces];
};
const real = (field, value) => {
  const number = Buffer.alloc(4);
  number.writeFloatLE(value);
  return [key(field, 5), number];
};
const each = (items, write) => items.flatMap(write);

function attribute([name, value]) {
  if (Number.isInteger(value)) return [...bytes(1, name), ...integer(3, value), ...integer(20, 2)];
  return [...bytes(1, name), ...real(2, value), ...integer(20, 1)];
}

/** A number gives a dimension's size, a text its name. */
function valueInfo({ name, type = float, dims }) {
  const shape = each(dims, (dim) => bytes(1, typeof dim === 'number' ? integer(1, dim) : bytes(2, dim)));
  return [...bytes(1, name), ...bytes(2, bytes(1, [...integer(1, type), ...bytes(2, shape)]))];
}

function tensor(name, dims, type, data) {
  const raw = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  return [...each(dims, (dim) => integer(1, dim)), ...integer(2, type), ...bytes(8, name), ...bytes(9, [raw])];
}

/** A graph in the making; values are known by their names. */
export class OnnxGraph {
  static types = { float32: float, uint8: 2, int8: 3, int32: 6, int64 };
  #nodes = [];
  #weights = [];
  #inputs = [];
  #outputs = [];
  #names = 0;

  /** @returns the name */
  input(name, dims, type = 'float32') {
    this.#inputs.push({ name, dims, type: OnnxGraph.types[type] });
    return name;
  }

  output(name, dims, type = 'float32') {
    this.#outputs.push({ name, dims, type: OnnxGraph.types[type] });
  }

  /** Random float32 weights. @returns the name */
  weight(...dims) {
    const size = dims.reduce((a, b) => a * b, 1);
    return this.constant(randomNumbers(size, 0.02), dims, float);
  }

  /** Random bytes. @returns the name */
  bytes(type, ...dims) {
    const size = dims.reduce((a, b) => a * b, 1);
    return this.constant(randomBytes(size), dims, OnnxGraph.types[type]);
  }

  /** @returns the name */
  constant(data, dims, type = int64) {
    const name = `constant.${this.#names++}`;
    this.#weights.push(tensor(name, dims, type, data));
    return name;
  }

  /**
   * Adds a node.
   *
   * @param inputs names, '' for one that is left out @param options `outputs`: names, `domain`, and the op's attributes
   * @returns the name of the first output
   */
  node(op, inputs, { outputs = [`value.${this.#names++}`], domain = '', ...attributes } = {}) {
    this.#nodes.push([
      ...each(inputs, (name) => bytes(1, name)),
      ...each(outputs, (name) => bytes(2, name)),
      ...bytes(4, op),
      ...each(Object.entries(attributes), (entry) => bytes(5, attribute(entry))),
      ...bytes(7, domain),
    ]);
    return outputs[0];
  }

  /** An op of ONNX Runtime's own. */
  contrib(op, inputs, options = {}) {
    return this.node(op, inputs, { ...options, domain: 'com.microsoft' });
  }

  /** The model's file. */
  file() {
    const graph = [
      ...each(this.#nodes, (node) => bytes(1, node)),
      ...bytes(2, 'bench'),
      ...each(this.#weights, (weight) => bytes(5, weight)),
      ...each(this.#inputs, (info) => bytes(11, valueInfo(info))),
      ...each(this.#outputs, (info) => bytes(12, valueInfo(info))),
    ];
    const opset = (domain, version) => bytes(8, [...bytes(1, domain), ...integer(2, version)]);
    return Buffer.concat([...integer(1, 10), ...bytes(7, graph), ...opset('', 21), ...opset('com.microsoft', 1)]);
  }
}
