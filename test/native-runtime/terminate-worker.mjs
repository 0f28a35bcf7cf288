// Keeps its stream busy in one of six ways until it is terminated.
import { setImmediate } from 'node:timers/promises';
import { parentPort, workerData } from 'node:worker_threads';
import { add, busy, full, native, run, tensor } from './native.mjs';

const big = tensor(full(256 * 256, 1 / 256), [256, 256]);
// oxlint-disable-next-line unicorn/require-post-message-target-origin -- a port between threads has no origin
parentPort?.postMessage('ready');
const chain = () => {
  let x = big;
  for (let i = 0; i < 30; i++) x = Math.random() < 0.3 ? run('matmul', [x, big]) : run('gelu', [add(x, big)]);
  return x;
};
const modes = [
  async () => void (await chain().data()),
  async () => void chain().dataSync(),
  async () => {
    const x = chain();
    void x.data();
    void x.data();
    await setImmediate();
  },
  async () => void (await Promise.all(Array.from({ length: 20 }, () => busy(tensor([1], [1]), 3).data()))),
  async () => {
    // The cold functions too, which make objects: each may be the call that finds the thread going away.
    const x = chain();
    for (let i = 0; i < 50; i++) native.memory();
    native.info();
    JSON.parse(native.describe());
    native.releaseShared(await native.share(x.handle));
    native.sweep();
  },
  async () => {
    const none = new Float64Array();
    const recording = native.recordBegin({}, Int32Array.of(big.handle));
    const x = chain();
    native.recordEnd(none);
    for (let i = 0; i < 10; i++) native.replay(recording, Int32Array.of(big.handle), none, none);
    await x.data();
    if (Math.random() < 0.5) native.recordFree(recording);
  },
];
for (;;) await modes[workerData?.mode ?? 0]();
