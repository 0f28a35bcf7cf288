/** Memory, devices, and waiting for the stream. */
import { native, type NativeInfo } from '../addon.js';
import { argumentError } from './check.js';
import { CPU, deviceName, devicesInUse } from './device.js';
import { dtypeNames, type Dtype } from './dtype.js';
import { slotOf, Tensor } from './tensor.js';
import { Slot } from './slot.js';

/** Memory of one device, in bytes. */
export interface DeviceMemory {
  /** In tensors that are alive. */
  live: number;
  /** Held by the allocator for reuse. */
  cached: number;
  /** The most that was live at once since the start or `resetPeakMemory()`. */
  peak: number;
  /** Of mapped files, which the system may drop and read again. */
  mapped: number;
  /** The cap; see `setMemoryLimit`. */
  limit: number;
}
/** What `memory()` reports. */
export interface MemoryReport extends DeviceMemory {
  /** Native handles in use, a count. */
  tensors: number;
  /** The same for each device in use, by its name. */
  devices: { cpu: DeviceMemory; [name: `cuda:${number}`]: DeviceMemory };
}

function memoryOf(device: number): DeviceMemory {
  const m = native.memory(device);
  return {
    live: m.liveBytes,
    cached: m.reservedBytes - m.liveBytes,
    peak: m.peakBytes,
    mapped: m.mappedBytes,
    limit: m.limitBytes,
  };
}

/**
 * How much memory tensors take; of the CPU, and of every device in use. Dropped tensors count until the garbage
 * collector has noticed; see `tidy`.
 *
 * @returns bytes, and a count of tensors
 */
export function memory(): MemoryReport {
  const cpu = memoryOf(CPU);
  const gpus = devicesInUse().filter((device) => device !== CPU);
  return {
    ...cpu,
    tensors: native.memory(CPU).liveTensors,
    devices: { cpu, ...Object.fromEntries(gpus.map((device) => [deviceName(device), memoryOf(device)])) },
  };
}

/** Starts `memory().peak` anew. */
export function resetPeakMemory(): void {
  native.resetPeak();
}

/** Gives memory that is cached for reuse back to the system. */
export function emptyCache(): void {
  native.trim();
}

/**
 * Caps the memory of the process's tensors. Where an op would exceed it, garbage is collected and caches are emptied
 * first; then it throws FOVEA_OUT_OF_MEMORY.
 *
 * @param bytes a positive number
 * @throws FOVEA_ARGUMENT for anything else
 */
export function setMemoryLimit(bytes: number): void {
  if (typeof bytes !== 'number' || !(bytes > 0))
    throw argumentError('setMemoryLimit', 'bytes', 'a positive number', bytes);
  native.setLimit(bytes);
}

/** Resolves when everything queued so far has run on every device, also if an op of it failed: reads report that. */
export async function synchronize(): Promise<void> {
  await Promise.all(devicesInUse().map((device) => native.synchronize(device)));
}
/** Blocks until everything queued so far has run on every device. */
export function synchronizeSync(): void {
  for (const device of devicesInUse()) native.synchronizeNow(device);
}

/** What the native half is and runs on. @returns its version, instruction set, threads and limits */
export function info(): NativeInfo {
  return native.info();
}

/** A tensor on its way to another thread of the process: structured-cloneable, for one or more `adopt` calls. */
export interface SharedTensor {
  /** Names the storage within the process. */
  readonly token: readonly number[];
  /** Of the tensor that was shared. */
  readonly dtype: Dtype;
  /** Of the tensor that was shared. */
  readonly shape: readonly number[];
}

/**
 * Copies `x` to storage of the whole process.
 *
 * @returns what `adopt` takes in any of its threads, until `releaseShared`
 * @throws rejects with FOVEA_DISPOSED for a disposed tensor, or with the error of the op that failed, if one did
 */
export async function share(x: Tensor): Promise<SharedTensor> {
  const slot = slotOf(x, 'share', 'x');
  const { dtype, shape } = slot;
  return { token: await native.share(slot.id), dtype: dtypeNames[dtype]!, shape: [...shape] };
}

declare module './tensor.js' {
  interface Tensor {
    /** Copies this to storage of the whole process; resolves to what `adopt` takes in any of its threads. */
    share(): Promise<SharedTensor>;
  }
}
Tensor.prototype.share = function (this: Tensor): Promise<SharedTensor> {
  return share(this);
};

/**
 * The tensor that `share` sent, on the same storage. Writes in place are seen by all who adopted it.
 *
 * @returns a tensor of the shape and dtype that were shared, outside of any graph
 * @throws FOVEA_ARGUMENT for what `share` did not give, FOVEA_DISPOSED after `releaseShared` or in another process
 */
export function adopt(shared: SharedTensor): Tensor {
  const code = dtypeNames.indexOf(shared?.dtype);
  if (code < 0 || !Array.isArray(shared.token))
    throw argumentError('adopt', 'shared', 'what share() resolved to', shared);
  const slot = new Slot(code);
  slot.id = native.adopt(slot, shared.token as number[]);
  slot.sharedVersion().leftThread = true;
  return new Tensor(slot);
}

/**
 * Lets go of the process-wide copy; tensors that were adopted keep it alive. Twice is fine.
 *
 * @throws FOVEA_ARGUMENT for what `share` did not give
 */
export function releaseShared(shared: SharedTensor): void {
  if (!Array.isArray(shared?.token)) throw argumentError('releaseShared', 'shared', 'what share() resolved to', shared);
  native.releaseShared(shared.token as number[]);
}
