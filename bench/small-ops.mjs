/**
 * What an op costs in JavaScript: `add` on 16 floats from call to return, that is checks, allocation and enqueueing, not
 * the addition itself. Prints microseconds per call, the median over batches, plain and recorded for backward, and of a
 * whole step of add and backward.
 *
 *   node bench/small-ops.mjs [--batches 200] [--calls 2000]
 */
import { parseArgs } from 'node:util';
import { add, backward, ones, sum, tensor, tidy } from 'fovea';

const { values } = parseArgs({
  options: { batches: { type: 'string', default: '200' }, calls: { type: 'string', default: '2000' } },
});
const batches = Number(values.batches);
const calls = Number(values.calls);

/** Microseconds per call; each batch starts with an empty queue, so that back-pressure is not measured. */
function measure(call, n = calls) {
  const times = [];
  for (let batch = 0; batch < batches; batch++) {
    const last = tidy(() => {
      const start = performance.now();
      for (let i = 0; i < n; i++) call();
      times.push(((performance.now() - start) * 1000) / n);
      return tensor([0]);
    });
    last.dataSync();
    last.dispose();
  }
  return times.sort((a, b) => a - b);
}

const a = ones([16]);
const b = ones([16]);
const w = ones([16], { requiresGrad: true });
const cases = {
  add: () => add(a, b),
  'add, freed at once': () => add(a, b).dispose(),
  'add a number': () => add(a, 1),
  'add, recorded': () => add(w, b),
  'add, sum, backward': () => backward(sum(add(w, b))),
};
for (const [name, call] of Object.entries(cases)) {
  const n = name.includes('backward') ? Math.ceil(calls / 10) : calls;
  const times = measure(call, n);
  const at = (q) => times[Math.floor(q * (times.length - 1))].toFixed(3);
  console.log(`${name.padEnd(20)} median ${at(0.5)} us   best ${at(0)} us   p90 ${at(0.9)} us`);
}
