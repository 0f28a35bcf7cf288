/** Devices: their names and numbers, and how one that is no CPU is found and opened. */
import { existsSync } from 'node:fs';
import { gpuPluginPaths, native, type NativeGpu } from '../addon.js';
import { FoveaError } from '../errors.js';
import { argumentError } from './check.js';

/** Where values lie: 'cpu', or a GPU by its number; 'cuda' is 'cuda:0'. */
export type Device = 'cpu' | 'cuda' | `cuda:${number}`;

/** A device, and why it cannot be used if it cannot. */
export interface DeviceInfo {
  /** As tensors and options name it. */
  name: string;
  /** Whether tensors can be made there. */
  available: boolean;
  /** Why not. */
  reason?: string;
  /** What the device is, of a GPU. */
  description?: string;
  /** Of a GPU, for example 9. */
  computeCapability?: number;
  /** Of a GPU, in bytes. */
  memory?: number;
}

/** Number of the CPU; n is GPU n - 1. */
export const CPU = 0;

/** The kernels of each opened GPU, by its number; empty while only the CPU is in use, which is then cheap to see. */
const opened: ReadonlySet<string>[] = [];
/** Whether a tensor may be anywhere but on the CPU. */
export function gpusInUse(): boolean {
  return opened.length > 0;
}
/** The numbers of the devices in use. */
export function devicesInUse(): number[] {
  return [CPU, ...opened.keys()].filter((device) => device === CPU || opened[device] !== undefined);
}

/** The name of a device's number. @returns 'cpu' or 'cuda:0', … */
export function deviceName(device: number): 'cpu' | `cuda:${number}` {
  return device === CPU ? 'cpu' : `cuda:${device - 1}`;
}

/** Whether the device has a kernel of that name. @param device its number, of a device in use */
export function hasKernel(device: number, kernel: string): boolean {
  return device === CPU || opened[device]?.has(kernel) === true;
}

/** The GPUs that the plugin sees. @throws FOVEA_DEVICE or FOVEA_BINARY, which say why there are none */
function gpus(): NativeGpu[] {
  const paths = gpuPluginPaths();
  const path = paths.find((candidate) => existsSync(candidate));
  if (path === undefined)
    throw new FoveaError(
      'FOVEA_DEVICE',
      `cuda: this install has no CUDA kernels; install @fovea/${process.platform}-${process.arch}-cuda, or build them ` +
        'with nvcc on the path (`npx fovea build`)',
    );
  return native.gpus(path);
}

/** The devices of this machine, and why those that cannot be used cannot. @returns one entry for each device */
export function devices(): DeviceInfo[] {
  const cpu = { name: 'cpu', available: true };
  try {
    const found = gpus().map((gpu, i) => ({
      name: `cuda:${i}`,
      available: true,
      description: gpu.name,
      computeCapability: gpu.capability / 10,
      memory: gpu.memory,
    }));
    return [cpu, ...found];
  } catch (error) {
    if (!(error instanceof FoveaError)) throw error;
    return [cpu, { name: 'cuda', available: false, reason: error.message.replace(/^cuda: /, '') }];
  }
}

/** Whether a string is meant as a device: 'cpu', or one of those that `devices()` names, with or without a number. */
export function isDeviceName(value: unknown): value is Device {
  return typeof value === 'string' && /^(cpu|cuda(:\d+)?)$/.test(value);
}

/**
 * The number of a device, which is opened where it is not yet.
 *
 * @param device a name; the CPU where left out
 * @throws FOVEA_DEVICE for a device that is not there, FOVEA_ARGUMENT for what is no name
 */
export function deviceArg(op: string, device: unknown): number {
  if (device === undefined || device === 'cpu') return CPU;
  if (!isDeviceName(device)) throw argumentError(op, 'device', "a device name such as 'cpu' or 'cuda:0'", device);
  const number = device === 'cuda' ? 1 : Number(device.slice('cuda:'.length)) + 1;
  if (opened[number] === undefined) open(op, device, number);
  return number;
}

function open(op: string, device: string, number: number): void {
  try {
    const count = gpus().length;
    if (number > count)
      throw new FoveaError('FOVEA_DEVICE', `there are only ${count} GPUs here, and the first is cuda:0; see devices()`);
    opened[number] = new Set(native.openDevice(number));
  } catch (error) {
    if (!(error instanceof FoveaError)) throw error;
    throw new FoveaError(
      error.code,
      `${op}: device ${JSON.stringify(device)} is not available: ${error.message.replace(/^cuda: /, '')}`,
      { cause: error },
    );
  }
}
