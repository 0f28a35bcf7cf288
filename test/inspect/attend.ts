// What the tests of this room share: modules that attend, and attention by its formula in plain JavaScript.
import { attention, type AttentionOptions, nn, randn, type Tensor } from 'fovea';
import { GPT2LMHeadModel } from 'fovea/models';
import { list } from '../helpers.js';

/** Nothing but attention, with whatever options. */
export class Attend extends nn.Module {
  override forward(q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions = {}): Tensor {
    return attention(q, k, v, { ...options, returnLse: false });
  }
}

/** Attention behind a name of two parts. */
export class Outer extends nn.Module {
  inner: Attend = new Attend();
  twin: Attend = new Attend();
  override forward(x: Tensor): Tensor {
    return this.twin.forward(this.inner.forward(x, x, x), x, x);
  }
}

/** GPT-2 of two layers with four heads, 40 tokens and 64 positions. */
export function tiny(options: ConstructorParameters<typeof GPT2LMHeadModel>[0] = {}): GPT2LMHeadModel {
  return new GPT2LMHeadModel({
    vocabSize: 40,
    nPositions: 64,
    nEmbd: 32,
    nLayer: 2,
    nHead: 4,
    initializerRange: 0.3,
    ...options,
  }).eval();
}

/** [b, h, length, d] of normal numbers. */
export const heads = (...shape: number[]): Tensor => randn(shape);

/** The element of a tensor that broadcasts to [b, h, n, m]. */
function at(x: { shape: readonly number[]; data: number[] }, place: readonly number[]): number {
  const own = place.slice(place.length - x.shape.length);
  return x.data[own.reduce((sum, i, axis) => sum * x.shape[axis]! + (x.shape[axis] === 1 ? 0 : i), 0)]!;
}
const read = (x: Tensor): { shape: readonly number[]; data: number[] } => ({ shape: [...x.shape], data: list(x) });

/** Options of attention with what the formula below reads. */
export type TensorOptions = Omit<AttentionOptions, 'mask'> & { mask?: Tensor };

/** softmax(scale q kᵀ + bias, where mask) by its formula: [b, h, n, m] row by row, in double precision. */
export function weightsOf(q: Tensor, k: Tensor, options: TensorOptions = {}): number[] {
  const [[b, h, n, d], [, g, m]] = [q.shape, k.shape] as unknown as [number[], number[]] as [
    [number, number, number, number],
    [number, number, number],
  ];
  const [qs, ks] = [read(q), read(k)];
  const [mask, bias] = [options.mask && read(options.mask), options.bias && read(options.bias)];
  const { scale = 1 / Math.sqrt(d), causal = false } = options;
  const last = (i: number): number => (causal === 'topLeft' ? i : causal === 'bottomRight' ? i + m - n : m);
  const weights: number[] = [];
  for (let s = 0; s < b; s++)
    for (let head = 0; head < h; head++)
      for (let i = 0; i < n; i++) {
        const row = Array.from({ length: m }, (_, j) => {
          if (j > last(i) || (mask && at(mask, [s, head, i, j]) === 0)) return Number.NEGATIVE_INFINITY;
          let dot = 0;
          for (let c = 0; c < d; c++) dot += at(qs, [s, head, i, c]) * at(ks, [s, Math.floor((head * g) / h), j, c]);
          return scale * dot + (bias ? at(bias, [s, head, i, j]) : 0);
        });
        const most = Math.max(...row);
        const raised = row.map((score) => (most === Number.NEGATIVE_INFINITY ? 0 : Math.exp(score - most)));
        const sum = raised.reduce((total, x) => total + x, 0);
        weights.push(...raised.map((x) => (sum > 0 ? x / sum : 0)));
      }
  return weights;
}

/**
 * Random rows that sum to 1, by a generator of its own (mulberry32), so that plain JavaScript sees the same numbers.
 */
export function randomRows(n: number, m: number, seed: number, sharpness = 2): number[][] {
  let state = seed;
  const next = (): number => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  return Array.from({ length: n }, () => {
    const row = Array.from({ length: m }, () => Math.exp(sharpness * next()));
    const sum = row.reduce((total, x) => total + x, 0);
    return row.map((x) => x / sum);
  });
}
