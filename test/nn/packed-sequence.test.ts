// Packed and padded sequences, as PyTorch lays them.
import { grad, nn, randn, type Tensor, tensor, zeros } from 'fovea';
import { describe, expect, it } from 'vitest';
import { codeOf, device, list } from '../helpers.js';

const {
  packPaddedSequence,
  packSequence,
  PackedSequence,
  padPackedSequence,
  padSequence,
  unpackSequence,
  unpadSequence,
} = nn.utils.rnn;
/** Numbers 10 b + t at step t of sequence b. */
const sequences = (lengths: number[]): Tensor[] =>
  lengths.map((length, b) =>
    tensor(
      Array.from({ length }, (_, t) => [10 * b + t]),
      { dtype: 'float64', shape: [length, 1], device },
    ),
  );

describe('packing', () => {
  const padded = padSequence(sequences([2, 4, 1]), { paddingValue: -1 });
  it('lays steps one after the other, the longest sequence first', () => {
    expect(padded.shape).toEqual([4, 3, 1]);
    expect(list(padded)).toEqual([0, 10, 20, 1, 11, -1, -1, 12, -1, -1, 13, -1]);
    for (const packed of [
      packPaddedSequence(padded, [2, 4, 1], { enforceSorted: false }),
      packPaddedSequence(padded.transpose(0, 1), tensor([2, 4, 1], { dtype: 'int64' }), {
        batchFirst: true,
        enforceSorted: false,
      }),
      packSequence(sequences([2, 4, 1]), { enforceSorted: false }),
    ]) {
      expect(list(packed.data)).toEqual([10, 0, 20, 11, 1, 12, 13]);
      expect(packed.batchSizes).toEqual([3, 2, 1, 1]);
      expect(packed.sortedIndices).toEqual([1, 0, 2]);
      expect(packed.unsortedIndices).toEqual([1, 0, 2]);
      expect(packed.lengths).toEqual([2, 4, 1]);
    }
  });
  it('leaves sorted sequences where they are', () => {
    const packed = packSequence(sequences([3, 2, 2]));
    expect(packed.sortedIndices).toBeUndefined();
    expect(packed.lengths).toEqual([3, 2, 2]);
    expect(list(packed.data)).toEqual([0, 10, 20, 1, 11, 21, 2]);
  });
  it('is undone by unpacking', () => {
    const lengths = [3, 5, 1, 5];
    const parts = lengths.map((length) => randn([length, 2, 3], { device }));
    const packed = packSequence(parts, { enforceSorted: false });
    unpackSequence(packed).forEach((part, b) => expect(list(part)).toEqual(list(parts[b]!)));
    const [first, found] = padPackedSequence(packed, { batchFirst: true, paddingValue: 7, totalLength: 6 });
    expect(found).toEqual(lengths);
    expect(first.shape).toEqual([4, 6, 2, 3]);
    expect(list(first.select(0, 2).narrow(0, 1, 5))).toEqual(new Array(30).fill(7));
    unpadSequence(first, lengths, { batchFirst: true }).forEach((part, b) =>
      expect(list(part)).toEqual(list(parts[b]!)),
    );
    const [second] = padPackedSequence(packed);
    expect(list(second)).toEqual(list(padSequence(parts)));
  });
  it('pads on the left', () => {
    const left = padSequence(sequences([1, 3]), { batchFirst: true, paddingSide: 'left' });
    expect(list(left)).toEqual([0, 0, 0, 10, 11, 12]);
  });
  it('hands gradients to what was there alone', () => {
    const x = randn([3, 2, 2], { dtype: 'float64', device, requiresGrad: true });
    const packed = packPaddedSequence(x, [1, 3], { enforceSorted: false });
    const [y] = padPackedSequence(packed, { paddingValue: 5 });
    const weights = randn([3, 2, 2], { dtype: 'float64', device });
    const [dx] = grad(y.mul(weights).sum(), [x]);
    const expected = list(weights).map((w, i) => (i % 4 < 2 && i >= 4 ? 0 : w));
    expect(list(dx!)).toEqual(expected);
  });
});

describe('errors', () => {
  const x = zeros([4, 2, 3]);
  it.each<[string, () => unknown, string, RegExp]>([
    [
      'unsorted lengths',
      () => packPaddedSequence(x, [2, 4]),
      'FOVEA_ARGUMENT',
      /packPaddedSequence: .*longest.*\[2,4\].*enforceSorted: false/,
    ],
    [
      'unsorted sequences',
      () => packSequence(sequences([1, 2])),
      'FOVEA_ARGUMENT',
      /packSequence: .*enforceSorted: false/,
    ],
    ['a length of 0', () => packPaddedSequence(x, [4, 0]), 'FOVEA_ARGUMENT', /at least 1 for lengths\[1\], received 0/],
    [
      'a sequence of no rows',
      () => packSequence([zeros([2, 3]), zeros([0, 3])]),
      'FOVEA_ARGUMENT',
      /packSequence: .*lengths\[1\]/,
    ],
    [
      'a length beyond the input',
      () => packPaddedSequence(x, [5, 1]),
      'FOVEA_ARGUMENT',
      /at most 4 for lengths, received 5/,
    ],
    ['too many lengths', () => packPaddedSequence(x, [3, 2, 1]), 'FOVEA_ARGUMENT', /2 lengths.*\[3,2,1\]/],
    ['lengths in a matrix', () => packPaddedSequence(x, zeros([2, 2])), 'FOVEA_ARGUMENT', /lengths/],
    ['one axis', () => packPaddedSequence(zeros([4]), [4]), 'FOVEA_SHAPE', /packPaddedSequence: .*\[4\]/],
    [
      'rows of other shapes',
      () => padSequence([zeros([2, 3]), zeros([2, 4])]),
      'FOVEA_SHAPE',
      /sequences\[1\] \[2,4\]/,
    ],
    ['no sequences', () => padSequence([]), 'FOVEA_ARGUMENT', /padSequence: .*at least one/],
    [
      'a side that is none',
      () => padSequence([x], { paddingSide: 'top' as never }),
      'FOVEA_ARGUMENT',
      /'right' or 'left'/,
    ],
    ['what is not packed', () => padPackedSequence(x as never), 'FOVEA_ARGUMENT', /a PackedSequence.*Tensor/],
    [
      'too short a total',
      () => padPackedSequence(packPaddedSequence(x, [4, 1]), { totalLength: 3 }),
      'FOVEA_ARGUMENT',
      /at least 4.*totalLength/,
    ],
    ['sizes that grow', () => new PackedSequence(zeros([3, 1]), [1, 2]), 'FOVEA_ARGUMENT', /never grow.*\[1,2\]/],
    ['sizes of other rows', () => new PackedSequence(zeros([4, 1]), [2, 1]), 'FOVEA_SHAPE', /3 rows.*\[4,1\]/],
    [
      'an order that repeats',
      () => new PackedSequence(zeros([3, 1]), [2, 1], [0, 0]),
      'FOVEA_ARGUMENT',
      /permutation of 2/,
    ],
    ['lengths of another count', () => unpadSequence(x, [1]), 'FOVEA_ARGUMENT', /unpadSequence: .*2 lengths/],
    [
      'a misspelt option',
      () => packPaddedSequence(x, [4, 1], { batchfirst: true } as never),
      'FOVEA_ARGUMENT',
      /batchfirst/,
    ],
  ])('%s', (_, run, code, message) => {
    expect(codeOf(run)).toBe(code);
    expect(run).toThrow(message);
  });
});
