// Masks as plain predicates, written from their definitions; and random mask expressions, as both.
import * as fc from 'fast-check';
import { mask, type Mask, tensor } from 'fovea';
import { device } from '../helpers.js';

export interface Place {
  b: number;
  h: number;
  n: number;
  m: number;
}
/** Whether query i sees key j. */
export type Sees = (b: number, h: number, i: number, j: number) => boolean;
export interface Pair {
  mask: Mask;
  sees: Sees;
}

type Align = 'topLeft' | 'bottomRight';
const at = (align: Align, { n, m }: Place, i: number): number => (align === 'bottomRight' ? i + m - n : i);

const alignment = fc.constantFrom<Align>('topLeft', 'bottomRight');
const small = fc.integer({ min: 0, max: 9 });

/** Masks that are not joined. */
function leaf(place: Place): fc.Arbitrary<Pair> {
  const { b, h, n, m } = place;
  const aligned = <T extends unknown[]>(
    args: { [K in keyof T]: fc.Arbitrary<T[K]> },
    make: (align: Align, ...args: T) => Mask,
    sees: (i: number, j: number, ...args: T) => boolean,
  ): fc.Arbitrary<Pair> =>
    fc.tuple(alignment, ...(args as fc.Arbitrary<unknown>[])).map(([align, ...rest]) => ({
      mask: make(align as Align, ...(rest as T)),
      sees: (_b, _h, i, j) => sees(at(align as Align, place, i), j, ...(rest as T)),
    }));
  const table = (rows: number, columns: number): fc.Arbitrary<boolean[][]> =>
    fc.array(fc.array(fc.boolean(), { minLength: columns, maxLength: columns }), { minLength: rows, maxLength: rows });
  return fc.oneof(
    aligned<[]>(
      [],
      (align) => mask.causal({ align }),
      (i, j) => j <= i,
    ),
    aligned<[number, number]>(
      [fc.integer({ min: 0, max: 40 }), small],
      (align, left, right) => mask.slidingWindow(left, right, { align }),
      (i, j, left, right) => i - left <= j && j <= i + right,
    ),
    aligned<[number, number]>(
      [fc.integer({ min: 1, max: 7 }), small],
      (align, step, width) => mask.dilated(step, width, { align }),
      (i, j, step, width) => Math.abs(i - j) % step === 0 && Math.abs(i - j) <= step * width,
    ),
    aligned<[number]>(
      [fc.integer({ min: 1, max: 20 })],
      (align, stride) => mask.strided(stride, { align }),
      (i, j, stride) => j <= i && (i - j <= stride || (i - j) % stride === 0),
    ),
    aligned<[number, number]>(
      [fc.integer({ min: 1, max: 20 }), small],
      (align, stride, summary) => mask.fixed(stride, { summary: Math.min(stride, summary + 1), align }),
      (i, j, stride, summary) =>
        j <= i &&
        (Math.floor(i / stride) === Math.floor(j / stride) || j % stride >= stride - Math.min(stride, summary + 1)),
    ),
    aligned<[number[]]>(
      [fc.uniqueArray(fc.integer({ min: 0, max: m - 1 }), { maxLength: 4 })],
      (align, indices) => mask.globalTokens(indices, { align }),
      (i, j, indices) => indices.includes(i) || indices.includes(j),
    ),
    fc.integer({ min: 0, max: m + 3 }).map((length) => ({
      mask: mask.prefix(length),
      sees: (_b: number, _h: number, _i: number, j: number): boolean => j < length,
    })),
    fc.array(fc.integer({ min: 0, max: m + 1 }), { minLength: b, maxLength: b }).map((lengths) => ({
      mask: mask.padding(lengths),
      sees: (batch: number, _h: number, _i: number, j: number): boolean => j < lengths[batch]!,
    })),
    fc
      .array(fc.array(fc.integer({ min: 0, max: 3 }), { minLength: m, maxLength: m }), { minLength: b, maxLength: b })
      .map((ids) => ({
        // without ids of their own there cannot be more queries than keys
        mask: n <= m ? mask.documents(ids) : mask.documents([...new Array<number>(n).keys()], ids[0]!),
        sees: (batch: number, _h: number, i: number, j: number): boolean =>
          n <= m ? ids[batch]![i + m - n] === ids[batch]![j] : i === ids[0]![j],
      })),
    fc
      .tuple(fc.array(small, { minLength: n, maxLength: n }), fc.array(small, { minLength: m, maxLength: m }))
      .map(([ids, keyIds]) => ({
        mask: mask.documents(ids, keyIds),
        sees: (_b: number, _h: number, i: number, j: number): boolean => ids[i] === keyIds[j],
      })),
    fc.tuple(alignment, fc.integer({ min: 3, max: 30 })).chain(([align, size]) => {
      const [rows, columns] = [Math.ceil((align === 'bottomRight' ? m : n) / size), Math.ceil(m / size)];
      return fc.array(table(rows, columns), { minLength: h, maxLength: h }).map((tables) => ({
        mask: mask.blocks(tables, size, { align }),
        sees: (_b: number, head: number, i: number, j: number): boolean => {
          const row = Math.floor(at(align, place, i) / size);
          return tables[head]![row]?.[Math.floor(j / size)] ?? false;
        },
      }));
    }),
  );
}

/** Random expressions for scores of a size; `tensor` makes the leaf of a tensor, if there may be one. */
export function expression(place: Place, tensor?: fc.Arbitrary<Pair>): fc.Arbitrary<Pair> {
  const leaves = tensor
    ? fc.oneof({ weight: 5, arbitrary: leaf(place) }, { weight: 1, arbitrary: tensor })
    : leaf(place);
  const { pair } = fc.letrec<{ pair: Pair }>((tie) => ({
    pair: fc.oneof(
      { maxDepth: 3, depthSize: 'small' },
      leaves,
      fc.tuple(tie('pair'), tie('pair')).map(([x, y]) => ({
        mask: x.mask.and(y.mask),
        sees: (...where: Parameters<Sees>): boolean => x.sees(...where) && y.sees(...where),
      })),
      fc.tuple(tie('pair'), tie('pair')).map(([x, y]) => ({
        mask: x.mask.or(y.mask),
        sees: (...where: Parameters<Sees>): boolean => x.sees(...where) || y.sees(...where),
      })),
      tie('pair').map((x) => ({
        mask: x.mask.not(),
        sees: (...where: Parameters<Sees>): boolean => !x.sees(...where),
      })),
    ),
  }));
  return pair;
}

const sizes = fc.record({
  b: fc.integer({ min: 1, max: 2 }),
  h: fc.constantFrom(1, 2),
  n: fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 120, max: 300 })),
  m: fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 120, max: 300 })),
});
/** The mask of all scores, row by row. */
export function dense({ b, h, n, m }: Place, sees: Sees): Uint8Array {
  const seen = new Uint8Array(b * h * n * m);
  for (let at = 0; at < seen.length; at++)
    seen[at] = Number(sees(Math.floor(at / (h * n * m)), Math.floor(at / (n * m)) % h, Math.floor(at / m) % n, at % m));
  return seen;
}
const randomTensor = ({ b, h, n, m }: Place): fc.Arbitrary<Pair> =>
  fc
    .tuple(fc.constantFrom(1, b), fc.constantFrom(1, h), fc.constantFrom(1, n), fc.constantFrom(1, m))
    .chain((shape) => {
      const size = shape.reduce((x, y) => x * y);
      return fc.array(fc.boolean(), { minLength: size, maxLength: size }).map((values): Pair => {
        const at = (index: number[]): number =>
          index.reduce((sum, x, axis) => sum * shape[axis]! + (shape[axis] === 1 ? 0 : x), 0);
        return {
          mask: mask.tensorMask(tensor(values, { shape, dtype: 'bool', device })),
          sees: (...index) => values[at(index)]!,
        };
      });
    });
/** Sizes, and an expression for them. */
export const cases = sizes.chain((place) => expression(place, randomTensor(place)).map((pair) => ({ place, pair })));
