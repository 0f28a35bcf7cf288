// Softmax, norms, losses, attention and rotary positions.
import { functional as F, type Tensor, tensor, zeros } from 'fovea';
import { dimErrors, tensorErrors } from '../errors.js';
import { alongAxis, count, matmul, Nd, softmaxRow, zip } from '../nd.js';
import { type Args, close, type Row } from '../row.js';
import { FLOATS, type InputSpec, type Layout, type Sample } from '../samples.js';

const relaxed = close(64, { floor: 1 });

const rowSamples = (): Sample[] =>
  (
    [
      [[5], 0], [[1], 0], [[3, 5], -1], [[3, 5], 0], [[2, 3, 4], 1], [[131], 0], [[4, 15], 1], [[4, 17], 1], [[6, 33], 1, 'transposed'], [[5, 9], -1, 'offset'], [[3, 16], 1, 'step'], [[4, 6], 0, 'expanded'], [[3, 31], 1, 'misaligned'], [[0, 4], 1], [[3, 0], 0], [[2, 50_257], 1],
    ] as [number[], number, Layout?][]
  ).map(([shape, dim, layout], i) => ({ label: `[${shape}] dim ${dim} ${layout ?? ''}`, inputs: [{ shape, ...(layout ? { layout } : {}) }], args: { dim }, gradcheck: i < 5 }));

const softmaxLike = (name: 'softmax' | 'logSoftmax', f: (row: Float64Array) => Float64Array): Row => ({
  name,
  dtypes: FLOATS,
  samples: rowSamples(),
  run: ([x], { dim }) => F[name](x!, dim as number),
  reference: ([x], { dim }) => alongAxis(x!, dim as number, f),
  tolerance: relaxed,
  differentiable: [0],
  errors: [...tensorErrors(name, F[name], 0), ...dimErrors(name, (x, dim) => F[name](x, dim))],
});
const logSoftmaxRow = (row: Float64Array): Float64Array => {
  const top = row.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  const lse = top + Math.log(row.reduce((a, b) => a + Math.exp(b - top), 0));
  return row.map((v) => v - lse);
};

const mean = (row: Float64Array): number => row.reduce((a, b) => a + b, 0) / row.length;
const normRow = (name: 'layerNorm' | 'rmsNorm', eps: number, standardise: (row: Float64Array) => Float64Array): Row => {
  const bias = name === 'layerNorm';
  const shapes: [number[], Layout?][] = [[[2, 5]], [[5]], [[2, 3, 4]], [[3, 1]], [[4, 15]], [[4, 17]], [[7, 131]], [[6, 33], 'transposed'], [[5, 9], 'offset'], [[3, 16], 'step'], [[0, 4]], [[40, 768]], [[3, 31], 'misaligned'], [[4, 6], 'expanded']];
  const parameters = (d: number): InputSpec[] => [{ shape: [d], values: 'positive' }, ...(bias ? [{ shape: [d] }] : [])];
  const run = ([x, w, b]: Tensor[]): Tensor => (bias ? F.layerNorm(x!, [x!.shape.at(-1)!], w, b, { eps }) : F.rmsNorm(x!, [x!.shape.at(-1)!], w, { eps }));
  return {
    name,
    dtypes: FLOATS,
    samples: shapes.flatMap(([shape, layout], i) =>
      [true, false].map((affine) => ({ label: `[${shape}] ${layout ?? ''} affine ${affine}`, inputs: [{ shape, ...(layout ? { layout } : {}) }, ...(affine ? parameters(shape.at(-1)!) : [])], gradcheck: i < 3 })),
    ),
    run,
    reference: ([x, w, b]) => {
      const y = alongAxis(x!, -1, standardise);
      return zip((v, s, t) => v * s + t, y, w ?? new Nd([], [1]), b ?? new Nd([], [0]));
    },
    tolerance: close(96),
    differentiable: [0, 1, 2],
    errors: [
      ...tensorErrors(name, (x: Tensor) => F[name](x, [2])),
      { label: 'the shape differs', run: () => F[name](zeros([2, 3]), [4]), code: 'FOVEA_SHAPE', mentions: new RegExp(name) },
      { label: 'the weight differs', run: () => F[name](zeros([2, 3]), [3], zeros([4])), code: 'FOVEA_SHAPE', mentions: new RegExp(`${name}.*weight|weight.*${name}`, 's') },
    ],
  };
};

const targets = (classes: number, ignored?: number): InputSpec['values'] => (i) => (ignored !== undefined && i % 4 === 1 ? ignored : (i * 7) % classes);
const crossEntropy: Row = {
  name: 'crossEntropy',
  dtypes: FLOATS,
  samples: [[3, 5], [1, 2], [7, 131], [2, 50_257], [16, 17], [9, 1], [5, 33]].flatMap(([n, c], i) =>
    [{}, { labelSmoothing: 0.1 }, { reduction: 'sum' }, { reduction: 'none', ignoreIndex: 1 }].map((args: Args) => ({
      label: `[${n},${c}] ${JSON.stringify(args)}`,
      inputs: [{ shape: [n!, c!] }, { shape: [n!], dtype: 'int64' as const, values: targets(c!, args['ignoreIndex'] as number | undefined) as (i: number) => number }],
      args,
      gradcheck: i < 2,
    })),
  ),
  run: ([x, t], args) => F.crossEntropy(x!, t!, args),
  reference: ([x, t], { labelSmoothing = 0, reduction = 'mean', ignoreIndex = -100 }) => {
    const log = alongAxis(x!, -1, logSoftmaxRow);
    const c = x!.shape[1]!;
    const s = labelSmoothing as number;
    const loss = t!.map((target) => target).data.map((target, i) => {
      if (target === ignoreIndex) return 0;
      let uniform = 0;
      for (let j = 0; j < c; j++) uniform -= log.at([i, j]) / c;
      return -(1 - s) * log.at([i, target]) + s * uniform;
    });
    if (reduction === 'none') return new Nd([loss.length], loss);
    const total = loss.reduce((a, b) => a + b, 0);
    return new Nd([], [reduction === 'sum' ? total : total / t!.data.filter((v) => v !== ignoreIndex).length]);
  },
  tolerance: relaxed,
  differentiable: [0],
  errors: [
    ...tensorErrors('crossEntropy', F.crossEntropy, tensor([0], { dtype: 'int64' })),
    { label: 'lengths differ', run: () => F.crossEntropy(zeros([2, 3]), tensor([0], { dtype: 'int64' })), code: 'FOVEA_SHAPE', mentions: /crossEntropy/ },
    { label: 'a class that does not exist', run: () => F.crossEntropy(zeros([1, 3]), tensor([3], { dtype: 'int64' })).dataSync(), code: 'FOVEA_INDEX', mentions: /3/ },
    { label: 'an unknown reduction', run: () => F.crossEntropy(zeros([1, 3]), tensor([0], { dtype: 'int64' }), { reduction: 'max' as never }), code: 'FOVEA_ARGUMENT', mentions: /reduction/ },
  ],
};

const lossShapes: number[][] = [[], [1], [5], [3, 4], [2, 3, 4], [131], [17], [33, 2], [1, 1], [70_001], [6, 7], [15]];
const twoInputLoss = (name: 'mseLoss' | 'binaryCrossEntropyWithLogits' | 'klDiv', f: (x: number, y: number) => number, second: InputSpec['values'], differentiable: number[]): Row => ({
  name,
  dtypes: FLOATS,
  samples: lossShapes.flatMap((shape, i) =>
    (['mean', 'sum', 'none'] as const).map((reduction) => ({ label: `[${shape}] ${reduction}`, inputs: [{ shape }, { shape, values: second! }], args: { reduction }, gradcheck: i < 5 })),
  ),
  run: ([x, y], args) => F[name](x!, y!, args),
  reference: ([x, y], { reduction }) => {
    const loss = zip(f, x!, y!);
    const total = loss.data.reduce((a, b) => a + b, 0);
    return reduction === 'none' ? loss : new Nd([], [reduction === 'sum' ? total : total / loss.size]);
  },
  // Composed of ops that each round; in klDiv y log y and y x nearly cancel, so that their roundings outweigh the result.
  tolerance: close(512, { roundings: name === 'klDiv' ? 16 : 4 }),
  differentiable,
  errors: [
    ...tensorErrors(name, F[name], tensor([1])),
    { label: 'shapes differ', run: () => F[name](zeros([2, 3]), zeros([2, 4])), code: 'FOVEA_SHAPE', mentions: /3.*4/s },
    { label: 'an unknown reduction', run: () => F[name](zeros([2]), zeros([2]), { reduction: 'max' as never }), code: 'FOVEA_ARGUMENT', mentions: /reduction/ },
  ],
});

// ---- attention

interface AttentionArgs extends Args {
  causal?: 'topLeft' | 'bottomRight' | false;
  scale?: number;
}
/** [b,h,n,d] x [b,g,m,d] x [b,g,m,e], written as the definition. A row that sees nothing is zero. */
function attend(q: Nd, k: Nd, v: Nd, { causal, scale }: AttentionArgs, bias?: Nd, mask?: Nd): Nd {
  const [b, h, n, d] = q.shape as [number, number, number, number];
  const [g, m, e] = [k.shape[1]!, k.shape[2]!, v.shape[3]!];
  const shared = (x: Nd): Nd => Nd.from([b, h, x.shape[2]!, x.shape[3]!], ([i, j, r, c]) => x.at([i!, Math.floor(j! / (h / g)), r!, c!]));
  const scores = matmul(q, shared(k).transpose());
  const visible = (i: number, j: number): boolean => !causal || j <= i + (causal === 'bottomRight' ? m - n : 0);
  let at = -1;
  const masked = new Nd(scores.shape, scores.data.map((s, flat) => {
    at = flat;
    const index = [Math.floor(at / (n * m * h)), Math.floor(at / (n * m)) % h, Math.floor(at / m) % n, at % m];
    const seen = visible(index[2]!, index[3]!) && (!mask || mask.at(index) !== 0);
    return seen ? s * (scale ?? 1 / Math.sqrt(d)) + (bias ? bias.at(index) : 0) : Number.NEGATIVE_INFINITY;
  }));
  const weights = m === 0 ? masked : alongAxis(masked, -1, (row) => (row.every((s) => s === Number.NEGATIVE_INFINITY) ? row.map(() => 0) : softmaxRow(row)));
  return m === 0 ? new Nd([b, h, n, e], new Float64Array(count([b, h, n, e]))) : matmul(weights, shared(v));
}
const attentionInputs = (b: number, h: number, g: number, n: number, m: number, d: number, e: number, layout?: Layout): InputSpec[] =>
  ([[b, h, n, d], [b, g, m, d], [b, g, m, e]] as number[][]).map((shape) => ({ shape, ...(layout ? { layout } : {}) }));
const grouped = (label: string, dims: [number, number, number, number, number, number, number], args: AttentionArgs = {}, more: InputSpec[] = [], gradcheck = false, layout?: Layout): Sample => ({
  label: `${label} ${dims}`,
  inputs: [...attentionInputs(...dims, layout), ...more],
  args,
  gradcheck,
});
const attentionSamples: Sample[] = [
  grouped('plain', [1, 1, 1, 3, 4, 2, 3], {}, [], true),
  grouped('causal', [1, 2, 1, 4, 4, 3, 2], { causal: 'topLeft' }, [], true),
  grouped('causal, bottom right', [1, 2, 2, 3, 5, 2, 2], { causal: 'bottomRight' }, [], true),
  grouped('more queries than keys', [1, 1, 1, 5, 3, 2, 2], { causal: 'bottomRight' }, [], true),
  grouped('one', [1, 1, 1, 1, 1, 1, 1]),
  grouped('head dimension 64', [2, 3, 3, 33, 65, 64, 64]),
  grouped('primes', [1, 2, 1, 37, 131, 17, 29]),
  grouped('causal over several tiles', [1, 2, 2, 300, 300, 16, 16], { causal: 'topLeft' }),
  grouped('causal, long past', [1, 2, 1, 3, 517, 32, 32], { causal: 'bottomRight' }),
  grouped('grouped heads', [2, 8, 2, 19, 23, 16, 16], { causal: 'bottomRight' }),
  grouped('decoding', [2, 4, 2, 1, 700, 64, 64]),
  grouped('no queries', [1, 2, 2, 0, 5, 4, 4]),
  grouped('no keys', [1, 2, 2, 3, 0, 4, 4]),
  grouped('an own scale', [1, 2, 2, 7, 9, 8, 8], { scale: 0.7 }),
  grouped('wide heads', [1, 1, 1, 9, 33, 256, 256]),
  grouped('offset', [2, 2, 2, 9, 9, 8, 8], {}, [], false, 'offset'),
  grouped('transposed', [2, 2, 2, 9, 9, 8, 8], {}, [], false, 'transposed'),
];
const biased: Sample[] = [
  grouped('bias', [1, 2, 1, 3, 4, 2, 2], {}, [{ shape: [1, 2, 3, 4] }], true),
  grouped('bias of a row', [2, 2, 2, 5, 6, 4, 4], {}, [{ shape: [2, 1, 1, 6] }], true),
  grouped('bias, causal', [2, 2, 2, 33, 70, 8, 8], { causal: 'bottomRight' }, [{ shape: [1, 2, 33, 70] }]),
];
const masks: Sample[] = [
  grouped('mask', [2, 2, 2, 5, 6, 4, 4], {}, [{ shape: [2, 1, 5, 6], dtype: 'bool' }], true),
  grouped('key padding', [2, 2, 1, 7, 9, 4, 4], {}, [{ shape: [2, 1, 1, 9], dtype: 'bool' }], true),
  grouped('a row that sees nothing', [1, 2, 2, 4, 5, 3, 3], {}, [{ shape: [1, 1, 4, 1], dtype: 'bool', values: (i) => i % 2 }], true),
  grouped('mask and causal', [1, 2, 2, 130, 130, 16, 16], { causal: 'topLeft' }, [{ shape: [1, 1, 1, 130], dtype: 'bool' }]),
];
const tagged = (samples: Sample[], kind: 'bias' | 'mask'): Sample[] => samples.map((s) => ({ ...s, label: `${kind} ${s.label}`, args: { ...s.args, [kind]: true } }));
const attentionErrors = (name: string, f: (q: Tensor, k: Tensor, v: Tensor) => unknown): Row['errors'] => [
  ...tensorErrors(name, f as never, zeros([1, 1, 2, 4]), zeros([1, 1, 2, 4])),
  { label: 'd differs', run: () => f(zeros([2, 8, 16, 128]), zeros([2, 8, 16, 64]), zeros([2, 8, 16, 64])), code: 'FOVEA_SHAPE', mentions: /attention.*d=64.*d=128/s },
  { label: 'm differs', run: () => f(zeros([1, 2, 4, 8]), zeros([1, 2, 5, 8]), zeros([1, 2, 6, 8])), code: 'FOVEA_SHAPE', mentions: /attention.*m=6.*m=5/s },
  { label: 'int64', run: () => f(zeros([1, 1, 2, 4], { dtype: 'int64' }), zeros([1, 1, 2, 4], { dtype: 'int64' }), zeros([1, 1, 2, 4], { dtype: 'int64' })), code: 'FOVEA_DTYPE', mentions: /attention.*int64/s },
];
const attention: Row = {
  name: 'attention',
  dtypes: FLOATS,
  samples: [...attentionSamples, ...tagged(biased, 'bias'), ...tagged(masks, 'mask')],
  run: ([q, k, v, extra], { bias, mask, ...args }: Args) => F.attention(q!, k!, v!, { ...args, ...(bias ? { bias: extra! } : {}), ...(mask ? { mask: extra! } : {}) }) as Tensor,
  reference: ([q, k, v, extra], { bias, mask, ...args }) => attend(q!, k!, v!, args, bias ? extra : undefined, mask ? extra : undefined),
  tolerance: close(192),
  differentiable: [0, 1, 2, 3],
  errors: [
    ...attentionErrors('attention', (q, k, v) => F.attention(q, k, v)),
    { label: 'h is not a multiple of g', run: () => F.attention(zeros([1, 8, 2, 4]), zeros([1, 3, 2, 4]), zeros([1, 3, 2, 4])), code: 'FOVEA_SHAPE', mentions: /h=8.*multiple.*g=3/s },
    { label: 'an unknown alignment', run: () => F.attention(zeros([1, 1, 2, 4]), zeros([1, 1, 2, 4]), zeros([1, 1, 2, 4]), { causal: 'left' as never }), code: 'FOVEA_ARGUMENT', mentions: /causal/ },
  ],
};
const sdpaSamples: Sample[] = [
  ...attentionSamples.filter((s) => s.args?.['causal'] !== 'bottomRight'),
  ...tagged(biased.slice(0, 2), 'bias'),
  ...tagged(masks.slice(0, 3), 'mask'),
];
const sdpa: Row = {
  ...attention,
  name: 'scaledDotProductAttention',
  samples: sdpaSamples,
  run: ([q, k, v, extra], { causal, scale }: Args) =>
    F.scaledDotProductAttention(q!, k!, v!, { isCausal: causal === 'topLeft', enableGqa: true, ...(scale === undefined ? {} : { scale: scale as number }), ...(extra ? { attnMask: extra } : {}) }),
  errors: [
    ...attentionErrors('scaledDotProductAttention|attention', (q, k, v) => F.scaledDotProductAttention(q, k, v)),
    { label: 'grouped heads without enableGqa', run: () => F.scaledDotProductAttention(zeros([1, 4, 2, 4]), zeros([1, 2, 2, 4]), zeros([1, 2, 2, 4])), code: 'FOVEA_SHAPE', mentions: /enableGqa/ },
  ],
};

const rope: Row = {
  name: 'rope',
  dtypes: FLOATS,
  samples: [[1, 2, 3, 4, 2], [2, 1, 5, 6, 2], [1, 1, 1, 2, 1], [2, 3, 17, 64, 32], [1, 2, 9, 8, 4], [0, 2, 3, 4, 2], [1, 1, 33, 34, 17]].flatMap(([b, h, n, d, r], i) =>
    [false, true].map((interleaved) => ({ label: `${[b, h, n, d, r]} interleaved ${interleaved}`, inputs: [{ shape: [b!, h!, n!, d!] }, { shape: [n!, r!], values: 'unit' as const }, { shape: [n!, r!], values: 'unit' as const }], args: { interleaved }, gradcheck: i < 3 })),
  ),
  run: ([x, cos, sin], { interleaved }) => {
    const table = (t: Tensor): Tensor => (t.dtype === 'float64' ? t : t.to('float32'));
    return F.rope(x!, table(cos!), table(sin!), { interleaved: interleaved as boolean });
  },
  reference: ([x, cos, sin], { interleaved }) => {
    const r = cos!.shape[1]!;
    return Nd.from(x!.shape, ([b, h, n, c]) => {
      if (c! >= 2 * r) return x!.at([b!, h!, n!, c!]);
      const pair = interleaved ? Math.floor(c! / 2) : c! % r;
      const first = interleaved ? c! % 2 === 0 : c! < r;
      const x1 = x!.at([b!, h!, n!, interleaved ? 2 * pair : pair]);
      const x2 = x!.at([b!, h!, n!, interleaved ? 2 * pair + 1 : pair + r]);
      const [co, si] = [cos!.at([n!, pair]), sin!.at([n!, pair])];
      return first ? x1 * co - x2 * si : x2 * co + x1 * si;
    });
  },
  tolerance: close(8),
  differentiable: [0],
  errors: [
    ...tensorErrors('rope', F.rope, zeros([3, 2]), zeros([3, 2])),
    { label: 'too many angles', run: () => F.rope(zeros([1, 1, 2, 4]), zeros([2, 3]), zeros([2, 3])).dataSync(), code: 'FOVEA_SHAPE', mentions: /rope/ },
    { label: 'positions differ', run: () => F.rope(zeros([1, 1, 2, 4]), zeros([3, 2]), zeros([3, 2])), code: 'FOVEA_SHAPE', mentions: /rope.*n=/s },
  ],
};

export const networkRows: Row[] = [
  softmaxLike('softmax', softmaxRow),
  softmaxLike('logSoftmax', logSoftmaxRow),
  normRow('layerNorm', 1e-5, (row) => {
    const m = mean(row);
    const s = Math.sqrt(mean(row.map((v) => (v - m) ** 2)) + 1e-5);
    return row.map((v) => (v - m) / s);
  }),
  normRow('rmsNorm', 1e-6, (row) => {
    const s = Math.sqrt(mean(row.map((v) => v * v)) + 1e-6);
    return row.map((v) => v / s);
  }),
  crossEntropy,
  twoInputLoss('mseLoss', (x, y) => (x - y) ** 2, 'normal', [0, 1]),
  twoInputLoss('binaryCrossEntropyWithLogits', (x, y) => Math.max(x, 0) - x * y + Math.log1p(Math.exp(-Math.abs(x))), 'unit', [0]),
  twoInputLoss('klDiv', (x, y) => (y > 0 ? y * (Math.log(y) - x) : 0), 'positive', [0]),
  attention,
  sdpa,
  rope,
];
