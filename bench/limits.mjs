// The machine's limits, measured through fovea's own threads and instruction set: what no kernel can exceed.
import { info, synchronize, tidy, zeros } from 'fovea';
import { kernels } from '../dist/ops/kernels.gen.js';

const MEGABYTE = 2 ** 20 / 4; // in float32
const REPEATS = 9;

/** The median time of `run`, in seconds: machines are noisy, so limits are medians as the figures beside them are. */
async function median(run) {
  const times = [];
  for (let i = 0; i < REPEATS; i++) {
    const start = performance.now();
    tidy(() => {
      run();
    });
    await synchronize();
    times.push((performance.now() - start) / 1000);
  }
  return times.sort((a, b) => a - b)[REPEATS >> 1];
}

/**
 * One function per limit; each measures it anew. `fma`: float32 multiply-add in FLOP/s. `int8`: products of bytes summed
 * in 32 bits, multiplications and additions per second. `copy`: copying 64 MB, past the
 * caches, read and written bytes per second. `read`: reading 256 MB, bytes per second.
 */
export async function limitProbes() {
  const { threads } = info();
  const one = zeros([]);
  const source = zeros([64 * MEGABYTE]);
  const large = zeros([256 * MEGABYTE]);
  const flops = await kernels.fmaProbeFlops({ x: one }, {}).y.item();
  const int8Flops = await kernels.int8ProbeFlops({ x: one }, {}).y.item();
  const chunks = 4 * threads;
  const rounds = 5000;
  return {
    fma: async () => (flops * rounds * chunks) / (await median(() => kernels.fmaProbe({ x: one }, { rounds, chunks }))),
    int8: async () =>
      (int8Flops * rounds * chunks) / (await median(() => kernels.int8Probe({ x: one }, { rounds, chunks }))),
    copy: async () => (2 * source.size * 4) / (await median(() => kernels.copyProbe({ x: source }, {}))),
    read: async () => (large.size * 4) / (await median(() => kernels.readProbe({ x: large }, { chunks: 8 * threads }))),
  };
}
