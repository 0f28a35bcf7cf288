// What tells positions apart: sinusoids, learned rows, relative biases, rotations and their scalings.
import { type Dtype, functional as F, nn, positionBias, randn, record, tensor, type Tensor, zeros } from 'fovea';
import { describe, expect, test } from 'vitest';
import { compare, readJson } from '../golden.js';
import { codeOf } from '../helpers.js';

/** What transformers gives (test/golden/rope). */
const recorded = readJson('rope', 'frequencies.json') as {
  cases: {
    name: string;
    dim: number;
    base: number;
    scaling: nn.RopeScaling;
    seqLen: number;
    frequencies: number[];
    attentionFactor: number;
  }[];
};

const sinusoid = (p: number, d: number, base = 10_000): number[] =>
  Array.from({ length: d }, (_, i) => {
    const angle = p / base ** ((i - (i % 2)) / d);
    return i % 2 ? Math.cos(angle) : Math.sin(angle);
  });
const rows = (positions: number[], d: number, base?: number): number[] =>
  positions.flatMap((p) => sinusoid(p, d, base));
const count = (n: number, from = 0): number[] => Array.from({ length: n }, (_, i) => from + i);
const near = async (x: Tensor, expected: ArrayLike<number>, tolerance = 1.5e-7): Promise<void> =>
  expect(compare(await x.data({ as: 'float64' }), expected).difference).toBeLessThanOrEqual(tolerance);

describe('SinusoidalPositionalEncoding', () => {
  test.each([
    [1, 3],
    [2, 70],
    [5, 17],
    [6, 1],
    [31, 200],
  ])('width %i, %i positions, against the formula', async (d, n) => {
    await near(new nn.SinusoidalPositionalEncoding(d).forward(zeros([n, d])), rows(count(n), d));
    const far = new nn.SinusoidalPositionalEncoding(d, { base: 500 });
    await near(far.forward(zeros([n, d]), { offset: 100_000 }), rows(count(n, 100_000), d, 500));
    await near(far.forward(zeros([n, d], { dtype: 'float64' })), rows(count(n), d, 500), 1e-12);
  });

  test('batches in either order, positions of their own, dropout', async () => {
    const x = randn([3, 2, 6]);
    const lengthFirst = await new nn.SinusoidalPositionalEncoding(6).forward(x).sub(x).data();
    await near(
      tensor(lengthFirst),
      count(3).flatMap((p) => [...sinusoid(p, 6), ...sinusoid(p, 6)]),
      5e-7,
    );
    const layer = new nn.SinusoidalPositionalEncoding(6, { batchFirst: true, dropout: 0.5 });
    const none = zeros([3, 2, 6]);
    const dropped = await layer.forward(none, { offset: 1 }).data();
    expect(dropped.filter((value) => value === 0).length).toBeGreaterThan(5);
    layer.eval();
    await near(
      layer.forward(none, { offset: 4 }),
      [4, 5, 4, 5, 4, 5].flatMap((p) => sinusoid(p, 6)),
    );
    const positions = [7, 0, 1_000_000, 3, 2, 2];
    const at = tensor(positions, { dtype: 'int64' });
    await near(layer.forward(none, { positions: at.reshape([3, 2]) }), rows(positions, 6));
    await near(
      layer.forward(none, { positions: at.narrow(0, 0, 2) }),
      [7, 0, 7, 0, 7, 0].flatMap((p) => sinusoid(p, 6)),
    );
    const turned = new nn.SinusoidalPositionalEncoding(6);
    await near(
      turned.forward(zeros([2, 3, 6]), { positions: at.reshape([3, 2]) }),
      rows([7, 1_000_000, 2, 0, 3, 2], 6),
    );
  });

  test('has no state, keeps the dtype, and works in recorded steps', async () => {
    const layer = new nn.SinusoidalPositionalEncoding(4);
    expect(Object.keys(layer.stateDict())).toEqual([]);
    for (const dtype of ['bfloat16', 'float16', 'float64'] as Dtype[])
      expect(layer.forward(zeros([3, 4], { dtype })).dtype).toBe(dtype);
    let recorded = 0;
    using step = record((x: Tensor) => {
      recorded++;
      return layer.forward(x);
    });
    // 90 rows need a larger table, after which 3 are recorded anew.
    for (const n of [3, 3, 90, 3, 90, 3]) await near(step(zeros([n, 4])), rows(count(n), 4));
    expect(recorded).toBe(3);
    layer.dispose();
    await near(layer.forward(zeros([2, 4])), rows(count(2), 4));
  });
});

describe('LearnedPositionalEmbedding', () => {
  test('adds rows of its table, with gradients', async () => {
    const layer = new nn.LearnedPositionalEmbedding(5, 3);
    expect(Object.keys(layer.stateDict())).toEqual(['weight']);
    layer.loadStateDict({ weight: tensor(count(15)).reshape([5, 3]) });
    await near(layer.forward(zeros([2, 3]), { offset: 3 }), count(6, 9));
    const positions = tensor([4, 4], { dtype: 'int64' });
    layer
      .forward(zeros([2, 2, 3]), { positions })
      .sum()
      .backward();
    expect(await layer.weight.grad!.toArray()).toEqual([...Array.from({ length: 4 }, () => [0, 0, 0]), [4, 4, 4]]);
  });

  test('errors', async () => {
    const layer = new nn.LearnedPositionalEmbedding(5, 3);
    expect(() => layer.forward(zeros([3, 3]), { offset: 3 })).toThrow(/at most 5 positions.*received 6/);
    await expect(layer.forward(zeros([1, 3]), { positions: tensor([5], { dtype: 'int64' }) }).data()).rejects.toThrow(
      expect.objectContaining({ code: 'FOVEA_INDEX' }),
    );
    const ids = tensor([0, 1], { dtype: 'int64' });
    const cases: [string, () => unknown][] = [
      ['FOVEA_ARGUMENT', () => layer.forward(zeros([2, 3]), { offset: -1 })],
      ['FOVEA_ARGUMENT', () => layer.forward(zeros([2, 3]), { offset: 1, positions: ids })],
      ['FOVEA_ARGUMENT', () => layer.forward(zeros([2, 3]), { start: 1 } as never)],
      ['FOVEA_SHAPE', () => layer.forward(zeros([2, 4]))],
      ['FOVEA_DTYPE', () => new nn.SinusoidalPositionalEncoding(4).forward(zeros([2, 4], { dtype: 'int64' }))],
      ['FOVEA_SHAPE', () => layer.forward(zeros([3]))],
      ['FOVEA_SHAPE', () => layer.forward(zeros([3, 3]), { positions: ids })],
      ['FOVEA_SHAPE', () => layer.forward(zeros([2, 3]), { positions: ids.reshape([1, 2]) })],
      ['FOVEA_ARGUMENT', () => new nn.LearnedPositionalEmbedding(0, 3)],
      ['FOVEA_ARGUMENT', () => new nn.SinusoidalPositionalEncoding(0)],
      ['FOVEA_ARGUMENT', () => new nn.SinusoidalPositionalEncoding(4, { base: 0 })],
      ['FOVEA_ARGUMENT', () => new nn.SinusoidalPositionalEncoding(4, { length: 3 } as never)],
    ];
    for (const [code, run] of cases) expect(codeOf(run)).toBe(code);
  });
});

describe('relative position biases', () => {
  test('are the values that positionBias makes of their tables', async () => {
    const [q, k, v] = [randn([1, 2, 5, 4]), randn([1, 2, 7, 4]), randn([1, 2, 7, 4])];
    const learned = new nn.RelativePositionBias(2, 3);
    expect(learned.stateDict()['weight']!.shape).toEqual([2, 7]);
    const t5 = new nn.T5RelativePositionBias(2, { numBuckets: 8, maxDistance: 6, bidirectional: false });
    expect(t5.stateDict()['weight']!.shape).toEqual([8, 2]);
    for (const [layer, value] of [
      [learned, positionBias.relative(learned.weight)],
      [t5, positionBias.t5(t5.weight, { maxDistance: 6, bidirectional: false })],
    ] as const) {
      const output = F.attention(q, k, v, { positionBias: layer.forward() });
      expect(await output.data()).toEqual(await F.attention(q, k, v, { positionBias: value }).data());
      output.sum().backward();
      expect(layer.weight.grad!.shape).toEqual(layer.weight.shape);
    }
    for (const bias of [() => t5.forward(), () => learned.forward(), () => positionBias.alibi(2)]) {
      let recorded = 0;
      using step = record((x: Tensor) => {
        recorded++;
        return F.attention(x, x, x, { positionBias: bias() });
      });
      for (let i = 0; i < 3; i++) {
        const x = randn([1, 2, 5, 4]);
        const expected = await F.attention(x, x, x, { positionBias: bias() }).data();
        expect(await step(x).data()).toEqual(expected);
        (globalThis as { gc?: () => void }).gc?.();
      }
      expect(recorded).toBe(1);
    }
    const wrong = [
      () => new nn.RelativePositionBias(2, -1),
      () => new nn.T5RelativePositionBias(2, { numBuckets: 7 }),
      () => new nn.T5RelativePositionBias(2, { numBuckets: 32, maxDistance: 8 }),
      () => new nn.T5RelativePositionBias(2, { buckets: 32 } as never),
    ];
    for (const run of wrong) expect(codeOf(run)).toBe('FOVEA_ARGUMENT');
  });
});

describe('RotaryEmbedding', () => {
  test.each(recorded.cases)('$name: frequencies, cosines and sines', async (given) => {
    const { dim, base, scaling, seqLen, frequencies, attentionFactor } = given;
    const rotary = new nn.RotaryEmbedding(dim, { base, scaling });
    const found = rotary.frequencies(seqLen);
    expect(found.attentionFactor).toBeCloseTo(attentionFactor, 14);
    for (const [i, f] of frequencies.entries()) expect(Math.abs(found.frequencies[i]! / f - 1)).toBeLessThan(1e-13);
    const positions = [0, 1, 77, 65_535, 131_071];
    const angles = positions.map((p) => frequencies.map((f) => p * f));
    const { cos, sin } = rotary.angles(tensor(positions, { dtype: 'int64' }), { seqLen });
    await near(
      cos,
      angles.flat().map((a) => attentionFactor * Math.cos(a)),
    );
    await near(
      sin,
      angles.flat().map((a) => attentionFactor * Math.sin(a)),
    );
    const wide = rotary.angles(tensor(positions, { dtype: 'int64' }), { seqLen, dtype: 'float64' });
    await near(
      wide.cos,
      angles.flat().map((a) => attentionFactor * Math.cos(a)),
      1e-10,
    );
  });

  test('rotates queries and keys so that scores depend on the difference of positions alone', async () => {
    const rotary = new nn.RotaryEmbedding(8, { scaling: { ropeType: 'linear', factor: 2 } });
    const [q, k] = [randn([1, 1, 1, 8]), randn([1, 1, 1, 8])];
    const at = (x: Tensor, p: number): Tensor => rotary.forward(x, { positions: tensor([p], { dtype: 'int64' }) });
    const score = async (i: number, j: number): Promise<number> => await at(q, i).mul(at(k, j)).sum().item();
    expect(await score(3, 1)).toBeCloseTo(await score(1003, 1001), 4);
    expect(Math.abs((await score(3, 1)) - (await score(3, 2)))).toBeGreaterThan(1e-3);
  });

  test.each([true, false])('interleaved: %s; the same by positions, by count and by rope', async (interleaved) => {
    const rotary = new nn.RotaryEmbedding(6, {
      interleaved,
      scaling: { ropeType: 'yarn', factor: 4, originalMaxPositionEmbeddings: 16 },
    });
    const x = randn([2, 3, 5, 10]);
    const y = rotary.forward(x);
    const positions = tensor([...count(5), ...count(5)], { dtype: 'int64' }).reshape([2, 5]);
    expect(compare(await rotary.forward(x, { positions }).data(), await y.data()).difference).toBeLessThan(1e-6);
    const { cos, sin } = rotary.angles(5);
    expect(await F.rope(x, cos, sin, { interleaved }).data()).toEqual(await y.data());
    expect(await y.narrow(3, 6, 4).data()).toEqual(await x.narrow(3, 6, 4).data());
    const [c, s] = [await cos.toArray(), await sin.toArray()] as [number[][], number[][]];
    const [i, j] = interleaved ? [2, 3] : [1, 4];
    const row = (await x.select(0, 1).select(0, 2).select(0, 3).data()) as Float32Array;
    const turned = await y.select(0, 1).select(0, 2).select(0, 3).data();
    expect(turned[i]).toBeCloseTo(row[i]! * c[3]![1]! - row[j]! * s[3]![1]!, 5);
    expect(turned[j]).toBeCloseTo(row[j]! * c[3]![1]! + row[i]! * s[3]![1]!, 5);
  });

  test('dynamic scaling follows the length of the call, and no call before it', async () => {
    const scaling = { ropeType: 'dynamic', factor: 2, originalMaxPositionEmbeddings: 64 } as const;
    const rotary = new nn.RotaryEmbedding(8, { scaling });
    const plain = new nn.RotaryEmbedding(8);
    const short = await rotary.angles(64).cos.data();
    expect(short).toEqual(await plain.angles(64).cos.data());
    const long = await rotary.angles(100).cos.data();
    expect(long.slice(0, short.length)).not.toEqual(short);
    expect(await rotary.angles(64).cos.data()).toEqual(short);
    const positions = tensor(count(100), { dtype: 'int64' });
    expect(compare(await rotary.angles(positions, { seqLen: 100 }).cos.data(), long).difference).toBeLessThan(1e-6);
    expect(await rotary.angles(10, { seqLen: 100 }).cos.data()).toEqual(long.slice(0, 40));
    rotary.angles(100).cos.zero_();
    expect(await rotary.angles(100).cos.data()).toEqual(long);
    expect(() => rotary.angles(positions)).toThrow(/dynamic scaling.*pass \{ seqLen \}/);
    expect(() => rotary.forward(randn([1, 2, 8]), { positions: positions.narrow(0, 0, 2) })).toThrow(/seqLen/);
  });

  test('gradients, dtypes, modules around it, recorded steps', async () => {
    const rotary = new nn.RotaryEmbedding(4);
    const x = randn([1, 2, 3, 4], { requiresGrad: true });
    rotary.forward(x).mul(rotary.forward(x.detach())).sum().backward();
    // A rotation's transpose undoes it.
    expect(compare(await x.grad!.data(), await x.data()).difference).toBeLessThan(1e-6);
    rotary.to('bfloat16');
    for (const dtype of ['bfloat16', 'float64'] as Dtype[])
      expect(rotary.forward(randn([2, 3, 4], { dtype })).dtype).toBe(dtype);
    expect(Object.keys(rotary.stateDict())).toEqual([]);
    const ids = tensor([9, 4, 2], { dtype: 'int64' });
    let recorded = 0;
    using step = record((y: Tensor, positions: Tensor) => {
      recorded++;
      return [rotary.forward(y), rotary.forward(y, { positions })];
    });
    for (let i = 0; i < 3; i++) {
      const y = randn([1, 2, 3, 4]);
      const [a, b] = step(y, ids) as [Tensor, Tensor];
      expect(await a.data()).toEqual(await rotary.forward(y).data());
      expect(await b.data()).toEqual(await rotary.forward(y, { positions: ids }).data());
    }
    expect(recorded).toBe(1);
    rotary.dispose();
    expect(rotary.angles(2).cos.shape).toEqual([2, 2]);
  });

  test('errors', () => {
    const made = (scaling: unknown, dim = 8): string =>
      codeOf(() => new nn.RotaryEmbedding(dim, { scaling: scaling as nn.RopeScaling }));
    const dynamic = { ropeType: 'dynamic', factor: 2, originalMaxPositionEmbeddings: 64 };
    const yarn = { ...dynamic, ropeType: 'yarn' };
    const llama3 = { ...dynamic, ropeType: 'llama3', lowFreqFactor: 1, highFreqFactor: 4 };
    expect(made(dynamic)).toBe('none');
    expect(made(yarn)).toBe('none');
    expect(made(llama3)).toBe('none');
    const wrong: unknown[] = [
      null,
      {},
      { ropeType: 'longrope', factor: 2 },
      { ropeType: 'toString' },
      { ropeType: 'linear' },
      { ropeType: 'linear', factor: 0.5 },
      { ropeType: 'linear', factor: 2, betaFast: 3 },
      { ropeType: 'linear', factor: 2, typo: 3 },
      { ropeType: 'dynamic', factor: 2 },
      { ...yarn, betaFast: 1, betaSlow: 2 },
      { ...yarn, attentionFactor: -1 },
      { ...llama3, highFreqFactor: 1 },
      { ...llama3, lowFreqFactor: undefined },
    ];
    for (const scaling of wrong) expect(made(scaling), JSON.stringify(scaling)).toBe('FOVEA_ARGUMENT');
    expect(made(dynamic, 2)).toBe('FOVEA_ARGUMENT');
    expect(codeOf(() => new nn.RotaryEmbedding(7))).toBe('FOVEA_ARGUMENT');
    expect(codeOf(() => new nn.RotaryEmbedding(8, { base: 1 }))).toBe('FOVEA_ARGUMENT');
    const rotary = new nn.RotaryEmbedding(8);
    expect(codeOf(() => rotary.angles(-1))).toBe('FOVEA_ARGUMENT');
    expect(codeOf(() => rotary.angles(3, { dtype: 'bfloat16' as never }))).toBe('FOVEA_ARGUMENT');
    expect(codeOf(() => rotary.angles(9, { seqLen: 8 }))).toBe('FOVEA_ARGUMENT');
    expect(codeOf(() => rotary.angles(zeros([1, 1, 1])))).toBe('FOVEA_SHAPE');
    expect(codeOf(() => rotary.forward(zeros([3, 8])))).toBe('FOVEA_SHAPE');
    expect(codeOf(() => rotary.forward(zeros([1, 3, 4])))).toBe('FOVEA_SHAPE');
  });
});
