// Losses of embeddings, and of sequences of labels.
import { functional as F, type Tensor, tensor, zeros } from 'fovea';
import { tensorErrors } from '../errors.js';
import { count, Nd } from '../nd.js';
import { type Args, close, type Row } from '../row.js';
import { FLOATS, type InputSpec, type Layout, type Sample } from '../samples.js';
import { optionErrors, reduceTo, refuses } from './losses.js';

const INT64 = { dtype: 'int64' } as const;
const reductions = ['mean', 'sum', 'none'] as const;

/** The vectors along the last axis. */
function vectors(x: Nd): Float64Array[] {
  const d = x.shape.at(-1)!;
  return Array.from({ length: count(x.shape.slice(0, -1)) }, (_, i) => x.data.slice(i * d, (i + 1) * d));
}
const dot = (a: Float64Array, b: Float64Array): number => a.reduce((s, v, i) => s + v * b[i]!, 0);

const vectorShapes: [number[], Layout?][] = [
  [[3, 4]],
  [[5]],
  [[1, 1]],
  [[2, 17]],
  [[7, 131]],
  [[4, 6], 'transposed'],
  [[5, 9], 'offset'],
  [[3, 8], 'step'],
  [[4, 5], 'expanded'],
  [[3, 31], 'misaligned'],
  [[0, 4]],
];

const cosineEmbeddingLoss: Row = {
  name: 'cosineEmbeddingLoss',
  dtypes: FLOATS,
  samples: vectorShapes.flatMap(([shape, layout], i) =>
    reductions.map((reduction, r) => ({
      label: `[${shape}] ${layout ?? ''} ${reduction}`,
      inputs: [
        { shape, ...(layout ? { layout } : {}) },
        { shape },
        { shape: shape.slice(0, -1), ...INT64, values: (at: number) => (at % 3) - 1 },
      ],
      args: { reduction, margin: r === 0 ? 0 : -0.4 },
      gradcheck: i < 2,
    })),
  ),
  run: ([a, b, t], args) => F.cosineEmbeddingLoss(a!, b!, t!, args),
  reference: ([a, b, t], { reduction, margin = 0 }) => {
    const others = vectors(b!);
    const loss = vectors(a!).map((x, i) => {
      const y = others[i]!;
      const cosine = dot(x, y) / Math.sqrt((dot(x, x) + 1e-12) * (dot(y, y) + 1e-12));
      const sign = t!.data[i]!;
      return sign === 1 ? 1 - cosine : sign === -1 ? Math.max(0, cosine - (margin as number)) : 0;
    });
    return reduceTo(new Nd(t!.shape, loss), reduction);
  },
  tolerance: close(64, { floor: 16 }),
  differentiable: [0, 1],
  errors: [
    ...tensorErrors('cosineEmbeddingLoss', F.cosineEmbeddingLoss, zeros([2, 3]), zeros([2])),
    ...optionErrors('cosineEmbeddingLoss', (o) => F.cosineEmbeddingLoss(zeros([3]), zeros([3]), zeros([]), o)),
    refuses(
      'inputs of two shapes',
      () => F.cosineEmbeddingLoss(zeros([2, 3]), zeros([2, 4]), zeros([2])),
      /input1 \[2,3\].*input2 \[2,4\]/,
      'FOVEA_SHAPE',
    ),
    refuses(
      'a target of another length',
      () => F.cosineEmbeddingLoss(zeros([2, 3]), zeros([2, 3]), zeros([3])),
      /cosineEmbeddingLoss.*\[2,3\].*\[3\]/,
      'FOVEA_SHAPE',
    ),
    refuses(
      'a margin beyond 1',
      () => F.cosineEmbeddingLoss(zeros([3]), zeros([3]), zeros([]), { margin: 2 }),
      /cosineEmbeddingLoss.*margin/,
    ),
  ],
};

const tripletArgs: Args[] = [{}, { p: 1, margin: 4 }, { swap: true, margin: 2, p: 3 }];
const tripletMarginLoss: Row = {
  name: 'tripletMarginLoss',
  dtypes: FLOATS,
  samples: [...vectorShapes, [[2, 3, 4]] as [number[], Layout?]].flatMap(([shape, layout], i) =>
    reductions.map((reduction, r) => ({
      label: `[${shape}] ${layout ?? ''} ${reduction} ${JSON.stringify(tripletArgs[r])}`,
      inputs: [{ shape, ...(layout ? { layout } : {}) }, { shape }, { shape }],
      args: { reduction, ...tripletArgs[r] },
      gradcheck: i < 2 || shape.length === 3,
    })),
  ),
  run: ([a, p, n], args) => F.tripletMarginLoss(a!, p!, n!, args),
  reference: ([anchor, positive, negative], { reduction, margin = 1, p = 2, swap = false }) => {
    const [a, near, far] = [anchor!, positive!, negative!].map(vectors) as Float64Array[][];
    const order = p as number;
    const distance = (x: Float64Array, y: Float64Array): number =>
      x.reduce((s, v, i) => s + Math.abs(v - y[i]! + 1e-6) ** order, 0) ** (1 / order);
    const loss = a!.map((x, i) => {
      const [y, z] = [near![i]!, far![i]!];
      const away = swap ? Math.min(distance(x, z), distance(y, z)) : distance(x, z);
      return Math.max(0, distance(x, y) - away + (margin as number));
    });
    return reduceTo(new Nd(anchor!.shape.slice(0, -1), loss), reduction);
  },
  tolerance: close(64, { floor: 64 }),
  differentiable: [0, 1, 2],
  errors: [
    ...tensorErrors('tripletMarginLoss', F.tripletMarginLoss, zeros([2, 3]), zeros([2, 3])),
    ...optionErrors('tripletMarginLoss', (o) => F.tripletMarginLoss(zeros([3]), zeros([3]), zeros([3]), o)),
    refuses(
      'shapes that differ',
      () => F.tripletMarginLoss(zeros([2, 3]), zeros([2, 3]), zeros([3])),
      /anchor \[2,3\].*negative \[3\]/,
      'FOVEA_SHAPE',
    ),
    refuses(
      '0-d tensors',
      () => F.tripletMarginLoss(zeros([]), zeros([]), zeros([])),
      /tripletMarginLoss.*0-d/,
      'FOVEA_SHAPE',
    ),
    ...(['margin', 'p'] as const).map((option) =>
      refuses(
        `${option} 0`,
        () => F.tripletMarginLoss(zeros([3]), zeros([3]), zeros([3]), { [option]: 0 }),
        new RegExp(`tripletMarginLoss.*${option}`),
      ),
    ),
  ],
};

/**
 * The probability of a label sequence, from probabilities (Graves 2006 in another form): after each time, of having
 * said the first u labels and ending in a blank, or in label u. Without logarithms, so for short inputs alone.
 */
function labelProbability(
  at: (t: number, c: number) => number,
  times: number,
  labels: number[],
  blank: number,
): number {
  let inBlank = [1, ...labels.map(() => 0)];
  let inLabel = [0, ...labels.map(() => 0)];
  for (let t = 0; t < times; t++) {
    const nextBlank = inBlank.map((p, u) => (p + inLabel[u]!) * at(t, blank));
    const nextLabel = inLabel.map((p, u) => {
      if (u === 0) return 0;
      const label = labels[u - 1]!;
      const fromOther = label === labels[u - 2] ? 0 : inLabel[u - 1]!;
      return at(t, label) * (p + inBlank[u - 1]! + fromOther);
    });
    [inBlank, inLabel] = [nextBlank, nextLabel];
  }
  return inBlank.at(-1)! + inLabel.at(-1)!;
}

interface CtcArgs {
  inputLengths: number[];
  targetLengths: number[];
  /** Whether lengths go in as tensors. */
  tensors?: boolean;
  reduction?: 'mean' | 'sum' | 'none';
  blank?: number;
  zeroInfinity?: boolean;
}
const ctcSample = (
  [t, n, c, s]: readonly [number, number, number, number],
  args: CtcArgs,
  more: { layout?: Layout; gradcheck?: boolean; joined?: boolean; target?: InputSpec['values'] } = {},
): Sample => {
  const { layout = 'dense', gradcheck = false, joined = false } = more;
  const { blank = 0 } = args;
  const labels = Array.from({ length: c }, (_, i) => i).filter((label) => label !== blank);
  const target = more.target ?? ((i: number): number => labels[(i * i + (i >> 1)) % labels.length]!);
  return {
    label: `[${t},${n},${c}] ${layout} ${joined ? 'joined' : ''} ${JSON.stringify(args)}`,
    inputs: [
      { shape: [t, n, c], layout },
      { shape: joined ? [s] : [n, s], ...INT64, values: target },
    ],
    args: { ...args },
    gradcheck,
  };
};
const small = [4, 2, 3, 2] as const;
const ctcLoss: Row = {
  name: 'ctcLoss',
  dtypes: FLOATS,
  samples: [
    ctcSample(small, { inputLengths: [4, 3], targetLengths: [2, 1] }, { gradcheck: true }),
    ctcSample(
      small,
      { inputLengths: [4, 4], targetLengths: [2, 2], reduction: 'sum' },
      { gradcheck: true, target: () => 1 },
    ),
    ctcSample(small, { inputLengths: [3, 4], targetLengths: [0, 2], reduction: 'none', blank: 2 }, { gradcheck: true }),
    ctcSample([5, 2, 3, 3], { inputLengths: [5, 4], targetLengths: [1, 2], tensors: true }, { gradcheck: true }),
    ctcSample([5, 3, 4, 4], { inputLengths: [5, 2, 4], targetLengths: [2, 0, 2] }, { joined: true, gradcheck: true }),
    ctcSample([3, 2, 3, 3], { inputLengths: [3, 1], targetLengths: [2, 3], zeroInfinity: true }, { gradcheck: true }),
    ctcSample([4, 1, 3, 0], { inputLengths: [4], targetLengths: [0], reduction: 'none' }),
    ctcSample([1, 2, 2, 1], { inputLengths: [1, 0], targetLengths: [1, 0], reduction: 'none' }),
    ctcSample([4, 2, 3, 2], { inputLengths: [4, 1], targetLengths: [2, 2], reduction: 'none' }),
    ctcSample([17, 5, 9, 6], { inputLengths: [17, 16, 15, 9, 13], targetLengths: [6, 5, 4, 3, 0] }),
    ctcSample([31, 4, 7, 5], { inputLengths: [31, 30, 12, 31], targetLengths: [5, 5, 2, 1] }, { layout: 'transposed' }),
    ctcSample([20, 3, 5, 4], { inputLengths: [20, 20, 20], targetLengths: [4, 4, 4] }, { layout: 'offset' }),
    ctcSample(
      [20, 3, 5, 4],
      { inputLengths: [20, 3, 9], targetLengths: [3, 2, 4], reduction: 'sum' },
      { layout: 'step' },
    ),
    ctcSample([9, 2, 40, 3], { inputLengths: [9, 9], targetLengths: [3, 3], blank: 39 }, { layout: 'misaligned' }),
    ctcSample([6, 0, 3, 2], { inputLengths: [], targetLengths: [], reduction: 'sum' }),
    ctcSample([6, 0, 3, 2], { inputLengths: [], targetLengths: [] }),
  ],
  run: ([x, target], args) => {
    const { inputLengths, targetLengths, tensors = false, ...options } = args as unknown as CtcArgs;
    const lengths = (list: number[]): Tensor | number[] =>
      tensors ? tensor(list, { dtype: 'int32', device: x!.device }) : list;
    return F.ctcLoss(x!, target!, lengths(inputLengths), lengths(targetLengths), options);
  },
  reference: ([x, target], args) => {
    const { inputLengths, targetLengths, reduction = 'mean', blank = 0, zeroInfinity } = args as unknown as CtcArgs;
    let start = 0;
    const losses = inputLengths.map((times, n) => {
      const u = targetLengths[n]!;
      const from = target!.shape.length === 1 ? start : n * target!.shape[1]!;
      start += u;
      const labels = Array.from(target!.data.slice(from, from + u));
      const loss = -Math.log(labelProbability((t, c) => Math.exp(x!.at([t, n, c])), times, labels, blank));
      return zeroInfinity && loss === Infinity ? 0 : loss;
    });
    const divided = reduction === 'mean' ? losses.map((loss, n) => loss / Math.max(1, targetLengths[n]!)) : losses;
    return reduceTo(new Nd([losses.length], divided), reduction);
  },
  tolerance: close(64, { floor: 64 }),
  differentiable: [0],
  errors: [
    ...tensorErrors('ctcLoss', F.ctcLoss, zeros([1, 2], INT64), [3], [2]),
    ...optionErrors('ctcLoss', (o) => F.ctcLoss(zeros([3, 1, 4]), zeros([1, 2], INT64), [3], [2], o)),
    refuses(
      'logProbs of rank 1',
      () => F.ctcLoss(zeros([3]), zeros([2], INT64), 3, 2),
      /ctcLoss.*logProbs.*\[3\]/,
      'FOVEA_SHAPE',
    ),
    refuses(
      'logProbs of integers',
      () => F.ctcLoss(zeros([3, 1, 4], INT64), zeros([1, 2], INT64), [3], [2]),
      /ctcLoss.*logProbs/,
      'FOVEA_DTYPE',
    ),
    refuses(
      'targets of floats',
      () => F.ctcLoss(zeros([3, 1, 4]), zeros([1, 2]), [3], [2]),
      /ctcLoss.*targets/,
      'FOVEA_DTYPE',
    ),
    refuses(
      'targets of another batch',
      () => F.ctcLoss(zeros([3, 1, 4]), zeros([2, 2], INT64), [3], [2]),
      /ctcLoss.*\[1,s\].*\[2,2\]/,
      'FOVEA_SHAPE',
    ),
    refuses(
      'joined targets that do not add up',
      () => F.ctcLoss(zeros([3, 2, 4]), zeros([4], INT64), [3, 3], [2, 1]),
      /ctcLoss.*add up to 3.*\[4\]/,
      'FOVEA_SHAPE',
    ),
    refuses(
      'joined targets with lengths in a tensor',
      () => F.ctcLoss(zeros([3, 2, 4]), zeros([4], INT64), [3, 3], tensor([2, 2], INT64)),
      /ctcLoss.*targetLengths.*\[n,s\]/,
    ),
    refuses(
      'an input length beyond the input',
      () => F.ctcLoss(zeros([3, 1, 4]), zeros([1, 2], INT64), [4], [2]),
      /ctcLoss.*at most 3 for inputLengths.*4/,
    ),
    refuses(
      'a target length beyond the target',
      () => F.ctcLoss(zeros([3, 1, 4]), zeros([1, 2], INT64), [3], [3]),
      /ctcLoss.*at most 2 for targetLengths.*3/,
    ),
    refuses(
      'lengths of another number',
      () => F.ctcLoss(zeros([3, 1, 4]), zeros([1, 2], INT64), [3, 3], [2]),
      /ctcLoss.*1 sequences for inputLengths.*\[3,3\]/,
    ),
    refuses(
      'a tensor of lengths of another number',
      () => F.ctcLoss(zeros([3, 1, 4]), zeros([1, 2], INT64), tensor([3, 3], INT64), [2]),
      /ctcLoss.*inputLengths \[1\].*\[2\]/,
      'FOVEA_SHAPE',
    ),
    refuses(
      'lengths in a tensor beyond what is there',
      () => F.ctcLoss(zeros([3, 1, 4]), zeros([1, 2], INT64), tensor([4], INT64), [2]).dataSync(),
      /4/,
      'FOVEA_INDEX',
    ),
    refuses(
      'target lengths in a tensor beyond what is there',
      () => F.ctcLoss(zeros([3, 1, 4]), zeros([1, 2], INT64), [3], tensor([3], INT64)).dataSync(),
      /3/,
      'FOVEA_INDEX',
    ),
    refuses(
      'a blank that is no class',
      () => F.ctcLoss(zeros([3, 1, 4]), zeros([1, 2], INT64), [3], [2], { blank: 4 }),
      /ctcLoss.*blank.*4/,
    ),
    refuses(
      'a label that is no class',
      () => F.ctcLoss(zeros([3, 1, 4]), tensor([[1, 4]], INT64), [3], [2]).dataSync(),
      /4/,
      'FOVEA_INDEX',
    ),
    refuses(
      'a negative label',
      () => F.ctcLoss(zeros([3, 1, 4]), tensor([[1, -1]], INT64), [3], [2]).dataSync(),
      /-1/,
      'FOVEA_INDEX',
    ),
  ],
};

export const vectorLossRows: Row[] = [cosineEmbeddingLoss, tripletMarginLoss, ctcLoss];
