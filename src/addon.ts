/**
 * Finds and loads the native half, once per JavaScript environment, and types its functions.
 *
 * Looked for in this order: the file that FOVEA_BINARY names (nothing else, if it is set), the platform package
 * `@fovea/<platform>-<arch>`, a build from source in `build/Release`.
 */
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { errorCodes, FoveaError, type FoveaErrorCode } from './errors.js';

/** Memory of the process as the native side counts it, in bytes unless the name says otherwise. */
export interface NativeMemory {
  /** Handles in use, a count. */
  liveTensors: number;
  /** In tensors that are alive. */
  liveBytes: number;
  /** Held by the allocator: live blocks and cached ones. */
  reservedBytes: number;
  /** The most that was live at once. */
  peakBytes: number;
  /** Of mapped files. */
  mappedBytes: number;
  /** Passes over the table of handles, a count. */
  sweeps: number;
  /** Handles whose owner had been collected, a count. */
  swept: number;
  /** The cap. */
  limitBytes: number;
}

/** A GPU, as the plugin describes it. */
export interface NativeGpu {
  /** What its maker calls it. */
  name: string;
  /** Compute capability times ten: 90 for 9.0. */
  capability: number;
  /** A count. */
  multiprocessors: number;
  /** Bytes. */
  memory: number;
}

/** What the binary is and where it runs. */
export interface NativeInfo {
  /** Of the package that it was built from. */
  version: string;
  /** The instruction set in use, and those that this binary has and this processor can run. */
  isa: string;
  isas: string[];
  /** Threads that run kernels. */
  threads: number;
  /** What the processor says it has. */
  cpuFeatures: string[];
  /** Of memory and tables: names with numbers. */
  limits: Record<string, number>;
}

/**
 * The functions of fovea.node. A handle is a positive integer, 0 meaning "no tensor"; an owner is the object whose
 * collection frees the handle, `null` for none; dtypes are the codes of native/core/dtype.h; shapes and strides pass
 * through {@link Native.scratch}.
 */
export interface Native {
  /** op number, owners of the outputs, input handles, attributes; gives output 0, further outputs in scratch[1…]. */
  run(op: number, ...args: unknown[]): number;
  /** Like `run` for ops over many tensors: op number, owners, an Int32Array of handles row by row, attributes. */
  runMany(op: number, ...args: unknown[]): number;
  /** A tensor of undefined contents; its shape in scratch. Devices are numbers: 0 is the CPU, n is GPU n - 1. */
  empty(owner: object | null, dtype: number, rank: number, device: number): number;
  /** Copies host data at the call; the shape in scratch. */
  upload(owner: object | null, data: ArrayBufferView, dtype: number, rank: number): number;
  /** A copy on another device. */
  transfer(owner: object | null, handle: number, device: number): number;
  /** Another view of the same storage; shape and strides in scratch, the offset in elements from the view's first. */
  view(owner: object | null, handle: number, rank: number, offset: number): number;
  /** Gives the rank and fills scratch with shape, strides, dtype, device. */
  inspect(handle: number): number;
  free(handle: number): void;
  /** The dense bytes of the view, once the stream has passed. */
  read(handle: number): Promise<ArrayBuffer>;
  /** Like `read`, waiting. */
  readNow(handle: number): ArrayBuffer;
  /** From here to `recordEnd` what is queued is kept, too. Freed with its owner; the id. */
  recordBegin(owner: object | null, inputs: Int32Array): number;
  /** The counters that random ops took: seed, offset, seed, offset, … @throws what was refused meanwhile */
  recordEnd(draws: Float64Array): void;
  recordAbort(): void;
  /**
   * The named attributes of the newest op of that name become numbers that `replay` takes, in the order of these calls.
   */
  recordVary(op: string, ...attributes: string[]): void;
  /**
   * Replays give where along the axis, of `size` positions, the view of the handle starts, or, if it grows, how long it
   * is.
   */
  recordWindow(handle: number, axis: number, start: number, size: number, grows: boolean): void;
  /** What is queued while it pauses happens once, and tensors made then come from outside of the recording. */
  recordPause(paused: boolean): void;
  /** Whether a tensor that the recording took from outside is gone. */
  recordStale(id: number): boolean;
  /** Copies the inputs and queues all again, with other counters and numbers. */
  replay(id: number, inputs: Int32Array, draws: Float64Array, numbers: Float64Array): void;
  recordFree(id: number): void;
  /** Notes up to `most` calls that are queued, and when they run. @throws FOVEA_UNSUPPORTED while another does */
  profileBegin(most: number): void;
  /** What is queued from here on does not count. */
  profileStop(): void;
  /** Stops, waits until all of it has run, and gives it as native/binding/profiling.cc describes. */
  profileTake(): [json: string, calls: Float64Array];
  synchronize(device: number): Promise<void>;
  synchronizeNow(device: number): void;
  memory(device: number): NativeMemory;
  resetPeak(): void;
  setLimit(bytes: number): void;
  /** Gives cached blocks back to the system. */
  trim(): void;
  /** Frees the handles whose owners were collected; how many. */
  sweep(): number;
  /** 64 numbers shared with C++. */
  scratch(): Float64Array;
  /** Copies to storage that the whole process sees; resolves to the token that `adopt` takes. */
  share(handle: number): Promise<number[]>;
  adopt(owner: object | null, token: Float64Array | number[]): number;
  releaseShared(token: Float64Array | number[]): void;
  /** Maps a regular file privately; its id and its length in bytes. */
  mapFile(path: string): [id: number, bytes: number];
  /** A copy of part of a mapped file. */
  mapRead(id: number, offset: number, length: number): ArrayBuffer;
  /** A tensor on a mapped file (a copy where the offset is misaligned); the shape in scratch. */
  mapTensor(owner: object | null, id: number, byteOffset: number, dtype: number, rank: number): number;
  mapClose(id: number): void;
  /** The registered ops as JSON, in the order of their numbers. */
  describe(): string;
  info(): NativeInfo;
  /**
   * Opens the plugin with the GPU's kernels, once per process.
   *
   * @throws FOVEA_DEVICE or FOVEA_BINARY where there is no GPU
   */
  gpus(plugin: string): NativeGpu[];
  /** Opens a device for this thread; the ops that have kernels there. */
  openDevice(device: number): string[];
  /** The class from which native code makes its errors. */
  setErrorClass(errorClass: new (code: FoveaErrorCode, message: string) => Error): void;
}

const require = createRequire(import.meta.url);
const moduleRoot = dirname(dirname(fileURLToPath(import.meta.url)));
const platformPackage = `@fovea/${process.platform}-${process.arch}`;

type Bindings = (options: { bindings: string; module_root: string }) => unknown;

/** One sentence from an error of `require` or `bindings`, which list modules and paths on further lines. */
function firstLine(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return (text.split('\n', 1)[0] ?? text).replace(/\. Tried:$/, '');
}

/**
 * Throws what a binary itself refused while it loaded, such as a wrong FOVEA_ISA: it was found, so no other is tried.
 */
function rethrowOwn(error: unknown): void {
  if (error instanceof FoveaError) throw error;
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  if (Object.hasOwn(errorCodes, code)) throw new FoveaError(code as FoveaErrorCode, firstLine(error), { cause: error });
}

/** Refuses a binary of another version, whose ops need not be those that the TypeScript calls. */
function checkVersion(native: Native, place: string): Native {
  const { version } = require('../package.json') as { version: string };
  const found = native.info().version;
  if (found !== version) {
    throw new FoveaError(
      'FOVEA_BINARY',
      `load: ${place} is version ${found}, but the package is ${version}; install matching versions, or run \`npx fovea build\``,
    );
  }
  return native;
}

function loadNamed(path: string): Native {
  try {
    return require(path) as Native;
  } catch (error) {
    rethrowOwn(error);
    throw new FoveaError('FOVEA_BINARY', `load: FOVEA_BINARY is ${path}, which cannot be loaded: ${firstLine(error)}`, {
      cause: error,
    });
  }
}

function load(): Native {
  const named = process.env['FOVEA_BINARY'];
  if (named) return checkVersion(loadNamed(named), named);
  const bindings = require('bindings') as Bindings;
  const places: [name: string, open: () => unknown][] = [
    [platformPackage, () => require(platformPackage)],
    ['build/Release', () => bindings({ bindings: 'fovea.node', module_root: moduleRoot })],
  ];
  const problems: string[] = [];
  for (const [name, open] of places) {
    try {
      return checkVersion(open() as Native, name);
    } catch (error) {
      rethrowOwn(error);
      problems.push(`${name}: ${firstLine(error)}`);
    }
  }
  throw new FoveaError(
    'FOVEA_BINARY',
    `load: no native binary for ${process.platform}-${process.arch} could be loaded (${problems.join('; ')}); ` +
      `install ${platformPackage}, or run \`npx fovea build\` to compile it here`,
  );
}

/** Where the plugin with the CUDA kernels may be, the likeliest first. It is opened when a GPU is first asked for. */
export function gpuPluginPaths(): string[] {
  const named = process.env['FOVEA_CUDA_PLUGIN'];
  if (named) return [named];
  const paths: string[] = [];
  const binary = process.env['FOVEA_BINARY'];
  if (binary) paths.push(join(dirname(binary), 'fovea_cuda.so'));
  try {
    paths.push(require.resolve(`${platformPackage}-cuda/fovea_cuda.so`));
  } catch {
    // The package is optional: without it, the build from source may have the plugin.
  }
  return [...paths, join(moduleRoot, 'build/Release/fovea_cuda.so')];
}

/** The loaded binary. */
export const native: Native = load();
native.setErrorClass(FoveaError);

/** Shared with C++: shapes in, shapes and further handles out. */
export const scratch: Float64Array = native.scratch();
