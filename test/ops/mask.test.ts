// Masks: what each shows, how they join, print and go through JSON.
import * as fc from 'fast-check';
import { inspect } from 'node:util';
import { attention, mask, type Mask, tensor, type Tensor, zeros } from 'fovea';
import { describe, expect, it } from 'vitest';
import { codeOf, device } from '../helpers.js';
import { cases, dense } from './mask-oracle.js';

describe('masks', () => {
  it('show what they say, whatever they are joined of', () => {
    fc.assert(
      fc.property(cases, ({ place, pair }) => {
        const { b, h, n, m } = place;
        const seen = pair.mask.toTensor(n, m, { batch: b, heads: h, device });
        expect(seen.shape).toEqual([b, h, n, m]);
        expect(Buffer.compare(seen.dataSync() as Uint8Array, dense(place, pair.sees))).toBe(0);
      }),
      { numRuns: 300, endOnFailure: true },
    );
  });
});

/** A row of text for each query, with # for what is seen. */
const visible = (m: Mask, n: number, keys = n): string[] => {
  const values = m.toTensor(n, keys, { device }).dataSync() as Uint8Array;
  return Array.from({ length: n }, (_, i) =>
    Array.from(values.slice(i * keys, (i + 1) * keys), (x) => '.#'[x]).join(''),
  );
};

describe('the masks there are', () => {
  it.each<[string, Mask, string[]]>([
    ['causal()', mask.causal(), ['#....', '##...', '###..', '####.', '#####']],
    ['slidingWindow(1, 0)', mask.slidingWindow(1, 0), ['#....', '##...', '.##..', '..##.', '...##']],
    ['slidingWindow(1, 1)', mask.slidingWindow(1), ['##...', '###..', '.###.', '..###', '...##']],
    ['dilated(2, 1)', mask.dilated(2, 1), ['#.#..', '.#.#.', '#.#.#', '.#.#.', '..#.#']],
    ['prefix(2)', mask.prefix(2), ['##...', '##...', '##...', '##...', '##...']],
    ['strided(2)', mask.strided(2), ['#....', '##...', '###..', '.###.', '#.###']],
    ['fixed(2)', mask.fixed(2), ['#....', '##...', '.##..', '.###.', '.#.##']],
    ['fixed(3, { summary: 2 })', mask.fixed(3, { summary: 2 }), ['#....', '##...', '###..', '.###.', '.####']],
    [
      'dilated(3, 9007199254740991)',
      mask.dilated(3, Number.MAX_SAFE_INTEGER),
      ['#..#.', '.#..#', '..#..', '#..#.', '.#..#'],
    ],
    ['globalTokens([1])', mask.globalTokens([1]), ['.#...', '#####', '.#...', '.#...', '.#...']],
    ['padding([3])', mask.padding([3]), ['###..', '###..', '###..', '###..', '###..']],
    ['documents([0, 0, 7, 7, 0])', mask.documents([0, 0, 7, 7, 0]), ['##..#', '##..#', '..##.', '..##.', '##..#']],
    [
      'blocks([[true, false], [true, true]], 3)',
      mask.blocks(
        [
          [true, false],
          [true, true],
        ],
        3,
      ),
      ['###..', '###..', '###..', '#####', '#####'],
    ],
  ])('%s', (text, m, expected) => {
    expect(String(m)).toBe(text);
    expect(visible(m, 5)).toEqual(expected);
  });

  it('are aligned at the last key where asked', () => {
    expect(visible(mask.causal({ align: 'bottomRight' }), 2, 4)).toEqual(['###.', '####']);
    expect(visible(mask.causal(), 2, 4)).toEqual(['#...', '##..']);
    expect(visible(mask.slidingWindow(1, 0, { align: 'bottomRight' }), 2, 4)).toEqual(['.##.', '..##']);
    expect(visible(mask.documents([0, 0, 1, 1]), 2, 4)).toEqual(['..##', '..##']);
    expect(visible(mask.causal({ align: 'bottomRight' }), 3, 2)).toEqual(['..', '#.', '##']);
  });

  it('packs sequences by where they begin', () => {
    expect(visible(mask.cuSeqlens([0, 2, 2, 5]), 5)).toEqual(['##...', '##...', '..###', '..###', '..###']);
    expect(visible(mask.cuSeqlens([0, 1, 3], [0, 3, 4]), 3, 4)).toEqual(['###.', '...#', '...#']);
  });

  it('choose random blocks alike, as many as asked, and otherwise for another seed', () => {
    const rows = (seed: number): string[] => visible(mask.randomBlocks(3, seed, { size: 4 }), 64);
    expect(rows(5)).toEqual(rows(5));
    expect(rows(5)).not.toEqual(rows(6));
    const counts = rows(5).map((row) => [...row].filter((x) => x === '#').length);
    expect(new Set(counts)).toEqual(new Set([12]));
    // each block is chosen about as often as any other: 3 of 16 in 200 tables of 16 rows
    const chosen = new Array<number>(16).fill(0);
    for (let seed = 0; seed < 200; seed++)
      for (const row of visible(mask.randomBlocks(3, seed, { size: 1 }), 16))
        [...row].forEach((x, j) => (chosen[j]! += Number(x === '#')));
    for (const count of chosen) expect(Math.abs(count - 600)).toBeLessThan(5 * Math.sqrt((600 * 13) / 16));
    expect(visible(mask.randomBlocks(9, 1, { size: 2 }), 3)).toEqual(['###', '###', '###']);
  });
});

describe('mask values', () => {
  const joined = mask
    .causal({ align: 'bottomRight' })
    .and(mask.padding([3, 5]))
    .or(mask.globalTokens([0]).not());
  it('print as the calls that make them', () => {
    expect(String(joined)).toBe("causal({ align: 'bottomRight' }).and(padding([3, 5])).or(globalTokens([0]).not())");
    expect(String(mask.documents([...new Array<number>(20).keys()]))).toBe(
      'documents([0, 1, 2, 3, 4, 5, 6, 7, … 20 in all])',
    );
    expect(String(mask.tensorMask(tensor([true, false])).and(mask.randomBlocks(2, 7, { size: 16 })))).toBe(
      'tensorMask(Tensor [2] bool).and(randomBlocks(2, 7, { size: 16 }))',
    );
    expect(inspect({ joined })).toContain('Mask causal(');
  });

  it('do not change', () => {
    const indices = [1];
    const m = mask.globalTokens(indices);
    indices.push(2);
    expect(String(m)).toBe('globalTokens([1])');
    expect(Object.isFrozen(m)).toBe(true);
    m.and(mask.causal()).not();
    expect(String(m)).toBe('globalTokens([1])');
    expect(String(m.not().not())).toBe('globalTokens([1])');
  });

  it('go through JSON', () => {
    fc.assert(
      fc.property(cases, ({ place, pair }) => {
        const { b, h, n, m } = place;
        const back = mask.fromJson(JSON.parse(JSON.stringify(pair.mask)));
        // tensors come back on the CPU, which their texts do not name
        expect(String(back)).toBe(String(pair.mask).replaceAll(/, cuda:\d+/g, ''));
        const seen = back.toTensor(n, m, { batch: b, heads: h }).dataSync() as Uint8Array;
        expect(Buffer.compare(seen, dense(place, pair.sees))).toBe(0);
      }),
      { numRuns: 60, endOnFailure: true },
    );
    const ids = tensor([0n, 0n, 1n], { dtype: 'int64' });
    expect(JSON.stringify(mask.documents(ids))).toBe('{"type":"documents","ids":[0,0,1]}');
  });

  it('take lengths and numbers of documents from tensors, as they are at the call', () => {
    const lengths = tensor([1, 3], { dtype: 'int32', device });
    const ids = tensor(
      [
        [0, 0, 1],
        [0, 1, 1],
      ],
      { dtype: 'int64', device },
    );
    const m = mask.padding(lengths).and(mask.documents(ids));
    const seen = (): number[] => Array.from(m.toTensor(3, 3, { batch: 2, device }).dataSync() as Uint8Array);
    expect(seen()).toEqual([1, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 1, 0, 1, 1]);
    lengths.fill_(2);
    expect(seen()).toEqual([1, 1, 0, 1, 1, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 1, 0]);
  });

  it('draw themselves', () => {
    const svg = mask.causal().toSvg({ queries: 3 });
    expect(svg.match(/<rect x="0" y="\d" width="\d" height="1"\/>/g)).toHaveLength(3);
    expect(svg).toContain('<title>causal(), 3 queries by 3 keys</title>');
    const coarse = mask.causal().toSvg({ queries: 8, cells: 2 });
    expect(coarse).toContain('2×2 cells');
    expect(coarse).toContain('fill-opacity="0.63"');
    const [first, second] = [0, 1].map((batch) => mask.padding([1, 2]).toSvg({ queries: 2, batches: 2, batch }));
    expect(first).toContain('width="1" height="1"/>');
    expect(second).toContain('width="2" height="1"/>');
  });
});

describe('wrong masks', () => {
  const [q, k, v] = [0, 1, 2].map(() => zeros([2, 2, 4, 8])) as [Tensor, Tensor, Tensor];
  const attend = (m: unknown) => () => attention(q, k, v, { mask: m as Mask });
  it.each<[string, () => unknown, string, RegExp]>([
    ['an unknown alignment', () => mask.causal({ align: 'left' as never }), 'FOVEA_ARGUMENT', /mask\.causal.*align/],
    ['an unknown option', () => mask.causal({ alignment: 1 } as never), 'FOVEA_ARGUMENT', /alignment/],
    ['a negative window', () => mask.slidingWindow(-1), 'FOVEA_ARGUMENT', /slidingWindow.*left/],
    ['half a step', () => mask.dilated(0.5, 1), 'FOVEA_ARGUMENT', /dilated.*step/],
    ['a summary beyond the stride', () => mask.fixed(3, { summary: 4 }), 'FOVEA_ARGUMENT', /at most 3.*summary/],
    ['a ragged table', () => mask.blocks([[true], [true, false]], 2), 'FOVEA_ARGUMENT', /blocks.*table/],
    ['an empty table', () => mask.blocks([], 2), 'FOVEA_ARGUMENT', /blocks.*table/],
    ['ragged documents', () => mask.documents([[1, 2], [1]]), 'FOVEA_ARGUMENT', /documents.*ids\[1\]/],
    ['sequences that begin later', () => mask.cuSeqlens([1, 2]), 'FOVEA_ARGUMENT', /cuSeqlens.*from 0|from 0.*offsets/],
    ['sequences that go back', () => mask.cuSeqlens([0, 3, 2]), 'FOVEA_ARGUMENT', /offsets\[2\]/],
    ['fewer sequences of keys', () => mask.cuSeqlens([0, 3, 4], [0, 4]), 'FOVEA_ARGUMENT', /keyOffsets/],
    ['documents of floats', () => mask.documents(zeros([4])), 'FOVEA_DTYPE', /documents.*integers.*float32/],
    ['lengths that are no list', () => mask.padding(3 as never), 'FOVEA_ARGUMENT', /padding.*lengths/],
    ['a tensor of floats', () => mask.tensorMask(zeros([4])), 'FOVEA_DTYPE', /bool.*float32.*bias/],
    ['what is no mask', () => mask.causal().and(3 as never), 'FOVEA_ARGUMENT', /mask\.and.*mask/],
    ['attention with what is no mask', attend({}), 'FOVEA_ARGUMENT', /attention.*mask/],
    ['documents for other keys', attend(mask.documents([1, 1, 1])), 'FOVEA_SHAPE', /attention.*documents.*4 keys/],
    [
      'documents for other batches',
      attend(
        mask.documents([
          [1, 1, 1, 1],
          [1, 1, 1, 1],
          [1, 1, 1, 1],
        ]),
      ),
      'FOVEA_SHAPE',
      /3 batches/,
    ],
    [
      'lengths that were freed',
      () => {
        const lengths = tensor([1, 2], { dtype: 'int64' });
        const m = mask.padding(lengths);
        lengths.dispose();
        String(m);
        m.toTensor(2, 2, { batch: 2 });
      },
      'FOVEA_DISPOSED',
      /lengths of padding/,
    ],
    ['lengths for other batches', attend(mask.padding([1, 2, 3])), 'FOVEA_SHAPE', /padding.*3 batches.*2/],
    ['a table that is too small', attend(mask.blocks([[true]], 3)), 'FOVEA_SHAPE', /blocks covers 3 queries.*4/],
    ['tables of other heads', attend(mask.blocks([[[true]], [[true]], [[true]]], 4)), 'FOVEA_SHAPE', /blocks.*3 heads/],
    ['a token that is not there', attend(mask.globalTokens([4])), 'FOVEA_SHAPE', /globalTokens.*position 4/],
    ['a tensor with too many axes', attend(zeros([1, 1, 1, 4, 4], { dtype: 'bool' })), 'FOVEA_SHAPE', /more axes/],
    ['JSON of no mask', () => mask.fromJson({ type: 'toString' } as never), 'FOVEA_ARGUMENT', /fromJson/],
    ['JSON of nothing', () => mask.fromJson(null as never), 'FOVEA_ARGUMENT', /fromJson/],
    [
      'JSON with wrong values',
      () => mask.fromJson({ type: 'prefix', length: 'x' } as never),
      'FOVEA_ARGUMENT',
      /prefix/,
    ],
    ['JSON without terms', () => mask.fromJson({ type: 'and', terms: [] }), 'FOVEA_ARGUMENT', /terms/],
    ['a head that is not there', () => mask.causal().toSvg({ head: 1 }), 'FOVEA_ARGUMENT', /less than heads.* head/],
  ])('%s', (_, run, code, mentions) => {
    expect(run).toThrow(mentions);
    expect(codeOf(run)).toBe(code);
  });
});
