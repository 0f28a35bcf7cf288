// Writes into a tensor. Rows run on a copy, so that the generic suites can look at inputs and gradients as for any op;
// in-place.test.ts writes through windows.
import { functional as F, type Tensor, tensor, zeros } from 'fovea';
import { tensorErrors } from '../errors.js';
import { Nd, zip } from '../nd.js';
import { exact, type Row, ulp } from '../row.js';
import { FLOATS, isFloat, roundTo, type Sample, unarySamples, type Values } from '../samples.js';

const numbers = [...FLOATS, 'int32', 'int64', 'int8'] as const;

/** Samples of a target and an operand that broadcasts to it. */
const pairs = (right: Values): Sample[] =>
  (
    [
      [[], []],
      [[1], [1]],
      [[131], [131]],
      [
        [3, 5],
        [3, 5],
      ],
      [[3, 4], [4]],
      [
        [3, 4],
        [3, 1],
      ],
      [
        [2, 3, 4],
        [3, 1],
      ],
      [[0, 4], [4]],
      [[17], []],
      [
        [7, 19],
        [7, 19],
      ],
      [[70_001], [70_001]],
      [
        [5, 16],
        [1, 16],
      ],
      [
        [9, 15],
        [9, 15],
      ],
    ] as [number[], number[]][]
  ).map(([a, b], i) => ({
    label: `[${a}] [${b}]`,
    inputs: [
      { shape: a },
      { shape: b, values: right, ...(b.length > 1 && i % 2 ? { layout: 'transposed' as const } : {}) },
    ],
    gradcheck: i > 2 && i < 7,
  }));

const arithmetic = (name: 'add_' | 'sub_' | 'mul_' | 'div_', f: (a: number, b: number) => number): Row => ({
  name,
  dtypes: name === 'div_' ? FLOATS : numbers,
  samples: pairs(name === 'div_' ? 'positive' : 'normal'),
  run: ([a, b]) => F[name](a!.clone(), b!),
  reference: ([a, b]) => zip(f, a!, b!),
  tolerance: ulp(1),
  differentiable: [0, 1],
  errors: [
    ...tensorErrors(name, F[name], 1),
    {
      label: 'a target that would grow',
      run: () => F[name](zeros([1, 3]), zeros([2, 3])),
      code: 'FOVEA_SHAPE',
      mentions: new RegExp(name),
    },
    {
      label: 'a target whose elements repeat',
      run: () => F[name](zeros([1]).expand([4]), zeros([4])),
      code: 'FOVEA_LAYOUT',
      mentions: /repeat|expand/,
    },
  ],
});

const copied: Row = {
  ...arithmetic('add_', (_, b) => b),
  name: 'copy_',
  dtypes: [...numbers, 'uint8', 'bool'],
  run: ([a, b]) => F.copy_(a!.clone(), b!),
  tolerance: exact,
  differentiable: [1],
  errors: [
    ...tensorErrors('copy_', F.copy_, tensor([1])),
    {
      label: 'a source of another shape',
      run: () => F.copy_(zeros([3]), zeros([2])),
      code: 'FOVEA_SHAPE',
      mentions: /copy_/,
    },
  ],
};

const filling = (
  name: 'zero_' | 'fill_' | 'clamp_' | 'maskedFill_',
  run: (x: Tensor, mask: Tensor) => Tensor,
  f: (v: number, mask: number) => number,
  more: Row['errors'] = [],
): Row => ({
  name,
  dtypes: name === 'clamp_' ? numbers : [...numbers, 'uint8'],
  samples: unarySamples('distinct').map((s) => ({
    ...s,
    inputs: [...s.inputs, ...(name === 'maskedFill_' ? [{ shape: s.inputs[0]!.shape, dtype: 'bool' as const }] : [])],
    gradcheck: (s.gradcheck ?? false) && (name === 'clamp_' || name === 'maskedFill_'),
  })),
  run: ([x, mask]) => run(x!.clone(), mask!),
  reference: ([x, mask], _, dtype) =>
    zip(
      (v, m) => (Number.isNaN(v) && name === 'clamp_' ? v : isFloat(dtype) ? f(v, m) : roundTo(dtype, f(v, m))),
      x!,
      mask ?? new Nd([], [0]),
    ),
  tolerance: { kind: 'exact', zeros: 'either' },
  ...(name === 'clamp_' || name === 'maskedFill_' ? { differentiable: [0] } : {}),
  errors: [
    ...tensorErrors(
      name,
      F[name] as never,
      ...(name === 'fill_'
        ? [1]
        : name === 'clamp_'
          ? [{ min: 0 }]
          : name === 'maskedFill_'
            ? [tensor([true]), 1]
            : []),
    ),
    ...more,
  ],
});

export const inPlaceRows: Row[] = [
  arithmetic('add_', (a, b) => a + b),
  arithmetic('sub_', (a, b) => a - b),
  arithmetic('mul_', (a, b) => a * b),
  arithmetic('div_', (a, b) => a / b),
  copied,
  filling(
    'zero_',
    (x) => F.zero_(x),
    () => 0,
  ),
  filling(
    'fill_',
    (x) => F.fill_(x, 3),
    () => 3,
  ),
  filling(
    'clamp_',
    (x) => F.clamp_(x, { min: -1, max: 2 }),
    (v) => Math.min(Math.max(v, -1), 2),
  ),
  filling(
    'maskedFill_',
    (x, mask) => F.maskedFill_(x, mask, 7),
    (v, mask) => (mask ? 7 : v),
  ),
];
