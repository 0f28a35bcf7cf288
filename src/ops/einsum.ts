/**
 * Einstein's summation: products of tensors whose axes are named by letters, summed over letters that the output lacks.
 * Two operands at a time become one batched matrix product; nothing larger than an operand or the result is made.
 */
import { argumentError, shapeError } from '../tensor/check.js';
import { sizeOf } from '../tensor/layout.js';
import { slotOf, type Tensor } from '../tensor/tensor.js';
import { lowered, toLowered } from './autocast.js';
import { expand, sumOver } from './broadcast.js';
import { matmul } from './matmul.js';
import { mul } from './elementwise.js';
import { resultType } from './promote.js';
import { diagonal, permute, reshape, slice, transpose } from './shape.js';

/** A tensor and a name for each of its axes. */
interface Named {
  x: Tensor;
  axes: string[];
}

/** Axes of '...' are named by digits, counted from the end so that they broadcast against each other. */
const ellipsisName = (fromEnd: number): string => String(fromEnd);

function parseTerm(equation: string, term: string, rank: number): string[] {
  if (!/^[A-Za-z]*(\.\.\.)?[A-Za-z]*$/.test(term))
    throw argumentError('einsum', 'equation', "letters and at most one '...' per operand", equation);
  const [before, after] = term.split('...') as [string, string?];
  if (after === undefined) {
    if (before.length !== rank)
      throw shapeError('einsum', `'${term}' names ${before.length} axes, but the tensor has ${rank} (${equation})`);
    return before.split('');
  }
  const open = rank - before.length - after.length;
  if (open < 0) throw shapeError('einsum', `'${term}' names more axes than the tensor has, ${rank} (${equation})`);
  return [
    ...before.split(''),
    ...Array.from({ length: open }, (_, i) => ellipsisName(open - 1 - i)),
    ...after.split(''),
  ];
}

/** Without '->': the ellipsis, then the letters that occur once, in the order of the alphabet. */
function implicitOutput(terms: readonly string[][]): string[] {
  const all = terms.flat();
  const dots = [...new Set(all.filter((a) => /\d/.test(a)))].sort((a, b) => Number(b) - Number(a));
  const letters = [...new Set(all.filter((a) => !/\d/.test(a)))].filter((a) => all.indexOf(a) === all.lastIndexOf(a));
  return [...dots, ...letters.sort()];
}

function outputAxes(equation: string, text: string | undefined, terms: readonly string[][]): string[] {
  if (text === undefined) return implicitOutput(terms);
  const dots = new Set(terms.flat().filter((a) => /\d/.test(a)));
  const axes = parseTerm(equation, text, text.replace('...', '').length + (text.includes('...') ? dots.size : 0));
  if (new Set(axes).size !== axes.length)
    throw argumentError('einsum', 'equation', 'an output that names each axis once', equation);
  for (const a of axes)
    if (!terms.some((t) => t.includes(a)))
      throw argumentError('einsum', 'equation', `the output's '${a}' in an operand`, equation);
  return axes;
}

/** Letters that an operand repeats pick its diagonal. */
function withoutRepeats({ x, axes }: Named, equation: string): Named {
  const second = axes.findIndex((a, i) => axes.indexOf(a) < i);
  if (second < 0) return { x, axes };
  const first = axes.indexOf(axes[second]!);
  if (x.shape[first] !== x.shape[second])
    throw shapeError(
      'einsum',
      `'${axes[second]}' is ${x.shape[first]} and ${x.shape[second]} in one operand (${equation})`,
    );
  const rest = axes.map((_, i) => i).filter((i) => i !== first && i !== second);
  const n = x.shape[first]!;
  const moved = permute(x, [...rest, first, second]);
  const restShape = rest.map((i) => x.shape[i]!);
  const cut = rest.length === 0 ? diagonal(moved) : strided(moved, restShape, n);
  return withoutRepeats({ x: cut, axes: [...rest.map((i) => axes[i]!), axes[first]!] }, equation);
}
/** The diagonal of the last two axes: elements 0, n + 1, 2 (n + 1), … of the merged axis. */
function strided(x: Tensor, rest: readonly number[], n: number): Tensor {
  const rows = reshape(x, [sizeOf(rest), n * n]);
  return reshape(n === 0 ? rows : sliceEvery(rows, n + 1), [...rest, n]);
}
const sliceEvery = (x: Tensor, step: number): Tensor => slice(x, 1, 0, Number.MAX_SAFE_INTEGER, step);

const sizeIn = ({ x, axes }: Named, axis: string): number => {
  const at = axes.indexOf(axis);
  return at < 0 ? 1 : x.shape[at]!;
};
function dropped({ x, axes }: Named, keep: (axis: string) => boolean): Named {
  const gone = axes.flatMap((a, i) => (keep(a) ? [] : [i]));
  return gone.length ? { x: sumOver(x, gone), axes: axes.filter(keep) } : { x, axes };
}

/** One batched product: shared axes that stay are the batch, shared axes that go are summed. */
function contract(a: Named, b: Named, stays: (axis: string) => boolean): Named {
  const left = dropped(a, (x) => stays(x) || b.axes.includes(x));
  const right = dropped(b, (x) => stays(x) || a.axes.includes(x));
  const shared = left.axes.filter((x) => right.axes.includes(x));
  const batch = shared.filter(stays);
  const summed = shared.filter((x) => !stays(x));
  const mine = left.axes.filter((x) => !shared.includes(x));
  const theirs = right.axes.filter((x) => !shared.includes(x));
  const sizes = (list: readonly string[]): number[] =>
    list.map((x) => (sizeIn(left, x) === 1 ? sizeIn(right, x) : sizeIn(left, x)));
  const ordered = (n: Named, groups: readonly (readonly string[])[]): Tensor => {
    const order = groups.flat();
    const moved = permute(
      n.x,
      order.map((x) => n.axes.indexOf(x)),
    );
    return reshape(
      expand(moved, sizes(order)),
      groups.map((g) => sizeOf(sizes(g))),
    );
  };
  const axes = [...batch, ...mine, ...theirs];
  if (summed.length === 0 && theirs.length === 0 && mine.length === 0) {
    return { x: reshape(mul(ordered(left, [batch]), ordered(right, [batch])), sizes(axes)), axes };
  }
  const product = matmul(
    ordered(left, [batch, mine, summed]),
    transpose(ordered(right, [batch, theirs, summed]), 1, 2),
  );
  return { x: reshape(product, sizes(axes)), axes };
}

function checkSizes(equation: string, operands: readonly Named[]): void {
  const sizes = new Map<string, number>();
  for (const { x, axes } of operands)
    axes.forEach((a, i) => {
      const n = x.shape[i]!;
      const known = sizes.get(a);
      if (known === undefined || known === 1) sizes.set(a, n);
      else if (n !== known && n !== 1)
        throw shapeError('einsum', `'${a}' is ${known} in one operand and ${n} in another (${equation})`);
    });
}

/**
 * Sums of products, as in `einsum('bhid,bhjd->bhij', q, k)`.
 *
 * @param equation operands separated by commas, one letter per axis, '...' for any axes in front or between; then '->'
 *   and the output, or the letters that occur once in the order of the alphabet
 * @param operands one tensor per term: floats, int32 or int64
 * @returns an axis for each letter of the output, in the dtype that all promote to
 * @throws FOVEA_ARGUMENT for a malformed equation, FOVEA_SHAPE for axes that differ in size, FOVEA_DTYPE for dtypes
 *   that `matmul` refuses
 */
export function einsum(equation: string, ...operands: Tensor[]): Tensor {
  if (typeof equation !== 'string') throw argumentError('einsum', 'equation', "a string such as 'ij,jk->ik'", equation);
  const [inputs = '', output, ...more] = equation.replaceAll(' ', '').split('->');
  const texts = inputs.split(',');
  if (more.length || texts.length !== operands.length)
    throw argumentError(
      'einsum',
      'equation',
      `${operands.length} operands separated by commas, and at most one '->'`,
      equation,
    );
  operands.forEach((x, i) => slotOf(x, 'einsum', `operands[${i}]`));
  const code = lowered(resultType(operands));
  const terms = texts.map((text, i) => parseTerm(equation, text, operands[i]!.rank));
  const wanted = outputAxes(equation, output, terms);
  const named = operands.map((x, i) => withoutRepeats({ x: toLowered(x, code), axes: terms[i]! }, equation));
  checkSizes(equation, named);
  let result = named[0]!;
  for (let i = 1; i < named.length; i++) {
    const later = new Set([...wanted, ...named.slice(i + 1).flatMap((n) => n.axes)]);
    result = contract(result, named[i]!, (axis) => later.has(axis));
  }
  result = dropped(result, (axis) => wanted.includes(axis));
  return permute(
    result.x,
    wanted.map((axis) => result.axes.indexOf(axis)),
  );
}
