/** What no kernel can exceed on this machine, measured through the threads and the instructions that kernels use. */
import { native } from '../addon.js';
import { zeros } from '../ops/index.js';
import { kernels } from '../ops/kernels.gen.js';
import { countArg, optionsArg } from '../tensor/check.js';
import { synchronize } from '../tensor/memory.js';
import type { Tensor } from '../tensor/tensor.js';
import { apart } from './apart.js';

/** Rates that bound what ops can reach. */
export interface MachineLimits {
  /** Multiplications and additions per second, by the type that is multiplied. */
  readonly flops?: {
    readonly float32?: number;
    readonly float64?: number;
    readonly bfloat16?: number;
    readonly float16?: number;
    /** Of quantised weights, whose products are of integers. */
    readonly quantized?: number;
  };
  /** Bytes per second, read and written together. */
  readonly bytes?: number;
}

const runs = 5;

/** The shortest time of an op, in seconds: what else the machine does makes it longer. */
async function seconds(run: () => Tensor): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i < runs; i++) {
    const start = performance.now();
    const result = apart(run);
    await synchronize();
    times.push((performance.now() - start) / 1000);
    result.dispose();
  }
  return Math.min(...times);
}

/**
 * Measures the limits of the CPU, in about half a second in which nothing else should run: multiply-adds in registers,
 * and copying from memory to memory past the caches, in which case ops on tensors that the caches hold may exceed it.
 *
 * @param options.megabytes how much is copied (default 64); more than the caches hold
 * @returns limits for the option `limits` of `profile`: `{ cpu: await machineLimits() }`
 * @throws rejects with FOVEA_ARGUMENT for less than a megabyte
 */
export async function machineLimits(options: { megabytes?: number } = {}): Promise<Required<MachineLimits>> {
  const { megabytes = 64 } = optionsArg('machineLimits', options, ['megabytes']);
  countArg('machineLimits', 'megabytes', megabytes, 1);
  const chunks = 4 * native.info().threads;
  const rounds = 2000;
  using one = zeros([]);
  using source = zeros([(megabytes * 2 ** 20) / 4]);
  const x = one;
  const rate = async (flops: Tensor, run: () => Tensor): Promise<number> => {
    using each = flops;
    return ((await each.item()) * rounds * chunks) / (await seconds(run));
  };
  const float32 = await rate(kernels.fmaProbeFlops({ x }, {}).y, () => kernels.fmaProbe({ x }, { rounds, chunks }).y);
  const bfloat16 = await rate(
    kernels.bf16ProbeFlops({ x }, {}).y,
    () => kernels.bf16Probe({ x }, { rounds, chunks }).y,
  );
  const quantized = await rate(
    kernels.int8ProbeFlops({ x }, {}).y,
    () => kernels.int8Probe({ x }, { rounds, chunks }).y,
  );
  const bytes = (2 * source.size * 4) / (await seconds(() => kernels.copyProbe({ x: source }, {}).y));
  // float16 is computed in float32, float64 in vectors of half as many.
  return { flops: { float32, float64: float32 / 2, bfloat16, float16: float32, quantized }, bytes };
}
