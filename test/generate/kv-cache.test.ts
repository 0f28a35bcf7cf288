// Caches whose rows go on elsewhere, as beams do, and whose memory grows.
import { attention, memory, noGrad, randn, record, tensor, tidy, type Tensor } from 'fovea';
import { KvCache } from 'fovea/generate';
import { describe, expect, it } from 'vitest';
import { codeOf, device, list } from '../helpers.js';

const make = (batch: number, capacity: number): KvCache =>
  new KvCache({ layers: 2, batch, heads: 2, capacity, headDim: 3, dtype: 'float32', device });
const some = (batch: number, n: number): Tensor => randn([batch, 2, n, 3], { device });

/** Appends to both layers. @returns what they hold then */
function append(cache: KvCache, k: Tensor): Tensor[] {
  const seen = [0, 1].map((layer) => cache.update(layer, k.add(layer), k.mul(2 + layer)));
  cache.advance(k.shape[2]!);
  return seen.flatMap(({ k: keys, v }) => [keys, v]);
}

describe('KvCache', () => {
  it.each([[[2, 0, 1]], [[1, 1, 1]], [[0]], [[2, 1, 0, 0, 2]]])('goes on by rows %j', (rows) => {
    using cache = make(3, 7);
    const [before, after] = [some(3, 4), some(rows.length, 2)];
    append(cache, before);
    tidy(() => cache.reorder(rows));
    expect([cache.length, cache.capacity]).toEqual([4, 7]);
    const moved = before.indexSelect(0, tensor(rows, { dtype: 'int64', device }));
    using whole = make(rows.length, 7);
    append(whole, moved);
    const wanted = append(whole, after);
    for (const [i, seen] of append(cache, after).entries()) expect(list(seen)).toEqual(list(wanted[i]!));
  });

  it('moves nothing where all rows stay', () => {
    using cache = make(2, 3);
    const [keys] = append(cache, some(2, 1));
    const before = memory().tensors;
    cache.reorder([0, 1]);
    expect(memory().tensors).toBe(before);
    const writes = list(keys!);
    expect(list(cache.update(0, some(2, 1), some(2, 1)).k.narrow(2, 0, 1))).toEqual(writes);
  });

  it('grows, empty or not, and frees what it leaves', () => {
    using cache = make(2, 3);
    cache.grow(5);
    const x = some(2, 5);
    append(cache, x);
    const before = memory();
    cache.grow(9);
    cache.reorder([1, 0]);
    expect(memory().tensors).toBe(before.tensors);
    const y = some(2, 4);
    const [keys] = append(cache, y);
    const swap = tensor([1, 0], { dtype: 'int64', device });
    expect(list(keys!.narrow(2, 0, 5))).toEqual(list(x.indexSelect(0, swap)));
    expect(list(keys!.narrow(2, 5, 4))).toEqual(list(y));
    expect(codeOf(() => append(cache, some(2, 1)))).toBe('FOVEA_ARGUMENT');
  });

  it('keeps keys that were given out before', () => {
    using cache = make(2, 3);
    const [keys] = append(cache, some(2, 2));
    const before = list(keys!);
    cache.reorder([1, 1]);
    append(cache, some(2, 1));
    expect(list(keys!)).toEqual(before);
  });

  it('refuses rows and sizes that do not fit', () => {
    using cache = make(2, 3);
    for (const rows of [[], [2], [-1], [0.5], 'all' as unknown as number[]])
      expect(() => cache.reorder(rows)).toThrow(/KvCache: .*rows/);
    for (const capacity of [3, 0, 3.5]) expect(() => cache.grow(capacity)).toThrow(/KvCache: .*capacity/);
  });

  it('has steps recorded anew once its memory moved, which they may not do themselves', () => {
    const [cache, other] = [make(2, 4), make(2, 12)];
    const use = (into: KvCache, t: Tensor): Tensor => {
      const [k, v] = append(into, t) as [Tensor, Tensor];
      return attention(t, k, v);
    };
    const x = some(2, 1);
    let runs = 0;
    using step = record((t: Tensor) => {
      runs++;
      return use(cache, t);
    });
    noGrad(() => {
      for (const one of [cache, other]) use(one, x);
      for (let i = 1; i < 10; i++) {
        if (cache.length === cache.capacity) cache.grow(cache.capacity + 4);
        if (i === 6) for (const one of [cache, other]) one.reorder([1, 0]);
        expect(list(step(x.mul(i)))).toEqual(list(use(other, x.mul(i))));
      }
    });
    // At the start, at 5 and 9 positions, and after the change of rows.
    expect(runs).toBe(4);
    for (const change of [() => cache.grow(99), () => cache.reorder([1, 0])]) {
      using refused = record((t: Tensor) => {
        change();
        return use(cache, t);
      });
      expect(codeOf(() => refused(x))).toBe('FOVEA_UNSUPPORTED');
    }
    cache.dispose();
    other.dispose();
  });
});
