// The machine's limits, measured through fovea's own threads and instruction set: what no kernel can exceed.
import { info, synchronize, tidy, zeros } from 'fovea';
import { kernels } from '../dist/ops/kernels.gen.js';
import { median } from './timing.mjs';

const MEGABYTE = 2 ** 20 / 4; // in float32

/**
 * One function per limit; each measures it anew. `fma`: float32 multiply-add in FLOP/s; `bf16`, `int8`: products of
 * those types, where the processor has instructions of their own for them. `copy`: copying 64 MB, past the caches, read
 * and written bytes per second. `read`: reading 256 MB, bytes per second, in the way that is the fastest here.
 */
export async function limitProbes({ tiny = false } = {}) {
  const { threads } = info();
  const one = zeros([]);
  const source = zeros([(tiny ? 1 : 64) * MEGABYTE]);
  const large = zeros([(tiny ? 1 : 256) * MEGABYTE]);
  const chunks = 4 * threads;
  const rounds = tiny ? 5 : 5000;

  /** The median time of `run`, in seconds: machines are noisy, so limits are medians as the figures beside them are. */
  const seconds = async (run) => {
    const times = [];
    for (let i = 0; i < (tiny ? 1 : 9); i++) {
      const start = performance.now();
      tidy(() => void run());
      await synchronize();
      times.push((performance.now() - start) / 1000);
    }
    return median(times);
  };
  const arithmetic = async (probe) => {
    const flops = await kernels[`${probe}Flops`]({ x: one }, {}).y.item();
    return async () =>
      (flops * rounds * chunks) / (await seconds(() => kernels[probe]({ x: one }, { rounds, chunks })));
  };

  const probes = {
    fma: await arithmetic('fmaProbe'),
    copy: async () => (2 * source.size * 4) / (await seconds(() => kernels.copyProbe({ x: source }, {}))),
    read: async () => {
      const times = [];
      for (const streams of [1, 2, 4, 8])
        for (const ahead of [false, true])
          times.push(await seconds(() => kernels.readProbe({ x: large }, { chunks: 8 * threads, streams, ahead })));
      return (large.size * 4) / Math.min(...times);
    },
  };
  for (const name of ['bf16', 'int8']) {
    if (!kernels[`${name}Probe`]) continue;
    // An instruction set without such instructions says 0.
    if ((await kernels[`${name}ProbeFlops`]({ x: one }, {}).y.item()) > 0)
      probes[name] = await arithmetic(`${name}Probe`);
  }
  return probes;
}

/** The limit that holds for a case: without instructions for bfloat16, products of it are those of float32. */
export function limitOf({ limit }, probes) {
  return limit === undefined || limit in probes ? limit : 'fma';
}
