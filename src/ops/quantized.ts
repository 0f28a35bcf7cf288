/**
 * Quantised weights: the block formats of GGUF files, and int8.
 *
 *   type   k of a block   bits per weight   weight
 *   q8_0   32             8.5               d q, q of 8 bits
 *   q4_0   32             4.5               d q, q of 4 bits
 *   q4_K   256            4.5               d scale q - dmin min, scale and min of 6 bits for every 32 k
 *   q6_K   256            6.6               d scale q, q of 6 bits, scale of 8 bits for every 16 k
 *   int8   any            8                 d q, d for a whole output channel
 *
 * A product quantises its other operand, too, row by row as it runs: to int8, with a scale for every 32 k (q8_0, q4_0),
 * for every 256 (q4_K, q6_K) or for the row (int8). It sums integers over what shares its scales (int8: over all of k),
 * and the rest in float32. A row of x in which a value is NaN or infinite gives a row of NaN. The integers are the same
 * on every device.
 */
import { FoveaError } from '../errors.js';
import { record } from '../autograd/node.js';
import { argumentError, countArg, dtypeArg, shapeError } from '../tensor/check.js';
import { deviceArg, type Device } from '../tensor/device.js';
import { Code, dtypeNames, isFloat, type Dtype } from '../tensor/dtype.js';
import { sizeOf } from '../tensor/layout.js';
import { isTensor, slotOf, type Tensor } from '../tensor/tensor.js';
import { sumOver } from './broadcast.js';
import { castTo, moveTo } from './cast.js';
import { tensor } from './creation.js';
import { kernels } from './kernels.gen.js';
import { matmul } from './matmul.js';
import { narrow, reshape } from './shape.js';

/** What `quantize` makes. */
export type QuantType = 'q8_0' | 'q4_0' | 'q4_K' | 'q6_K' | 'int8';
/** Those of them that GGUF files hold. */
export type GgufQuantType = Exclude<QuantType, 'int8'>;

/**
 * Sizes in bytes: of a block of one row in a file, of a packed block of 16 rows, and of what is packed before all
 * blocks.
 */
interface Format {
  readonly code: number;
  readonly block: number;
  readonly fileBytes: number;
  readonly packedBytes: number;
  readonly header: number;
}
const CHANNELS = 16;
const formats: ReadonlyMap<unknown, Format> = new Map<QuantType, Format>([
  ['q8_0', { code: 0, block: 32, fileBytes: 34, packedBytes: 544, header: 0 }],
  ['q4_0', { code: 1, block: 32, fileBytes: 18, packedBytes: 288, header: 0 }],
  ['q4_K', { code: 2, block: 256, fileBytes: 144, packedBytes: 2368, header: 0 }],
  ['q6_K', { code: 3, block: 256, fileBytes: 210, packedBytes: 3360, header: 0 }],
  ['int8', { code: 4, block: 32, fileBytes: 0, packedBytes: 512, header: 64 }],
]);
/** Beyond these, sums of int8 leave 32 bits, and sizes what a double holds exactly. */
const MAX_INT8_K = 133_143;
const MAX_SIDE = 2 ** 31 - 1;

/** @throws FOVEA_ARGUMENT for what is no type */
function formatArg(op: string, type: unknown): Format {
  const format = formats.get(type);
  if (!format) throw argumentError(op, 'type', `one of ${[...formats.keys()].join(', ')}`, type);
  return format;
}

function packedSize(format: Format, n: number, k: number): number {
  return Math.ceil(n / CHANNELS) * (format.header + Math.ceil(k / format.block) * format.packedBytes);
}

/** @throws FOVEA_SHAPE or FOVEA_UNSUPPORTED unless a matrix of that shape can be of that type */
function checkShape(op: string, type: QuantType, { block }: Format, n: number, k: number): void {
  if (type !== 'int8' && k % block !== 0)
    throw shapeError(
      op,
      `${type} needs a weight whose last axis is a multiple of ${block}, received [${n},${k}]; use int8, which takes any`,
    );
  if (type === 'int8' && k > MAX_INT8_K)
    throw new FoveaError(
      'FOVEA_UNSUPPORTED',
      `${op}: int8 sums at most ${MAX_INT8_K} products in 32 bits, received a weight [${n},${k}]; use q8_0`,
    );
  if (n > MAX_SIDE || k > MAX_SIDE)
    throw shapeError(op, `expected sizes of at most ${MAX_SIDE}, received a weight [${n},${k}]`);
}

/**
 * A weight [n, k], n output channels, in a quantised type. It is immutable, owns its memory and is freed as tensors
 * are: by `dispose()`, `using`, the end of the `tidy` around, or the garbage collector.
 */
export class QuantizedTensor implements Disposable {
  /** How the weights are stored. */
  readonly type: QuantType;
  /** [n, k] */
  readonly shape: readonly [n: number, k: number];
  /**
   * The blocks as kernels read them: uint8, laid out as native/ops/quantized/layout.h says.
   *
   * @internal
   */
  readonly packed: Tensor;

  /** Use `quantize` or {@link fromGguf}. @throws FOVEA_SHAPE unless `packed` has the size of such a weight */
  constructor(packed: Tensor, type: QuantType, shape: readonly [number, number]) {
    const format = formatArg('QuantizedTensor', type);
    const [n, k] = sidesArg('QuantizedTensor', shape);
    checkShape('QuantizedTensor', type, format, n, k);
    const slot = slotOf(packed, 'QuantizedTensor', 'packed');
    if (slot.dtype !== Code.uint8 || slot.shape.length !== 1 || slot.shape[0] !== packedSize(format, n, k))
      throw shapeError(
        'QuantizedTensor',
        `${type} [${n},${k}] needs uint8 [${packedSize(format, n, k)}] for packed, received ${packed.dtype} [${slot.shape.join(',')}]; use quantize()`,
      );
    this.packed = packed;
    this.type = type;
    this.shape = Object.freeze([n, k] as const);
  }

  /**
   * Takes over a tensor of a GGUF file, bit for bit; the bytes are copied at the call.
   *
   * @param bytes the blocks of all rows, one row after the other: a Uint8Array, or a uint8 tensor [size], on
   *   whose device the weight will be
   * @param type the tensor's type in the file
   * @param shape [n, k], the file's dimensions reversed
   * @throws FOVEA_SHAPE unless k is a multiple of the type's block, FOVEA_FILE_FORMAT unless there are exactly as many
   *   bytes as type and shape need, FOVEA_ARGUMENT for an unknown type
   */
  static fromGguf(bytes: Uint8Array | Tensor, type: GgufQuantType, shape: readonly [number, number]): QuantizedTensor {
    const op = 'QuantizedTensor.fromGguf';
    const format = formatArg(op, type);
    if (format.fileBytes === 0) throw argumentError(op, 'type', 'one of q8_0, q4_0, q4_K, q6_K', type);
    const [n, k] = sidesArg(op, shape);
    checkShape(op, type, format, n, k);
    const given = isTensor(bytes);
    if (!given && Object.prototype.toString.call(bytes) !== '[object Uint8Array]')
      throw argumentError(op, 'bytes', 'a Uint8Array or a uint8 tensor', bytes);
    if (given && bytes.dtype !== 'uint8') throw argumentError(op, 'bytes', 'a uint8 tensor', bytes.dtype);
    const received = given ? bytes.size : bytes.length;
    const expected = n * (k / format.block) * format.fileBytes;
    if (received !== expected)
      throw new FoveaError(
        'FOVEA_FILE_FORMAT',
        `${op}: ${type} [${n},${k}] has ${expected} bytes, received ${received}; check the tensor's type and shape`,
      );
    const file = given ? reshape(bytes, [received]) : tensor(bytes, { dtype: 'uint8' });
    const { packed } = kernels.packQuantized({ x: file }, { type: format.code, n, k, size: packedSize(format, n, k) });
    file.dispose();
    return new QuantizedTensor(packed, type, [n, k]);
  }

  /** Bytes of memory that the weight takes. */
  get byteLength(): number {
    const [n, k] = this.shape;
    return packedSize(formatArg('QuantizedTensor', this.type), n, k);
  }
  /** Where the blocks are: 'cpu' or 'cuda:0', … */
  get device(): string {
    return this.packed.device;
  }
  /** Whether `dispose()` was called. */
  get isDisposed(): boolean {
    return this.packed.isDisposed;
  }

  /**
   * The weights as floats: exactly the numbers that the blocks stand for, rounded once to float32 and once to a
   * narrower dtype.
   *
   * @param dtype default float32
   * @returns [n, k] on this device, without gradient
   * @throws FOVEA_DTYPE for integers and bool
   */
  dequantize(dtype: Dtype = 'float32'): Tensor {
    slotOf(this.packed, 'dequantize', 'this tensor');
    if (!isFloat(dtypeArg('dequantize', dtype)))
      throw new FoveaError('FOVEA_DTYPE', `dequantize: expected a floating-point dtype, received ${dtype}`);
    const [n, k] = this.shape;
    return kernels.dequantize({ packed: this.packed }, { type: formatArg('dequantize', this.type).code, n, k, dtype })
      .w;
  }

  /**
   * Some of the rows as a weight of their own, which lies in the same memory.
   *
   * @internal
   * @param start from 0 @param length up to the end at most
   * @returns undefined unless the tiles of 16 rows that they are packed in begin and end with them
   */
  rows(start: number, length: number): QuantizedTensor | undefined {
    const [n, k] = this.shape;
    const end = start + length;
    if (start % CHANNELS !== 0 || (end % CHANNELS !== 0 && end !== n)) return undefined;
    const format = formatArg('rows', this.type);
    const packed = narrow(this.packed, 0, packedSize(format, start, k), packedSize(format, length, k));
    return new QuantizedTensor(packed, this.type, [length, k]);
  }

  /**
   * The weight on a device, as it is: nothing is rounded anew.
   *
   * @returns this very weight where it is there already, else a copy
   * @throws FOVEA_DEVICE for a device that is not there, FOVEA_ARGUMENT for what is no device
   */
  to(device: Device): QuantizedTensor {
    slotOf(this.packed, 'to', 'this tensor');
    // What is left out would mean the CPU elsewhere.
    const packed = moveTo(this.packed, deviceArg('to', device ?? null));
    return packed === this.packed ? this : new QuantizedTensor(packed, this.type, this.shape);
  }

  /**
   * The blocks as a GGUF file holds them: of a tensor from such a file, the same bytes.
   *
   * @throws FOVEA_UNSUPPORTED for int8, which GGUF does not have
   */
  async toGguf(): Promise<Uint8Array> {
    const file = this.#file();
    const bytes = file.data<Uint8Array>();
    file.dispose();
    return bytes;
  }
  /** Like `toGguf()`, but blocks until the bytes are there. */
  toGgufSync(): Uint8Array {
    const file = this.#file();
    const bytes = file.dataSync<Uint8Array>();
    file.dispose();
    return bytes;
  }
  #file(): Tensor {
    const { code, fileBytes, block } = formatArg('toGguf', this.type);
    slotOf(this.packed, 'toGguf', 'this tensor');
    if (fileBytes === 0)
      throw new FoveaError('FOVEA_UNSUPPORTED', 'toGguf: GGUF has no int8 per channel; quantize to q8_0 instead');
    const [n, k] = this.shape;
    const size = n * (k / block) * fileBytes;
    return kernels.unpackQuantized({ packed: this.packed }, { type: code, n, k, size }).x;
  }

  /** Frees the memory as soon as queued ops have used it. Twice is fine. */
  dispose(): void {
    this.packed.dispose();
  }
  /** What `using` calls: `dispose()`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
  /** Type and shape. */
  toString(): string {
    return `QuantizedTensor ${this.type} [${this.shape.join(', ')}]${this.isDisposed ? ' (disposed)' : ''}`;
  }
}

function sidesArg(op: string, shape: unknown): [number, number] {
  if (!Array.isArray(shape) || shape.length !== 2) throw argumentError(op, 'shape', 'sizes [n, k]', shape);
  return [countArg(op, 'shape[0]', shape[0]), countArg(op, 'shape[1]', shape[1])];
}

/**
 * Quantises a weight. q8_0 and q4_0 give the bits of ggml's reference; q4_K and q6_K search, for each sub-block, the
 * scale (and minimum) of least squared error; int8 is symmetric, with a scale for each of the n output channels. A
 * block (int8: a channel) with a NaN or an infinity becomes NaN.
 *
 * @param weight [n, k], floats; k a multiple of 32 (q8_0, q4_0) or 256 (q4_K, q6_K), any for int8
 * @returns the quantised weight, on the same device and outside of the graph
 * @throws FOVEA_SHAPE for other shapes, FOVEA_DTYPE for integers and bool, FOVEA_ARGUMENT for an unknown type,
 *   FOVEA_UNSUPPORTED for int8 of more than 133,143 columns
 */
export function quantize(weight: Tensor, type: QuantType): QuantizedTensor {
  const { shape, dtype } = slotOf(weight, 'quantize', 'weight');
  const format = formatArg('quantize', type);
  if (shape.length !== 2) throw shapeError('quantize', `expected a weight [n,k], received [${shape.join(',')}]`);
  if (!isFloat(dtype))
    throw new FoveaError(
      'FOVEA_DTYPE',
      `quantize: expected floats for weight, received ${dtypeNames[dtype]}; convert it with .to('float32')`,
    );
  const [n, k] = shape as readonly [number, number];
  checkShape('quantize', type, format, n, k);
  const { packed } = kernels.quantize({ w: weight }, { type: format.code, size: packedSize(format, n, k) });
  return new QuantizedTensor(packed, type, [n, k]);
}

/**
 * y = x weight^T + bias for a quantised weight, over the last axis of `x`; what `linear` calls. The gradient goes to
 * `x` and the bias, not to the weight: dx = dy weight, through the dequantised weight, which exists while that product
 * runs.
 *
 * @param x [..., k]; float32, float16 or bfloat16
 * @param weight [n, k]
 * @param bias [n], converted to the dtype of `x`
 * @returns [..., n] in the dtype of `x`; NaN in rows where `x` is not finite
 * @throws FOVEA_SHAPE if the sizes do not fit, FOVEA_DTYPE for another dtype of `x`, FOVEA_ARGUMENT for a weight that
 *   is not quantised, FOVEA_DEVICE unless all three are on one device
 */
export function quantizedLinear(x: Tensor, weight: QuantizedTensor, bias?: Tensor | null): Tensor {
  const op = 'quantizedLinear';
  const { shape, dtype } = slotOf(x, op, 'x');
  if (!(weight instanceof QuantizedTensor))
    throw argumentError(op, 'weight', 'a QuantizedTensor', weight, 'make one with quantize()');
  const [n, k] = weight.shape;
  if (shape.length === 0 || shape.at(-1) !== k)
    throw shapeError(op, `x [${shape.join(',')}] needs a weight [n,${shape.at(-1) ?? 1}], received [${n},${k}]`);
  if (bias && (slotOf(bias, op, 'bias').shape.length !== 1 || bias.shape[0] !== n))
    throw shapeError(op, `the weight [${n},${k}] needs a bias [${n}], received [${bias.shape.join(',')}]`);
  if (dtype !== Code.float32 && dtype !== Code.float16 && dtype !== Code.bfloat16)
    throw new FoveaError(
      'FOVEA_DTYPE',
      `${op}: expected float32, float16 or bfloat16 for x, received ${dtypeNames[dtype]}; convert it with .to('float32')`,
    );
  const rows = reshape(x, [sizeOf(shape.slice(0, -1)), k]);
  const y = multiply(rows, weight, bias ? castTo(bias, dtype) : undefined);
  return shape.length === 2 ? y : reshape(y, [...shape.slice(0, -1), n]);
}

function multiply(x: Tensor, { packed, type, shape }: QuantizedTensor, bias: Tensor | undefined): Tensor {
  const [n, k] = shape;
  const { code } = formats.get(type)!;
  const { y } = kernels.quantizedLinear({ x, weight: packed, bias }, { type: code, n, k });
  const wanted = [x, bias].map((t) => t?.tracked === true);
  const gradient = (dy: Tensor, [blocks]: readonly Tensor[]): (Tensor | undefined)[] => {
    const w = (): Tensor => kernels.dequantize({ packed: blocks! }, { type: code, n, k, dtype: dy.dtype }).w;
    return [wanted[0] ? matmul(dy, w()) : undefined, wanted[1] ? sumOver(dy, [0]) : undefined];
  };
  return record('quantizedLinear', [x, bias], y, gradient, wanted[0] ? [packed] : []);
}
