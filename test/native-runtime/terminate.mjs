// worker.terminate() at random moments, with ops and reads queued, while the main thread computes too.
//   node terminate.mjs <rounds>
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { check, full, native, run, tensor } from './native.mjs';

const rounds = Number(process.argv[2] ?? 100);
const w = tensor(full(64 * 64, 1 / 64), [64, 64]);
let wrong = 0;
let before = 0;
for (let i = 0; i < rounds; i++) {
  if (i === 10) before = process.memoryUsage().rss; // the first rounds warm up the pools of Node and of the allocator
  const worker = new Worker(new URL('./terminate-worker.mjs', import.meta.url), { workerData: { mode: i % 6 } });
  worker.on('error', (error) => {
    wrong++;
    console.log(error);
  });
  if (i % 6) await Promise.race([once(worker, 'message'), once(worker, 'exit')]);
  await sleep(Math.random() * 25);
  await worker.terminate();
  const product = run('matmul', [w, w]);
  const data = await product.data();
  if (Math.abs(data[0] - 1 / 64) > 1e-6) wrong++;
}
check('the main thread keeps computing', wrong === 0, `${wrong} wrong`);
await native.synchronize();
native.trim();
const grown = (process.memoryUsage().rss - before) / 1e6;
check(
  'memory of ended workers is given back',
  rounds < 20 || grown < 400,
  `${grown.toFixed(0)} MB in ${rounds} rounds`,
);
