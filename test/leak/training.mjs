// What a service that trains and serves relies on, through the public API: an event loop that stays free while kernels
// run, steps that touch no fresh memory once warm, and models and tensors that leave nothing behind.
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { manualSeed, optim, randint, randn, synchronize, tensor, tidy } from 'fovea';
import { GPT2LMHeadModel } from 'fovea/models';
import { check } from '../native-runtime/native.mjs';

const small = { vocabSize: 256, nPositions: 128, nEmbd: 128, nLayer: 2, nHead: 4 };
const mb = (bytes) => `${(bytes / 2 ** 20).toFixed(1)} MB`;

/** The 99th percentile, in milliseconds, of how late the event loop was while `work` ran. */
async function delayDuring(work) {
  const resolution = 1;
  const delay = monitorEventLoopDelay({ resolution });
  delay.enable();
  await work();
  delay.disable();
  return delay.percentile(99) / 1e6 - resolution;
}

async function matmulChain() {
  const a = randn([4096, 4096]).mul(1 / 64);
  let x = a;
  for (let i = 0; i < 4; i++) x = x.matmul(a);
  await x.data();
}

function trainer() {
  const model = new GPT2LMHeadModel(small);
  const optimizer = new optim.AdamW(model.parameters(), { lr: 1e-4 });
  return async () => {
    const loss = tidy(() => {
      const inputIds = randint(0, small.vocabSize, [4, 64]);
      const made = model.forward({ inputIds, labels: inputIds }).loss;
      made.backward();
      optimizer.step();
      optimizer.zeroGrad();
      return made.detach();
    });
    await loss.item();
    loss.dispose();
  };
}

async function times(count, step) {
  for (let i = 0; i < count; i++) await step();
}

manualSeed(0);
const step = trainer();
await times(400, step); // so long does V8 grow its heap
// V8 still compiles some functions anew, for which it takes memory; what steps take themselves, all of them take.
let each = Number.POSITIVE_INFINITY;
for (let window = 0; window < 8; window++) {
  const before = process.resourceUsage().minorPageFault;
  await times(25, step);
  each = Math.min(each, (process.resourceUsage().minorPageFault - before) / 25);
}
check('a warm training step touches no fresh memory', each < 4, `${each.toFixed(1)} page faults`);

// What the machine itself adds while nothing of ours runs counts for nobody.
const idle = await delayDuring(() => new Promise((resolve) => setTimeout(resolve, 1000)));
const allowed = 5 + idle;
const training = await delayDuring(() => times(100, step));
check(
  'training leaves the event loop free',
  training <= allowed,
  `p99 ${training.toFixed(2)} ms, idle ${idle.toFixed(2)} ms`,
);
const multiplying = await delayDuring(matmulChain);
check('a chain of 4096^3 products leaves it free', multiplying <= allowed, `p99 ${multiplying.toFixed(2)} ms`);

async function models(count) {
  for (let i = 0; i < count; i++) {
    new GPT2LMHeadModel(small).forward({ inputIds: randint(0, small.vocabSize, [1, 16]) });
    if (i % 10 === 0) await synchronize();
  }
  await synchronize();
}
await models(100);
const warm = process.memoryUsage().rss;
await models(200);
const growth = process.memoryUsage().rss - warm;
check('200 models made and dropped leave nothing behind', growth < 64 * 2 ** 20, mb(growth));

const source = new Float32Array(2 ** 18);
for (let i = 0; i < 100_000; i++) tensor(source);
const peak = process.resourceUsage().maxRSS * 1024;
check('100,000 tensors of 1 MB in a plain loop stay below 1 GB', peak < 1e9, mb(peak));
