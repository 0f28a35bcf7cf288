// The machine's limits, measured through fovea's own threads: what no kernel can exceed in this run.
import { kernels } from '../dist/ops/kernels.gen.js';
import { info, synchronize, tidy, zeros } from 'fovea';

/** Best of `repeats` timings of `run`, in seconds. The best, since a limit is what the machine can do undisturbed. */
async function best(run, repeats) {
  let least = Number.POSITIVE_INFINITY;
  for (let i = 0; i < repeats; i++) {
    const start = performance.now();
    tidy(() => {
      run();
    });
    await synchronize();
    least = Math.min(least, (performance.now() - start) / 1000);
  }
  return least;
}

/** `{ fma, copy, read }`: float32 multiply-add in FLOP/s; copying 64 MB (read + written) and reading 256 MB in bytes/s. */
export async function measureLimits() {
  const { threads } = info();
  const one = zeros([]);
  const flops = (await kernels.fmaProbeFlops({ x: one }, {}).y.item()) * 1;
  const chunks = 4 * threads;
  const rounds = 20_000;
  const fma = (flops * rounds * chunks) / (await best(() => kernels.fmaProbe({ x: one }, { rounds, chunks }), 15));

  const megabytes = 2 ** 20 / 4;
  const source = zeros([64 * megabytes]);
  const copy = (2 * source.size * 4) / (await best(() => kernels.copyProbe({ x: source }, {}), 15));
  const large = zeros([256 * megabytes]);
  const read = (large.size * 4) / (await best(() => kernels.readProbe({ x: large }, { chunks: 8 * threads }), 9));
  for (const t of [one, source, large]) t.dispose();
  return { fma, copy, read };
}
