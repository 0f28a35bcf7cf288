// Faults on purpose, which a sanitizer run must report before its silence counts for anything.
//   node planted.mjs address: a kernel writes one byte past its output
//   FOVEA_PLANT_RACE=1 node planted.mjs thread: an upload takes a block that the stream still reads
import { busy, full, native, tensor } from './native.mjs';

if (process.argv[2] === 'address') {
  busy(tensor([1, 2, 3, 4], [4]), 0, true).dataSync();
} else {
  for (let i = 0; i < 200; i++) {
    const a = tensor(full(1000, i), [1000]);
    const b = busy(a, 1);
    a.dispose();
    const c = tensor(full(1000, -1), [1000]);
    b.dispose();
    c.dispose();
  }
  native.synchronizeNow();
}
