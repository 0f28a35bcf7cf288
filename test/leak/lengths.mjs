// Every length once, as prompts come: what the allocator reserves stays near the peak of what is live, and uploads run
// at most 128 MB ahead of the stream.
import { add, check, native, run, tensor } from '../native-runtime/native.mjs';

const width = 256;
const w = tensor(new Float32Array(width * width), [width, width]);
native.resetPeak();
for (let n = 16; n <= 4096; n += 16) {
  const x = tensor(new Float32Array(n * width), [n, width]);
  const product = run('matmul', [x, w]);
  const y = run('gelu', [product]);
  const z = add(x, y);
  for (const t of [x, product, y, z]) t.dispose();
}
native.synchronizeNow();
const { peakBytes, reservedBytes } = native.memory();
check(
  'reserved memory stays near the peak',
  reservedBytes < 2 * peakBytes + (160 << 20),
  `${peakBytes >> 20} MB at the peak, ${reservedBytes >> 20} MB reserved`,
);
