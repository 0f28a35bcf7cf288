// Products of groups of rows.
import { type Dtype, functional as F, type Tensor, tensor, zeros } from 'fovea';
import { tensorErrors } from '../errors.js';
import { Nd } from '../nd.js';
import type { ErrorCase, Row } from '../row.js';
import { FLOATS, type Layout, type Sample } from '../samples.js';

/** Each group's rows times its matrix, by the definition. */
function product(x: Nd, weights: Nd, offs: Nd): Nd {
  const [k, n] = weights.shape.slice(1) as [number, number];
  return Nd.from([x.shape[0]!, n], ([row, column]) => {
    const group = offs.data.findIndex((end) => row! < end);
    let total = 0;
    for (let p = 0; p < k; p++) total += x.at([row!, p]) * weights.at([group, p, column!]);
    return total;
  });
}

interface More {
  x?: Layout;
  weights?: Layout;
  offs?: Dtype;
  gradcheck?: boolean;
}
const sample = (ends: number[], k: number, n: number, more: More = {}): Sample => {
  const { x = 'dense', weights = 'dense', offs = 'int32', gradcheck = false } = more;
  return {
    label: `offs [${ends}] ${offs} k ${k} ${x} n ${n} ${weights}`,
    inputs: [
      { shape: [ends.at(-1) ?? 0, k], layout: x },
      { shape: [ends.length, k, n], layout: weights },
      { shape: [ends.length], dtype: offs, values: (i) => ends[i]! },
    ],
    gradcheck,
  };
};

const rows = (t: number): Tensor => zeros([t, 2]);
const ends = (...offs: number[]): Tensor => tensor(offs, { dtype: 'int32' });
const refused = (label: string, t: number, offs: Tensor, mentions: RegExp): ErrorCase => ({
  label,
  run: () => F.groupedMatmul(rows(t), zeros([offs.size, 2, 3]), offs).dataSync(),
  code: 'FOVEA_INDEX',
  mentions,
});

export const groupedMatmul: Row = {
  name: 'groupedMatmul',
  dtypes: FLOATS,
  samples: [
    sample([2, 5, 6], 4, 3, { gradcheck: true }),
    sample([0, 3, 3, 7], 3, 4, { gradcheck: true, weights: 'transposed' }),
    sample([4], 3, 2, { gradcheck: true, x: 'transposed' }),
    sample([1, 2, 2], 2, 2, { gradcheck: true, x: 'step', weights: 'step', offs: 'int64' }),
    sample([], 4, 3, { gradcheck: true }),
    sample([0, 0], 4, 3, { gradcheck: true }),
    sample([3, 5], 0, 4),
    sample([3, 5], 4, 0),
    sample([9, 40, 41, 58], 33, 17, { x: 'offset' }),
    sample([9, 40, 41, 58], 33, 17, { weights: 'transposed', x: 'misaligned' }),
    sample([20, 20, 29], 65, 8, { weights: 'offset' }),
    sample([17, 30, 47], 19, 5, { x: 'expanded', weights: 'expanded' }),
    sample([5, 12, 20, 28, 29], 130, 67, { offs: 'uint8', weights: 'transposed' }),
    sample([350, 352, 400], 21, 70, { offs: 'int64' }),
    sample([18, 60], 1100, 34),
    sample([18, 60], 1100, 34, { weights: 'transposed' }),
    sample(
      Array.from({ length: 70 }, (_, g) => g + 1),
      6,
      5,
      { offs: 'int8' },
    ),
  ],
  run: ([x, weights, offs]) => F.groupedMatmul(x!, weights!, offs!),
  reference: ([x, weights, offs]) => product(x!, weights!, offs!),
  tolerance: {
    kind: 'sum',
    k: (s) => s.inputs[0]!.shape[1]! + 1,
    magnitude: ([x, weights, offs]) => product(x!.map(Math.abs), weights!.map(Math.abs), offs!),
  },
  differentiable: [0, 1],
  errors: [
    ...tensorErrors('groupedMatmul', F.groupedMatmul, zeros([1, 2, 3]), ends(1)),
    refused('offsets that decrease', 4, ends(3, 2, 4), /groupedMatmul: offs\[1\] is 2.*row 3.*decrease/),
    refused('a negative offset', 4, ends(-1, 4), /groupedMatmul: offs\[0\] is -1.*row 0/),
    refused('an offset beyond the rows', 4, ends(2, 5), /groupedMatmul: offs\[1\] is 5.*4/),
    refused('rows behind the last group', 4, ends(2, 3), /groupedMatmul: offs ends at 3.*4 rows/),
    refused('rows without groups', 4, zeros([0], { dtype: 'int32' }), /groupedMatmul: offs ends at 0.*4 rows/),
    {
      label: 'counts of another number of groups',
      run: () => F.groupedMatmul(rows(4), zeros([2, 2, 3]), ends(4)),
      code: 'FOVEA_SHAPE',
      mentions: /groupedMatmul: .*\[4,2\], \[2,2,3\] and \[1\]/,
    },
    {
      label: 'inner sizes differ',
      run: () => F.groupedMatmul(rows(4), zeros([1, 3, 3]), ends(4)),
      code: 'FOVEA_SHAPE',
      mentions: /groupedMatmul: .*\[4,2\], \[1,3,3\] and \[1\]/,
    },
    {
      label: 'one matrix for all',
      run: () => F.groupedMatmul(rows(4), zeros([2, 3]), ends(4)),
      code: 'FOVEA_SHAPE',
      mentions: /groupedMatmul: expected .*\[groups,k,n\].*\[2,3\]/,
    },
    {
      label: 'offsets of floats',
      run: () => F.groupedMatmul(rows(4), zeros([1, 2, 3]), tensor([4])),
      code: 'FOVEA_DTYPE',
      mentions: /groupedMatmul: expected integers for offs, received float32.*int32/,
    },
    {
      label: 'offsets that are no tensor',
      run: () => F.groupedMatmul(rows(4), zeros([1, 2, 3]), [4] as never),
      code: 'FOVEA_ARGUMENT',
      mentions: /groupedMatmul.*offs/,
    },
    {
      label: 'integers',
      run: () => F.groupedMatmul(zeros([4, 2], { dtype: 'int32' }), zeros([1, 2, 3]), ends(4)),
      code: 'FOVEA_DTYPE',
      mentions: /groupedMatmul: expected floats for x, received int32.*float32/,
    },
  ],
};
