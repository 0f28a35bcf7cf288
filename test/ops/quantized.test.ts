// Quantised weights as values: what a GGUF file's blocks stand for, bit for bit, both ways; what is refused of such
// bytes; products, gradients and lifetimes. The op table has quantising and products by number.
import {
  functional as F,
  type GgufQuantType,
  grad,
  memory,
  quantize,
  QuantizedTensor,
  type QuantType,
  randn,
  synchronizeSync,
  type Tensor,
  tensor,
  tidy,
  zeros,
} from 'fovea';
import { describe, expect, it } from 'vitest';
import { codeOf, device, list } from '../helpers.js';
import { blockOf, bytesOf, decode } from './quantized-model.js';
import { random } from './samples.js';

const fileTypes = ['q8_0', 'q4_0', 'q4_K', 'q6_K'] as const;
const types: readonly QuantType[] = [...fileTypes, 'int8'];
const sizeOf = (type: QuantType, n: number, k: number): number => n * (k / blockOf[type]) * bytesOf[type];

/** Any bytes at all, so that scales take every bit pattern: zeros, denormals, infinities, NaN. */
function anyBytes(type: QuantType, n: number, k: number, seed: number): Uint8Array {
  const next = random(seed);
  return Uint8Array.from({ length: sizeOf(type, n, k) }, () => Math.floor(256 * next()));
}

const weights = (n: number, k: number): Tensor => randn([n, k], { device });
/** Of bytes that are on the device already, so that its own kernels repack them. */
function fromFile(bytes: Uint8Array, type: GgufQuantType, shape: [number, number]): QuantizedTensor {
  using file = tensor(bytes, { dtype: 'uint8', device });
  return QuantizedTensor.fromGguf(file, type, shape);
}

describe.each(fileTypes)('%s of a file', (type) => {
  it.each([
    [1, 256],
    [16, 512],
    [35, 768],
    [0, 256],
    [3, 0],
  ] as const)('[%i, %i] keeps its bytes', async (n, k) => {
    const bytes = anyBytes(type, n, k, n + k);
    using weight = QuantizedTensor.fromGguf(bytes, type, [n, k]);
    expect(weight.toGgufSync()).toEqual(bytes);
    expect(await weight.toGguf()).toEqual(bytes);
    using same = fromFile(bytes, type, [n, k]);
    expect(same.device).toBe(device === 'cuda' ? 'cuda:0' : device);
    expect(same.toGgufSync()).toEqual(bytes);
  });

  it('stands for the weights of its definition', () => {
    const [n, k] = [19, 512];
    const bytes = anyBytes(type, n, k, 7);
    using weight = fromFile(bytes, type, [n, k]);
    const expected = new Float32Array(decode(type, bytes, [n, k]).data);
    expect(weight.dequantize().dataSync()).toEqual(expected);
    expect(weight.dequantize('float64').dataSync<Float64Array>()).toEqual(new Float64Array(expected));
    const half = tensor(expected, { shape: [n, k] }).to('bfloat16');
    expect(list(weight.dequantize('bfloat16'))).toEqual(list(half));
  });

  it('multiplies whatever its bytes are', () => {
    const bytes = anyBytes(type, 35, 512, 11);
    using weight = fromFile(bytes, type, [35, 512]);
    const rows = Array.from({ length: 35 }, (_, r) =>
      decode(type, bytes, [35, 512]).data.subarray(r * 512, (r + 1) * 512),
    );
    const y = list(F.linear(weights(1, 512), weight));
    // A scale that is not finite makes its channel so, and no other; huge finite ones may overflow, too.
    rows.forEach((row, r) => {
      if (!row.every(Number.isFinite)) expect(y[r]).not.toSatisfy(Number.isFinite);
      else expect(y[r]).toSatisfy(Number.isFinite);
    });
  });

  it('refuses bytes that are not its size', () => {
    const make = (length: number, n: number, k: number) => () =>
      QuantizedTensor.fromGguf(new Uint8Array(length), type, [n, k]);
    const size = sizeOf(type, 2, 256);
    expect(codeOf(make(size, 2, 256))).toBe('none');
    for (const wrong of [0, size - 1, size + 1, 2 * size])
      expect(make(wrong, 2, 256)).toThrow(/has \d+ bytes, received/);
    expect(codeOf(make(size - 1, 2, 256))).toBe('FOVEA_FILE_FORMAT');
    expect(codeOf(make(size, 2, 250))).toBe('FOVEA_SHAPE');
    expect(codeOf(make(0, 2 ** 40, 2 ** 40))).toBe('FOVEA_SHAPE');
    expect(codeOf(make(0, 2 ** 31 - 1, 2 ** 31 - 256))).toBe('FOVEA_FILE_FORMAT');
    expect(codeOf(make(size, -2, 256))).toBe('FOVEA_ARGUMENT');
    expect(codeOf(make(size, 2, Number.NaN))).toBe('FOVEA_ARGUMENT');
  });
});

describe('QuantizedTensor', () => {
  it('refuses what is no weight', () => {
    const from = (...args: unknown[]): unknown => QuantizedTensor.fromGguf(...(args as [never, never, never]));
    for (const bytes of [undefined, null, [1], 'x', new Uint16Array(34), new ArrayBuffer(34), zeros([34])])
      expect(codeOf(() => from(bytes, 'q8_0', [1, 32]))).toBe('FOVEA_ARGUMENT');
    for (const type of ['int8', 'q5_0', undefined, 8, '__proto__'])
      expect(codeOf(() => from(new Uint8Array(34), type, [1, 32]))).toBe('FOVEA_ARGUMENT');
    for (const shape of [[32], [1, 1, 32], 32, undefined, ['1', 32]])
      expect(codeOf(() => from(new Uint8Array(34), 'q8_0', shape))).toBe('FOVEA_ARGUMENT');
    expect(codeOf(() => new QuantizedTensor(zeros([544]), 'q8_0', [1, 32]))).toBe('FOVEA_SHAPE');
    expect(codeOf(() => new QuantizedTensor(zeros([543], { dtype: 'uint8' }), 'q8_0', [1, 32]))).toBe('FOVEA_SHAPE');
    const int8 = quantize(weights(2, 3), 'int8');
    expect(codeOf(() => int8.toGgufSync())).toBe('FOVEA_UNSUPPORTED');
    expect(codeOf(() => int8.dequantize('int32'))).toBe('FOVEA_DTYPE');
  });

  it('owns its memory', () => {
    const bytes = memory().live;
    const made = tidy(() => {
      quantize(weights(64, 256), 'q6_K');
      return { weight: quantize(weights(64, 256), 'q8_0') };
    });
    expect(made.weight.byteLength).toBe(4 * 8 * 544);
    expect(String(made.weight)).toBe('QuantizedTensor q8_0 [64, 256]');
    expect(made.weight.isDisposed).toBe(false);
    made.weight.dispose();
    made.weight.dispose();
    expect(made.weight.isDisposed).toBe(true);
    synchronizeSync();
    expect(memory().live).toBe(bytes);
    for (const use of [() => made.weight.dequantize(), () => made.weight.toGgufSync()])
      expect(codeOf(use)).toBe('FOVEA_DISPOSED');
  });
});

describe.each(types)('a product with %s', (type) => {
  const [m, n, k] = [9, 40, 512];
  it('is near that of the weights', () => {
    const x = weights(m, k);
    const weight = quantize(weights(n, k), type);
    const expected = list(F.linear(x, weight.dequantize()));
    const actual = list(F.linear(x, weight));
    const power = expected.reduce((sum, v) => sum + v * v, 0);
    const error = expected.reduce((sum, v, i) => sum + (v - actual[i]!) ** 2, 0);
    expect(error / power).toBeLessThanOrEqual(5e-4);
    expect(error).toBeGreaterThan(0);
  });

  it('does not depend on the rows beside one', () => {
    const x = weights(m, k);
    const weight = quantize(weights(n, k), type);
    const all = list(F.linear(x, weight));
    expect(list(F.linear(x.narrow(0, 3, 1), weight))).toEqual(all.slice(3 * n, 4 * n));
  });

  it('has the gradient of the dequantised weight', () => {
    const x = randn([2, m, k], { requiresGrad: true, device });
    const bias = randn([n], { requiresGrad: true, device });
    const weight = quantize(weights(n, k), type);
    const dy = randn([2, m, n], { device });
    const [dx, dbias] = grad(F.linear(x, weight, bias), [x, bias], { gradOutputs: dy });
    expect(list(dx!)).toEqual(list(F.matmul(dy, weight.dequantize())));
    expect(list(dbias!)).toEqual(list(dy.reshape([2 * m, n]).sum(0)));
    const half = x.detach().to('bfloat16').requiresGrad_();
    F.linear(half, weight).sum().backward();
    expect(half.grad!.dtype).toBe('bfloat16');
  });
});

it('linear of a quantised weight passes its errors and its activation on', () => {
  const weight = quantize(weights(4, 32), 'q8_0');
  const x = weights(3, 32);
  expect(list(F.linear(x, weight, null, { activation: 'gelu' }))).toEqual(list(F.gelu(F.linear(x, weight))));
  expect(codeOf(() => F.linear(x, weight, null, { activation: 'tanh' as never }))).toBe('FOVEA_ARGUMENT');
  expect(codeOf(() => F.linear(weights(3, 31), weight))).toBe('FOVEA_SHAPE');
});

it('a second gradient goes through the product of the first', () => {
  const x = randn([2, 32], { requiresGrad: true, device });
  const weight = quantize(weights(4, 32), 'q4_0');
  const [g] = grad(F.linear(x, weight).square().sum(), [x], { createGraph: true });
  const [second] = grad(g!.square().sum(), [x]);
  // g = 2 y W, and y is taken to be x Wᵀ.
  const w = weight.dequantize();
  const expected = list(F.matmul(F.matmul(g!.detach(), w.transpose(0, 1)), w).mul(4));
  const scale = Math.max(...expected.map(Math.abs));
  list(second!).forEach((v, i) => expect(Math.abs(v - expected[i]!)).toBeLessThanOrEqual(1e-5 * scale));
});

it('moves to another device as it is', () => {
  const bytes = anyBytes('q4_K', 19, 512, 3);
  using weight = QuantizedTensor.fromGguf(bytes, 'q4_K', [19, 512]);
  expect(weight.to('cpu')).toBe(weight);
  const there = weight.to(device);
  expect(there === weight).toBe(device === 'cpu');
  expect(there.device).toBe(tensor([0], { device }).device);
  expect(there.toGgufSync()).toEqual(bytes);
  expect(there.to('cpu').toGgufSync()).toEqual(bytes);
  expect(codeOf(() => weight.to('cuda:99'))).toBe('FOVEA_DEVICE');
  for (const target of ['float32', undefined, 1])
    expect(codeOf(() => weight.to(target as never))).toBe('FOVEA_ARGUMENT');
  there.dispose();
  expect(codeOf(() => there.to('cpu'))).toBe('FOVEA_DISPOSED');
});

// Only a GPU is another device; the full tier runs this on an emulated one.
it.skipIf(device === 'cpu')('operands on different devices are refused', () => {
  const weight = quantize(randn([2, 32]), 'q8_0');
  const x = weights(3, 32);
  for (const use of [
    () => F.linear(x, weight),
    () => F.linear(x.to('cpu'), weight.to(device)),
    () => F.linear(x, weight.to(device), zeros([2])),
  ]) {
    expect(codeOf(use)).toBe('FOVEA_DEVICE');
    expect(use).toThrow(/quantizedLinear: \w+ is on .* to\(\)/);
  }
});
