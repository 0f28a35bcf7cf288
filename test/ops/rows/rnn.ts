// The pointwise part of recurrent cells.
import { functional as F, zeros } from 'fovea';
import { tensorErrors } from '../errors.js';
import { Nd } from '../nd.js';
import { close, type Row } from '../row.js';
import { FLOATS, type Layout, type Sample } from '../samples.js';

const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));

/** Leading sizes and the width of a state, and how the projections lie. */
const shapes: [leading: number[], n: number, x?: Layout, hidden?: Layout][] = [
  [[2], 3],
  [[], 4],
  [[2, 2], 2, 'transposed', 'offset'],
  [[1], 1],
  [[0], 4],
  [[3], 0],
  [[3], 15],
  [[4], 17, 'offset', 'step'],
  [[5], 33, 'step', 'dense'],
  [[6], 5, 'expanded', 'misaligned'],
  [[3], 257, 'misaligned', 'transposed'],
  [[9], 520],
  [[2], 20_001],
];
const samplesOf = (gates: number, withoutHidden: boolean): Sample[] =>
  shapes.flatMap(([leading, n, x = 'dense', hidden = 'dense'], i) =>
    [true, false].slice(withoutHidden ? 0 : 1).map((alone) => ({
      label: `[${[...leading, n]}] ${x}, ${alone ? 'in one' : hidden}`,
      inputs: [
        { shape: [...leading, gates * n], layout: x },
        ...(alone ? [] : [{ shape: [...leading, gates * n], layout: hidden }]),
        { shape: [...leading, n] },
      ],
      gradcheck: i < 3,
    })),
  );
const special = (gates: number): Sample => ({
  label: 'special values',
  inputs: [
    { shape: [16, gates], values: 'special' },
    { shape: [16, gates], values: 'unit' },
    { shape: [16, 1], values: 'unit' },
  ],
});

/**
 * Not elementwise ops, but up to ten of them: the sums of both projections are rounded before sigmoid and tanh, and
 * terms of both signs are added. 8 units were seen at most.
 */
const fewRoundings = close(16);

/** A result of the shape of `state`, from what is at each place: gate(x, k) is that of its k-th gate. */
function pointwise(state: Nd, f: (gate: (x: Nd, k: number) => number, at: readonly number[]) => number): Nd {
  const n = state.shape.at(-1)!;
  return Nd.from(state.shape, (at) => f((x, k) => x.at([...at.slice(0, -1), k * n + at.at(-1)!]), at));
}

const lstmCell: Row = {
  name: 'lstmCell',
  dtypes: FLOATS,
  samples: [...samplesOf(4, true), special(4)],
  run: ([x, second, third]) => (third ? F.lstmCell(x!, second!, third) : F.lstmCell(x!, null, second!)),
  reference: ([x, second, third]) => {
    const [hidden, c] = third ? [second, third] : [undefined, second!];
    const sum = (gate: (x: Nd, k: number) => number, k: number): number => gate(x!, k) + (hidden ? gate(hidden, k) : 0);
    const next = pointwise(
      c,
      (gate, at) => sigmoid(sum(gate, 1)) * c.at(at) + sigmoid(sum(gate, 0)) * Math.tanh(sum(gate, 2)),
    );
    return [pointwise(c, (gate, at) => sigmoid(sum(gate, 3)) * Math.tanh(next.at(at))), next];
  },
  tolerance: fewRoundings,
  differentiable: [0, 1, 2],
  errors: [
    ...tensorErrors('lstmCell', (x: never) => F.lstmCell(x, null, zeros([1, 3]))),
    {
      label: 'too few gates',
      run: () => F.lstmCell(zeros([2, 9]), null, zeros([2, 3])),
      code: 'FOVEA_SHAPE',
      mentions: /lstmCell: c \[2,3\] needs x \[2,12\], 4 gates side by side, received \[2,9\]/,
    },
    {
      label: 'another batch',
      run: () => F.lstmCell(zeros([2, 12]), zeros([3, 12]), zeros([2, 3])),
      code: 'FOVEA_SHAPE',
      mentions: /lstmCell: .*hidden \[2,12\].*\[3,12\]/,
    },
    {
      label: '0-d',
      run: () => F.lstmCell(zeros([4]), null, zeros([])),
      code: 'FOVEA_SHAPE',
      mentions: /lstmCell: .*c \[\.\.\., n\].*0-d/,
    },
    {
      label: 'integers',
      run: () => F.lstmCell(zeros([2, 4], { dtype: 'int32' }), null, zeros([2, 1], { dtype: 'int32' })),
      code: 'FOVEA_DTYPE',
      mentions: /lstmCell/,
    },
    {
      label: 'a state that is no tensor',
      run: () => F.lstmCell(zeros([2, 4]), null, 'c' as never),
      code: 'FOVEA_ARGUMENT',
      mentions: /lstmCell.*\bc\b/,
    },
  ],
};

const gruCell: Row = {
  name: 'gruCell',
  dtypes: FLOATS,
  samples: [...samplesOf(3, false), special(3)],
  run: ([x, hidden, h]) => F.gruCell(x!, hidden!, h!),
  reference: ([x, hidden, h]) =>
    pointwise(h!, (gate, at) => {
      const [r, z] = [0, 1].map((k) => sigmoid(gate(x!, k) + gate(hidden!, k))) as [number, number];
      const n = Math.tanh(gate(x!, 2) + r * gate(hidden!, 2));
      return (1 - z) * n + z * h!.at(at);
    }),
  tolerance: fewRoundings,
  differentiable: [0, 1, 2],
  errors: [
    ...tensorErrors('gruCell', (x: never) => F.gruCell(x, zeros([1, 9]), zeros([1, 3]))),
    {
      label: 'too many gates',
      run: () => F.gruCell(zeros([2, 12]), zeros([2, 9]), zeros([2, 3])),
      code: 'FOVEA_SHAPE',
      mentions: /gruCell: h \[2,3\] needs x \[2,9\], 3 gates side by side, received \[2,12\]/,
    },
    {
      label: 'a hidden projection that is none',
      run: () => F.gruCell(zeros([2, 9]), null as never, zeros([2, 3])),
      code: 'FOVEA_ARGUMENT',
      mentions: /gruCell.*hidden/,
    },
    {
      label: 'integers',
      run: () =>
        F.gruCell(
          zeros([2, 3], { dtype: 'int32' }),
          zeros([2, 3], { dtype: 'int32' }),
          zeros([2, 1], { dtype: 'int32' }),
        ),
      code: 'FOVEA_DTYPE',
      mentions: /gruCell/,
    },
  ],
};

export const rnnRows: Row[] = [lstmCell, gruCell];
