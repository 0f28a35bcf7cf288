/** New tensors: from host data, of constants, of sequences. */
import { FoveaError } from '../errors.js';
import { argumentError, countArg, dtypeOr, numberArg, optionsArg, shapeArg, shapeError } from '../tensor/check.js';
import { CPU, deviceArg, type Device } from '../tensor/device.js';
import { Code, dtypeNames, type Dtype } from '../tensor/dtype.js';
import { sizeOf, type Shape } from '../tensor/layout.js';
import { allocate, transfer, upload } from '../tensor/storage.js';
import { isTensor, slotOf, type Nested, type Tensor } from '../tensor/tensor.js';
import { castTo } from './cast.js';
import { kernels } from './kernels.gen.js';
import { slice } from './shape.js';

/** Options of everything that makes a tensor. */
export interface TensorOptions {
  /** Default: float32, or what the data says. */
  dtype?: Dtype;
  /** Where the values lie; default: 'cpu'. */
  device?: Device;
  /** Whether ops on the result are recorded. */
  requiresGrad?: boolean;
}
/** Options of `tensor`. */
export interface FromDataOptions extends TensorOptions {
  /** Of flat data; default: the length of the data, or the nesting of its arrays. */
  shape?: Shape;
}
/** What `tensor` takes. Uint16Array are the bits of 'float16' or 'bfloat16', which must then be named. */
export type TensorData = Nested | readonly Nested[] | readonly TensorData[] | ArrayBufferView;

const optionNames = ['dtype', 'device', 'requiresGrad'] as const;

/**
 * Checks the common options.
 *
 * @returns the dtype's code and the device's number
 * @throws FOVEA_DEVICE for a device that is not there, FOVEA_ARGUMENT for a dtype that is none
 */
export function placement(
  op: string,
  options: TensorOptions,
  otherwise: number = Code.float32,
): { code: number; device: number } {
  return { device: deviceArg(op, options.device), code: dtypeOr(op, options.dtype, otherwise) };
}
/**
 * A tensor of undefined contents as the options say.
 *
 * @returns a tensor of `shape`
 * @throws as `placement`, and FOVEA_ARGUMENT for what is no shape
 */
export function allocated(op: string, shape: Shape, options: TensorOptions, otherwise?: number): Tensor {
  const { code, device } = placement(op, options, otherwise);
  return allocate(shapeArg(op, shape), code, device);
}
/**
 * Marks a new tensor as the options say.
 *
 * @returns `x`
 * @throws FOVEA_DTYPE for `requiresGrad` on integers or bool
 */
export function asAsked(x: Tensor, { requiresGrad = false }: TensorOptions): Tensor {
  return requiresGrad ? x.requiresGrad_(true) : x;
}

/** The dtypes whose elements a typed array holds: the first stands where no dtype is given. */
function dtypesOf(data: ArrayBufferView): readonly number[] {
  switch (Object.prototype.toString.call(data).slice(8, -1)) {
    case 'Float32Array':
      return [Code.float32];
    case 'Float64Array':
      return [Code.float64];
    case 'Float16Array':
      return [Code.float16];
    case 'Int32Array':
      return [Code.int32];
    case 'BigInt64Array':
      return [Code.int64];
    case 'Uint8Array':
    case 'Uint8ClampedArray':
      return [Code.uint8, Code.bool];
    case 'Int8Array':
      return [Code.int8];
    case 'Uint16Array':
      return [Code.float16, Code.bfloat16];
    default:
      return [];
  }
}

/**
 * A tensor with a copy of `data`.
 *
 * @param data a number, boolean or bigint; nested arrays of them; or a typed array. Numbers give float32, booleans
 *   bool, bigints int64, typed arrays their own type
 * @param options `shape` of flat data, `dtype` to convert to, `device`, `requiresGrad`
 * @returns the shape asked for, or that of the nesting; [length] for a typed array
 * @throws FOVEA_SHAPE for ragged arrays or a shape of another size; FOVEA_ARGUMENT for anything else that is no number
 */
export function tensor(data: TensorData, options?: FromDataOptions): Tensor {
  const given = optionsArg('tensor', options, ['shape', ...optionNames]);
  const device = deviceArg('tensor', given.device);
  if (isTensor(data)) throw argumentError('tensor', 'data', 'host data', 'a Tensor', 'use clone() or detach()');
  const x = ArrayBuffer.isView(data) ? fromTypedArray(data, given) : fromNested(data, given);
  return asAsked(device === CPU ? x : moved(x, device), given);
}

function moved(x: Tensor, device: number): Tensor {
  const y = transfer(x, device);
  x.dispose();
  return y;
}

function shapeFor(length: number, natural: Shape, wanted: Shape | undefined): Shape {
  const shape = wanted === undefined ? natural : shapeArg('tensor', wanted);
  if (sizeOf(shape) !== length)
    throw shapeError(
      'tensor',
      `expected ${sizeOf(shape)} elements for the shape [${shape.join(',')}], received ${length}`,
    );
  return shape;
}

function fromTypedArray(data: ArrayBufferView, options: FromDataOptions): Tensor {
  const length = (data as ArrayBufferView & { length?: number }).length;
  const kinds = dtypesOf(data);
  const wanted = options.dtype === undefined ? undefined : dtypeOr('tensor', options.dtype, 0);
  if (data instanceof Uint16Array && (wanted === undefined || !kinds.includes(wanted)))
    throw argumentError(
      'tensor',
      'dtype',
      "'float16' or 'bfloat16' beside a Uint16Array, which holds their bits",
      options.dtype ?? 'none',
    );
  if (kinds.length === 0 || length === undefined)
    throw argumentError(
      'tensor',
      'data',
      'a typed array of a type that fovea has',
      data,
      'convert it to a Float32Array, Int32Array or BigInt64Array',
    );
  const kind = wanted !== undefined && kinds.includes(wanted) && wanted !== Code.bool ? wanted : kinds[0]!;
  const x = upload(data, shapeFor(length, [length], options.shape), kind);
  return wanted === undefined || wanted === kind ? x : converted(x, wanted);
}

function converted(x: Tensor, code: number): Tensor {
  if (code === x.slot!.dtype) return x;
  const y = castTo(x, code);
  x.dispose();
  return y;
}

/** The shape that nested arrays span, by their first elements. */
function spanOf(data: unknown): number[] {
  const shape: number[] = [];
  for (let at = data; Array.isArray(at); at = at[0] as unknown) {
    shape.push(at.length);
    if (shape.length > 8) throw shapeError('tensor', 'arrays are nested more than 8 deep');
    if (at.length === 0) break;
  }
  return shape;
}

function flattenInto(data: unknown, shape: Shape, axis: number, out: unknown[]): void {
  if (axis === shape.length) {
    if (Array.isArray(data))
      throw shapeError('tensor', `the nested arrays are ragged: expected a number ${axis} deep, received an array`);
    out.push(data);
    return;
  }
  if (!Array.isArray(data) || data.length !== shape[axis])
    throw shapeError(
      'tensor',
      `the nested arrays are ragged: expected ${shape[axis]} elements along axis ${axis}, received ${Array.isArray(data) ? data.length : typeof data}`,
    );
  for (const element of data as readonly unknown[]) flattenInto(element, shape, axis + 1, out);
}

function flattened(data: unknown, shape: Shape): readonly unknown[] {
  const out: unknown[] = [];
  flattenInto(data, shape, 0, out);
  return out;
}

function fromNested(data: unknown, options: FromDataOptions): Tensor {
  const span = spanOf(data);
  const flat = span.length === 1 ? (data as readonly unknown[]) : flattened(data, span);
  const kind = typeof (flat[0] ?? 0);
  for (const value of flat)
    if (typeof value !== kind)
      throw argumentError(
        'tensor',
        'data',
        flat.length ? `elements of one type, as the first, a ${kind}` : 'numbers',
        value,
      );
  const shape = shapeFor(flat.length, span, options.shape);
  if (kind === 'number')
    return fromNumbers(flat as readonly number[], shape, dtypeOr('tensor', options.dtype, Code.float32));
  if (kind === 'boolean')
    return converted(
      upload(Uint8Array.from(flat as readonly boolean[], Number), shape, Code.bool),
      dtypeOr('tensor', options.dtype, Code.bool),
    );
  if (kind === 'bigint')
    return converted(
      upload(BigInt64Array.from(flat as readonly bigint[]), shape, Code.int64),
      dtypeOr('tensor', options.dtype, Code.int64),
    );
  throw argumentError(
    'tensor',
    'data',
    'numbers, booleans, bigints, nested arrays of them, or a typed array',
    flat.length === 1 ? flat[0] : data,
  );
}

/** float64 holds every number on its way to any other dtype. */
function fromNumbers(values: readonly number[], shape: Shape, code: number): Tensor {
  if (code === Code.float32) return upload(Float32Array.from(values), shape, code);
  return converted(upload(Float64Array.from(values), shape, Code.float64), code);
}

/**
 * A tensor of undefined contents, float32 unless a dtype is given.
 *
 * @returns a tensor of `shape`
 * @throws FOVEA_ARGUMENT for what is no list of at most 8 sizes, FOVEA_OUT_OF_MEMORY beyond the memory limit
 */
export function empty(shape: Shape, options?: TensorOptions): Tensor {
  const given = optionsArg('empty', options, optionNames);
  return asAsked(allocated('empty', shape, given), given);
}

/**
 * Shared by the constants below.
 *
 * @param code the dtype's code
 * @param device the device's number
 * @returns a tensor of `shape`
 * @throws FOVEA_ARGUMENT for what is no shape
 */
export function filled(op: string, shape: Shape, value: number, code: number, device: number): Tensor {
  const x = allocate(shapeArg(op, shape), code, device);
  kernels.fill_({ x }, { value });
  return x;
}
function filledAsAsked(op: string, shape: Shape, value: number, options: TensorOptions, otherwise?: number): Tensor {
  const x = allocated(op, shape, options, otherwise);
  kernels.fill_({ x }, { value });
  return asAsked(x, options);
}

/**
 * A tensor of zeros, float32 unless a dtype is given.
 *
 * @returns a tensor of `shape`
 * @throws FOVEA_ARGUMENT for what is no list of at most 8 sizes, FOVEA_OUT_OF_MEMORY beyond the memory limit
 */
export function zeros(shape: Shape, options?: TensorOptions): Tensor {
  const given = optionsArg('zeros', options, optionNames);
  return filledAsAsked('zeros', shape, 0, given);
}
/**
 * A tensor of ones, float32 unless a dtype is given.
 *
 * @returns a tensor of `shape`
 * @throws FOVEA_ARGUMENT for what is no list of at most 8 sizes, FOVEA_OUT_OF_MEMORY beyond the memory limit
 */
export function ones(shape: Shape, options?: TensorOptions): Tensor {
  const given = optionsArg('ones', options, optionNames);
  return filledAsAsked('ones', shape, 1, given);
}
/**
 * A tensor of one value: float32 for a number, bool for a boolean, unless a dtype is given.
 *
 * @returns a tensor of `shape`
 * @throws FOVEA_ARGUMENT for what is no shape or value, FOVEA_OUT_OF_MEMORY beyond the memory limit
 */
export function full(shape: Shape, value: number | boolean, options?: TensorOptions): Tensor {
  const given = optionsArg('full', options, optionNames);
  if (typeof value === 'boolean') return filledAsAsked('full', shape, value ? 1 : 0, given, Code.bool);
  return filledAsAsked('full', shape, numberArg('full', 'value', value), given);
}

/**
 * A tensor of undefined contents with the shape (and, unless given, the dtype and device) of `x`.
 *
 * @throws FOVEA_OUT_OF_MEMORY beyond the memory limit
 */
export function emptyLike(x: Tensor, options?: TensorOptions): Tensor {
  return empty(slotOf(x, 'emptyLike', 'x').shape, { dtype: x.dtype, device: x.device, ...options });
}
/**
 * Zeros with the shape (and, unless given, the dtype and device) of `x`.
 *
 * @throws FOVEA_OUT_OF_MEMORY beyond the memory limit
 */
export function zerosLike(x: Tensor, options?: TensorOptions): Tensor {
  return zeros(slotOf(x, 'zerosLike', 'x').shape, { dtype: x.dtype, device: x.device, ...options });
}
/**
 * Ones with the shape (and, unless given, the dtype and device) of `x`.
 *
 * @throws FOVEA_OUT_OF_MEMORY beyond the memory limit
 */
export function onesLike(x: Tensor, options?: TensorOptions): Tensor {
  return ones(slotOf(x, 'onesLike', 'x').shape, { dtype: x.dtype, device: x.device, ...options });
}
/**
 * One value with the shape (and, unless given, the dtype and device) of `x`.
 *
 * @throws FOVEA_ARGUMENT for what is neither number nor boolean, FOVEA_OUT_OF_MEMORY beyond the memory limit
 */
export function fullLike(x: Tensor, value: number | boolean, options?: TensorOptions): Tensor {
  return full(slotOf(x, 'fullLike', 'x').shape, value, { dtype: x.dtype, device: x.device, ...options });
}

function sequence(
  start: number,
  step: number,
  count: number,
  { code, device }: { code: number; device: number },
): Tensor {
  const isBool = code === Code.bool;
  const x = allocate([count], isBool ? Code.int32 : code, device);
  kernels.arange_({ x }, { start, step });
  return isBool ? converted(x, code) : x;
}

/**
 * start, start + step, … up to but without `end`. One number alone is the end, and the start is 0. Whole numbers give
 * int64, others float32, unless a dtype is given.
 *
 * @returns [ceil((end - start) / step)]
 * @throws FOVEA_ARGUMENT for numbers that are not finite, or a step that does not lead from start to end
 */
export function arange(end: number, options?: TensorOptions): Tensor;
export function arange(start: number, end: number, step?: number, options?: TensorOptions): Tensor;
export function arange(start: number, end?: number | TensorOptions, step = 1, options?: TensorOptions): Tensor {
  if (typeof end !== 'number') return arange(0, start, 1, end);
  const given = optionsArg('arange', options, optionNames);
  for (const [name, value] of [
    ['start', start],
    ['end', end],
    ['step', step],
  ] as const)
    if (!Number.isFinite(numberArg('arange', name, value)))
      throw argumentError('arange', name, 'a finite number', value);
  if (step === 0 || (end - start) / step < 0)
    throw argumentError('arange', 'step', `a step that leads from ${start} to ${end}`, step);
  const whole = [start, end, step].every(Number.isInteger);
  const place = placement('arange', given, whole ? Code.int64 : Code.float32);
  return asAsked(sequence(start, step, Math.ceil((end - start) / step), place), given);
}

/**
 * `steps` numbers from `start` to `end`, both included, at equal distances; float32 unless a dtype is given.
 *
 * @returns [steps]
 * @throws FOVEA_ARGUMENT for a negative or fractional number of steps
 */
export function linspace(start: number, end: number, steps: number, options?: TensorOptions): Tensor {
  const given = optionsArg('linspace', options, optionNames);
  const count = countArg('linspace', 'steps', steps);
  numberArg('linspace', 'start', start);
  numberArg('linspace', 'end', end);
  const x = sequence(start, count > 1 ? (end - start) / (count - 1) : 0, count, placement('linspace', given));
  // start + (steps - 1) step may miss the end by a rounding error
  if (count > 1) kernels.fill_({ x: slice(x, 0, count - 1) }, { value: end });
  return asAsked(x, given);
}

/**
 * The n x n identity, or n x m with ones on the main diagonal; float32 unless a dtype is given.
 *
 * @returns [n, m]
 * @throws FOVEA_ARGUMENT for negative or fractional sizes
 */
export function eye(n: number, m?: number, options?: TensorOptions): Tensor {
  const given = optionsArg('eye', options, optionNames);
  const { code, device } = placement('eye', given);
  const shape = [countArg('eye', 'n', n), countArg('eye', 'm', m ?? n)];
  const lower = kernels.triangle({ x: filled('eye', shape, 1, code, device) }, { diagonal: 0, upper: false }).y;
  return asAsked(kernels.triangle({ x: lower }, { diagonal: 0, upper: true }).y, given);
}

/**
 * Internal: the seed of backward and other constants that lower rooms need.
 *
 * @returns a tensor of `shape`
 * @throws FOVEA_INTERNAL for a dtype that is none
 */
export function constant(shape: Shape, value: number, dtype: Dtype, device: number): Tensor {
  const code = dtypeNames.indexOf(dtype);
  if (code < 0) throw new FoveaError('FOVEA_INTERNAL', `constant: unknown dtype ${dtype}`);
  return filled('full', shape, value, code, device);
}
