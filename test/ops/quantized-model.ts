// Quantised weights by their definitions, number by number: what a block of a GGUF file stands for, the integers of the
// types that ggml rounds plainly, and a product with a quantised operand. Shares no code with what it checks.
import type { QuantType } from 'fovea';
import { Nd } from './nd.js';
import { fromHalfBits, roundTo } from './samples.js';

const f = Math.fround;

export const blockOf: Record<QuantType, number> = { q8_0: 32, q4_0: 32, q4_K: 256, q6_K: 256, int8: 1 };
export const bytesOf: Record<QuantType, number> = { q8_0: 34, q4_0: 18, q4_K: 144, q6_K: 210, int8: 0 };

const signed = (byte: number): number => (byte < 128 ? byte : byte - 256);
const halfAt = (bytes: Uint8Array, at: number): number => fromHalfBits(bytes[at]! + 256 * bytes[at + 1]!);

/** Scale and minimum j of 32 weights of q4_K: 6 bits each, the upper four pairs spread over the bits that are left. */
function scaleAndMinimum(s: Uint8Array, j: number): [number, number] {
  if (j < 4) return [s[j]! & 63, s[j + 4]! & 63];
  return [(s[j + 4]! & 15) | ((s[j - 4]! >> 6) << 4), (s[j + 4]! >> 4) | ((s[j]! >> 6) << 4)];
}

const decoders: Record<Exclude<QuantType, 'int8'>, (b: Uint8Array, i: number) => number> = {
  q8_0: (b, i) => f(halfAt(b, 0) * signed(b[2 + i]!)),
  q4_0: (b, i) => f(halfAt(b, 0) * ((i < 16 ? b[2 + i]! & 15 : b[2 + i - 16]! >> 4) - 8)),
  q4_K: (b, i) => {
    const j = Math.floor(i / 32);
    const [scale, minimum] = scaleAndMinimum(b.subarray(4, 16), j);
    const byte = b[16 + 32 * (j >> 1) + (i % 32)]!;
    return f(f(f(halfAt(b, 0) * scale) * (j % 2 ? byte >> 4 : byte & 15)) - f(halfAt(b, 2) * minimum));
  },
  q6_K: (b, i) => {
    const half = Math.floor(i / 128);
    const quarter = Math.floor((i % 128) / 32);
    const l = i % 32;
    const low = b[64 * half + 32 * (quarter % 2) + l]! >> (quarter < 2 ? 0 : 4);
    const high = b[128 + 32 * half + l]! >> (2 * quarter);
    const q = ((low & 15) | ((high & 3) << 4)) - 32;
    return f(f(halfAt(b, 208) * signed(b[192 + Math.floor(i / 16)]!)) * q);
  },
};

/** The weights of a file's blocks, in float32. */
export function decode(type: Exclude<QuantType, 'int8'>, file: Uint8Array, shape: readonly [number, number]): Nd {
  const block = blockOf[type];
  const bytes = bytesOf[type];
  return Nd.from(shape, ([row, k]) => {
    const at = (row! * (shape[1] / block) + Math.floor(k! / block)) * bytes;
    return decoders[type](file.subarray(at, at + bytes), k! % block);
  });
}

const inverse = (d: number): number => (Number.isFinite(f(1 / d)) ? f(1 / d) : 0);
const toEven = (x: number): number => {
  const down = Math.floor(x);
  if (x - down !== 0.5) return Math.round(x);
  return down % 2 === 0 ? down : down + 1;
};
const largest = (x: readonly number[]): number => x.reduce((a, b) => Math.max(a, Math.abs(b)), 0);

/** One block as weights again, for the types whose integers follow from the block's largest value. */
const plain: Record<'q8_0' | 'q4_0' | 'int8', (x: readonly number[]) => number[]> = {
  q8_0: (x) => {
    const d = f(largest(x) / 127);
    const half = roundTo('float16', d);
    return x.map((v) => {
      const scaled = f(v * inverse(d));
      return f(half * Math.sign(scaled) * Math.round(Math.abs(scaled)));
    });
  },
  q4_0: (x) => {
    const d = f(x.reduce((a, b) => (Math.abs(b) > Math.abs(a) ? b : a), 0) / -8);
    const half = roundTo('float16', d);
    return x.map((v) => f(half * (Math.min(15, Math.trunc(f(f(v * inverse(d)) + 8.5))) - 8)));
  },
  int8: (x) => {
    const d = f(largest(x) / 127);
    return x.map((v) => f(d * toEven(f(v * inverse(d)))));
  },
};

/** What `quantize(w, type).dequantize()` must give, exactly. */
export function requantized(w: Nd, type: keyof typeof plain): Nd {
  const [n, k] = w.shape as [number, number];
  const length = type === 'int8' ? k : blockOf[type];
  const out = new Float64Array(n * k);
  for (let at = 0; at < n * k; at += length) out.set(plain[type](Array.from(w.data.subarray(at, at + length), f)), at);
  return new Nd(w.shape, out);
}

/** x with every run of values that share a scale rounded to 8 bits, as a product reads it. */
export function activations(x: Nd, type: QuantType): Nd {
  const k = x.shape.at(-1)!;
  const length = type === 'int8' ? k : blockOf[type];
  const out = new Float64Array(x.size);
  for (let at = 0; at < x.size; at += length) {
    const piece = Array.from(x.data.subarray(at, at + length), f);
    const d = f(largest(piece) / 127);
    const sound = piece.every(Number.isFinite);
    out.set(sound ? piece.map((v) => d * toEven(f(v * inverse(d)))) : piece.map(() => Number.NaN), at);
  }
  return new Nd(x.shape, out);
}

/** x wᵀ + bias in float64. */
export function product(x: Nd, w: Nd, bias?: Nd): Nd {
  const [n, k] = w.shape as [number, number];
  const rows = x.shape.slice(0, -1);
  return Nd.from([...rows, n], (index) => {
    const c = index.at(-1)!;
    let sum = bias?.data[c] ?? 0;
    for (let i = 0; i < k; i++) sum += x.at([...index.slice(0, -1), i]) * w.data[c * k + i]!;
    return sum;
  });
}
