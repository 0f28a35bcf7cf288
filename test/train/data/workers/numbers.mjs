// The dataset of workers.test.ts in a worker: what item 13 does is said by workerData.
import { setTimeout as sleep } from 'node:timers/promises';

const behaviours = {
  throw: () => {
    throw new RangeError('unlucky');
  },
  exit: () => process.exit(3),
  crash: () =>
    new Promise(() => {
      setImmediate(() => {
        throw new Error('out of the blue');
      });
    }),
  function: () => () => 1,
  hang: () => new Promise(() => undefined),
  spin: () => {
    for (;;);
  },
};

export default ({ worker, workers, data }) => ({
  length: data.length ?? 40,
  async get(index) {
    // Items come in another order than they were asked for in.
    if (data.delays) await sleep((index * 7) % 5);
    if (data.busy) for (const end = performance.now() + data.busy; performance.now() < end; );
    if (index === 13 && data.thirteen) return behaviours[data.thirteen]();
    return data.who ? { index, worker, workers } : index;
  },
});
