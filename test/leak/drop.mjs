// Tensors made and dropped in plain synchronous loops, where no finalizer ever runs: memory stays bounded all the same.
//   node drop.mjs <tensors of 1 MB>
import { add, check, full, native, tensor } from '../native-runtime/native.mjs';

const count = Number(process.argv[2] ?? 10000);
const source = full(262144, 1);
let peakRss = 0;
const watch = (i) => {
  if (i % 64 === 0) peakRss = Math.max(peakRss, process.memoryUsage.rss());
};

for (let i = 0; i < count; i++) {
  tensor(source, [262144]);
  watch(i);
}
check('uploads of 1 MB, dropped', peakRss < 1e9, `${count}, peak ${(peakRss / 1e6).toFixed(0)} MB`);

let x = tensor(source, [262144]);
for (let i = 0; i < count; i++) {
  x = add(x, x);
  watch(i);
}
x.dataSync();
check('results of 1 MB, dropped', peakRss < 1e9, `${count}, peak ${(peakRss / 1e6).toFixed(0)} MB`);

const one = tensor([1], [1]);
for (let i = 0; i < count * 10; i++) {
  add(one, one);
  watch(i);
}
check(
  'tiny results, dropped',
  peakRss < 1e9 && native.memory().liveTensors < 100000,
  `${count * 10}, ${native.memory().liveTensors} live`,
);
