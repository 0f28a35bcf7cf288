// Ends in the way that its argument names, with work queued and (unless it is `unread`) a read too.
import { full, native, run, tensor } from './native.mjs';

const n = 512;
const w = tensor(full(n * n, 1 / n), [n, n]);
let x = w;
for (let i = 0; i < 100; i++) x = run('matmul', [x, w]);
const recording = native.recordBegin(null, new Int32Array());
x = run('matmul', [run('matmul', [x, w]), w]);
const none = new Float64Array();
native.recordEnd(none);
for (let i = 0; i < 50; i++) native.replay(recording, new Int32Array(), none, none);
const how = process.argv[2];
const pending = how === 'unread' ? undefined : x.data();
const ends = {
  exit: () => process.exit(7),
  throw: () => {
    throw new Error('uncaught');
  },
  term: () => process.kill(process.pid, 'SIGTERM'),
  reject: () => void Promise.reject(new Error('unhandled')),
};
if (how === 'natural') {
  const data = await pending; // keeps the process alive, although nothing else does
  process.exitCode = Math.abs(data[0] - 1 / n) < 1e-6 ? 7 : 1;
} else if (how === 'unread') {
  // Nobody waits: the process may end with the queue full.
  process.exitCode = 7;
} else {
  setTimeout(() => ends[how](), Math.random() * 20);
}
