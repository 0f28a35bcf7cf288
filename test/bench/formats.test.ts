// The files that peers read: what bench/peers writes is read back here by the formats' rules.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { load } from './load.js';

const { gpt2Graph, encoderGraph, multiHeadGraph, groupedQueryGraph } = await load('peers/onnx-models.mjs');
const { maskNumbers } = await load('peers/mask-numbers.mjs');
const { benchCases } = await load('cases.mjs');
const { writeGpt2 } = await load('peers/gguf.mjs');
const folder = mkdtempSync(join(tmpdir(), 'fovea-formats-'));
afterAll(() => rmSync(folder, { recursive: true }));
const model = { vocabulary: 60, positions: 32, width: 32, layers: 2, heads: 2 };

/** The fields of a protobuf message: by number, what each holds. */
function fieldsOf(message: Buffer): Map<number, (bigint | Buffer)[]> {
  const fields = new Map<number, (bigint | Buffer)[]>();
  let at = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = message.readUInt8(at++);
      value |= BigInt(byte & 127) << shift;
      if (byte < 128) return value;
    }
  };
  const take = (length: number): Buffer => {
    if (at + length > message.length) throw new RangeError('a field reaches beyond its message');
    return message.subarray(at, (at += length));
  };
  while (at < message.length) {
    const key = Number(varint());
    const wire = key & 7;
    const value = wire === 0 ? varint() : take(wire === 2 ? Number(varint()) : 4);
    fields.set(key >> 3, [...(fields.get(key >> 3) ?? []), value]);
  }
  return fields;
}

interface Node {
  op: string;
  inputs: string[];
  outputs: string[];
}
/** Bytes of an element: float32, uint8, int8, int64. */
const onnxWidths = new Map([
  [1n, 4],
  [2n, 1],
  [3n, 1],
  [7n, 8],
]);
/** Nodes, and the sizes of weights with those of their bytes, of an ONNX model. */
function readOnnx(bytes: Buffer): { nodes: Node[]; given: Set<string>; outputs: string[] } {
  const graph = fieldsOf(fieldsOf(bytes).get(7)![0] as Buffer);
  const messages = (field: number) => (graph.get(field) ?? []).map((one) => fieldsOf(one as Buffer));
  const texts = (fields: Map<number, (bigint | Buffer)[]>, field: number) => (fields.get(field) ?? []).map(String);
  for (const weight of messages(5)) {
    const size = (weight.get(1) ?? []).reduce<number>((product, dim) => product * Number(dim), 1);
    expect((weight.get(9)![0] as Buffer).length).toBe(size * (onnxWidths.get(weight.get(2)![0] as bigint) ?? NaN));
  }
  return {
    nodes: messages(1).map((node) => ({ op: texts(node, 4)[0]!, inputs: texts(node, 1), outputs: texts(node, 2) })),
    given: new Set([...messages(5).flatMap((one) => texts(one, 8)), ...messages(11).flatMap((one) => texts(one, 1))]),
    outputs: messages(12).flatMap((one) => texts(one, 1)),
  };
}

const encoder = { b: 1, n: 4, width: 32, heads: 2, hidden: 64, layers: 2 };
const attention = { b: 1, h: 4, g: 2, n: 3, m: 8, d: 16, causal: true };
test.each([
  ['GPT-2', gpt2Graph(model, 20), { GroupQueryAttention: 2, LayerNormalization: 5, MatMul: 9 }],
  ['an encoder', encoderGraph(encoder), { Attention: 2, MatMul: 6 }],
  [
    'an int8 encoder',
    encoderGraph({ ...encoder, type: 'int8' }),
    { QAttention: 2, DynamicQuantizeMatMul: 6, MatMul: 0 },
  ],
  ['attention', multiHeadGraph(attention), { MultiHeadAttention: 1 }],
  ['attention with numbers to add', multiHeadGraph(attention, true), { MultiHeadAttention: 1 }],
  ['attention whose heads share keys', groupedQueryGraph(attention), { GroupQueryAttention: 1 }],
])('%s as ONNX: every value is made once and before it is used', (_, bytes, ops) => {
  const { nodes, given: known, outputs } = readOnnx(bytes);
  for (const { inputs, outputs: made } of nodes) {
    expect(inputs.filter((name) => name !== '' && !known.has(name))).toEqual([]);
    for (const name of made) {
      expect(known.has(name)).toBe(false);
      known.add(name);
    }
  }
  expect(outputs.filter((name) => !known.has(name))).toEqual([]);
  for (const [op, count] of Object.entries(ops)) expect(nodes.filter((node) => node.op === op)).toHaveLength(count);
});

test('masks as numbers hide what fovea counts as not seen', () => {
  const masked = benchCases({ tiny: true }).filter(({ mask }) => mask);
  expect(masked.length).toBe(8);
  for (const { id, mask, n = 0, h = 0, d = 0, work } of masked) {
    const numbers = maskNumbers(mask!, n, n);
    const seen = numbers.filter((x) => x === 0).length;
    expect([id, seen]).toEqual([id, Number(work) / (4 * h * d)]);
    expect(numbers.every((x) => x === 0 || x === -Infinity)).toBe(true);
  }
});

/** The tensors that a GGUF file lists, and where its data begin. */
function readGguf(bytes: Buffer): {
  keys: string[];
  tensors: { name: string; size: number; type: number; offset: number }[];
  data: number;
} {
  let at = 4;
  const u32 = () => bytes.readUInt32LE((at += 4) - 4);
  const u64 = () => Number(bytes.readBigUInt64LE((at += 8) - 8));
  const text = () => {
    const length = u64();
    return bytes.toString('utf8', at, (at += length));
  };
  const value = (type: number): void => {
    if (type === 8) text();
    else if (type === 9) {
      const each = u32();
      for (let left = u64(); left > 0; left--) value(each);
    } else at += 4;
  };
  expect([bytes.toString('latin1', 0, 4), u32()]).toEqual(['GGUF', 3]);
  const [tensorCount, keyCount] = [u64(), u64()];
  const keys = Array.from({ length: keyCount }, () => {
    const key = text();
    value(u32());
    return key;
  });
  const tensors = Array.from({ length: tensorCount }, () => {
    const name = text();
    const size = Array.from({ length: u32() }, u64).reduce((a, b) => a * b, 1);
    return { name, size, type: u32(), offset: u64() };
  });
  return { keys, tensors, data: Math.ceil(at / 32) * 32 };
}

test.each([
  ['float32', 0, 4],
  ['float16', 1, 2],
  ['bfloat16', 30, 2],
])('GPT-2 as GGUF of %s', (dtype, type, bytesOfNumber) => {
  const path = join(folder, `${dtype}.gguf`);
  writeGpt2(path, model, dtype);
  const bytes = readFileSync(path);
  const { keys, tensors, data } = readGguf(bytes);
  expect(keys).toContain('gpt2.attention.head_count');
  expect(tensors).toHaveLength(4 + 12 * 2);
  const end = tensors.reduce((expected, { name, size, type: own, offset }) => {
    expect([name, offset]).toEqual([name, expected]);
    expect([name, own === type || own === 0]).toEqual([name, true]);
    return Math.ceil((offset + size * (own === 0 ? 4 : bytesOfNumber)) / 32) * 32;
  }, 0);
  expect(data + end).toBe(bytes.length);
  expect(tensors.find(({ name }) => name === 'token_embd.weight')?.type).toBe(type);
});

test('weights of 16 bits are small numbers of both signs', () => {
  for (const [dtype, valueOf] of [
    [
      'float16',
      (bits: number) => (bits & 0x8000 ? -1 : 1) * 2 ** (((bits >> 10) & 31) - 15) * (1 + (bits & 1023) / 1024),
    ],
    ['bfloat16', (bits: number) => new Float32Array(Uint32Array.of(bits << 16).buffer)[0]!],
  ] as const) {
    const path = join(folder, `${dtype}-weights.gguf`);
    writeGpt2(path, model, dtype);
    const bytes = readFileSync(path);
    const { data } = readGguf(bytes);
    const values = Array.from({ length: 60 * 32 }, (_, i) => valueOf(bytes.readUInt16LE(data + 2 * i)));
    expect(values.every((x) => Math.abs(x) >= 2 ** -7 && Math.abs(x) < 2 ** -6)).toBe(true);
    expect([values.some((x) => x < 0), values.some((x) => x > 0)]).toEqual([true, true]);
  }
});
