/**
 * What a call costs by its shapes, whatever the time it took.
 *
 *   bytes   of every tensor once, and of those that are read in part, the part: the fewest that have to be moved
 *   FLOPs   multiplications and additions, each one, of products of matrices, convolutions, attention and norms; of
 *           other ops, which memory bounds, none are counted
 *
 * Attention counts the scores that are seen: those of a causal mask by its formula, those of others as `visible` says.
 */
import { dtypeNames, type Dtype } from '../tensor/dtype.js';
import { causalCodes } from '../ops/attention-reference.js';

/** A tensor of a call, as the native side describes it. */
export interface StoredTensor {
  readonly name: string;
  readonly shape: readonly number[];
  /** Its code. */
  readonly dtype: number;
  /** Whether the op reads it, and whether it writes it: 0 or 1. */
  readonly read: number;
  readonly written: number;
  /** In memory, where a view may repeat. */
  readonly bytes: number;
}

/** What calls of one op on tensors of the same shapes have in common. */
export interface StoredKind {
  readonly name: string;
  readonly inputs: readonly StoredTensor[];
  readonly outputs: readonly StoredTensor[];
  readonly attributes: readonly (readonly [name: string, value: number])[];
  /** Handles of what attention sees by. */
  readonly mask: number;
  readonly pattern: number;
}

/** What a call moves and computes; undefined where that depends on values, or is not counted. */
export interface Cost {
  readonly bytesRead: number | undefined;
  readonly bytesWritten: number | undefined;
  readonly flops: number | undefined;
  /** In which type it multiplies. */
  readonly dtype: Dtype | 'quantized' | undefined;
}

type Shape = readonly number[];
const product = (shape: Shape): number => shape.reduce((a, b) => a * b, 1);

/** The tensors of a kind by name. */
class Tensors {
  readonly #kind: StoredKind;
  constructor(kind: StoredKind) {
    this.#kind = kind;
  }
  find(name: string): StoredTensor | undefined {
    return [...this.#kind.inputs, ...this.#kind.outputs].find((tensor) => tensor.name === name);
  }
  shape(name: string): Shape {
    return this.find(name)?.shape ?? [];
  }
  bytes(...names: string[]): number {
    return names.reduce((sum, name) => sum + (this.find(name)?.bytes ?? 0), 0);
  }
  attribute(name: string): number {
    return this.#kind.attributes.find(([key]) => key === name)?.[1] ?? 0;
  }
}

/** How many of n · m scores a causal mask shows, one of {@link causalCodes}. */
export function causalPairs(n: number, m: number, causal: number): number {
  if (causal === causalCodes.none) return n * m;
  // Query i sees the keys up to i + ahead; those of the first queries are cut at 0, those of the last at m.
  const ahead = causal === causalCodes.topLeft ? 0 : m - n;
  const first = Math.max(0, -ahead);
  const whole = Math.min(Math.max(m - ahead - 1, first), n);
  const rising = whole - first;
  const least = first + ahead + 1;
  return (rising * (2 * least + rising - 1)) / 2 + (n - whole) * m;
}

/** How many scores of all batches and heads are seen; undefined where a mask says that and it is not known. */
function seenPairs(x: Tensors, visible: number | undefined): number | undefined {
  if (x.find('mask') || x.find('pattern')) return visible;
  const [b, h, n] = x.shape('q') as [number, number, number];
  return b * h * causalPairs(n, x.shape('k')[2]!, x.attribute('causal'));
}

/** @param d products over d for each score @param e and over e */
const ofPairs =
  (d: number, e: number) =>
  (x: Tensors, visible: number | undefined): number | undefined => {
    const pairs = seenPairs(x, visible);
    // Additive scores are no products.
    if (pairs === undefined || x.find('vector')) return undefined;
    return 2 * pairs * (d * x.shape('q')[3]! + e * x.shape('v')[3]!);
  };
const perElement =
  (count: number, name = 'x') =>
  (x: Tensors): number =>
    count * product(x.shape(name));

const flopsOf: Readonly<Record<string, (x: Tensors, visible: number | undefined) => number | undefined>> = {
  matmul: (x) => 2 * product(x.shape('c')) * x.shape('a').at(-1)!,
  groupedMatmul: (x) => 2 * product(x.shape('y')) * x.shape('x')[1]!,
  // Every tap of every window, those in the padding, too.
  conv: (x) => 2 * product(x.shape('y')) * product(x.shape('weight').slice(1)),
  convTranspose: (x) => 2 * product(x.shape('x')) * product(x.shape('weight').slice(1)),
  convWeight: (x) => 2 * product(x.shape('dy')) * product(x.shape('dweight').slice(1)),
  groupedOuter: (x) => 2 * product(x.shape('a')) * x.shape('b')[1]!,
  quantizedLinear: (x) => 2 * product(x.shape('x')) * x.attribute('n'),
  // q k and p v; backward q k and dp again, then dv, dq and dk
  attention: ofPairs(1, 1),
  attentionBackward: ofPairs(3, 2),
  attentionBiasBackward: ofPairs(1, 1),
  attentionDistanceBackward: ofPairs(1, 1),
  // mean 1, difference 1, square and sum 2, scale 1, weight and bias 2
  layerNorm: perElement(7),
  addLayerNorm: perElement(8),
  // square and sum 2, scale 1, weight 1
  rmsNorm: perElement(4),
  addRmsNorm: perElement(5),
  // normalised x 2, dy · weight 1, its two sums 3, dx 4, dweight 2, dbias 1; of rmsNorm 1, 1, 2, 3, 2
  layerNormBackward: perElement(13),
  addLayerNormBackward: perElement(14, 'sum'),
  rmsNormBackward: perElement(9),
  addRmsNormBackward: perElement(10, 'sum'),
};

type Bytes = readonly [read: number, written: number] | undefined;
/** Ops that do not touch all of their tensors. */
const bytesOf: Readonly<Record<string, (x: Tensors) => Bytes>> = {
  // Weights that were packed are read instead of those that they were made of.
  matmul: (x) => [x.bytes('a', x.find('packed') ? 'packed' : 'b', 'bias', 'residual'), x.bytes('c')],
  embedding: (x) => [x.bytes('ids', 'y'), x.bytes('y')],
  gather: (x) => [x.bytes('index', 'y'), x.bytes('y')],
  indexSelect: (x) => [x.bytes('index', 'y'), x.bytes('y')],
  scatter_: (x) => [x.bytes('index', 'src'), x.bytes('src')],
  scatterAdd_: (x) => [x.bytes('index', 'src', 'src'), x.bytes('src')],
  indexAdd_: (x) => [x.bytes('index', 'src', 'src'), x.bytes('src')],
  // Lengths say how many pages are read.
  pagedAttention: () => undefined,
};

const sumOf = (kind: StoredKind, which: 'read' | 'written'): number =>
  [...kind.inputs, ...kind.outputs].reduce((sum, tensor) => sum + tensor[which] * tensor.bytes, 0);

/** @param visible how many scores are seen in all, where a mask says that */
export function costOf(kind: StoredKind, visible: number | undefined): Cost {
  const x = new Tensors(kind);
  const { name } = kind;
  const own = bytesOf[name];
  const [bytesRead, bytesWritten] = own ? (own(x) ?? []) : [sumOf(kind, 'read'), sumOf(kind, 'written')];
  const code = kind.inputs[0]?.dtype;
  const dtype = name === 'quantizedLinear' ? 'quantized' : code === undefined ? undefined : dtypeNames[code];
  return { bytesRead, bytesWritten, flops: flopsOf[name]?.(x, visible), dtype };
}

/** A call's tensors in a few characters: `[2,3] float32, [3,4] → [2,4]`. */
export function shapesOf({ inputs, outputs }: StoredKind): string {
  const most = 6;
  const list = (tensors: readonly StoredTensor[]): string => {
    const shown = tensors.slice(0, most).map(({ shape }) => `[${shape.join(',')}]`);
    return tensors.length > most ? `${shown.join(' ')} and ${tensors.length - most} more` : shown.join(' ');
  };
  const type = inputs[0] ?? outputs[0];
  return `${type ? `${dtypeNames[type.dtype]} ` : ''}${list(inputs)} → ${list(outputs)}`;
}
