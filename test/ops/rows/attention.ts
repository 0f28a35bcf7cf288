// Attention and rotary positions.
import { functional as F, info, positionBias, type Tensor, zeros } from 'fovea';
import { device } from '../../helpers.js';
import { tensorErrors } from '../errors.js';
import { alongAxis, count, matmul, Nd, softmaxRow } from '../nd.js';
import { type Args, close, type Row } from '../row.js';
import { referenceOfScored, runScored, scoredSamples } from './attention-scores.js';
import { FLOATS, type InputSpec, type Layout, type Sample } from '../samples.js';

/**
 * Tensor cores, and what multiplies pairs on the CPU, take probabilities in 16 bits, rounded before they meet values.
 */
const multipliesPairs = ['avx512bf16', 'amx'].includes(info().isa);
const onTensorCores = device === 'cpu' && !multipliesPairs ? {} : { roundings: 2 };

interface AttentionArgs extends Args {
  causal?: 'topLeft' | 'bottomRight' | false;
  scale?: number;
  softcap?: number;
  temperature?: number;
}
/** What is added for a distance (key minus query, the queries being the last of the keys), of heads. */
type ByDistance = (head: number, distance: number) => number;
/** [b,h,n,d] x [b,g,m,d] x [b,g,m,e], written as the definition. A row that sees nothing is zero. */
function attend(q: Nd, k: Nd, v: Nd, args: AttentionArgs, bias?: Nd, mask?: Nd, byDistance?: ByDistance): Nd {
  const { causal, softcap, temperature = 1 } = args;
  const [b, h, n, d] = q.shape as [number, number, number, number];
  const [g, m, e] = [k.shape[1]!, k.shape[2]!, v.shape[3]!];
  const shared = (x: Nd): Nd =>
    Nd.from([b, h, x.shape[2]!, x.shape[3]!], ([i, j, r, c]) => x.at([i!, Math.floor(j! / (h / g)), r!, c!]));
  const scores = matmul(q, shared(k).transpose());
  const visible = (i: number, j: number): boolean => !causal || j <= i + (causal === 'bottomRight' ? m - n : 0);
  let at = -1;
  const masked = new Nd(
    scores.shape,
    scores.data.map((s, flat) => {
      at = flat;
      const index = [Math.floor(at / (n * m * h)), Math.floor(at / (n * m)) % h, Math.floor(at / m) % n, at % m];
      const [, head, i, j] = index as [number, number, number, number];
      if (!visible(i, j) || (mask && mask.at(index) === 0)) return Number.NEGATIVE_INFINITY;
      const scaled = s * (args.scale ?? 1 / Math.sqrt(d));
      const capped = softcap ? softcap * Math.tanh(scaled / softcap) : scaled;
      const terms = (bias ? bias.at(index) : 0) + (byDistance ? byDistance(head, j - (i + m - n)) : 0);
      return (capped + terms) / temperature;
    }),
  );
  const weights =
    m === 0
      ? masked
      : alongAxis(masked, -1, (row) =>
          row.every((s) => s === Number.NEGATIVE_INFINITY) ? row.map(() => 0) : softmaxRow(row),
        );
  return m === 0 ? new Nd([b, h, n, e], new Float64Array(count([b, h, n, e]))) : matmul(weights, shared(v));
}
const attentionInputs = (
  b: number,
  h: number,
  g: number,
  n: number,
  m: number,
  d: number,
  e: number,
  layout?: Layout,
): InputSpec[] =>
  (
    [
      [b, h, n, d],
      [b, g, m, d],
      [b, g, m, e],
    ] as number[][]
  ).map((shape) => ({ shape, ...(layout ? { layout } : {}) }));
const grouped = (
  label: string,
  dims: [number, number, number, number, number, number, number],
  args: AttentionArgs = {},
  more: InputSpec[] = [],
  gradcheck = false,
  layout?: Layout,
): Sample => ({
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
  grouped(
    'a row that sees nothing',
    [1, 2, 2, 4, 5, 3, 3],
    {},
    [{ shape: [1, 1, 4, 1], dtype: 'bool', values: (i) => i % 2 }],
    true,
  ),
  grouped('mask and causal', [1, 2, 2, 130, 130, 16, 16], { causal: 'topLeft' }, [
    { shape: [1, 1, 1, 130], dtype: 'bool' },
  ]),
];
const capped: Sample[] = [
  grouped('soft cap', [1, 2, 1, 4, 5, 3, 2], { softcap: 0.8, scale: 1 }, [], true),
  grouped('soft cap, causal', [2, 2, 2, 140, 150, 16, 16], { softcap: 3, causal: 'bottomRight' }),
  grouped('soft cap, decoding', [1, 4, 2, 1, 300, 32, 32], { softcap: 2, temperature: 0.7 }),
  grouped('temperature', [1, 2, 2, 5, 6, 4, 4], { temperature: 0.4 }, [], true),
];
/** Biases by position: how the extra input makes one, and what it adds in float64. */
const positions = {
  relative: {
    make: (x: Tensor) => positionBias.relative(x),
    adds: (x: Nd): ByDistance => {
      const r = (x.shape[1]! - 1) / 2;
      return (head, distance) => x.at([x.shape[0] === 1 ? 0 : head, Math.max(-r, Math.min(r, distance)) + r]);
    },
  },
  alibi: {
    make: (x: Tensor) => positionBias.alibi(x),
    adds:
      (x: Nd): ByDistance =>
      (head, distance) =>
        -x.at([head]) * Math.abs(distance),
  },
  t5: {
    make: (x: Tensor) => positionBias.t5(x, { maxDistance: 8 }),
    // of 8 buckets: each way 0, 1, [2, 4), [4, ...)
    adds:
      (x: Nd): ByDistance =>
      (head, distance) => {
        const far = Math.abs(distance);
        return x.at([(distance > 0 ? 4 : 0) + (far < 2 ? far : far < 4 ? 2 : 3), head]);
      },
  },
  t5Causal: {
    make: (x: Tensor) => positionBias.t5(x, { maxDistance: 16, bidirectional: false }),
    // of 8 buckets: 0, 1, 2, 3, [4, 5.7), [5.7, 8), [8, 11.3), [11.3, ...)
    adds:
      (x: Nd): ByDistance =>
      (head, distance) => {
        const far = Math.max(-distance, 0);
        return x.at([far < 4 ? far : far < 6 ? 4 : far < 8 ? 5 : far < 12 ? 6 : 7, head]);
      },
  },
} as const;
type Position = keyof typeof positions;
const placed = (
  position: Position,
  extra: number[],
  dims: [number, number, number, number, number, number, number],
  args: AttentionArgs = {},
  gradcheck = false,
): Sample => grouped(position, dims, { ...args, position }, [{ shape: extra }], gradcheck);
const byPosition: Sample[] = [
  placed('relative', [2, 5], [2, 2, 1, 4, 5, 3, 2], {}, true),
  placed('relative', [1, 3], [1, 2, 2, 5, 3, 2, 2], { causal: 'topLeft' }, true),
  placed('relative', [2, 101], [1, 2, 1, 150, 260, 16, 16], { softcap: 4 }),
  placed('relative', [4, 33], [2, 4, 2, 1, 300, 16, 16]),
  placed('alibi', [2], [1, 2, 1, 5, 5, 3, 2], { causal: 'topLeft', temperature: 2 }, true),
  placed('alibi', [2], [1, 2, 2, 140, 133, 8, 8]),
  placed('t5', [8, 2], [1, 2, 2, 7, 9, 2, 2], {}, true),
  placed('t5', [8, 2], [1, 2, 1, 33, 40, 8, 8], { scale: 1 }),
  placed('t5Causal', [8, 2], [1, 2, 1, 40, 40, 8, 8], { causal: 'topLeft' }),
];
const tagged = (samples: Sample[], kind: 'bias' | 'mask'): Sample[] =>
  samples.map((s) => ({ ...s, label: `${kind} ${s.label}`, args: { ...s.args, [kind]: true } }));
const attentionErrors = (name: string, f: (q: Tensor, k: Tensor, v: Tensor) => unknown): Row['errors'] => [
  ...tensorErrors(name, f as never, zeros([1, 1, 2, 4]), zeros([1, 1, 2, 4])),
  {
    label: 'd differs',
    run: () => f(zeros([2, 8, 16, 128]), zeros([2, 8, 16, 64]), zeros([2, 8, 16, 64])),
    code: 'FOVEA_SHAPE',
    mentions: /attention.*d=64.*d=128/s,
  },
  {
    label: 'm differs',
    run: () => f(zeros([1, 2, 4, 8]), zeros([1, 2, 5, 8]), zeros([1, 2, 6, 8])),
    code: 'FOVEA_SHAPE',
    mentions: /attention.*m=6.*m=5/s,
  },
  {
    label: 'int64',
    run: () =>
      f(
        zeros([1, 1, 2, 4], { dtype: 'int64' }),
        zeros([1, 1, 2, 4], { dtype: 'int64' }),
        zeros([1, 1, 2, 4], { dtype: 'int64' }),
      ),
    code: 'FOVEA_DTYPE',
    mentions: /attention.*int64/s,
  },
];
const runAttention = ([q, k, v, extra]: Tensor[], { bias, mask, position, ...args }: Args): Tensor =>
  F.attention(q!, k!, v!, {
    ...args,
    ...(bias ? { bias: extra! } : {}),
    ...(mask ? { mask: extra! } : {}),
    ...(position ? { positionBias: positions[position as Position].make(extra!) } : {}),
  }) as Tensor;
const attentionOf = ([q, k, v, extra]: Nd[], { bias, mask, position, ...args }: Args): Nd =>
  attend(
    q!,
    k!,
    v!,
    args,
    bias ? extra : undefined,
    mask ? extra : undefined,
    position ? positions[position as Position].adds(extra!) : undefined,
  );
const attention: Row = {
  name: 'attention',
  dtypes: FLOATS,
  samples: [
    ...attentionSamples,
    ...tagged(biased, 'bias'),
    ...tagged(masks, 'mask'),
    ...capped,
    ...byPosition,
    ...scoredSamples,
  ],
  run: (inputs, args) => (args['function'] ? runScored(inputs, args) : runAttention(inputs, args)),
  reference: (inputs, args, dtype) =>
    args['function'] ? referenceOfScored(inputs, args, dtype) : attentionOf(inputs, args),
  tolerance: close(192, onTensorCores),
  differentiable: [0, 1, 2, 3, 4, 5],
  errors: [
    ...attentionErrors('attention', (q, k, v) => F.attention(q, k, v)),
    {
      label: 'h is not a multiple of g',
      run: () => F.attention(zeros([1, 8, 2, 4]), zeros([1, 3, 2, 4]), zeros([1, 3, 2, 4])),
      code: 'FOVEA_SHAPE',
      mentions: /h=8.*multiple.*g=3/s,
    },
    {
      label: 'an unknown alignment',
      run: () =>
        F.attention(zeros([1, 1, 2, 4]), zeros([1, 1, 2, 4]), zeros([1, 1, 2, 4]), { causal: 'left' as never }),
      code: 'FOVEA_ARGUMENT',
      mentions: /causal/,
    },
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
    F.scaledDotProductAttention(q!, k!, v!, {
      isCausal: causal === 'topLeft',
      enableGqa: true,
      ...(scale === undefined ? {} : { scale: scale as number }),
      ...(extra ? { attnMask: extra } : {}),
    }),
  errors: [
    ...attentionErrors('scaledDotProductAttention|attention', (q, k, v) => F.scaledDotProductAttention(q, k, v)),
    {
      label: 'grouped heads without enableGqa',
      run: () => F.scaledDotProductAttention(zeros([1, 4, 2, 4]), zeros([1, 2, 2, 4]), zeros([1, 2, 2, 4])),
      code: 'FOVEA_SHAPE',
      mentions: /enableGqa/,
    },
  ],
};

const rope: Row = {
  name: 'rope',
  dtypes: FLOATS,
  samples: [
    [1, 2, 3, 4, 2],
    [2, 1, 5, 6, 2],
    [1, 1, 1, 2, 1],
    [2, 3, 17, 64, 32],
    [1, 2, 9, 8, 4],
    [0, 2, 3, 4, 2],
    [1, 1, 33, 34, 17],
  ].flatMap(([b, h, n, d, r], i) =>
    [false, true].map((interleaved) => ({
      label: `${[b, h, n, d, r]} interleaved ${interleaved}`,
      inputs: [
        { shape: [b!, h!, n!, d!] },
        { shape: [n!, r!], values: 'unit' as const },
        { shape: [n!, r!], values: 'unit' as const },
      ],
      args: { interleaved },
      gradcheck: i < 3,
    })),
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
    {
      label: 'too many angles',
      run: () => F.rope(zeros([1, 1, 2, 4]), zeros([2, 3]), zeros([2, 3])).dataSync(),
      code: 'FOVEA_SHAPE',
      mentions: /rope/,
    },
    {
      label: 'positions differ',
      run: () => F.rope(zeros([1, 1, 2, 4]), zeros([3, 2]), zeros([3, 2])),
      code: 'FOVEA_SHAPE',
      mentions: /rope.*n=/s,
    },
  ],
};

export const attentionRows: Row[] = [attention, sdpa, rope];
