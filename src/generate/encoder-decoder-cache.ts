/**
 * What a decoder with cross-attention has seen (Hugging Face's `EncoderDecoderCache`): keys and values of its own
 * tokens, in a KvCache that grows, and those of the memory, which the first step projects. A step of decoding then
 * computes one position:
 *
 *   hidden = decoder.forward(embedded, memory, { tgtIsCausal: true, pastKeyValues: cache.layers });  cache.advance(n)
 */
import { noGrad } from '../autograd/backward.js';
import type { DecoderLayerCache, KeysAndValues } from '../nn/attention-cache.js';
import { indexSelect, tensor } from '../ops/index.js';
import { refuseInRecording } from '../tensor/capture.js';
import { argumentError, countArg, optionsArg } from '../tensor/check.js';
import { keep, tidy } from '../tensor/tidy.js';
import { KvCache, rowsArg } from './kv-cache.js';

/** What the first step takes memory for; every further time it is twice as much. */
const leastPositions = 16;

/** Keys and values for all layers of a decoder. Batch, heads and dtype are those of the first step. */
export class EncoderDecoderCache {
  /** For each layer what its attentions remember. */
  readonly layers: readonly DecoderLayerCache[];
  #own: KvCache | undefined;
  readonly #memory: (KeysAndValues | undefined)[];
  /** For each sequence the place of its memory in what the first step was given; nothing before. */
  #sources: readonly number[] | undefined;

  /** @throws FOVEA_ARGUMENT for what is no number of layers */
  constructor(options: { layers: number }) {
    if (options === undefined) throw argumentError('EncoderDecoderCache', 'options', 'an object with layers', options);
    const { layers } = optionsArg('EncoderDecoderCache', options, ['layers']);
    countArg('EncoderDecoderCache', 'layers', layers, 1);
    this.#memory = Array.from({ length: layers }, () => undefined);
    this.layers = this.#memory.map((_, layer) => ({
      selfAttention: { remember: (project) => this.#append(layer, project()) },
      crossAttention: { remember: (project) => (this.#memory[layer] ??= this.#hold(project())) },
    }));
  }

  /** Positions that every layer has seen. */
  get length(): number {
    return this.#own?.length ?? 0;
  }

  #append(layer: number, { k, v }: KeysAndValues): KeysAndValues {
    const [batch, heads, added, headDim] = k.shape as [number, number, number, number];
    const [layers, capacity] = [this.layers.length, Math.max(leastPositions, added)];
    const { dtype, device } = k;
    this.#own ??= new KvCache({ layers, batch, heads, capacity, headDim, dtype, device });
    this.#sources ??= upTo(batch);
    const own = this.#own;
    const needed = own.length + added;
    if (needed > own.capacity) own.grow(Math.max(2 * own.capacity, needed));
    return own.update(layer, k, v);
  }

  /** Says that `count` positions were appended to every layer. */
  advance(count: number): void {
    this.#own?.advance(count);
  }

  /**
   * Has sequence r go on where sequence `rows[r]` was, as beams do; nothing before the first step.
   *
   * @throws FOVEA_ARGUMENT for what is no list of rows of the batch; FOVEA_UNSUPPORTED in a recorded step
   */
  reorder(rows: readonly number[]): void {
    const before = this.#sources;
    if (!before) return;
    rowsArg('EncoderDecoderCache', rows, before.length);
    this.#own?.reorder(rows);
    const sources = rows.map((row) => before[row]!);
    const same = sources.length === before.length && sources.every((source, i) => source === before[i]);
    this.#sources = sources;
    // Beams of one sequence have the same memory, whichever goes on.
    if (!same) this.#moveMemory(rows);
  }

  /** Keys and values that no `tidy` frees, in the order in which attention reads them. */
  #hold({ k, v }: KeysAndValues): KeysAndValues {
    refuseInRecording('EncoderDecoderCache', 'it sees the memory for the first time; run a step before');
    this.#sources ??= upTo(k.shape[0]!);
    return noGrad(() => ({ k: keep(k.detach().contiguous()), v: keep(v.detach().contiguous()) }));
  }

  #moveMemory(rows: readonly number[]): void {
    refuseInRecording('EncoderDecoderCache', 'its memory moves; do that between steps');
    for (const [layer, old] of this.#memory.entries()) {
      if (!old) continue;
      this.#memory[layer] = noGrad(() =>
        tidy(() => {
          const index = tensor([...rows], { dtype: 'int64', device: old.k.device });
          return { k: keep(indexSelect(old.k, 0, index)), v: keep(indexSelect(old.v, 0, index)) };
        }),
      );
      old.k.dispose();
      old.v.dispose();
    }
  }

  /** Frees the memory at once. */
  dispose(): void {
    this.#own?.dispose();
    for (const kept of this.#memory) {
      kept?.k.dispose();
      kept?.v.dispose();
    }
  }

  /** What `using` calls: `dispose()`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** 0, 1, … */
const upTo = (n: number): number[] => Array.from({ length: n }, (_, i) => i);
