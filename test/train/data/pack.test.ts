// Packed sequences give what they give alone.
import { attention, type Mask, crossEntropy, manualSeed, mask, nn, randn, type Tensor, tensor, tidy } from 'fovea';
import {
  packedCausalLMCollator,
  type PackedSequences,
  packSequences,
  type PackOptions,
  RandomStream,
} from 'fovea/train';
import { describe, expect, test } from 'vitest';
import { codeOf, list } from '../../helpers.js';
import { range, rows } from './collect.ts';

function sequencesOf(count: number, longest: number, seed: number): number[][] {
  const random = new RandomStream(seed);
  return range(count).map(() => range(1 + random.below(longest)).map(() => 1 + random.below(20)));
}
const paddingOf = ({ documentIds }: PackedSequences): number =>
  list(documentIds).filter((id) => id < 0).length / documentIds.size;

describe('packSequences', () => {
  test('lays sequences one behind another', () => {
    const packed = packSequences([[1, 2, 3], Uint8Array.of(4, 5), [6, 7, 8, 9]], 10, { padId: 0, order: 'inOrder' });
    expect(rows(packed.inputIds)).toEqual([[1, 2, 3, 4, 5, 6, 7, 8, 9, 0]]);
    expect(rows(packed.documentIds)).toEqual([[0, 0, 0, 1, 1, 2, 2, 2, 2, -1]]);
    expect(rows(packed.positionIds)).toEqual([[0, 1, 2, 0, 1, 0, 1, 2, 3, 0]]);
    expect(rows(packed.labels)).toEqual([[-100, 2, 3, -100, 5, -100, 7, 8, 9, -100]]);
    expect(packed.cuSeqlens).toEqual([[0, 3, 5, 9, 10]]);
    expect(packed.pieces).toEqual([
      [
        { sequence: 0, start: 0, length: 3, column: 0 },
        { sequence: 1, start: 0, length: 2, column: 3 },
        { sequence: 2, start: 0, length: 4, column: 5 },
      ],
    ]);
    for (const x of [packed.inputIds, packed.labels, packed.positionIds, packed.documentIds])
      expect(x.dtype).toBe('int64');
  });

  test('in order a row ends where the next does not fit; best fit fills what is left', () => {
    const sequences = [[1, 1, 1, 1, 1, 1], [2, 2, 2, 2, 2], [3, 3, 3, 3], [4, 4, 4], [5]];
    const members = (order: 'inOrder' | 'bestFit'): number[][] =>
      packSequences(sequences, 10, { padId: 0, order }).pieces.map((row) => row.map(({ sequence }) => sequence));
    expect(members('inOrder')).toEqual([[0], [1, 2], [3, 4]]);
    expect(members('bestFit')).toEqual([
      [0, 2],
      [1, 3, 4],
    ]);
  });

  test.each(['inOrder', 'bestFit'] as const)('%s: every token is somewhere once, with its place', (order) => {
    const sequences = sequencesOf(300, 90, 3);
    const packed = packSequences(sequences, 64, { padId: 0, order, split: true, ignoreIndex: -7 });
    const [ids, labels, positions, documents] = [
      packed.inputIds,
      packed.labels,
      packed.positionIds,
      packed.documentIds,
    ].map(rows) as [number[][], number[][], number[][], number[][]];
    const seen = sequences.map((tokens) => tokens.map(() => 0));
    packed.pieces.forEach((row, r) => {
      row.forEach(({ sequence, start, length, column }, document) => {
        const tokens = sequences[sequence]!.slice(start, start + length);
        const written = [ids, labels, positions, documents].map((matrix) => matrix[r]!.slice(column, column + length));
        expect(written).toEqual([tokens, [-7, ...tokens.slice(1)], range(length), tokens.map(() => document)]);
        for (let i = start; i < start + length; i++) seen[sequence]![i]!++;
      });
      const used = row.reduce((sum, { length }) => sum + length, 0);
      expect(ids[r]!.slice(used)).toEqual(new Array(64 - used).fill(0));
      expect(labels[r]!.slice(used)).toEqual(new Array(64 - used).fill(-7));
      const offsets = packed.cuSeqlens[r]!;
      expect(offsets.at(-1)).toBe(64);
      expect(offsets.slice(0, row.length)).toEqual(row.map(({ column }) => column));
    });
    expect(seen.flat().every((times) => times === 1)).toBe(true);
  });

  test('best fit leaves next to nothing empty', () => {
    const sequences = sequencesOf(2000, 200, 5);
    expect(paddingOf(packSequences(sequences, 256, { padId: 0 }))).toBeLessThan(0.01);
    expect(paddingOf(packSequences(sequences, 256, { padId: 0, order: 'inOrder' }))).toBeGreaterThan(0.1);
  });

  test('a sequence longer than a row is an error, or cut', () => {
    expect(() => packSequences([[1], [1, 2, 3, 4, 5]], 4, { padId: 0 })).toThrow(
      'packSequences: expected at most 4 tokens, a row for sequences[1], received 5; pass split: true to cut it, or use longer rows',
    );
    const { labels, positionIds } = packSequences([[1, 2, 3, 4, 5]], 2, { padId: 0, split: true });
    expect(rows(labels)).toEqual([
      [-100, 2],
      [-100, 4],
      [-100, -100],
    ]);
    expect(rows(positionIds)).toEqual([
      [0, 1],
      [0, 1],
      [0, 0],
    ]);
  });

  test.each([
    ['x', 4, { padId: 0 }],
    [[], 4, { padId: 0 }],
    [[[]], 4, { padId: 0 }],
    [[[1, -1]], 4, { padId: 0 }],
    [[[1]], 0, { padId: 0 }],
    [[[1]], 4, undefined],
    [[[1]], 4, { padId: 0, order: 'worst' }],
    [[[1]], 4, { padId: 0, split: 1 }],
    [[[1]], 4, { padId: 0, ignoreIndex: 1 }],
    [[[1]], 4, { padId: 0, side: 'left' }],
  ])('refuses %j, %j, %j', (sequences, length, options) => {
    expect(codeOf(() => packSequences(sequences as number[][], length, options as PackOptions))).toBe('FOVEA_ARGUMENT');
  });
});

describe('packedCausalLMCollator', () => {
  test('lays the sequences of a batch into rows, with their labels and a mask', () => {
    const collate = packedCausalLMCollator({ padId: 0, length: 6, order: 'inOrder' });
    const batch = collate([
      [1, 2, 3],
      { inputIds: [4, 5], labels: [4, -100] },
      { inputIds: [6, 7, 8], labels: [-100, 7, 9] },
    ]);
    expect(rows(batch.inputIds)).toEqual([
      [1, 2, 3, 4, 5, 0],
      [6, 7, 8, 0, 0, 0],
    ]);
    expect(rows(batch.labels)).toEqual([
      [-100, 2, 3, -100, -100, -100],
      [-100, 7, 9, -100, -100, -100],
    ]);
    expect(rows(batch.positionIds)).toEqual([
      [0, 1, 2, 0, 1, 0],
      [0, 1, 2, 0, 0, 0],
    ]);
    expect(batch.mask.toJSON()).toEqual({
      type: 'documents',
      ids: [
        [0, 0, 0, 1, 1, -1],
        [0, 0, 0, -1, -1, -1],
      ],
    });
  });

  test('cuts what is longer than a row, if told to', () => {
    const items = [{ inputIds: [1, 2, 3, 4, 5], labels: [1, -100, 3, 4, 6] }];
    expect(() => packedCausalLMCollator({ padId: 0, length: 3 })(items)).toThrow(/at most 3 tokens, a row/);
    expect(
      rows(packedCausalLMCollator({ padId: 0, length: 3, split: true, ignoreIndex: -7 })([[1, 2, 3, 4]]).labels),
    ).toEqual([
      [-7, 2, 3],
      [-7, -7, -7],
    ]);
    expect(rows(packedCausalLMCollator({ padId: 0, length: 3, split: true })(items).labels)).toEqual([
      [-100, -100, 3],
      [-100, 6, -100],
    ]);
  });

  test.each([undefined, { padId: 0 }, { length: 4 }, { padId: 0, length: 0 }, { padId: 0, length: 4, side: 'left' }])(
    'refuses %j',
    (options) =>
      expect(codeOf(() => packedCausalLMCollator(options as PackOptions & { length: number }))).toBe('FOVEA_ARGUMENT'),
  );

  test('refuses items that are no tokens', () => {
    const collate = packedCausalLMCollator({ padId: 0, length: 4 });
    for (const items of [[], [[]], [[1.5]], [null]])
      expect(codeOf(() => collate(items as number[][]))).toBe('FOVEA_ARGUMENT');
    expect(codeOf(() => collate([{ inputIds: [1, 2], labels: [1] }]))).toBe('FOVEA_SHAPE');
  });
});

/** Two blocks of attention with learned positions, in float64: what a sequence gives shows to 1e-12. */
class SmallModel extends nn.Module {
  tokens: Tensor = randn([21, 16], { dtype: 'float64', requiresGrad: true });
  positions: Tensor = randn([64, 16], { dtype: 'float64', requiresGrad: true });
  mixing: Tensor[] = range(8).map(() => randn([16, 16], { dtype: 'float64', requiresGrad: true }).mul(0.3).detach());

  override forward(inputIds: Tensor, positionIds: Tensor, seen: Mask): Tensor {
    const [b, n] = inputIds.shape as [number, number];
    const heads = (x: Tensor): Tensor => x.reshape([b, n, 2, 8]).transpose(1, 2);
    let h = this.tokens.indexSelect(0, inputIds.reshape([-1])).reshape([b, n, 16]);
    h = h.add(this.positions.indexSelect(0, positionIds.reshape([-1])).reshape([b, n, 16]));
    for (const layer of [0, 1]) {
      const [q, k, v, o] = this.mixing.slice(4 * layer, 4 * layer + 4) as [Tensor, Tensor, Tensor, Tensor];
      const mixed = attention(heads(h.matmul(q)), heads(h.matmul(k)), heads(h.matmul(v)), { mask: seen });
      h = h.add(mixed.transpose(1, 2).reshape([b, n, 16]).matmul(o).tanh());
    }
    return h.matmul(this.tokens.transpose(0, 1));
  }
}

/** Loss of every position that is predicted: logits at t - 1 against the label of t, [b, n - 1]. */
function lossesOf(logits: Tensor, labels: Tensor): Tensor {
  const [b, n, classes] = logits.shape as [number, number, number];
  const predicted = logits.narrow(1, 0, n - 1).reshape([-1, classes]);
  return crossEntropy(predicted, labels.narrow(1, 1, n - 1).reshape([-1]), { reduction: 'none' }).reshape([b, n - 1]);
}

describe('per-document losses with packing equal those of documents alone', () => {
  const sequences = sequencesOf(24, 30, 7).map((tokens) => (tokens.length > 1 ? tokens : [...tokens, 5]));
  manualSeed(3);
  const model = new SmallModel();
  const alone = sequences.map((tokens) =>
    tidy(() => {
      const ids = tensor([tokens], { dtype: 'int64' });
      const positions = tensor([range(tokens.length)], { dtype: 'int64' });
      return list(lossesOf(model.forward(ids, positions, mask.causal()), ids));
    }),
  );

  test.each(['inOrder', 'bestFit'] as const)('%s, under mask.documents', (order) => {
    const packed = packSequences(sequences, 40, { padId: 0, order });
    const seen = mask.causal().and(mask.documents(packed.documentIds));
    const losses = rows(lossesOf(model.forward(packed.inputIds, packed.positionIds, seen), packed.labels));
    packed.pieces.forEach((row, r) => {
      for (const { sequence, length, column } of row) {
        const own = losses[r]!.slice(column, column + length - 1);
        own.forEach((loss, i) => expect(Math.abs(loss - alone[sequence]![i]!)).toBeLessThan(1e-12));
        // What stands between two sequences counts nothing.
        if (column > 0) expect(losses[r]![column - 1]).toBe(0);
      }
    });
    // Without the mask, they are others.
    const open = rows(lossesOf(model.forward(packed.inputIds, packed.positionIds, mask.causal()), packed.labels));
    const { sequence, column, length } = packed.pieces.flat().find((piece) => piece.column > 0 && piece.length > 1)!;
    const row = packed.pieces.findIndex((pieces) => pieces.some((piece) => piece.sequence === sequence));
    expect(Math.abs(open[row]![column + length - 2]! - alone[sequence]!.at(-1)!)).toBeGreaterThan(1e-6);
  });

  test('one row, under mask.cuSeqlens', () => {
    const total = sequences.reduce((sum, { length }) => sum + length, 0) + 3;
    const packed = packSequences(sequences, total, { padId: 0, order: 'inOrder' });
    const seen = mask.causal().and(mask.cuSeqlens(packed.cuSeqlens[0]!));
    const [losses] = rows(lossesOf(model.forward(packed.inputIds, packed.positionIds, seen), packed.labels));
    for (const { sequence, length, column } of packed.pieces[0]!)
      losses!
        .slice(column, column + length - 1)
        .forEach((loss, i) => expect(Math.abs(loss - alone[sequence]![i]!)).toBeLessThan(1e-12));
  });

  test('the mean over a packed batch is the mean over all tokens', async () => {
    const packed = packSequences(sequences, 64, { padId: 0 });
    const seen = mask.causal().and(mask.documents(packed.documentIds));
    const logits = model.forward(packed.inputIds, packed.positionIds, seen);
    const mean = await crossEntropy(
      logits.narrow(1, 0, 63).reshape([-1, 21]),
      packed.labels.narrow(1, 1, 63).reshape([-1]),
    ).item();
    const expected = alone.flat();
    expect(Math.abs(mean - expected.reduce((a, b) => a + b) / expected.length)).toBeLessThan(1e-12);
  });
});
