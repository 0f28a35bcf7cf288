/**
 * Weights packed once for all products with them. A product first packs its operands into the panels that its kernel
 * reads; a weight's panels stay the same until it changes, so that where no gradient is wanted they are made at the
 * second product with more than a few rows, and kept with the weight: the next write to it, or its end, frees them.
 *
 * A recorded step makes none, which it would make at every replay, but reads those that are there, and is recorded anew
 * when the weight has changed.
 *
 * A packed product gives the bits of one that is not. Products with few rows stream the weight as it lies, which is as
 * fast as memory, and would sum in another order.
 */
import { native } from '../addon.js';
import { capturing } from '../tensor/capture.js';
import { CPU } from '../tensor/device.js';
import { Code } from '../tensor/dtype.js';
import { sameShape } from '../tensor/layout.js';
import { slotOf, type Tensor } from '../tensor/tensor.js';
import { kernels } from './kernels.gen.js';

/** At most as many rows are multiplied without packing (kMaxSkinnyRows of native/ops/matmul/plan.h). */
const STREAMED_ROWS = 8;
/** Elements below which packing costs too little to be spared. */
const LEAST = 1 << 16;
/** Sides are packed in multiples of this. */
const QUANTUM = 32;
/** Instruction sets whose packed bfloat16 takes no more room than bfloat16. */
const packsBfloat16: ReadonlySet<string> = new Set(['avx512bf16', 'amx', 'neonbf16']);

let isa: string | undefined;
function packs(dtype: number): boolean {
  if (dtype === Code.float32) return true;
  return dtype === Code.bfloat16 && packsBfloat16.has((isa ??= native.info().isa));
}

const padded = (side: number): number => Math.ceil(side / QUANTUM) * QUANTUM;

/** Packed weights may fill memory up to half of its limit, together with all else. */
function hasRoom(bytes: number): boolean {
  const { liveBytes, limitBytes } = native.memory(CPU);
  return liveBytes + bytes <= limitBytes / 2;
}

/**
 * The panels of a weight.
 *
 * @param weight what the user holds, of any layout; no gradient is wanted of the product
 * @param b the same numbers as [k, n]
 * @param rows of the product's other operand
 * @returns for `packed` of the kernel matmul; undefined where the product does better without, or is the first
 */
export function packedWeight(weight: Tensor, b: Tensor, rows: number): Tensor | undefined {
  const slot = slotOf(weight, 'linear', 'weight');
  if (rows <= STREAMED_ROWS || slot.device !== CPU || !packs(slot.dtype)) return undefined;
  const [k, n] = b.shape as [number, number];
  if (k * n < LEAST) return undefined;
  const version = slot.sharedVersion();
  const { leftThread, count } = version;
  if (leftThread) return undefined;
  const known = slot.packed;
  const { shape, strides } = b;
  if (known?.count !== count || !sameShape(known.shape, shape) || !sameShape(known.strides, strides)) {
    slot.unpack(); // written to through another view, or multiplied as the other side
    slot.packed = { count, shape, strides, made: null };
    return undefined;
  }
  if (known.made) {
    capturing?.derived.set(version, count);
    return known.made as Tensor;
  }
  if (capturing !== null) return undefined;
  const packed = panels(b);
  if (packed === undefined) return undefined;
  packed.kept = true;
  slot.packed = { count, shape, strides, made: packed };
  return packed;
}

/** The panels of b [k, n], unless they would take too much of the memory. */
function panels(b: Tensor): Tensor | undefined {
  const [k, n] = b.shape as [number, number];
  const size = padded(k) * padded(n);
  if (!hasRoom(size * (b.slot!.dtype === Code.float32 ? 4 : 2))) return undefined;
  return kernels.matmulPack({ b }, { size }).packed;
}

/**
 * The panels of a matrix for several products in a row; whoever asks frees them.
 *
 * @param b [k, n], which does not change meanwhile
 * @param rows of the products' other operands
 * @returns for `packed` of the kernel matmul, by rows; undefined where a product does better without
 */
export function packedFor(b: Tensor, rows: readonly number[]): (rows: number) => Tensor | undefined {
  const { device, dtype } = slotOf(b, 'matmul', 'b');
  const [k, n] = b.shape as [number, number];
  const gains = device === CPU && packs(dtype) && k * n >= LEAST;
  const packed = gains && rows.filter((count) => count > STREAMED_ROWS).length > 1 ? panels(b) : undefined;
  return (count) => (count > STREAMED_ROWS ? packed : undefined);
}
