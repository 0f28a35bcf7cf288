// Several threads of one process, each with a runtime of its own: right results at the same time, and tensors that pass
// from one to another.
import { once } from 'node:events';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { check, codeOf, full, native, run, Tensor, tensor } from './native.mjs';

const adopt = (token) => {
  const t = new Tensor();
  t.handle = native.adopt(t, token);
  return t;
};

async function compute() {
  const n = 192;
  const w = tensor(full(n * n, 1 / n), [n, n]);
  for (let i = 0; i < 40; i++) {
    let x = tensor(full(n * n, i), [n, n]);
    for (let j = 0; j < 5; j++) x = run('matmul', [x, w]);
    const data = await x.data();
    if (Math.abs(data[7] - i) > 1e-3) return false;
  }
  return true;
}

async function worker({ task, token, handle }) {
  if (task === 'compute') return compute();
  if (task === 'adopt') return adopt(token).dataSync().join();
  if (task === 'make') return native.share(tensor([5, 6, 7], [3]).handle);
  if (task === 'write') run('mul_', [adopt(token)], { scalar: 10 });
  if (task === 'foreign') return codeOf(() => native.readNow(handle));
  await native.synchronize();
  return true;
}

async function inWorker(data) {
  const child = new Worker(new URL(import.meta.url), { workerData: data });
  const [[answer]] = await Promise.all([once(child, 'message'), once(child, 'exit')]);
  return answer;
}

if (!isMainThread) {
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a port between threads has no origin
  parentPort.postMessage(await worker(workerData));
} else {
  const together = await Promise.all([
    compute(),
    ...['compute', 'compute', 'compute'].map((task) => inWorker({ task })),
  ]);
  check(
    'four threads compute at once',
    together.every((ok) => ok),
  );

  const before = native.memory().reservedBytes;
  const shared = tensor([1, 2, 3, 4], [2, 2]);
  const token = await native.share(shared.handle);
  shared.dispose();
  check('a worker adopts what the main thread shared', (await inWorker({ task: 'adopt', token })) === '1,2,3,4');
  check('as a Float64Array too', adopt(Float64Array.from(token)).dataSync().join() === '1,2,3,4');
  const mine = adopt(token);
  await inWorker({ task: 'write', token });
  check('the storage is shared, not copied', mine.dataSync().join() === '10,20,30,40' && mine.shape.join() === '2,2');
  native.releaseShared(token);
  native.releaseShared(token);
  check('a released token is refused', codeOf(() => adopt(token)) === 'FOVEA_DISPOSED');
  check('who adopted it still holds it', mine.dataSync()[3] === 40);

  const theirs = await inWorker({ task: 'make' });
  check('a shared tensor survives the thread that shared it', adopt(theirs).dataSync().join() === '5,6,7');
  const forged = [...theirs];
  forged[2] = (forged[2] + 1) % 2 ** 32;
  check('a forged token is refused', codeOf(() => adopt(forged)) === 'FOVEA_DISPOSED');
  native.releaseShared(theirs);
  check(
    'a handle means nothing in another thread',
    (await inWorker({ task: 'foreign', handle: mine.handle })) === 'FOVEA_DISPOSED',
  );
  mine.dispose();
  await native.synchronize();
  const nonsense = [null, undefined, 5, 'x', [], [1, 2], {}, [1, 2, Number.NaN], [-1, 0, 0], new Uint8Array(2)];
  check(
    'what is no token is refused',
    nonsense.every((value) => codeOf(() => adopt(value)) === 'FOVEA_ARGUMENT'),
    nonsense.map((value) => codeOf(() => adopt(value))).join(),
  );
  globalThis.gc?.();
  native.sweep();
  native.trim();
  const left = native.memory().reservedBytes - before;
  check('memory comes back', left <= 64 << 20, `${left} bytes more`);
}
