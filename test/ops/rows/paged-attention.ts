// Attention over keys and values in pages.
import { type Dtype, functional as F, type Tensor, tensor, zeros } from 'fovea';
import { device } from '../../helpers.js';
import { tensorErrors } from '../errors.js';
import { Nd } from '../nd.js';
import { type Args, close, type ErrorCase, type Row } from '../row.js';
import { FLOATS, type Layout, type Sample } from '../samples.js';

interface PagedArgs extends Args {
  scale?: number;
  softcap?: number;
}

/** By the definition, position after position. */
function attend([q, k, v, table, lengths]: Nd[], { scale, softcap }: PagedArgs): Nd {
  const [b, h, n, d] = q!.shape as [number, number, number, number];
  const [, g, s, e] = v!.shape as [number, number, number, number];
  const out = new Nd([b, h, n, e], new Float64Array(b * h * n * e));
  for (let row = 0; row < b * h * n; row++) {
    const [bi, hi, i] = [Math.floor(row / (h * n)), Math.floor(row / n) % h, row % n];
    const gi = Math.floor(hi / (h / g));
    const place = (j: number): number[] => [table!.at([bi, Math.floor(j / s)]), gi, j % s];
    const seen = Array.from({ length: Math.max(0, lengths!.at([bi]) - n + i + 1) }, (_, j) => place(j));
    const scores = seen.map((at) => {
      let score = 0;
      for (let c = 0; c < d; c++) score += q!.at([bi, hi, i, c]) * k!.at([...at, c]);
      score *= scale ?? 1 / Math.sqrt(d || 1);
      return softcap ? softcap * Math.tanh(score / softcap) : score;
    });
    const top = Math.max(...scores);
    const weights = scores.map((score) => Math.exp(score - top));
    const total = weights.reduce((sum, w) => sum + w, 0);
    for (let c = 0; c < e; c++)
      out.data[row * e + c] = seen.reduce((sum, at, j) => sum + (weights[j]! / total) * v!.at([...at, c]), 0);
  }
  return out;
}

type Sizes = [h: number, g: number, n: number, d: number, e: number];
interface More {
  args?: PagedArgs;
  /** How many pages there are; sequences share them where they need more. */
  pages?: number;
  layout?: Layout;
  integers?: Dtype;
  gradcheck?: boolean;
}
/** Entries that no length reaches hold 99, which is no page. */
function sample(label: string, sizes: Sizes, size: number, lengths: number[], more: More = {}): Sample {
  const { args = {}, layout = 'dense', integers = 'int64', gradcheck = false } = more;
  const [h, g, n, d, e] = sizes;
  const used = lengths.map((length) => Math.ceil(length / size));
  const t = Math.max(0, ...used) + 1;
  const pages = more.pages ?? used.reduce((sum, count) => sum + count, 1);
  const first = used.map((_, b) => used.slice(0, b).reduce((sum, count) => sum + count, 0));
  const entry = (i: number): number => {
    const [b, at] = [Math.floor(i / t), i % t];
    return at < used[b]! ? pages - 1 - ((first[b]! + at) % pages) : 99;
  };
  return {
    label: `${label}, ${sizes} in pages of ${size}, lengths ${lengths}`,
    inputs: [
      { shape: [lengths.length, h, n, d], layout },
      { shape: [pages, g, size, d], layout },
      { shape: [pages, g, size, e], layout },
      { shape: [lengths.length, t], dtype: integers, values: entry },
      { shape: [lengths.length], dtype: integers, values: (b) => lengths[b]! },
    ],
    args,
    gradcheck,
  };
}

const samples: Sample[] = [
  sample('one query', [2, 1, 1, 3, 2], 2, [3, 4], { gradcheck: true }),
  sample('shared pages', [2, 2, 2, 2, 3], 3, [7, 5, 6], { pages: 3, gradcheck: true }),
  sample('soft cap', [2, 1, 2, 3, 2], 1, [3, 2], { args: { softcap: 0.8, scale: 1 }, gradcheck: true }),
  sample('fewer keys than queries', [1, 1, 3, 2, 2], 2, [0, 1, 2, 5], { gradcheck: true }),
  sample('pages of one', [2, 2, 1, 16, 16], 1, [40, 7]),
  sample('pages of 16', [8, 2, 1, 64, 64], 16, [700, 16, 17, 1]),
  sample('pages of 17', [4, 4, 4, 32, 48], 17, [200, 33, 130]),
  sample('pages of 64, many queries', [4, 2, 37, 32, 32], 64, [300, 40, 20]),
  sample('many queries of many heads', [24, 1, 5, 16, 16], 16, [40, 90]),
  sample('widths of primes', [3, 1, 2, 17, 29], 5, [11, 531]),
  sample('wide heads', [1, 1, 1, 256, 160], 16, [33]),
  sample('one of all', [1, 1, 1, 1, 1], 1, [1]),
  sample('no sequence', [2, 1, 1, 4, 4], 4, []),
  sample('no keys', [2, 1, 1, 4, 4], 4, [0, 0]),
  sample('no pages', [2, 1, 2, 4, 4], 4, [0], { pages: 0 }),
  sample('no queries', [2, 1, 0, 4, 4], 4, [5]),
  sample('no heads', [0, 0, 1, 4, 4], 4, [5]),
  sample('no width', [2, 1, 1, 0, 3], 4, [5, 9]),
  sample('int32', [2, 1, 1, 8, 8], 4, [9, 30], { integers: 'int32' }),
  sample('uint8', [2, 1, 1, 8, 8], 4, [9, 30], { integers: 'uint8' }),
  sample('offset', [2, 2, 2, 16, 16], 4, [9, 30], { layout: 'offset' }),
  sample('transposed', [2, 2, 2, 16, 16], 4, [9, 30], { layout: 'transposed' }),
  sample('misaligned', [2, 2, 2, 16, 16], 16, [9, 30], { layout: 'misaligned' }),
  sample('expanded', [2, 2, 2, 16, 16], 4, [9, 30], { layout: 'expanded' }),
];

const integers = (values: number[], shape: number[], dtype: Dtype = 'int64'): Tensor =>
  tensor(values, { shape, dtype });
/** Two sequences of two queries with three pages each of the four that there are, of four positions. */
const given = (): [Tensor, Tensor, Tensor, { pageTable: Tensor; lengths: Tensor }] => [
  zeros([2, 4, 2, 8]),
  zeros([4, 2, 4, 8]),
  zeros([4, 2, 4, 6]),
  { pageTable: integers([0, 1, 2, 3, 2, 99], [2, 3]), lengths: integers([12, 8], [2]) },
];
const refused = (
  label: string,
  code: string,
  mentions: RegExp,
  change: (x: ReturnType<typeof given>) => void,
): ErrorCase => ({
  label,
  code,
  mentions,
  run: () => {
    const x = given();
    change(x);
    return F.pagedAttention(...x).dataSync();
  },
});
const reading = (label: string, mentions: RegExp, pageTable: number[], lengths: number[]): ErrorCase =>
  refused(label, 'FOVEA_INDEX', mentions, (x) => {
    x[3] = { pageTable: integers(pageTable, [2, 3]), lengths: integers(lengths, [2]) };
  });
const shapes = (label: string, at: 0 | 1 | 2, shape: number[], mentions: RegExp): ErrorCase =>
  refused(label, 'FOVEA_SHAPE', mentions, (x) => void (x[at] = zeros(shape)));
const odd = (label: string, option: object, mentions: RegExp): ErrorCase =>
  refused(label, 'FOVEA_ARGUMENT', mentions, (x) => void Object.assign(x[3], option));

export const pagedAttention: Row = {
  name: 'pagedAttention',
  dtypes: FLOATS,
  samples,
  run: ([q, k, v, pageTable, lengths], args) =>
    F.pagedAttention(q!, k!, v!, { ...args, pageTable: pageTable!, lengths: lengths! }),
  reference: (inputs, args) => attend(inputs, args),
  // tensor cores, which run what it is composed of on a GPU, round probabilities
  tolerance: close(192, device === 'cpu' ? {} : { roundings: 2 }),
  differentiable: [0, 1, 2],
  errors: [
    ...tensorErrors('pagedAttention', F.pagedAttention, ...given().slice(1)),
    reading(
      'a page that is not there',
      /pagedAttention: pageTable\[1\]\[1\] is 4, but there are 4 pages/,
      [0, 1, 2, 3, 4, 0],
      [12, 8],
    ),
    reading('a negative page', /pageTable\[0\]\[2\] is -1.*12 positions of lengths\[0\]/, [0, 1, -1, 3, 2, 0], [12, 8]),
    reading(
      'a length that the table does not reach',
      /lengths\[1\] is 13.*3 pages of 4.*0 to 12/,
      [0, 1, 2, 3, 2, 1],
      [12, 13],
    ),
    reading('a negative length', /lengths\[0\] is -1/, [0, 1, 2, 3, 2, 1], [-1, 8]),
    shapes('q of three axes', 0, [4, 2, 8], /q \[b,h,n,d\].*received q \[4,2,8\]/),
    shapes('q of another width', 0, [2, 4, 2, 7], /q \[2,4,2,7\], kPages \[4,2,4,8\]/),
    shapes('another number of value pages', 2, [5, 2, 4, 6], /vPages \[5,2,4,6\]/),
    shapes('pages of values of another size', 2, [4, 2, 5, 6], /vPages \[4,2,5,6\]/),
    shapes('heads that do not divide', 0, [2, 3, 2, 8], /h=3.*multiple.*g=2/),
    refused(
      'lengths of other sequences',
      'FOVEA_SHAPE',
      /lengths \[3\]/,
      (x) => void (x[3].lengths = integers([1, 1, 1], [3])),
    ),
    refused(
      'pages of another dtype',
      'FOVEA_DTYPE',
      /q is float32 but kPages is bfloat16.*\.to/,
      (x) => void (x[1] = x[1].to('bfloat16')),
    ),
    refused('integers', 'FOVEA_DTYPE', /expected floats for q, received int64/, (x) => void (x[0] = x[0].to('int64'))),
    refused(
      'a table of floats',
      'FOVEA_DTYPE',
      /expected integers for pageTable, received float32.*int64/,
      (x) => void (x[3].pageTable = zeros([2, 3])),
    ),
    odd('no table', { pageTable: undefined }, /pageTable/),
    odd('lengths in an array', { lengths: [12, 8] }, /lengths/),
    odd('a soft cap of 0', { softcap: 0 }, /pagedAttention: .*above 0.*softcap/),
    odd('a scale that is no number', { scale: '1' }, /scale/),
    odd('an option of attention', { causal: 'topLeft' }, /pageTable, lengths, scale, softcap, returnLse/),
  ],
};
